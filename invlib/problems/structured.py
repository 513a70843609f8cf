"""The problems with structured noise of the second paper, by name: how a picture is measured, and which noise is on it.

These are the experiments of Whang, Lei & Dimakis (2021). The command line, the benchmarks and the page are generated
from `TASKS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from invlib import images
from invlib.checks import check_seed
from invlib.images import Picture
from invlib.metrics import psnr_all_channels, ssim
from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.problems.forward import Forward, GaussianMeasurements, SignMeasurements, back_project, identity
from invlib.problems.noise import (
    Gaussian,
    NoiseModel,
    PastedDigits,
    pen_strokes,
    radial,
    scatter,
    scribbled,
    sinusoidal,
)
from invlib.problems.spec import DRAWING, ImageShape, Knob, Problem, Task

FACES, DIGITS = "faces", "mnist"
"""Kinds of pictures that there are priors for: `realnvp-faces`, `dcgan-faces`, and the same for digits."""

IMAGE_SHAPES = {FACES: (3, 64, 64), DIGITS: (1, 28, 28)}
"""Kinds of pictures -> the shape (C, H, W) that their priors have."""

ONE_BIT = "one-bit"
"""The task in which only signs are measured."""

SCRIBBLE, STROKES = "scribble", "strokes"
"""The tasks whose noise is a drawing: at a place that is known, or that has to be found."""

DRAWN = (SCRIBBLE, STROKES)


@dataclass(frozen=True)
class MeasurementModel:
    """Measurements y = f(x) + δ of images x, with noise δ of a known density.

    Attributes
    ----------
    image_shape : (C, H, W).
    forward : f.
    noise : the density of δ.
    linear : whether f is linear.
    factor : a, where f(x) = a·x; None elsewhere.
    """

    image_shape: tuple[int, ...]
    forward: Forward
    noise: NoiseModel
    linear: bool = True
    factor: float | None = 1.0

    def measure(self, x: Tensor, seed: int = 0) -> Tensor:
        """f(x) + δ of images (batch, C, H, W), with noise that the model draws."""
        clean = self.forward(x)
        return clean + self.noise.sample(len(x), clean.shape[1:], seed).to(clean)

    def view(self, y: Tensor) -> Tensor:
        """Measurements as images that need no prior: (batch, C, H, W), of any range."""
        return y if self.factor else back_project(y, self.forward, self.image_shape)

    def baseline(self, y: Tensor) -> Tensor:
        """Measurements as images (batch, C, H, W) in [0, 1] of the truth's brightness."""
        return (self.view(y) / (self.factor or 1)).clamp(0, 1)

    def level(self) -> float:
        """The root mean square of the noise, from draws of it."""
        shape = self.forward(torch.zeros(1, *self.image_shape)).shape[1:]
        return float(self.noise.sample(16, shape).square().mean().sqrt())


def digits(shape: ImageShape, *, count: int, seed: int = 0) -> MeasurementModel:
    """½ x with digits pasted on it, each in a colour channel of its own place, and faint white noise elsewhere."""
    flow = checkpoints.load("realnvp-mnist-noise", kind=Flow, device="cpu")
    _, height, width = flow.image_shape
    places = scatter(shape, count, (height, width), seed)
    return MeasurementModel(tuple(shape), lambda x: 0.5 * x, PastedDigits(flow, places, shape), factor=0.5)


def sinusoid(shape: ImageShape, *, c: float, estimate_c: bool = False, seed: int = 0) -> MeasurementModel:
    """x with noise whose strength rises and falls from row to row. `estimate_c` is a method's business."""
    return MeasurementModel(tuple(shape), identity, sinusoidal(shape, c))


def spot(shape: ImageShape, *, c: float, estimate_c: bool = False, seed: int = 0) -> MeasurementModel:
    """x with noise that is strong in the middle and fades outwards. `estimate_c` is a method's business."""
    return MeasurementModel(tuple(shape), identity, radial(shape, c))


def scribble(shape: ImageShape, *, strokes: Tensor, seed: int = 0) -> MeasurementModel:
    """x under the strokes of a drawing (4, H, W), whose last channel says how opaque they are."""
    return MeasurementModel(tuple(shape), identity, scribbled(strokes[3] > 0))


