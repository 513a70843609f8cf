"""The settings of the samplers: `Ascent` for the paper's, `Schedule` for the fast one. Each default stands once."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from invlib.checks import check_positive, check_whole
from invlib.problems.spec import knob

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
SIGMAS_0 = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
SIGMAS_L = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)

MOST = 100_000
"""How many evaluations a run may be given."""

SIGMA_0 = {"label": "First noise level σ₀", "values": SIGMAS_0, "advanced": True}
SIGMA_L = {"label": "Last noise level σ_L", "values": SIGMAS_L, "advanced": True}
ABOUT_ANTITHETIC = "Whether samples come in pairs with opposite noise, so that their average needs fewer of them."
ABOUT_SIGMA_0 = (
    "How strong the noise is at the start, 1 being the picture's full range. A lower level starts closer to the "
    "measured picture and leaves samples fewer ways to differ."
)
POWER_LAW = {"label": "Start with clouds", "advanced": True}
ABOUT_POWER_LAW = (
    "Whether the run starts from random clouds that are as coarse and as colourful as photographs and agree with what "
    "was measured, instead of from grey, as in the paper. Noise is added to either."
)
ABOUT_SIGMA_L = (
    "The noise level at which the run stops. A lower level resolves finer detail; a higher one ends sooner and leaves "
    "the picture softer."
)


def check_levels(sigma_0: float, sigma_L: float) -> None:
    """Raise ValueError unless noise falls from `sigma_0`, at most 1000, to `sigma_L`, at least 10⁻⁶."""
    check_positive(sigma_0=sigma_0, sigma_L=sigma_L)
    if sigma_L >= sigma_0:
        raise ValueError(f"sigma_L ({sigma_L:g}) must be below sigma_0 ({sigma_0:g})")
    if sigma_0 > 1e3 or sigma_L < 1e-6:
        raise ValueError(f"sigma_0 must be at most 1000 and sigma_L at least 1e-06, got {sigma_0:g} and {sigma_L:g}")


@dataclass(frozen=True)
class Ascent:
    """The settings of `ascend`; the defaults are those of the paper for every inverse problem.

    Attributes
    ----------
    h0 : first step size, the fraction of the denoiser's correction that is taken, in (0, 1].
    beta : 1 injects no noise; the smaller, the more noise, the slower and the more diverse, in (0, 1].
    sigma_0, sigma_L : noise level of the start and of the end; the image's range is 1.
    max_evaluations : the run gives up after this many steps.
    power_law : start from a picture of the prior `PowerLaw` given the measurements, instead of from grey.

    References
    ----------
    Kadkhodaie & Simoncelli (2021), "Solving Linear Inverse Problems Using the Prior Implicit in a Denoiser",
    https://arxiv.org/abs/2007.13640
    """

    h0: float = knob(
        0.01,
        "How much of the denoiser's correction the first step takes. Larger is quicker and gives coarser pictures.",
        label="First step h₀",
        values=STEPS,
    )
    beta: float = knob(
        0.01,
        "The noise control. Smaller values add more noise on the way: texture is more varied and the run longer. With "
        "1 no noise is added, and the picture comes out smooth.",
        label="Noise control β",
        values=STEPS,
    )
    sigma_0: float = knob(1.0, ABOUT_SIGMA_0, **SIGMA_0)
    sigma_L: float = knob(0.01, ABOUT_SIGMA_L, **SIGMA_L)
    max_evaluations: int = knob(2000, "The run gives up after this many evaluations.", shown=False)
    power_law: bool = knob(False, ABOUT_POWER_LAW, **POWER_LAW)

    def check(self) -> None:
        """Raise a ValueError that names the first setting that is out of range."""
        check_positive(h0=self.h0, beta=self.beta)
        check_whole(1, MOST, max_evaluations=self.max_evaluations)
        if self.h0 > 1 or self.beta > 1:
            raise ValueError(f"h0 and beta must be at most 1, got h0 = {self.h0:g} and beta = {self.beta:g}")
        check_levels(self.sigma_0, self.sigma_L)

    def forecast(self) -> list[float]:
        """The noise level that Eq. 5-6 predict at each evaluation, down to `sigma_L` or until the run gives up.

        Raises
        ------
        ValueError : a setting is out of range.
        """
        self.check()
        levels = itertools.islice(predicted_sigmas(self.h0, self.beta, self.sigma_0), self.max_evaluations)
        return list(itertools.takewhile(lambda sigma: sigma > self.sigma_L, levels))


def step_size(t: int, h0: float) -> float:
    """The fraction h_t of the denoiser's correction that step t = 1, 2, ... takes; it grows from h0 towards 1."""
    return h0 * t / (1 + h0 * (t - 1))


