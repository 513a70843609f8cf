"""How noisy a picture is, or measurements are, as a blind denoiser sees it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from invlib.priors.denoisers import Denoiser
from invlib.priors.tiles import Tiled
from invlib.problems.operators import Blur, FourierRows, LinearOperator, Mask
from invlib.runtime import Batched, on, own_defaults
from invlib.solvers.posterior import Posterior
from invlib.solvers.schedules import Schedule
from invlib.solvers.streams import Streams


@own_defaults
def noise_level(denoiser: Denoiser, picture: Tensor, *, where: Tensor | None = None, seed: int = 0) -> float:
    """The standard deviation of the white noise in a picture, see `see_noise`.

    Parameters
    ----------
    denoiser, picture, where, seed : as in `see_noise`.
    """
    return see_noise(denoiser, picture, where=where, seed=seed).level


@dataclass(frozen=True)
class NoiseSeen:
    """What a blind denoiser sees of a noisy picture.

    Attributes
    ----------
    clean : the picture without its noise, x̂, (1, C, H, W).
    taken : what the denoiser takes away, y - x̂, (1, C, H, W).
    kept : how much of the noise it keeps where the level was measured: the slope c of its response, tr(∂x̂/∂y) / N.
    level : the standard deviation of the noise.
    """

    clean: Tensor
    taken: Tensor
    kept: float
    level: float

    def map(self, side: int = 15) -> Tensor:
        """The noise level from place to place, (1, 1, H, W).

        It is the root mean square of what the denoiser takes away in a window of `side` pixels, an odd number, and of
        all colours, with the correction that makes `level` of it for the picture.
        """
        power = F.avg_pool2d(
            self.taken.square().mean(1, keepdim=True), side, stride=1, padding=side // 2, count_include_pad=False
        )
        return (power / left(self.kept)).sqrt()


def left(kept: float) -> float:
    """1 - c, which is kept away from 0: a response that keeps all of the noise tells nothing of it."""
    return max(1 - kept, 0.01)


def smooth_blocks(picture: Tensor, clean: Tensor, side: int = 16, share: float = 0.02, least: int = 2048) -> Tensor:
    """Where a picture is smooth: True in the blocks whose denoised pixels vary least, (1, 1, H, W).

    Blocks without noise of their own do not count, as long as there are others: those of one colour, such as a frame,
    and those that are black or white in part, because the noise was cut off there.

    Parameters
    ----------
    picture, clean : before and after denoising, (1, C, H, W).
    side : of the blocks, in pixels.
    share : the part of the blocks that is chosen, at least.
    least : as many numbers are chosen in any case, if there are as many, for chance to even out.
    """
    height, width = picture.shape[-2:]
    side = min(side, height, width)

    def mean(numbers: Tensor) -> Tensor:
        return F.avg_pool2d(numbers.float(), side).mean(1).flatten()

    flat = mean(picture == picture.roll(1, -1)) > 0.6
    cut = mean((picture <= picture.min()) | (picture >= picture.max())) > 0.05
    varying = mean((clean - F.avg_pool2d(clean, 5, 1, 2, count_include_pad=False)).square())
    count = min(len(flat), max(math.ceil(share * len(flat)), math.ceil(least / (picture.shape[1] * side**2))))
    for useless in (flat | cut, flat, torch.zeros_like(flat)):
        if int((~useless).sum()) >= count:
            break
    varying = varying.masked_fill(useless, torch.inf)
    # In much noise many blocks are about as smooth as these, and each of them tells as much.
    chosen = varying <= 1.2 * varying.kthvalue(count).values
    blocks = chosen.view(height // side, width // side).repeat_interleave(side, 0).repeat_interleave(side, 1)
    return F.pad(blocks, (0, width - blocks.shape[1], 0, height - blocks.shape[0]))[None, None]


@own_defaults
def see_noise(denoiser: Denoiser, picture: Tensor, *, where: Tensor | None = None, seed: int = 0) -> NoiseSeen:
    """Denoise a picture (1, C, H, W), and estimate the standard deviation of its white noise, in two evaluations.

    The denoiser takes away r² = ‖f(y)‖² / N. Of noise of level σ that is σ² (1 - c), if it is exact, where c is the
    slope of its response, tr(∂x̂/∂y) / N. The slope is probed by one small random change. Both are taken of the
    smoothest blocks of the picture, where there is no fine texture that could be taken for noise.

    Parameters
    ----------
    denoiser : blind and bias-free.
    picture : noisy.
    where : True for the numbers that count, (C, H, W); those of the smoothest blocks if None.
    seed : of the probe.

    References
    ----------
    Ramani, Blu & Unser (2008), "Monte-Carlo SURE: A Black-Box Optimization of Regularization Parameters for General
    Denoising Algorithms", https://doi.org/10.1109/TIP.2008.2001404
    """
    residual = Batched(Tiled(denoiser))
    picture = picture.to(next(denoiser.parameters(), torch.empty(0)).device)
    noise = residual(picture)
    counted = (smooth_blocks(picture, picture - noise) if where is None else where.to(picture.device)).expand_as(
        picture
    )
    size = float(noise[counted].square().mean().sqrt())
    if size == 0:
        return NoiseSeen(picture, noise, 0.0, 0.0)
    probe = 0.1 * size * counted * Streams(seed, 1, picture.shape[1:], picture.device).draw([0])
    moved, probe = (residual(picture + probe) - noise)[counted], probe[counted]
    kept = 1 - float((moved * probe).sum() / probe.square().sum())
    return NoiseSeen(picture - noise, noise, kept, size / math.sqrt(left(kept)))


@own_defaults
def estimate_noise(denoiser: Denoiser, operator: LinearOperator, measurements: Tensor, *, seed: int = 0) -> float:
    """Estimate the standard deviation of the white noise in the picture that was measured, see `noise_level`.

    Measurements that are no picture take longer, and noise below 0.01 is given as 0. One sample descends from σ = 1 to
    0.01 with its measured part fixed to the measurements, so that at every level σ the rest of the picture is as noisy
    as σ and the measured part as noisy as the measurements. What the denoiser takes away from the n measured numbers,
    r² = ‖m - Mᵀx̂‖², falls short of their noise n s² by the factor 1 - c, where c = tr(Mᵀ ∂x̂/∂y M) / n. So s is
    r / √(n (1 - c)) once σ has come down to it.

    Detail that the denoiser cannot tell from noise adds to the estimate. On two 96×96 pictures with the colour U-Net it
    is within 7 % from 0.05 up for a hole and for half of the pixels. It is up to a third too high at 0.05 for a tenth
    of the frequencies, a half for a quarter of the random rows, and as much again for a tenth of the pixels or of the
    random rows: give the level for those if you can.

    Parameters
    ----------
    denoiser, operator, measurements : as for `Posterior`.
    seed : of the probes and of the descent.
    """
    if isinstance(operator, Blur):
        # Of the blurred picture, whose noise is white, some of the frequencies are known.
        rows = FourierRows(operator.image_shape, operator.kept)
        return estimate_noise(denoiser, rows, rows.measure(operator.view(measurements)), seed=seed)
    posterior = Posterior(denoiser, operator, measurements)
    operator = on(operator, posterior.device)
    where = operator.kept if isinstance(operator, Mask) and 2 * operator.measured > math.prod(posterior.shape) else None
    if operator.pictured or where is not None:
        return noise_level(denoiser, operator.view(posterior.measurements), where=where, seed=seed)
    streams = Streams(seed, 1, posterior.shape, posterior.device)
    x_hat = posterior.grey()
    above: tuple[float, float] | None = None  # the level before, and the estimate there less that level
    # Where the picture has to form, too few levels leave errors that look like noise.
    levels = 20 if isinstance(operator, FourierRows) else 60
    for level in Schedule().spacing(levels):
        y = posterior.impose(x_hat + level * streams.draw([0]), 1.0)
        probe = 0.1 * level * operator.project(streams.draw([0]))
        x_hat, moved = posterior.denoise(torch.cat([y, y + probe])).split(1)
        slope = float(((moved - x_hat) * probe).sum() / probe.square().sum())
        residual = float(operator.project(y - x_hat).square().sum()) / operator.measured
        # A response that keeps all of the measured part tells nothing of its noise.
        excess = math.sqrt(residual / max(1 - slope, 0.01)) - level
        if excess >= 0:
            if above is None:
                return level + excess
            higher, lack = above
            return level + (higher - level) * excess / (excess - lack)
        above = level, excess
    return 0.0