def somewhere(shape: ImageShape, *, strokes: Tensor | None = None, seed: int = 0) -> MeasurementModel:
    """x under the strokes of a drawing (4, H, W). Where they are is not told, and the noise elsewhere is faint."""
    return MeasurementModel(tuple(shape), identity, Gaussian(0.01))


def compressive_sensing(shape: ImageShape, *, count: int, c: float, seed: int = 0) -> MeasurementModel:
    """`count` random sums of all the pixels, with sinusoidal noise."""
    sums = GaussianMeasurements(shape, count, seed)
    return MeasurementModel(tuple(shape), sums, sinusoidal((count,), c), factor=None)


def one_bit(shape: ImageShape, *, count: int, c: float, seed: int = 0) -> MeasurementModel:
    """The signs of `count` random sums of all the pixels, with sinusoidal noise."""
    signs = SignMeasurements(shape, count, seed)
    return MeasurementModel(tuple(shape), signs, sinusoidal((count,), c), linear=False, factor=None)


@dataclass(frozen=True, kw_only=True)
class StructuredTask(Task):
    """A kind of problem with structured noise.

    Attributes
    ----------
    title : what it is called on a page.
    model : builds the measurement model for an image shape; its other arguments are the knobs and the seed
        of what it draws.
    swept : the knob that a curve is drawn over, and its values; None where there is none.
    pictures : the kind of pictures that the flows and GANs are for, `FACES` or `DIGITS`.
    factor : a, where a·x + δ is measured of a picture x.
    sensing : whether sums of pixels are measured, as many as the knob `count` says, and not pixels.
    about : what was done to the picture, in a sentence or two; `{count}` numbers were measured of `{size}`.
    no_picture : why a picture cannot be what was measured; empty where it can.
    """

    title: str
    model: Callable[..., MeasurementModel]
    swept: tuple[str, tuple[float, ...]] | None = None
    pictures: str = FACES
    factor: float = 1.0
    sensing: bool = False
    about: str
    no_picture: str = ""

    @property
    def small(self) -> ImageShape:
        """The shape (C, H, W) of the pictures that the flows and GANs are for."""
        return IMAGE_SHAPES[self.pictures]

    def build(self, knobs: Mapping[str, Any], seed: int = 0, shape: ImageShape | None = None) -> MeasurementModel:
        """The measurement model for pictures of a shape, or else of the task's kind, with all of its knobs given."""
        return self.model(shape or self.small, **knobs, seed=seed)


RATES = (0.05, 0.1, 0.2, 0.3, 0.4)


def rate(about: str) -> Knob:
    """The knob of how strong the noise is."""
    return Knob("c", float, about, "Noise rate c", 0.1, (0.02, *RATES), above=0, most=1)


NOISE_RATE = rate(
    "How strong the noise is where it is strongest, 1 being the picture's full range. More hides more of the picture."
)
UNTOLD = Knob(
    "estimate_c",
    bool,
    "Do not tell the method how strong the noise is, only how its strength changes from place to place; the method "
    "pair estimates it.",
    shown=False,
)
SENSING_RATE = rate(
    "How strong the noise in the measured numbers is where it is strongest. More leaves the picture coarser."
)

