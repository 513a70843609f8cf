"""Problems with structured noise, by name, and the methods that solve them.

These are the experiments of Whang, Lei & Dimakis (2021). The command line, the benchmarks and the page are generated
from the two tables here; a new problem or method is one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.priors.gans import Generator
from invlib.problems.noise import NoiseModel, PastedDigits, radial, scatter, scribbled, sinusoidal
from invlib.solvers import baselines
from invlib.solvers.inversion import (
    Forward,
    GaussianMeasurements,
    Iterate,
    SignMeasurements,
    asim,
    back_project,
    bora,
    identity,
    map_x,
    map_z,
    mle,
)

ImageShape = Sequence[int]
"""(C, H, W)."""

FACES, DIGITS = "faces", "mnist"
"""Kinds of pictures that there are priors for: `realnvp-faces`, `dcgan-faces`, and the same for digits."""

IMAGE_SHAPES = {FACES: (3, 64, 64), DIGITS: (1, 28, 28)}
"""Kinds of pictures -> the shape (C, H, W) that their priors have."""


@dataclass(frozen=True)
class Problem:
    """Measurements y = f(x) + δ of images x, with noise δ of a known density.

    Attributes
    ----------
    image_shape : (C, H, W).
    forward : f.
    noise : density of δ.
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

    def level(self) -> float:
        """Root mean square of the noise, from draws of it."""
        shape = self.forward(torch.zeros(1, *self.image_shape)).shape[1:]
        return float(self.noise.sample(16, shape).square().mean().sqrt())


# Problems


def digits(shape: ImageShape, *, count: int, seed: int = 0) -> Problem:
    """½ x with digits pasted on it, each in a colour channel of its own place, and faint white noise elsewhere."""
    flow = checkpoints.load("realnvp-mnist-noise", kind=Flow, device="cpu")
    _, height, width = flow.image_shape
    places = scatter(shape, count, (height, width), seed)
    return Problem(tuple(shape), lambda x: 0.5 * x, PastedDigits(flow, places, shape), factor=0.5)


def sinusoid(shape: ImageShape, *, c: float) -> Problem:
    """x with noise whose strength rises and falls from row to row."""
    return Problem(tuple(shape), identity, sinusoidal(shape, c))


def spot(shape: ImageShape, *, c: float) -> Problem:
    """x with noise that is strong in the middle and fades outwards."""
    return Problem(tuple(shape), identity, radial(shape, c))


def scribble(shape: ImageShape, *, strokes: Tensor) -> Problem:
    """x under strokes of a pen; `strokes` is True there, of any shape that broadcasts to the image's."""
    return Problem(tuple(shape), identity, scribbled(strokes))


def compressive_sensing(shape: ImageShape, *, count: int, c: float, seed: int = 0) -> Problem:
    """`count` random sums of all the pixels, with sinusoidal noise."""
    return Problem(tuple(shape), GaussianMeasurements(shape, count, seed), sinusoidal((count,), c), factor=None)


def one_bit(shape: ImageShape, *, count: int, c: float, seed: int = 0) -> Problem:
    """The signs of `count` random sums of all the pixels, with sinusoidal noise."""
    signs = SignMeasurements(shape, count, seed)
    return Problem(tuple(shape), signs, sinusoidal((count,), c), linear=False, factor=None)


@dataclass(frozen=True)
class Task:
    """A kind of problem.

    Attributes
    ----------
    title : what it is called on a page.
    build : a problem for images of a shape (C, H, W); its other arguments are the knobs and, if it draws anything, a
        seed.
    knobs : names and defaults of the numbers that a person sets.
    swept : the knob that a curve is drawn over, and its values; None where there is none.
    settings : method -> the arguments that differ from the method's own defaults here.
    methods : those that are compared, the default first.
    kind : of the pictures, `FACES` or `DIGITS`.
    """

    title: str
    build: Callable[..., Problem]
    knobs: dict[str, float]
    swept: tuple[str, tuple[float, ...]] | None
    settings: dict[str, dict[str, Any]]
    methods: tuple[str, ...]
    kind: str = FACES


