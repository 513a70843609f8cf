"""A run as the pages see it: the problem, the settings, the picture forming, the result. No Streamlit here."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import images
from invlib.images import Picture
from invlib.metrics import psnr, ssim
from invlib.priors import checkpoints
from invlib.priors.denoisers import Denoiser
from invlib.problems.linear import TASKS, encode_knobs
from invlib.problems.operators import LinearOperator
from invlib.scores import cover, score, summarise
from invlib.solvers.ascent import SAMPLERS, Restoration, Schedule, State, Step, ascend, collect, predicted_sigmas

SAMPLING = "sampling"
"""The task of drawing from the prior alone."""

FRAMES = 24
"""The most states of a run that are kept for its trajectory."""

FRAME_SIDE = 256
"""The longest side of a picture in the trajectory, in pixels."""


@dataclass(frozen=True)
class Tile:
    """A picture to show, uint8; None is a blank of the answer's size."""

    picture: np.ndarray | None
    caption: str
    alt: str


@dataclass(frozen=True)
class Problem:
    """What was measured of a picture; nothing, where the prior alone is sampled.

    Attributes
    ----------
    task : a name in `invlib.problems.linear.TASKS`, or `SAMPLING`.
    image_shape : (C, H, W) of the answer.
    knobs : the task's arguments; of `SAMPLING`, `interpolate`.
    picture : the one that was measured, or that holds the measurements.
    truth : the picture that was measured; None if it is not known.
    words : what the measurements are, in a sentence.
    shown : what the picture of the measurements is.
    tiles : further pictures of what was measured.
    """

    task: str
    image_shape: tuple[int, ...]
    knobs: dict[str, Any] = field(default_factory=dict)
    picture: Picture | None = None
    operator: LinearOperator | None = None
    measurements: Tensor | None = None
    truth: Tensor | None = None
    words: str = ""
    shown: str = "Measured"
    tiles: tuple[Tile, ...] = ()

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The problem's part of a run's JSON."""
        parameters = {"task": self.task, **encode_knobs(self.knobs), "image_shape": list(self.image_shape)}
        if self.picture is not None and self.operator is not None:
            parameters |= {
                "picture": self.picture.name,
                "fingerprint": images.fingerprint(self.picture.image),
                "simulated": self.truth is not None,
                "measured": self.operator.measured,
            }
            if self.picture.side is not None:
                parameters["side"] = self.picture.side
        return parameters

    @property
    def description(self) -> str:
        """What is to be seen, for alternative texts."""
        return "a picture drawn from the prior" if self.picture is None else self.picture.description

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self.operator is not None and self.operator.measured == math.prod(self.image_shape)

    def view(self) -> np.ndarray | None:
        """What was measured, as a picture: uint8."""
        if self.operator is None or self.measurements is None:
            return None
        return images.to_uint8(self.operator.view(self.measurements))

    def least_squares(self) -> np.ndarray:
        """The smallest picture that was measured so, M m, which needs no prior: uint8."""
        assert self.operator is not None
        assert self.measurements is not None
        return images.to_uint8(self.operator.adjoint(self.measurements))


def simulate(task: str, picture: Picture, **knobs: Any) -> Problem:
    """Measure a clean picture, so that the answer can be scored."""
    shape = tuple(picture.image.shape[1:])
    operator = TASKS[task].operator(shape, **knobs)
    return Problem(task, shape, knobs, picture, operator, operator.measure(picture.image), picture.image)


def given(task: str, picture: Picture, image_shape: tuple[int, int, int], **knobs: Any) -> Problem:
    """Take the picture as what was measured of an unknown one of `image_shape` (C, H, W)."""
    operator = TASKS[task].operator(image_shape, **knobs)
    return Problem(task, image_shape, knobs, picture, operator, operator.from_view(picture.image))


@dataclass(frozen=True)
class Settings:
    """How a problem is solved.

    Attributes
    ----------
    prior : a checkpoint's name.
    sampler : a name in `invlib.solvers.ascent.SAMPLERS`.
    arguments : of the sampler: those of a `Schedule`, or `h0`, `beta`, `sigma_0`, `sigma_L`.
    """

    prior: str
    sampler: str
    samples: int
    seed: int
    arguments: dict[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings' part of a run's JSON."""
        return {
            "prior": self.prior,
            "sampler": self.sampler,
            "samples": self.samples,
            "seed": self.seed,
            **self.arguments,
        }

    @property
    def antithetic(self) -> bool:
        """Whether the samples are pairs of opposite noise."""
        return bool(self.arguments.get("antithetic"))

    def states(self, denoiser: Denoiser, problem: Problem) -> Iterator[State]:
        """The sampler, ready to run."""
        shared: dict[str, Any] = {"count": self.samples, "seed": self.seed}
        if problem.operator is None:
            return ascend(denoiser, shape=problem.image_shape, **problem.knobs, **shared, **self.arguments)
        arguments = {"schedule": Schedule(**self.arguments)} if self.sampler == "fast" else self.arguments
        return SAMPLERS[self.sampler](denoiser, problem.operator, problem.measurements, **shared, **arguments)

    def forecast(self) -> list[float]:
        """The noise level that is expected at each evaluation: the schedule, or the paper's Eq. 5-6."""
        if self.sampler == "fast":
            schedule = Schedule(**self.arguments)
            steps = zip(schedule.sigmas(), schedule.costs(), strict=True)
            return [level for level, cost in steps for _ in range(cost)]
        h0, beta, sigma_0, sigma_L = (self.arguments[name] for name in ("h0", "beta", "sigma_0", "sigma_L"))
        return list(takewhile(lambda sigma: sigma > sigma_L, predicted_sigmas(h0, beta, sigma_0)))

    def progress(self, state: State) -> float:
        """How far a state is, from 0 to 1. The ascent runs ahead of its forecast, so σ tells more than the count."""
        forecast = self.forecast()
        if self.sampler == "fast":
            return state.evaluations / len(forecast)
        passed = sum(level >= float(state.sigma.max()) for level in forecast)
        return max(state.evaluations, passed) / max(state.evaluations, len(forecast))


