"""Restoring a picture in one call: `restore`, `sample` and `posterior_mean` drain a sampler."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import LinearOperator
from invlib.runtime import own_defaults
from invlib.solvers.methods import default_schedule
from invlib.solvers.noise_level import estimate_noise
from invlib.solvers.posterior import Level, Posterior
from invlib.solvers.samplers import State, ascend, mean_of_all, reverse_diffusion, sample_fast
from invlib.solvers.schedules import Ascent, Reverse


@dataclass(frozen=True)
class Step:
    """A row of a run's history: means over the samples."""

    step: int
    sigma: float
    predicted: float
    evaluations: int


@dataclass(frozen=True)
class Restoration:
    """What a sampler gives.

    Attributes
    ----------
    samples : (count, C, H, W), not clipped.
    mean : their average, the estimate of least squared error, (1, C, H, W).
    std : their pixelwise standard deviation, zero for one sample, (1, C, H, W).
    history : one `Step` for each iteration.
    evaluations : of the denoiser, for each sample.
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


def restore(
    denoiser: Denoiser,
    operator: LinearOperator,
    measurements: Tensor,
    *,
    sampler: str | None = None,
    count: int = 1,
    seed: int = 0,
    noise: Level | None = 0.0,
    **settings: Any,
) -> Restoration:
    """Draw `count` samples from the prior that agree with the measurements.

    Parameters
    ----------
    denoiser : blind and bias-free.
    operator, measurements : what was measured, `measurements = operator.measure(x)` for one image, plus `noise`.
    sampler : "reverse" (`reverse_diffusion`), "fast" (`sample_fast`) or "paper" (`ascend`). By default it is the first
        one if the denoiser can be told what was measured, else the second.
    count : how many samples, which run as a batch.
    seed : sample i depends on `(seed, i)` only.
    noise : standard deviation of the white Gaussian noise in the picture that was measured, a tensor of one level for
        each measurement, or None to have it estimated by `estimate_noise`, whose evaluations are not counted.
    settings : of the sampler: `schedule` of the fast one, or the fields of `Reverse`, or of `Ascent` for the paper's.

    Raises
    ------
    ValueError : a parameter is out of range, or shapes do not match.

    Examples
    --------
    >>> import invlib, torch
    >>> operator = invlib.BlockAverage((1, 28, 28), factor=2)
    >>> result = invlib.restore(invlib.load("bf-cnn-mnist"), operator, torch.rand(1, 1, 14, 14), count=2)
    >>> result.samples.shape, result.evaluations
    (torch.Size([2, 1, 28, 28]), 14)
    """
    if noise is None:
        noise = estimate_noise(denoiser, operator, measurements, seed=seed)
    posterior = Posterior(denoiser, operator, measurements, noise)
    return collect(states(posterior, sampler, count, seed, **settings), operator.crop)


def states(posterior: Posterior, sampler: str | None, count: int, seed: int, **settings: Any) -> Iterator[State]:
    """A sampler by name, ready to run; ValueError for an unknown one."""
    match sampler or ("reverse" if posterior.told else "fast"):
        case "reverse":
            return reverse_diffusion(posterior, Reverse(**settings), count=count, seed=seed)
        case "paper":
            interpolate = settings.pop("interpolate", False)
            return ascend(posterior, Ascent(**settings), count=count, seed=seed, interpolate=interpolate)
        case "fast":
            schedule = settings.pop("schedule", None)
            if schedule is None and posterior.operator is not None:
                schedule = default_schedule(posterior.operator, count)
            return sample_fast(posterior, schedule, count=count, seed=seed, **settings)
        case _:
            raise ValueError(f"unknown sampler {sampler!r}; choose one of reverse, fast, paper")


def posterior_mean(
    denoiser: Denoiser, operator: LinearOperator, measurements: Tensor, *, seed: int = 0, noise: Level | None = 0.0
) -> Restoration:
    """Estimate the posterior's mean, 2.5 to 4 times faster than eight samples do; parameters are as in `restore`.

    A denoiser that can be told what was measured gives it in one evaluation (`mean_of_all`). With any other, the
    estimate, `mean` of the result, is the average of one antithetic pair, whose errors of first order cancel, with
    nothing that spreads the two: no correlation and no extrapolation. So `std` is less than the posterior's spread.
    The estimate is 0.1 to 0.3 dB below the average of eight samples, and above it for holes (docs/results.md).
    """
    if denoiser.told and operator.smooth:
        if noise is None:
            noise = estimate_noise(denoiser, operator, measurements, seed=seed)
        return collect(only_mean(Posterior(denoiser, operator, measurements, noise)), operator.crop)
    schedule = replace(default_schedule(operator, 2), correlation=0.0, extrapolation=0.0)
    return restore(denoiser, operator, measurements, sampler="fast", count=2, seed=seed, noise=noise, schedule=schedule)


def only_mean(posterior: Posterior) -> Iterator[State]:
    """`mean_of_all` as the only step of a sampler."""
    mean = mean_of_all(posterior)
    yield State(1, mean, mean, torch.zeros(1), 0.0, 1, "finished its only evaluation")


def sample(
    denoiser: Denoiser,
    shape: Sequence[int],
    *,
    beta: float = 0.5,
    count: int = 1,
    seed: int = 0,
    interpolate: bool = False,
    **settings: Any,
) -> Restoration:
    """Draw `count` images of `shape` (C, H, W) from the prior alone (Algorithm 1).

    `beta` and `settings` are fields of `Ascent`; `count`, `seed` and `interpolate` are as in `ascend`. Without
    measurements β matters more: with more noise (a smaller β) the contrast of samples fades, with less their parts do
    not cohere.
    """
    posterior = Posterior(denoiser, shape=shape)
    return collect(ascend(posterior, Ascent(beta=beta, **settings), count=count, seed=seed, interpolate=interpolate))


@own_defaults
def collect(states: Iterable[State], crop: Callable[[Tensor], Tensor] = lambda images: images) -> Restoration:
    """Run a sampler to its end, and crop the samples; ValueError if it was stopped before."""
    started = time.perf_counter()
    history: list[Step] = []
    state = None
    for state in states:
        history.append(Step(state.step, float(state.sigma.mean()), state.predicted, state.evaluations))
    if state is None or state.outcome is None:
        raise ValueError("the sampler stopped before its end, so there is no result to collect")
    samples = crop(state.denoised)
    return Restoration(
        samples=samples,
        mean=samples.mean(0, keepdim=True),
        std=samples.std(0, keepdim=True, correction=min(1, len(samples) - 1)),
        history=history,
        evaluations=state.evaluations,
        seconds=time.perf_counter() - started,
        outcome=state.outcome,
    )
