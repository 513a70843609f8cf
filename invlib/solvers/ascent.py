"""Sampling the prior implicit in a denoiser, freely or given linear measurements.

`ascend` is the coarse-to-fine stochastic ascent of Kadkhodaie & Simoncelli (2021), Algorithms 1 and 2; `recur` reaches
the same quality in a fixed, much smaller number of evaluations. Both are generators of `State`: the caller shows,
records or stops iterating, which is cancelling. `restore` and `sample` drain one.

`recur` conditions every estimate on the measurements, by the denoiser's derivative unless its schedule goes without:
that says how what was measured goes with what was not. `ascend` replaces the measured part of the estimate, as the
paper does, and leaves the rest.

The paper measures without noise. Here the measurements may hold white Gaussian noise, m = Mᵀx + s n, whose level s is
known or estimated (`estimate_noise`). For `recur` that is one more term. In `ascend` the noise of the iterate y
contains that of the measurements, as in SNIPS (Kawar, Vaksman & Elad 2021) and DDNM+ (Wang, Yu & Zhang 2023):

- While σ ≥ s, the measured part of y is m plus white noise of variance σ² - s², which makes σ² with that of m.
- When σ < s, m is a measurement of y with noise of variance s² - σ², and given y it tells nothing more of x. The
  estimate's measured part becomes (1 - κ) Mᵀx̂ + κ m with κ = σ²/s², and white noise of variance σ² - κ²s² makes σ²
  again. At a fixed σ this is Langevin dynamics of p(y | m), preconditioned by 1 - κ in the measured part.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib.checks import check_positive, check_shape
from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import BlockAverage, DenseRows, FourierRows, LinearOperator, Mask, StructuredRows
from invlib.runtime import Batched, on


@dataclass(frozen=True)
class State:
    """One step of a sampler, for `count` samples that run together.

    Attributes
    ----------
    step : 1, 2, ...
    image : y_t, the noisy iterate, (count, C, H, W).
    denoised : the denoiser's estimate of the clean image from the iterate before, made to agree with the measurements
        as closely as their noise allows, (count, C, H, W).
    sigma : effective noise level that was measured before this step, ‖d_t‖ / √N; for `ascend` plus, in quadrature, the
        noise that the measurements put into the iterate; (count,).
    predicted : the noise level that theory predicts (Eq. 5-6) for `ascend`, that the schedule sets for `recur`.
    evaluations : of the denoiser, per sample so far; its derivative counts as another one.
    outcome : None while it runs; in the last state a sentence that says how it ended.
    """

    step: int
    image: Tensor
    denoised: Tensor
    sigma: Tensor
    predicted: float
    evaluations: int
    outcome: str | None = None


@dataclass(frozen=True)
class Schedule:
    """The steps of `recur`: σ^(1/rho) is linear from `sigma_0` to `sigma_L`, one level a step.

    There are as many as the `evaluations` pay for; a larger `rho` spends more of them at low noise. A step at a level
    above `derivative` takes two, the denoiser's and that of its derivative, by which the measurements correct what was
    not measured; the others take one, but if an evaluation is left the first of them takes two.

    `correlation` is that of each step's noise with the noise of the step before, 0 to ½. 0 is the usual recursion; its
    samples have half the posterior's variance, however many evaluations there are, because a denoised image is an
    average and lacks the spread of what it averages. At ½ the spread is that of a Gaussian posterior, up to a part that
    falls as 1 / evaluations: see `recur`.

    `extrapolation` adds to each estimate a part of its change since the one before: ½, for equal steps of log σ, makes
    the recursion of second order (Adams & Bashforth; Lu et al. 2022, DPM-Solver++), so that estimates do not lag behind
    as σ falls. It spreads samples as well: at a fixed σ, with independent noise, the iterate of a Gaussian density
    keeps at least .83 of its variance.

    `antithetic` samples come in pairs, the first and the second, the third and the fourth, whose noise is opposite at
    every step (Hammersley & Morton 1956). Each is distributed as without; but in the average of a pair the errors
    cancel that are proportional to the noise, so that one pair comes as close to the posterior's mean as eight
    independent samples.

    The first steps, at levels above `common`, are taken by the first two samples for all: where the measurements fix
    the coarse picture, estimates from much noise hardly differ.
    """

    evaluations: int = 20
    sigma_0: float = 1.0
    sigma_L: float = 0.01
    rho: float = 3.0
    correlation: float = 0.5
    antithetic: bool = True
    derivative: float = 0.0
    common: float = 1.0
    extrapolation: float = 0.0

    def sigmas(self) -> list[float]:
        """The levels, one per step, falling."""
        check_positive(sigma_0=self.sigma_0, sigma_L=self.sigma_L, rho=self.rho, common=self.common)
        if not 0 <= self.extrapolation <= 1:
            raise ValueError(f"extrapolation must be between 0 and 1, got {self.extrapolation:g}")
        if not self.derivative >= 0:
            raise ValueError(f"derivative must be a noise level, from 0 up, got {self.derivative:g}")
        if self.sigma_L >= self.sigma_0:
            raise ValueError(f"sigma_L ({self.sigma_L:g}) must be below sigma_0 ({self.sigma_0:g})")
        least = 2 if self.sigma_0 > self.derivative else 1
        if self.evaluations < least:
            raise ValueError(f"evaluations must be at least {least}, for one step, got {self.evaluations}")
        spacings = (self.spacing(steps) for steps in itertools.count(1))
        return max(itertools.takewhile(self.affords, spacings), key=len)

    def affords(self, levels: Sequence[float]) -> bool:
        """Whether the evaluations pay for a step at each of the levels."""
        return len(levels) + sum(level > self.derivative for level in levels) <= self.evaluations

    def costs(self) -> list[int]:
        """Evaluations that each step takes: 2 with the denoiser's derivative, which the first ones take, 1 without."""
        steps = len(self.sigmas())
        return [2 if self.evaluations - steps > step else 1 for step in range(steps)]

    def spacing(self, steps: int) -> list[float]:
        """The levels of so many steps."""
        levels = np.linspace(self.sigma_0 ** (1 / self.rho), self.sigma_L ** (1 / self.rho), steps)
        return [float(level) for level in levels**self.rho]

    def leads(self) -> list[float]:
        """How much of the estimate's last change is added to it after each step but the last: 0 after the first."""
        falls = -np.diff(np.log(self.sigmas()))
        return [0.0, *(float(lead) for lead in self.extrapolation * falls[1:] / falls[:-1])]

    def mixing(self) -> tuple[float, float]:
        """Weights of a step's own white noise and of that of the step before, which make the `correlation`."""
        if not 0 <= self.correlation <= 0.5:
            raise ValueError(f"correlation must be between 0 and 0.5, got {self.correlation:g}")
        angle = math.asin(2 * self.correlation) / 2
        return math.cos(angle), math.sin(angle)


