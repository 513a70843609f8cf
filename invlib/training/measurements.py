"""Random measurements for training a denoiser that is told what was measured of a picture."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch

from invlib.problems.noise import pen_strokes
from invlib.problems.operators import (
    WAYS,
    BlockAverage,
    Blur,
    Downsampling,
    LinearOperator,
    LowPass,
    Mask,
    gaussian_kernel,
    motion_kernel,
)

Shape = tuple[int, int, int]
Random = np.random.Generator


def draw_operator(shape: Shape, random: Random) -> LinearOperator | None:
    """Draw a measurement of images (C, H, W), whose sides are multiples of 8; None if nothing was measured.

    >>> operator = draw_operator((3, 64, 64), np.random.default_rng(0))
    >>> type(operator).__name__, operator.image_shape
    ('Mask', (3, 64, 64))
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
    return Downsampling(shape, int(random.choice([2, 4, 8])), str(random.choice(WAYS[1:])))


def low_pass(shape: Shape, random: Random) -> LinearOperator:
    return LowPass(shape, log_uniform(0.03, 0.5, random))


def blur(shape: Shape, random: Random) -> LinearOperator:
    kind = random.random()
    if kind < 0.4:
        kernel = gaussian_kernel(log_uniform(0.7, 4, random))
    elif kind < 0.7:
        kernel = motion_kernel(random.uniform(3, 21), random.uniform(0, 180))
    else:
        kernel = torch.from_numpy(pen_strokes((15, 15), 1, random)).float() + 1e-3
    return Blur(shape, kernel)


def pixels(shape: Shape, random: Random) -> LinearOperator:
    keep, shared = log_uniform(0.01, 0.7, random), bool(random.random() < 0.7)
    return Mask.random_pixels(shape, keep, seed=int(random.integers(2**31)), shared=shared)


def regions(shape: Shape, random: Random) -> LinearOperator:
    """Holes, strokes, or one side of a line."""
    height, width = shape[1:]
    kind = random.random()
    if kind < 0.5:
        lost = np.zeros((height, width), bool)
        for _ in range(random.integers(1, 4)):
            tall, wide = random.integers(height // 8, height * 5 // 8, 2)
            top, left = random.integers(height - tall + 1), random.integers(width - wide + 1)
            lost[top : top + tall, left : left + wide] = True
    elif kind < 0.8:
        lost = pen_strokes((height, width), int(random.integers(1, 7)), random, thick=int(random.integers(0, 4)))
    else:
        angle = random.uniform(0, 2 * math.pi)
        down, right = np.mgrid[:height, :width] / height - 0.5
        lost = down * math.sin(angle) + right * math.cos(angle) > random.uniform(-0.2, 0.4)
    return Mask(shape, torch.from_numpy(~lost)) if not lost.all() else pixels(shape, random)


def nothing(shape: Shape, random: Random) -> None:
    return None


KINDS: tuple[Callable[[Shape, Random], LinearOperator | None], ...]
KINDS = (blocks, downsampling, low_pass, blur, pixels, regions, nothing)
SHARES = (0.32, 0.1, 0.18, 0.1, 0.12, 0.1, 0.08)
"""How often each kind is drawn. Random rows are none of them: to a convolutional network, what they show is noise."""


def log_uniform(low: float, high: float, random: Random) -> float:
    return float(low * (high / low) ** random.random())