TASKS: dict[str, StructuredTask] = {
    "sinusoidal": StructuredTask(
        title="Sinusoidal noise",
        model=sinusoid,
        knobs=(NOISE_RATE, UNTOLD),
        swept=("c", RATES),
        about="The noise rises and falls from row to row. How strong it is in each, the noise model knows.",
    ),
    "radial": StructuredTask(
        title="Radial noise",
        model=spot,
        knobs=(NOISE_RATE, UNTOLD),
        swept=("c", RATES),
        about=("The noise is strong in the middle and fades outwards. How strong it is where, the noise model knows."),
    ),
    "digits": StructuredTask(
        title="Digits pasted over it",
        model=digits,
        knobs=(
            Knob(
                "count",
                int,
                "How many digits are pasted on the picture. Each hides a part of it.",
                "Digits",
                6,
                tuple(range(1, 13)),
                least=1,
            ),
        ),
        swept=("count", (1, 3, 6, 9, 12)),
        factor=0.5,
        about=(
            "The picture was dimmed to half, and handwritten digits were added to it, each in one of its three "
            "colours. The noise model knows what digits look like, and where they lie, but not which they are."
        ),
        no_picture="--measured does not go with digits, whose places would have to be known: leave it out",
    ),
    SCRIBBLE: StructuredTask(
        title="A scribble",
        model=scribble,
        knobs=(Knob("strokes", DRAWING, "A drawing of the strokes, on black or on a transparent ground.", "Strokes"),),
        about="The noise model knows where the pen was, and nothing about what is below.",
    ),
    STROKES: StructuredTask(
        title="A scribble, place unknown",
        model=somewhere,
        knobs=(Knob("strokes", DRAWING, "A drawing of the strokes, on black or on a transparent ground.", "Strokes"),),
        about="Where the pen was is not told. A second denoiser knows what strokes look like, and finds them.",
    ),
    "compressive-sensing": StructuredTask(
        title="Compressive sensing, noisy",
        model=compressive_sensing,
        knobs=(
            Knob(
                "count",
                int,
                "How many random sums of the picture's 12,288 numbers are measured. Fewer leave more to be guessed.",
                "Measurements",
                2500,
                (500, 1000, 2500, 5000, 7500),
                least=1,
            ),
            SENSING_RATE,
        ),
        swept=("count", (500, 1000, 2500, 5000, 7500)),
        about=(
            "Of {size} numbers, only {count} random sums were measured, with noise that rises and falls from one to "
            "the next."
        ),
        sensing=True,
        no_picture="--measured takes a picture, and the measurements of compressive-sensing are none: leave it out",
    ),
    ONE_BIT: StructuredTask(
        title="1-bit compressive sensing",
        model=one_bit,
        knobs=(
            Knob(
                "count",
                int,
                "How many random sums of the picture's 784 numbers are measured, of each only the sign. Fewer leave "
                "more to be guessed.",
                "Measurements",
                3000,
                (500, 1000, 2000, 3000),
                least=1,
            ),
            SENSING_RATE,
        ),
        swept=("count", (500, 1000, 2000, 3000)),
        pictures=DIGITS,
        about=(
            "Of {size} numbers, {count} random sums were measured, of each only its sign, with noise that rises and "
            "falls from one to the next."
        ),
        sensing=True,
        no_picture="--measured takes a picture, and the measurements of one-bit are none: leave it out",
    ),
}
"""Names -> the problems."""


class Posed(NamedTuple):
    """What is seen of measurements: a picture of any range, one in [0, 1], and the noise where the truth is known."""

    view: Tensor
    baseline: Tensor
    delta: Tensor | None


@dataclass(frozen=True, eq=False, kw_only=True)
class StructuredProblem(Problem):
    """Measurements of a picture with structured noise. What is large is built when it is asked for, and not kept."""

    command: ClassVar[str] = "remove-noise"
    metrics = {"psnr": psnr_all_channels, "ssim": ssim}  # noqa: RUF012 - annotated in the base class

    @property
    def kind(self) -> StructuredTask:
        return TASKS[self.task]

    def build(self) -> tuple[MeasurementModel, Tensor]:
        """The measurement model, and the measurements (1, ...)."""
        assert self.picture is not None
        model, x = self.kind.build(self.knobs, self.seed, self.image_shape), self.picture.image
        if not self.simulated:
            return model, x
        if self.task in DRAWN:
            *_, opacity = strokes = self.knobs["strokes"]
            colours = images.to_channels(strokes[None, :3], len(x[0]))
            return model, images.quantise((1 - opacity) * x + opacity * colours)
        return model, model.measure(x, self.seed)

    @property
    def posed(self) -> Posed:
        """What is seen of the measurements."""
        return look(self)

    @property
    def measured(self) -> int:
        return int(self.knobs["count"]) if self.kind.sensing else math.prod(self.image_shape)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        return {**super().parameters, "seed": self.seed}

    @property
    def ready(self) -> bool:
        """Whether there is any noise: something is drawn, where there is something to draw."""
        return self.task not in DRAWN or not self.simulated or bool(self.knobs["strokes"][3].any())

    def view(self) -> Tensor:
        return self.posed.view

    def baseline(self) -> Tensor:
        return self.posed.baseline


