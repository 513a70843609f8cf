"""What is measured: linear operators whose rows are orthonormal.

Every operator stands for a matrix `M` with orthonormal columns, which only `DenseRows` stores: `measure` is `Mᵀ x`,
`adjoint` is `M m`, and because `MᵀM = I` the adjoint is also the pseudo-inverse and `M Mᵀ` projects onto the measured
subspace (Kadkhodaie & Simoncelli 2021, section 3). Operators are modules, so `.to(device)` moves what they hold.

An operator of your own is a subclass of `LinearOperator` that sets `measurement_shape` and has two methods, `measure`
and `adjoint`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib.checks import check_batch, check_shape


class LinearOperator(nn.Module, ABC):
    """A linear measurement of images with orthonormal rows.

    Images and measurements are batches of float32; the batch comes first. Tensors of any other shape than the
    operator's raise ValueError.

    Attributes
    ----------
    image_shape : (channels, height, width) of the images.
    measurement_shape : shape of the measurements of one image.
    """

    measurement_shape: tuple[int, ...]

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = check_shape(image_shape)

    @property
    def measured(self) -> int:
        """How many numbers are kept of each image."""
        return math.prod(self.measurement_shape)

    @abstractmethod
    def measure(self, x: Tensor) -> Tensor:
        """`Mᵀ x`: images (batch, *image_shape) to measurements (batch, *measurement_shape)."""

    @abstractmethod
    def adjoint(self, m: Tensor) -> Tensor:
        """`M m`: measurements (batch, *measurement_shape) to the smallest images (batch, *image_shape) with them."""

    def project(self, x: Tensor) -> Tensor:
        """`M Mᵀ x`: the part of the images (batch, *image_shape) that is measured."""
        return self.adjoint(self.measure(x))

    def view(self, m: Tensor) -> Tensor:
        """The pictures that show a person the measurements (batch, *measurement_shape): `M m` unless said otherwise."""
        return self.adjoint(m)

    def from_view(self, picture: Tensor) -> Tensor:
        """The measurements (batch, *measurement_shape) that such pictures show: the inverse of `view`."""
        return self.measure(picture)

    def check_image(self, x: Tensor) -> None:
        """Raise ValueError unless `x` is (batch, *image_shape)."""
        check_batch(x, self.image_shape, "images")

    def check_measurements(self, m: Tensor) -> None:
        """Raise ValueError unless `m` is (batch, *measurement_shape)."""
        check_batch(m, self.measurement_shape, "measurements")


class BlockAverage(LinearOperator):
    """Averages of non-overlapping blocks: super-resolution.

    Measurements, (batch, channels, height / factor, width / factor), are `factor` times the averages, so that the rows
    have unit length; `view` is the low-resolution picture, in [0, 1] like the image.

    Parameters
    ----------
    image_shape : (channels, height, width); ValueError unless height and width are multiples of `factor`.
    factor : side of a block in pixels.
    """

    def __init__(self, image_shape: Sequence[int], factor: int) -> None:
        super().__init__(image_shape)
        channels, height, width = self.image_shape
        if factor < 1 or height % factor or width % factor:
            raise ValueError(
                f"factor must divide both sides of the image, got {factor} for {height}×{width}: crop the image first"
            )
        self.factor = factor
        self.measurement_shape = (channels, height // factor, width // factor)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.factor * F.avg_pool2d(x, self.factor)

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return F.interpolate(m / self.factor, scale_factor=self.factor, mode="nearest")

    def view(self, m: Tensor) -> Tensor:
        """The low-resolution pictures, (batch, channels, height / factor, width / factor)."""
        self.check_measurements(m)
        return m / self.factor

    def from_view(self, picture: Tensor) -> Tensor:
        """The measurements that low-resolution pictures (batch, channels, height / factor, width / factor) show."""
        check_batch(picture, self.measurement_shape, "low-resolution pictures")
        return self.factor * picture


class Mask(LinearOperator):
    """Pixels that are measured one by one: inpainting. Measurements are (batch, number of kept values).

    Parameters
    ----------
    image_shape : (channels, height, width).
    kept : bool, (height, width) or (1 or channels, height, width), True where the image is measured; ValueError for any
        other type or shape, or if it is True nowhere.
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
    def block(cls, image_shape: Sequence[int], box: tuple[int, int, int, int]) -> Mask:
        """Everything is measured but the block `box` = (top, left, height, width), in pixels.

        ValueError unless the box lies in the image and leaves some of it.
        """
        rows, columns = check_shape(image_shape)[1:]
        top, left, height, width = box
        if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
            raise ValueError(f"box (top, left, height, width) must lie inside the {rows}×{columns} image, got {box}")
        kept = torch.ones(rows, columns, dtype=torch.bool)
        kept[top : top + height, left : left + width] = False
        return cls(image_shape, kept)

    @classmethod
    def random_pixels(cls, image_shape: Sequence[int], keep: float, seed: int = 0, shared: bool = True) -> Mask:
        """A random fraction `keep` of the pixels is measured: `round(keep * count)` of them.

        Parameters
        ----------
        image_shape : (channels, height, width).
        keep : fraction in (0, 1]; ValueError otherwise, or if it rounds to no pixel.
        seed : of the choice.
        shared : the same pixels in every colour; otherwise each colour of each pixel is chosen by itself.
        """
        channels, height, width = check_shape(image_shape)
        kept = torch.zeros(1 if shared else channels, height, width, dtype=torch.bool)
        kept.view(-1)[random_subset(kept.numel(), keep, torch.Generator().manual_seed(seed))] = True
        return cls(image_shape, kept)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.flatten(1)[:, self.chosen]

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        x = m.new_zeros(len(m), math.prod(self.image_shape))
        x[:, self.chosen] = m
        return x.unflatten(1, self.image_shape)

    def project(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.where(self.kept, 0.0)


def hartley(x: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """The orthonormal Hartley transform over some dimensions: real, symmetric and its own inverse.

    It is `Re F - Im F` of the orthonormal Fourier transform `F` (Bracewell 1983). The conjugate coefficients a ± ib of
    the frequencies ±k become the real numbers a - b and a + b, with the same energy; a coefficient that is its own
    conjugate (the mean, and the Nyquist frequencies of even sides) is real and stays. So every frequency has one real
    number, and none is a special case.
    """
    spectrum = torch.fft.fftn(x, dim=dims, norm="ortho")
    return spectrum.real - spectrum.imag


def opposite(spectrum: Tensor) -> Tensor:
    """The value at -k for every frequency k of a spectrum (height, width), in the order of `torch.fft.fft2`."""
    return spectrum.flip(0, 1).roll((1, 1), (0, 1))


class FourierRows(LinearOperator):
    """A set of Fourier coefficients, as real numbers: measurements are (batch, channels, number of kept frequencies).

    The real numbers are the Hartley coefficients of the kept frequencies (see `hartley`).

    Parameters
    ----------
    image_shape : (channels, height, width).
    kept : bool, (height, width), True where a frequency is kept, in the order of `torch.fft.fft2`; ValueError unless it
        keeps something and keeps -k with every k, as a real image cannot have one without the other.
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
        channels, height, width = self.image_shape
        coefficients = m.new_zeros(len(m), channels, height * width)
        coefficients[..., self.chosen] = m
        return hartley(coefficients.unflatten(2, (height, width)))

    def project(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return self.filter(x, half_plane(self.kept))

    def filter(self, x: Tensor, response: Tensor) -> Tensor:
        """Images (batch, *image_shape) with their `rfft2` multiplied by `response`, (height, width // 2 + 1)."""
        return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=self.image_shape[1:])


def half_plane(spectrum: Tensor) -> Tensor:
    """The part of a full spectrum (height, width) that `torch.fft.rfft2` keeps: (height, width // 2 + 1)."""
    return spectrum[:, : spectrum.shape[1] // 2 + 1]


class LowPass(FourierRows):
    """The low-frequency Fourier coefficients: spectral super-resolution.

    Kept are the frequencies of the centred rectangle whose sides are √keep of the spectrum's: up to √keep / 2 cycles
    per pixel along each axis. The mean is always among them, and `keep=1` keeps everything.

    Parameters
    ----------
    image_shape : (channels, height, width).
    keep : fraction of the coefficients, in (0, 1]; ValueError otherwise. The fraction really kept, `measured` over the
        size of the image, differs a little because each side of the rectangle is an odd number of frequencies.
    """

    def __init__(self, image_shape: Sequence[int], keep: float) -> None:
        check_keep(keep)
        rows, columns = (self._low(side, math.sqrt(keep)) for side in check_shape(image_shape)[1:])
        super().__init__(image_shape, rows[:, None] & columns)

    @staticmethod
    def _low(side: int, fraction: float) -> Tensor:
        """Which of the frequencies of one axis are in the central `fraction`: bool, (side,)."""
        index = torch.arange(side)
        return 2 * torch.minimum(index, side - index) <= fraction * side


class Blur(FourierRows):
    """Circular convolution with a known kernel: deblurring.

    A blur multiplies each Fourier coefficient by the kernel's transfer function, which is its singular value
    decomposition: the singular values are the magnitudes. The frequencies that it all but removes are given up; those
    where the magnitude is above `threshold` times the largest are measured. The measurement is the Hartley coefficients
    of the *sharp* image there, with the blur's gain and phase divided out; `view` puts them back and is the blurred
    picture, less the dropped frequencies.

    Parameters
    ----------
    image_shape : (channels, height, width).
    kernel : (kernel height, kernel width), no larger than the image; centred on pixel (kernel height // 2,
        kernel width // 2) and scaled to sum 1. ValueError if it is not finite, sums to zero or does not fit.
    threshold : in (0, 1), ValueError otherwise. Errors of a blurred picture, its rounding to 8 bits for one, grow by up
        to 1 / threshold in `from_view`.

    Attributes
    ----------
    dropped : how many numbers of each image are given up; `measured + dropped` is the size of the image.
    """

    transfer: Tensor
    inverse: Tensor

    def __init__(self, image_shape: Sequence[int], kernel: Tensor, threshold: float = 0.05) -> None:
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, both excluded, got {threshold}")
        transfer = transfer_function(kernel, check_shape(image_shape)[1:])
        # Rounding must not keep a frequency without its opposite.
        magnitude = torch.maximum(transfer.abs(), opposite(transfer.abs()))
        super().__init__(image_shape, magnitude > threshold * magnitude.max())
        self.dropped = math.prod(self.image_shape) - self.measured
        self.register_buffer("transfer", half_plane(transfer).to(torch.complex64))
        self.register_buffer("inverse", half_plane((1 / transfer).where(self.kept, 0)).to(torch.complex64))

    def view(self, m: Tensor) -> Tensor:
        """The blurred pictures, (batch, *image_shape), without the dropped frequencies."""
        return self.filter(self.adjoint(m), self.transfer)

    def from_view(self, picture: Tensor) -> Tensor:
        """The measurements that blurred pictures (batch, *image_shape) show: the blur undone where it is kept."""
        self.check_image(picture)
        return self.measure(self.filter(picture, self.inverse))


def transfer_function(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The Fourier transform of a kernel centred on the origin and scaled to sum 1: complex128, `size`."""
    kernel = torch.as_tensor(kernel, dtype=torch.float64)
    if kernel.ndim != 2 or kernel.shape[0] > size[0] or kernel.shape[1] > size[1] or not kernel.numel():
        raise ValueError(
            f"kernel must be 2-D and no larger than the {size[0]}×{size[1]} image, got shape {tuple(kernel.shape)}"
        )
    # A sum that is only rounding error counts as zero.
    if not kernel.isfinite().all() or kernel.sum().abs() <= 1e-6 * kernel.abs().sum():
        raise ValueError("kernel must be finite and must not sum to zero, as it is scaled to sum 1")
    padded = torch.zeros(size, dtype=torch.float64)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel / kernel.sum()
    return torch.fft.fft2(padded.roll((-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1)))


def gaussian_kernel(sigma: float) -> Tensor:
    """A Gaussian of standard deviation `sigma` > 0 pixels, cut at 3 σ: square with an odd side, float32, sum 1."""
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be a positive number of pixels, got {sigma}")
    radius = math.ceil(3 * sigma)
    profile = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = torch.outer(profile, profile)
    return (kernel / kernel.sum()).float()


def motion_kernel(length: float, angle: float) -> Tensor:
    """A straight streak: the blur of a camera that moves evenly during the exposure.

    Parameters
    ----------
    length : of the streak in pixels, at least 1 (no blur); ValueError otherwise.
    angle : in degrees, counter-clockwise from the horizontal.

    Returns
    -------
    Square with an odd side, float32, sum 1.
    """
    if not 1 <= length < math.inf:
        raise ValueError(f"length must be at least 1 pixel, got {length}")
    reach = (length - 1) / 2  # The outer halves of the end pixels are part of the streak.
    radius = math.ceil(reach)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    down, right = torch.meshgrid(offsets, offsets, indexing="ij")
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along, across = right * cosine - down * sine, right * sine + down * cosine
    distance = torch.hypot(across, along - along.clamp(-reach, reach))
    kernel = (1 - distance).clamp(min=0)
    return (kernel / kernel.sum()).float()


class StructuredRows(LinearOperator):
    """Random orthonormal rows at the cost of a transform: compressive sensing of images of any size.

    The numbers of the image get random signs, then an orthonormal Hartley transform over colours, rows and columns
    spreads each over all coefficients, of which a random subset is kept: measurements are (batch, number kept).

    Parameters
    ----------
    image_shape : (channels, height, width).
    keep : fraction of the coefficients, in (0, 1]; `round(keep * size)` are kept. ValueError otherwise, or if it rounds
        to none.
    seed : of signs and subset, the same on every device.
    """

    signs: Tensor
    chosen: Tensor

    def __init__(self, image_shape: Sequence[int], keep: float, seed: int = 0) -> None:
        super().__init__(image_shape)
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("signs", torch.randint(2, self.image_shape, generator=generator) * 2.0 - 1.0)
        self.register_buffer("chosen", random_subset(math.prod(self.image_shape), keep, generator))
        self.measurement_shape = (len(self.chosen),)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return hartley(self.signs * x, dims=(-3, -2, -1)).flatten(1)[:, self.chosen]

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        coefficients = m.new_zeros(len(m), math.prod(self.image_shape))
        coefficients[:, self.chosen] = m
        return self.signs * hartley(coefficients.unflatten(1, self.image_shape), dims=(-3, -2, -1))


class DenseRows(LinearOperator):
    """Random orthonormal rows from the QR decomposition of a Gaussian matrix: the paper's compressive sensing.

    Measurements are (batch, number kept). The matrix is stored, so this is for small images.

    Parameters
    ----------
    image_shape : (channels, height, width).
    keep : measurements as a fraction of the image's size, in (0, 1]; there are `round(keep * size)`. ValueError
        otherwise, if it rounds to none, or if the matrix would have more than 2²⁷ entries (512 MiB).
    seed : of the Gaussian matrix, the same on every device.
    """

    matrix: Tensor

    def __init__(self, image_shape: Sequence[int], keep: float, seed: int = 0) -> None:
        super().__init__(image_shape)
        size = math.prod(self.image_shape)
        count = kept_count(size, keep)
        if size * count > 2**27:
            raise ValueError(
                f"keep asks for a dense {size}×{count} matrix, more than 2²⁷ entries: use structured rows instead"
            )
        self.register_buffer("matrix", orthonormal_columns(size, count, seed))
        self.measurement_shape = (count,)

    def measure(self, x: Tensor) -> Tensor:
        self.check_image(x)
        return x.flatten(1) @ self.matrix

    def adjoint(self, m: Tensor) -> Tensor:
        self.check_measurements(m)
        return (m @ self.matrix.T).unflatten(1, self.image_shape)


@lru_cache(maxsize=1)
def orthonormal_columns(size: int, count: int, seed: int) -> Tensor:
    """Of a Gaussian matrix: (size, count). The last is kept, as it takes seconds, and a page asks for it many times."""
    gaussian = torch.randn(size, count, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(gaussian).Q.contiguous()


def check_keep(keep: float) -> None:
    """Raise ValueError unless `keep` is a fraction in (0, 1]."""
    if not 0 < keep <= 1:
        raise ValueError(f"keep must be a fraction above 0 and at most 1, got {keep}")


def kept_count(count: int, keep: float) -> int:
    """The number that is the fraction `keep` of `count`; ValueError if there is none."""
    check_keep(keep)
    kept = round(keep * count)
    if kept == 0:
        raise ValueError(f"keep must be at least {1 / count:.2g} to keep one of {count} numbers, got {keep}")
    return kept


def indices(kept: Tensor) -> Tensor:
    """Where a mask is True, as places in a row, ascending: int64. With the mask itself an accelerator would be waited
    for at every use, to count them."""
    return kept.flatten().nonzero().flatten()


def random_subset(count: int, keep: float, generator: torch.Generator) -> Tensor:
    """A random fraction `keep` of the indices below `count`, ascending: int64, (round(keep * count),)."""
    return torch.randperm(count, generator=generator)[: kept_count(count, keep)].sort().values
