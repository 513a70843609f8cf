"""The words, tiles and curve that pages have for denoising."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from invlib.problems.denoising import DenoisingProblem
from invlib.scores import compare
from pages.ui import linear, pixels
from pages.ui.linear import UNIT, posed
from pages.ui.pixels import Tile

if TYPE_CHECKING:
    from pages.ui.stage import Request

__all__ = ["UNIT", "answer", "curve", "headline", "posed"]


def headline(request: Request) -> str:
    """Say in a sentence or two how noisy the picture is."""
    problem = request.problem
    assert isinstance(problem, DenoisingProblem)
    if problem.truth is None:
        return request.words
    return (
        f"**{float(compare(problem, problem.baseline(), ('psnr',))['psnr']):.1f} dB with the noise.** {request.words}"
    )


def answer(
    request: Request, samples: Sequence[np.ndarray], mean: np.ndarray, noise: np.ndarray | None, caption: str
) -> list[Tile]:
    """The average of the samples, and the map of the noise level where a denoiser saw the noise."""
    tiles = linear.answer(request, samples, mean, noise, caption)
    if noise is not None:
        alt = "How strong the noise is from place to place"
        tiles.append(Tile(pixels.coloured(noise), "Noise level; bright is strong", alt))
    return tiles


def curve(request: Request, history: Mapping[str, Any], done: bool) -> tuple[go.Figure, str] | None:
    """The noise level of a sampler; None for a single evaluation."""
    samples = "predicted" in history if done else bool(linear.forecast(request.problem, request.settings))
    return linear.curve(request, history, done) if samples else None