@dataclass(frozen=True)
class Step:
    """A row of a run's history: mean over the samples still running."""

    step: int
    sigma: float
    predicted: float
    evaluations: int


@dataclass(frozen=True)
class Restoration:
    """What a run gives.

    Attributes
    ----------
    samples : (count, C, H, W), not clipped.
    mean : their average, the estimate of least squared error, (1, C, H, W).
    std : their pixelwise standard deviation (zero for one sample), (1, C, H, W).
    history : one `Step` per iteration.
    evaluations : of the denoiser, per sample.
    seconds : wall-clock time.
    outcome : a sentence that says how the run ended.
    """

    samples: Tensor
    mean: Tensor
    std: Tensor
    history: list[Step] = field(repr=False)
    evaluations: int
    seconds: float
    outcome: str


def ascend(
    denoiser: Denoiser,
    operator: LinearOperator | None = None,
    measurements: Tensor | None = None,
    *,
    shape: Sequence[int] | None = None,
    h0: float = 0.01,
    beta: float = 0.01,
    sigma_0: float = 1.0,
    sigma_L: float = 0.01,
    count: int = 1,
    seed: int = 0,
    noise: float | None = 0.0,
    interpolate: bool = False,
    max_evaluations: int = 2000,
) -> Iterator[State]:
    """Coarse-to-fine stochastic ascent of the log density implicit in a denoiser.

    Kadkhodaie & Simoncelli (2021), Algorithm 2; Algorithm 1 when there is no operator. Where the density varies slowly,
    a step size h makes the samples' variance 1 - h/2 of what it should be, and h grows. For a Gaussian prior it becomes
    exact as h0 and beta go to 0, if most dimensions hold only noise, because σ_t leaves out the noise that the denoiser
    keeps. That is slow: with block averages and noise .05 the variance is .52 of the posterior's at h0 = beta = .01
    (672 evaluations) and .83 at h0 = .0002, beta = .02 (1284).

    Parameters
    ----------
    denoiser : blind and bias-free.
    operator, measurements : what was measured, `measurements = operator.measure(x)` for one image, plus `noise`. None
        samples the prior.
    shape : (C, H, W) of the samples when there is no operator.
    h0 : first step size, the fraction of the denoiser's correction that is taken, in (0, 1].
    beta : 1 injects no noise; the smaller, the more noise, the slower and the more diverse, in (0, 1].
    sigma_0, sigma_L : noise level of the start and of the end; the image's range is 1.
    count : samples, run as a batch. A sample leaves the batch when it has converged.
    seed : sample i depends on `(seed, i)` only.
    noise : standard deviation of the white Gaussian noise in the measurements, or None to have it estimated by
        `estimate_noise`, whose evaluations are not counted.
    interpolate : go from the first sample of this seed to its second in `count` ≥ 2 samples. All their noise, of the
        start and of every step, is cos θ times that of the one plus sin θ times that of the other, θ evenly from 0 to
        π/2, so it is as white and as strong as ever.
    max_evaluations : give up after this many steps.

    Yields
    ------
    A `State` per step; `denoised` of the last one is the result, one last denoising of the final iterate. Its `outcome`
    says whether the samples converged, hit the cap, or diverged (then the last finite iterate is kept).

    Raises
    ------
    ValueError : a parameter is out of range.
    """
    check_positive(h0=h0, beta=beta, sigma_0=sigma_0, sigma_L=sigma_L, max_evaluations=max_evaluations)
    if h0 > 1 or beta > 1:
        raise ValueError(f"h0 and beta must be at most 1, got h0 = {h0:g} and beta = {beta:g}")
    if sigma_L >= sigma_0:
        raise ValueError(f"sigma_L ({sigma_L:g}) must be below sigma_0 ({sigma_0:g})")
    if interpolate and count < 2:
        raise ValueError(f"count must be at least 2 to interpolate, got {count}")
    mixing = quarter_turn(count) if interpolate else None
    problem = _Problem(denoiser, operator, measurements, shape, count, seed, noise, mixing)

    y = problem.start(sigma_0, problem.white(range(count)))
    x_hat = y.clone()
    sigma = torch.full((count,), sigma_0)
    expected = torch.full((count,), sigma_0, device=problem.device)
    running = torch.arange(count)
    for t, predicted in enumerate(predicted_sigmas(h0, beta, sigma_0), start=1):
        h = step_size(t, h0)
        estimate = problem.denoise(y[running])
        sigma_t = problem.measured_level(estimate, y[running], expected[running])
        following = (1 - beta * h) * sigma_t
        estimate = problem.weigh(estimate, sigma_t, following, h)
        d = estimate - y[running]  # without noise (I - MMᵀ) f(y) + M (m - Mᵀy)

        if diverged(sigma_t, sigma_0):
            message = f"diverged at step {t}: the noise level rises; try a smaller h0 or another prior"
            yield State(t, y, x_hat, sigma, predicted, t, message)
            return
        x_hat[running] = estimate
        sigma[running] = sigma_t.cpu()
        expected[running] = following
        y[running] += h * d + problem.inject(problem.white(running), sigma_t, following, h)
        running = running[sigma[running] > sigma_L]

        outcome = None
        if len(running) == 0:
            outcome = f"converged to σ ≤ {sigma_L:g} in {t + 1} evaluations"
        elif t + 1 >= max_evaluations:
            outcome = f"stopped at the cap of {max_evaluations} evaluations with σ = {float(sigma.max()):.3g}"
        if outcome is not None:
            yield State(t, y, problem.evaluate(y), sigma, predicted, t + 1, outcome)
            return
        # The caller may keep states: each has its own tensors.
        yield State(t, y.clone(), x_hat.clone(), sigma.clone(), predicted, t)


