"""What a user would try instead of a flow or of sampling: denoisers that know how strong the noise is, and sparsity.

The baselines of Whang, Lei & Dimakis (2021), section 5: BM3D for denoising and LASSO in a cosine basis for compressive
sensing; and total variation, which needs nothing installed. Images are (batch, C, H, W) in [0, 1]; results are not
clipped. The denoisers take pictures with noise added, y = x + δ: where the picture was scaled first, y = a·x + δ, give
them y / a and sigma / a.

Those of Kadkhodaie & Simoncelli (2021), section 3.2, restore from linear measurements without noise: total variation,
and denoisers as regularisers. `deep_baselines` has the slow ones.
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

from invlib.checks import check_positive, check_shape
from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import LinearOperator

OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
"""Red, green and blue to brightness and two differences of colours. Orthonormal, so that white noise stays as it is."""


def bm3d(y: Tensor, sigma: float | Tensor) -> Tensor:
    """Denoise by block matching and 3-D filtering (Dabov, Foi, Katkovnik & Egiazarian 2007).

    Runs the package `bm3d` of the method's authors. Its licence forbids commercial use, so it is not installed along
    with this library.

    Parameters
    ----------
    y : noisy images, (batch, 1 or 3, H, W), sides above 8 pixels. Blocks of colour images are matched by brightness.
    sigma : standard deviation of the noise, in the units of the image. BM3D takes the noise for white: where its
        strength varies, give the standard deviations as a tensor of any shape, and their root mean square is used.

    Returns
    -------
    The denoised images, shape and type of `y`.

    Raises
    ------
    ImportError : the package is not installed.
    ValueError : a shape or sigma is out of range, or `y` is not finite.
    """
    level = float(torch.as_tensor(sigma).double().square().mean().sqrt())
    check_positive(sigma=level)
    _check_images(y)
    if y.shape[1] not in (1, 3) or min(y.shape[-2:]) <= 8:
        # The package matches blocks of 8×8 pixels, and crashes the process where there is only one.
        raise ValueError(f"y must have 1 or 3 channels and sides above 8 pixels for BM3D, got shape {tuple(y.shape)}")
    try:
        package = import_module("bm3d")
    except ModuleNotFoundError as error:
        raise ImportError(
            "BM3D needs the package bm3d, whose licence allows non-commercial use only: "
            "if yours is, install it with `pip install bm3d`"
        ) from error

    def denoise(picture: np.ndarray) -> np.ndarray:
        if picture.shape[-1] == 1:
            return package.bm3d(picture[..., 0], level)[..., None]
        return package.bm3d(picture @ OPPONENT.T, level) @ OPPONENT

    return _each(denoise, y)


def total_variation(y: Tensor, weight: float) -> Tensor:
    """Denoise by total variation, each channel by itself (Rudin, Osher & Fatemi 1992; Chambolle 2004).

    The minimiser of ½ ‖x − y‖² + weight · Σ |∇x|.

    Parameters
    ----------
    y : noisy images, (batch, C, H, W).
    weight : how much to smooth, above 0; for white noise, half to all of its standard deviation is a good start.

    Returns
    -------
    The denoised images, shape and type of `y`.

    Raises
    ------
    ValueError : `weight` is not positive, or `y` is not a finite batch of images.
    """
    check_positive(weight=weight)
    _check_images(y)
    # With scikit-image's own tolerance a larger weight may end up with more noise than a smaller one.
    # Looked up only here: scikit-image then loads scipy.stats, which takes a second.
    denoise = partial(restoration.denoise_tv_chambolle, weight=weight, eps=1e-5, max_num_iter=1000, channel_axis=-1)
    return _each(denoise, y)


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
    """Reconstruct images that are sparse in the cosine basis (Tibshirani 1996) by FISTA (Beck & Teboulle 2009).

    The minimiser of ½ ‖measure(x) − y‖² + lam · ‖c‖₁, where c is the orthonormal 2-D DCT of every channel of x.

    Parameters
    ----------
    measure : any linear map of images (batch, *image_shape) to measurements that PyTorch can differentiate: a matrix
        as `lambda x: x.flatten(1) @ matrix.T`, or the `measure` of a `LinearOperator`.
    y : measurements (batch, ...), of the type and on the device that `measure` works with.
    image_shape : (C, H, W).
    lam : weight of the sparsity, above 0; .01 is that of the paper (appendix D). The paper does not say how its error
        is scaled. For a Gaussian matrix with entries of variance 1/m, as there, the objective above is the one that
        scikit-learn's `Lasso(alpha=lam)`, 1/(2m) ‖·‖² + alpha · ‖·‖₁, has for entries of variance 1, as in the code
        of Bora et al. (2017).
    tolerance : stop when a step changes the coefficients by this fraction of their norm, over the batch.
    max_iterations : stop after this many steps in any case; each measures and applies the adjoint once.

    Returns
    -------
    Images (batch, *image_shape).

    Raises
    ------
    ValueError : a parameter is out of range, `y` is not finite or not of the shape that `measure` gives, or `measure`
        does not map zero to zero or has no derivative.
    """
    check_positive(lam=lam, tolerance=tolerance, max_iterations=max_iterations)
    channels, height, width = check_shape(image_shape)
    rows, columns = dct_matrix(height).to(y), dct_matrix(width).to(y)

    def synthesise(coefficients: Tensor) -> Tensor:
        return rows.T @ coefficients @ columns

    def predict(coefficients: Tensor) -> Tensor:
        return measure(synthesise(coefficients))

    c = y.new_zeros(len(y), channels, height, width)
    # The adjoint of a linear map is its derivative, transposed, at any point.
    origin, adjoint = torch.func.vjp(predict, c)  # type: ignore[misc]
    if origin.shape != y.shape:
        raise ValueError(f"y must have the shape that measure gives, {tuple(origin.shape)}, got {tuple(y.shape)}")
    if origin.any():
        raise ValueError("measure must be linear, and it does not map zero to zero: subtract its offset from y")
    if not y.isfinite().all():
        raise ValueError("y holds numbers that are not finite")

    # The eigenvalue is found from below, some per cent short at times; a step a third too long would diverge.
    step = 1 / (1.1 * _largest_eigenvalue(lambda v: adjoint(predict(v))[0], c))
    if not step.isfinite():
        raise ValueError("measure must be linear, and its derivative is zero")
    z, t = c, 1.0
    for _ in range(max_iterations):
        (gradient,) = adjoint(predict(z) - y)
        previous, c = c, soft_threshold(z - step * gradient, step * lam)
        if (c - previous).norm() <= tolerance * c.norm():
            break
        if ((z - c) * (c - previous)).sum() > 0:
            t = 1.0  # Momentum that points uphill starts anew (O'Donoghue & Candès 2015), or it would swing for long.
        t_previous, t = t, (1 + math.sqrt(1 + 4 * t**2)) / 2
        z = c + (t_previous - 1) / t * (c - previous)
    return synthesise(c)


def regularise_by_denoising(
    denoisers: Iterable[Callable[[Tensor], Tensor]], operator: LinearOperator, measurements: Tensor, *, lam: float = 0.0
) -> Iterator[Tensor]:
    """Restore by denoising and agreeing with the measurements in turn.

    The fixed-point iteration of RED (Romano, Elad & Milanfar 2017, section 4.2) for ½ ‖Mᵀx - m‖² + ½ lam xᵀ(x - D(x)),
    in closed form because MMᵀ is a projection. With `lam` 0 the measurements hold exactly, and it is the plug-and-play
    iteration with half-quadratic splitting (Venkatakrishnan et al. 2013; Zhang et al. 2017).

    Parameters
    ----------
    denoisers : D, from images (1, C, H, W) to the like, for each step: the same one for RED, with a falling noise level
        for plug-and-play.
    operator, measurements : of one image.
    lam : weight of the regularisation, at least 0.

    Yields
    ------
    The estimate (1, C, H, W) after every step.

    Raises
    ------
    ValueError : `lam` is out of range.
    """
    if not 0 <= lam < math.inf:
        raise ValueError(f"lam must be a number of at least 0, got {lam}")
    x = operator.adjoint(measurements)
    for denoise in denoisers:
        denoised = denoise(x)
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
    """`regularise_by_denoising` with a blind denoiser.

    RED wants a denoiser of a given strength. A blind one removes what noise it finds, and a smooth estimate has none;
    so here white noise of level σ is added first, D(x) is the average of x̂(x + σ n) over the noise n, and the steps are
    those of its stochastic gradient (Renaud et al. 2024). σ falls geometrically. Without noise the first steps of
    super-resolution change next to nothing.

    Parameters
    ----------
    operator, measurements : of one image, on the denoiser's device.
    denoiser : blind, called once a step.
    steps : of the descent.
    sigma_0, sigma_L : first and last noise level.
    step_size : fraction of the denoiser's correction that is taken, in (0, 1]. The smaller, the
        more the noise averages out.
    seed : of the noise.

    Yields
    ------
    The estimate (1, C, H, W) after every step; it agrees with the measurements.
    """
    check_positive(steps=steps, sigma_0=sigma_0, sigma_L=sigma_L, step_size=step_size)
    generator = torch.Generator().manual_seed(seed)

    def correct(x: Tensor, sigma: float) -> Tensor:
        noisy = x + sigma * torch.randn(x.shape, generator=generator).to(x)
        return x + step_size * (noisy - denoiser(noisy) - x)

    denoisers = (partial(correct, sigma=float(sigma)) for sigma in np.geomspace(sigma_0, sigma_L, int(steps)))
    return regularise_by_denoising(denoisers, operator, measurements)


def plug_and_play_bm3d(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    steps: int = 20,
    sigma_0: float = 0.3,
    sigma_L: float = 0.03,
) -> Iterator[Tensor]:
    """`regularise_by_denoising` with `bm3d`, whose noise level falls geometrically from `sigma_0` to `sigma_L`."""
    check_positive(steps=steps, sigma_0=sigma_0, sigma_L=sigma_L)
    denoisers = (partial(bm3d, sigma=float(sigma)) for sigma in np.geomspace(sigma_0, sigma_L, int(steps)))
    return regularise_by_denoising(denoisers, operator, measurements)


def least_total_variation(operator: LinearOperator, measurements: Tensor, *, steps: int = 500) -> Iterator[Tensor]:
    """Restore by the smallest total variation that agrees with the measurements.

    The minimiser of Σ |∇x| where Mᵀx = m, as TVAL3 (Li, Yin, Jiang & Zhang 2013) computes, here by the primal-dual
    iteration of Chambolle & Pock (2011). |∇x| is the length of the gradients of all colours together (Bresson & Chan
    2008).

    Parameters
    ----------
    operator, measurements : of images (batch, C, H, W).
    steps : each projects once.

    Yields
    ------
    The estimate (batch, C, H, W) after every step; it agrees with the measurements.
    """
    check_positive(steps=steps)
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
    """Differences to the pixel below and to the right, zero at the border: (batch, C, H, W) to (batch, 2, C, H, W)."""
    return torch.stack([x.diff(dim=-2, append=x[..., -1:, :]), x.diff(dim=-1, append=x[..., -1:])], dim=1)


def divergence(slopes: Tensor) -> Tensor:
    """Minus the adjoint of `gradient`: (batch, 2, C, H, W) to (batch, C, H, W)."""
    down, right = slopes.unbind(1)
    down, right = F.pad(down[..., :-1, :], (0, 0, 1, 1)), F.pad(right[..., :-1], (1, 1))
    return down.diff(dim=-2) + right.diff(dim=-1)


def soft_threshold(c: Tensor, threshold: float | Tensor) -> Tensor:
    """Every number brought nearer to zero by `threshold`, and to zero if it is nearer than that."""
    return c.sign() * (c.abs() - threshold).clamp(min=0)


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II of `size` numbers as a matrix, a row a frequency: float64, (size, size)."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = math.sqrt(2 / size) * torch.cos(math.pi / size * torch.outer(k, k + 0.5))
    matrix[0] /= math.sqrt(2)
    return matrix


def _largest_eigenvalue(apply: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """That of a positive semi-definite linear map of tensors as `like` is, by twenty power iterations."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    for _ in range(20):
        v = apply(v / v.norm())
    return v.norm()


def _check_images(y: Tensor) -> None:
    """Raise ValueError unless `y` is a finite batch of images."""
    if y.ndim != 4:
        raise ValueError(f"y must be images of shape (batch, C, H, W), got {tuple(y.shape)}")
    if not y.isfinite().all():
        raise ValueError("y holds numbers that are not finite")


def _each(denoise: Callable[[np.ndarray], np.ndarray], y: Tensor) -> Tensor:
    """Images (batch, C, H, W) through a function of one picture, (H, W, C) in float64."""
    pictures = y.detach().double().cpu().permute(0, 2, 3, 1).numpy()
    denoised = np.stack([denoise(picture) for picture in pictures])
    return torch.from_numpy(denoised).permute(0, 3, 1, 2).contiguous().to(y)
