"""The words and tiles that pages have for samples of a prior alone, and the kinds of pictures that can be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from invlib.problems import prior
from invlib.problems.prior import PriorProblem
from invlib.runs import Settings, settings
from invlib.solvers.methods import sampling_defaults
from pages.ui.linear import UNIT, curve
from pages.ui.pixels import Tile

if TYPE_CHECKING:
    from pages.ui.stage import Request

__all__ = ["UNIT", "answer", "curve", "headline", "posed"]

PAPER = {"h0": 0.01, "beta": 1.0, "sigma_0": 1.0, "sigma_L": 0.01}
"""The settings of Kadkhodaie & Simoncelli (2021) for the trajectories of Figure 2."""


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes
    ----------
    label, channels : its name, and 3 for colour or 1 for grey.
    prior : the default prior. The paper's network draws photographs of more contrast than the U-Net.
    sides, side : the sides that a visitor may choose and the default, in pixels.
    most : how many samples a run may have.
    """

    label: str
    channels: int
    prior: str
    sides: tuple[int, ...]
    side: int
    most: int

    @property
    def arguments(self) -> dict[str, float]:
        """The ascent's settings: few steps, without visible loss, and enough noise for the parts to cohere."""
        return PAPER | {"h0": 0.02} | sampling_defaults(self.prior)

    def offered(self, titles: Mapping[str, str]) -> dict[str, str]:
        """The priors for this kind among `titles` (name -> title), the default first. Digits have their own prior."""
        digits = KINDS["digits"].prior
        names = [name for name in titles if (name == digits) == (self.prior == digits)]
        return {name: titles[name] for name in sorted(names, key=lambda name: name != self.prior)}

    def problem(self, side: int, interpolate: bool) -> PriorProblem:
        """The problem in which nothing is measured: draw samples of the prior, or interpolate between two."""
        return prior.pose((self.channels, side, side), interpolate=interpolate)


KINDS = {
    "colour": Kind("Colour", 3, "bf-cnn-color", (64, 96, 128, 192), 96, 8),
    "grey": Kind("Grey", 1, "bf-cnn-gray", (64, 96, 128, 192), 96, 8),
    "digits": Kind("Digits", 1, "bf-cnn-mnist", (28, 56), 28, 16),
}


def example() -> tuple[PriorProblem, Settings]:
    """The problem and the settings with which the page opens."""
    kind = KINDS["colour"]
    problem = kind.problem(kind.side, interpolate=False)
    return problem, settings(problem, "paper", kind.arguments, prior=kind.prior, samples=4)


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