@dataclass(frozen=True)
class Frame:
    """A state of the first sample, for the trajectory: the noisy iterate and the denoiser's estimate, uint8."""

    evaluations: int
    sigma: float
    noisy: np.ndarray
    denoised: np.ndarray


@dataclass(frozen=True)
class Forming:
    """What is seen of a run while it runs.

    Attributes
    ----------
    progress : from 0 to 1.
    history : a row per step; none while the prior is loaded.
    pictures : the samples' denoised estimates, uint8; none before the first step.
    mean : their average, uint8; None before the first step.
    remaining : seconds to go, estimated; None before the first step.
    """

    progress: float = 0.0
    history: list[Step] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)
    mean: np.ndarray | None = None
    remaining: float | None = None


@dataclass(frozen=True)
class Run:
    """A finished run. Pictures are uint8, (H, W, 3) or (H, W).

    Attributes
    ----------
    parameters : everything needed to repeat it and, if the truth is known, its scores, with the command line's keys.
    picture, measured, truth : what was picked, what was measured of it, and the answer if it is known.
    mean, samples : the answers.
    std : standard deviation over samples, root mean square over colours, as a fraction of `top`, clipped.
    top : the value that all but half a percent of the pixels of `std` and of the error stay below; the range of an
        image is 1.
    frames : states from first to last.
    saved : whether it was not made by the visitor but came with the project.
    """

    parameters: dict[str, Any]
    picture: np.ndarray | None
    measured: np.ndarray | None
    truth: np.ndarray | None
    mean: np.ndarray
    samples: list[np.ndarray]
    std: np.ndarray
    top: float
    frames: list[Frame]
    saved: bool = False

    @property
    def error(self) -> np.ndarray | None:
        """How far the average is from the truth, on the scale of `std`."""
        return None if self.truth is None else quantised(distance(self.mean, self.truth), self.top)

    def answers(self, problem: Problem) -> bool:
        """Whether this is a run of that problem."""
        return problem.parameters.items() <= self.parameters.items()

    def used(self, settings: Settings) -> bool:
        """Whether this is a run with those settings."""
        return settings.parameters.items() <= self.parameters.items()


@lru_cache(maxsize=2)
def load_prior(name: str) -> Denoiser:
    """A prior, kept for the next run. Not in Streamlit's cache, because it is a worker that asks."""
    return checkpoints.load(name)


