"""Sampling the prior implicit in a denoiser, freely or given linear measurements.

`ascend` is the coarse-to-fine stochastic ascent of Kadkhodaie & Simoncelli (2021), Algorithms 1 and 2; `recur` reaches
the same quality in a fixed, much smaller number of evaluations. Both are generators of `State`: the caller shows,
records or stops iterating, which is cancelling. `restore` and `sample` drain one.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib.denoisers import Denoiser
from invlib.operators import BlockAverage, DenseRows, FourierRows, LinearOperator, StructuredRows, check_shape
from invlib.runtime import Batched


@dataclass(frozen=True)
class State:
    """One step of a sampler, for `count` samples that run together.

    Attributes
    ----------
    step : 1, 2, ...
    image : y_t, the noisy iterate, (count, C, H, W).
    denoised : the denoiser's estimate of the clean image from the iterate before, made to agree with the measurements,
        (count, C, H, W).
    sigma : effective noise level that was measured before this step, ‖d_t‖ / √N, (count,).
    predicted : the noise level that theory predicts (Eq. 5-6) for `ascend`, that the schedule sets for `recur`.
    evaluations : denoiser calls per sample so far.
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
    """Noise levels for `recur`: σ^(1/rho) is linear from `sigma_0` to `sigma_L`.

    A larger `rho` spends more of the evaluations at low noise.
    """

    evaluations: int = 20
    sigma_0: float = 1.0
    sigma_L: float = 0.01
    rho: float = 3.0

    def sigmas(self) -> list[float]:
        """The levels, one per evaluation, falling."""
        check_positive(evaluations=self.evaluations, sigma_0=self.sigma_0, sigma_L=self.sigma_L, rho=self.rho)
        if self.sigma_L >= self.sigma_0:
            raise ValueError(f"sigma_L ({self.sigma_L:g}) must be below sigma_0 ({self.sigma_0:g})")
        levels = np.linspace(self.sigma_0 ** (1 / self.rho), self.sigma_L ** (1 / self.rho), self.evaluations)
        return [float(level) for level in levels**self.rho]


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
    evaluations : denoiser calls per sample.
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
    interpolate: bool = False,
    max_evaluations: int = 2000,
) -> Iterator[State]:
    """Coarse-to-fine stochastic ascent of the log density implicit in a denoiser.

    Kadkhodaie & Simoncelli (2021), Algorithm 2; Algorithm 1 when there is no operator.

    Parameters
    ----------
    denoiser : blind and bias-free.
    operator, measurements : what was measured, `measurements = operator.measure(x)` for one image. None samples the
        prior.
    shape : (C, H, W) of the samples when there is no operator.
    h0 : first step size, the fraction of the denoiser's correction that is taken, in (0, 1].
    beta : 1 injects no noise; the smaller, the more noise, the slower and the more diverse, in (0, 1].
    sigma_0, sigma_L : noise level of the start and of the end; the image's range is 1.
    count : samples, run as a batch. A sample leaves the batch when it has converged.
    seed : sample i depends on `(seed, i)` only.
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
    problem = _Problem(denoiser, operator, measurements, shape, count, seed, interpolate)

    y = problem.start(sigma_0)
    x_hat = y.clone()
    sigma = torch.full((count,), sigma_0)
    running = torch.arange(count)
    for t, predicted in enumerate(predicted_sigmas(h0, beta, sigma_0), start=1):
        h = step_size(t, h0)
        estimate = problem.denoise(y[running])
        d = estimate - y[running]  # (I - MMᵀ) f(y) + M (m - Mᵀy)
        sigma_t = d.square().mean((1, 2, 3)).sqrt()
        gamma = math.sqrt((1 - beta * h) ** 2 - (1 - h) ** 2) * sigma_t

        if diverged(sigma_t, sigma_0):
            message = f"diverged at step {t}: the noise level rises; try a smaller h0 or another prior"
            yield State(t, y, x_hat, sigma, predicted, t, message)
            return
        x_hat[running] = estimate
        sigma[running] = sigma_t.cpu()
        y[running] += h * d + gamma.view(-1, 1, 1, 1) * problem.noise(running)
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
) -> Iterator[State]:
    """Denoise, impose the measurements, add fresh noise of the next lower level, and again.

    The recursion of Wang, Yu & Zhang (DDNM, 2023), which needs no noise level as input here because the denoiser is
    blind: a bias-free network scales with its input. It needs measurements: nothing else keeps the contrast of a
    picture from fading, as a homogeneous prior likes every multiple equally. Parameters and states as in `ascend`.

    schedule : noise levels; `default_schedule(operator)` if None.
    """
    schedule = default_schedule(operator) if schedule is None else schedule
    problem = _Problem(denoiser, operator, measurements, None, count, seed)
    levels = schedule.sigmas()

    y = problem.start(levels[0])
    for t, level in enumerate(levels, start=1):
        x_hat = problem.denoise(y)
        sigma = (x_hat - y).square().mean((1, 2, 3)).sqrt().cpu()
        if diverged(sigma, levels[0]):
            yield State(t, y, y, sigma, level, t, f"diverged at step {t}: the noise level rises; try another prior")
            return
        if t == len(levels):
            yield State(t, x_hat, x_hat, sigma, level, t, f"finished its {t} evaluations")
            return
        y = x_hat + levels[t] * problem.noise(range(count))
        yield State(t, y, x_hat, sigma, level, t)


def diverged(sigma: Tensor, sigma_0: float) -> bool:
    """Whether a noise level is far above that of the start, or not a number."""
    return not float(sigma.max()) < 10 * sigma_0


SAMPLERS: dict[str, Callable[..., Iterator[State]]] = {"fast": recur, "paper": ascend}


def default_schedule(operator: LinearOperator) -> Schedule:
    """As few evaluations as lose nothing.

    Twenty do where the measurements fix the coarse picture (block averages, low frequencies); where it has to form, it
    wants about a hundred. The least-squares estimate of random rows is off by nearly white noise, about as large as the
    picture's contrast, so their ascent starts at that level.
    """
    match operator:
        case BlockAverage() | FourierRows():
            return Schedule(20)
        case StructuredRows() | DenseRows():
            return Schedule(100, sigma_0=0.3, rho=5)
        case _:
            return Schedule(100)


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
    settings : further arguments of the sampler: `schedule`, or `h0`, `beta`, `sigma_0`, `sigma_L`, `interpolate`,
        `max_evaluations`.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}; choose one of {', '.join(SAMPLERS)}")
    return collect(SAMPLERS[sampler](denoiser, operator, measurements, count=count, seed=seed, **settings))


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
        interpolate: bool = False,
    ) -> None:
        if (operator is None) != (measurements is None):
            raise ValueError("give the operator and its measurements together, or neither")
        if operator is None and shape is None:
            raise ValueError("give the shape (C, H, W) of the samples, or an operator and its measurements")
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if interpolate and count < 2:
            raise ValueError(f"count must be at least 2 to interpolate, got {count}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.shape = check_shape(operator.image_shape if operator is not None else shape or ())
        if self.shape[0] != denoiser.channels:
            raise ValueError(
                f"the prior is for images of {denoiser.channels} channels, and the image has shape {self.shape}"
            )
        self.device = next(denoiser.parameters(), torch.empty(0)).device
        self.count = count
        self.evaluate_noise = Batched(denoiser)
        self.operator = None if operator is None else operator.to(self.device)
        self.measurements = torch.empty(0) if measurements is None else measurements.to(self.device)
        if not bool(torch.isfinite(self.measurements).all()):
            raise ValueError("the measurements hold numbers that are not finite")
        # One stream of noise per sample, so that sample 3 of 8 equals sample 3 of 4; or two that all samples share.
        self.mixing = quarter_turn(count).to(self.device) if interpolate else None
        streams = range(2 if interpolate else count)
        seeds = (np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] for index in streams)
        self.generators = [torch.Generator(self.device).manual_seed(int(number)) for number in seeds]

    def start(self, sigma_0: float) -> Tensor:
        """y_0 ~ N(½ (1 - MMᵀ1) + M m, σ_0² I): grey where nothing was measured."""
        mean = torch.full((1, *self.shape), 0.5, device=self.device)
        if self.operator is not None:
            mean = mean - self.operator.project(mean) + self.operator.adjoint(self.measurements)
        return mean + sigma_0 * self.noise(range(self.count))

    def noise(self, indices: Iterable[int]) -> Tensor:
        """White Gaussian noise of some of the samples: (len(indices), C, H, W)."""
        if self.mixing is None:
            return self.draw(self.generators[index] for index in indices)
        # Both streams move on at every step, whichever samples are left.
        first, second = self.draw(self.generators)
        weights = self.mixing[[int(index) for index in indices]].view(-1, 2, 1, 1, 1)
        return weights[:, 0] * first + weights[:, 1] * second

    def draw(self, generators: Iterable[torch.Generator]) -> Tensor:
        """The next noise of each stream: (number of streams, C, H, W)."""
        return torch.stack(
            [torch.randn(self.shape, generator=generator, device=self.device) for generator in generators]
        )

    def evaluate(self, y: Tensor) -> Tensor:
        """The denoiser's estimate of the clean image, x̂ = y + f(y)."""
        return y - self.evaluate_noise(y)

    def denoise(self, y: Tensor) -> Tensor:
        """The estimate with its measured part replaced by what was measured: x̂ + M (m - Mᵀx̂).

        Less y, this is the gradient of Eq. 7, (I - MMᵀ) f(y) + M (m - Mᵀy), with one product less.
        """
        x_hat = self.evaluate(y)
        if self.operator is None:
            return x_hat
        return x_hat + self.operator.adjoint(self.measurements - self.operator.measure(x_hat))


def quarter_turn(count: int) -> Tensor:
    """Weights (cos θ, sin θ) with θ evenly from 0 to π/2, exactly (1, 0) at first and (0, 1) at last: (count, 2)."""
    sine = torch.linspace(0, math.pi / 2, count, dtype=torch.float64).sin().float()
    return torch.stack([sine.flip(0), sine], dim=1)


def check_positive(**parameters: float) -> None:
    """Raise a ValueError that names the first parameter that is not a positive number."""
    for name, value in parameters.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number, got {value}")
