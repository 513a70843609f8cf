"""`python -m invlib`, or `invlib` where it is installed: a file for each command, its flags beside its function."""

from invlib.cli.main import main

__all__ = ["main"]
