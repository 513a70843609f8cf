"""Restore images with the methods that the two papers compare with: known noise levels, sparsity, plug-and-play.

`bm3d` and `lasso_dct` are baselines in section 5 of Whang, Lei & Dimakis (2021), "Solving Inverse Problems with a
Flow-based Noise Model", https://arxiv.org/abs/2003.08089. `total_variation` is added because it needs no extra package.
The denoisers take y = x + δ. If the picture was scaled first, y = a·x + δ, give them y / a and sigma / a.

The other functions restore from linear measurements without noise, as in section 3.2 of Kadkhodaie & Simoncelli (2021),
"Stochastic Solutions for Linear Inverse Problems using the Prior Implicit in a Denoiser",
https://arxiv.org/abs/2007.13640. The slow ones are in `deep_baselines`.

Images are (batch, C, H, W) in [0, 1]. Results are not clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module

import numpy as np
import torch
from skimage import restoration
from torch import Tensor
from torch.nn import functional as F

from invlib.checks import MOST_STEPS, check_measurements, check_positive, check_seed, check_shape, check_whole
from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import LinearOperator
from invlib.runtime import own_defaults, pause

OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Maps red, green and blue to brightness and two colour differences. It is orthonormal, so white noise stays white."""


@own_defaults
def bm3d(y: Tensor, sigma: float | Tensor) -> Tensor:
    """Denoise by block matching and 3-D filtering, with the package `bm3d` of the method's authors.

    The package's licence forbids commercial use, so it is not installed with this library.

    Parameters
    ----------
    y : noisy images, (batch, 1 or 3, H, W), sides above 8 pixels. Blocks of colour images are matched by brightness.
    sigma : standard deviation of the noise, in the units of the image. BM3D assumes white noise. If the strength
        varies, give the standard deviations as a tensor of any shape, and their root mean square is used.

    Raises
    ------
    ImportError : the package is not installed.
    ValueError : a shape or sigma is out of range, or `y` is not finite.

    References
    ----------
    Dabov, Foi, Katkovnik & Egiazarian (2007), "Image Denoising by Sparse 3-D Transform-Domain Collaborative Filtering",
    https://doi.org/10.1109/TIP.2007.901238
    """
    level = float(torch.as_tensor(sigma).double().square().mean().sqrt())
    check_positive(sigma=level)
    _check_images(y)
    if y.shape[1] not in (1, 3) or min(y.shape[-2:]) <= 8:
        # The package matches blocks of 8×8 pixels, and crashes the process if the image holds only one.
        raise ValueError(f"y must have 1 or 3 channels and sides above 8 pixels for BM3D, got shape {tuple(y.shape)}")
    try:
        package = import_module("bm3d")
    except ModuleNotFoundError as error:
        licence = "whose licence allows non-commercial use only: if yours is, install it with `pip install bm3d`"
        raise ImportError(f"BM3D needs the package bm3d, {licence}") from error

    def denoise(picture: np.ndarray) -> np.ndarray:
        if picture.shape[-1] == 1:
            return package.bm3d(picture[..., 0], level)[..., None]
        return package.bm3d(picture @ OPPONENT.T, level) @ OPPONENT

    return _each(denoise, y)


@own_defaults
def total_variation(y: Tensor, weight: float) -> Tensor:
    """Denoise images (batch, C, H, W), each channel by itself: minimise ½ ‖x − y‖² + weight · Σ |∇x|.

    `weight` says how much to smooth. For white noise, half to all of its standard deviation is a good start. ValueError
    unless it is positive and `y` is a finite batch of images.

    References
    ----------
    Rudin, Osher & Fatemi (1992), "Nonlinear total variation based noise removal algorithms",
    https://doi.org/10.1016/0167-2789(92)90242-F
    Chambolle (2004), "An Algorithm for Total Variation Minimization and Applications",
    https://doi.org/10.1023/B:JMIV.0000011325.36760.1e

    Examples
    --------
    >>> y = 0.5 + 0.1 * torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> bool(total_variation(y, 0.1).std() < 0.2 * y.std())
    True
    """
    check_positive(weight=weight)
    _check_images(y)
    # With scikit-image's default tolerance, a larger weight may leave more noise than a smaller one.
    # scikit-image loads scipy.stats at the first use of this name, which takes a second.
    denoise = partial(restoration.denoise_tv_chambolle, weight=weight, eps=1e-5, max_num_iter=1000, channel_axis=-1)
    return _each(denoise, y)


