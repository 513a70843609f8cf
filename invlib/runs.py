"""A run: a problem, a prior and a method with its settings -> states -> a scored result -> JSON -> the same run again.

Pages, commands and benchmarks all use it.

>>> from invlib import runs
>>> picture = Picture("camera", examples.example("camera", side=32), "a photographer", side=32)
>>> problem = runs.pose("super-resolution", picture, {"factor": 2})
>>> run = runs.finish(runs.solve(problem, runs.settings(problem, samples=2)))
>>> run.parameters["evaluations"], len(run.samples), run.parameters["mean"]["psnr"] > run.parameters["input"]["psnr"]
(14, 2, True)
>>> again, settings = runs.read(run.parameters)
>>> again == problem, settings == runs.settings(problem, samples=2)
(True, True)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from invlib import examples, images, runtime, scores
from invlib.checks import check_seed, check_whole
from invlib.images import Picture, to_uint8
from invlib.pace import PACE
from invlib.priors.denoisers import Denoiser
from invlib.priors.flows import Flow
from invlib.problems import denoising, linear, prior, structured
from invlib.problems.denoising import DenoisingProblem
from invlib.problems.forward import noise_log_prob
from invlib.problems.linear import LinearProblem, LinearTask
from invlib.problems.linear import pose as pose
from invlib.problems.spec import Problem, Task, check_kind, decode, member
from invlib.problems.structured import StructuredProblem
from invlib.scores import Scores
from invlib.solvers.methods import (
    METHODS,
    Estimate,
    Method,
    default_prior,
    find,
    load_prior,
    load_sized,
    methods_for,
    sampling_defaults,
)
from invlib.solvers.noise_level import NoiseSeen, estimate_noise, noise_level
from invlib.solvers.streams import MOST

FRAMES = 24
"""The most states of a run that are kept for its trajectory."""

FRAME_SIDE = 256
"""The longest side of a picture in the trajectory, in pixels."""

Json = dict[str, Any]

TASKS: dict[str, Mapping[str, Task]] = {
    "denoise": denoising.TASKS,
    "restore": linear.TASKS,
    "sample": prior.TASKS,
    "remove-noise": structured.TASKS,
}
"""The command that poses and replays a kind of problem -> the kinds, by name."""


POSE: dict[str, Callable[..., Problem]] = {
    "denoise": denoising.pose,
    "restore": linear.pose,
    "remove-noise": structured.pose,
}
"""The command of a kind of problem -> the function that poses it with a picture."""


@dataclass(frozen=True)
class Settings:
    """How a problem is solved.

    Attributes
    ----------
    method : a name in `METHODS` of the problem's command.
    prior : the name of a checkpoint; None if the method needs none.
    samples : how many answers are drawn.
    seed : of everything that is drawn at random.
    values : the method's settings, all of them.
    """

    method: str
    prior: str | None
    samples: int
    seed: int
    values: dict[str, Any]

    @property
    def parameters(self) -> Json:
        """The settings' part of a run's JSON."""
        return {
            "method": self.method,
            "prior": self.prior,
            "samples": self.samples,
            "seed": self.seed,
            "settings": self.values,
        }

    @property
    def antithetic(self) -> bool:
        """Whether the samples are pairs of opposite noise."""
        return bool(self.values.get("antithetic"))


def settings(
    problem: Problem,
    method: str | None = None,
    given: Mapping[str, Any] = {},
    *,
    prior: str | None = None,
    samples: int = 1,
    seed: int | None = None,
) -> Settings:
    """How to solve a problem; whatever is not given has the default for the problem and the number of samples.

    Parameters
    ----------
    problem : that which is to be solved.
    method : the first one that suits the problem if None.
    given : settings of the method.
    prior : the name of a checkpoint; the best shipped one if None.
    samples, seed : as in `Settings`; the problem's seed if None.

    Raises
    ------
    ValueError : a method that does not suit the problem, a setting that it lacks, a number of samples that is not from
        1 to `MOST`, or another seed than that with which the problem's noise was drawn, as the JSON of a run has one
        seed.
    """
    seed = check_seed(problem.seed if seed is None else seed)
    if problem.parameters.get("seed", seed) != seed:
        raise ValueError(f"a run has one seed: the problem was posed with {problem.seed}, got {seed}")
    name = method or next(iter(methods_for(problem, prior)))
    chosen = find(problem, name, prior)
    check_whole(1, MOST, samples=samples)
    if samples > 1 and not chosen.draws:
        raise ValueError(f"{name} gives one answer: leave the number of samples at 1, got {samples}")
    prior = (prior or chosen.prior_name(problem)) if chosen.prior is not None else None
    climbs = problem.command == "sample" and chosen.prior is Denoiser
    ours = sampling_defaults(prior, name) if climbs and prior is not None else {}
    return Settings(name, prior, samples, seed, chosen.complete(problem, samples, {**ours, **given}, name))


def method_of(problem: Problem, settings: Settings) -> Method:
    """The method that settings name."""
    return METHODS[problem.command][settings.method]


def forecast(problem: Problem, settings: Settings) -> list[float]:
    """The noise level that is expected at each evaluation; empty for methods without one."""
    return method_of(problem, settings).forecast(settings.values)


def seconds_of(problem: Problem, settings: Settings) -> float | None:
    """How long a run will take on this machine, as far as earlier ones tell; None if that cannot be known."""
    evaluations = len(forecast(problem, settings))
    if settings.prior is None or not evaluations:
        return None
    return PACE.seconds(settings.prior, evaluations, pixels_of(problem, settings))


def pixels_of(problem: Problem, settings: Settings) -> int:
    """How many pixels all samples have together."""
    return settings.samples * math.prod(problem.image_shape[1:])


# Solving


@dataclass(frozen=True)
class Frame:
    """A state of the first sample, for the trajectory, in 8 bits: what it works on, and its estimate of the picture.

    `noisy` is the iterate of a sampler; against structured noise it is the noise that the estimate leaves.
    """

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
    history : what the run's JSON will have, so far.
    images : the samples' estimates as they stand, (count, C, H, W); None before the first step.
    noise : the noise found, or the map of its level, in 8 bits; None for other problems, and before the first step.
    remaining : seconds to go, estimated; None before the first step.
    """

    progress: float = 0.0
    history: Json = field(default_factory=dict)
    images: Tensor | None = None
    noise: np.ndarray | None = None
    remaining: float | None = None

    @property
    def evaluations(self) -> int:
        """How often the network ran for each sample."""
        return int(self.history["evaluations"][-1]) if self.history else 0

    @cached_property
    def pictures(self) -> list[np.ndarray]:
        """The samples' estimates in 8 bits."""
        return [] if self.images is None else [to_uint8(image) for image in self.images]

    @cached_property
    def mean(self) -> np.ndarray | None:
        """The average of the estimates in 8 bits."""
        return None if self.images is None else to_uint8(self.images.mean(0))


