"""The removal of structured noise as its page sees it: problem, settings, run, result. No Streamlit here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import images
from invlib.experiments.structured_noise import build_problem, without_prior
from invlib.metrics import psnr_all_channels, ssim
from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.priors.gans import Generator as Gan
from invlib.problems import structured as removal
from invlib.problems.structured import METHODS, TASKS
from invlib.solvers.inversion import Iterate, noise_log_prob
from pages.ui.runs import Picture

PEN = "#ff2d87"
"""The colour of a scribble."""

FRAMES = 8
"""How many pictures of a run are kept to show how it formed."""


@dataclass(frozen=True, eq=False)
class Case:
    """A picture, and what is to be put on it or measured of it. Two are the same if their parameters are.

    Attributes
    ----------
    noise : a name in `invlib.problems.structured.TASKS`.
    picture : the true one.
    knobs : those of the task.
    seed : of everything that is drawn: the noise, where the digits lie, what is measured.
    strokes : (H, W) bool, where the pen was; of a scribble only.
    """

    noise: str
    picture: Picture
    knobs: dict[str, float]
    seed: int
    strokes: np.ndarray | None = None

    @property
    def task(self) -> str:
        """A name that no task of another page has."""
        return f"structured-noise {self.noise}"

    @property
    def truth(self) -> Tensor:
        """(1, C, H, W)."""
        return self.picture.image

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The problem's part of a run's JSON."""
        strokes = {} if self.strokes is None else {"strokes": images.encode_data_url(self.strokes)}
        return {
            "task": self.noise,
            "knobs": {**self.knobs, **strokes},
            "seed": self.seed,
            "picture": self.picture.name,
            "image_shape": list(self.truth.shape[1:]),
            "fingerprint": images.fingerprint(self.truth),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Case) and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash(json.dumps(self.parameters))

    @property
    def ready(self) -> bool:
        """Whether there is any noise: something is drawn, where there is something to draw."""
        return self.strokes is None or bool(self.strokes.any())

    def build(self) -> removal.Problem:
        """The problem; of compressive sensing it holds a large matrix."""
        strokes = {} if self.strokes is None else {"strokes": torch.from_numpy(self.strokes)}
        return build_problem(self.noise, {**self.knobs, **strokes}, self.seed)

    def measure(self, problem: removal.Problem) -> Tensor:
        """The measurements: (1, ...)."""
        if self.strokes is None:
            return problem.measure(self.truth, self.seed)
        pen = torch.tensor([int(PEN[index : index + 2], 16) / 255 for index in (1, 3, 5)])
        return torch.where(torch.from_numpy(self.strokes), pen.view(1, 3, 1, 1), self.truth)


@dataclass(frozen=True)
class Posed:
    """A problem as a visitor sees it.

    Attributes
    ----------
    count : how many numbers were measured.
    view : the measurements as a picture, uint8.
    scores : of that picture, once it is as bright as the true one.
    noise : the noise that is in them, a picture, uint8.
    top : how strong noise is that this picture shows as white, or negative as black; grey is none.
    """

    count: int
    view: np.ndarray
    scores: dict[str, float]
    noise: np.ndarray
    top: float


@lru_cache(maxsize=64)
def pose(case: Case) -> Posed:
    """What a visitor sees of a problem."""
    problem = case.build()
    y = case.measure(problem)
    delta = y - problem.forward(case.truth)
    top = max(0.01, float(delta.abs().quantile(0.995)))
    return Posed(
        count=y.numel(),
        view=images.to_uint8(problem.view(y)),
        scores=scores(without_prior(problem, y), case.truth),
        noise=levels(delta, top),
        top=top,
    )