def solve(problem: Problem, settings: Settings) -> Callable[[Callable[[], bool]], Generator[Forming, None, Run]]:
    """The work of a job: run the sampler, show the picture forming, score the result."""

    def work(cancelled: Callable[[], bool]) -> Generator[Forming, None, Run]:
        yield Forming()
        denoiser = load_prior(settings.prior)
        started = time.monotonic()
        history: list[Step] = []
        trajectory = Trajectory()
        for state in settings.states(denoiser, problem):
            history.append(Step(state.step, float(state.sigma.mean()), state.predicted, state.evaluations))
            trajectory.add(state)
            progress = settings.progress(state)
            remaining = (time.monotonic() - started) * (1 - progress) / progress
            pictures = [images.to_uint8(estimate) for estimate in state.denoised]
            yield Forming(progress, list(history), pictures, images.to_uint8(state.denoised.mean(0)), remaining)
        # The last state alone holds the result; the earlier ones were let go.
        result = replace(collect([state]), history=history, seconds=time.monotonic() - started)
        return summarise_run(problem, settings, result, trajectory.frames)

    return work


class Trajectory:
    """Frames of a run of unknown length: every step, then every second, every fourth... so that few are kept."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._stride = 1

    def add(self, state: State) -> None:
        if state.outcome is None and (state.step - 1) % self._stride:
            return
        if len(self.frames) == FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2
        noisy, denoised = (thinned(images.to_uint8(batch[0])) for batch in (state.image, state.denoised))
        self.frames.append(Frame(state.evaluations, float(state.sigma[0]), noisy, denoised))


def thinned(picture: np.ndarray, longest: int = FRAME_SIDE) -> np.ndarray:
    """Every second pixel, or third... so that the longest side is at most `longest`; averaging would hide noise."""
    step = -(-max(picture.shape[:2]) // longest)
    return picture[::step, ::step]


def summarise_run(problem: Problem, settings: Settings, result: Restoration, frames: list[Frame]) -> Run:
    """Score a result, if the truth is known, and keep what the pages show of it."""
    parameters = {
        **problem.parameters,
        "evaluations": result.evaluations,
        **settings.parameters,
        "seconds": round(result.seconds, 2),
        "outcome": result.outcome,
        "history": {
            "evaluations": [step.evaluations for step in result.history],
            "sigma": [round(step.sigma, 5) for step in result.history],
            "predicted": [round(step.predicted, 5) for step in result.history],
        },
    }
    if problem.truth is not None and problem.operator is not None and problem.measurements is not None:
        pairs = settings.antithetic
        scores = score(result, problem.operator, problem.measurements, problem.truth, antithetic=pairs)
        parameters |= summarise([scores])
        parameters["each"] = curves(result.samples, problem.truth)
        if len(result.samples) > 1:
            parameters["calibration"] = calibration(result.samples, problem.truth, pairs)
    std = result.std.square().mean(1).sqrt()[0].cpu().numpy()
    mean = images.to_uint8(result.mean)
    truth = None if problem.truth is None else images.to_uint8(problem.truth)
    maps = [std] if truth is None else [std, distance(mean, truth)]
    top = max(1e-3, *(float(np.quantile(values, 0.995)) for values in maps))
    return Run(
        parameters=parameters,
        picture=None if problem.picture is None else images.to_uint8(problem.picture.image),
        measured=problem.view(),
        truth=truth,
        mean=mean,
        samples=[images.to_uint8(sample) for sample in result.samples],
        std=quantised(std, top),
        top=top,
        frames=frames,
    )


def distance(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root mean square difference over colours of two uint8 pictures, the range being 1: (H, W)."""
    difference = (picture.astype(np.float32) - other.astype(np.float32)) / 255
    return np.abs(difference) if difference.ndim == 2 else np.sqrt(np.square(difference).mean(2))


def quantised(values: np.ndarray, top: float) -> np.ndarray:
    """Values (H, W) from 0 to `top`, and clipped above, as uint8."""
    return (np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)


def curves(samples: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """PSNR and SSIM of each sample, and of the average of the first n for n = 1, 2, ..."""
    samples = samples.cpu()
    averages = samples.cumsum(0) / torch.arange(1, len(samples) + 1).view(-1, 1, 1, 1)
    return {
        f"{name}_{of}": [round(float(value), 4) for value in metric(pictures.clamp(0, 1), truth)]
        for of, pictures in (("samples", samples), ("averages", averages))
        for name, metric in (("psnr", psnr), ("ssim", ssim))
    }


def calibration(samples: Tensor, truth: Tensor, antithetic: bool) -> dict[str, list[float]]:
    """Coverage of narrow to wide bands about the average: what samples of the posterior would have, and what is."""
    samples = samples.cpu().clamp(0, 1)
    rows = [cover(samples, truth, k, antithetic=antithetic) for k in np.linspace(0.25, 3, 12)]
    return {name: [round(row[name], 4) for row in rows] for name in ("expected", "measured")}