def step_size(t: int, h0: float) -> float:
    """The fraction h_t of the denoiser's correction that step t = 1, 2, ... takes; it grows from h0 towards 1."""
    return h0 * t / (1 + h0 * (t - 1))


def predicted_sigmas(h0: float, beta: float, sigma_0: float) -> Iterator[float]:
    """The noise levels before step 1, 2, ... that Eq. 5-6 predict: σ_t = (1 - β h_t) σ_{t-1}, without end."""
    sigma = sigma_0
    for t in itertools.count(1):
        yield sigma
        sigma *= 1 - beta * step_size(t, h0)


def recur(
    denoiser: Denoiser,
    operator: LinearOperator,
    measurements: Tensor,
    *,
    schedule: Schedule | None = None,
    count: int = 1,
    seed: int = 0,
    noise: float | None = 0.0,
) -> Iterator[State]:
    """Estimate the image from the iterate and the measurements, add noise of the next lower level, and again.

    With y = x + σ n the estimate is E[x | y, m] (`_Problem.condition`). The recursion is that of Wang, Yu & Zhang
    (DDNM, 2023), whose estimate has its measured part replaced and leaves as it was what was not measured: theirs is
    what comes out without the derivative, or for a denoiser that autograd cannot see. For how much that matters see
    experiments/README.md. It needs measurements: nothing else keeps the contrast of a picture from fading, as a
    homogeneous prior likes every multiple equally. Parameters and states as in `ascend`.

    As E[x | y, m] = y + σ² ∇ log p(y | m), with the derivative this is, at a fixed σ, Langevin dynamics with a step as
    large as can be. With `schedule.correlation` ½ it is the scheme of Leimkuhler & Matthews (2013), for which a step of
    any size leaves Gaussian densities as they should be: mean and variance of the samples become those of the posterior
    of a Gaussian prior as the schedule grows longer, with and without noise in the measurements. With independent noise
    the variance tends to half of that.

    schedule : noise levels; `default_schedule(operator, count)` if None.
    """
    schedule = default_schedule(operator, count) if schedule is None else schedule
    levels, leads, (own, earlier) = schedule.sigmas(), schedule.leads(), schedule.mixing()
    mixing = opposites(count) if schedule.antithetic else None
    problem = _Problem(denoiser, operator, measurements, None, count, seed, noise, mixing)

    def distinct(level: float) -> int:
        return count if level <= schedule.common else min(count, 2)

    white = repeat(problem.white(range(distinct(levels[0]))), count)
    y = last = problem.start(levels[0], white)
    evaluations = 0
    for t, (level, cost) in enumerate(zip(levels, schedule.costs(), strict=True), start=1):
        estimate = problem.condition if cost == 2 else problem.replace
        x_hat = repeat(estimate(y[: distinct(level)], level), count)
        evaluations += cost
        sigma = (x_hat - y).square().mean((1, 2, 3)).sqrt().cpu()
        if diverged(sigma, levels[0]):
            message = f"diverged at step {t}: the noise level rises; try another prior"
            yield State(t, y, y, sigma, level, evaluations, message)
            return
        if t == len(levels):
            yield State(t, x_hat, x_hat, sigma, level, evaluations, f"finished its {evaluations} evaluations")
            return
        before, white = white, repeat(problem.white(range(distinct(levels[t]))), count)
        y = x_hat + leads[t - 1] * (x_hat - last) + levels[t] * (own * white + earlier * before)
        last = x_hat
        yield State(t, y, x_hat, sigma, level, evaluations)


