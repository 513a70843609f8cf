"""The methods by name: which problems each suits, with which settings, and how it runs.

`METHODS` has a table for each command that poses problems. Every method runs the same way: from a problem, its prior
and its settings to a stream of `Estimate`s, the last of which is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from invlib.priors import checkpoints
from invlib.priors.denoisers import Denoiser
from invlib.priors.flows import Flow, bits_per_dim, standard_normal_log_prob
from invlib.priors.gans import Generator
from invlib.priors.pairs import Placed, SideBySide
from invlib.priors.tiles import Tiled
from invlib.problems.denoising import DenoisingProblem
from invlib.problems.forward import GaussianMeasurements
from invlib.problems.linear import LinearProblem
from invlib.problems.noise import Gaussian, PastedDigits
from invlib.problems.operators import (
    BlockAverage,
    DenseMatrix,
    DenseRows,
    Downsampling,
    FourierRows,
    FramedBlur,
    Identity,
    LinearOperator,
    Mask,
    StructuredRows,
    Sum,
)
from invlib.problems.prior import PriorProblem
from invlib.problems.spec import ImageShape, Knob, Problem, flag, knobs_of
from invlib.problems.structured import (
    DIGITS,
    DRAWN,
    IMAGE_SHAPES,
    ONE_BIT,
    SCRIBBLE,
    STROKES,
    MeasurementModel,
    StructuredProblem,
)
from invlib.runtime import Batched, default_device, on
from invlib.solvers import baselines, inversion
from invlib.solvers.deep_baselines import deep_image_prior, deep_red
from invlib.solvers.denoising import denoise_stabilised, fit_noise
from invlib.solvers.inversion import Iterate
from invlib.solvers.noise_level import NoiseSeen, see_noise
from invlib.solvers.posterior import Posterior
from invlib.solvers.samplers import State, ascend, mean_of_all, reverse_diffusion, sample_fast
from invlib.solvers.schedules import Ascent, Reverse, Schedule
from invlib.solvers.scribbles import clearest, find_strokes, fit_strokes, tell_apart, wash, widened
from invlib.solvers.signs import SignPosterior
from invlib.solvers.streams import Streams, quarter_turn

Settings = Mapping[str, Any]
"""The values of a method's knobs, by name."""


@dataclass(frozen=True)
class Estimate:
    """What a method has found after a step.

    Attributes
    ----------
    images : (count, C, H, W).
    evaluations : of the network, for each sample, so far.
    step : 1, 2, ...
    measures : what the history of a run tells of the step, by name.
    noisy : the iterates of a sampler, (count, C, H, W); None for other methods.
    level : the largest noise level of the samples; None where there is none.
    floor : the white noise that widened the noise model.
    skipped : steps so far that had to be undone.
    outcome : in the last one a sentence that says how the method ended.
    noise : what a denoiser saw of the noise in a picture.
    found : what else the JSON of a run tells, by name: a number, or one for each sample.
    """

    images: Tensor
    evaluations: int
    step: int
    measures: dict[str, float] = field(default_factory=dict)
    noisy: Tensor | None = None
    level: float | None = None
    floor: float = 0.0
    skipped: int | None = None
    outcome: str | None = None
    noise: NoiseSeen | None = None
    found: Mapping[str, float | list[float]] = field(default_factory=dict)


Runner = Callable[[Any, Any, Settings, int, int], Iterator[Estimate]]
"""From a problem, a prior, settings, a number of samples and a seed to estimates."""


Minimise = Callable[..., Iterator[Iterate]]
"""From a measurement model, a prior, measurements (batch, ...), a seed and settings to iterates."""


@dataclass(frozen=True)
class Method:
    """A way to solve problems.

    Attributes
    ----------
    title : what it is called on a page.
    run : see `Runner`.
    prior : the class of its prior; None if it needs none.
    knobs : its settings.
    tasks : those that it suits; None for all of its command's.
    defaults : task -> the settings that differ there from the knobs' defaults.
    default : from a problem and a number of samples to all settings, where they depend on more than the task.
    draws : whether it can draw several samples.
    forecast : from the settings to the noise level that is expected at each evaluation.
    length : from the settings to the number of steps, where that is known.
    paper : what the first paper calls it.
    minimise : of a method against structured noise, the same for a batch of measurements, each of a picture of its own.
    slow : whether it takes many minutes for a picture.
    package : what has to be installed for it.
    told : whether its prior is a denoiser that has to be told what was measured.
    """

    title: str
    run: Runner
    prior: type | None = None
    knobs: tuple[Knob, ...] = ()
    tasks: tuple[str, ...] | None = None
    defaults: Mapping[str, Settings] = field(default_factory=dict)
    default: Callable[[Any, int], Settings] | None = None
    draws: bool = False
    forecast: Callable[[Settings], list[float]] = lambda settings: []
    length: Callable[[Settings], int | None] = lambda settings: settings.get("steps", 1)
    paper: str | None = None
    minimise: Minimise | None = None
    slow: bool = False
    package: str | None = None
    told: bool = False

    @property
    def installed(self) -> bool:
        """Whether this installation can run it."""
        return self.package is None or find_spec(self.package) is not None

    def complete(self, problem: Problem | str, samples: int, given: Settings, name: str) -> dict[str, Any]:
        """All settings for a problem, or for any of a task: the given ones, else the task's, else the method's own.

        Raises
        ------
        ValueError : a setting that the method lacks, or of another kind; `name` is what the sentence calls the method.
        """
        known = {each.name: each for each in self.knobs}
        for each in given:
            if each not in known:
                has = ", ".join(other.flag for other in self.knobs) or "no settings"
                raise ValueError(f"{flag_of(each)} does not belong to {name}, which has {has}")
        if self.default is not None:
            ours = self.default(problem, samples)
        else:
            task = problem if isinstance(problem, str) else problem.task
            ours = {**{each.name: each.default for each in self.knobs}, **self.defaults.get(task, {})}
        return {**ours, **{each: known[each].check(value) for each, value in given.items()}}

    def prior_name(self, problem: Problem) -> str | None:
        """The name of the shipped prior for a problem; None if the method needs none.

        Raises
        ------
        ValueError : no flow or GAN that is shipped is for pictures of this shape.
        """
        if self.prior is None:
            return None
        if self.prior not in FAMILIES:
            pictures = None
            if isinstance(problem, StructuredProblem) and problem.image_shape == problem.kind.small:
                pictures = problem.kind.pictures
            return TOLD_PRIOR if self.told else default_denoiser(pictures, problem.image_shape[0])
        for pictures, shape in IMAGE_SHAPES.items():
            if shape == problem.image_shape:
                return f"{FAMILIES[self.prior]}-{pictures}"
        raise ValueError(f"no shipped {FAMILIES[self.prior]} is for pictures of {described(problem.image_shape)}")


