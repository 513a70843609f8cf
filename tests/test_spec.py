"""Knobs: flags, kinds, ranges, and JSON and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from invlib.problems.linear import TASKS
from invlib.problems.spec import DRAWING, KERNEL, MASK, Knob, decode, kernel_levels, knobs_of
from invlib.solvers.methods import METHODS
from invlib.solvers.schedules import Ascent, Schedule


def knob(kind: Any, **details: Any) -> Knob:
    return Knob("size", kind, "How large it is.", **details)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 3),
        (float, 0.5),
        (float, 2),
        (bool, True),
        (str, "fine"),
        ((float, float), (7.5, -30.0)),
        ((int, int, int, int), (1, 2, 3, 4)),
    ],
)
def test_values_survive_json(kind: Any, value: Any) -> None:
    written = json.loads(json.dumps(knob(kind).encode(value)))
    assert knob(kind).decode(written) == value


def test_pictures_survive_json() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(9, 7, generator=generator) > 0.5
    assert torch.equal(knob(MASK).decode(knob(MASK).encode(mask)), mask)
    kernel = torch.rand(3, 5, generator=generator)
    read = knob(KERNEL).decode(knob(KERNEL).encode(kernel))
    assert torch.equal(kernel_levels(read), kernel_levels(kernel))
    drawing = torch.rand(4, 6, 8, generator=generator).mul(255).round() / 255
    torch.testing.assert_close(knob(DRAWING).decode(knob(DRAWING).encode(drawing)), drawing)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (int, 4.0, '"size" must be a whole number, got 4.0'),
        (int, True, "a whole number"),
        (float, "1", "a number"),
        (float, 10**400, "a number"),
        (bool, 1, "a boolean"),
        ((float, float), [1], "a list of 2 numbers"),
        ((int, int, int, int), [1, 2, 3, 4.5], "a list of 4 whole numbers"),
        (MASK, 3, "a string"),
        (MASK, "mask.png", '"size": .* not the data URL'),
        (DRAWING, "data:image/png;base64,AAAA", '"size": '),
    ],
)
def test_values_of_another_kind_are_named(kind: Any, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        knob(kind).decode(value)


@pytest.mark.parametrize("value", [0, 1.01, math.nan, math.inf])
def test_a_range_is_kept(value: float) -> None:
    rate = knob(float, above=0, most=1)
    assert rate.check(1) == 1
    with pytest.raises(ValueError, match="a number above 0 and at most 1"):
        rate.check(value)


def test_flags_are_the_alias_and_the_name() -> None:
    assert knob(int).flags == ["--size"]
    assert Knob("derivative_above", float, "", alias="derivative").flags == ["--derivative", "--derivative-above"]
    assert Knob("derivative_above", float, "", alias="derivative").key == "derivative"


@pytest.mark.parametrize("settings", [Ascent, Schedule])
def test_every_setting_is_a_knob_with_the_one_default(settings: type) -> None:
    knobs = {each.name: each.default for each in knobs_of(settings)}
    assert knobs == vars(settings())
    assert all(each.about for each in knobs_of(settings))


def test_keys_that_are_missing_or_unknown_are_named() -> None:
    knobs = TASKS["super-resolution"].knobs
    assert decode(knobs, {"factor": 4, "downsampling": "box"}) == {"factor": 4, "downsampling": "box"}
    assert decode(knobs, {"factor": 4}, optional=["downsampling"]) == {"factor": 4}
    with pytest.raises(ValueError, match='"factor" is missing'):
        decode(knobs, {})
    with pytest.raises(ValueError, match='"h0" is not among factor'):
        decode(knobs, {"factor": 4, "h0": 1.0})


def test_no_two_knobs_of_a_task_or_a_method_share_a_flag() -> None:
    for owner in [*TASKS.values(), *(method for methods in METHODS.values() for method in methods.values())]:
        flags = [flag for each in owner.knobs for flag in each.flags]
        assert len(flags) == len(set(flags))