def estimate_noise(denoiser: Denoiser, operator: LinearOperator, measurements: Tensor, *, seed: int = 0) -> float:
    """Standard deviation of the white Gaussian noise in measurements.

    One sample descends from σ = 1 to .01 with its measured part fixed to the measurements, so that at every level σ
    the rest of the picture is as noisy as σ and the measured part as noisy as the measurements. What the denoiser takes
    away from the n measured numbers, r² = ‖m - Mᵀx̂‖², falls short of their noise n s² by the factor 1 - c, where
    c = tr(Mᵀ ∂x̂/∂y M) / n is the slope of its response there; so s is r / √(n (1 - c)) once σ has come down to it. The
    slope is probed by one small random change, as in Monte-Carlo SURE (Ramani, Blu & Unser 2008), so a level costs two
    evaluations.

    Detail that the denoiser cannot tell from noise adds to the estimate. Measured on two 96×96 pictures with the colour
    U-Net: for a hole, half of the pixels, a blur or a factor of 2 it is within 7 % from .05 up and at most .012 without
    noise; factor 4 or a tenth of the frequencies add up to a third at .05 and a tenth at .1, and read .01 to .02
    without noise; a quarter of the random rows up to a half and a sixth, and .01 to .05; a tenth of the pixels or of
    the random rows up to as much again and a third, and .01 to .08: give the level for those if you can.

    Parameters
    ----------
    denoiser, operator, measurements : as in `ascend`.
    seed : of the descent.

    Returns
    -------
    The level; 0 if it is below .01, where the samplers stop.
    """
    problem = _Problem(denoiser, operator, measurements, None, 1, seed)
    exactly = torch.ones(1, device=problem.device)
    x_hat = torch.full((1, *problem.shape), 0.5, device=problem.device)
    above: tuple[float, float] | None = None  # the level before, and the estimate there less that level
    # Where the picture has to form, too few levels leave errors that look like noise.
    levels = 20 if isinstance(operator, BlockAverage | FourierRows) else 60
    for level in Schedule().spacing(levels):
        y = problem.impose(x_hat + level * problem.white([0]), exactly)
        probe = 0.1 * level * problem.project(problem.white([0]))
        x_hat, moved = problem.evaluate(torch.cat([y, y + probe])).split(1)
        slope = float(((moved - x_hat) * probe).sum() / probe.square().sum())
        residual = float(problem.project(y - x_hat).square().sum()) / operator.measured
        # A response that keeps all of the measured part tells nothing of its noise.
        excess = math.sqrt(residual / max(1 - slope, 0.01)) - level
        if excess >= 0:
            if above is None:
                return level + excess
            higher, lack = above
            return level + (higher - level) * excess / (excess - lack)
        above = level, excess
    return 0.0