def flag_of(name: str) -> str:
    """What a setting of any method is called on the command line."""
    knobs = (knob for methods in METHODS.values() for method in methods.values() for knob in method.knobs)
    return next((knob.flag for knob in knobs if knob.name == name), flag(name))


FAMILIES = {Flow: "realnvp", Generator: "dcgan"}
"""Classes of priors of one shape of pictures -> what the names of their checkpoints begin with."""


def described(image_shape: ImageShape) -> str:
    """A shape (C, H, W) in words.

    >>> described((3, 48, 64))
    '64×48 pixels in colour'
    """
    channels, height, width = image_shape
    return f"{width}×{height} pixels in {'colour' if channels == 3 else 'grey'}"


def default_prior(channels: int) -> str:
    """The shipped denoiser that is best in quality for time, for pictures of 1 or 3 channels."""
    return "bf-unet-gray" if channels == 1 else "bf-unet-color"


TOLD_PRIOR = "bf-told-color"
"""The shipped denoiser of photographs, in colour and grey, that is told what was measured."""


def is_told(prior: str) -> bool:
    """Whether a checkpoint is a denoiser that is told what was measured; it is downloaded first if it has to be."""
    checkpoints.resolve(prior)
    return bool(checkpoints.describe(prior).arguments.get("told"))


def default_denoiser(pictures: str | None, channels: int) -> str:
    """The shipped denoiser for pictures with structured noise.

    `pictures` is the kind of those that flows are for, `structured.FACES` or `DIGITS`, and None for all others.
    """
    return DIGITS_PRIOR if pictures == DIGITS else default_prior(channels)


def load_prior(name: str, kind: type) -> Any:
    """A prior of a class, kept for the next run."""
    return _load_prior(name, kind, checkpoints.weights_folder())


def load_sized(name: str, kind: type, image_shape: ImageShape) -> Any:
    """The same; ValueError if it is a flow or a generator of pictures of another shape than `image_shape` (C, H, W)."""
    prior = load_prior(name, kind)
    if getattr(prior, "image_shape", image_shape) != image_shape:
        raise ValueError(
            f"this prior draws pictures of {described(prior.image_shape)} only: ask for that size, not for "
            f"{described(image_shape)}"
        )
    return prior


@lru_cache(maxsize=4)
def _load_prior(name: str, kind: type, folder: Path) -> Any:
    return checkpoints.load(name, kind=kind)


# Sampling


def default_schedule(operator: LinearOperator, count: int = 8) -> Schedule:
    """As few evaluations as lose little, and noise that lets `count` samples spread as far as their average errs.

    One sample alone has no spread to show, and is best with neither correlation nor extrapolation.

    Where the measurements fix the coarse picture (block averages, low frequencies), thirteen or fourteen evaluations
    do: little detail is left to find below a noise of 0.03, the derivative changes little below 0.12, and the samples
    share the steps above 0.4. Where the picture has to form it takes forty or sixty; the paper's settings take three to
    five hundred for a worse average (docs/results.md). The least-squares estimate of random rows is off by nearly white
    noise, no larger than the picture's contrast, so their recursion starts there. Where fewer than a twelfth of
    the numbers are measured, the coarse parts are unknown, and runs start with those of the prior `PowerLaw`.

    Where most pixels are known, those around a hole already say what belongs in it, and the derivative does not pay.
    Independent noise makes samples spread half as far as they err there, and with all of the correlation they err more
    than the paper's: half of it is best. What a hole hides may be coarse, so these runs start with the coarse parts of
    the prior `PowerLaw`. Where some of every square is known they would gain nothing.
    """
    correlation = 0.0 if count == 1 else Schedule.correlation
    if isinstance(operator, Downsampling) and operator.way in ("nearest", "stride"):
        return Schedule(60, correlation=correlation)  # like random pixels, they say nothing of what lies between
    match operator:
        case BlockAverage() | Downsampling() | FourierRows() | FramedBlur() if count == 1:
            return Schedule(13, sigma_L=0.03, correlation=0.0, derivative_above=0.15)
        case BlockAverage() | Downsampling() | FourierRows() | FramedBlur():
            return Schedule(
                14, sigma_L=0.03, correlation=0.0, derivative_above=0.12, shared_above=0.4, extrapolation=0.5
            )
        case StructuredRows() | DenseRows():
            few = operator.measured < math.prod(operator.image_shape) / 12
            return Schedule(40, sigma_0=0.5, rho=5.0, correlation=correlation, power_law=few)
        case Identity():
            return Schedule(12, correlation=correlation)
        case Mask() if operator.measured > math.prod(operator.image_shape) / 2:
            return Schedule(60, correlation=correlation / 2, derivative_above=1.0, power_law=True)
        case Mask() if operator.hides(16):
            return Schedule(60, correlation=correlation, power_law=True)
        case _:
            return Schedule(60, correlation=correlation)


