"""Noise that grows with brightness: a transform that makes it white, its inverse, and an estimate of the noise.

The noise of a camera has the variance gain · x + offset² where the picture is x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invlib.checks import check_positive
from invlib.solvers.noise_level import NoiseSeen, left

COUNTS = 60.0
"""The mean count up to which the unbiased inverse is a table; above it, the closed form is as good."""

BINS = 12
"""Levels of brightness at which the noise is measured, to fit how it grows."""


def stabilise(y: Tensor, gain: float, offset: float) -> Tensor:
    """The generalised Anscombe transform: noise of variance gain · x + offset² becomes noise of variance about 1.

    Parameters
    ----------
    y : noisy pictures of any shape, gain · k + offset · n with counts k of a Poisson distribution and Gaussian n.
    gain : above 0; ValueError otherwise.
    offset : the standard deviation of the noise where the picture is black.

    References
    ----------
    Starck, Murtagh & Bijaoui (1998), "Image Processing and Data Analysis", https://doi.org/10.1017/CBO9780511564352
    """
    check_positive(gain=gain)
    return 2 * (y / gain + 3 / 8 + (offset / gain) ** 2).clamp_min(0).sqrt()


def unbiased_inverse(transformed: Tensor, gain: float, offset: float) -> Tensor:
    """The pictures whose stabilised noisy version has this mean; the algebraic inverse would make them too dark.

    Parameters
    ----------
    transformed : denoised pictures of any shape, in the units of `stabilise`.
    gain, offset : as for `stabilise`.

    References
    ----------
    Mäkitalo & Foi (2013), "Optimal Inversion of the Generalized Anscombe Transformation for Poisson-Gaussian Noise",
    https://doi.org/10.1109/TIP.2012.2202675

    Examples
    --------
    >>> counts = torch.poisson(torch.full((1000, 1000), 3.0), torch.Generator().manual_seed(0))
    >>> mean = stabilise(0.1 * counts, 0.1, 0.0).mean()
    >>> abs(unbiased_inverse(mean, 0.1, 0.0) - 0.3) < 1e-3
    tensor(True)
    """
    check_positive(gain=gain)
    counts, means = expectations(offset / gain)
    values = transformed.detach().double().cpu().numpy()
    d = np.maximum(values, means[-1])
    root = math.sqrt(1.5)
    closed = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8 - (offset / gain) ** 2
    found = np.where(values > means[-1], closed, np.interp(values, means, counts))
    return torch.from_numpy(np.asarray(gain * found)).to(transformed)


def denoise_stabilised(denoise: Callable[[Tensor], Tensor], y: Tensor, gain: float, offset: float) -> Tensor:
    """Denoise pictures y (n, C, H, W) whose noise grows with brightness by a denoiser for white noise.

    The transformed pictures are scaled so that black is 0 and white is 1, as the denoiser knows them. Without any gain
    the noise is white already.
    """
    if gain <= 0:
        return denoise(y)
    black, white = stabilise(torch.tensor([0.0, 1.0]), gain, offset).tolist()
    denoised = denoise((stabilise(y, gain, offset) - black) / (white - black))
    return unbiased_inverse(black + (white - black) * denoised, gain, offset)


@lru_cache(maxsize=8)
def expectations(offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean counts from 0 to `COUNTS`, and the mean of the transform at each, with an offset in units of the gain."""
    counts = np.linspace(0, math.sqrt(COUNTS), 400) ** 2
    k = torch.arange(int(COUNTS + 12 * math.sqrt(COUNTS)), dtype=torch.float64)
    nodes = np.linspace(-6, 6, 601)
    weights = np.exp(-(nodes**2) / 2)
    values = 2 * np.sqrt(np.maximum(k.numpy()[:, None] + offset * nodes + 3 / 8 + offset**2, 0))
    of_count = values @ (weights / weights.sum())
    logs = torch.special.xlogy(k, torch.from_numpy(counts)[:, None]) - torch.from_numpy(counts)[:, None]
    return counts, (logs - torch.lgamma(k + 1)).exp().numpy() @ of_count


def fit_noise(seen: NoiseSeen, gain: float | None = None, *, block: int = 8) -> tuple[float, float]:
    """Estimate gain and offset of a camera's noise, whose variance is gain · x + offset², from what a denoiser took.

    Where the picture is smooth, the mean square of what was taken is the local variance. The medians of blocks of
    about the same brightness are fitted by a line that falls neither below 0 nor with brightness.

    Parameters
    ----------
    seen : the noise that a denoiser sees.
    gain : where it is known, so that the offset alone is estimated.
    block : side of the blocks, in pixels.

    References
    ----------
    Foi, Trimeche, Katkovnik & Egiazarian (2008), "Practical Poissonian-Gaussian Noise Modeling and Fitting for
    Single-Image Raw-Data", https://doi.org/10.1109/TIP.2008.2001399
    """
    brightness = F.avg_pool2d(seen.clean, block).flatten()
    variance = F.avg_pool2d(seen.taken.square(), block).flatten() / left(seen.kept)
    activity = F.avg_pool2d(seen.clean.square(), block).flatten() - brightness.square()
    rows = []
    for chosen in brightness.argsort().tensor_split(min(BINS, len(brightness))):
        smooth = chosen[activity[chosen].argsort()[: (len(chosen) + 1) // 2]]
        rows.append((float(brightness[smooth].mean()), float(variance[smooth].median())))
    x, power = np.array(rows).clip(0).T
    # Relative errors are alike, as the variance of a block is known to some per cent.
    weight = 1 / power.clip(1e-3 * max(power.max(), 1e-12))
    if gain is not None:
        return gain, math.sqrt(max(0.0, float(np.average(power - gain * x, weights=weight**2))))
    slope, floor = np.polyfit(x, power, 1, w=weight)
    if slope < 0:
        slope, floor = 0.0, np.average(power, weights=weight**2)
    elif floor < 0:
        slope, floor = np.average(power / x.clip(1e-6), weights=(weight * x) ** 2), 0.0
    return float(slope), math.sqrt(floor)