def diverged(sigma: Tensor, sigma_0: float) -> bool:
    """Whether a noise level is far above that of the start, or not a number."""
    return not float(sigma.max()) < 10 * sigma_0


SAMPLERS: dict[str, Callable[..., Iterator[State]]] = {"fast": recur, "paper": ascend}


def default_schedule(operator: LinearOperator, count: int = 8) -> Schedule:
    """As few evaluations as lose little, and noise that lets `count` samples spread as far as their average errs.

    A sample that stands alone has no spread to show; it is the closest to the truth with neither correlation nor
    extrapolation.

    Thirteen or fourteen do where the measurements fix the coarse picture (block averages, low frequencies): eight
    steps, as little fine detail is left to find below a noise of .03, and the derivative changes little below .12. The
    steps above .4 are common to all samples, and extrapolation is better than correlation. Where the picture has to
    form it takes forty or sixty, where the paper's settings take three to five hundred for a worse average
    (experiments/README.md). The least-squares estimate of random rows is off by nearly white noise, no larger than the
    picture's contrast, so their recursion starts there. Where most pixels are known, those around a hole already say
    what belongs in it: the derivative does not pay. There independent noise makes samples spread half as far as they
    err, and with all of the correlation they err more than the paper's: half of it.
    """
    correlation = 0.0 if count == 1 else Schedule.correlation
    match operator:
        case BlockAverage() | FourierRows() if count == 1:
            return Schedule(13, sigma_L=0.03, correlation=0.0, derivative=0.15)
        case BlockAverage() | FourierRows():
            return Schedule(14, sigma_L=0.03, correlation=0.0, derivative=0.12, common=0.4, extrapolation=0.5)
        case StructuredRows() | DenseRows():
            return Schedule(40, sigma_0=0.5, rho=5, correlation=correlation)
        case Mask() if operator.measured > math.prod(operator.image_shape) / 2:
            return Schedule(60, correlation=correlation / 2, derivative=1.0)
        case _:
            return Schedule(60, correlation=correlation)


