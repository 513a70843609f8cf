"""Tables 1 to 3 of Kadkhodaie & Simoncelli (2021): a row for each problem and method, beside the paper's figures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import images, runtime
from invlib.experiments.rows import NO_WEIGHTS, Cell, Plan, Row, Watch, weights
from invlib.metrics import ensemble, pooled_spread_skill, psnr
from invlib.priors import checkpoints
from invlib.priors.denoisers import Denoiser
from invlib.problems.linear import TASKS, default_prior
from invlib.problems.operators import LinearOperator
from invlib.scores import METRICS, cover
from invlib.solvers import ascent
from invlib.solvers.ascent import SAMPLERS, Schedule
from invlib.solvers.baselines import least_total_variation, plug_and_play_bm3d, red
from invlib.solvers.deep_baselines import deep_image_prior, deep_red

# Problems, and what the paper reports

PSNR_AND_SSIM = tuple[float, float]
"""PSNR in dB and SSIM as the paper computes it (`metrics.ssim_paper`)."""


@dataclass(frozen=True)
class Problem:
    """A problem of a table.

    Attributes
    ----------
    pictures : the folder of its pictures: set5, set14 or set68.
    task, knobs : of `tasks.TASKS`.
    paper : what the paper reports, by method; "sample" and "mean" are its own method's.
    paper_std : of the paper's "sample", the standard deviation of PSNR over ten samples.
    crop : the side of the square in the middle of each picture that is taken; None for the whole.
    few : to how many pictures, picked at random, all but the quick methods are held, and crops; None for all.
    methods : those that the table has, of `METHODS`; None for all.
    """

    pictures: str
    task: str
    knobs: Mapping[str, Any]
    paper: Mapping[str, PSNR_AND_SSIM] = field(default_factory=dict)
    paper_std: float | None = None
    crop: int | None = None
    few: int | None = None
    methods: tuple[str, ...] | None = None

    @property
    def channels(self) -> int:
        return 1 if self.pictures == "set68" else 3

    def operator(self, shape: Sequence[int]) -> LinearOperator:
        return TASKS[self.task].operator(shape, **self.knobs)


def super_resolution(
    pictures: str, factor: int, paper: Mapping[str, PSNR_AND_SSIM] = {}, std: float | None = None
) -> Problem:
    return Problem(pictures, "super-resolution", {"factor": factor}, paper, std)


def low_pass(keep: float, paper: Mapping[str, PSNR_AND_SSIM] = {}, std: float | None = None) -> Problem:
    return Problem("set5", "deblurring", {"keep": keep}, paper, std)


def random_rows(keep: float, paper: Mapping[str, PSNR_AND_SSIM] = {}, std: float | None = None) -> Problem:
    return Problem("set68", "compressive-sensing", {"keep": keep}, paper, std, few=10)


def random_rows_of_crops(dense: bool) -> Problem:
    """Table 3 at 10 % on crops that are small enough for the paper's dense Gaussian basis."""
    knobs = {"keep": 0.1, "dense": dense}
    return Problem("set68", "compressive-sensing", knobs, crop=128, few=10, methods=("least-squares", "fast"))


