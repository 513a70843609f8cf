"""What a user would try instead of a flow: denoisers that know only how strong the noise is, and sparsity.

The baselines of Whang, Lei & Dimakis (2021), section 5: BM3D for denoising and LASSO in a cosine basis for compressive
sensing; and total variation, which needs nothing installed. Images are (batch, C, H, W) in [0, 1]; results are not
clipped. The denoisers take pictures with noise added, y = x + δ: where the picture was scaled first, y = a·x + δ, give
them y / a and sigma / a.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from invlib.ascent import check_positive
from invlib.operators import check_shape

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
    return _each(lambda picture: denoise_tv_chambolle(picture, weight, eps=1e-5, max_num_iter=1000, channel_axis=-1), y)


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
