"""The linear problems of the first paper, by name: what is measured, with which knobs.

A new problem is one operator class and one entry in `TASKS`. The flags of `restore`, its JSON and its replay follow
from the entry, and so do the knobs on a page that is made for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from invlib import images
from invlib.checks import check_batch, check_one, check_seed
from invlib.images import Picture
from invlib.metrics import psnr, ssim, ssim_paper
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
from invlib.problems.spec import KERNEL, MASK, ImageShape, Knob, Problem, Task, kernel_levels, member

KEEP = 0.1
"""The fraction of coefficients, pixels or measurements that is kept, unless another one is asked for."""


@dataclass(frozen=True, kw_only=True)
class LinearTask(Task):
    """A linear inverse problem.

    Attributes
    ----------
    operator : builds the measurement for an image shape; its keyword arguments are the task's knobs.
    scale : the knob that says how many pixels of the image, along each side, are measured as one.
    no_picture : why a picture cannot be what was measured; empty where it can.
    say_what : whether a picture can be what was measured only if a knob is given.
    """

    operator: Callable[..., LinearOperator]
    scale: str = ""
    no_picture: str = ""
    say_what: str = ""

    def side(self, knobs: Mapping[str, Any]) -> int:
        """How many pixels of the image, along each side, are measured as one; ValueError if it is less than 1."""
        side: int = knobs[self.scale] if self.scale else 1
        if side < 1:
            raise ValueError(f"--{self.scale} must be at least 1, got {side}")
        return side


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


def keep(label: str, values: tuple[float, ...], about: str) -> Knob:
    """The knob of a fraction that is kept."""
    return Knob("keep", float, about, label, KEEP, values, "%")


TASKS: dict[str, LinearTask] = {
    "super-resolution": LinearTask(
        operator=super_resolution,
        scale="factor",
        knobs=(
            Knob(
                "factor",
                int,
                "How many times wider and higher the result is. At 8×, one measured pixel stands for 64 unknown ones.",
                "Factor",
                4,
                (2, 3, 4, 8),
                "×",
            ),
        ),
    ),
    "deblurring": LinearTask(
        operator=deblurring,
        exclusive=True,
        knobs=(
            keep(
                "Frequencies kept",
                (0.02, 0.05, 0.1, 0.2, 0.4),
                "How many of the frequencies are left. Fewer leave a softer picture and more to be guessed.",
            ),
            Knob(
                "gaussian",
                float,
                "The standard deviation of a Gaussian blur, in pixels.",
                "Spread",
                values=(0.5, 1.0, 1.5, 2.0, 3.0, 4.0),
                metavar="SIGMA",
            ),
            Knob(
                "motion",
                (float, float),
                "How far the camera moved, in pixels, and in which direction, in degrees from the horizontal.",
                "Motion",
                metavar="LENGTH,ANGLE",
            ),
            Knob("kernel", KERNEL, "A picture of the blur kernel: what becomes of a point of light.", "Kernel"),
        ),
    ),
    "inpainting": LinearTask(
        operator=inpainting,
        exclusive=True,
        say_what="with --measured say what is missing: --mask FILE (black there) or --box top,left,height,width",
        knobs=(
            Knob(
                "box", (int, int, int, int), "The missing block, in pixels.", "Block", metavar="TOP,LEFT,HEIGHT,WIDTH"
            ),
            Knob("mask", MASK, "A picture that is black where pixels are missing.", "Mask"),
        ),
    ),
    "random-pixels": LinearTask(
        operator=random_pixels,
        no_picture="with --measured the missing pixels must be known: use --task inpainting --mask FILE",
        knobs=(
            keep(
                "Pixels kept",
                (0.02, 0.05, 0.1, 0.2, 0.4),
                "How many of the pixels are left. A tenth is enough for most of a picture.",
            ),
        ),
    ),
    "compressive-sensing": LinearTask(
        operator=compressive_sensing,
        no_picture=("--measured takes a picture, and compressive measurements are none: leave it out to simulate them"),
        knobs=(
            keep(
                "Numbers kept",
                (0.02, 0.04, 0.1, 0.15, 0.25, 0.5),
                "How many numbers are measured, as a fraction of those in the picture. Fewer leave more to be guessed.",
            ),
            Knob(
                "dense",
                bool,
                "Whether the random weights are a matrix of Gaussian numbers made orthonormal, as in the paper, for "
                "small pictures; otherwise they come from random signs and a fast transform.",
                "Dense weights",
                False,
            ),
        ),
    ),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearProblem(Problem):
    """Linear measurements of a picture, m = Mᵀx + s n.

    Attributes
    ----------
    operator, measurements : M and m.
    noise_level : s, the standard deviation of the white noise, in units of the measurements.
    estimate_noise : whether a solver is to estimate s instead of knowing it.
    noise_estimate : what it was estimated at.
    """

    operator: LinearOperator
    measurements: Tensor
    noise_level: float = 0.0
    estimate_noise: bool = False
    noise_estimate: float | None = None

    command: ClassVar[str] = "restore"
    metrics = {"psnr": psnr, "ssim": ssim, "ssim_paper": ssim_paper}  # noqa: RUF012 - annotated in the base class

    @property
    def kind(self) -> LinearTask:
        return TASKS[self.task]

    @property
    def measured(self) -> int:
        return self.operator.measured

    @property
    def noise(self) -> float:
        """The noise level that a solver is to allow for."""
        return self.noise_level if self.noise_estimate is None else self.noise_estimate

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.measured == math.prod(self.image_shape)

    def view(self) -> Tensor:
        return self.operator.view(self.measurements)

    def baseline(self) -> Tensor:
        """The smallest picture with these measurements, M m."""
        return self.operator.adjoint(self.measurements)

    @property
    def parameters(self) -> dict[str, Any]:
        estimated = {} if self.noise_estimate is None else {"noise_estimate": round(self.noise_estimate, 5)}
        dropped = {"dropped": self.operator.dropped} if isinstance(self.operator, Blur) else {}
        drawn = {"seed": self.seed} if self.simulated and self.noise_level else {}
        return {
            **super().parameters,
            "noise_level": self.noise_level,
            "estimate_noise": self.estimate_noise,
            **estimated,
            **dropped,
            **drawn,
        }


def pose(
    task: str,
    picture: Picture,
    knobs: Mapping[str, Any] = {},
    *,
    simulated: bool = True,
    noise_level: float = 0.0,
    estimate_noise: bool = False,
    seed: int = 0,
) -> LinearProblem:
    """Measure a picture, or take it as what was measured.

    Parameters
    ----------
    task : a name in `TASKS`.
    picture : a clean one, or one of the measurements.
    knobs : of the task; those that are missing have their defaults.
    simulated : whether the picture is a clean one, which is to be measured, so that an answer can be scored. Its sides
        are cropped to multiples of the pixels that are measured as one.
    noise_level : standard deviation of the white noise in the measurements; of a clean picture's it is added.
    estimate_noise : whether a solver is to estimate the level instead of knowing it.
    seed : of the noise.

    Raises
    ------
    ValueError : an unknown task or knob, a value out of range, or a picture that cannot be what was measured.

    Examples
    --------
    >>> picture = Picture("grey", torch.full((1, 1, 8, 8), 0.5), "nothing but grey")
    >>> problem = pose("super-resolution", picture, {"factor": 4})
    >>> problem.measured, problem.view().unique()
    (4, tensor([0.5000]))
    """
    if task not in TASKS:
        raise ValueError(f"{task!r} is not a task: choose one of {', '.join(TASKS)}")
    kind = TASKS[task]
    if not simulated and (kind.no_picture or (kind.say_what and not knobs)):
        raise ValueError(kind.no_picture or kind.say_what)
    if not 0 <= noise_level <= 10:
        raise ValueError(f"--noise-level must be from 0 to 10, in units of the measurements, got {noise_level}")
    values = kind.complete(knobs, task)
    side = kind.side(values)
    if simulated:
        picture = replace(picture, image=images.crop_to_multiple(picture.image, side))
        operator = kind.operator(picture.image.shape[1:], **values)
        measurements = operator.measure(picture.image)
        if noise_level:
            generator = torch.Generator().manual_seed(check_seed(seed))
            measurements = measurements + noise_level * torch.randn(measurements.shape, generator=generator)
    else:
        channels, height, width = picture.image.shape[1:]
        operator = kind.operator((channels, height * side, width * side), **values)
        measurements = operator.from_view(picture.image)
    check_batch(measurements, operator.measurement_shape, "measurements")
    return LinearProblem(
        task=task,
        image_shape=operator.image_shape,
        knobs=values,
        picture=picture,
        simulated=simulated,
        seed=seed,
        operator=operator,
        measurements=measurements,
        noise_level=noise_level,
        estimate_noise=estimate_noise,
    )


def noise_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON of a run says of the noise in the measurements, as arguments of `pose`."""
    return {
        "noise_level": member(run, "noise_level", float),
        "estimate_noise": member(run, "estimate_noise", bool),
    }