TABLES: dict[str, tuple[Problem, ...]] = {
    "table1": (
        super_resolution(
            "set5",
            4,
            {
                "least-squares": (26.35, 0.826),
                "DIP": (30.04, 0.902),
                "DeepRED": (30.22, 0.904),
                "sample": (29.47, 0.894),
                "mean": (31.20, 0.913),
            },
            0.09,
        ),
        super_resolution(
            "set5",
            8,
            {
                "least-squares": (23.02, 0.673),
                "DIP": (24.98, 0.760),
                "DeepRED": (24.95, 0.760),
                "sample": (25.07, 0.767),
                "mean": (25.64, 0.792),
            },
            0.13,
        ),
        super_resolution(
            "set14",
            4,
            {
                "least-squares": (24.65, 0.765),
                "DIP": (26.88, 0.815),
                "DeepRED": (27.01, 0.817),
                "sample": (26.56, 0.808),
                "mean": (27.14, 0.826),
            },
            0.09,
        ),
        super_resolution(
            "set14",
            8,
            {
                "least-squares": (22.06, 0.628),
                "DIP": (23.33, 0.685),
                "DeepRED": (23.34, 0.685),
                "sample": (23.32, 0.681),
                "mean": (23.78, 0.703),
            },
            0.11,
        ),
    ),
    "table2": (
        low_pass(
            0.1,
            {
                "least-squares": (30.2, 0.91),
                "DIP": (32.54, 0.93),
                "DeepRED": (32.63, 0.93),
                "sample": (31.82, 0.93),
                "mean": (32.78, 0.94),
            },
            0.08,
        ),
        low_pass(
            0.05,
            {
                "least-squares": (27.77, 0.85),
                "DIP": (29.88, 0.89),
                "DeepRED": (29.91, 0.89),
                "sample": (29.22, 0.89),
                "mean": (30.07, 0.90),
            },
            0.14,
        ),
    ),
    "table3": (
        random_rows(
            0.25,
            {
                "TVAL3": (26.48, 0.77),
                "ISTA-Net": (29.07, 0.84),
                "DIP": (27.78, 0.80),
                "BNN": (28.63, 0.84),
                "sample": (29.16, 0.88),
                "mean": (29.74, 0.89),
            },
            0.033,
        ),
        random_rows(
            0.1,
            {
                "TVAL3": (22.49, 0.58),
                "ISTA-Net": (25.23, 0.69),
                "DIP": (24.82, 0.69),
                "BNN": (25.24, 0.71),
                "sample": (25.47, 0.78),
                "mean": (25.84, 0.80),
            },
            0.03,
        ),
        random_rows(
            0.04,
            {
                "TVAL3": (19.10, 0.42),
                "ISTA-Net": (22.02, 0.54),
                "DIP": (22.51, 0.58),
                "BNN": (22.52, 0.58),
                "sample": (22.07, 0.68),
                "mean": (22.29, 0.69),
            },
            0.05,
        ),
        random_rows_of_crops(dense=False),
        random_rows_of_crops(dense=True),
    ),
}


# Methods


@dataclass(frozen=True)
class Baseline:
    """A method that gives one estimate of a picture.

    Attributes
    ----------
    restore : from an operator, measurements and settings, of which one may be a `denoiser`, to estimates after every
        step, the last of which counts.
    paper : what the paper calls it.
    deep : whether it takes minutes for a picture.
    """

    restore: Callable[..., Iterable[Tensor]]
    paper: str | None = None
    deep: bool = False

    @property
    def denoises(self) -> bool:
        return "denoiser" in signature(self.restore).parameters

    @property
    def settings(self) -> Row:
        """The values of all its settings, as JSON."""
        parameters = signature(self.restore).parameters.values()
        return {each.name: each.default for each in parameters if each.default is not Parameter.empty}


def least_squares(operator: LinearOperator, measurements: Tensor) -> Iterator[Tensor]:
    """M Mᵀ x, the smallest picture that agrees with the measurements."""
    yield operator.adjoint(measurements)


DEEP_WIDTH = 64
"""Channels of the networks of DIP and DeepRED: a quarter of the paper's cost, for processors without an accelerator."""

BASELINES = {
    "least-squares": Baseline(least_squares, "least-squares"),
    "tv": Baseline(least_total_variation, "TVAL3"),
    "red": Baseline(red),
    "bm3d": Baseline(plug_and_play_bm3d),
    "dip": Baseline(partial(deep_image_prior, width=DEEP_WIDTH), "DIP", deep=True),
    "deepred": Baseline(partial(deep_red, width=DEEP_WIDTH), "DeepRED", deep=True),
}

METHODS = (*SAMPLERS, *BASELINES)
"""The samplers of `ascent`, and what a user would try instead."""

QUICK = ("fast", "least-squares", "tv")
"""Methods that run on all pictures of a set."""

PAPER_SAMPLES = 2
"""Of the paper's sampler, which takes eight to twenty times the evaluations, as many as have a deviation."""