def schedule_for_noise(problem: DenoisingProblem, count: int) -> dict[str, Any]:
    """The schedule for denoising, which starts at twice the noise level where that is known."""
    schedule = asdict(default_schedule(problem.operator, count))
    level = 0.0 if problem.estimate_noise or problem.gain else problem.noise_level
    return schedule | ({"sigma_0": start_of(level, schedule["sigma_L"])} if level else {})


FACES_PRIOR = "bf-unet-faces"
"""The shipped denoiser of faces of 64×64 pixels in colour."""

DIGITS_PRIOR = "bf-cnn-mnist"
"""The shipped denoiser of digits of 28×28 pixels."""

SIDES = {FACES_PRIOR: 64, DIGITS_PRIOR: 28}
"""The side in pixels of the pictures that a shipped denoiser draws, where it was trained on whole pictures."""


def sampling_defaults(prior: str, method: str = "paper") -> dict[str, float]:
    """The settings of a method for samples of a denoiser alone, which differ from prior to prior.

    In the ascent digits cohere with more noise, that is, a smaller β; photographs lose their edges with it, and faces
    their contrast. The prior of faces was trained with noise of up to 8, which hides all of a face but its coarsest
    shades, so its samples start from there. From a level of 1 the outline of a face would stand out, so its absence
    would be taken for a picture that has none. The coarsest parts of photographs and faces stand out from any noise,
    so samples start with those of the prior `PowerLaw`. From grey they would be pale.
    """
    start: dict[str, float] = {"sigma_0": 8.0} if prior == FACES_PRIOR else {}
    start["power_law"] = prior != DIGITS_PRIOR
    if method == "reverse":
        return {"evaluations": 80, **start}
    return {"beta": {DIGITS_PRIOR: 0.1, FACES_PRIOR: 0.7}.get(prior, 0.5), **start}


def from_states(states: Iterable[State], crop: Callable[[Tensor], Tensor]) -> Iterator[Estimate]:
    """The estimates of a sampler, cropped to the answer."""
    for state in states:
        yield Estimate(
            crop(state.denoised),
            state.evaluations,
            state.step,
            measures={"sigma": float(state.sigma.mean()), "predicted": state.predicted},
            noisy=crop(state.image),
            level=float(state.sigma.max()),
            outcome=state.outcome,
        )


def posterior(problem: LinearProblem | PriorProblem, prior: Denoiser) -> Posterior:
    """What the samplers need to know of a problem."""
    if isinstance(problem, LinearProblem):
        return Posterior(prior, problem.operator, problem.measurements, problem.noise)
    return Posterior(prior, shape=problem.image_shape)


def run_fast(problem: LinearProblem, prior: Denoiser, settings: Settings, count: int, seed: int) -> Iterator[Estimate]:
    states = sample_fast(posterior(problem, prior), Schedule(**settings), count=count, seed=seed)
    return from_states(states, problem.operator.crop)


