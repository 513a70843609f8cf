"""PSNR, SSIM and the spread of samples, as the papers' tables use them, and whether that spread covers the truth.

Images are (batch, channels, height, width) in [0, 1]; `truth` may be one image (1, channels, height, width) for the
whole batch. Scores are float64, one an image. Nothing is clipped here.
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


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, as in the tables of Kadkhodaie & Simoncelli (2021): (batch,).

    Colour images are compared on the luma Y of ITU-R BT.601, with a peak of 255 although Y spans only 16 to 235; grey
    ones as they are. See `psnr_all_channels` for the plain figure.
    """
    image, truth = _pair(image, truth)
    difference = image - truth
    if difference.shape[1] == 3:
        weights = torch.tensor(LUMA, dtype=torch.float64, device=difference.device) / 255
        difference = torch.einsum("bchw,c->bhw", difference, weights)
    return _decibels(difference)


def psnr_all_channels(image: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB over all channels, the usual figure for denoising: (batch,)."""
    image, truth = _pair(image, truth)
    return _decibels(image - truth)


def ssim(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, 7×7 windows, mean over channels): (batch,)."""
    return _structural_similarity(image, truth, data_range=1)


def ssim_paper(image: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity as in the tables of Kadkhodaie & Simoncelli (2021): (batch,).

    Their figures come from a data range of 2, which scikit-image before 0.18 assumed for floats, and are higher than
    those of `ssim`. For comparison with the paper only.
    """
    return _structural_similarity(image, truth, data_range=2)


class Ensemble(NamedTuple):
    """How far samples are from one another and from the truth.

    Attributes
    ----------
    variance : of the samples, unbiased, averaged over pixels, times 1 + 1/n: what `error` is expected to be if the
        truth is one more sample from the same distribution.
    error : mean squared error of the samples' average.
    """

    variance: float
    error: float


def ensemble(samples: Tensor, truth: Tensor) -> Ensemble:
    """Variance and error of `samples` (n, C, H, W), n ≥ 2, of one image `truth` (1, C, H, W)."""
    samples, truth = _samples_of_one(samples, truth)
    variance = samples.var(0).mean() * (1 + 1 / len(samples))
    return Ensemble(variance.item(), (samples.mean(0) - truth[0]).square().mean().item())


def spread_skill(samples: Tensor, truth: Tensor) -> float:
    """Spread-skill ratio `sqrt((1 + 1/n) V / E)` of n ≥ 2 samples (n, C, H, W) of one image `truth` (1, C, H, W).

    V is the variance of the samples and E the squared error of their average (Fortin et al. 2014). The ratio is 1 for
    independent samples from the true posterior and below 1 when they are too alike; without any error it is infinite or
    NaN. For pairs of opposite noise see `expected_spread_skill`.
    """
    return pooled_spread_skill([ensemble(samples, truth)])


def pooled_spread_skill(ensembles: Iterable[Ensemble]) -> float:
    """Spread-skill ratio over several images: the square root of the ratio of the mean variance to the mean error."""
    variance, error = torch.tensor(list(ensembles), dtype=torch.float64).mean(0)
    return (variance / error).sqrt().item()


KNOWN = 1e-6
"""Error and spread below which a pixel is known but for rounding."""


def coverage(samples: Tensor, truth: Tensor, k: float = 2) -> float:
    """Fraction of the pixels whose true value lies within k standard deviations of the samples' average.

    A pixel is covered if |truth - mean| ≤ k · std · √(1 + 1/n); the root is there because the average of n samples
    varies too. For n samples from the true posterior, where that is Gaussian, expect `expected_coverage(n, k)`: less
    than the normal distribution's 95 % at k = 2, because few samples know their own spread badly. A smaller value means
    that the samples are too alike or off the truth, a larger one that they are too different.

    Parameters
    ----------
    samples : (n, C, H, W), n ≥ 2.
    truth : (1, C, H, W).
    k : positive.

    Returns
    -------
    In [0, 1]. Colours of a pixel count one by one. Pixels that were measured exactly, where neither the samples nor
    their average and the truth differ by more than rounding (`KNOWN`), are left out; NaN if all are.
    """
    samples, truth = _samples_of_one(samples, truth)
    error = (truth[0] - samples.mean(0)).abs()
    std = samples.std(0)
    unknown = (error > KNOWN) | (std > KNOWN)
    covered = error <= k * std * (1 + 1 / len(samples)) ** 0.5
    return covered[unknown].double().mean().item()


def expected_spread_skill(count: int, antithetic: bool = False) -> float:
    """The `spread_skill` of `count` ≥ 2 Gaussian samples whose truth is one more sample from the same distribution.

    1 if they are independent. The average of antithetic pairs is that of the distribution, and does not err by the
    share of the variance that n independent samples leave in it: √((n + 1) / (n - 1)), 1.13 for 8. Of an odd number one
    is left without its opposite: (n + 1) / √(n² + 1).
    """
    if count < 2:
        raise ValueError(f"count must be at least 2, got {count}")
    if not antithetic:
        return 1.0
    return (count + 1) / math.sqrt(count**2 + (1 if count % 2 else -1))


def expected_coverage(count: int, k: float = 2, antithetic: bool = False) -> float:
    """The `coverage` of `count` ≥ 2 Gaussian samples whose truth is one more sample from the same distribution.

    P(|T| ≤ k) for Student's t with count - 1 degrees of freedom, as (truth - mean) / (std √(1 + 1/n)) has that
    distribution: .705 for 2, .914 for 8, .954 for many at k = 2. For antithetic pairs there are n/2 degrees, and the
    band is wider by their `expected_spread_skill`: .821 and .914 (of an odd number within .02).
    """
    width = k * expected_spread_skill(count, antithetic)
    from scipy.special import stdtr  # type: ignore[import-untyped]  # here, as it takes a fifth of a second to load

    return float(1 - 2 * stdtr(math.ceil(count / 2) if antithetic else count - 1, -width))


def farthest_first(points: Tensor) -> list[int]:
    """An order of `points` (n, dimensions): the one nearest to their average, then each the farthest from all before.

    The traversal of Gonzalez (1985), so that the first few show how much the set varies.
    """
    order = [int((points - points.mean(0)).square().sum(1).argmin())]
    distances = torch.cdist(points, points)
    while len(order) < len(points):
        nearest = distances[:, order].amin(1)
        nearest[order] = -1
        order.append(int(nearest.argmax()))
    return order


def _pair(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64 and where `image` is, `truth` expanded to the batch."""
    if image.ndim != 4 or truth.ndim != 4 or image.shape[1:] != truth.shape[1:] or len(truth) not in (1, len(image)):
        shapes = f"{tuple(image.shape)} and {tuple(truth.shape)}"
        raise ValueError(f"image and truth must be (batch, C, H, W) of the same size, got {shapes}")
    return image.double(), truth.to(image.device).double().expand(image.shape)


def _samples_of_one(samples: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The same, for two samples or more of one image."""
    if len(samples) < 2 or len(truth) != 1:
        raise ValueError(f"expected two samples or more of one image, got {len(samples)} samples of {len(truth)}")
    return _pair(samples, truth)


def _decibels(difference: Tensor) -> Tensor:
    return -10 * difference.square().flatten(1).mean(1).log10()


def _structural_similarity(image: Tensor, truth: Tensor, data_range: float) -> Tensor:
    pairs = zip(*(tensor.detach().cpu().numpy() for tensor in _pair(image, truth)), strict=True)
    scores = [structural_similarity(one, other, data_range=data_range, channel_axis=0) for one, other in pairs]
    return torch.from_numpy(np.array(scores, np.float64)).to(image.device)