ASCENT = {name: signature(ascent.ascend).parameters[name].default for name in ("h0", "beta", "sigma_0", "sigma_L")}
"""The paper's settings."""


# Plans


@dataclass(frozen=True)
class Options:
    """What a person chooses of an experiment; None leaves it to the experiment.

    Attributes
    ----------
    data : the folder that holds those of the pictures.
    prior : a name that `checkpoints.load` knows.
    samples : how many to draw for each picture.
    images : at most so many pictures of each set, picked at random, the same ones every time.
    baseline_images : the same for DIP and DeepRED.
    methods : of `METHODS`.
    """

    data: Path | None = None
    prior: str | None = None
    samples: int | None = None
    images: int | None = None
    baseline_images: int = 2
    methods: Sequence[str] | None = None


def plan_table(name: str, options: Options) -> Plan:
    """The rows of one of `TABLES`, problem by problem.

    A row has the problem ("set", "crop", "task", "knobs", "pictures" by name and "images", their number), the method
    and its settings, and its scores. Of a sampler they are "sample", "mean" (of the samples' average), "averages"
    (PSNR of the average of the first k samples), "spread_skill" and "coverage" (of two standard deviations, and what is
    expected of samples of the posterior); of another method "result". "psnr_std" and its like are standard deviations
    over the samples of a picture in "sample", as in the paper, and over pictures elsewhere.
    "each" has the PSNR of every picture, so that methods can be compared on the pictures that both had. "seconds" and
    "evaluations" are for one picture, "paper" is what the paper reports, in the same form.

    Raises
    ------
    ValueError : a method that is not known, or a folder without any of the sets.
    """
    for method in options.methods or ():
        if method not in METHODS:
            raise ValueError(f"{method!r} is not a method of the tables: choose from {', '.join(METHODS)}")
    left_out = []
    chosen = list(options.methods or METHODS)
    if options.methods is None and find_spec("bm3d") is None:
        chosen.remove("bm3d")
        left_out.append("the package bm3d is not installed, so its rows are left out")
    problems, missing = available(TABLES[name], options)
    cells = []
    for problem in problems:
        for method in METHODS:
            if method in chosen and method in (problem.methods or METHODS):
                cells.append(table_cell(name, problem, method, options))
    return Plan(cells, left_out + missing)


def available(problems: Sequence[Problem], options: Options) -> tuple[list[Problem], list[str]]:
    """The problems whose pictures are in the folder, and sentences about the others; ValueError if there are none."""
    if options.data is None:
        raise ValueError("--data is required: name the folder that holds set5, set14 or set68")
    found = [problem for problem in problems if (options.data / problem.pictures).is_dir()]
    missing = dict.fromkeys(problem.pictures for problem in problems if problem not in found)
    if not found:
        raise ValueError(f"{options.data} has no folder {' or '.join(missing)}: name the folder that holds it")
    return found, [f"{options.data} has no folder {name}, so its rows are left out" for name in missing]


def table_cell(experiment: str, problem: Problem, method: str, options: Options) -> Cell:
    limits = [options.images]
    if method not in QUICK or problem.crop is not None:
        limits.append(problem.few)
    if method not in BASELINES:
        paths = choose(problem, options, *limits)
        if method == "paper":
            return sampling_cell(experiment, problem, paths, method, ASCENT, options, samples=PAPER_SAMPLES)
        schedule = default_schedule(problem, options.samples or 8)
        return sampling_cell(experiment, problem, paths, method, schedule, options, samples=8)

    baseline = BASELINES[method]
    if baseline.deep:
        limits.append(options.baseline_images)
    paths = choose(problem, options, *limits)
    prior = options.prior or default_prior(problem.channels)
    key = {
        **problem_key(experiment, problem, paths),
        "method": method,
        "settings": baseline.settings,
        **(weights(prior) if baseline.denoises else NO_WEIGHTS),
    }
    return Cell(key, lambda watch: measure_baseline(problem, paths, baseline, prior, watch))


