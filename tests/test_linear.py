"""The tasks' operators, and their knobs in JSON."""

from __future__ import annotations

import json
import math

import pytest
import torch

from invlib import images
from invlib.problems.linear import TASKS
from invlib.problems.operators import (
    BlockAverage,
    Blur,
    DenseRows,
    Downsampling,
    FramedBlur,
    LowPass,
    StructuredRows,
    gaussian_kernel,
    motion_kernel,
)
from invlib.problems.spec import decode, kernel_levels

SHAPE = (1, 16, 24)
MASK = torch.rand(16, 24, generator=torch.Generator().manual_seed(0)) > 0.4
PIXELS = torch.tensor([[0, 12, 3], [1, 200, 37]], dtype=torch.float32)


def operator(task: str, **knobs):
    return TASKS[task].operator(SHAPE, **knobs)


def encode_knobs(task: str, knobs) -> dict:
    """The knobs as a run's JSON has them."""
    return {each.name: each.encode(knobs[each.name]) for each in TASKS[task].knobs if each.name in knobs}


def decode_knobs(task: str, written) -> dict:
    return decode(TASKS[task].knobs, written, TASKS[task].exclusive)


def same(one, other) -> bool:
    """Whether two operators measure the same numbers."""
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    return type(one) is type(other) and torch.equal(one.view(one.measure(x)), other.view(other.measure(x)))


def test_deblurring_takes_one_of_four_blurs():
    assert same(operator("deblurring"), LowPass(SHAPE, 0.1))
    assert same(operator("deblurring", keep=0.4), LowPass(SHAPE, 0.4))
    blurs = {"gaussian": (1.2, gaussian_kernel(1.2)), "motion": ((7, 40.0), motion_kernel(7, 40.0))}
    for name, (value, kernel) in {**blurs, "kernel": (PIXELS / 255, PIXELS)}.items():
        assert same(operator("deblurring", **{name: value}), FramedBlur(SHAPE, kernel))
        assert same(operator("deblurring", **{name: value}, circular=True), Blur(SHAPE, kernel))


def test_a_small_picture_is_made_in_one_of_five_ways():
    assert same(operator("super-resolution", factor=2), BlockAverage(SHAPE, 2))
    assert same(operator("super-resolution", factor=2, downsampling="lanczos"), Downsampling(SHAPE, 2, "lanczos"))


def test_compressive_sensing_is_structured_or_dense():
    assert same(operator("compressive-sensing", keep=0.2), StructuredRows(SHAPE, 0.2))
    assert same(operator("compressive-sensing", keep=0.2, dense=True), DenseRows(SHAPE, 0.2))


@pytest.mark.parametrize(
    ("task", "knobs", "said"),
    [
        ("deblurring", {"keep": 0.1, "gaussian": 1.0}, "keep and gaussian exclude one another"),
        ("deblurring", {"motion": (3, 0.0), "kernel": PIXELS}, "motion and kernel exclude one another"),
        ("inpainting", {"box": (0, 0, 4, 4), "mask": MASK}, "box and mask exclude one another"),
        ("deblurring", {"gaussian": 0.0}, "gaussian must be above 0 and at most 2.333 pixels"),
        ("deblurring", {"gaussian": math.nan}, "gaussian"),
        ("deblurring", {"gaussian": 1e9}, "gaussian"),
        ("deblurring", {"motion": (0.5, 0.0)}, "motion must be a length from 1 to 15 pixels"),
        ("deblurring", {"motion": (1e9, 0.0)}, "motion"),
        ("deblurring", {"motion": (3, math.inf)}, "motion"),
        ("deblurring", {"kernel": torch.zeros(3, 3)}, "kernel"),
        ("deblurring", {"kernel": torch.tensor([[1.0, -0.1]])}, "kernel"),
        ("deblurring", {"kernel": torch.tensor([[1.0, math.nan]])}, "kernel"),
        ("deblurring", {"kernel": torch.ones(3)}, "kernel"),
        ("deblurring", {"kernel": torch.ones(3, 99)}, "kernel"),
    ],
)
def test_knobs_out_of_range_are_named(task, knobs, said):
    with pytest.raises(ValueError, match=said):
        operator(task, **knobs)


def test_the_largest_blurs_that_fit():
    assert operator("deblurring", gaussian=7 / 3).measured > 0
    assert operator("deblurring", motion=(15, 30.0)).measured > 0


def complete(task: str, given) -> dict:
    return TASKS[task].complete(given, task)