def predicted_sigmas(h0: float, beta: float, sigma_0: float) -> Iterator[float]:
    """The noise levels before step 1, 2, ... that Eq. 5-6 predict: σ_t = (1 - β h_t) σ_{t-1}, without end."""
    sigma = sigma_0
    for t in itertools.count(1):
        yield sigma
        sigma *= 1 - beta * step_size(t, h0)


@dataclass(frozen=True)
class Schedule:
    """The steps of `sample_fast`: σ^(1/rho) is linear from `sigma_0` to `sigma_L`, one level for each step.

    There are as many steps as the `evaluations` pay for. A step at a level above `derivative_above` takes two
    evaluations, the denoiser's and that of its derivative, with which the measurements correct what was not measured.
    The other steps take one; if an evaluation is left over, the first of them takes two.

    Attributes
    ----------
    evaluations : of the denoiser and its derivative, in all.
    sigma_0, sigma_L : noise level of the first and of the last step.
    rho : a larger one spends more of the steps at low noise.
    correlation : of the noise of a step with the noise of the step before, 0 to ½. With 0 the samples have half of the
        posterior's variance, however many evaluations there are, because a denoised image is an average. With ½ their
        spread is that of a Gaussian posterior, up to a part that falls as 1 / evaluations (see `sample_fast`).
    antithetic : whether samples come in pairs whose noise is opposite at every step, the first with the second and so
        on (Hammersley & Morton 1956). Each sample is distributed as without; but in the average of a pair the errors
        cancel that are proportional to the noise, so that one pair comes as close to the posterior's mean as eight
        independent samples.
    derivative_above : the noise level above which a step uses the derivative.
    shared_above : the noise level above which the first two samples take the steps for all. Where the measurements fix
        the coarse picture, estimates from much noise hardly differ.
    extrapolation : the part of an estimate's last change that is added to it, 0 to 1. For equal steps of log σ, ½ makes
        the recursion of second order, so that estimates do not lag behind as σ falls. It spreads samples as well: at a
        fixed σ, with independent noise, the iterate of a Gaussian density keeps at least 0.83 of its variance.
    power_law : start from a picture of the prior `PowerLaw` given the measurements, instead of from grey.

    Examples
    --------
    >>> [round(level, 3) for level in Schedule(6).sigmas()]
    [1.0, 0.224, 0.01]

    References
    ----------
    Lu et al. (2022), "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    https://arxiv.org/abs/2211.01095
    """

    evaluations: int = knob(
        20,
        "How often the network runs for each sample. A step denoises and, where it pays, asks how the estimate depends "
        "on its input. Fewer evaluations are quicker and leave edges soft; beyond a hundred you will hardly see a "
        "difference.",
        label="Evaluations",
        values=range(4, 201),
        advanced=True,
    )
    sigma_0: float = knob(1.0, ABOUT_SIGMA_0, **SIGMA_0)
    sigma_L: float = knob(0.01, ABOUT_SIGMA_L, **SIGMA_L)
    rho: float = knob(3.0, "σ^(1/rho) falls linearly: a larger one spends more steps at low noise.", shown=False)
    correlation: float = knob(
        0.5,
        "How much of a step's noise is that of the step before, 0 to 0.5. The more, the further the samples spread "
        "over what the measurements leave open, and the rougher each sample is.",
        label="Noise correlation",
        values=(0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5),
        advanced=True,
    )
    antithetic: bool = knob(True, ABOUT_ANTITHETIC, shown=False)
    derivative_above: float = knob(
        0.0,
        "The noise level above which a step also corrects what was not measured, for a second evaluation.",
        shown=False,
        alias="derivative",
    )
    shared_above: float = knob(
        1.0, "The noise level above which all samples share their steps.", shown=False, alias="common"
    )
    extrapolation: float = knob(0.0, "The part of an estimate's last change that is added to it, 0 to 1.", shown=False)
    power_law: bool = knob(False, ABOUT_POWER_LAW, **POWER_LAW)

    def check(self) -> None:
        """Raise a ValueError that names the first setting that is out of range."""
        check_levels(self.sigma_0, self.sigma_L)
        check_positive(rho=self.rho, shared_above=self.shared_above)
        if not 0.1 <= self.rho <= 1000:
            raise ValueError(f"rho must be from 0.1 to 1000, got {self.rho:g}")
        if not 0 <= self.extrapolation <= 1:
            raise ValueError(f"extrapolation must be between 0 and 1, got {self.extrapolation:g}")
        if not 0 <= self.correlation <= 0.5:
            raise ValueError(f"correlation must be between 0 and 0.5, got {self.correlation:g}")
        if not self.derivative_above >= 0:
            raise ValueError(f"derivative_above must be a noise level, from 0 up, got {self.derivative_above:g}")
        # One step must be paid for.
        check_whole(2 if self.sigma_0 > self.derivative_above else 1, MOST, evaluations=self.evaluations)

    def sigmas(self) -> list[float]:
        """The levels, one for each step, falling; ValueError if a setting is out of range."""
        self.check()

        def cost(steps: int) -> int:
            return steps + int(np.count_nonzero(self._levels(steps) > self.derivative_above))

        # More steps never cost less, so the most that the evaluations pay for are found by halving.
        return self.spacing(bisect_right(range(1, self.evaluations + 1), self.evaluations, key=cost))

    def spacing(self, steps: int) -> list[float]:
        """The levels of so many steps."""
        return [float(level) for level in self._levels(steps)]

    def _levels(self, steps: int) -> np.ndarray:
        return root_spaced(self.sigma_0, self.sigma_L, steps, self.rho)

    def costs(self) -> list[int]:
        """The evaluations that each step takes: 2 with the denoiser's derivative, which the first ones use, else 1."""
        steps = len(self.sigmas())
        return [2 if self.evaluations - steps > step else 1 for step in range(steps)]

    def forecast(self) -> list[float]:
        """The noise level at each evaluation."""
        return [level for level, cost in zip(self.sigmas(), self.costs(), strict=True) for _ in range(cost)]

    def leads(self) -> list[float]:
        """How much of the estimate's last change is added to it after each step but the last: 0 after the first."""
        falls = -np.diff(np.log(self.sigmas()))
        return [0.0, *(float(lead) for lead in self.extrapolation * falls[1:] / falls[:-1])]

    def mixing(self) -> tuple[float, float]:
        """The weights of a step's own white noise and of that of the step before, which make the `correlation`."""
        angle = math.asin(2 * self.correlation) / 2
        return math.cos(angle), math.sin(angle)


