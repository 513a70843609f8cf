"""The linear problems of the first paper, by name: what is measured, with which knobs.

The command line and the pages are generated from these; a new problem is one entry.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import images
from invlib.checks import check_one
from invlib.problems.operators import (
    BlockAverage,
    Blur,
    DenseRows,
    LinearOperator,
    LowPass,
    Mask,
    StructuredRows,
    gaussian_kernel,
    motion_kernel,
)

ImageShape = Sequence[int]
"""(channels, height, width)."""

KEEP = 0.1
"""The fraction of coefficients, pixels or measurements that is kept, unless another one is asked for."""


@dataclass(frozen=True)
class Task:
    """A linear inverse problem.

    Attributes
    ----------
    title : what it is called on a page.
    operator : builds the measurement for an image shape; its keyword arguments are the task's knobs.
    knobs : the names of those that a person sets.
    defaults : the values of those that must have one.
    alternatives : whether each knob is a problem of its own, so that at most one is given.
    """

    title: str
    operator: Callable[..., LinearOperator]
    knobs: tuple[str, ...]
    defaults: dict[str, Any]
    alternatives: bool = False

    def complete(self, knobs: Mapping[str, Any]) -> dict[str, Any]:
        """The knobs, and the defaults of those that are missing."""
        return dict(knobs) if self.alternatives and knobs else {**self.defaults, **knobs}


def super_resolution(shape: ImageShape, *, factor: int) -> LinearOperator:
    """Averages over blocks of factor × factor pixels."""
    return BlockAverage(shape, factor)


def deblurring(
    shape: ImageShape,
    *,
    keep: float | None = None,
    gaussian: float | None = None,
    motion: tuple[float, float] | None = None,
    kernel: Tensor | None = None,
) -> LinearOperator:
    """A blur of one of four kinds.

    Parameters
    ----------
    shape : (channels, height, width).
    keep : only the lowest frequencies are left, this fraction of them; the default kind, with `KEEP`.
    gaussian : standard deviation of a Gaussian blur, in pixels.
    motion : length in pixels and angle in degrees, counter-clockwise from the horizontal, of a straight camera motion.
    kernel : a grey picture of a blur kernel, (height, width); only its proportions matter (see `kernel_levels`).

    Raises
    ------
    ValueError : two kinds at once, or a number out of range.
    """
    check_one(keep=keep, gaussian=gaussian, motion=motion, kernel=kernel)
    radius = (min(shape[-2:]) - 1) // 2  # of the largest kernel that fits
    if gaussian is not None:
        if not 0 < gaussian <= radius / 3:
            raise ValueError(
                f"gaussian must be above 0 and at most {radius / 3:.4g} pixels for this picture, got {gaussian}"
            )
        return Blur(shape, gaussian_kernel(gaussian))
    if motion is not None:
        length, angle = motion
        if not 1 <= length <= 2 * radius + 1 or not math.isfinite(angle):
            raise ValueError(
                f"motion must be a length from 1 to {2 * radius + 1} pixels for this picture, and an angle in degrees, "
                f"got {motion}"
            )
        return Blur(shape, motion_kernel(length, angle))
    if kernel is not None:
        return Blur(shape, kernel_levels(kernel))
    return LowPass(shape, KEEP if keep is None else keep)


def inpainting(
    shape: ImageShape, *, box: tuple[int, int, int, int] | None = None, mask: Tensor | None = None
) -> LinearOperator:
    """A missing block (top, left, height, width), or the pixels where `mask` is False; a middle block by default."""
    check_one(box=box, mask=mask)
    if mask is not None:
        return Mask(shape, mask)
    height, width = shape[-2:]
    return Mask.block(shape, box or (height * 3 // 8, width * 3 // 8, height // 4, width // 4))


def random_pixels(shape: ImageShape, *, keep: float, seed: int = 0) -> LinearOperator:
    """A random `keep` of the pixels, the same ones in every colour."""
    return Mask.random_pixels(shape, keep, seed)


def compressive_sensing(shape: ImageShape, *, keep: float, dense: bool = False, seed: int = 0) -> LinearOperator:
    """Inner products with random orthonormal vectors, `keep` as many as the image has numbers.

    The vectors come from a fast transform; if `dense`, from a Gaussian matrix as in the paper, for small images.
    """
    return DenseRows(shape, keep, seed) if dense else StructuredRows(shape, keep, seed)


TASKS = {
    "super-resolution": Task("Super-resolution", super_resolution, ("factor",), {"factor": 4}),
    "deblurring": Task("Deblurring", deblurring, ("keep", "gaussian", "motion", "kernel"), {"keep": KEEP}, True),
    "inpainting": Task("Inpainting", inpainting, ("box", "mask"), {}, True),
    "random-pixels": Task("Random pixels", random_pixels, ("keep",), {"keep": KEEP}),
    "compressive-sensing": Task("Compressive sensing", compressive_sensing, ("keep", "dense"), {"keep": KEEP}),
}


SAMPLING_BETA = {"bf-cnn-mnist": 0.1}
"""β for samples of a shipped prior alone, where it is not `invlib.sample`'s own: digits cohere with more noise, while
photographs lose their edges."""


def default_prior(channels: int) -> str:
    """The shipped prior that is best in quality for time, for pictures of 1 or 3 channels."""
    return "bf-unet-gray" if channels == 1 else "bf-unet-color"


def kernel_levels(kernel: Tensor) -> Tensor:
    """A blur kernel as a grey picture holds it: whole numbers in its proportions, (height, width), float64.

    They go up to 255 at most if that is exact, as it is for a kernel that came from an 8-bit picture, whatever its
    scale; otherwise to 65535. So a kernel that was written to a file and read again blurs exactly as before.

    Raises
    ------
    ValueError : not (height, width), numbers that are negative or not finite, or no positive one.
    """
    if kernel.ndim != 2 or not kernel.isfinite().all() or not (kernel >= 0).all() or not (kernel > 0).any():
        raise ValueError("kernel must be a grey picture (height, width): finite, nothing negative, not all black")
    proportions = kernel.cpu().double() / float(kernel.max())
    grey = proportions.unique()
    # A float32 kernel is known to seven digits.
    exact = (
        white for white in range(255, 0, -1) if torch.allclose((white * grey).round() / white, grey, rtol=0, atol=5e-7)
    )
    return (next(exact, 65535) * proportions).round()


# Knobs in JSON


def encode_knobs(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """A task's knobs as JSON values: numbers, lists of numbers, and pictures as data URLs of PNG files.

    A mask (bool) takes 1 bit a pixel; a kernel takes 8 or 16 and loses its scale (see `kernel_levels`).
    """
    return {name: encode_knob(value) for name, value in knobs.items()}


def encode_knob(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if not isinstance(value, Tensor):
        return value
    if value.dtype == torch.bool:
        return images.encode_data_url(value.cpu().numpy())
    levels = kernel_levels(value).numpy()
    return images.encode_data_url(levels.astype(np.uint8 if levels.max() <= 255 else np.uint16))


def decode_knobs(task_name: str, mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a task that a JSON object holds among other keys; the inverse of `encode_knobs`.

    Raises
    ------
    ValueError : an unknown task, a knob that must be there and is not, or one of the wrong type.
    """
    if task_name not in TASKS:
        raise ValueError(f"{reprlib.repr(task_name)} is not a task: choose one of {', '.join(TASKS)}")
    task = TASKS[task_name]
    required = () if task.alternatives else task.defaults
    return {name: decode_knob(mapping, name) for name in task.knobs if name in mapping or name in required}


