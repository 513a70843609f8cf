"""The kinds of pictures that can be drawn from a prior alone, and the settings that draw them well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from invlib.problems.linear import SAMPLING_BETA
from pages.ui.runs import SAMPLING, Problem, Settings

PAPER = {"h0": 0.01, "beta": 1.0, "sigma_0": 1.0, "sigma_L": 0.01}
"""Kadkhodaie & Simoncelli (2021), for the trajectories of Figure 2."""


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes
    ----------
    channels : 3 for colour, 1 for grey.
    prior : the default one. The paper's network draws photographs of more contrast than the U-Net.
    sides, side : in pixels, what a visitor may choose and the default.
    most : the most samples of a run.
    """

    label: str
    channels: int
    prior: str
    sides: tuple[int, ...]
    side: int
    most: int

    @property
    def arguments(self) -> dict[str, float]:
        """The ascent's: few steps that lose nothing to the eye, and enough noise for the parts to cohere."""
        return PAPER | {"h0": 0.02, "beta": SAMPLING_BETA.get(self.prior, 0.5)}

    def offered(self, titles: Mapping[str, str]) -> dict[str, str]:
        """Of priors, by name and title, those for this kind, the default first. Digits have their own."""
        digits = KINDS["digits"].prior
        names = [name for name in titles if (name == digits) == (self.prior == digits)]
        return {name: titles[name] for name in sorted(names, key=lambda name: name != self.prior)}

    def problem(self, side: int, interpolate: bool) -> Problem:
        """Nothing measured: the prior alone, of which samples are drawn, or the way from one to another."""
        return Problem(SAMPLING, (self.channels, side, side), {"interpolate": interpolate})


KINDS = {
    "colour": Kind("Colour", 3, "bf-cnn-color", (64, 96, 128, 192), 96, 8),
    "grey": Kind("Grey", 1, "bf-cnn-gray", (64, 96, 128, 192), 96, 8),
    "digits": Kind("Digits", 1, "bf-cnn-mnist", (28, 56), 28, 16),
}


def example() -> tuple[Problem, Settings]:
    """What the page opens with."""
    kind = KINDS["colour"]
    return kind.problem(kind.side, interpolate=False), Settings(kind.prior, "paper", 4, 0, kind.arguments)