DENOISING = ("map", "map-z", "mle", "asim", "bora", "bm3d", "tv")
SENSING = ("map", "map-z", "mle", "asim", "bora", "lasso")
RATES = (0.05, 0.1, 0.2, 0.3, 0.4)

TASKS = {
    "sinusoidal": Task(
        "Sinusoidal noise",
        sinusoid,
        {"c": 0.1},
        ("c", RATES),
        {
            "map": {"steps": 60},
            "map-z": {"smoothing": 0.5, "steps": 150},
            "asim": {"gamma": 2.0, "steps": 150},
            "bora": {"lam": 0.01},
        },
        DENOISING,
    ),
    "radial": Task(
        "Radial noise",
        spot,
        {"c": 0.1},
        ("c", RATES),
        {
            "map": {"steps": 60},
            "map-z": {"smoothing": 0.5, "steps": 150},
            "asim": {"gamma": 2.0, "steps": 150},
            "bora": {"lam": 0.01},
        },
        DENOISING,
    ),
    "digits": Task(
        "Digits pasted over it",
        digits,
        {"count": 6},
        ("count", (1, 3, 6, 9, 12)),
        {
            "map": {"steps": 100},
            "map-z": {"smoothing": 1.0, "steps": 400},
            "asim": {"gamma": 0.0, "steps": 400},
            "bora": {"lam": 0.01},
        },
        DENOISING,
    ),
    "scribble": Task(
        "A scribble",
        scribble,
        {},
        None,
        {
            "map": {"steps": 120},
            "map-z": {"smoothing": 1.0, "steps": 400},
            "asim": {"gamma": 0.0, "steps": 400},
            "bora": {"lam": 0.01},
        },
        DENOISING,
    ),
    "compressive-sensing": Task(
        "Compressive sensing, noisy",
        compressive_sensing,
        {"count": 2500, "c": 0.1},
        ("count", (500, 1000, 2500, 5000, 7500)),
        {
            "map": {"steps": 120},
            "map-z": {"smoothing": 100.0, "steps": 300},
            "asim": {"gamma": 10.0, "steps": 300},
            "bora": {"lam": 0.001},
        },
        SENSING,
    ),
    "one-bit": Task(
        "1-bit compressive sensing",
        one_bit,
        {"count": 3000, "c": 0.1},
        ("count", (500, 1000, 2000, 3000)),
        {
            "map": {"smoothing": 0.05, "steps": 200},
            "map-z": {"smoothing": 1.0, "steps": 200},
            "asim": {"gamma": 1.0, "steps": 200},
            "bora": {"lam": 0.01},
        },
        ("map", "map-z", "mle", "asim", "bora"),
        DIGITS,
    ),
}
"""Names -> the problems, with the settings of the paper's appendix for the methods that it has."""


# Methods


