"""The linear problems of the first paper, by name: what is measured, with which knobs.

The command line and the pages are generated from these; a new problem is one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from invlib.operators import BlockAverage, Blur, DenseRows, LinearOperator, LowPass, Mask, StructuredRows

ImageShape = Sequence[int]
"""(channels, height, width)."""


@dataclass(frozen=True)
class Task:
    """A linear inverse problem.

    Attributes
    ----------
    title : what it is called on a page.
    operator : builds the measurement for an image shape; its keyword arguments are the task's knobs.
    knobs : the names of those that a person sets.
    defaults : the values of those that must have one.
    """

    title: str
    operator: Callable[..., LinearOperator]
    knobs: tuple[str, ...]
    defaults: dict[str, Any]


def super_resolution(shape: ImageShape, *, factor: int) -> LinearOperator:
    """Averages over blocks of factor × factor pixels."""
    return BlockAverage(shape, factor)


def deblurring(shape: ImageShape, *, keep: float = 0.1, kernel: Tensor | None = None) -> LinearOperator:
    """The lowest `keep` of the frequencies, or a blur with a kernel of one's own."""
    return LowPass(shape, keep) if kernel is None else Blur(shape, kernel)


def inpainting(
    shape: ImageShape, *, box: tuple[int, int, int, int] | None = None, mask: Tensor | None = None
) -> LinearOperator:
    """A missing block (top, left, height, width), or the pixels where `mask` is False; a middle block by default."""
    if mask is not None:
        return Mask(shape, mask)
    height, width = shape[-2:]
    return Mask.block(shape, box or (height * 3 // 8, width * 3 // 8, height // 4, width // 4))


def random_pixels(shape: ImageShape, *, keep: float, seed: int = 0) -> LinearOperator:
    """A random `keep` of the pixels, the same ones in every colour."""
    return Mask.random_pixels(shape, keep, seed)


def compressive_sensing(shape: ImageShape, *, keep: float, dense: bool = False, seed: int = 0) -> LinearOperator:
    """Inner products with random orthonormal vectors, `keep` as many as the image has numbers."""
    return DenseRows(shape, keep, seed) if dense else StructuredRows(shape, keep, seed)


TASKS = {
    "super-resolution": Task("Super-resolution", super_resolution, ("factor",), {"factor": 4}),
    "deblurring": Task("Deblurring", deblurring, ("keep", "kernel"), {"keep": 0.1}),
    "inpainting": Task("Inpainting", inpainting, ("box", "mask"), {}),
    "random-pixels": Task("Random pixels", random_pixels, ("keep",), {"keep": 0.1}),
    "compressive-sensing": Task("Compressive sensing", compressive_sensing, ("keep",), {"keep": 0.1}),
}


SAMPLING_BETA = {"bf-cnn-mnist": 0.1}
"""β for samples of a shipped prior alone, where it is not `invlib.sample`'s own: digits cohere with more noise, while
photographs lose their edges."""


def default_prior(channels: int) -> str:
    """The shipped prior that is best in quality for time, for pictures of 1 or 3 channels."""
    return "bf-unet-gray" if channels == 1 else "bf-unet-color"
