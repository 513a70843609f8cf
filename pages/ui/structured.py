"""The words, tiles and curve that pages have for structured noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
import torch

from invlib.images import to_uint8
from invlib.problems.structured import PINK, SCRIBBLE, STROKES, StructuredProblem
from invlib.runs import method_of
from invlib.scores import compare
from pages.ui import linear, plots
from pages.ui.pixels import Tile, group

if TYPE_CHECKING:
    from pages.ui.stage import Request

UNIT = "step"
"""The unit in which a run's progress is counted."""

PEN = "#" + "".join(f"{round(255 * level):02x}" for level in PINK)
"""The colour of a scribble."""

HALF = 0.5
"""How opaque a scribble is whose place has to be found."""


def drawing(strokes: np.ndarray, task: str = SCRIBBLE) -> torch.Tensor:
    """A drawing (4, H, W) of strokes (H, W) in the colour of the pen, as opaque as a task has them."""
    opacity = (HALF if task == STROKES else 1.0) * torch.from_numpy(strokes).float()[None]
    return torch.cat([torch.tensor(PINK).view(3, 1, 1).expand(3, *strokes.shape), opacity])


def input_psnr(problem: StructuredProblem) -> float:
    """The PSNR in dB of the picture that the measurements give without a prior."""
    return float(compare(problem, problem.baseline(), ("psnr",))["psnr"])


def headline(request: Request) -> str:
    """Say in a sentence or two what was done to the picture."""
    problem = request.problem
    assert isinstance(problem, StructuredProblem)
    if not problem.ready:
        return "Nothing is drawn yet."
    size = group(int(np.prod(problem.image_shape)))
    about = problem.kind.about.format(count=group(problem.measured), size=size)
    return f"**{input_psnr(problem):.1f} dB before anything is done.** {about}"


def posed(request: Request) -> list[Tile]:
    """The true picture, and what was measured of it."""
    problem = request.problem
    assert isinstance(problem, StructuredProblem)
    assert problem.picture is not None
    _, height, width = problem.image_shape
    what = problem.picture.description
    shown = "Back-projected" if problem.kind.sensing else "With noise"
    return [
        Tile(to_uint8(problem.picture.image), f"Original, {width}×{height}", f"The original: {what}"),
        Tile(to_uint8(problem.view()), f"{shown}, {input_psnr(problem):.1f} dB", f"{shown}: {what}"),
    ]


def answer(
    request: Request, samples: Sequence[np.ndarray], mean: np.ndarray, noise: np.ndarray | None, caption: str
) -> list[Tile]:
    """The average of the samples, and the noise that is left when it is subtracted from the measurements."""
    assert request.problem.picture is not None
    what = request.problem.picture.description
    return [
        Tile(mean, caption, f"Restored: {what}"),
        Tile(noise, "Noise found; grey is none", "Nothing yet" if noise is None else f"The noise found on {what}"),
    ]


def curve(request: Request, history: Mapping[str, Any], done: bool) -> tuple[go.Figure, str]:
    """The figure of the log-densities of the noise and of the picture, found and true, and its alternative text."""
    if (
        "predicted" in history
        if done
        else method_of(request.problem, request.settings).forecast(request.settings.values)
    ):
        return linear.curve(request, history, done)
    problem, steps = request.problem, len(history.get("evaluations", []))
    if not done:
        steps = method_of(problem, request.settings).length(request.settings.values)
    numbers, size, steps = problem.measured, int(np.prod(problem.image_shape)), steps or 1
    found: dict[str, plots.Curve] = {}
    true: dict[str, plots.Curve] = {}
    if "noise_log_prob" in history:
        count = range(1, len(history["objective"]) + 1)
        found["noise"] = count, [value / numbers for value in history["noise_log_prob"]]
        found["picture"] = count, [value / size for value in history["signal_log_prob"]]
        if truth := history.get("truth"):
            true["noise"] = truth["steps"], [value / numbers for value in truth["noise_log_prob"]]
            true["picture"] = (1, steps), [truth["signal_log_prob"] / size] * 2
    alt = "The log-densities of noise and picture rise towards those of the true ones."
    return plots.log_densities(found, true, steps), alt
