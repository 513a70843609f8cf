"""Random measurements for training a denoiser that is told what was measured of a picture."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch

from invlib.problems.noise import pen_strokes
from invlib.problems.operators import (
    BlockAverage,
    Blur,
    Downsampling,
    LinearOperator,
    LowPass,
    gaussian_kernel,
    motion_kernel,
)

Shape = tuple[int, int, int]
Random = np.random.Generator


def draw_operator(shape: Shape, random: Random) -> LinearOperator | None:
    """Draw a measurement of images (C, H, W), whose sides are multiples of 8; None if nothing was measured.

    >>> operator = draw_operator((3, 64, 64), np.random.default_rng(0))
    >>> type(operator).__name__, operator.image_shape
    ('LowPass', (3, 64, 64))
    """
    draw = KINDS[random.choice(len(KINDS), p=SHARES)]
    return draw(shape, random)


POOL = 2048
"""How many measurements a run draws. Drawing one takes longer than a step on a GPU, so they are used again."""


@functools.lru_cache(POOL)
def pooled_operator(shape: Shape, seed: int, number: int, device: torch.device) -> LinearOperator | None:
    """Return measurement `number` of the pool of a run with this seed, on `device`; None if nothing was measured."""
    operator = draw_operator(shape, np.random.default_rng((seed, number, 1)))
    return operator if operator is None else operator.to(device)


def blocks(shape: Shape, random: Random) -> LinearOperator:
    return BlockAverage(shape, int(random.choice([2, 4, 8], p=[0.25, 0.5, 0.25])))


def downsampling(shape: Shape, random: Random) -> LinearOperator:
    return Downsampling(shape, int(random.choice([2, 4, 8])), str(random.choice(["bicubic", "lanczos"])))


def low_pass(shape: Shape, random: Random) -> LinearOperator:
    return LowPass(shape, log_uniform(0.03, 0.5, random))


def blur(shape: Shape, random: Random) -> LinearOperator:
    kind, side = random.random(), min(shape[1:])  # no blur is wider than a crop
    if kind < 0.4:
        kernel = gaussian_kernel(log_uniform(0.7, min(4, side / 8), random))
    elif kind < 0.7:
        kernel = motion_kernel(random.uniform(3, min(21, side - 4)), random.uniform(0, 180))
    else:
        kernel = torch.from_numpy(pen_strokes((15, 15), 1, random)).float() + 1e-3
    return Blur(shape, kernel)


def nothing(shape: Shape, random: Random) -> None:
    return None


KINDS: tuple[Callable[[Shape, Random], LinearOperator | None], ...]
KINDS = (blocks, downsampling, low_pass, blur, nothing)
SHARES = (0.5, 0.1, 0.26, 0.12, 0.02)
"""How often each kind is drawn. All of them leave a picture, smaller or blurred: see `LinearOperator.smooth`."""


def log_uniform(low: float, high: float, random: Random) -> float:
    return float(low * (high / low) ** random.random())