@own_defaults
@torch.no_grad()
def wavelets(y: Tensor, sigma: float) -> Tensor:
    """Denoise images (batch, 1 or 3, H, W) with white noise `sigma` by shrinking wavelet coefficients (BayesShrink).

    Colours are denoised as brightness and two colour differences. ValueError unless `sigma` is positive and `y` is a
    finite batch of images. ImportError if PyWavelets is not installed.

    References
    ----------
    Chang, Yu & Vetterli (2000), "Adaptive Wavelet Thresholding for Image Denoising and Compression",
    https://doi.org/10.1109/83.862633
    """
    check_positive(sigma=sigma)
    _check_images(y)
    colour = y.shape[1] == 3
    options = {"sigma": sigma, "convert2ycbcr": colour, "rescale_sigma": True, "channel_axis": -1}
    return _each(lambda picture: restoration.denoise_wavelet(picture, **options), y)


@own_defaults
@torch.no_grad()
def lasso_dct(
    measure: Callable[[Tensor], Tensor],
    y: Tensor,
    image_shape: Sequence[int],
    lam: float = 0.01,
    *,
    tolerance: float = 3e-4,
    max_iterations: int = 1000,
) -> Tensor:
    """Reconstruct images (batch, *image_shape) that are sparse in the cosine basis, by FISTA.

    The result minimises ½ ‖measure(x) − y‖² + lam · ‖c‖₁, where c is the orthonormal 2-D DCT of every channel of x.

    Parameters
    ----------
    measure : any linear map from images (batch, *image_shape) to measurements that PyTorch can differentiate.
    y : measurements (batch, ...), of the type and on the device that `measure` works with.
    image_shape : (C, H, W).
    lam : weight of the sparsity, above 0. The default is that of appendix D of Whang et al., who do not say how they
        scale the error. Their Gaussian matrix has entries of variance 1/m. For it, the objective above equals that of
        scikit-learn's `Lasso(alpha=lam)`, 1/(2m) ‖·‖² + alpha · ‖·‖₁, with entries of variance 1, as in the code of
        Bora et al. (2017), "Compressed Sensing using Generative Models", https://arxiv.org/abs/1703.03208.
    tolerance : stop when a step changes the coefficients by less than this fraction of their norm, over the batch.
    max_iterations : stop after this many steps in any case. Each measures once and applies the adjoint once.

    Raises
    ------
    ValueError : a parameter is out of range, `y` is not finite or not of the shape that `measure` gives, or `measure`
        does not map zero to zero or has derivative zero.

    References
    ----------
    Tibshirani (1996), "Regression Shrinkage and Selection via the Lasso",
    https://doi.org/10.1111/j.2517-6161.1996.tb02080.x
    Beck & Teboulle (2009), "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems",
    https://doi.org/10.1137/080716542

    Examples
    --------
    A picture with a single cosine is found again from a quarter as many sums as it has pixels:

    >>> truth = 0.5 + 0.5 * dct_matrix(16)[3].float().expand(1, 1, 16, 16)
    >>> matrix = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)) / 8
    >>> x = lasso_dct(lambda x: x.flatten(1) @ matrix.T, truth.flatten(1) @ matrix.T, (1, 16, 16))
    >>> bool((x - truth).abs().max() < 0.01)
    True
    """
    check_positive(lam=lam, tolerance=tolerance, max_iterations=max_iterations)
    y = check_measurements(y).clone()
    channels, height, width = check_shape(image_shape)
    rows, columns = dct_matrix(height).to(y), dct_matrix(width).to(y)

    def predict(coefficients: Tensor) -> Tensor:
        return measure(rows.T @ coefficients @ columns)

    c = y.new_zeros(len(y), channels, height, width)
    # The derivative of a linear map, at any point, is the map itself, so the transposed derivative is its adjoint.
    origin, adjoint = torch.func.vjp(predict, c)  # type: ignore[misc]
    if origin.shape != y.shape:
        raise ValueError(f"y must have the shape that measure gives, {tuple(origin.shape)}, got {tuple(y.shape)}")
    if origin.any():
        raise ValueError("measure must be linear, and it does not map zero to zero: subtract its offset from y")

    # Power iteration may find an eigenvalue some per cent too small. FISTA diverges if the step is a third too long.
    step = 1 / (1.1 * _largest_eigenvalue(lambda v: adjoint(predict(v))[0], c))
    if not step.isfinite():
        raise ValueError("measure must be linear, and its derivative is zero")
    z, t = c, 1.0
    for _ in range(max_iterations):
        pause()
        (gradient,) = adjoint(predict(z) - y)
        previous, c = c, soft_threshold(z - step * gradient, step * lam)
        if (c - previous).norm() <= tolerance * c.norm():
            break
        if ((z - c) * (c - previous)).sum() > 0:
            t = 1.0  # Restart momentum that points uphill, or it oscillates (https://arxiv.org/abs/1204.3982).
        t_previous, t = t, (1 + math.sqrt(1 + 4 * t**2)) / 2
        z = c + (t_previous - 1) / t * (c - previous)
    return rows.T @ c @ columns


