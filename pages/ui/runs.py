"""A run as the pages see it: the problem, the settings, the picture forming, the result. No Streamlit here."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import checkpoints, images
from invlib.ascent import SAMPLERS, Restoration, Schedule, State, Step, collect, predicted_sigmas
from invlib.denoisers import Denoiser
from invlib.experiments.restoration import score, summarise
from invlib.metrics import psnr, ssim
from invlib.operators import LinearOperator
from invlib.tasks import TASKS

FRAMES = 24
"""The most states of a run that are kept for its trajectory."""

FRAME_SIDE = 256
"""The longest side of a picture in the trajectory, in pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture that a visitor picked.

    Attributes
    ----------
    name : what the run's JSON calls it; an uploaded picture's holds a fingerprint of the file.
    image : (1, C, H, W) in [0, 1].
    description : what is to be seen, in words.
    """

    name: str
    image: Tensor
    description: str


@dataclass(frozen=True)
class Problem:
    """What was measured of a picture.

    Attributes
    ----------
    task, knobs : a name in `invlib.tasks.TASKS` and its arguments.
    truth : the picture that was measured; None if only the measurements are known.
    """

    task: str
    knobs: dict[str, Any]
    picture: Picture
    operator: LinearOperator
    measurements: Tensor
    truth: Tensor | None

    @property
    def parameters(self) -> dict[str, Any]:
        """The problem's part of a run's JSON."""
        return {
            "task": self.task,
            **self.knobs,
            "picture": self.picture.name,
            "simulated": self.truth is not None,
            "image_shape": list(self.operator.image_shape),
            "measured": self.operator.measured,
        }

    def view(self) -> np.ndarray:
        """What was measured, as a picture: uint8."""
        return images.to_uint8(self.operator.view(self.measurements))


def simulate(task: str, picture: Picture, **knobs: Any) -> Problem:
    """Measure a clean picture, so that the answer can be scored."""
    operator = TASKS[task].operator(picture.image.shape[1:], **knobs)
    return Problem(task, knobs, picture, operator, operator.measure(picture.image), picture.image)


def given(task: str, picture: Picture, image_shape: tuple[int, int, int], **knobs: Any) -> Problem:
    """Take the picture as what was measured of an unknown one of `image_shape` (C, H, W)."""
    operator = TASKS[task].operator(image_shape, **knobs)
    return Problem(task, knobs, picture, operator, operator.from_view(picture.image), None)


@dataclass(frozen=True)
class Settings:
    """How a problem is solved.

    Attributes
    ----------
    prior : a checkpoint's name.
    sampler : a name in `invlib.ascent.SAMPLERS`.
    arguments : of the sampler: `evaluations`, or `h0`, `beta`, `sigma_0`, `sigma_L`.
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

    def states(self, denoiser: Denoiser, problem: Problem) -> Iterator[State]:
        """The sampler, ready to run."""
        arguments = {"schedule": Schedule(**self.arguments)} if self.sampler == "fast" else self.arguments
        sampler = SAMPLERS[self.sampler]
        return sampler(
            denoiser, problem.operator, problem.measurements, count=self.samples, seed=self.seed, **arguments
        )

    def forecast(self) -> list[float]:
        """The noise level that is expected at each evaluation: the schedule, or the paper's Eq. 5-6."""
        if self.sampler == "fast":
            return Schedule(**self.arguments).sigmas()
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
    picture : the average of the samples' denoised estimates, uint8; None before the first step.
    remaining : seconds to go, estimated; None before the first step.
    """

    progress: float = 0.0
    history: list[Step] = field(default_factory=list)
    picture: np.ndarray | None = None
    remaining: float | None = None


@dataclass(frozen=True)
class Run:
    """A finished run. Pictures are uint8, (H, W, 3) or (H, W).

    Attributes
    ----------
    parameters : everything needed to repeat it and, if the truth is known, its scores, with the command line's keys.
    measured, truth, mean, samples : what was measured, the answer if it is known, and those of the run.
    std : standard deviation over samples, root mean square over colours, as a fraction of `std_top`, clipped.
    std_top : the value that all but half a percent of the pixels stay below; the image's range is 1.
    frames : states from first to last.
    saved : whether it was not made by the visitor but came with the project.
    """

    parameters: dict[str, Any]
    measured: np.ndarray
    truth: np.ndarray | None
    mean: np.ndarray
    samples: list[np.ndarray]
    std: np.ndarray
    std_top: float
    frames: list[Frame]
    saved: bool = False

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
            yield Forming(progress, list(history), images.to_uint8(state.denoised.mean(0)), remaining)
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
        **settings.parameters,
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 2),
        "outcome": result.outcome,
        "history": {
            "evaluations": [step.evaluations for step in result.history],
            "sigma": [round(step.sigma, 5) for step in result.history],
            "predicted": [round(step.predicted, 5) for step in result.history],
        },
    }
    if problem.truth is not None:
        parameters |= summarise([score(result, problem.operator, problem.measurements, problem.truth)])
        parameters["each"] = curves(result.samples, problem.truth)
    std = result.std.square().mean(1).sqrt().cpu()
    top = max(float(np.quantile(std.numpy(), 0.995)), 1e-3)
    return Run(
        parameters=parameters,
        measured=problem.view(),
        truth=None if problem.truth is None else images.to_uint8(problem.truth),
        mean=images.to_uint8(result.mean),
        samples=[images.to_uint8(sample) for sample in result.samples],
        std=images.to_uint8(std / top),
        std_top=top,
        frames=frames,
    )


def curves(samples: Tensor, truth: Tensor) -> dict[str, list[float]]:
    """PSNR and SSIM of each sample, and of the average of the first n for n = 1, 2, ..."""
    samples = samples.cpu()
    averages = samples.cumsum(0) / torch.arange(1, len(samples) + 1).view(-1, 1, 1, 1)
    return {
        f"{name}_{of}": [round(float(value), 4) for value in metric(pictures.clamp(0, 1), truth)]
        for of, pictures in (("samples", samples), ("averages", averages))
        for name, metric in (("psnr", psnr), ("ssim", ssim))
    }
