"""Check arguments: each function raises a ValueError that names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

MOST_STEPS = 10**6
"""How many steps an iteration may take."""

SEEDS = 2**53
"""Seeds are below this. JavaScript and `jq`, which write JSON with numbers of 64 bits, keep no more digits."""


def check_positive(**parameters: float) -> None:
    """Raise a ValueError that names the first parameter that is not a positive number.

    >>> check_positive(steps=20, sigma=-0.1)
    Traceback (most recent call last):
    ValueError: sigma must be a positive number, got -0.1
    """
    for name, value in parameters.items():
        if not (isinstance(value, Real) and 0 < value < math.inf):
            raise ValueError(f"{name} must be a positive number, got {value}")


def check_whole(least: int, most: int, **parameters: int) -> None:
    """Raise a ValueError that names the first parameter that is not a whole number from `least` to `most`.

    >>> check_whole(1, 100, count=10**9)
    Traceback (most recent call last):
    ValueError: count must be a whole number from 1 to 100, got 1000000000
    """
    for name, value in parameters.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value}")


def check_seed(seed: int) -> int:
    """Return a seed; ValueError unless it is from 0 to 2⁵³ - 1, as on the command line, in JSON and on pages."""
    check_whole(0, SEEDS - 1, seed=seed)
    return seed


def check_measurements(
    measurements: Tensor, shape: tuple[int, ...] | None = None, pictures: int | None = None
) -> Tensor:
    """Return measurements without their gradient; ValueError unless a solver can work with them.

    Parameters
    ----------
    measurements : float32 or float64, finite, (batch, ...) with a batch of at least 1.
    shape : of the measurements of one picture, which is required if it is given.
    pictures : how many pictures there must be, if that is given.
    """
    if not isinstance(measurements, Tensor) or measurements.dtype not in (torch.float32, torch.float64):
        kind = getattr(measurements, "dtype", type(measurements).__name__)
        raise ValueError(f"the measurements must be a tensor of torch.float32, got {kind}: convert them with .float()")
    got = tuple(measurements.shape)
    if shape is not None and (got[1:] != shape or pictures not in (None, got[0])):
        expected = ", ".join(str(size) for size in (pictures or "B", *shape))
        raise ValueError(f"the measurements must have the shape ({expected}), and theirs is {got}")
    if not got or not measurements.numel():
        raise ValueError(f"the measurements must be (batch, ...) with at least one number, and their shape is {got}")
    if not bool(torch.isfinite(measurements).all()):
        raise ValueError("the measurements hold numbers that are not finite")
    return measurements.detach()


def check_shape(image_shape: Sequence[int]) -> tuple[int, int, int]:
    """Return `image_shape` as a tuple; ValueError unless it is (channels, height, width), all at least 1."""
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (channels, height, width), all at least 1, got {tuple(image_shape)}")
    channels, height, width = image_shape
    return channels, height, width


def check_batch(tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Raise ValueError unless `tensor` has shape (batch, *shape); `what` names its rows in the message."""
    if tensor.ndim != len(shape) + 1 or tuple(tensor.shape[1:]) != shape:
        expected = ", ".join(str(size) for size in shape)
        raise ValueError(f"expected a batch of {what} of shape (B, {expected}), got {tuple(tensor.shape)}")


def check_one(**knobs: Any) -> None:
    """Raise ValueError if more than one of the knobs is given, that is, not None."""
    given = [name for name, value in knobs.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} exclude one another: give one of {', '.join(knobs)}")