@own_defaults
def regularise_by_denoising(
    denoisers: Iterable[Callable[[Tensor], Tensor]], operator: LinearOperator, measurements: Tensor, *, lam: float = 0.0
) -> Iterator[Tensor]:
    """Restore by alternating between denoising and agreeing with the measurements.

    This is the fixed-point iteration of RED (Romano et al., section 4.2) for ½ ‖Mᵀx - m‖² + ½ lam xᵀ(x - D(x)), in
    closed form because MMᵀ is a projection. With `lam` 0 the measurements hold exactly, and the iteration is
    plug-and-play (Venkatakrishnan et al.) with half-quadratic splitting (Zhang et al.).

    Parameters
    ----------
    denoisers : the denoiser D of each step, from images (1, C, H, W) to images. RED takes the same one every time, and
        plug-and-play lowers its noise level.
    operator, measurements : the linear operator, and what it measured of one image.
    lam : weight of the regularisation; ValueError unless it is a number of at least 0.

    Yields
    ------
    The estimate (1, C, H, W) after every step.

    References
    ----------
    Romano, Elad & Milanfar (2017), "The Little Engine that Could: Regularization by Denoising (RED)",
    https://arxiv.org/abs/1611.02862
    Venkatakrishnan, Bouman & Wohlberg (2013), "Plug-and-Play priors for model based reconstruction",
    https://doi.org/10.1109/GlobalSIP.2013.6737048
    Zhang et al. (2017), "Learning Deep CNN Denoiser Prior for Image Restoration", https://arxiv.org/abs/1704.03264
    """
    if not 0 <= lam < math.inf:
        raise ValueError(f"lam must be a number of at least 0, got {lam}")
    measurements = check_measurements(measurements, tuple(operator.measurement_shape)).float()
    x = operator.adjoint(measurements)
    for denoise in denoisers:
        denoised = denoise(x).detach()
        x = denoised + operator.adjoint(measurements - operator.measure(denoised)) / (1 + lam)
        yield x