def restore(
    denoiser: Denoiser,
    operator: LinearOperator,
    measurements: Tensor,
    *,
    sampler: str = "fast",
    count: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Restoration:
    """Draw `count` samples from the prior that agree with the measurements.

    Parameters
    ----------
    denoiser, operator, measurements, count, seed : as in `ascend`.
    sampler : "fast" (`recur`) or "paper" (`ascend`).
    settings : further arguments of the sampler: `noise`, that of the measurements, and `schedule`, or `h0`, `beta`,
        `sigma_0`, `sigma_L`, `interpolate`, `max_evaluations`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; choose one of {', '.join(SAMPLERS)}")
    return collect(SAMPLERS[sampler](denoiser, operator, measurements, count=count, seed=seed, **settings))


def posterior_mean(
    denoiser: Denoiser,
    operator: LinearOperator,
    measurements: Tensor,
    *,
    seed: int = 0,
    noise: float | None = 0.0,
) -> Restoration:
    """Estimate the posterior's mean, in a quarter to two fifths of the time that eight samples take.

    By the average of one antithetic pair, whose errors of first order cancel, with nothing that spreads the two: no
    correlation and no extrapolation. It is .1 to .3 dB below the average of eight, for holes above it
    (experiments/README.md).

    Parameters
    ----------
    denoiser, operator, measurements, seed, noise : as in `ascend`.

    Returns
    -------
    The estimate is `mean`. The two samples differ by less than samples of the posterior do, so `std` is not its spread.
    """
    schedule = replace(default_schedule(operator, 2), correlation=0.0, extrapolation=0.0)
    return restore(denoiser, operator, measurements, count=2, seed=seed, noise=noise, schedule=schedule)


def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    *,
    beta: float = 0.5,
    count: int = 1,
    seed: int = 0,
    **settings: Any,
) -> Restoration:
    """Draw `count` images of `shape` (C, H, W) from the prior alone (Algorithm 1). Parameters as in `ascend`.

    Without measurements β matters more: with more noise (a smaller β) the contrast of samples fades, with less their
    parts do not cohere.
    """
    return collect(ascend(denoiser, shape=shape, beta=beta, count=count, seed=seed, **settings))


def collect(states: Iterable[State]) -> Restoration:
    """Run a sampler to its end."""
    started = time.perf_counter()
    history: list[Step] = []
    state = None
    for state in states:
        history.append(Step(state.step, float(state.sigma.mean()), state.predicted, state.evaluations))
    if state is None or state.outcome is None:
        raise ValueError("the sampler stopped before its end, so there is no result to collect")
    return Restoration(
        samples=state.denoised,
        mean=state.denoised.mean(0, keepdim=True),
        std=state.denoised.std(0, keepdim=True, correction=min(1, len(state.denoised) - 1)),
        history=history,
        evaluations=state.evaluations,
        seconds=time.perf_counter() - started,
        outcome=state.outcome,
    )


Level = Tensor | float
"""A noise level of all images, or of each of them."""


MISFIT = 2.0
"""By how much an estimate may miss the measurements for the denoiser's derivative to be trusted: the mean square of
what is missing, in units of the noise's variance, that in the iterate and that in the measurements. 1, and as much
again for chance and for a noise level that is not quite right."""


class _Problem:
    """A denoiser with or without measurements: where a sampler starts, its estimates, its noise."""

    def __init__(
        self,
        denoiser: Denoiser,
        operator: LinearOperator | None,
        measurements: Tensor | None,
        shape: Sequence[int] | None,
        count: int,
        seed: int,
        noise: float | None = 0.0,
        mixing: Tensor | None = None,
    ) -> None:
        """`mixing` (count, streams): the noise of sample i is that of the streams, with the weights mixing[i]."""
        if (operator is None) != (measurements is None):
            raise ValueError("give the operator and its measurements together, or neither")
        if operator is None and shape is None:
            raise ValueError("give the shape (C, H, W) of the samples, or an operator and its measurements")
        if operator is None and noise != 0:
            raise ValueError(f"noise is that of the measurements, and there are none: leave it 0, got {noise}")
        if noise is not None and not 0 <= noise < math.inf:
            raise ValueError(f"noise must be a number from 0 up, or None to have it estimated, got {noise}")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.shape = check_shape(operator.image_shape if operator is not None else shape or ())
        if self.shape[0] != denoiser.channels:
            raise ValueError(
                f"the prior is for images of {denoiser.channels} channels, and the image has shape {self.shape}"
            )
        self.device = next(denoiser.parameters(), torch.empty(0)).device
        self.count = count
        self.denoiser = denoiser
        self.evaluate_noise = Batched(denoiser)
        self.condition_some = Batched(self._condition)
        self.operator = None if operator is None else on(operator, self.device)
        self.measured = 0 if operator is None else operator.measured
        self.measurements = torch.empty(0) if measurements is None else measurements.to(self.device)
        if not bool(torch.isfinite(self.measurements).all()):
            raise ValueError("the measurements hold numbers that are not finite")
        # One stream of noise per sample, so that sample 3 of 8 equals sample 3 of 4; or some that samples share.
        self.mixing = None if mixing is None else mixing.to(self.device)
        streams = count if mixing is None else mixing.shape[1]
        seeds = (np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] for index in range(streams))
        self.generators = [torch.Generator(self.device).manual_seed(int(number)) for number in seeds]
        if noise is None and operator is not None and measurements is not None:
            noise = estimate_noise(denoiser, operator, measurements, seed=seed)
        self.noise = noise or 0.0

    def start(self, sigma_0: float, white: Tensor) -> Tensor:
        """y_0 ~ N(½ (1 - MMᵀ1) + M m, σ_0² I): grey where nothing was measured."""
        mean = torch.full((1, *self.shape), 0.5, device=self.device)
        return self.impose(mean, self.weight(sigma_0)) + self.inject(white, sigma_0, sigma_0)

    def white(self, indices: Iterable[int]) -> Tensor:
        """White Gaussian noise of some of the samples: (len(indices), C, H, W)."""
        if self.mixing is None:
            return self.draw(self.generators[index] for index in indices)
        # All streams move on at every step, whichever samples are left.
        weights = self.mixing[[int(index) for index in indices]]
        return torch.einsum("is,schw->ichw", weights, self.draw(self.generators))

    def draw(self, generators: Iterable[torch.Generator]) -> Tensor:
        """The next noise of each stream: (number of streams, C, H, W)."""
        return torch.stack(
            [torch.randn(self.shape, generator=generator, device=self.device) for generator in generators]
        )

    def evaluate(self, y: Tensor) -> Tensor:
        """The denoiser's estimate of the clean image, x̂ = y + f(y)."""
        return y - self.evaluate_noise(y)

    def denoise(self, y: Tensor) -> Tensor:
        """The estimate; if what was measured is without noise, that replaces the measured part: x̂ + M (m - Mᵀx̂).

        Less y, this is the gradient of Eq. 7, (I - MMᵀ) f(y) + M (m - Mᵀy), with one product less.
        """
        x_hat = self.evaluate(y)
        return x_hat if self.noise else self.impose(x_hat, torch.ones(1, device=self.device))

    def condition(self, y: Tensor, sigma: float) -> Tensor:
        """The mean of x given the measurements and y = x + σ n: E[x | y, m].

        Given y, x has the mean x̂(y) and the covariance C = σ² ∂x̂/∂y (Efron 2011). If p(x | y) is Gaussian, the mean
        given m as well is x̂ + C M v, where (MᵀC M + s²) v = m - Mᵀx̂ (Rozet et al. 2024). Here v is one step of
        steepest descent from zero, which takes one product with C, and the rest is as if C were σ²: without noise the
        result agrees with the measurements exactly. All of it is, if x̂ misses them by more than the noise allows.
        """
        return self.condition_some(y, sigma)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _condition(self, y: Tensor, sigma: float) -> Tensor:
        y = y.clone().requires_grad_()
        x_hat = y - self.denoiser(y)
        missing = self.missing(x_hat.detach())
        # An exact denoiser's derivative is symmetric: the gradient of ⟨x̂, r⟩ is its product with r. With r as an
        # argument of its own PyTorch would load sympy, half a second, the first time.
        (gradient,) = torch.autograd.grad(inner(x_hat, missing).sum(), y)
        towards = sigma**2 * gradient
        explained = self.project(towards) + self.noise**2 * missing
        energy, total = inner(missing, missing), sigma**2 + self.noise**2
        # The least counts where the derivative is next to nothing, or not that of an exact denoiser.
        length = energy / torch.maximum(inner(missing, explained), 1e-3 * total * energy).clamp_min(1e-30)
        # An exact denoiser's estimate misses the measurements by no more than the noise. Where this one's does, because
        # it takes fine texture for noise, what its derivative adds would make that worse from step to step.
        length = torch.where(energy <= MISFIT * self.measured * total, length, 0.0)
        return x_hat.detach() + length * towards + sigma**2 / total * (missing - length * explained)

    def replace(self, y: Tensor, sigma: float) -> Tensor:
        """The same as if C were σ²: what was measured corrects itself only. x̂ + σ² / (σ² + s²) M (m - Mᵀx̂)."""
        return self.impose(self.evaluate(y), self.level(sigma**2 / (sigma**2 + self.noise**2)))

    def weigh(self, x_hat: Tensor, sigma: Level, following: Level, h: float = 1) -> Tensor:
        """The estimate with its measured part weighed with noisy measurements.

        A step of the fraction `h` from level `sigma` towards the result leaves (1 - h) κ(σ) of the measurements in the
        iterate. Their weight here makes that up to the κ of the `following` level.
        """
        if not self.noise:
            return x_hat
        return self.impose(x_hat, ((self.weight(following) - (1 - h) * self.weight(sigma)) / h).clamp_min(0))

    def measured_level(self, x_hat: Tensor, y: Tensor, expected: Level) -> Tensor:
        """σ_t = ‖d_t‖ / √N with the measurements' own noise in y, which d_t does not show, as it is expected: (n,)."""
        weight = self.weight(expected)
        d = (self.impose(x_hat, weight) if self.noise else x_hat) - y
        share = self.measured / math.prod(self.shape)
        return (d.square().mean((1, 2, 3)) + share * (weight * self.noise).square()).sqrt()

    def inject(self, white: Tensor, sigma: Level, following: Level, h: float = 1) -> Tensor:
        """Noise that takes what a step of the fraction `h` leaves of the level `sigma` to the `following` level."""

        def missing(before: Tensor, after: Tensor) -> Tensor:
            return (after.square() - ((1 - h) * before).square()).clamp_min(0).sqrt().view(-1, 1, 1, 1)

        gamma = missing(self.level(sigma), self.level(following))
        if not self.noise:
            return gamma * white
        measured = missing(self.added(sigma), self.added(following))
        return gamma * white + (measured - gamma) * self.project(white)

    def impose(self, image: Tensor, weight: Tensor) -> Tensor:
        """The image with κ of its measured part from the measurements: x + κ M (m - Mᵀx), with κ (1,) or (n,)."""
        return image + weight.view(-1, 1, 1, 1) * self.missing(image)

    def missing(self, image: Tensor) -> Tensor:
        """What the image lacks of the measurements, M (m - Mᵀx)."""
        if self.operator is None:
            return torch.zeros_like(image)
        return self.operator.adjoint(self.measurements - self.operator.measure(image))

    def project(self, image: Tensor) -> Tensor:
        """The part of the images that is measured."""
        return torch.zeros_like(image) if self.operator is None else self.operator.project(image)

    def level(self, sigma: Level) -> Tensor:
        """A noise level, one for all images or one for each, as a tensor (1,) or (n,)."""
        return torch.as_tensor(sigma, device=self.device).view(-1)

    def weight(self, sigma: Level) -> Tensor:
        """κ = min(1, σ² / s²), (1,) or (n,)."""
        level = self.level(sigma)
        return (level / self.noise).square().clamp_max(1) if self.noise else torch.ones_like(level)

    def added(self, sigma: Level) -> Tensor:
        """√(σ² - κ² s²): how much noise the measured part has besides that of the measurements, (1,) or (n,)."""
        return (self.level(sigma).square() - (self.weight(sigma) * self.noise).square()).clamp_min(0).sqrt()


def quarter_turn(count: int) -> Tensor:
    """Weights (cos θ, sin θ) with θ evenly from 0 to π/2, exactly (1, 0) at first and (0, 1) at last: (count, 2)."""
    sine = torch.linspace(0, math.pi / 2, count, dtype=torch.float64).sin().float()
    return torch.stack([sine.flip(0), sine], dim=1)


def opposites(count: int) -> Tensor:
    """Weights for pairs of samples with opposite noise: (count, ⌈count / 2⌉), for `count` = 3 1 0, -1 0, 0 1."""
    pairs = torch.eye(math.ceil(count / 2))
    return torch.stack([pairs, -pairs], dim=1).flatten(0, 1)[:count]


def repeat(images: Tensor, count: int) -> Tensor:
    """`count` images: these, in turns."""
    return images if len(images) == count else images[torch.arange(count) % len(images)]


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each image of one batch with that of the other: (n, 1, 1, 1)."""
    return (a * b).sum((1, 2, 3), keepdim=True)
