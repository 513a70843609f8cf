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
from invlib.checks import check_batch, check_one, check_seed, check_shape
from invlib.images import Picture
from invlib.metrics import psnr, ssim, ssim_paper
from invlib.problems.operators import (
    WAYS,
    BlockAverage,
    Blur,
    DenseRows,
    Downsampling,
    FramedBlur,
    LinearOperator,
    LowPass,
    Mask,
    StructuredRows,
    gaussian_kernel,
    motion_kernel,
)
from invlib.problems.spec import KERNEL, MASK, ImageShape, Knob, Problem, Task, kernel_levels, member
from invlib.runtime import own_defaults

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
    say_what : what to give besides, where a picture can be what was measured only with a knob.
    exact : whether what is known of such a picture is kept as it is, unless its noise level is given.
    """

    operator: Callable[..., LinearOperator]
    scale: str = ""
    no_picture: str = ""
    say_what: str = ""
    exact: bool = False

    def side(self, knobs: Mapping[str, Any]) -> int:
        """How many pixels of the image, along each side, are measured as one; ValueError if it is less than 1."""
        side: int = knobs[self.scale] if self.scale else 1
        if side < 1:
            raise ValueError(f"--{self.scale} must be at least 1, got {side}")
        return side


def super_resolution(shape: ImageShape, *, factor: int, downsampling: str = "box") -> LinearOperator:
    """A picture that is `factor` times smaller, made in one of `WAYS`; "box" takes averages over blocks of pixels."""
    return BlockAverage(shape, factor) if downsampling == "box" else Downsampling(shape, factor, downsampling)


def deblurring(
    shape: ImageShape,
    *,
    keep: float | None = None,
    gaussian: float | None = None,
    motion: tuple[float, float] | None = None,
    kernel: Tensor | None = None,
    circular: bool = False,
) -> LinearOperator:
    """A blur of one of four kinds.

    Parameters
    ----------
    shape : (channels, height, width).
    keep : only the lowest frequencies are left, this fraction of them; the default kind, with `KEEP`.
    gaussian : standard deviation of a Gaussian blur, in pixels.
    motion : length in pixels and angle in degrees, counter-clockwise from the horizontal, of a straight camera motion.
    kernel : a grey picture of a blur kernel, (height, width); only its proportions matter (see `kernel_levels`).
    circular : whether the picture wraps, as in the paper's mathematics; otherwise the scene goes on beyond the frame.
        `keep` is always of a picture that wraps.

    Raises
    ------
    ValueError : two kinds at once, or a number out of range.
    """
    check_one(keep=keep, gaussian=gaussian, motion=motion, kernel=kernel)
    blur = Blur if circular else FramedBlur
    radius = (min(shape[-2:]) - 1) // 2  # of the largest kernel that fits
    if gaussian is not None:
        if not 0 < gaussian <= radius / 3:
            raise ValueError(
                f"gaussian must be above 0 and at most {radius / 3:.4g} pixels for this picture, got {gaussian}"
            )
        return blur(shape, gaussian_kernel(gaussian))
    if motion is not None:
        length, angle = motion
        if not 1 <= length <= 2 * radius + 1 or not math.isfinite(angle):
            raise ValueError(
                f"motion must be a length from 1 to {2 * radius + 1} pixels for this picture, and an angle in degrees, "
                f"got {motion}"
            )
        return blur(shape, motion_kernel(length, angle))
    if kernel is not None:
        return blur(shape, kernel_levels(kernel))
    return LowPass(shape, KEEP if keep is None else keep)


def inpainting(
    shape: ImageShape, *, box: tuple[int, int, int, int] | None = None, mask: Tensor | None = None
) -> LinearOperator:
    """A missing block (top, left, height, width), or the pixels where `mask` is False; a middle block by default."""
    check_one(box=box, mask=mask)
    height, width = shape[-2:]
    if mask is not None:
        if mask.shape[-2:] != (height, width):
            size = f"{mask.shape[-1]}×{mask.shape[-2]}"
            raise ValueError(f"the mask is {size} pixels, the picture {width}×{height}: make the mask as large")
        return Mask(shape, mask)
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
            Knob(
                "downsampling",
                str,
                "How the small picture was made: box (averages over blocks), bicubic or lanczos (with a filter that "
                "skips nothing), nearest (the pixel in the middle of each block), or stride (the first one).",
                "How it was made small",
                "box",
                WAYS,
                advanced=True,
            ),
        ),
    ),
    "deblurring": LinearTask(
        operator=deblurring,
        exclusive=("keep", "gaussian", "motion", "kernel"),
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
            Knob(
                "circular",
                bool,
                "Whether the picture wraps: what is blurred beyond one edge comes in at the other. Otherwise the scene "
                "goes on beyond the frame, as it does for a camera.",
                "The picture wraps",
                False,
                advanced=True,
            ),
        ),
    ),
    "inpainting": LinearTask(
        operator=inpainting,
        exclusive=("box", "mask"),
        exact=True,
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
    """Linear measurements of a picture with white noise.

    Attributes
    ----------
    operator, measurements : M and m.
    noise_level : the standard deviation of the noise, in units of the picture that was measured.
    estimate_noise : whether a solver is to estimate the level instead of knowing it.
    noise_estimate : what it was estimated at.
    seen : the picture that was measured, where the measurements leave out a part of it, such as noise that hides there.
    """

    operator: LinearOperator
    measurements: Tensor
    noise_level: float = 0.0
    estimate_noise: bool = False
    noise_estimate: float | None = None
    seen: Tensor | None = None

    command: ClassVar[str] = "restore"
    metrics = {"psnr": psnr, "ssim": ssim, "ssim_paper": ssim_paper}  # noqa: RUF012 - annotated in the base class

    @property
    def kind(self) -> LinearTask:
        return TASKS[self.task]

    @property
    def measured(self) -> int:
        return self.operator.measured

    @property
    def noise(self) -> float | Tensor:
        """The noise level that a solver is to allow for."""
        return self.noise_level if self.noise_estimate is None else self.noise_estimate

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.measured == math.prod(self.operator.image_shape)

    @property
    def truth(self) -> Tensor | None:
        truth = super().truth
        return None if truth is None else self.operator.crop(truth)

    def view(self) -> Tensor:
        return self.operator.view(self.measurements) if self.seen is None else self.seen

    def baseline(self) -> Tensor:
        """The smallest picture with these measurements, M m; of a blur the blurred picture."""
        blurred = isinstance(self.operator, Blur | FramedBlur)
        return self.view() if blurred else self.operator.adjoint(self.measurements)

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


@own_defaults
def pose(
    task: str,
    picture: Picture,
    knobs: Mapping[str, Any] = {},
    *,
    simulated: bool = True,
    noise_level: float | None = None,
    estimate_noise: bool | None = None,
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
    noise_level : standard deviation of the white noise in the picture that is measured, such as the small picture or
        the blurred picture. If that is simulated, the noise is added; none by default.
    estimate_noise : whether a solver is to estimate the level instead of knowing it. That is the default for a picture
        that was measured, as such pictures are noisy and were JPEG files, unless its level is given or it has holes.
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
    noise_level, estimate_noise = noise_to_assume(kind, simulated, noise_level, estimate_noise)
    values = kind.complete(knobs, task)
    side, seen = kind.side(values), None
    if simulated:
        picture = replace(picture, image=images.crop_to_multiple(picture.image, side))
        operator = kind.operator(picture.image.shape[1:], **values)
        if isinstance(operator, FramedBlur) and 2 * min(operator.measurement_shape[1:]) < min(operator.image_shape[1:]):
            raise ValueError(
                "the kernel is larger than half of the picture, of which too little would be left: take a larger "
                "picture, or --circular"
            )
        measurements = operator.measure(picture.image)
        if noise_level:
            generator = torch.Generator().manual_seed(check_seed(seed))
            if isinstance(operator, Blur):
                seen = operator.blur(picture.image) + noise_level * torch.randn(
                    picture.image.shape, generator=generator
                )
                measurements = operator.from_view(seen)
            else:
                noise = torch.randn(measurements.shape, generator=generator)
                measurements = measurements + operator.noise_levels(noise_level) * noise
    else:
        channels, height, width = picture.image.shape[1:]
        operator = kind.operator((channels, height * side, width * side), **values).extended()
        measurements = operator.from_view(picture.image)
        seen = picture.image if isinstance(operator, Blur) else None
    check_batch(measurements, operator.measurement_shape, "measurements")
    return LinearProblem(
        task=task,
        image_shape=check_shape(operator.crop(torch.empty(1, *operator.image_shape, device="meta")).shape[1:]),
        knobs=values,
        picture=picture,
        simulated=simulated,
        seed=seed,
        operator=operator,
        measurements=measurements,
        seen=seen,
        noise_level=noise_level,
        estimate_noise=estimate_noise,
    )


def noise_to_assume(
    kind: LinearTask, simulated: bool, noise_level: float | None, estimate_noise: bool | None
) -> tuple[float, bool]:
    """The noise level, and whether to estimate it, from arguments of `pose`; ValueError if it is out of range."""
    if estimate_noise is None:
        estimate_noise = not simulated and noise_level is None and not kind.exact
    noise_level = noise_level or 0.0
    if not 0 <= noise_level <= 10:
        raise ValueError(f"--noise-level must be from 0 to 10, where white is 1, got {noise_level}")
    return noise_level, estimate_noise


def noise_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the JSON of a run says of the noise in the measurements, as arguments of `pose`."""
    return {
        "noise_level": member(run, "noise_level", float),
        "estimate_noise": member(run, "estimate_noise", bool),
    }