def red(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    denoiser: Denoiser,
    steps: int = 100,
    sigma_0: float = 0.3,
    sigma_L: float = 0.01,
    step_size: float = 0.7,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Restore by `regularise_by_denoising` with a blind denoiser, and yield the estimate (1, C, H, W) after every step.

    RED needs a denoiser of a given strength. A blind denoiser removes the noise that it finds, and a smooth estimate
    has none, so the first steps of super-resolution would change next to nothing. Therefore white noise n of level σ is
    added first: D(x) is the average of x̂(x + σ n), and the steps follow its stochastic gradient, with σ
    falling geometrically. See Renaud et al. (2024), "Plug-and-Play image restoration with Stochastic deNOising
    REgularization", https://arxiv.org/abs/2402.01779.

    Parameters
    ----------
    operator, measurements : the linear operator, and what it measured of one image, on the denoiser's device.
    denoiser : a blind denoiser, called once in every step.
    steps : number of steps.
    sigma_0, sigma_L : first and last noise level.
    step_size : fraction of the denoiser's correction that is taken, in (0, 1]. A smaller one averages over more noise.
    seed : for the noise.
    """
    check_whole(1, MOST_STEPS, steps=steps)
    check_positive(sigma_0=sigma_0, sigma_L=sigma_L, step_size=step_size)
    check_measurements(measurements, tuple(operator.measurement_shape), pictures=1)
    generator = torch.Generator().manual_seed(check_seed(seed))

    def correct(x: Tensor, sigma: float) -> Tensor:
        noisy = x + sigma * torch.randn(x.shape, generator=generator).to(x)
        return x + step_size * (noisy - denoiser(noisy) - x)

    denoisers = (partial(correct, sigma=float(sigma)) for sigma in np.geomspace(sigma_0, sigma_L, int(steps)))
    return regularise_by_denoising(denoisers, operator, measurements)


def plug_and_play_bm3d(
    operator: LinearOperator, measurements: Tensor, *, steps: int = 20, sigma_0: float = 0.3, sigma_L: float = 0.03
) -> Iterator[Tensor]:
    """Restore by `regularise_by_denoising` with `bm3d`, whose noise level falls geometrically.

    Parameters, and what is yielded, are as in `red`.
    """
    check_whole(1, MOST_STEPS, steps=steps)
    check_positive(sigma_0=sigma_0, sigma_L=sigma_L)
    check_measurements(measurements, tuple(operator.measurement_shape), pictures=1)
    denoisers = (partial(bm3d, sigma=float(sigma)) for sigma in np.geomspace(sigma_0, sigma_L, int(steps)))
    return regularise_by_denoising(denoisers, operator, measurements)


@own_defaults
def least_total_variation(operator: LinearOperator, measurements: Tensor, *, steps: int = 500) -> Iterator[Tensor]:
    """Restore by the smallest total variation that agrees with the measurements.

    The result minimises Σ |∇x| where Mᵀx = m. That is what TVAL3 (Li et al.) computes; here it is found by the
    primal-dual iteration of Chambolle & Pock. |∇x| is the length of the gradients of all channels together (Bresson &
    Chan).

    Parameters
    ----------
    operator, measurements : the linear operator, and what it measured of images (batch, C, H, W).
    steps : number of steps, each of which projects once.

    Yields
    ------
    The estimate (batch, C, H, W) after every step, which agrees with the measurements.

    References
    ----------
    Li, Yin, Jiang & Zhang (2013), "An efficient augmented Lagrangian method with applications to total variation
    minimization", https://doi.org/10.1007/s10589-013-9576-1
    Chambolle & Pock (2011), "A First-Order Primal-Dual Algorithm for Convex Problems with Applications to Imaging",
    https://doi.org/10.1007/s10851-010-0251-1
    Bresson & Chan (2008), "Fast dual minimization of the vectorial total variation norm and applications to color image
    processing", https://doi.org/10.3934/ipi.2008.2.455
    """
    check_whole(1, MOST_STEPS, steps=steps)
    measurements = check_measurements(measurements, tuple(operator.measurement_shape)).float()
    primal, dual = 0.02, 1 / (8 * 0.02)  # The product of the step sizes is 1 / ‖∇‖².
    x = extrapolated = operator.adjoint(measurements)
    slopes = gradient(torch.zeros_like(x))
    for _ in range(int(steps)):
        slopes = slopes + dual * gradient(extrapolated)
        slopes = slopes / slopes.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1)
        moved = x + primal * divergence(slopes)
        moved = moved + operator.adjoint(measurements - operator.measure(moved))
        x, extrapolated = moved, 2 * moved - x
        yield x


def gradient(x: Tensor) -> Tensor:
    """Differences of images (batch, C, H, W) to the pixel below and to the right, 0 at borders: (batch, 2, C, H, W)."""
    return torch.stack([x.diff(dim=-2, append=x[..., -1:, :]), x.diff(dim=-1, append=x[..., -1:])], dim=1)


def divergence(slopes: Tensor) -> Tensor:
    """Minus the adjoint of `gradient`: (batch, 2, C, H, W) to (batch, C, H, W)."""
    down, right = slopes.unbind(1)
    down, right = F.pad(down[..., :-1, :], (0, 0, 1, 1)), F.pad(right[..., :-1], (1, 1))
    return down.diff(dim=-2) + right.diff(dim=-1)


def soft_threshold(c: Tensor, threshold: float | Tensor) -> Tensor:
    """Move every number towards zero by `threshold`, and to zero if it is nearer than that."""
    return c.sign() * (c.abs() - threshold).clamp(min=0)


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II of `size` numbers as a matrix with a row for each frequency: float64, (size, size)."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi / size * torch.outer(k, k + 0.5))
    matrix[0] /= math.sqrt(2)
    return matrix


def _largest_eigenvalue(apply: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Find the largest eigenvalue of a positive semi-definite map of tensors like `like`, by 20 power iterations."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    for _ in range(20):
        v = apply(v / v.norm())
    return v.norm()


def _check_images(y: Tensor) -> None:
    """Raise ValueError unless `y` is a finite batch of images."""
    check_measurements(y)
    if y.ndim != 4:
        raise ValueError(f"y must be images of shape (batch, C, H, W), got {tuple(y.shape)}")


def _each(denoise: Callable[[np.ndarray], np.ndarray], y: Tensor) -> Tensor:
    """Denoise images (batch, C, H, W) one by one with a function of a picture (H, W, C) in float64."""
    pictures = y.detach().double().cpu().permute(0, 2, 3, 1).numpy()
    denoised = np.stack([denoise(picture) for picture in pictures])
    return torch.from_numpy(denoised).permute(0, 3, 1, 2).contiguous().to(y)