@dataclass(frozen=True)
class Settings:
    """How the noise is removed: a name in `invlib.problems.structured.METHODS`, and all its settings."""

    method: str
    arguments: dict[str, float]

    @property
    def parameters(self) -> dict[str, Any]:
        """The settings' part of a run's JSON."""
        return {"method": self.method, "settings": self.arguments}

    @property
    def steps(self) -> int:
        return int(self.arguments.get("steps", 1))

    def iterates(self, case: Case, problem: removal.Problem, y: Tensor) -> Iterator[Iterate]:
        """The method, ready to run."""
        method = METHODS[self.method]
        prior = None if method.prior is None else load_prior(method.prior, TASKS[case.noise].kind)
        return method.run(problem, prior, y, case.seed, **self.arguments)


@lru_cache(maxsize=4)
def load_prior(family: str, pictures: str) -> Flow | Gan:
    """A prior, kept for the next run. Not in Streamlit's cache, because it is a worker that asks."""
    name = f"{family}-{pictures}"
    return checkpoints.load(name, kind=Flow) if family == "realnvp" else checkpoints.load(name, kind=Gan)


HISTORY = ("objective", "noise_log_prob", "signal_log_prob", "floor")
"""What a run's JSON tells of every step."""


@dataclass(frozen=True)
class Forming:
    """What is seen of a run while it runs.

    Attributes
    ----------
    progress : from 0 to 1.
    history : the names in `HISTORY` -> a number for each step; and "truth" -> the log-densities of the true picture,
        and of the true noise at the floors of `frame_steps`.
    picture, noise : as they stand, uint8; None while the prior is loaded. The noise follows at `frame_steps`.
    remaining : seconds to go, estimated; None before the first step.
    """

    progress: float = 0.0
    step: int = 0
    history: dict[str, Any] = field(default_factory=dict)
    picture: np.ndarray | None = None
    noise: np.ndarray | None = None
    remaining: float | None = None


@dataclass(frozen=True)
class Removal:
    """A finished run. Pictures are uint8.

    Attributes
    ----------
    parameters : everything needed to repeat it, and its scores, with the command line's keys.
    truth, restored : the true picture and the one found.
    posed : what was measured.
    noise : the noise found, on the scale of `posed.noise`.
    frames : pictures from the first step to the last.
    saved : whether it was not made by the visitor but came with the project.
    """

    parameters: dict[str, Any]
    truth: np.ndarray
    posed: Posed
    restored: np.ndarray
    noise: np.ndarray
    frames: list[np.ndarray]
    saved: bool = False

    def answers(self, case: Case) -> bool:
        """Whether this is a run of that case."""
        return case.parameters.items() <= self.parameters.items()

    def used(self, settings: Settings) -> bool:
        """Whether this is a run with those settings."""
        return settings.parameters.items() <= self.parameters.items()


def solve(case: Case, settings: Settings) -> Callable[[Callable[[], bool]], Generator[Forming, None, Removal]]:
    """The work of a job: descend with a flow as the prior, show the picture forming, score the result."""

    def work(cancelled: Callable[[], bool]) -> Generator[Forming, None, Removal]:
        yield Forming()
        prior = load_prior("realnvp", TASKS[case.noise].kind)
        assert isinstance(prior, Flow)
        device = next(prior.parameters()).device
        posed, problem = pose(case), case.build()
        y, x = case.measure(problem), case.truth.to(device)
        with torch.no_grad():
            signal = float(prior.log_prob(x))
        history: dict[str, list[float]] = {name: [] for name in HISTORY}
        truth: dict[str, Any] = {"signal_log_prob": round(signal, 4), "noise_log_prob": []}
        kept = frame_steps(settings.steps)
        frames: list[np.ndarray] = []
        started = time.monotonic()
        for iterate in settings.iterates(case, problem, y):
            for name, values in history.items():
                values.append(round(float(getattr(iterate, name)), 4))
            picture = images.to_uint8(iterate.image)
            if iterate.step in kept:
                frames.append(picture)
                with torch.no_grad():  # seldom, because it may cost as much as a third of a step
                    found = levels(y.to(device) - problem.forward(iterate.image), posed.top)
                    noise = float(noise_log_prob(problem.noise, y.to(device), problem.forward, x, iterate.floor))
                truth["noise_log_prob"].append(round(noise, 4))
            seconds = time.monotonic() - started
            remaining = seconds * (settings.steps / iterate.step - 1)
            so_far = deepcopy({**history, "truth": truth})
            yield Forming(iterate.step / settings.steps, iterate.step, so_far, picture, found, remaining)
        check_finite(iterate)
        parameters = {
            **case.parameters,
            **settings.parameters,
            "prior": f"realnvp-{TASKS[case.noise].kind}",
            "evaluations": iterate.evaluations,
            "seconds": round(seconds, 2),
            "skipped": iterate.skipped,
            "outcome": iterate.outcome,
            "input": posed.scores,
            "result": scores(iterate.image, case.truth),
            "history": {**history, "truth": truth},
        }
        return Removal(parameters, images.to_uint8(case.truth), posed, picture, found, frames)

    return work


