"""Score images against the truth: PSNR, SSIM, and whether the spread of samples covers the truth.

Images are (batch, channels, height, width) in [0, 1], and `truth` may be one image (1, channels, height, width) for the
whole batch. Scores are float64, one for each image. Nothing is clipped here.

"Kadkhodaie & Simoncelli (2021)" is "Stochastic Solutions for Linear Inverse Problems using the Prior Implicit in a
Denoiser", https://arxiv.org/abs/2007.13640.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

LUMA = (65.481, 128.553, 24.966)
"""ITU-R BT.601: Y = 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in [0, 1]."""


WINDOW = 7
"""The side of the windows of structural similarity, in pixels: the default of scikit-image."""


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, as in the tables of Kadkhodaie & Simoncelli (2021): (batch,).

    Colour images are compared on the luma Y of ITU-R BT.601, with a peak of 255 although Y spans only 16 to 235. Grey
    images are compared as they are. `psnr_all_channels` is the plain figure.

    >>> truth = torch.full((1, 1, 8, 8), 0.5)
    >>> psnr(truth + 0.1, truth)
    tensor([20.0000], dtype=torch.float64)
    """
    image, truth = _pair(image, truth)
    difference = image - truth
    if difference.shape[1] == 3:
        weights = torch.tensor(LUMA, dtype=torch.float64, device=difference.device) / 255
        difference = torch.einsum("bchw,c->bhw", difference, weights)
    return _decibels(difference)