def run_map(problem: Problem, prior: Flow, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    if problem.linear:
        return map_x(prior, problem.noise, y, problem.forward, seed=seed, **settings)
    # Signs do not tell how bright a picture is. The descent in x ends far from the truth with every sign right, the one
    # in z from 0 does not.
    settings = {"learning_rate": 0.05, "floor": (1.0, 0.003), **settings}
    return map_z(prior, problem.noise, y, problem.forward, seed=seed, **settings)


def run_map_z(problem: Problem, prior: Flow, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    return map_z(prior, problem.noise, y, problem.forward, seed=seed, **settings)


def run_mle(problem: Problem, prior: Generator, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    # What a small GAN cannot make of a picture is as if it were noise of about .1. Without it no z comes near any
    # likelihood worth the name, and digits leave a few dB less of a face.
    return mle(prior, problem.noise, y, problem.forward, floor=(0.3, 0.1), seed=seed, **settings)


def run_asim(problem: Problem, prior: Flow, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    return asim(prior, y, problem.forward, seed=seed, **settings)


def run_bora(problem: Problem, prior: Generator, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    return bora(prior, y, problem.forward, seed=seed, **settings)


def run_bm3d(problem: Problem, prior: None, y: Tensor, seed: int) -> Iterator[Iterate]:
    factor = denoising_factor(problem, "bm3d")
    yield finished(problem, y, baselines.bm3d(y / factor, problem.level() / factor))


def run_tv(problem: Problem, prior: None, y: Tensor, seed: int) -> Iterator[Iterate]:
    factor = denoising_factor(problem, "tv")
    yield finished(problem, y, baselines.total_variation(y / factor, 0.75 * problem.level() / factor))


def run_lasso(problem: Problem, prior: None, y: Tensor, seed: int, lam: float = 0.01) -> Iterator[Iterate]:
    if not problem.linear:
        raise ValueError("lasso needs linear measurements: choose another method")
    yield finished(problem, y, baselines.lasso_dct(problem.forward, y, problem.image_shape, lam))


@dataclass(frozen=True)
class Method:
    """A way to solve a problem.

    Attributes
    ----------
    title : what it is called on a page.
    prior : the prefix of the checkpoints that it needs, `realnvp` or `dcgan`; None if it needs none.
    run : problem, prior, measurements (batch, ...), seed and the settings by name -> iterates; the last has the answer.
    settings : names and defaults of the numbers that a person sets.
    """

    title: str
    prior: Literal["realnvp", "dcgan"] | None
    run: Callable[..., Iterator[Iterate]]
    settings: dict[str, float] = field(default_factory=dict)


METHODS = {
    "map": Method("MAP", "realnvp", run_map, {"smoothing": 0.5, "steps": 80}),
    "map-z": Method("MAP over z, as in the paper", "realnvp", run_map_z, {"smoothing": 1.0, "steps": 150}),
    "mle": Method("MLE with a GAN", "dcgan", run_mle, {"steps": 1000}),
    "asim": Method("Asim et al.", "realnvp", run_asim, {"gamma": 2.0, "steps": 150}),
    "bora": Method("Bora et al.", "dcgan", run_bora, {"lam": 0.01, "steps": 1000}),
    "bm3d": Method("BM3D", None, run_bm3d),
    "tv": Method("Total variation", None, run_tv),
    "lasso": Method("LASSO in the cosine basis", None, run_lasso, {"lam": 0.01}),
}


def settings(task: str, method: str, given: Mapping[str, float] = {}) -> dict[str, float]:
    """All settings of a method: the given ones, else the task's, else its own. ValueError for one that it lacks."""
    known = METHODS[method].settings
    for name in given:
        if name not in known:
            raise ValueError(f"{name} does not belong to {method}, which has {', '.join(known) or 'no settings'}")
    return {**known, **TASKS[task].settings.get(method, {}), **given}


def load_prior(task: str, method: str) -> Flow | Generator | None:
    """The shipped prior that a method needs for the pictures of a task; None if it needs none."""
    match METHODS[method].prior:
        case None:
            return None
        case "realnvp":
            return checkpoints.load(f"realnvp-{TASKS[task].kind}", kind=Flow)
        case "dcgan":
            return checkpoints.load(f"dcgan-{TASKS[task].kind}", kind=Generator)


def denoising_factor(problem: Problem, method: str) -> float:
    """a, where the measurements are a·x + δ; ValueError elsewhere."""
    if problem.factor is None:
        raise ValueError(f"{method} removes noise from pictures, and these measurements are none")
    return problem.factor


def finished(problem: Problem, y: Tensor, x: Tensor) -> Iterate:
    """The single iterate of a method that does not iterate towards these densities."""
    noise = problem.noise.log_prob(y - problem.forward(x))
    return Iterate(1, x, -noise, noise, torch.zeros_like(noise), 0.0, 0, 0, "finished")
