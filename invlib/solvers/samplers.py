"""Drawing samples from a posterior: `ascend`, the paper's algorithm, and two that take few evaluations.

`sample_fast` takes any denoiser, and `reverse_diffusion` one that is told what was measured. All are generators of
`State`. The caller shows or records the states; to stop iterating is to cancel.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from invlib.runtime import own_defaults
from invlib.solvers.posterior import Posterior
from invlib.solvers.schedules import Ascent, Reverse, Schedule, predicted_sigmas, step_size
from invlib.solvers.streams import Streams, opposites, quarter_turn


@dataclass(frozen=True)
class State:
    """One step of a sampler, for `count` samples that run together.

    Attributes
    ----------
    step : 1, 2, ...
    image : y_t, the noisy iterate, (count, C, H, W).
    denoised : the denoiser's estimate of the clean image from the iterate before, made to agree with the measurements
        as closely as their noise allows, (count, C, H, W).
    sigma : the noise level that was measured before this step, ‖d_t‖ / √N, (count,). For `ascend` it includes, in
        quadrature, the noise that the measurements put into the iterate.
    predicted : the noise level that theory predicts (Eq. 5-6) for `ascend`, or that the schedule sets for
        `sample_fast`.
    evaluations : of the denoiser, for each sample, so far; its derivative counts as another one.
    outcome : None while the sampler runs; in the last state a sentence that says how it ended.
    """

    step: int
    image: Tensor
    denoised: Tensor
    sigma: Tensor
    predicted: float
    evaluations: int
    outcome: str | None = None


@own_defaults
def ascend(
    posterior: Posterior, settings: Ascent | None = None, *, count: int = 1, seed: int = 0, interpolate: bool = False
) -> Iterator[State]:
    """Coarse-to-fine stochastic ascent of the log density implicit in a denoiser.

    Kadkhodaie & Simoncelli (2021), Algorithm 2; Algorithm 1 if nothing was measured. Where the density varies slowly, a
    step size h makes the samples' variance 1 - h/2 of what it should be, and h grows. For a Gaussian prior it becomes
    exact as h₀ and β go to 0, if most dimensions hold only noise, because σ_t leaves out the noise that the denoiser
    keeps. That is slow: with block averages and noise 0.05 the variance is 0.52 of the posterior's at h₀ = β = 0.01
    (672 evaluations) and 0.83 at h₀ = 0.0002, β = 0.02 (1,284 evaluations).

    Parameters
    ----------
    posterior : the prior, and what was measured.
    settings : the paper's if None; ValueError if one is out of range.
    count : how many samples run as a batch. A sample leaves the batch when it has converged.
    seed : sample i depends on `(seed, i)` only.
    interpolate : go from the first sample of this seed to its second in `count` ≥ 2 samples, whose noise is cos θ times
        that of the one end plus sin θ times that of the other, θ evenly from 0 to π/2.

    Yields
    ------
    A `State` for each step. `denoised` of the last one is the result, one last denoising of the final iterate. Its
    `outcome` says whether the samples converged, hit the cap, or diverged (then the last finite iterate is kept).

    References
    ----------
    Kadkhodaie & Simoncelli (2021), "Solving Linear Inverse Problems Using the Prior Implicit in a Denoiser",
    https://arxiv.org/abs/2007.13640
    """
    settings = Ascent() if settings is None else settings
    settings.check()
    if interpolate and count < 2:
        raise ValueError(f"count must be at least 2 to interpolate, got {count}")
    h0, beta, sigma_0, sigma_L = settings.h0, settings.beta, settings.sigma_0, settings.sigma_L
    streams = Streams(seed, count, posterior.shape, posterior.device, quarter_turn(count) if interpolate else None)

    white = streams.draw(range(count))
    coarse = streams.draw(range(count)) if settings.power_law else None
    y = posterior.start(sigma_0, white, coarse)  # y₀ ~ N(½ (1 - MMᵀ1) + M m, σ₀² I)
    x_hat = y.clone()
    sigma, expected = (torch.full((count,), sigma_0, device=posterior.device) for _ in range(2))
    running = torch.arange(count, device=posterior.device)
    for t, predicted in enumerate(predicted_sigmas(h0, beta, sigma_0), start=1):
        h = step_size(t, h0)
        estimate = posterior.denoise(y[running])
        if posterior.tempered:
            estimate, sigma_t = allow_for_noise(posterior, estimate, y[running], expected[running], beta, h)
            d = estimate - y[running]
        else:
            estimate = posterior.correct(estimate, expected[running])
            d = estimate - y[running]  # d_t = (I - MMᵀ) f(y) + M (m - Mᵀy)
            sigma_t = d.square().mean((1, 2, 3)).sqrt()  # σ_t = ‖d_t‖ / √N
        following = (1 - beta * h) * sigma_t

        if diverged(sigma_t, sigma_0):
            message = f"diverged at step {t}: the noise level rises; try a smaller h0 or another prior"
            yield State(t, y, x_hat, sigma.to("cpu", copy=True), predicted, t, message)
            return
        x_hat[running], sigma[running], expected[running] = estimate, sigma_t, following
        # y_t = y_{t-1} + h_t d_t + γ_t z_t with γ_t² = ((1 - βh_t)² - (1 - h_t)²) σ_t²
        y[running] += h * d + posterior.inject(streams.draw(running), sigma_t, following, h)
        running = running[sigma[running] > sigma_L]  # until σ_t ≤ σ_L

        outcome = None
        if len(running) == 0:
            outcome = f"converged to σ ≤ {sigma_L:g} in {t + 1} evaluations"
        elif t + 1 >= settings.max_evaluations:
            cap = settings.max_evaluations
            outcome = f"stopped at the cap of {cap} evaluations with σ = {float(sigma.max()):.3g}"
        if outcome is not None:
            yield State(t, y, posterior.denoise(y), sigma.to("cpu", copy=True), predicted, t + 1, outcome)
            return
        # The caller may keep states, so each has its own tensors.
        yield State(t, y.clone(), x_hat.clone(), sigma.to("cpu", copy=True), predicted, t)


def allow_for_noise(
    posterior: Posterior, x_hat: Tensor, y: Tensor, expected: Tensor, beta: float, h: float
) -> tuple[Tensor, Tensor]:
    """The estimates and σ_t of a step of `ascend` from noisy measurements, which the paper leaves out.

    `x_hat` and `y` are the denoiser's estimates and the iterates, and `expected` is the level that the step before led
    to, (n,). The noise of the iterate y contains that of the measurements, each of which has its standard deviation s:

    - While σ ≥ s, the measured part of y is m plus white noise of variance σ² - s², which makes σ² with that of m.
    - When σ < s, m is a measurement of y with noise of variance s² - σ², and given y it tells nothing more of x. The
      estimate's measured part becomes (1 - κ) Mᵀx̂ + κ m with κ = σ² / s², and white noise of variance σ² - κ² s² makes
      σ² again. At a fixed σ this is Langevin dynamics of p(y | m), preconditioned by 1 - κ in the measured part.

    References
    ----------
    Kawar, Vaksman & Elad (2021), "SNIPS: Solving Noisy Inverse Problems Stochastically",
    https://arxiv.org/abs/2105.14951
    Wang, Yu & Zhang (2023), "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
    https://arxiv.org/abs/2212.00490
    """
    share = posterior.share(expected)
    d = posterior.impose(x_hat, share) - y
    assert posterior.noise is not None
    own = (share * posterior.noise).square().flatten(1).sum(1) / math.prod(posterior.shape)
    sigma_t = (d.square().mean((1, 2, 3)) + own).sqrt()
    # The step leaves (1 - h) κ(σ_t) of the measurements in the iterate. Their weight in the estimate makes that up to
    # the κ of the level that follows.
    following, before = posterior.share((1 - beta * h) * sigma_t), posterior.share(sigma_t)
    return posterior.impose(x_hat, ((following - (1 - h) * before) / h).clamp_min(0)), sigma_t


@own_defaults
def sample_fast(posterior: Posterior, schedule: Schedule, *, count: int = 1, seed: int = 0) -> Iterator[State]:
    """Estimate the image from the iterate and the measurements, add noise of the next lower level, and again.

    With y = x + σ n the estimate is E[x | y, m] (`Posterior.mean`). The recursion is that of DDNM, whose estimate has
    its measured part replaced (`Posterior.replaced`) and leaves as it was what was not measured; docs/results.md says
    how much the difference matters. The recursion needs measurements: nothing else keeps the contrast of a picture from
    fading, as a homogeneous prior likes every multiple of a picture equally.

    As E[x | y, m] = y + σ² ∇ log p(y | m), with the derivative this is, at a fixed σ, Langevin dynamics with a step as
    large as can be. With `schedule.correlation` ½ it is the scheme of Leimkuhler & Matthews, for which a step of any
    size leaves Gaussian densities as they should be: mean and variance of the samples become those of the posterior of
    a Gaussian prior as the schedule grows longer, with and without noise in the measurements. With independent noise
    the variance tends to half of that.

    Parameters
    ----------
    posterior : the prior, and what was measured.
    schedule : the noise levels; `methods.default_schedule` gives those that suit an operator.
    count, seed : as in `ascend`.

    Yields
    ------
    A `State` for each step; `denoised` of the last one is the result.

    Raises
    ------
    ValueError : a setting of the schedule is out of range, or nothing was measured.

    References
    ----------
    Wang, Yu & Zhang (2023), "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
    https://arxiv.org/abs/2212.00490
    Leimkuhler & Matthews (2013), "Rational Construction of Stochastic Numerical Methods for Molecular Sampling",
    https://arxiv.org/abs/1203.5428
    """
    levels, leads, (own, earlier) = schedule.sigmas(), schedule.leads(), schedule.mixing()
    if not posterior.measured:
        raise ValueError("the fast sampler needs measurements: use the paper's for samples of the prior")
    mixing = opposites(count) if schedule.antithetic else None
    streams = Streams(seed, count, posterior.shape, posterior.device, mixing)

    def distinct(level: float) -> int:
        return count if level <= schedule.shared_above else min(count, 2)

    white = repeat(streams.draw(range(distinct(levels[0]))), count)
    coarse = repeat(streams.draw(range(distinct(levels[0]))), count) if schedule.power_law else None
    y = last = posterior.start(levels[0], white, coarse)
    evaluations = 0
    for t, (level, cost) in enumerate(zip(levels, schedule.costs(), strict=True), start=1):
        estimate = posterior.mean if cost == 2 or posterior.told else posterior.replaced
        x_hat = repeat(estimate(y[: distinct(level)], level), count)
        evaluations += 1 if posterior.told else cost
        sigma = (x_hat - y).square().mean((1, 2, 3)).sqrt().cpu()
        if diverged(sigma, levels[0]):
            message = f"diverged at step {t}: the noise level rises; try another prior"
            yield State(t, y, y, sigma, level, evaluations, message)
            return
        if t == len(levels):
            yield State(t, x_hat, x_hat, sigma, level, evaluations, f"finished its {evaluations} evaluations")
            return
        before, white = white, repeat(streams.draw(range(distinct(levels[t]))), count)
        y = x_hat + leads[t - 1] * (x_hat - last) + levels[t] * (own * white + earlier * before)
        last = x_hat
        yield State(t, y, x_hat, sigma, level, evaluations)


@own_defaults
def reverse_diffusion(posterior: Posterior, settings: Reverse, *, count: int = 1, seed: int = 0) -> Iterator[State]:
    """Take noise away level by level, with a denoiser that is told what was measured, or with any if nothing was.

    The iterate is y = x + σ n. If E[x | y, m] is exact, a step from σ to a lower σ' draws from the distribution of the
    less noisy iterate given this one, as far as x is Gaussian given y and m:

        y' = x̂ + (σ'/σ)² (y - x̂) + σ' √(1 - (σ'/σ)²) n

    So the samples are those of the posterior in the limit of many steps. If something was measured, the first estimate
    is E[x | m], as if the first level were infinite: no noise hides what the measurements say.

    Parameters
    ----------
    posterior : the prior, and the measurements that its denoiser is told, if there are any.
    settings : the noise levels.
    count, seed : as in `ascend`.

    Yields
    ------
    A `State` for each evaluation; `denoised` of the last one is the result.

    Raises
    ------
    ValueError : a setting is out of range, the denoiser cannot be told, or the operator's rows are not orthonormal.

    References
    ----------
    Ho, Jain & Abbeel (2020), "Denoising Diffusion Probabilistic Models", https://arxiv.org/abs/2006.11239; Eq. 6 and 7.
    Zilberstein, Segarra, Simoncelli & Guth (2026), https://arxiv.org/abs/2605.15487
    """
    levels = settings.sigmas()
    if not posterior.told and posterior.operator is not None:
        raise ValueError(NOT_TOLD)
    mixing = opposites(count) if settings.antithetic else None
    streams = Streams(seed, count, posterior.shape, posterior.device, mixing)

    white = streams.draw(range(count))
    y = posterior.start(levels[0], white, streams.draw(range(count)) if settings.power_law else None)
    for t, (level, following) in enumerate(itertools.pairwise([*levels, 0.0]), start=1):
        alone = t == 1 and posterior.told
        x_hat = mean_of_all(posterior, count) if alone else posterior.mean(y, level)
        sigma = (x_hat - y).square().mean((1, 2, 3)).sqrt().cpu()
        if diverged(sigma, levels[0]):
            yield State(t, y, y, sigma, level, t, f"diverged at step {t}: the noise level rises; try another prior")
            return
        if t == len(levels):
            yield State(t, x_hat, x_hat, sigma, level, t, f"finished its {t} evaluations")
            return
        kept = 0.0 if alone else (following / level) ** 2
        y = x_hat + kept * (y - x_hat) + following * math.sqrt(1 - kept) * streams.draw(range(count))
        yield State(t, y, x_hat, sigma, level, t)


NOT_TOLD = (
    "this needs a prior that is told what was measured, and measurements that it can be told: use the fast sampler"
)


def mean_of_all(posterior: Posterior, count: int = 1) -> Tensor:
    """E[x | m], the mean of all answers to the measurements, `count` times: (count, C, H, W).

    It takes one evaluation of a denoiser that is told what was measured. ValueError is raised for any other.
    """
    if not posterior.told:
        raise ValueError(NOT_TOLD)
    return repeat(posterior.mean(posterior.grey(), math.inf), count)


def diverged(sigma: Tensor, sigma_0: float) -> bool:
    """Whether a noise level is far above that of the start, or not a number."""
    return not float(sigma.max()) < 10 * sigma_0


def repeat(images: Tensor, count: int) -> Tensor:
    """`count` images: these, in turns."""
    return images if len(images) == count else images[torch.arange(count) % len(images)]
