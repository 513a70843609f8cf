"""Check arguments: each function raises a ValueError that names what is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

SEEDS = 2**53
"""Seeds are below this. JavaScript and `jq`, which write JSON with numbers of 64 bits, keep no more digits."""


def check_positive(**parameters: float) -> None:
    """Raise a ValueError that names the first parameter that is not a positive number.

    >>> check_positive(steps=20, sigma=-0.1)
    Traceback (most recent call last):
    ValueError: sigma must be a positive number, got -0.1
    """
    for name, value in parameters.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")


def check_seed(seed: int) -> int:
    """Return `seed`; ValueError unless it is from 0 to 2⁵³ - 1, as on the command line, in JSON and on pages.

    >>> check_seed(7)
    7
    >>> check_seed(2**64)
    Traceback (most recent call last):
    ValueError: seed must be a whole number of at least 0 and at most 9007199254740991
    """
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed must be a whole number of at least 0 and at most {SEEDS - 1}")
    return seed


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