@dataclass(frozen=True)
class Run:
    """A finished run. Pictures have 8 bits, (H, W, 3) or (H, W).

    Attributes
    ----------
    parameters : everything needed to repeat it and, if the truth is known, its scores: its JSON.
    picture, measured, truth : what was picked, what was measured of it, and the answer if it is known.
    samples, mean : the answers and their average.
    std : standard deviation over samples, root mean square over colours, as a fraction of `top`, clipped.
    top : the value that all but half a percent of the pixels of `std` and of the error stay below; the range of an
        image is 1.
    frames : states from first to last.
    noise_found, noise_true : against structured noise the noise that was found and, where it is known, that which was
        put in: black is -`noise_top`, grey is none, white `noise_top`.
    noise_map : for denoising the noise level from place to place, (H, W): black is none, white `noise_top`.
    scores : with the metrics of the problem, not rounded; None if the truth is not known.
    saved : whether it was not made by the visitor but came with the project.
    """

    parameters: Json
    picture: np.ndarray | None
    measured: np.ndarray | None
    truth: np.ndarray | None
    samples: list[np.ndarray]
    mean: np.ndarray
    std: np.ndarray
    top: float
    frames: list[Frame]
    noise_found: np.ndarray | None = None
    noise_true: np.ndarray | None = None
    noise_map: np.ndarray | None = None
    noise_top: float = 1.0
    scores: Scores | None = field(default=None, repr=False)
    saved: bool = False

    @property
    def noise(self) -> np.ndarray | None:
        """The noise that was found, or the map of its level."""
        return self.noise_found if self.noise_map is None else self.noise_map

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

    def to_json(self) -> Json:
        """Everything needed to repeat the run, and its scores, as one JSON object; see `strict`."""
        return dict(strict(self.parameters))


