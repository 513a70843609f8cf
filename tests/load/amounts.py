"""How much of everything these tests do: a little in the suite, and what `make load` does."""

from __future__ import annotations

import os
from typing import Any

import pytest

SHORT_AND_LONG = {"pictures": (1000, 5000), "runs": (150, 2000), "addresses": (6, 500)}
SEED = int(os.environ.get("LOAD_SEED", 0))  # of everything that is drawn
JOBS, VISITORS, MINUTES = 300, 20, 3.0


def amounts(what: str) -> Any:
    """Run a test with the small amount in the suite and with the large one by `make load`, as its argument `count`."""
    short, long = SHORT_AND_LONG[what]
    return pytest.mark.parametrize("count", [short, pytest.param(long, marks=pytest.mark.load)])


def report(sentence: str) -> None:
    """Print a figure that was measured, which `make load` shows."""
    print(f"\n{sentence}")
