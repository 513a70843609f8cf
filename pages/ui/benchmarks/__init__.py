"""The page of experiments: committed rows in plots and tables, and a row measured here."""