def strict(value: Any) -> Any:
    """A copy of a JSON value with null for numbers that are infinite or not a number, which JSON does not have.

    A score is one of those where nothing was lost, so that PSNR is infinite, or where nothing was left to score.

    >>> strict({"psnr": math.inf, "coverage": {"measured": math.nan}, "each": (1.5, 2)})
    {'psnr': None, 'coverage': {'measured': None}, 'each': [1.5, 2]}
    """
    if isinstance(value, Mapping):
        return {name: strict(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


Solving = Generator[Forming, None, Run]
"""What is seen of a run while it runs, and in the end the run."""

Result = TypeVar("Result")


def solve(problem: Problem, settings: Settings) -> Solving:
    """Run a method on a problem and score the result. To cancel, stop iterating.

    Yields
    ------
    A `Forming` before the first step, and one after each.

    Returns
    -------
    The `Run`.

    Raises
    ------
    ValueError : a setting is out of range, or the method cannot solve the problem.
    CheckpointError : the prior cannot be had.
    """
    yield Forming()
    method = method_of(problem, settings)
    network: Any = None
    if method.prior is not None and settings.prior is not None:
        network = load_sized(settings.prior, method.prior, problem.image_shape)
    if type(problem) is LinearProblem and problem.estimate_noise and method.prior is Denoiser:
        # One that is told what was measured is no judge of white noise.
        judge = load_prior(default_prior(problem.image_shape[0]), Denoiser) if network.told else network
        if problem.seen is None:
            level = estimate_noise(judge, problem.operator, problem.measurements, seed=settings.seed)
        else:
            level = noise_level(judge, problem.seen, seed=settings.seed)
        problem = replace(problem, noise_estimate=level)
    sampled = bool(method.forecast(settings.values))
    recorder = Recorder(problem, network, None if sampled else method.length(settings.values))
    progress = Progress(method, settings)
    started = runtime.clock()
    estimates = method.run(problem, network, settings.values, settings.samples, settings.seed)
    for estimate in estimates:
        recorder.add(estimate)
        done = progress(estimate)
        remaining = (runtime.clock() - started) * (1 - done) / done
        yield Forming(done, deepcopy(recorder.history), estimate.images, recorder.noise, remaining)
    found = estimate.images.cpu()  # waits for the device
    del estimates  # a sampler's iterates may be large
    seconds = runtime.clock() - started
    if sampled and settings.prior is not None:
        PACE.learn(settings.prior, estimate.evaluations, pixels_of(problem, settings), seconds)
    return summarise(problem, settings, method, replace(estimate, images=found), recorder, seconds)


def finish(steps: Generator[Any, None, Result]) -> Result:
    """Run to the end, and return what is returned there."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result


class Progress:
    """How far an estimate is, from 0 to 1. The ascent runs ahead of its forecast, so σ tells more than the count."""

    def __init__(self, method: Method, settings: Settings) -> None:
        self.forecast = method.forecast(settings.values)
        self.length = method.length(settings.values)

    def __call__(self, estimate: Estimate) -> float:
        if estimate.outcome is not None:
            return 1.0
        if self.length is not None:
            return (estimate.evaluations if self.forecast else estimate.step) / self.length
        passed = sum(level >= (estimate.level or 0.0) for level in self.forecast)
        return max(estimate.evaluations, passed) / max(estimate.evaluations, len(self.forecast))


class Recorder:
    """What is kept of a run while it runs: its history, some of its states, and the noise that it finds.

    Of a descent with a known number of steps, states are kept evenly. Else every step is kept, then every second, every
    fourth..., so that they are few in the end.
    """

    def __init__(self, problem: Problem, network: Any, length: int | None) -> None:
        self.history: dict[str, Any] = {}
        self.frames: list[Frame] = []
        self.noise: np.ndarray | None = None
        self.noise_top = 1.0
        self._stride = 1
        self._steps = None if length is None or not isinstance(problem, StructuredProblem) else frame_steps(length)
        self._densities = Densities(problem, network) if isinstance(problem, StructuredProblem) else None

    def add(self, estimate: Estimate) -> None:
        measures = {"evaluations": estimate.evaluations, **estimate.measures}
        for name, value in measures.items():
            self.history.setdefault(name, []).append(round(value, 5))
        if not self._keeps(estimate):
            return
        if estimate.noise is not None and self.noise is None:
            self.noise, self.noise_top = noise_map(estimate.noise)
        if self._densities is not None:
            # Seldom, because the densities may cost as much as a third of a step.
            self.noise = self._densities.found(estimate)
            self.history["truth"] = self._densities.truth
        denoised = to_uint8(thinned(estimate.images[0]))
        noisy = denoised
        if estimate.noisy is not None:
            noisy = to_uint8(thinned(estimate.noisy[0]))
        elif self._densities is not None and self.noise is not None:
            noisy = self.noise
        self.frames.append(Frame(estimate.evaluations, estimate.measures.get("sigma", 0.0), noisy, denoised))

    def _keeps(self, estimate: Estimate) -> bool:
        if self._steps is not None:
            return estimate.step in self._steps
        if estimate.outcome is None and (estimate.step - 1) % self._stride:
            return False
        if len(self.frames) == FRAMES:
            self.frames = self.frames[::2]
            self._stride *= 2
        return True


def frame_steps(steps: int, count: int = 8) -> list[int]:
    """The steps, of so many, whose states are kept: the first, the last, and some evenly between."""
    return sorted({round(1 + index * (steps - 1) / (count - 1)) for index in range(count)})


class Densities:
    """The noise that estimates leave, and the log-densities that the true picture and the true noise have.

    Attributes
    ----------
    truth : "steps" at which "noise_log_prob" is that of the true noise at the floor of the step, and
        "signal_log_prob" of the true picture, in nats; empty if the truth is not known or the prior has no density.
    """

    def __init__(self, problem: StructuredProblem, network: Any) -> None:
        self.truth: dict[str, Any] = {}
        self._model, self._y = problem.build()
        self._top = noise_top(problem)
        self._x = problem.truth if isinstance(network, Flow) else None
        if self._x is not None:
            with torch.no_grad():
                signal = float(network.log_prob(self._x.to(next(network.parameters()).device)))
            self.truth = {"signal_log_prob": round(signal, 4), "steps": [], "noise_log_prob": []}

    @torch.no_grad()
    def found(self, estimate: Estimate) -> np.ndarray:
        """The noise that the first estimate leaves, in 8 bits."""
        image = estimate.images[:1].cpu()  # where the model is, whatever device the method works on
        y, forward = self._y, self._model.forward
        if self._x is not None:
            true = float(noise_log_prob(self._model.noise, y, forward, self._x, estimate.floor))
            self.truth["steps"].append(estimate.step)
            self.truth["noise_log_prob"].append(round(true, 4))
        return noise_levels(y - forward(image.clamp(0, 1)), self._top)


def noise_top(problem: StructuredProblem) -> float:
    """How strong noise is that is shown as white; 1 where the noise is not known."""
    delta = problem.posed.delta
    return 1.0 if delta is None else max(0.01, float(delta.abs().quantile(0.995)))


def noise_levels(delta: Tensor, top: float) -> np.ndarray:
    """Noise (1, ...) as a picture in 8 bits: black is -top, grey is none, white is top.

    A list of numbers fills the rows of a square, about. They are multiples of 16 long, the period of the sinusoid, so
    that numbers of the same strength stand below one another.
    """
    grey = (0.5 + 0.5 * delta.cpu() / top).clamp(0, 1)
    if grey.ndim == 2:
        width = 16 * max(1, round((grey.numel() ** 0.5) / 16))
        rows = -(-grey.numel() // width)
        filled = torch.full((rows * width,), 0.5)
        filled[: grey.numel()] = grey[0]
        grey = filled.view(1, 1, rows, width)
    return to_uint8(grey)


def noise_map(seen: NoiseSeen) -> tuple[np.ndarray, float]:
    """The noise level from place to place in 8 bits, (H, W), and the level that is white."""
    levels = seen.map()[0, 0].cpu().numpy()
    top = round(max(0.01, float(np.quantile(levels, 0.995))), 4)
    return quantised(levels, top), top


def thinned(image: Tensor, longest: int = FRAME_SIDE) -> Tensor:
    """Every second pixel (..., H, W), or third... so that no side exceeds `longest`; averaging would hide noise."""
    step = -(-max(image.shape[-2:]) // longest)
    return image[..., ::step, ::step]


def distance(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Root mean square difference over colours of two pictures in 8 bits, the range being 1: (H, W)."""
    difference = (picture.astype(np.float32) - other.astype(np.float32)) / 255
    return np.abs(difference) if difference.ndim == 2 else np.sqrt(np.square(difference).mean(2))


def quantised(values: np.ndarray, top: float) -> np.ndarray:
    """Values (H, W) from 0 to `top`, and clipped above, in 8 bits."""
    return (np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)


def summarise(
    problem: Problem, settings: Settings, method: Method, last: Estimate, recorder: Recorder, seconds: float
) -> Run:
    """Score a result, if the truth is known, and keep what is shown of it."""
    samples, mean = last.images, last.images.mean(0)
    found = {
        "evaluations": last.evaluations,
        "seconds": round(seconds, 4),
        **({} if last.skipped is None else {"skipped": last.skipped}),
        **{name: np.round(value, 5).tolist() for name, value in last.found.items()},
        **({"noise_top": recorder.noise_top} if last.noise is not None else {}),
        "outcome": last.outcome,
        "history": recorder.history,
    }
    parameters = problem.parameters | settings.parameters | found
    scored = None
    if problem.truth is not None:
        scored = scores.score(problem, samples, antithetic=settings.antithetic)
        # Against structured noise a single answer is a result, whichever method gave it.
        if method.draws and (len(samples) > 1 or not isinstance(problem, StructuredProblem)):
            parameters |= scores.summarise([scored]) | {"each": scores.curves(scored)}
            if scored.calibration is not None:
                parameters["calibration"] = scored.calibration
        else:
            parameters |= scores.summarise_estimate([scored])
    if (band := scores.band(parameters, samples, problem.truth)) is not None:
        parameters["band"] = band
    truth, view = problem.truth, problem.view()
    std = samples.std(0, correction=min(1, len(samples) - 1)).square().mean(0).sqrt().numpy()
    maps = [std] if truth is None else [std, distance(to_uint8(mean), to_uint8(truth))]
    top = max(1e-3, *(float(np.quantile(values, 0.995)) for values in maps))
    return Run(
        parameters=parameters,
        picture=None if problem.picture is None else to_uint8(problem.picture.image),
        measured=None if view is None else to_uint8(view),
        truth=None if truth is None else to_uint8(truth),
        samples=[to_uint8(sample) for sample in samples],
        mean=to_uint8(mean),
        std=quantised(std, top),
        top=top,
        frames=recorder.frames,
        **noise_pictures(problem, recorder.noise, recorder.noise_top),
        scores=scored,
    )


def noise_pictures(problem: Problem, found: np.ndarray | None, top: float = 1.0) -> dict[str, Any]:
    """The fields of a `Run` about noise: that which was found, or of denoising the map of its level up to `top`."""
    if isinstance(problem, DenoisingProblem):
        return {"noise_map": found, "noise_top": top}
    if not isinstance(problem, StructuredProblem):
        return {}
    delta, top = problem.posed.delta, noise_top(problem)
    true = None if delta is None else noise_levels(delta, top)
    return {"noise_found": found, "noise_true": true, "noise_top": top}


# Several runs


@dataclass(frozen=True)
class Series:
    """Several runs, one after the other, as far as they are.

    Attributes
    ----------
    progress : from 0 to 1.
    runs : those that have ended.
    forming : what is seen of the one that runs.
    """

    progress: float = 0.0
    runs: tuple[Run, ...] = ()
    forming: Forming = field(default_factory=Forming)


def solve_all(
    pairs: Sequence[tuple[Callable[[], Problem], Settings]], solve: Callable[[Problem, Settings], Solving] = solve
) -> Generator[Series, None, Series]:
    """Solve several problems, or one with several settings, one after the other; each is posed when its turn comes."""
    done: tuple[Run, ...] = ()
    for pose_it, chosen in pairs:
        steps = solve(pose_it(), chosen)
        while True:
            try:
                forming = next(steps)
            except StopIteration as stop:
                done += (stop.value,)
                break
            yield Series((len(done) + forming.progress) / len(pairs), done, forming)
    return Series(1.0, done)


# Repeating a run


def read(run: Any, picture: Picture | None = None) -> tuple[Problem, Settings]:
    """The problem and the settings of a run's JSON.

    Parameters
    ----------
    run : the JSON object.
    picture : the run's; not needed if it was an example, or if nothing was measured.

    Raises
    ------
    ValueError : it is not the JSON of a run, or `picture` is not that of the run.
    """
    run = upgraded(run)
    command, task, method = command_of(run), member(run, "task", str), member(run, "method", str)
    if task not in TASKS[command]:
        raise ValueError(f"{task!r} is not a task: choose one of {', '.join(TASKS[command])}")
    kind = TASKS[command][task]
    knobs = decode(kind.knobs, member(run, "knobs", dict), kind.exclusive)
    seed, samples = member(run, "seed", int), member(run, "samples", int)
    problem: Problem
    if command == "sample":
        problem = prior.pose(member(run, "image_shape", (int, int, int)), **knobs)
    else:
        picture = picture or example_of(run)
        simulated = member(run, "simulated", bool)
        if isinstance(kind, LinearTask):
            image, noise = images.to_channels(picture.image, channels_of(run)), linear.noise_of(run)
            image = images.crop_to_multiple(image, kind.side(knobs)) if simulated else image
        else:
            image, noise = structured.suited(picture.image, task, member(run, "image_shape", (int, int, int))), {}
        if images.fingerprint(image) != member(run, "fingerprint", str):
            raise ValueError(
                f"{picture.name} is not the picture of the run: name that one as IMAGE (the ZIP of a run holds it as "
                "picture.png)"
            )
        problem = POSE[command](task, replace(picture, image=image), knobs, simulated=simulated, seed=seed, **noise)
    if method not in METHODS[command]:
        raise ValueError(f"{method!r} is not a method: it must be one of {', '.join(METHODS[command])}")
    chosen = METHODS[command][method]
    values = decode(chosen.knobs, {**older(chosen), **member(run, "settings", dict)})
    name = None if chosen.prior is None else member(run, "prior", str)
    return problem, settings(problem, method, values, prior=name, samples=samples, seed=seed)


def older(method: Method) -> dict[str, Any]:
    """The settings that a run did without before they could be chosen: all of them started from grey."""
    return {each.name: False for each in method.knobs if each.name == "power_law"}


def upgraded(run: Any) -> Any:
    """A run as version 0.1.0 wrote it, with knobs and settings side by side, in today's form.

    Anything else is returned as it is.
    """
    if not isinstance(run, dict) or "command" in run:
        return run
    command = "sample" if str(run.get("task")) in TASKS["sample"] else "restore"
    kind, method = TASKS[command].get(str(run.get("task"))), METHODS[command].get(str(run.get("sampler")))
    if kind is None or method is None or run.get("noise_level"):  # which was in other units
        return run
    run = {"downsampling": "box", "circular": True, **run}  # there was no other way
    knobs, settings = (
        {each.name: run[each.key] for each in them if each.key in run} for them in (kind.knobs, method.knobs)
    )
    return {**run, "command": command, "method": run["sampler"], "knobs": knobs, "settings": settings}


def command_of(run: Any) -> str:
    """The command that repeats a run; ValueError if it is not the JSON of a run."""
    if not isinstance(run, dict):
        raise ValueError("it is not a JSON object")
    command = member(upgraded(run), "command", str)
    if command not in TASKS:
        raise ValueError(f"{command!r} is not a command that is repeated: it must be one of {', '.join(TASKS)}")
    return command


def channels_of(run: Json) -> int:
    """The number of colours of a run's pictures."""
    return int(member(run, "image_shape", (int, int, int))[0])


def example_of(run: Json) -> Picture:
    """The example picture of a run; ValueError if it was another picture."""
    name = member(run, "picture", str)
    if "side" not in run:
        raise ValueError(f"it is not of an example but of {name}: name that picture as IMAGE")
    side = check_kind(run["side"], "side", int)
    if run["command"] == "remove-noise" and structured.is_small(
        run["task"], member(run, "image_shape", (int, int, int))
    ):
        return examples.subject(structured.TASKS[run["task"]].pictures, name)
    return examples.picture(name, side=side)
