"""The papers' tables and figures, each a function from data to rows."""