def run_paper(
    problem: LinearProblem | PriorProblem, prior: Denoiser, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    interpolate = bool(problem.knobs.get("interpolate"))
    states = ascend(posterior(problem, prior), Ascent(**settings), count=count, seed=seed, interpolate=interpolate)
    return from_states(states, problem.operator.crop if isinstance(problem, LinearProblem) else lambda images: images)


def run_reverse(
    problem: LinearProblem | PriorProblem, prior: Denoiser, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    if problem.knobs.get("interpolate"):
        raise ValueError("reverse diffusion does not interpolate between two samples: choose the method paper")
    states = reverse_diffusion(posterior(problem, prior), Reverse(**settings), count=count, seed=seed)
    return from_states(states, problem.operator.crop if isinstance(problem, LinearProblem) else lambda images: images)


def run_mean(problem: LinearProblem, prior: Denoiser, settings: Settings, count: int, seed: int) -> Iterator[Estimate]:
    mean = mean_of_all(posterior(problem, prior))
    yield Estimate(problem.operator.crop(mean), 1, 1, outcome="finished its only evaluation")


TEMPERATURE = Knob(
    "temperature",
    float,
    "The standard deviation of the noise z that the network turns into a picture; it was trained with 1. Less gives "
    "pictures that are plainer, paler and more alike; more gives stranger ones.",
    "Temperature",
    1.0,
    (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    least=0,
    most=2,
)

AT_ONCE = 16
"""How many noises a flow or a GAN turns into pictures at once, to spare memory."""


def run_direct(
    problem: PriorProblem, prior: Flow | Generator, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    """Noise z of each sample's own stream is turned into a picture. Of a flow's pictures the density is told as well.

    The density comes with the picture at no cost. It is told in bits for each number, as if of a picture of 8 bits.
    """
    interpolate = problem.knobs["interpolate"]
    if interpolate and count < 2:
        raise ValueError(f"count must be at least 2 to interpolate, got {count}")
    dims = prior.dims if isinstance(prior, Flow) else prior.latent_dim
    # Drawn on the CPU, so that a seed gives the same pictures on every device.
    streams = Streams(seed, count, (dims,), torch.device("cpu"), quarter_turn(count) if interpolate else None)
    z = settings["temperature"] * streams.draw(range(count)).to(next(prior.parameters()).device)
    with torch.no_grad():
        parts = [prior.decode(part) if isinstance(prior, Flow) else (prior(part),) for part in z.split(AT_ONCE)]
    images, *logdet = (torch.cat(each) for each in zip(*parts, strict=True))
    if not images.isfinite().all():
        raise ValueError(f"the prior's pictures are not finite at temperature {settings['temperature']:g}: lower it")
    found: dict[str, list[float]] = {}
    if logdet:
        found["bits_per_dim"] = bits_per_dim(standard_normal_log_prob(z) - logdet[0], dims, bits=8).tolist()
    yield Estimate(images, 1, 1, outcome="drawn in one evaluation", found=found)


def direct(title: str, prior: type) -> Method:
    """The method of a prior that turns noise into a picture."""
    return Method(title, run_direct, prior, (TEMPERATURE,), draws=True)


def sampler_of(prior: str) -> str:
    """The method that draws samples of a prior, by the architecture in its checkpoint's file.

    Raises
    ------
    CheckpointError : there is no such checkpoint, or its file cannot be had.
    """
    checkpoints.resolve(prior)  # downloads it if it has to be
    kind = checkpoints.ARCHITECTURES[str(checkpoints.describe(prior).architecture)]
    return next(name for name, each in METHODS["sample"].items() if each.prior and issubclass(kind, each.prior))


# Denoising


def run_blind(
    problem: DenoisingProblem, prior: Denoiser, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    """One evaluation is the answer. A second one, which tells how much of the noise is kept, is not counted."""
    seen = see_noise(prior, problem.measurements, seed=seed)
    yield Estimate(seen.clean, 1, 1, noise=seen, outcome="finished", found={"noise_estimate": seen.level})


def run_anscombe(
    problem: DenoisingProblem, prior: Denoiser, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    """The noise is made white before the evaluation; to estimate it takes two more, which are not counted."""
    seen = see_noise(prior, problem.measurements, seed=seed)
    gain, offset, found = noise_of(problem, seen)
    y = problem.measurements.to(seen.clean.device)
    x_hat = denoise_stabilised(lambda y: y - Batched(Tiled(prior))(y), y, gain, offset)
    yield Estimate(x_hat, 1, 1, noise=seen, outcome="finished", found=found)


def noise_of(problem: DenoisingProblem, seen: NoiseSeen) -> tuple[float, float, dict[str, float]]:
    """Gain and offset of the noise, known or estimated, and what of it was estimated."""
    found = {"noise_estimate": seen.level}
    if not problem.estimate_noise:
        return problem.gain or 0.0, problem.noise_level, found
    gain, offset = fit_noise(seen, problem.gain)
    return gain, offset, {**found, "gain_estimate": gain, "offset_estimate": offset}


def start_of(level: float, sigma_L: float) -> float:
    """The level from which samples of a picture with noise start: more noise would only hide what can be seen."""
    return round(max(2 * level, 1.5 * sigma_L), 4)


def sampled(run: Runner) -> Runner:
    """A sampler for denoising: it is told the noise, which is estimated first if it is not known."""

    def denoise(
        problem: DenoisingProblem, prior: Denoiser, settings: Settings, count: int, seed: int
    ) -> Iterator[Estimate]:
        seen = see_noise(prior, problem.measurements, seed=seed)
        found = {"noise_estimate": seen.level}
        if problem.gain:
            gain, offset, found = noise_of(problem, seen)
            level = (gain * seen.clean[0].clamp_min(0) + offset**2).sqrt()
        else:
            level = torch.tensor(seen.level if problem.estimate_noise else problem.noise_level)
        # Above twice the noise of the picture nothing is to be found.
        top = start_of(float(level.square().mean().sqrt()), settings["sigma_L"])
        settings = {**settings, "sigma_0": min(settings["sigma_0"], top)}
        for estimate in run(replace(problem, levels=level), prior, settings, count, seed):
            yield replace(estimate, noise=seen, found=found)

    return denoise


def classical(denoise: Callable[[Tensor, float], Tensor]) -> Runner:
    """A denoiser that has to be told the noise level, which our denoiser estimates if it is not known."""

    def run(
        problem: DenoisingProblem, prior: Denoiser, settings: Settings, count: int, seed: int
    ) -> Iterator[Estimate]:
        y, found = problem.measurements, dict[str, float]()
        level = math.sqrt(problem.noise_level**2 + (problem.gain or 0.0) * float(y.mean().clamp_min(0)))
        if problem.estimate_noise:
            level = see_noise(prior, y, seed=seed).level
            found = {"noise_estimate": level}
        yield Estimate(denoise(y, max(level, 1e-4)), 0, 1, outcome="finished", found=found)

    return run


# Other methods for linear problems


def baseline(restore: Callable[..., Iterable[Tensor]]) -> Runner:
    """A method that gives one estimate: from an operator, measurements and settings to pictures, step by step."""

    def run(
        problem: LinearProblem, prior: Denoiser | None, settings: Settings, count: int, seed: int
    ) -> Iterator[Estimate]:
        calls: list[int] = []
        device, network = default_device(), dict[str, Any]()
        if not problem.operator.orthonormal:
            raise ValueError("this method needs a blur of a picture that wraps: give --circular")
        if prior is not None:

            def count_calls(images: Tensor) -> Tensor:
                calls.append(1)
                return prior(images)

            network = {"denoiser": count_calls}
            device = next(prior.parameters()).device
        operator, measurements = on(problem.operator, device), problem.measurements.to(device)
        step = 0
        for step, image in enumerate(restore(operator, measurements, **network, **settings), start=1):
            yield Estimate(image, len(calls), step)
        yield Estimate(image, len(calls), step, outcome="finished")

    return run


def least_squares(operator: LinearOperator, measurements: Tensor) -> Iterator[Tensor]:
    """M m, the smallest picture that agrees with the measurements."""
    yield operator.adjoint(measurements)


DEEP_WIDTH = 64
"""Channels of the networks of DIP and DeepRED: a quarter of the paper's cost, for processors without an accelerator."""


def hidden(**defaults: Any) -> tuple[Knob, ...]:
    """The settings of a method that nobody sets on a page, with their defaults."""
    return tuple(Knob(name, type(value), "", default=value, shown=False) for name, value in defaults.items())


def known_all_over(knobs: Iterable[Knob]) -> tuple[Knob, ...]:
    """The settings of a sampler on pages where something is known of every pixel, so that its start hardly matters."""
    return tuple(replace(knob, shown=False) if knob.name == "power_law" else knob for knob in knobs)


DEEP = {"steps": 2000, "width": DEEP_WIDTH, "learning_rate": 0.01}


# Methods against structured noise


def separation(model: MeasurementModel, y: Tensor, prior: Denoiser) -> Posterior:
    """What the samplers need to know of a·x + δ, where the prior of pictures is a denoiser.

    Gaussian noise needs no prior of its own: it is that of the measurements, with one level for each, of numbers or of
    sums of them. Digits have a denoiser of their own.

    Parameters
    ----------
    model : the measurement model, whose `factor` is a.
    y : measurements of one picture, (1, C, H, W).
    prior : the denoiser of pictures.
    """
    shape, noise, factor = model.image_shape, model.noise, model.factor
    if model.linear and isinstance(model.forward, GaussianMeasurements):
        assert isinstance(noise, Gaussian)
        operator = DenseMatrix(shape, model.forward.matrix)
        return Posterior(prior, operator, y - noise.mean, noise.std.expand(operator.measurement_shape))
    if factor is None:
        raise ValueError("two priors separate pictures, and these measurements are none: choose another method")
    if isinstance(noise, Gaussian):
        return Posterior(prior, Identity(shape), (y - noise.mean) / factor, (noise.std / factor).expand(shape))
    assert isinstance(noise, PastedDigits)
    total, digit = Sum(shape, factor), load_prior("bf-cnn-mnist", Denoiser)
    added = Placed(digit, shape[0], (noise.height, noise.width), noise.places)
    faint = total.noise_levels(FAINT).expand(shape)
    return Posterior(SideBySide(prior, added).eval(), total, total.from_view(y), faint)


FAINT = 0.01
"""The standard deviation of the white noise that measurements have besides digits or strokes."""

STROKES_PRIOR = "bf-strokes"
"""A denoiser of colour pictures whose noise is strokes of a pen."""


def strokes_added(y: Tensor) -> Tensor:
    """An estimate of what strokes of a pen add to a picture y (1, C, H, W), of the same shape.

    The network knows strokes of a certain width, so it sees the picture reduced as well. The estimate is the strongest.
    """
    denoiser = load_prior(STROKES_PRIOR, Denoiser)
    network = Batched(Tiled(denoiser))
    # A grey picture is one of equal colours.
    colour = y.expand(1, 3, *y.shape[2:]).to(next(denoiser.parameters()).device)
    added, times = network(colour), 2
    while min(y.shape[2:]) // times >= LEAST_SIDE:
        reduced = F.interpolate(network(F.avg_pool2d(colour, times)), size=y.shape[2:])
        stronger = reduced.square().sum(1, keepdim=True) > added.square().sum(1, keepdim=True)
        added, times = torch.where(stronger, reduced, added), 2 * times
    return (added if y.shape[1] == 3 else added.mean(1, keepdim=True)).to(y.device)


LEAST_SIDE = 256
"""How small a picture strokes are looked for in, in pixels."""


def run_pair(
    problem: StructuredProblem, prior: Denoiser, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    if problem.task in DRAWN:
        yield from run_strokes(problem, prior, settings, count, seed)
        return
    model, y = problem.build()
    if problem.task == ONE_BIT:
        states = sample_fast(SignPosterior(prior, model, y), Schedule(**settings), count=count, seed=seed)
        yield from from_states(states, lambda images: images)
        return
    found = {}
    if problem.knobs.get("estimate_c"):
        strength = estimate_strength(model, y, prior, seed)
        found = {"c_estimate": strength * problem.knobs["c"]}
        model = scaled(model, strength)
    posterior = separation(model, y, prior)
    assert posterior.operator is not None
    states = sample_fast(posterior, Schedule(**settings), count=count, seed=seed)
    for estimate in from_states(states, posterior.operator.crop):
        yield replace(estimate, found=found)


def scaled(model: MeasurementModel, strength: float) -> MeasurementModel:
    """The same measurements with noise that is so many times as strong, of which only Gaussian noise is capable."""
    assert isinstance(model.noise, Gaussian)
    return replace(model, noise=Gaussian((strength * model.noise.std).clamp_min(1e-3), model.noise.mean))


def estimate_strength(model: MeasurementModel, y: Tensor, prior: Denoiser, seed: int) -> float:
    """How many times as strong as in the model the Gaussian noise in measurements y (1, C, H, W) is.

    Expectation maximisation: samples of the picture leave noise, whose strength is that of the next round. It begins as
    if the whole picture were noise, because it is slow from below. The strength is measured by the median where the
    noise is strongest, because some texture is left as well.
    """
    assert isinstance(model.noise, Gaussian)
    std, mean = model.noise.std.expand(model.image_shape), model.noise.mean
    strong = std > std.max() / 2

    def strength(noise: Tensor) -> float:
        measured = float((noise.cpu().abs() / std)[:, strong].median()) / NORMAL_MEDIAN
        return min(max(measured, 1e-3), 1e3)

    share = strength(y - y.mean())
    for _ in range(ROUNDS):
        schedule = Schedule(8, sigma_0=0.5, correlation=0.5)
        *_, last = sample_fast(separation(scaled(model, share), y, prior), schedule, count=2, seed=seed)
        share = strength(y - mean - last.denoised.cpu())
    return share


ROUNDS = 3
"""How often the strength of noise is estimated anew."""

NORMAL_MEDIAN = 0.6745
"""The median of the magnitude of a standard normal variable."""


def run_strokes(
    problem: StructuredProblem, prior: Denoiser, settings: Settings, count: int, seed: int
) -> Iterator[Estimate]:
    """Samples of a picture under strokes, which use what shines through them.

    A third of the evaluations fill in what is under the strokes, as if they were opaque. Their colour and their opacity
    follow from that, and samples are drawn in the other evaluations.
    """
    _, y = problem.build()
    shape, told = (y.shape[1], y.shape[2], y.shape[3]), problem.task == SCRIBBLE
    clear = None
    if told:
        where = problem.knobs["strokes"][3] > 0
    else:
        where = find_strokes(added := strokes_added(y))
        clear = clearest(added, where)
    schedule = Schedule(**settings)
    first = max(2, schedule.evaluations // 3)
    covered = where if told else widened(where, 1)
    level = torch.full(shape, FAINT).masked_fill(covered, 1.0)
    filling = Schedule(first, correlation=0.0, derivative_above=1.0)
    for estimate in from_states(
        sample_fast(Posterior(prior, Identity(shape), y, level), filling, seed=seed), torch.clone
    ):
        diverged = estimate.outcome is not None and not estimate.outcome.startswith("finished")
        images = estimate.images.expand(count, *shape)
        yield replace(estimate, images=images, outcome=estimate.outcome if diverged else None)
    if diverged:
        return
    x_hat = estimate.images.to(y.device)
    strokes = fit_strokes(y, x_hat, where, clear)
    if not told:
        where = tell_apart(y, x_hat, strokes)
        strokes = fit_strokes(y, x_hat, where)
    washed, level = wash(y, where, strokes, FAINT)
    found = bool(where.any())
    rest = replace(schedule, evaluations=max(2, schedule.evaluations - first))
    states = sample_fast(Posterior(prior, Identity(shape), washed, level[0]), rest, count=count, seed=seed)
    for estimate in from_states(states, torch.clone):
        evaluations, outcome = first + estimate.evaluations, estimate.outcome
        if outcome is not None and outcome.startswith("finished"):
            outcome = f"finished its {evaluations} evaluations" if found else "finished: no strokes were found"
        yield replace(estimate, evaluations=evaluations, step=first + estimate.step, outcome=outcome)


def schedule_for_pair(problem: StructuredProblem | str, count: int) -> dict[str, Any]:
    """The schedule for two priors, or for one where the noise is Gaussian, as in denoising."""
    task = problem if isinstance(problem, str) else problem.task
    correlation = 0.0 if count == 1 else Schedule.correlation
    if task == "digits":
        return asdict(Schedule(40, sigma_0=0.5, correlation=correlation))
    if task == "compressive-sensing":
        return asdict(Schedule(40, sigma_0=0.5, rho=5.0, correlation=correlation))
    if task == ONE_BIT:
        return asdict(Schedule(40, sigma_0=0.5, correlation=correlation / 2, derivative_above=1.0))
    if task in DRAWN:
        return asdict(Schedule(36, sigma_0=0.5, correlation=correlation / 2))
    return asdict(Schedule(12, sigma_0=0.3, correlation=correlation))


def from_iterates(iterates: Iterable[Iterate]) -> Iterator[Estimate]:
    """The estimates of a descent."""
    for iterate in iterates:
        names = ("objective", "noise_log_prob", "signal_log_prob")
        measures = {name: float(getattr(iterate, name)[0]) for name in names} | {"floor": iterate.floor}
        if not bool(iterate.objective.isfinite().all()):
            raise ValueError(iterate.outcome)
        shared = {name: getattr(iterate, name) for name in ("evaluations", "step", "floor", "skipped", "outcome")}
        yield Estimate(iterate.image, measures=measures, **shared)


def against_noise(title: str, minimise: Minimise, prior: type | None = None, **details: Any) -> Method:
    """A method against structured noise; several samples are descents from several starts."""

    def run(problem: StructuredProblem, prior: Any, settings: Settings, count: int, seed: int) -> Iterator[Estimate]:
        model, y = problem.build()
        return from_iterates(minimise(model, prior, y.expand(count, *y.shape[1:]), seed, **settings))

    return Method(title, run, prior, minimise=minimise, **details)


def run_map(model: MeasurementModel, prior: Flow, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    if model.linear:
        return inversion.map_x(prior, model.noise, y, model.forward, **settings)
    # Signs do not tell how bright a picture is. The descent in x ends far from the truth with every sign right, the one
    # in z from 0 does not.
    settings = {"learning_rate": 0.05, "floor": (1.0, 0.003), **settings}
    return inversion.map_z(prior, model.noise, y, model.forward, **settings)


def run_mle(model: MeasurementModel, prior: Generator, y: Tensor, seed: int, **settings: Any) -> Iterator[Iterate]:
    # What a small GAN cannot make of a picture is as if it were noise of about 0.1. Without it no z comes near any
    # likelihood worth the name, and digits leave a few dB less of a face.
    return inversion.mle(prior, model.noise, y, model.forward, floor=(0.3, 0.1), seed=seed, **settings)


def denoiser(name: str, denoise: Callable[[Tensor, float], Tensor]) -> Minimise:
    """A method that is a denoiser of x + δ, given the standard deviation of δ, for measurements a·x + δ."""

    def run(model: MeasurementModel, prior: None, y: Tensor, seed: int) -> Iterator[Iterate]:
        if model.factor is None:
            raise ValueError(f"{name} removes noise from pictures, and these measurements are none")
        yield finished(model, y, denoise(y / model.factor, model.level() / model.factor))

    return run


run_bm3d = denoiser("bm3d", baselines.bm3d)
run_tv = denoiser("tv", lambda y, sigma: baselines.total_variation(y, 0.75 * sigma))


def run_lasso(model: MeasurementModel, prior: None, y: Tensor, seed: int, lam: float = 0.01) -> Iterator[Iterate]:
    if not model.linear:
        raise ValueError("lasso needs linear measurements: choose another method")
    yield finished(model, y, baselines.lasso_dct(model.forward, y, model.image_shape, lam))


def finished(model: MeasurementModel, y: Tensor, x: Tensor) -> Iterate:
    """The single iterate of a method that does not iterate towards these densities."""
    noise = model.noise.log_prob(y - model.forward(x))
    return Iterate(1, x, -noise, noise, torch.zeros_like(noise), 0.0, 0, 0, "finished")


def smoothing(default: float) -> Knob:
    return Knob(
        "smoothing",
        float,
        "How much the prior is trusted, against what was measured. Less leaves noise in the picture; more smooths it "
        "away, and with it what the prior has not seen in its pictures.",
        "Smoothing β",
        default,
        (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0),
        alias="beta",
        least=0,
    )


def steps(default: int) -> Knob:
    return Knob(
        "steps",
        int,
        "How often the picture is changed, with one evaluation of the prior each time. Fewer steps are quicker and "
        "leave it unfinished.",
        "Steps",
        default,
        (10, 20, 40, 60, 80, 100, 150, 200, 300, 400),
        advanced=True,
        least=1,
    )


GAMMA = Knob(
    "gamma",
    float,
    "How short the picture's code is to be in the method of Asim et al. More makes pictures plainer.",
    "γ, of Asim et al.",
    2.0,
    (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
    advanced=True,
    least=0,
)


def lam(about: str) -> Knob:
    return Knob(
        "lam", float, about, "λ, of Bora et al.", 0.01, (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0), advanced=True, least=0
    )


DENOISING = ("sinusoidal", "radial", "digits", SCRIBBLE)


NEEDS_TOLD = (
    "a prior that is told what was measured, and a picture that was made smaller without skipping pixels, or blurred "
    "by a blur that does not reach beyond the frame"
)

TOLD = ("super-resolution", "deblurring")
"""The tasks whose measurements a denoiser can be told: they are a picture, smaller or blurred."""


METHODS: dict[str, dict[str, Method]] = {
    "restore": {
        "fast": Method(
            "Fast",
            run_fast,
            Denoiser,
            knobs_of(Schedule),
            default=lambda problem, samples: asdict(default_schedule(problem.operator, samples)),
            draws=True,
            forecast=lambda settings: Schedule(**settings).forecast(),
            length=lambda settings: len(Schedule(**settings).forecast()),
        ),
        "paper": Method(
            "Paper's",
            run_paper,
            Denoiser,
            knobs_of(Ascent),
            draws=True,
            forecast=lambda settings: Ascent(**settings).forecast(),
            length=lambda settings: None,
        ),
        "reverse": Method(
            "Reverse diffusion",
            run_reverse,
            Denoiser,
            knobs_of(Reverse),
            TOLD,
            draws=True,
            forecast=lambda settings: Reverse(**settings).sigmas(),
            length=lambda settings: int(settings["evaluations"]),
            told=True,
        ),
        "mean": Method("Mean of all answers", run_mean, Denoiser, tasks=TOLD, told=True),
        "least-squares": Method("Least squares", baseline(least_squares), paper="least-squares"),
        "tv": Method(
            "Total variation", baseline(baselines.least_total_variation), knobs=hidden(steps=500), paper="TVAL3"
        ),
        "red": Method(
            "RED",
            baseline(baselines.red),
            Denoiser,
            hidden(steps=100, sigma_0=0.3, sigma_L=0.01, step_size=0.7, seed=0),
        ),
        "bm3d": Method(
            "BM3D, plug-and-play",
            baseline(baselines.plug_and_play_bm3d),
            knobs=hidden(steps=20, sigma_0=0.3, sigma_L=0.03),
            package="bm3d",
        ),
        "dip": Method("DIP", baseline(deep_image_prior), knobs=hidden(**DEEP, seed=0), paper="DIP", slow=True),
        "deepred": Method(
            "DeepRED",
            baseline(deep_red),
            Denoiser,
            hidden(**DEEP, lam=0.05, mu=0.06, every=10, seed=0),
            paper="DeepRED",
            slow=True,
        ),
    },
    "remove-noise": {
        "map": against_noise(
            "MAP",
            run_map,
            Flow,
            knobs=(smoothing(0.5), steps(80)),
            defaults={
                "sinusoidal": {"steps": 60},
                "radial": {"steps": 60},
                "digits": {"steps": 100},
                "scribble": {"steps": 120},
                "compressive-sensing": {"steps": 120},
                "one-bit": {"smoothing": 0.05, "steps": 200},
            },
        ),
        "pair": Method(
            "Implicit priors",
            run_pair,
            Denoiser,
            known_all_over(knobs_of(Schedule)),
            (*DENOISING, STROKES, "compressive-sensing", ONE_BIT),
            default=schedule_for_pair,
            draws=True,
            forecast=lambda settings: Schedule(**settings).forecast(),
            length=lambda settings: len(Schedule(**settings).forecast()),
        ),
        "map-z": against_noise(
            "MAP over z, as in the paper",
            lambda model, prior, y, seed, **chosen: inversion.map_z(prior, model.noise, y, model.forward, **chosen),
            Flow,
            knobs=(smoothing(1.0), steps(150)),
            defaults={
                "sinusoidal": {"smoothing": 0.5},
                "radial": {"smoothing": 0.5},
                "digits": {"steps": 400},
                "scribble": {"steps": 400},
                "compressive-sensing": {"smoothing": 100.0, "steps": 300},
                "one-bit": {"steps": 200},
            },
        ),
        "mle": against_noise("MLE with a GAN", run_mle, Generator, knobs=(steps(1000),), draws=True),
        "asim": against_noise(
            "Asim et al.",
            lambda model, prior, y, seed, **chosen: inversion.asim(prior, y, model.forward, **chosen),
            Flow,
            knobs=(GAMMA, steps(150)),
            defaults={
                "digits": {"gamma": 0.0, "steps": 400},
                "scribble": {"gamma": 0.0, "steps": 400},
                "compressive-sensing": {"gamma": 10.0, "steps": 300},
                "one-bit": {"gamma": 1.0, "steps": 200},
            },
        ),
        "bora": against_noise(
            "Bora et al.",
            lambda model, prior, y, seed, **chosen: inversion.bora(prior, y, model.forward, seed=seed, **chosen),
            Generator,
            knobs=(
                lam("How short the code is to be in the method of Bora et al. More makes pictures plainer."),
                steps(1000),
            ),
            defaults={"compressive-sensing": {"lam": 0.001}},
            draws=True,
        ),
        "bm3d": against_noise("BM3D", run_bm3d, tasks=DENOISING, package="bm3d"),
        "tv": against_noise("Total variation", run_tv, tasks=DENOISING),
        "lasso": against_noise(
            "LASSO in the cosine basis",
            run_lasso,
            knobs=(lam("How sparse the picture is to be in the cosine basis. More makes pictures plainer."),),
            tasks=("compressive-sensing",),
        ),
    },
}
METHODS["sample"] = {
    "paper": METHODS["restore"]["paper"],
    "reverse": Method(
        "Reverse diffusion",
        run_reverse,
        Denoiser,
        knobs_of(Reverse),
        draws=True,
        forecast=lambda settings: Reverse(**settings).sigmas(),
        length=lambda settings: int(settings["evaluations"]),
    ),
    "flow": direct("Flow", Flow),
    "gan": direct("GAN", Generator),
}
METHODS["denoise"] = {
    "blind": Method("One evaluation", run_blind, Denoiser),
    "fast": replace(
        METHODS["restore"]["fast"],
        run=sampled(run_fast),
        knobs=known_all_over(knobs_of(Schedule)),
        default=schedule_for_noise,
    ),
    "paper": replace(METHODS["restore"]["paper"], run=sampled(run_paper), knobs=known_all_over(knobs_of(Ascent))),
    "anscombe": Method("One evaluation of the noise made white", run_anscombe, Denoiser),
    "bm3d": Method("BM3D", classical(baselines.bm3d), Denoiser, package="bm3d"),
    "wavelets": Method("Wavelets", classical(baselines.wavelets), Denoiser, package="pywt"),
    "tv": Method("Total variation", classical(lambda y, sigma: baselines.total_variation(y, 0.75 * sigma)), Denoiser),
}


def methods_for(problem: Problem, prior: str | None = None) -> dict[str, Method]:
    """The methods that suit a problem, by name, the default first.

    Flows and GANs are for pictures of one size. A denoiser can be told some measurements only. A method needs a `prior`
    of its own kind, if one is named.
    """
    methods = suiting(problem.command, problem.task)
    if isinstance(problem, LinearProblem):
        told = problem.operator.smooth and (prior is None or is_told(prior))
        return {name: method for name, method in methods.items() if told or not method.told}
    if not isinstance(problem, StructuredProblem):
        return methods
    if problem.knobs.get("estimate_c"):
        return {"pair": methods["pair"]}
    if problem.image_shape == problem.kind.small:
        return methods
    return {name: method for name, method in methods.items() if method.prior not in FAMILIES}


def suiting(command: str, task: str) -> dict[str, Method]:
    """The methods of a command that suit a task, by name, the default first.

    Strokes whose place is not told are only for methods that name this task, because they have to be found.
    """
    common = task != STROKES
    methods = METHODS[command].items()
    return {name: each for name, each in methods if (common if each.tasks is None else task in each.tasks)}


def find(problem: Problem, name: str, prior: str | None = None) -> Method:
    """A method by name; ValueError if it is unknown, or does not suit the problem and the prior."""
    suitable = methods_for(problem, prior)
    if name in suiting(problem.command, problem.task) and name not in suitable:
        if isinstance(problem, LinearProblem):
            raise ValueError(f"{name} needs {NEEDS_TOLD}: choose from {', '.join(suitable)}")
        assert isinstance(problem, StructuredProblem)
        if problem.knobs.get("estimate_c"):
            raise ValueError(f"{name} has to be told how strong the noise is: leave out --estimate-c, or choose pair")
        raise ValueError(
            f"{name} is for pictures of {described(problem.kind.small)}, and this one has "
            f"{described(problem.image_shape)}: choose from {', '.join(suitable)}, or reduce it"
        )
    if name not in suitable:
        raise ValueError(f"{name} is not for {problem.task}: choose from {', '.join(suitable)}")
    return suitable[name]