def sampling_cell(
    experiment: str, problem: Problem, paths: Sequence[Path], method: str, settings: Row, options: Options, samples: int
) -> Cell:
    """A row of one of the samplers with given settings; `samples` unless the options say how many."""
    prior, count = options.prior or default_prior(problem.channels), options.samples or samples
    key = {
        **problem_key(experiment, problem, paths),
        "method": method,
        "settings": settings,
        "samples": count,
        "seed": 0,
        **weights(prior),
    }
    return Cell(key, lambda watch: measure_samples(problem, paths, method, settings, count, prior, watch))


def problem_key(experiment: str, problem: Problem, paths: Sequence[Path]) -> Row:
    return {
        "experiment": experiment,
        "set": problem.pictures,
        "crop": problem.crop,
        "task": problem.task,
        "knobs": dict(problem.knobs),
        "images": len(paths),
        "pictures": [path.stem for path in paths],
    }


def default_schedule(problem: Problem, count: int = 8) -> Row:
    """The settings of the fast sampler for a problem; they belong to the kind of operator, not to the size."""
    return asdict(ascent.default_schedule(problem.operator((problem.channels, 32, 32)), count))


def choose(problem: Problem, options: Options, *limits: int | None) -> list[Path]:
    """Pictures of a problem in name order, as many as the limits allow. A smaller choice is part of a larger one."""
    assert options.data is not None  # `available` has seen to it
    paths = images.list_images(options.data / problem.pictures)
    count = min([len(paths), *(limit for limit in limits if limit is not None)])
    return [paths[index] for index in sorted(np.random.default_rng(0).permutation(len(paths))[:count])]


# Measuring


def measure_samples(
    problem: Problem, paths: Sequence[Path], sampler: str, settings: Row, samples: int, prior_name: str, watch: Watch
) -> Row:
    """The measured part of the row of a sampler."""
    prior = load_prior(prior_name, problem)
    arguments = {"schedule": Schedule(**settings)} if sampler == "fast" else settings
    antithetic = bool(settings.get("antithetic"))
    results, singles, means, ensembles, covers, averages = [], [], [], [], [], []
    for name, operator, truth in pose(problem, paths, device_of(prior)):
        measurements = operator.measure(truth.to(device_of(prior)))
        states = SAMPLERS[sampler](prior, operator, measurements, count=samples, seed=0, **arguments)
        result = ascent.collect(watch(name, states))
        found = result.samples.cpu()
        results.append(result)
        singles.append(over_samples(compare(found, truth)))
        means.append(compare(result.mean.cpu(), truth))
        averages.append(progressive_psnr(found, truth))
        if samples > 1:
            ensembles.append(ensemble(found.clamp(0, 1), truth))
            covers.append(cover(found.clamp(0, 1), truth, antithetic=antithetic))
    each = {
        path.stem: {"sample": round(single["psnr"], 3), "mean": round(float(mean["psnr"]), 3)}
        for path, single, mean in zip(paths, singles, means, strict=True)
    }
    paper: Row = {name: paper_scores(problem, name) for name in ("sample", "mean") if name in problem.paper}
    return {
        "sample": average(singles),
        "mean": over_pictures(means),
        "averages": average(averages),
        "spread_skill": round(pooled_spread_skill(ensembles), 4) if ensembles else None,
        "coverage": average(covers) if covers else None,
        "seconds": average_of([result.seconds for result in results]),
        "evaluations": average_of([result.evaluations for result in results]),
        "unfinished": sum(result.outcome.startswith(("diverged", "stopped")) for result in results),
        "each": each,
        "paper": paper,
    }


