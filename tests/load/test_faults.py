"""What the fuzz has found, one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from invlib import runs
from pages.ui import saved, stage


@pytest.mark.parametrize(
    ("key", "changed", "sentence"),
    [
        ("super-resolution", {"samples": 0}, "samples must be a whole number from 1"),
        ("super-resolution", {"samples": 10**400}, "whole number"),
        ("super-resolution", {"picture": "x" * 5000}, "at most 500 characters"),
        ("structured-noise compressive-sensing", {"image_shape": 0.9}, "image_shape"),
        ("sampling", {"settings": {"h0": -0.02}}, "h0 must be a positive number"),
    ],
)
def test_a_run_is_refused_before_it_starts(key: str, changed: dict[str, Any], sentence: str) -> None:
    run = json.loads((saved.folder_of(key) / "run.json").read_text()) | saved.problem(key).parameters
    changed = {name: run[name] | value if isinstance(value, dict) else value for name, value in changed.items()}
    with pytest.raises(ValueError, match=sentence):
        stage.seconds_of(*runs.read(run | changed))
