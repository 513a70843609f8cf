"""Pictures of measurements that are not pictures."""

from __future__ import annotations

import math

import numpy as np
import torch
from plotly.colors import sample_colorscale, unlabel_rgb
from torch import Tensor

from invlib.problems.operators import FourierRows
from pages.ui import pixels
from pages.ui.runs import Problem, Tile

LOST = 56
"""The grey of a frequency that was not kept."""


def frequencies(problem: Problem) -> Tile:
    """The plane of frequencies with those that were kept in colour, the lowest in the middle."""
    assert isinstance(problem.operator, FourierRows)
    kept = torch.fft.fftshift(problem.operator.kept).numpy()
    image = problem.picture.image if problem.truth is None and problem.picture else problem.truth
    assert image is not None
    plane = pixels.coloured(spectrum(image))
    plane[~kept] = LOST
    return Tile(plane, "Frequencies kept, in colour", f"The plane of frequencies: {kept.mean():.0%} of them are kept")


def spectrum(image: Tensor) -> np.ndarray:
    """Log magnitudes of the Fourier coefficients, the lowest in the middle, over five decades: uint8 (H, W)."""
    magnitude = torch.fft.fftshift(torch.fft.fft2(image[0].mean(0), norm="ortho").abs())
    decades = (magnitude / magnitude.max()).clamp(min=1e-5).log10()
    return ((1 + decades / 5) * 255).round().to(torch.uint8).numpy()


def numbers(problem: Problem) -> Tile:
    """The measured numbers as they come, row by row: blue below zero, red above."""
    assert problem.measurements is not None
    values = problem.measurements.flatten()
    side = math.ceil(math.sqrt(len(values)))
    top = 3 * float(values.square().mean().sqrt()) or 1.0
    levels = (values / top).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).numpy()
    picture = np.full((side * side, 3), LOST, np.uint8)
    picture[: len(levels)] = DIVERGING[levels]
    rows = math.ceil(len(values) / side)
    alt = f"{len(values)} measured numbers, as noisy as random numbers to the eye"
    return Tile(picture.reshape(side, side, 3)[:rows], "The numbers: blue below zero, red above", alt)


def kernel(weights: Tensor) -> Tile:
    """A blur's kernel, enlarged: white is its largest weight."""
    scaled = (weights / weights.max()).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return Tile(scaled, f"The blur, {scaled.shape[1]}×{scaled.shape[0]}", "What a point of light becomes")


DIVERGING = np.array([unlabel_rgb(c) for c in sample_colorscale("RdBu_r", 256)]).round().astype(np.uint8)
"""256 colours, blue over white to red."""