def frame_steps(steps: int) -> list[int]:
    """The steps, of so many, of which the pictures are kept: the first, the last, and some evenly between."""
    return sorted({round(1 + index * (steps - 1) / (FRAMES - 1)) for index in range(FRAMES)})


def check_finite(last: Iterate) -> None:
    """Raise ValueError if a descent never left its start."""
    if not bool(last.objective.isfinite().all()):
        raise ValueError("the objective is not finite at the start: choose settings nearer to the defaults")


def scores(image: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR in dB, over all channels, and SSIM of an image (1, C, H, W) clipped to [0, 1]."""
    pair = image.detach().cpu().clamp(0, 1), truth
    return {"psnr": round(float(psnr_all_channels(*pair)), 4), "ssim": round(float(ssim(*pair)), 4)}


def levels(delta: Tensor, top: float) -> np.ndarray:
    """Noise (1, ...) as a picture, uint8: black is -top, grey 0, white top.

    A list of numbers fills the rows of a square, about. They are multiples of 16 long, the period of the sinusoid, so
    that numbers of the same strength stand below one another.
    """
    grey = (0.5 + 0.5 * delta / top).clamp(0, 1)
    if grey.ndim == 2:
        width = 16 * max(1, round(math.sqrt(grey.numel()) / 16))
        rows = math.ceil(grey.numel() / width)
        filled = torch.full((rows * width,), 0.5)
        filled[: grey.numel()] = grey[0]
        grey = filled.view(1, 1, rows, width)
    return images.to_uint8(grey)


# --- Several methods, and several strengths of the noise --------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What a method made of a case.

    Attributes
    ----------
    method : a name in `invlib.problems.structured.METHODS`.
    picture : uint8.
    psnr, ssim : of that picture; PSNR in dB.
    seconds : that it took.
    """

    method: str
    picture: np.ndarray
    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Attempt:
    """A method at work, and the outcome when it has ended.

    Attributes
    ----------
    progress : from 0 to 1.
    remaining : seconds to go, estimated; None before the first step.
    """

    progress: float = 0.0
    remaining: float | None = None
    outcome: Outcome | None = None


def attempt(case: Case, settings: Settings) -> Iterator[Attempt]:
    """Run any method on a case, to its outcome."""
    yield Attempt()
    problem = case.build()
    y = case.measure(problem)
    iterates = settings.iterates(case, problem, y)  # with its prior loaded
    started = time.monotonic()
    for iterate in iterates:
        seconds = time.monotonic() - started
        yield Attempt(iterate.step / settings.steps, seconds * (settings.steps / iterate.step - 1))
    check_finite(iterate)
    picture = images.to_uint8(iterate.image)
    outcome = Outcome(settings.method, picture, **scores(iterate.image, case.truth), seconds=seconds)
    yield Attempt(1.0, 0.0, outcome)


def at(case: Case, value: float) -> Case:
    """The case with another value of the knob that its task is swept over."""
    swept = TASKS[case.noise].swept
    assert swept is not None
    return replace(case, knobs={**case.knobs, swept[0]: value})
