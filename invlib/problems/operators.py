"""Measure images by linear operators with orthonormal rows.

Every operator but `FramedBlur` and `DenseMatrix` stands for a matrix `M` with orthonormal columns: `measure` is `Mᵀ x`
and `adjoint` is `M m`. Because `MᵀM = I`, the adjoint is also the pseudo-inverse, and `M Mᵀ` projects onto the measured
subspace. Only `DenseRows` and `DenseMatrix` store the matrix. Operators are modules, so `.to(device)` moves their
tensors. The notation is that of section 3 of Kadkhodaie & Simoncelli (2021), "Stochastic Solutions for Linear Inverse
Problems using the Prior Implicit in a Denoiser", https://arxiv.org/abs/2007.13640.

To write an operator of your own, subclass `LinearOperator`, set `measurement_shape`, and define `measure` and
`adjoint`.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib import runtime
from invlib.checks import check_batch, check_seed, check_shape
from invlib.runtime import own_defaults


class LinearOperator(nn.Module, ABC):
    """A linear measurement of images with orthonormal rows.

    Images and measurements are float32 tensors with the batch first. All methods raise ValueError for a tensor whose
    shape is not the operator's.

    Attributes
    ----------
    image_shape : (channels, height, width) of the images.
    measurement_shape : shape of the measurements of one image.
    orthonormal : whether the rows are orthonormal. An operator whose rows are not overrides `solve`.
    pictured : whether `view` shows a picture in which the noise of the measurements is white.
    smooth : whether `M Mᵀ x` is the image, but smaller or blurred. Then a denoiser can be told it.

    Examples
    --------
    An operator that measures the mean of each channel; the factor 4 makes its rows of 4 × 4 entries unit vectors:

    >>> class Means(LinearOperator):
    ...     measurement_shape = (3,)
    ...     def measure(self, x):
    ...         return 4 * x.mean((2, 3))
    ...     def adjoint(self, m):
    ...         return (m / 4)[..., None, None].expand(-1, 3, 4, 4)
    >>> means, m = Means((3, 4, 4)), torch.rand(2, 3)
    >>> torch.allclose(means.measure(means.adjoint(m)), m)
    True
    """

    measurement_shape: tuple[int, ...]
    orthonormal: ClassVar[bool] = True
    pictured: ClassVar[bool] = False
    smooth: bool = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = own_defaults(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = check_shape(image_shape)

    @property
    def measured(self) -> int:
        """How many numbers are measured of each image."""
        return math.prod(self.measurement_shape)

    @abstractmethod
    def measure(self, x: Tensor) -> Tensor:
        """Return `Mᵀ x`: measurements (batch, *measurement_shape) of images (batch, *image_shape)."""

    @abstractmethod
    def adjoint(self, m: Tensor) -> Tensor:
        """Return `M m`: least-norm images (batch, *image_shape) with measurements (batch, *measurement_shape)."""

    def project(self, x: Tensor) -> Tensor:
        """Return `M Mᵀ x`: the measured part of images (batch, *image_shape)."""
        return self.adjoint(self.measure(x))

    def view(self, m: Tensor) -> Tensor:
        """Return pictures that show measurements (batch, *measurement_shape) to a person; `M m` unless overridden."""
        return self.adjoint(m)

    def from_view(self, picture: Tensor) -> Tensor:
        """Return the measurements (batch, *measurement_shape) that pictures show: the inverse of `view`."""
        return self.measure(picture)

    def noise_levels(self, level: float) -> Tensor:
        """Return the standard deviation of each measurement, if the picture that was measured has white noise.

        `level` is the noise's standard deviation in that picture, which `view` shows: the small picture, the blurred
        picture. The result broadcasts with (*measurement_shape).
        """
        return torch.tensor(level)

    def solve(self, m: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """Return `(signal · MᵀM + diag(noise))⁻¹ m` of measurements (batch, *measurement_shape).

        `signal` and `noise` are variances, of the image and of each measurement. Both broadcast with the measurements.
        """
        return m / (signal + noise)

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of images (batch, *image_shape) that is the answer: all of it unless overridden."""
        return x

    def extended(self) -> LinearOperator:
        """Return the operator for a picture of `image_shape` that is itself what was measured: this one by default."""
        return self

    def check_image(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is (batch, *image_shape)."""
        check_batch(x, self.image_shape, "images")

    def check_measurements(self, m: Tensor) -> None:
        """Raise ValueError unless `m` is (batch, *measurement_shape)."""
        check_batch(m, self.measurement_shape, "measurements")


class Identity(LinearOperator):
    """Every number of the image, which makes sense with noise only: denoising. Measurements are (batch, C, H, W)."""

    pictured = True

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__(image_shape)
        self.measurement_shape = self.image_shape

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return m


class Sum(LinearOperator):
    """A sum a·x + δ of two pictures whose channels lie side by side, (2C, H, W): separation.

    The measurements, (batch, C, H, W), are the sum divided by √(a² + 1), so that the rows have unit length. `view` is
    the sum itself, and the answer is x.

    Parameters
    ----------
    image_shape : (C, H, W) of each of the two.
    factor : a.

    >>> sum_of_two = Sum((1, 1, 2), factor=0.5)
    >>> sum_of_two.view(sum_of_two.measure(torch.tensor([[[[0.2, 0.4]], [[0.3, 0.0]]]])))
    tensor([[[[0.4000, 0.2000]]]])
    """

    pictured = True

    def __init__(self, image_shape: Sequence[int], factor: float = 1.0) -> None:
        channels, height, width = check_shape(image_shape)
        super().__init__((2 * channels, height, width))
        self.measurement_shape = (channels, height, width)
        self.factor, self.scale = factor, math.hypot(factor, 1)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        first, second = x.chunk(2, 1)
        return (self.factor * first + second) / self.scale

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return torch.cat([self.factor * m, m], 1) / self.scale

    def view(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return self.scale * m

    def from_view(self, picture: Tensor) -> Tensor:
        self.check_measurements(picture)
        return picture / self.scale

    def noise_levels(self, level: float) -> Tensor:
        return torch.tensor(level / self.scale)

    def crop(self, x: Tensor) -> Tensor:
        return x[:, : self.measurement_shape[0]]


class BlockAverage(LinearOperator):
    """Averages of non-overlapping blocks of `factor` × `factor` pixels: super-resolution.

    The measurements, (batch, channels, height / factor, width / factor), are `factor` times the averages, so that the
    rows have unit length. `view` is the low-resolution picture, in [0, 1] like the image. ValueError unless `factor`
    divides height and width.

    >>> average = BlockAverage((1, 2, 4), factor=2)
    >>> x = torch.tensor([[[[0.0, 0.2, 0.4, 0.6], [0.2, 0.4, 0.6, 0.8]]]])
    >>> average.view(average.measure(x))
    tensor([[[[0.2000, 0.6000]]]])
    """

    smooth = True
    pictured = True

    def __init__(self, image_shape: Sequence[int], factor: int) -> None:
        super().__init__(image_shape)
        self.factor = factor
        self.measurement_shape = reduced(self.image_shape, factor)

    def noise_levels(self, level: float) -> Tensor:
        return torch.tensor(self.factor * level)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.factor * F.avg_pool2d(x, self.factor)

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return F.interpolate(m / self.factor, scale_factor=self.factor, mode="nearest")

    def view(self, m: Tensor) -> Tensor:
        """Return the low-resolution pictures, (batch, channels, height / factor, width / factor)."""
        self.check_measurements(m)
        return m / self.factor

    def from_view(self, picture: Tensor) -> Tensor:
        """Return the measurements of low-resolution pictures (batch, channels, height / factor, width / factor)."""
        check_batch(picture, self.measurement_shape, "low-resolution pictures")
        return self.factor * picture


def reduced(image_shape: tuple[int, int, int], factor: int) -> tuple[int, int, int]:
    """Return the shape of an image that is `factor` times smaller; ValueError unless that divides height and width."""
    channels, height, width = image_shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(
            f"factor must divide both sides of the image, got {factor} for {height}×{width}: crop the image first"
        )
    return channels, height // factor, width // factor


class Downsampling(LinearOperator):
    """The ways in which programs make a picture smaller: super-resolution from small pictures of other people.

    A way is a matrix for the rows and one for the columns, in closed form. Their singular value decompositions make the
    operator orthonormal: the measurements are the image's coefficients for the right singular vectors, and `view`
    turns them into the small picture.

    Parameters
    ----------
    image_shape : (channels, height, width).
    factor : how many times smaller the picture is. ValueError unless it divides height and width.
    way : a name in `WAYS`; ValueError otherwise. "nearest" takes the pixel in the middle, as Pillow does, and "stride"
        takes the first of every `factor` pixels, as NumPy's slices and OpenCV do.

    Examples
    --------
    >>> half = Downsampling((1, 8, 8), factor=2, way="stride")
    >>> x = torch.rand(1, 1, 8, 8)
    >>> torch.allclose(half.view(half.measure(x)), x[..., ::2, ::2], atol=1e-6)
    True
    """

    pictured = True
    rows: Tensor
    columns: Tensor
    small_rows: Tensor
    small_columns: Tensor
    gains: Tensor

    def __init__(self, image_shape: Sequence[int], factor: int, way: str) -> None:
        super().__init__(image_shape)
        self.measurement_shape, self.way = reduced(self.image_shape, factor), way
        self.smooth = way in FILTERS
        matrices = (resampling_matrix(side, factor, way) for side in self.image_shape[1:])
        axes = [torch.linalg.svd(matrix, full_matrices=False) for matrix in matrices]
        for name, (left, _, right) in zip(("rows", "columns"), axes, strict=True):
            self.register_buffer(name, right.float())
            self.register_buffer(f"small_{name}", left.float())
        self.register_buffer("gains", torch.outer(*(gains for _, gains, _ in axes)).float())

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.rows @ x @ self.columns.mT

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return self.rows.mT @ m @ self.columns

    def view(self, m: Tensor) -> Tensor:
        """Return the small pictures, (batch, channels, height / factor, width / factor)."""
        self.check_measurements(m)
        return self.small_rows @ (self.gains * m) @ self.small_columns.mT

    def from_view(self, picture: Tensor) -> Tensor:
        """Return the measurements of small pictures (batch, channels, height / factor, width / factor)."""
        check_batch(picture, self.measurement_shape, "small pictures")
        return self.small_rows.mT @ picture @ self.small_columns / self.gains

    def noise_levels(self, level: float) -> Tensor:
        return level / self.gains


def cubic(x: Tensor) -> Tensor:
    """Keys's cubic filter with a = -½, which Pillow's, MATLAB's and other programs' "bicubic" uses.

    References
    ----------
    Keys (1981), "Cubic convolution interpolation for digital image processing",
    https://doi.org/10.1109/TASSP.1981.1163711
    """
    x = x.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def lanczos(x: Tensor) -> Tensor:
    """The sinc function under a window of three lobes."""
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


FILTERS: dict[str, Callable[[Tensor], Tensor]] = {
    "box": lambda x: (x.abs() < 0.5).double(),
    "bicubic": cubic,
    "lanczos": lanczos,
}
"""Ways to make a picture smaller by a filter that is stretched by the factor, so that nothing is skipped."""

WAYS = (*FILTERS, "nearest", "stride")
"""The ways to make a picture smaller."""


def resampling_matrix(side: int, factor: int, way: str) -> Tensor:
    """Make the matrix (side / factor, side) that makes one side of a picture smaller: float64, every row of sum 1."""
    if way not in WAYS:
        raise ValueError(f"downsampling must be one of {', '.join(WAYS)}, got {way!r}")
    small, pixels = torch.arange(side // factor, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64)
    if way in ("nearest", "stride"):
        return (pixels == small * factor + (factor // 2 if way == "nearest" else 0)).double()
    weights = FILTERS[way]((pixels + 0.5) / factor - small - 0.5)
    return weights / weights.sum(1, keepdim=True)


class Mask(LinearOperator):
    """Pixels that are measured one by one: inpainting. Measurements are (batch, number of kept values).

    `kept` is bool, (height, width) or (1 or channels, height, width), and True where the image is measured. ValueError
    for any other type or shape, or if it is True nowhere.

    >>> mask = Mask((1, 1, 3), torch.tensor([[True, False, True]]))
    >>> m = mask.measure(torch.tensor([[[[0.1, 0.2, 0.3]]]]))
    >>> m, mask.adjoint(m)
    (tensor([[0.1000, 0.3000]]), tensor([[[[0.1000, 0.0000, 0.3000]]]]))
    """

    kept: Tensor
    chosen: Tensor

    def __init__(self, image_shape: Sequence[int], kept: Tensor) -> None:
        super().__init__(image_shape)
        height, width = self.image_shape[1:]
        if kept.dtype != torch.bool or kept.shape not in {(height, width), (1, height, width), self.image_shape}:
            raise ValueError(
                f"kept must be bool, of shape ({height}, {width}), (1, {height}, {width}) or {self.image_shape}, "
                f"got {kept.dtype} of shape {tuple(kept.shape)}"
            )
        if not kept.any():
            raise ValueError("kept must be True somewhere: a mask that measures nothing leaves nothing to restore from")
        self.register_buffer("kept", kept.expand(self.image_shape).clone())
        self.register_buffer("chosen", indices(self.kept))
        self.measurement_shape = (len(self.chosen),)

    @classmethod
    @own_defaults
    def block(cls, image_shape: Sequence[int], box: tuple[int, int, int, int]) -> Mask:
        """Measure everything except the block `box` = (top, left, height, width), in pixels.

        ValueError unless the box lies inside the image and leaves some of it.
        """
        rows, columns = check_shape(image_shape)[1:]
        top, left, height, width = box
        if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
            raise ValueError(f"box (top, left, height, width) must lie inside the {rows}×{columns} image, got {box}")
        kept = torch.ones(rows, columns, dtype=torch.bool)
        kept[top : top + height, left : left + width] = False
        return cls(image_shape, kept)

    @classmethod
    @own_defaults
    def random_pixels(cls, image_shape: Sequence[int], keep: float, seed: int = 0, shared: bool = True) -> Mask:
        """Measure a random fraction `keep` of the pixels, `round(keep * count)` of them.

        `keep` is in (0, 1]; ValueError otherwise, or if it rounds to no pixel. If `shared`, the same pixels are chosen
        in every channel; else each number is chosen by itself.

        >>> Mask.random_pixels((3, 10, 10), keep=0.25).measurement_shape
        (75,)
        """
        channels, height, width = check_shape(image_shape)
        kept = torch.zeros(1 if shared else channels, height, width, dtype=torch.bool)
        kept.view(-1)[random_subset(kept.numel(), keep, torch.Generator().manual_seed(check_seed(seed)))] = True
        return cls(image_shape, kept)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.flatten(1)[:, self.chosen]

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return embed(m, self.chosen, self.image_shape)

    def project(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.where(self.kept, 0.0)

    def hides(self, side: int) -> bool:
        """Whether nothing is measured in some square of `side` pixels, or of as many as the image has.

        >>> hole = Mask.block((1, 8, 8), (2, 3, 4, 5))
        >>> hole.hides(4), hole.hides(5)
        (True, False)
        """
        # How many pixels are kept above and to the left of each corner; four corners tell how many a square has.
        before = F.pad(self.kept.any(0).long().cumsum(0).cumsum(1), (1, 0, 1, 0))
        down, across = (min(side, reach) for reach in self.image_shape[1:])
        kept = before[down:, across:] - before[:-down, across:] - before[down:, :-across] + before[:-down, :-across]
        return bool((kept == 0).any())


def hartley(x: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """The orthonormal Hartley transform over some dimensions, which is real, symmetric and its own inverse.

    It is `Re F - Im F` of the orthonormal Fourier transform `F`. The conjugate coefficients a ± ib of the frequencies
    ±k become the real numbers a - b and a + b, which have the same energy. A coefficient that is its own conjugate (the
    mean, and the Nyquist frequencies of even sides) is real and stays. So every frequency has one real number, and none
    is a special case. See Bracewell (1983), "Discrete Hartley transform", https://doi.org/10.1364/JOSA.73.001832.

    >>> x = torch.rand(2, 3, 8, 10)
    >>> torch.allclose(hartley(hartley(x)), x, atol=1e-6)
    True
    """
    spectrum = torch.fft.fftn(x, dim=dims, norm="ortho")
    return spectrum.real - spectrum.imag


def opposite(spectrum: Tensor) -> Tensor:
    """Return the value at -k for every frequency k of a spectrum (height, width), in the order of `torch.fft.fft2`."""
    return spectrum.flip(0, 1).roll((1, 1), (0, 1))


class FourierRows(LinearOperator):
    """A set of Fourier coefficients, as real numbers: measurements are (batch, channels, number of kept frequencies).

    The real numbers are the Hartley coefficients of the kept frequencies (see `hartley`). `kept` is bool, (height,
    width), and True where a frequency is kept, in the order of `torch.fft.fft2`. ValueError unless it keeps some
    frequency, and -k with every k, because a real image cannot have one without the other.

    >>> kept = torch.zeros(8, 8, dtype=torch.bool)
    >>> kept[0, 0] = True  # the mean of each channel
    >>> x = torch.rand(1, 3, 8, 8)
    >>> torch.allclose(FourierRows((3, 8, 8), kept).measure(x)[..., 0], 8 * x.mean((2, 3)))
    True
    """

    kept: Tensor
    chosen: Tensor

    def __init__(self, image_shape: Sequence[int], kept: Tensor) -> None:
        super().__init__(image_shape)
        channels, height, width = self.image_shape
        if kept.dtype != torch.bool or kept.shape != (height, width):
            raise ValueError(
                f"kept must be bool, of shape ({height}, {width}), got {kept.dtype} of shape {tuple(kept.shape)}"
            )
        if not kept.any() or not torch.equal(kept, opposite(kept)):
            raise ValueError("kept must hold at least one frequency, and -k with every frequency k")
        self.register_buffer("kept", kept)
        self.register_buffer("chosen", indices(kept))
        self.measurement_shape = (channels, len(self.chosen))

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return hartley(x).flatten(2)[..., self.chosen]

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return hartley(embed(m, self.chosen, self.image_shape[1:]))

    def project(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.filter(x, half_plane(self.kept))

    def filter(self, x: Tensor, response: Tensor) -> Tensor:
        """Multiply the `rfft2` of images (batch, *image_shape) by `response`, (height, width // 2 + 1)."""
        return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=self.image_shape[1:])


def half_plane(spectrum: Tensor) -> Tensor:
    """Return the part of a full spectrum (height, width) that `torch.fft.rfft2` keeps: (height, width // 2 + 1)."""
    return spectrum[:, : spectrum.shape[1] // 2 + 1]


class LowPass(FourierRows):
    """The low-frequency Fourier coefficients: spectral super-resolution.

    The kept frequencies fill a centred rectangle whose sides are √keep of the spectrum's, so they reach √keep / 2
    cycles per pixel along each axis. The mean is always kept, and `keep=1` keeps everything. The kept fraction differs
    from `keep` a little, because each side of the rectangle is an odd number of frequencies. ValueError unless `keep`
    is in (0, 1].

    >>> LowPass((3, 64, 64), keep=0.1).measurement_shape  # 21 × 21 frequencies of 64 × 64
    (3, 441)
    """

    smooth = True

    def __init__(self, image_shape: Sequence[int], keep: float) -> None:
        check_keep(keep)
        axes = (torch.arange(side) for side in check_shape(image_shape)[1:])
        rows, columns = (2 * torch.minimum(k, len(k) - k) <= math.sqrt(keep) * len(k) for k in axes)
        super().__init__(image_shape, rows[:, None] & columns)


class Blur(FourierRows):
    """Circular convolution with a known kernel: deblurring of pictures that wrap (see `FramedBlur` for others).

    A blur multiplies each Fourier coefficient by the kernel's transfer function. This is its singular value
    decomposition, and the singular values are the magnitudes. Frequencies whose magnitude is above `threshold` times
    the largest are measured; the others, which the blur all but removes, are dropped. The measurements are the Hartley
    coefficients of the *sharp* image at the kept frequencies, with the blur's gain and phase divided out. `view` puts
    gain and phase back, so it is the blurred picture without the dropped frequencies.

    Parameters
    ----------
    image_shape : (channels, height, width).
    kernel : (kernel height, kernel width), no larger than the image. It is centred on pixel (kernel height // 2,
        kernel width // 2) and scaled to sum 1. ValueError if it is not finite, sums to zero or does not fit.
    threshold : in (0, 1), ValueError otherwise. `from_view` amplifies the errors of a blurred picture, such as its
        rounding to 8 bits, by up to 1 / threshold.

    Attributes
    ----------
    dropped : how many numbers of each image are dropped; `measured + dropped` is the size of the image.

    Examples
    --------
    >>> blur = Blur((1, 32, 32), gaussian_kernel(1.5))
    >>> blur.measured, blur.dropped
    (221, 803)
    """

    transfer: Tensor
    inverse: Tensor
    gains: Tensor

    smooth = True

    def __init__(self, image_shape: Sequence[int], kernel: Tensor, threshold: float = 0.05) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, both excluded, got {threshold}")
        transfer = transfer_function(kernel, check_shape(image_shape)[1:])
        # The maximum keeps rounding from dropping one of two opposite frequencies.
        magnitude = torch.maximum(transfer.abs(), opposite(transfer.abs()))
        super().__init__(image_shape, magnitude > threshold * magnitude.max())
        self.dropped = math.prod(self.image_shape) - self.measured
        self.register_buffer("gains", magnitude.flatten()[self.chosen].float())
        self.register_buffer("transfer", half_plane(transfer).to(torch.complex64))
        self.register_buffer("inverse", half_plane((1 / transfer).where(self.kept, 0)).to(torch.complex64))

    def blur(self, x: Tensor) -> Tensor:
        """Return blurred images (batch, *image_shape), the dropped frequencies with them."""
        self.check_image(x)
        return self.filter(x, self.transfer)

    def view(self, m: Tensor) -> Tensor:
        """Return the blurred pictures, (batch, *image_shape), without the dropped frequencies."""
        return self.filter(self.adjoint(m), self.transfer)

    def from_view(self, picture: Tensor) -> Tensor:
        """Return the measurements of blurred pictures (batch, *image_shape): the blur is undone at kept frequencies."""
        self.check_image(picture)
        return self.measure(self.filter(picture, self.inverse))

    def noise_levels(self, level: float) -> Tensor:
        """Return the levels (channels, number of kept frequencies): weak frequencies are amplified, and so is noise."""
        return (level / self.gains).expand(self.measurement_shape)


class FramedBlur(LinearOperator):
    """The part of a blurred scene that a camera's frame shows: deblurring without the assumption that pictures wrap.

    The image is the scene: as much larger than the frame as the kernel reaches beyond it. The measurements are the
    blurred picture itself, (batch, channels, height - kernel height + 1, width - kernel width + 1). `crop` cuts an
    image to the frame.

    The rows are not orthonormal, and `adjoint` is the transpose `Aᵀ m`, not the pseudo-inverse. `solve` uses conjugate
    gradients, which the blur of a picture that wraps speeds up.

    Parameters
    ----------
    image_shape : (channels, height, width) of the scene.
    kernel : as for `Blur`.

    Examples
    --------
    >>> blur = FramedBlur((1, 32, 32), gaussian_kernel(1.0))
    >>> blur.measurement_shape, blur.extended().measurement_shape
    ((1, 26, 26), (1, 32, 32))
    """

    orthonormal = False
    pictured = True

    FLOOR = 0.01
    """The least noise that `solve` allows for, as a fraction of the signal's standard deviation: with none at all, the
    errors of rounding would be amplified without bound where the blur leaves nothing."""

    transfer: Tensor
    gain: Tensor

    def __init__(self, image_shape: Sequence[int], kernel: Tensor) -> None:
        super().__init__(image_shape)
        channels, *size = self.image_shape
        self.kernel = kernel
        self.register_buffer("transfer", half_plane(transfer_function(kernel, (size[0], size[1]))).to(torch.complex64))
        # Pixel (i, j) of a blurred picture depends on the scene from i - height + 1 + centre to i + centre.
        lost = [(reach - 1 - reach // 2, reach // 2) for reach in kernel.shape]
        self.frame = tuple(slice(before, side - after) for (before, after), side in zip(lost, size, strict=True))
        height, width = (side - reach + 1 for side, reach in zip(size, kernel.shape, strict=True))
        self.margins = (lost[1][0], lost[1][1], lost[0][0], lost[0][1])
        self.measurement_shape = (channels, height, width)
        # The blur of a frame that wraps, for `solve`. A kernel that is larger than the frame wraps more than once.
        wrapped = torch.zeros(height, width, dtype=torch.float64)
        places = torch.arange(kernel.shape[0])[:, None] % height, torch.arange(kernel.shape[1]) % width
        wrapped.index_put_(places, kernel.double() / kernel.double().sum(), accumulate=True)
        self.register_buffer("gain", torch.fft.rfft2(wrapped).abs().square().float())

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.crop(self._filter(x, self.transfer))

    def adjoint(self, m: Tensor) -> Tensor:
        """Return `Aᵀ m`: images (batch, *image_shape) from measurements (batch, *measurement_shape)."""
        self.check_measurements(m)
        return self._filter(F.pad(m, self.margins), self.transfer.conj())

    def view(self, m: Tensor) -> Tensor:
        """Return the blurred pictures, which are the measurements."""
        self.check_measurements(m)
        return m

    def from_view(self, picture: Tensor) -> Tensor:
        """Return the measurements of blurred pictures (batch, *measurement_shape), which are the pictures."""
        check_batch(picture, self.measurement_shape, "blurred pictures")
        return picture

    def project(self, x: Tensor) -> Tensor:
        """Return `Aᵀ (A Aᵀ + ε)⁻¹ A x`, the part of images (batch, *image_shape) that is measured well."""
        return self.adjoint(self.solve(self.measure(x), x.new_ones(1), x.new_zeros(1)))

    def crop(self, x: Tensor) -> Tensor:
        return x[..., self.frame[0], self.frame[1]]

    def extended(self) -> FramedBlur:
        channels, height, width = self.image_shape
        down, right = self.kernel.shape
        return FramedBlur((channels, height + down - 1, width + right - 1), self.kernel)

    def solve(self, m: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """Return `(signal · A Aᵀ + diag(noise))⁻¹ m` by conjugate gradients, for noise of at least `FLOOR`.

        References
        ----------
        Nagy, Palmer & Perrone (2004), "Iterative Methods for Image Deblurring: A Matlab Object-Oriented Approach",
        https://doi.org/10.1023/B:NUMA.0000027762.08431.64
        """
        noise = noise + self.FLOOR**2 * signal
        typical = noise.flatten(1).mean(1).view(-1, 1, 1, 1) if noise.ndim == 4 else noise
        inverse = 1 / (signal * self.gain + typical)  # exact for a picture that wraps
        return conjugate_gradients(
            lambda v: signal * self.measure(self.adjoint(v)) + noise * v, m, lambda r: self._filter(r, inverse)
        )

    def _filter(self, x: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=x.shape[-2:])


STEPS = 30
"""The most conjugate gradients of a `solve`. Samplers call it again and again, so that a small rest does no harm."""


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor],
    m: Tensor,
    precondition: Callable[[Tensor], Tensor],
    steps: int = STEPS,
    tolerance: float = 1e-6,
) -> Tensor:
    """Solve `apply(v) = m` for each item of a batch m by preconditioned conjugate gradients, in at most `steps` steps.

    `apply` and `precondition`, which is about its inverse, are symmetric and positive definite. The iteration
    ends when rᵀ P r, where r = m - apply(v) and P is `precondition`, is the fraction `tolerance` of its first value.

    >>> conjugate_gradients(lambda v: v * torch.tensor([1.0, 4.0]), torch.tensor([[2.0, 2.0]]), lambda r: r)
    tensor([[2.0000, 0.5000]])
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).view(-1, *[1] * (m.ndim - 1))

    v, r = torch.zeros_like(m), m
    z = direction = precondition(r)
    energy = start = dot(r, z)
    for _ in range(steps):
        along = apply(direction)
        length = energy / dot(direction, along).clamp_min(1e-30)
        v, r = v + length * direction, r - length * along
        z = precondition(r)
        before, energy = energy, dot(r, z)
        if bool((energy <= tolerance * start).all()):
            break
        direction = z + energy / before.clamp_min(1e-30) * direction
    return v


def transfer_function(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the Fourier transform of a kernel centred on the origin and scaled to sum 1: complex128, (*size,)."""
    kernel = torch.as_tensor(kernel, dtype=torch.float64)
    if kernel.ndim != 2 or kernel.shape[0] > size[0] or kernel.shape[1] > size[1] or not kernel.numel():
        raise ValueError(
            f"kernel must be 2-D and no larger than the {size[0]}×{size[1]} image, got shape {tuple(kernel.shape)}"
        )
    # A sum that is only rounding error is treated as zero.
    if not kernel.isfinite().all() or kernel.sum().abs() <= 1e-6 * kernel.abs().sum():
        raise ValueError("kernel must be finite and must not sum to zero, as it is scaled to sum 1")
    padded = torch.zeros(size, dtype=torch.float64)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel / kernel.sum()
    return torch.fft.fft2(padded.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1)))


@own_defaults
def gaussian_kernel(sigma: float) -> Tensor:
    """Make a Gaussian kernel of standard deviation `sigma` > 0 pixels, cut at 3 σ: square, odd side, float32, sum 1.

    >>> gaussian_kernel(1.5).shape
    torch.Size([11, 11])
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a positive number of pixels, got {sigma}")
    radius = math.ceil(3 * sigma)
    profile = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = torch.outer(profile, profile)
    return (kernel / kernel.sum()).float()


@own_defaults
def motion_kernel(length: float, angle: float) -> Tensor:
    """Make the kernel of a camera that moves evenly during the exposure: a straight streak, square, odd side, sum 1.

    `length` is that of the streak in pixels, at least 1 (no blur), ValueError otherwise. `angle` is its direction in
    degrees, counter-clockwise from the horizontal.

    >>> motion_kernel(2, 0)
    tensor([[0.0000, 0.0000, 0.0000],
            [0.2500, 0.5000, 0.2500],
            [0.0000, 0.0000, 0.0000]])
    """
    if not 1 <= length < math.inf:
        raise ValueError(f"length must be at least 1 pixel, got {length}")
    reach = (length - 1) / 2  # The streak ends at the outer edges of its last pixels, half a pixel from their centres.
    radius = math.ceil(reach)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    down, right = torch.meshgrid(offsets, offsets, indexing="ij")
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = right * cosine - down * sine, right * sine + down * cosine
    distance = torch.hypot(across, along - along.clamp(-reach, reach))
    kernel = (1 - distance).clamp(min=0)
    return (kernel / kernel.sum()).float()


class StructuredRows(LinearOperator):
    """Random orthonormal rows at the cost of one transform: compressive sensing of images of any size.

    The numbers of the image get random signs, and an orthonormal Hartley transform over channels, rows and columns
    spreads each of them over all coefficients. A random subset of these is kept: measurements are (batch, number kept).

    Parameters
    ----------
    image_shape : (channels, height, width).
    keep : fraction of the coefficients, in (0, 1]; `round(keep * size)` are kept. ValueError otherwise, or if it rounds
        to none.
    seed : for the signs and the subset, which are the same on every device.

    Examples
    --------
    >>> StructuredRows((3, 64, 64), keep=0.1).measurement_shape
    (1229,)
    """

    signs: Tensor
    chosen: Tensor

    def __init__(self, image_shape: Sequence[int], keep: float, seed: int = 0) -> None:
        super().__init__(image_shape)
        generator = torch.Generator().manual_seed(check_seed(seed))
        self.register_buffer("signs", torch.randint(2, self.image_shape, generator=generator) * 2.0 - 1.0)
        self.register_buffer("chosen", random_subset(math.prod(self.image_shape), keep, generator))
        self.measurement_shape = (len(self.chosen),)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return hartley(self.signs * x, dims=(-3, -2, -1)).flatten(1)[:, self.chosen]

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return self.signs * hartley(embed(m, self.chosen, self.image_shape), dims=(-3, -2, -1))


class StoredMatrix(LinearOperator):
    """A measurement `Aᵀ x` by a matrix A that is stored, (channels · height · width, m); the base of those below."""

    matrix: Tensor

    def _store(self, matrix: Tensor) -> None:
        self.register_buffer("matrix", matrix)
        self.measurement_shape = (matrix.shape[1],)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.flatten(1) @ self.matrix

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return (m @ self.matrix.T).unflatten(1, self.image_shape)


class DenseRows(StoredMatrix):
    """A Gaussian matrix whose rows were made orthonormal: the paper's compressive sensing.

    The matrix is stored, so use this for small images only. Measurements, parameters and errors are as for
    `StructuredRows`; ValueError too if the matrix would have more entries than `largest`.

    Attributes
    ----------
    largest : of all instances: 2²⁷ (512 MiB) unless a program sets another number.

    >>> rows = DenseRows((1, 8, 8), keep=0.25)
    >>> torch.allclose(rows.matrix.T @ rows.matrix, torch.eye(16), atol=1e-5)
    True
    """

    largest: ClassVar[int] = 2**27

    def __init__(self, image_shape: Sequence[int], keep: float, seed: int = 0) -> None:
        super().__init__(image_shape)
        size = math.prod(self.image_shape)
        count = kept_count(size, keep)
        if size * count > self.largest:
            raise ValueError(
                f"keep asks for a dense {size}×{count} matrix, more than {self.largest / 1e6:.0f} million entries: "
                "use structured rows instead"
            )
        self._store(orthonormal_columns(size, count, seed))


class DenseMatrix(StoredMatrix):
    """Weighted sums of all the numbers of an image, as they are: `measure` is `Aᵀ x`.

    The rows are not orthonormal, and `adjoint` is `A m`, not the pseudo-inverse. `solve` uses conjugate gradients.

    Parameters
    ----------
    image_shape : (channels, height, width) of the images.
    matrix : A, (channels · height · width, m), which is not copied. ValueError if it has another shape.

    >>> sums = DenseMatrix((1, 2, 2), torch.ones(4, 1))
    >>> sums.measure(torch.ones(2, 1, 2, 2))
    tensor([[4.],
            [4.]])
    """

    orthonormal = False

    FLOOR = 0.01
    """The least noise that `solve` allows for, as in `FramedBlur`."""

    def __init__(self, image_shape: Sequence[int], matrix: Tensor) -> None:
        super().__init__(image_shape)
        if matrix.ndim != 2 or len(matrix) != (size := math.prod(self.image_shape)):
            raise ValueError(
                f"matrix must have {size} rows, one for each number of an image, got {tuple(matrix.shape)}"
            )
        self._store(matrix)

    def project(self, x: Tensor) -> Tensor:
        """Return `A (AᵀA + ε)⁻¹ Aᵀ x`, the part of images (batch, *image_shape) that is measured."""
        return self.adjoint(self.solve(self.measure(x), x.new_ones(1), x.new_zeros(1)))

    def solve(self, m: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """Return `(signal · AᵀA + diag(noise))⁻¹ m` by conjugate gradients, for noise of at least `FLOOR`."""
        noise = noise + self.FLOOR**2 * signal
        diagonal = signal * self.matrix.square().sum(0) + noise
        return conjugate_gradients(
            lambda v: signal * self.measure(self.adjoint(v)) + noise * v, m, lambda r: r / diagonal
        )


_MAKING = threading.Lock()
_LAST_BASES: deque[Tensor] = deque(maxlen=2)
_BASES: WeakValueDictionary[tuple[int, int, int], Tensor] = WeakValueDictionary()
"""The bases that are in use somewhere, and the last two that were made: each is made once."""


def is_made(image_shape: Sequence[int], keep: float, seed: int = 0) -> bool:
    """Whether the basis of these `DenseRows` is there already, so that they take no time."""
    size = math.prod(image_shape)
    return (size, kept_count(size, keep), seed) in _BASES


def orthonormal_columns(size: int, count: int, seed: int) -> Tensor:
    """Orthonormalise the columns of a Gaussian matrix (size, count), which takes seconds.

    Whoever asks for a basis that is in use, or is one of the last two, gets the same one, and whoever asks for one that
    is being made waits for it. So two visitors of the app with different settings do not undo each other's.
    """
    # A lock that is waited for without a pause would keep the turn from the work that holds it.
    while not _MAKING.acquire(timeout=0.05):
        runtime.pause()
    try:
        if (basis := _BASES.get((size, count, seed))) is None:
            gaussian = torch.randn(size, count, generator=torch.Generator().manual_seed(check_seed(seed)))
            _BASES[size, count, seed] = basis = orthonormalise(gaussian)
        if not any(basis is last for last in _LAST_BASES):
            _LAST_BASES.append(basis)
        return basis
    finally:
        _MAKING.release()


def orthonormalise(matrix: Tensor, rows: int = 256) -> Tensor:
    """Orthonormalise the columns of a matrix A of full rank: A R⁻¹, where RᵀR = AᵀA is a Cholesky decomposition.

    A QR decomposition gives the same but for signs. This takes no longer, even in float64, which makes up for the
    square of the condition number, and it pauses between parts of so many rows (see `runtime.pause`).
    """
    parts = matrix.split(rows)
    gram = matrix.new_zeros(matrix.shape[1], matrix.shape[1], dtype=torch.float64)
    for part in parts:
        gram.addmm_(part.double().T, part.double())
        runtime.pause()
    factor = torch.linalg.cholesky(gram, upper=True)
    columns = torch.empty_like(matrix)
    for part, solved in zip(parts, columns.split(rows), strict=True):
        solved.copy_(torch.linalg.solve_triangular(factor, part.double(), upper=True, left=False))
        runtime.pause()
    return columns


def check_keep(keep: float) -> None:
    """Raise ValueError unless `keep` is a fraction in (0, 1]."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be a fraction above 0 and at most 1, got {keep}")


def kept_count(count: int, keep: float) -> int:
    """Return the fraction `keep` of `count`, rounded; ValueError if that is 0 or `keep` is not in (0, 1]."""
    check_keep(keep)
    kept = round(keep * count)
    if kept == 0:
        raise ValueError(f"keep must be at least {1 / count:.2g} to keep one of {count} numbers, got {keep}")
    return kept


def indices(kept: Tensor) -> Tensor:
    """Return the flat indices where a mask is True, ascending: int64.

    Indexing by the mask itself would wait for an accelerator at every use, to count them.
    """
    return kept.flatten().nonzero().flatten()


def embed(numbers: Tensor, chosen: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Put numbers (..., n) at n flat indices of zeros: (..., *shape)."""
    zeros = numbers.new_zeros(*numbers.shape[:-1], math.prod(shape))
    zeros[..., chosen] = numbers
    return zeros.unflatten(-1, shape)


def random_subset(count: int, keep: float, generator: torch.Generator) -> Tensor:
    """Draw a random fraction `keep` of the indices below `count`, ascending: int64, (round(keep * count),)."""
    return torch.randperm(count, generator=generator)[: kept_count(count, keep)].sort().values