def draw_scribble(size: tuple[int, int], seed: int = 0, *, count: int = 3, opacity: float = 0.5) -> Tensor:
    """Draw a scribble of `count` pink strokes, whose pen grows with the picture: (4, height, width).

    >>> scribble = draw_scribble((64, 96))
    >>> scribble.shape, scribble[3].unique()
    (torch.Size([4, 64, 96]), tensor([0.0000, 0.5000]))
    """
    pen = pen_strokes(size, count, np.random.default_rng(check_seed(seed)), thick=max(1, min(size) // 100))
    colour = torch.tensor(PINK).view(3, 1, 1).expand(3, *size)
    return torch.cat([colour, opacity * torch.from_numpy(pen).float()[None]])


PINK = (1.0, 45 / 255, 135 / 255)
"""The colour of a pen: red, green and blue."""


@lru_cache(maxsize=64)
def look(problem: StructuredProblem) -> Posed:
    """What is seen of a problem, kept because a page asks for it whenever it is drawn."""
    model, y = problem.build()
    delta = None if problem.truth is None else y - model.forward(problem.truth)
    return Posed(model.view(y), model.baseline(y), delta)


def pose(
    task: str, picture: Picture, knobs: Mapping[str, Any] = {}, *, simulated: bool = True, seed: int = 0
) -> StructuredProblem:
    """Put noise on a picture or measure it, or take it as what was measured.

    Parameters
    ----------
    task : a name in `TASKS`.
    picture : of any size, in colour or grey. What measures sums of pixels takes the size that `prepare` gives.
    knobs : of the task; those that are missing have their defaults.
    simulated : whether the picture is a clean one, so that an answer can be scored.
    seed : of everything that is drawn: the noise, where the digits lie, what is measured.

    Raises
    ------
    ValueError : an unknown task or knob, a value out of range, or a picture that cannot be what was measured.
    """
    if task not in TASKS:
        raise ValueError(f"{task!r} is not a task: choose one of {', '.join(TASKS)}")
    kind = TASKS[task]
    if not simulated and kind.no_picture:
        raise ValueError(kind.no_picture)
    values = kind.complete(knobs, task)
    _, channels, height, width = picture.image.shape
    shape = channels, height, width
    if kind.sensing and not is_small(task, shape):
        raise ValueError(f"{task} is for pictures of {kind.small[2]}×{kind.small[1]} pixels: reduce the picture")
    if task == STROKES and not simulated:
        values.pop("strokes", None)
    elif task in DRAWN:
        if "strokes" not in values:
            raise ValueError(f"{task} needs its strokes: give a drawing of them")
        drawn = tuple(values["strokes"].shape[1:])
        if drawn != (height, width):
            raise ValueError(f"the picture has (height, width) {(height, width)}, and its strokes have {drawn}")
        if bool((values["strokes"][3] > 0).all()):
            raise ValueError("the strokes hide the whole picture: draw them on a ground that is black or transparent")
        # As they are written to a run's JSON and read again.
        values["strokes"] = images.quantise(values["strokes"])
    return StructuredProblem(
        task=task, image_shape=shape, knobs=values, picture=picture, simulated=simulated, seed=seed
    )


def is_small(task: str, shape: Sequence[int]) -> bool:
    """Whether a shape (C, H, W) is that of the pictures that the flows and GANs for a task are for."""
    return tuple(shape) == TASKS[task].small


def suited(image: Tensor, task: str, shape: Sequence[int]) -> Tensor:
    """An image as a task took it, whose picture then had a shape (C, H, W): prepared, or only in as many colours."""
    return prepare(image, TASKS[task].pictures) if is_small(task, shape) else images.to_channels(image, shape[0])


def prepare(image: Tensor, kind: str) -> Tensor:
    """The square in the middle of an image, in the colours and the size of a kind of pictures, and in 8 bits."""
    channels, side, _ = IMAGE_SHAPES[kind]
    return images.quantise(images.centre_square(images.to_channels(image, channels), side))