@dataclass(frozen=True)
class Reverse:
    """The steps of `reverse_diffusion`.

    Attributes
    ----------
    evaluations : of the denoiser, one for each step.
    sigma_0, sigma_L : noise level of the first and of the last step.
    rho : σ^(1/rho) is linear from `sigma_0` to `sigma_L`; a larger one spends more of the steps at low noise.
    antithetic : samples come in pairs of opposite noise, as in `Schedule`.
    power_law : start from a picture of the prior `PowerLaw` given the measurements, instead of from grey.

    Examples
    --------
    >>> [round(level, 3) for level in Reverse(3, sigma_0=0.5, sigma_L=0.03).sigmas()]
    [0.5, 0.168, 0.03]
    """

    evaluations: int = knob(
        8,
        "How often the network runs for each sample. Each time it takes away some of the noise.",
        label="Evaluations",
        values=range(2, 101),
        advanced=True,
    )
    sigma_0: float = knob(1.0, ABOUT_SIGMA_0, **SIGMA_0)
    sigma_L: float = knob(0.02, ABOUT_SIGMA_L, **SIGMA_L)
    rho: float = knob(3.0, "σ^(1/rho) falls linearly: a larger one spends more steps at low noise.", shown=False)
    antithetic: bool = knob(True, ABOUT_ANTITHETIC, shown=False)
    power_law: bool = knob(False, ABOUT_POWER_LAW, **POWER_LAW)

    def check(self) -> None:
        """Raise a ValueError that names the first setting that is out of range."""
        check_levels(self.sigma_0, self.sigma_L)
        if not 0.1 <= self.rho <= 1000:
            raise ValueError(f"rho must be from 0.1 to 1000, got {self.rho:g}")
        check_whole(2, MOST, evaluations=self.evaluations)

    def sigmas(self) -> list[float]:
        """The level of each step, falling; ValueError if a setting is out of range."""
        self.check()
        return root_spaced(self.sigma_0, self.sigma_L, self.evaluations, self.rho).tolist()


def root_spaced(first: float, last: float, steps: int, rho: float) -> np.ndarray:
    """So many noise levels σ from first to last, whose σ^(1/rho) are evenly spaced: float64, (steps,)."""
    return np.asarray(np.linspace(first ** (1 / rho), last ** (1 / rho), steps) ** rho)