def psnr_all_channels(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB over all channels, the usual figure for denoising: (batch,).

    >>> truth = torch.full((1, 3, 8, 8), 0.5)
    >>> psnr_all_channels(torch.cat([truth + 0.1, truth + 0.01]), truth)
    tensor([20.0000, 40.0000], dtype=torch.float64)
    """
    image, truth = _pair(image, truth)
    return _decibels(image - truth)


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity with windows of 7×7, averaged over channels: (batch,).

    It is NaN for images with a side under 7 pixels, as no window fits them. The measure is that of Wang, Bovik, Sheikh
    & Simoncelli (2004), "Image Quality Assessment: From Error Visibility to Structural Similarity",
    https://doi.org/10.1109/TIP.2003.819861.

    >>> truth = torch.eye(8)[None, None]
    >>> ssim(torch.cat([truth, 0.5 * truth]), truth)
    tensor([1.0000, 0.6417], dtype=torch.float64)
    """
    return _structural_similarity(image, truth, data_range=1)


def ssim_paper(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity as in the tables of Kadkhodaie & Simoncelli (2021), to compare with them: (batch,).

    Their figures come from a data range of 2, which scikit-image before 0.18 assumed for floats, and are higher than
    those of `ssim`.
    """
    return _structural_similarity(image, truth, data_range=2)


class Ensemble(NamedTuple):
    """How far samples are from one another and from the truth.

    `variance` is the unbiased variance of the n samples, averaged over pixels, times 1 + 1/n. It is the expected
    `error`, the mean squared error of the samples' average, if the truth is one more sample of the same distribution.
    """

    variance: float
    error: float


def ensemble(samples: Tensor, truth: Tensor) -> Ensemble:
    """Return variance and error of n ≥ 2 samples (n, C, H, W) of one image `truth` (1, C, H, W)."""
    samples, truth = _samples_of_one(samples, truth)
    variance = samples.var(0).mean() * (1 + 1 / len(samples))
    return Ensemble(variance.item(), (samples.mean(0) - truth[0]).square().mean().item())


def spread_skill(samples: Tensor, truth: Tensor) -> float:
    """Spread-skill ratio `sqrt((1 + 1/n) V / E)` of n ≥ 2 samples (n, C, H, W) of one image `truth` (1, C, H, W).

    V is the variance of the samples and E the squared error of their average. The ratio is 1 for independent samples
    from the true posterior, and below 1 if they are too alike. Without any error it is infinite or NaN. For antithetic
    pairs, which start from opposite noise, see `expected_spread_skill`.

    The ratio is that of Fortin, Abaza, Anctil & Turcotte (2014), "Why Should Ensemble Spread Match the RMSE of the
    Ensemble Mean?", https://doi.org/10.1175/JHM-D-14-0008.1.

    >>> draws = torch.randn(9, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> print(f"{spread_skill(draws[:8], draws[8:]):.2f}")
    1.01
    """
    return pooled_spread_skill([ensemble(samples, truth)])


def pooled_spread_skill(ensembles: Iterable[Ensemble]) -> float:
    """Spread-skill ratio over several images: the square root of the mean variance over the mean error."""
    variance, error = torch.tensor(list(ensembles), dtype=torch.float64).mean(0)
    return (variance / error).sqrt().item()


KNOWN = 1e-6
"""A pixel whose error and spread are below this is known exactly, up to rounding."""


def deviations(samples: Tensor, truth: Tensor) -> Tensor:
    """How far the truth is from the samples' average, in standard deviations of the samples: (numbers,), float64.

    The samples are (n, C, H, W), n ≥ 2, of one image `truth` (1, C, H, W). The colours of a pixel count one by one.
    Pixels that were measured exactly are left out: there neither the spread of the samples nor the error of their
    average exceeds `KNOWN`. Where the samples agree on a mistake, the deviation is infinite.

    >>> deviations(torch.tensor([0.0, 0.2, 0.1]).view(3, 1, 1, 1), torch.full((1, 1, 1, 1), 0.3))
    tensor([2.0000], dtype=torch.float64)
    """
    samples, truth = _samples_of_one(samples, truth)
    error, std = (truth[0] - samples.mean(0)).abs(), samples.std(0)
    unknown = (error > KNOWN) | (std > KNOWN)
    return error[unknown] / std[unknown]


def half_width(found: Iterable[Tensor], level: float = 0.9) -> float:
    """How many standard deviations reach the truth at a fraction `level` of all numbers of some `deviations`.

    The result is NaN if there is no number.
    """
    pooled = torch.cat(list(found))
    return pooled.kthvalue(math.ceil(level * len(pooled))).values.item() if len(pooled) else math.nan


def coverage(samples: Tensor, truth: Tensor, k: float = 2) -> float:
    """Fraction of the pixels whose true value lies within k standard deviations of the samples' average.

    A pixel is covered if |truth - mean| ≤ k · std · √(1 + 1/n). The root is there because the average of n samples
    varies too. If the true posterior is Gaussian and the n samples come from it, expect `expected_coverage(n, k)`. At
    k = 2 this is less than the 95 % of the normal distribution, because a few samples estimate their spread badly. A
    smaller value means that the samples are too alike or far from the truth, a larger one that they are too different.

    The samples are (n, C, H, W), n ≥ 2, of one image `truth` (1, C, H, W). Pixels that were measured exactly are left
    out, as in `deviations`. If no pixel is left, the result is NaN.

    >>> draws = torch.randn(9, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> print(f"{coverage(draws[:8], draws[8:]):.2f}", f"{expected_coverage(8):.2f}")
    0.91 0.91
    """
    covered = deviations(samples, truth) <= k * (1 + 1 / len(samples)) ** 0.5
    return covered.double().mean().item()


def expected_spread_skill(count: int, antithetic: bool = False) -> float:
    """Return the `spread_skill` to expect of n = `count` ≥ 2 Gaussian samples from the distribution of the truth.

    For independent samples it is 1. The average of antithetic pairs is exactly the mean of the distribution, while the
    average of independent samples varies about it; so for pairs the ratio is √((n + 1) / (n - 1)). In an odd number of
    samples one has no opposite, and the ratio is (n + 1) / √(n² + 1).

    >>> print(f"{expected_spread_skill(8, antithetic=True):.2f}")
    1.13
    """
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    if not antithetic:
        return 1.0
    return (count + 1) / math.sqrt(count**2 + (1 if count % 2 else -1))


def expected_coverage(count: int, k: float = 2, antithetic: bool = False) -> float:
    """Return the `coverage` to expect of n = `count` ≥ 2 Gaussian samples from the distribution of the truth.

    For independent samples, (truth - mean) / (std √(1 + 1/n)) has Student's t distribution with n - 1 degrees of
    freedom, so the coverage is P(|T| ≤ k). Antithetic pairs have n/2 degrees of freedom, and the band is wider by their
    `expected_spread_skill`; for an odd number of samples the result is right within 0.02.

    >>> [round(expected_coverage(count), 3) for count in (2, 8, 1000)]
    [0.705, 0.914, 0.954]
    """
    width = k * expected_spread_skill(count, antithetic)
    from scipy.special import stdtr  # type: ignore[import-untyped]  # imported here, as loading takes 0.2 s

    return float(1 - 2 * stdtr(_freedom(count, antithetic), -width))


def expected_half_width(count: int, level: float = 0.9, antithetic: bool = False) -> float:
    """Return the `half_width` to expect of n = `count` ≥ 2 Gaussian samples from the distribution of the truth.

    For independent samples it is √(1 + 1/n) times a quantile of Student's t distribution with n - 1 degrees of freedom.
    For antithetic pairs see `expected_coverage`.

    >>> [round(expected_half_width(count), 2) for count in (2, 8, 1000)]
    [7.73, 2.01, 1.65]
    """
    width = math.sqrt(1 + 1 / count) / expected_spread_skill(count, antithetic)
    from scipy.special import stdtrit

    return float(width * stdtrit(_freedom(count, antithetic), (1 + level) / 2))


def _freedom(count: int, antithetic: bool) -> int:
    """The degrees of freedom of the variance of Gaussian samples."""
    return math.ceil(count / 2) if antithetic else count - 1


def farthest_first(points: Tensor) -> list[int]:
    """Order `points` (n, dimensions) so that the first few show how much all of them vary.

    The first is the point nearest to the average, and each next one is the farthest from all before it. This is the
    traversal of Gonzalez (1985), "Clustering to minimize the maximum intercluster distance",
    https://doi.org/10.1016/0304-3975(85)90224-5.

    >>> farthest_first(torch.tensor([[0.0], [4.0], [5.0], [10.0]]))
    [2, 0, 3, 1]
    """
    order = [int((points - points.mean(0)).square().sum(1).argmin())]
    distances = torch.cdist(points, points)
    while len(order) < len(points):
        nearest = distances[:, order].amin(1)
        nearest[order] = -1
        order.append(int(nearest.argmax()))
    return order


def _pair(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Check both, and return them in float64 on the device of `image`, with `truth` expanded to the batch."""
    _check(image, truth)
    return image.double(), truth.to(image.device).double().expand(image.shape)


def _check(image: Tensor, truth: Tensor) -> None:
    if image.ndim != 4 or truth.ndim != 4 or image.shape[1:] != truth.shape[1:] or len(truth) not in (1, len(image)):
        shapes = f"{tuple(image.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"image and truth must be (batch, C, H, W) of the same size, got {shapes}")


def _samples_of_one(samples: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Check two or more samples of one image, and return them as `_pair` does."""
    if len(samples) < 2 or len(truth) != 1:
        raise ValueError(f"expected two samples or more of one image, got {len(samples)} samples of {len(truth)}")
    return _pair(samples, truth)


def _decibels(difference: Tensor) -> Tensor:
    return -10 * difference.square().flatten(1).mean(1).log10()


def _structural_similarity(image: Tensor, truth: Tensor, data_range: float) -> Tensor:
    if min(image.shape[-2:]) < WINDOW:
        return torch.full((len(image),), math.nan, dtype=torch.float64, device=image.device)
    _check(image, truth)
    if truth.shape[0] != len(image):
        truth = truth.expand(len(image), *truth.shape[1:])
    scores = []
    for one, other in zip(image.detach().cpu(), truth.detach().cpu(), strict=True):
        scores.append(np.mean([_similar(*pair, data_range) for pair in zip(one, other, strict=True)]))
    return torch.from_numpy(np.array(scores, np.float64)).to(image.device)


def _similar(image: Tensor, truth: Tensor, data_range: float, rows: int = 1024) -> float:
    """Structural similarity of one channel (H, W), in strips of so many rows, as it takes a dozen arrays of float64."""
    margin = WINDOW - 1
    total, height = 0.0, len(image) - margin
    for start in range(0, height, rows):
        count = min(rows, height - start)
        one, other = (channel[start : start + count + margin].double().numpy() for channel in (image, truth))
        total += count * float(structural_similarity(one, other, data_range=data_range))
    return total / height