def test_defaults_are_added_unless_an_alternative_is_given():
    assert complete("super-resolution", {}) == {"factor": 4, "downsampling": "box"}
    assert complete("deblurring", {}) == {"keep": 0.1, "circular": False}
    assert complete("deblurring", {"gaussian": 2.0}) == {"gaussian": 2.0, "circular": False}
    assert complete("compressive-sensing", {}) == {"keep": 0.1, "dense": False}
    assert complete("compressive-sensing", {"dense": True}) == {"keep": 0.1, "dense": True}
    assert complete("inpainting", {}) == {}


@pytest.mark.parametrize("scale", [1, 1 / 255, 1 / PIXELS.sum(), 1 / PIXELS.max(), 123.4])
def test_a_kernel_from_an_8_bit_picture_has_the_same_levels_at_any_scale(scale):
    assert torch.equal(kernel_levels(PIXELS * scale), PIXELS.double())


def test_levels_of_any_other_kernel_use_all_of_the_range():
    kernel = gaussian_kernel(1.3)
    levels = kernel_levels(kernel)
    assert levels.max() == 255
    torch.testing.assert_close(levels / levels.max(), (kernel / kernel.max()).double(), atol=0.5 / 255 + 1e-6, rtol=0)
    assert torch.equal(kernel_levels((levels / 255).float()), levels)


@pytest.mark.parametrize(
    ("task", "knobs"),
    [
        ("super-resolution", {"factor": 4}),
        ("deblurring", {"keep": 0.35}),
        ("deblurring", {"gaussian": 1.1}),
        ("deblurring", {"motion": (7.5, -30.0)}),
        ("deblurring", {"kernel": PIXELS / 255}),
        ("deblurring", {"kernel": PIXELS / PIXELS.sum()}),
        ("deblurring", {"kernel": gaussian_kernel(1.3)}),
        ("inpainting", {}),
        ("inpainting", {"box": (1, 2, 3, 4)}),
        ("inpainting", {"mask": MASK}),
        ("random-pixels", {"keep": 0.5}),
        ("compressive-sensing", {"keep": 0.25, "dense": True}),
        ("compressive-sensing", {"keep": 0.25}),
    ],
)
def test_knobs_survive_json(task, knobs):
    knobs = complete(task, knobs)
    written = json.loads(json.dumps(encode_knobs(task, knobs)))
    read = decode_knobs(task, written)
    assert read.keys() == knobs.keys()
    for name, value in knobs.items():
        if name != "kernel":
            assert type(read[name]) is type(value)
            assert torch.equal(read[name], value) if name == "mask" else read[name] == value
    assert same(operator(task, **read), operator(task, **knobs))
    assert encode_knobs(task, read) == encode_knobs(task, knobs)


def test_a_mask_takes_a_bit_a_pixel():
    noise = torch.rand(256, 256, generator=torch.Generator().manual_seed(0)) > 0.5
    assert len(encode_knobs("inpainting", {"mask": noise})["mask"]) < 1.4 * 256 * 256 / 8


@pytest.mark.parametrize(
    ("task", "written", "said"),
    [
        ("super-resolution", {"factor": 4, "keep": 0.1}, '"keep" is not among factor'),
        ("super-resolution", {}, '"factor" is missing'),
        ("random-pixels", {"keep": None}, '"keep" must be a number, got None'),
        ("random-pixels", {"keep": True}, '"keep" must be a number, got True'),
        ("deblurring", {"motion": [1, "2"], "circular": False}, '"motion" must be a list of 2 numbers'),
        ("deblurring", {"circular": False, "motion": {"length": 3}}, '"motion" must be a list of 2 numbers'),
        ("inpainting", {"box": [1, 2, 3, 4.5]}, '"box" must be a list of 4 whole numbers'),
        ("inpainting", {"mask": "mask.png"}, '"mask": .* not the data URL'),
        ("inpainting", {"mask": [[0, 1]]}, '"mask" must be a string'),
        ("compressive-sensing", {"keep": 0.1, "dense": 0}, '"dense" must be a boolean'),
    ],
)
def test_knobs_that_cannot_be_read_are_named(task, written, said):
    with pytest.raises(ValueError, match=said):
        decode_knobs(task, written)


def test_a_whole_number_is_a_number():
    assert decode_knobs("random-pixels", {"keep": 1}) == {"keep": 1}


def test_a_picture_of_a_mask_need_not_be_black_and_white():
    grey = torch.tensor([[0.0, 0.4], [0.6, 1.0]])
    url = images.encode_data_url(images.to_uint8(grey[None]))
    assert torch.equal(decode_knobs("inpainting", {"mask": url})["mask"], torch.tensor([[False, False], [True, True]]))
