"""The words, tiles and curve that pages have for samples of a prior alone, and the pictures that can be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from invlib.priors import checkpoints
from invlib.problems import prior
from invlib.problems.prior import PriorProblem
from invlib.runs import Settings, settings
from invlib.solvers.methods import FACES_PRIOR, sampler_of, sampling_defaults
from pages.ui import linear
from pages.ui.linear import UNIT
from pages.ui.pixels import Tile

if TYPE_CHECKING:
    from pages.ui.stage import Request

__all__ = ["UNIT", "answer", "curve", "headline", "posed"]

PAPER = {"h0": 0.01, "beta": 1.0, "sigma_0": 1.0, "sigma_L": 0.01, "power_law": False}
"""The settings of Kadkhodaie & Simoncelli (2021) for the trajectories of Figure 2."""

TEMPERATURES = {"flow": 0.7, "gan": 1.0}
"""The temperature that suits the priors of a method. They were trained with 1."""


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes
    ----------
    label, channels : its name, and 3 for colour or 1 for grey.
    prior : the default prior; of photographs, the paper's network.
    sides, side : the sides that a visitor may choose and the default, in pixels.
    samples, most : how many samples a run has, and may have.
    photographs : whether the denoisers that no kind has as its default draw such pictures.
    """

    label: str
    channels: int
    prior: str
    sides: tuple[int, ...]
    side: int
    samples: int
    most: int
    photographs: bool = False

    @property
    def arguments(self) -> dict[str, float]:
        """The ascent's settings: few steps, without visible loss, and enough noise for the parts to cohere."""
        return PAPER | {"h0": 0.02} | sampling_defaults(self.prior)

    def has(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Whether a prior draws such pictures, by its name and the arguments of its network."""
        if "image_shape" in arguments:
            return bool(arguments["image_shape"] == [self.channels, self.side, self.side])
        if name in (kind.prior for kind in KINDS.values()):
            return name == self.prior
        return self.photographs and arguments.get("channels") == self.channels

    def problem(self, side: int, interpolate: bool) -> PriorProblem:
        """The problem in which nothing is measured: draw samples of the prior, or interpolate between two."""
        return prior.pose((self.channels, side, side), interpolate=interpolate)


KINDS = {
    "faces": Kind("Faces", 3, FACES_PRIOR, (64,), 64, 8, 16),
    "colour": Kind("Colour", 3, "bf-cnn-color", (64, 96, 128, 192), 96, 4, 8, photographs=True),
    "grey": Kind("Grey", 1, "bf-cnn-gray", (64, 96, 128, 192), 96, 4, 8, photographs=True),
    "digits": Kind("Digits", 1, "bf-cnn-mnist", (28, 56), 28, 4, 16),
}
"""The kinds of pictures by name, the default first."""


@st.cache_data
def priors(kind: str) -> dict[str, str]:
    """Names -> titles of the registered priors for a kind of picture, the default first."""
    titles = {
        name: entry.title
        for name, entry in checkpoints.registry().items()
        if KINDS[kind].has(name, checkpoints.describe(name).arguments)
    }
    return {name: titles[name] for name in sorted(titles, key=lambda name: name != KINDS[kind].prior)}


method_of = st.cache_data(sampler_of)
"""The method of a prior, by name; to look it up, the file is read."""


def example() -> tuple[PriorProblem, Settings]:
    """The problem and the settings with which the page opens."""
    kind = next(iter(KINDS.values()))
    problem = kind.problem(kind.side, interpolate=False)
    return problem, settings(problem, "paper", kind.arguments, prior=kind.prior, samples=kind.samples)


def headline(request: Request) -> str:
    """Say in a sentence where the samples come from."""
    return request.words


def posed(request: Request) -> list[Tile]:
    """No tiles, because nothing was measured."""
    return []


def answer(
    request: Request, samples: Sequence[np.ndarray], mean: np.ndarray, noise: np.ndarray | None, caption: str
) -> list[Tile]:
    """A tile for each sample, because pictures that have nothing in common have no average."""
    count = len(samples)
    names = [f"Sample {number} of {count}" for number in range(1, count + 1)]
    if request.problem.knobs["interpolate"]:
        names = ["Sample 1", *(f"{place / (count - 1):.0%} of the way" for place in range(1, count - 1)), "Sample 2"]
    drawn = "A picture drawn from the prior"
    return [Tile(sample, name, f"{drawn}: {name}") for name, sample in zip(names, samples, strict=True)]


def curve(request: Request, history: Mapping[str, Any], done: bool) -> tuple[go.Figure, str] | None:
    """The noise level of a denoiser's ascent. One evaluation has no curve."""
    return linear.curve(request, history, done) if request.settings.method == "paper" else None