KNOBS: dict[str, type | tuple[type, ...]] = {
    "factor": int,
    "keep": float,
    "gaussian": float,
    "motion": (float, float),
    "kernel": Tensor,
    "box": (int, int, int, int),
    "mask": Tensor,
    "dense": bool,
}
"""What each knob is, in any task."""


def decode_knob(mapping: Mapping[str, Any], name: str) -> Any:
    if KNOBS[name] is not Tensor:
        return json_value(mapping, name, KNOBS[name])
    try:
        picture = images.decode_data_url(json_value(mapping, name, str))[0, 0]
    except images.ImageError as error:
        raise images.ImageError(f'"{name}": {error}') from error
    return picture > 0.5 if name == "mask" else picture


KINDS = {int: "whole number", float: "number", bool: "boolean", str: "string"}


def json_value(mapping: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """The value of a JSON object's key.

    Parameters
    ----------
    mapping, name : the object and the key.
    kind : int, float (for which a whole number will do), bool or str; a tuple of one of them for a list of as many.

    Raises
    ------
    ValueError : there is no such key, or its value is of another kind.
    """
    if name not in mapping:
        raise ValueError(f'"{name}" is missing')
    value = mapping[name]
    if not isinstance(kind, tuple):
        expected, fits = f"a {KINDS[kind]}", is_kind(value, kind)
    else:
        expected = f"a list of {len(kind)} {KINDS[kind[0]]}s"
        fits = isinstance(value, list) and len(value) == len(kind) and all(map(is_kind, value, kind))
    if not fits:
        raise ValueError(f'"{name}" must be {expected}, got {reprlib.repr(value)}')
    return tuple(value) if isinstance(kind, tuple) else value


def is_kind(value: Any, kind: type) -> bool:
    """Whether a JSON value is of a kind. Not isinstance, for which true is a whole number."""
    return type(value) is kind or (kind is float and type(value) is int and abs(value) < 2**53)
