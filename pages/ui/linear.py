"""The words, tiles and curve that pages have for linear problems. `sampling` and `structured` have their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
import torch
from torch import Tensor

from invlib.images import to_uint8
from invlib.problems.linear import LinearProblem
from invlib.problems.operators import FourierRows
from invlib.runs import forecast
from pages.ui import pixels, plots
from pages.ui.pixels import Tile, group

if TYPE_CHECKING:
    from pages.ui.stage import Request

UNIT = "evaluation"
"""The unit in which a run's progress is counted."""


def headline(request: Request) -> str:
    """Say in a sentence how much was measured."""
    problem = request.problem
    of = group(math.prod(problem.operator.image_shape))
    return f"**{group(problem.measured)} of {of} numbers kept.** {request.words}"


def posed(request: Request) -> list[Tile]:
    """The picture, if it is known, and what was measured of it."""
    tiles, problem = [], request.problem
    assert problem.picture is not None
    what = problem.picture.description
    if problem.truth is not None:
        height, width = problem.image_shape[1:]
        tiles.append(Tile(to_uint8(problem.truth), f"Original, {width}×{height}", f"The original: {what}"))
    if (view := problem.view()) is not None:
        height, width = view.shape[2:]
        tiles.append(Tile(to_uint8(view), f"{request.shown}, {width}×{height}", f"{request.shown}: {what}"))
    return tiles


def answer(
    request: Request, samples: Sequence[np.ndarray], mean: np.ndarray, noise: np.ndarray | None, caption: str
) -> list[Tile]:
    """The average of the samples."""
    assert request.problem.picture is not None
    return [Tile(mean, caption, f"Restored: {request.problem.picture.description}")]


def curve(request: Request, history: Mapping[str, Any], done: bool) -> tuple[go.Figure, str] | None:
    """The figure of the falling noise level and its forecast, and its alternative text; None if no level falls."""
    if not forecast(request.problem, request.settings):
        return None
    if done:
        expected = np.repeat(history["predicted"], np.diff(history["evaluations"], prepend=0)).tolist()
    else:
        expected = forecast(request.problem, request.settings)
    figure = plots.noise_levels(history.get("evaluations", []), history.get("sigma", []), expected, height=230)
    return figure, "The noise level falls with every evaluation."


# Pictures of measurements that are not pictures

LOST = 56
"""The grey of a frequency that was not kept."""


def frequencies(problem: LinearProblem) -> Tile:
    """The plane of frequencies, the lowest in the middle. Those that were kept are in colour."""
    assert isinstance(problem.operator, FourierRows)
    assert problem.picture is not None
    kept = torch.fft.fftshift(problem.operator.kept).numpy()
    plane = pixels.coloured(spectrum(problem.picture.image))
    plane[~kept] = LOST
    return Tile(plane, "Frequencies kept, in colour", f"The plane of frequencies: {kept.mean():.0%} of them are kept")


def spectrum(image: Tensor) -> np.ndarray:
    """Log magnitudes of the Fourier coefficients over five decades, uint8 (H, W), the lowest in the middle."""
    magnitude = torch.fft.fftshift(torch.fft.fft2(image[0].mean(0), norm="ortho").abs())
    decades = (magnitude / magnitude.max()).clamp(min=1e-5).log10()
    return ((1 + decades / 5) * 255).round().to(torch.uint8).numpy()


def numbers(problem: LinearProblem) -> Tile:
    """The measured numbers in order, row by row, blue below zero and red above."""
    values = problem.measurements.flatten()
    side = math.ceil(math.sqrt(len(values)))
    top = 3 * float(values.square().mean().sqrt()) or 1.0
    levels = (values / top).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).numpy()
    picture = np.full((side * side, 3), LOST, np.uint8)
    picture[: len(levels)] = pixels.coloured(levels, "RdBu_r")
    rows = math.ceil(len(values) / side)
    alt = f"{len(values)} measured numbers, as noisy as random numbers to the eye"
    return Tile(picture.reshape(side, side, 3)[:rows], "The numbers: blue below zero, red above", alt)