def measure_baseline(problem: Problem, paths: Sequence[Path], baseline: Baseline, prior_name: str, watch: Watch) -> Row:
    """The measured part of the row of another method; "evaluations" are those of the prior, if it has one."""
    settings, device, calls = baseline.settings, runtime.default_device(), []
    if baseline.denoises:
        denoiser = load_prior(prior_name, problem)
        denoiser.register_forward_hook(lambda *_: calls.append(1))
        settings["denoiser"], device = denoiser, device_of(denoiser)
    found, seconds = [], []
    for name, operator, truth in pose(problem, paths, device):
        measurements = operator.measure(truth.to(device))
        started = time.perf_counter()
        estimate = deque(watch(name, baseline.restore(operator, measurements, **settings)), maxlen=1).pop()
        estimate = estimate.cpu()  # waits for the device
        seconds.append(time.perf_counter() - started)
        found.append(compare(estimate, truth))
    paper: Row = {}
    if baseline.paper is not None and baseline.paper in problem.paper:
        paper = {"method": baseline.paper, "result": paper_scores(problem, baseline.paper)}
    return {
        "result": over_pictures(found),
        "seconds": average_of(seconds),
        "evaluations": len(calls) / len(paths) if baseline.denoises else None,
        "each": {path.stem: {"result": round(float(s["psnr"]), 3)} for path, s in zip(paths, found, strict=True)},
        "paper": paper,
    }


def pose(problem: Problem, paths: Sequence[Path], device: torch.device) -> Iterator[tuple[str, LinearOperator, Tensor]]:
    """Name, operator on the device, and truth (1, C, H, W) of every picture. Equal shapes share an operator."""
    operators: dict[tuple[int, ...], LinearOperator] = {}
    for path in paths:
        truth = images.load_image(path, channels=problem.channels)
        if problem.crop is not None:
            truth = middle(truth, problem.crop)
        truth = images.crop_to_multiple(truth, problem.knobs.get("factor", 1))
        shape = tuple(truth.shape[1:])
        if shape not in operators:
            operators[shape] = problem.operator(shape).to(device)
        yield path.stem, operators[shape], truth


def middle(image: Tensor, side: int) -> Tensor:
    """The square in the middle of an image (1, C, H, W), or as much of it as there is, not resized."""
    height, width = image.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return image[..., top : top + side, left : left + side]


def load_prior(name: str, problem: Problem) -> Denoiser:
    """A prior for the pictures of a problem; ValueError for one of other colours."""
    prior = checkpoints.load(name)
    if prior.channels != problem.channels:
        raise ValueError(
            f"{name} is for images of {prior.channels} channels, and those of {problem.pictures} are compared in "
            f"{problem.channels}: choose another prior"
        )
    return prior


def device_of(prior: Denoiser) -> torch.device:
    return next(prior.parameters()).device


# Scores


def compare(found: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Every metric of images (n, C, H, W), clipped as they are shown: (n,) each."""
    return {name: metric(found.clamp(0, 1), truth) for name, metric in METRICS.items()}


def over_samples(columns: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean and standard deviation of every metric over the samples of a picture."""
    row = {name: float(column.mean()) for name, column in columns.items()}
    return row | {f"{name}_std": deviation(column) for name, column in columns.items()}


def over_pictures(columns: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Mean and standard deviation of every metric over pictures, of one estimate each."""
    row = over_samples({name: torch.cat([column[name] for column in columns]) for name in METRICS})
    return {name: round(value, 4) for name, value in row.items()}


def deviation(column: Tensor) -> float:
    """The unbiased standard deviation; 0 of a single number."""
    return float(column.std(correction=min(1, len(column) - 1)))


def progressive_psnr(samples: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR of the average of the first 1, 2, 4, ... samples and of all."""
    counts = sorted({*(2**power for power in range(len(samples).bit_length())), len(samples)})
    return {
        str(k): float(psnr(samples[:k].mean(0, keepdim=True).clamp(0, 1), truth)) for k in counts if k <= len(samples)
    }


def average(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every column."""
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}


def average_of(numbers: Sequence[float]) -> float:
    return round(sum(numbers) / len(numbers), 3)


def paper_scores(problem: Problem, name: str) -> dict[str, float]:
    """What the paper reports of a method, under the names that our own scores have."""
    psnr_reported, ssim_reported = problem.paper[name]
    row = {"psnr": psnr_reported, "ssim_paper": ssim_reported}
    return row | ({"psnr_std": problem.paper_std} if name == "sample" and problem.paper_std is not None else {})
