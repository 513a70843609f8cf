"""Tables 1 to 3 of Kadkhodaie & Simoncelli (2021): a row for each problem and method, beside the paper's figures."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import images, runs, scores
from invlib.experiments.rows import (
    NO_WEIGHTS,
    Cell,
    Options,
    Plan,
    Row,
    Watch,
    finish_watched,
    readable_images,
    weights,
)
from invlib.images import Picture
from invlib.metrics import pooled_spread_skill
from invlib.priors.denoisers import Denoiser
from invlib.problems import linear
from invlib.problems.operators import LinearOperator
from invlib.scores import Scores
from invlib.solvers import methods
from invlib.solvers.methods import METHODS, TOLD_PRIOR, Method, default_prior, load_prior, suiting
from invlib.solvers.schedules import Ascent, Reverse

METHODS_OF_TABLES = METHODS["restore"]
"""The samplers, and what a user would try instead."""


@dataclass(frozen=True)
class Case:
    """A problem of a table.

    Attributes
    ----------
    pictures : the folder of its pictures: set5, set14 or set68.
    task, knobs : what is measured, as in `linear.TASKS`.
    paper : method -> PSNR and SSIM that the paper reports; "sample" and "mean" are its own method's.
    sample_std : of the paper's "sample", the standard deviation of PSNR over ten samples.
    crop : the side of the square in the middle of each picture that is taken; None for the whole picture.
    few : to how many pictures, picked at random, all but the quick methods are held, and crops; None for all.
    methods : those that the table has; None for all.
    """

    pictures: str
    task: str
    knobs: Mapping[str, Any]
    paper: Mapping[str, Sequence[float]] = field(default_factory=dict)
    sample_std: float | None = None
    crop: int | None = None
    few: int | None = None
    methods: Sequence[str] | None = None

    @property
    def channels(self) -> int:
        return 1 if self.pictures == "set68" else 3

    def operator(self, shape: Sequence[int]) -> LinearOperator:
        return linear.TASKS[self.task].operator(shape, **self.knobs)

    def reported(self, name: str) -> dict[str, float]:
        """What the paper reports of a method, under the names that our own scores have."""
        psnr, ssim_paper = self.paper[name]
        row = {"psnr": psnr, "ssim_paper": ssim_paper}
        return row | ({"psnr_std": self.sample_std} if name == "sample" and self.sample_std is not None else {})


TABLES: dict[str, tuple[Case, ...]] = {
    name: tuple(Case(**entry) for entry in entries)
    for name, entries in tomllib.loads(Path(__file__).with_name("reported.toml").read_text(encoding="utf-8")).items()
}

QUICK = ("fast", "reverse", "mean", "least-squares", "tv")
"""Methods that run on all pictures of a set."""

SAMPLES = {"fast": 8, "reverse": 8, "paper": 2}
"""Of the paper's sampler, which takes eight to twenty times the evaluations, as many as have a deviation."""

ASCENT: Row = {name: value for name, value in asdict(Ascent()).items() if name != "max_evaluations"}
"""The paper's settings."""


# Plans


def plan_table(name: str, options: Options) -> Plan:
    """The rows of one of `TABLES`, problem by problem.

    A row has the problem ("set", "crop", "task", "knobs", "pictures" by name and "images", their number), the method
    and its settings, and its scores. Of a sampler they are "sample", "mean" (of the samples' average), "averages"
    (PSNR of the average of the first k samples), "spread_skill" and "coverage" (of two standard deviations, and what is
    expected of samples of the posterior); of another method "result". "psnr_std" and its like are standard deviations
    over the samples of a picture in "sample", as in the paper, and over pictures elsewhere. "each" has the PSNR of
    every picture, so that methods can be compared on the pictures that both had. "seconds" and "evaluations" are for
    one picture, "paper" is what the paper reports, in the same form.

    Raises
    ------
    ValueError : a method that is not known, or a folder without any of the sets.
    """
    for method in options.methods or ():
        if method not in METHODS_OF_TABLES:
            raise ValueError(f"{method!r} is not a method of the tables: choose from {', '.join(METHODS_OF_TABLES)}")
    left_out = []
    chosen = list(options.methods or METHODS_OF_TABLES)
    if options.methods is None and not METHODS_OF_TABLES["bm3d"].installed:
        chosen.remove("bm3d")
        left_out.append("the package bm3d is not installed, so its rows are left out")
    cases, missing = available(TABLES[name], options)
    cells = [
        table_cell(name, case, method, options)
        for case in cases
        for method in METHODS_OF_TABLES
        if method in chosen and method in offered(case)
    ]
    return Plan(cells, left_out + missing)


def offered(case: Case) -> dict[str, Method]:
    """The methods of a case by name, our default first."""
    suitable = suiting("restore", case.task)
    return {name: method for name, method in suitable.items() if name in (case.methods or suitable)}


def available(cases: Sequence[Case], options: Options) -> tuple[list[Case], list[str]]:
    """The cases whose pictures are in the folder, and sentences about what is not; ValueError if there are none."""
    if options.data is None:
        raise ValueError("--data is required: name the folder that holds set5, set14 or set68")
    found = [case for case in cases if (options.data / case.pictures).is_dir()]
    missing = dict.fromkeys(case.pictures for case in cases if case not in found)
    if not found:
        raise ValueError(f"{options.data} has no folder {' or '.join(missing)}: name the folder that holds it")
    unreadable = [readable_images(options.data / name)[1] for name in {case.pictures: 0 for case in found}]
    left_out = [f"{options.data} has no folder {name}, so its rows are left out" for name in missing]
    return found, [*left_out, *itertools.chain(*unreadable)]


def table_cell(experiment: str, case: Case, method: str, options: Options) -> Cell:
    """A row of a table, with the settings that a method has there."""
    known = METHODS_OF_TABLES[method]
    limits = [options.images]
    if method not in QUICK or case.crop is not None:
        limits.append(case.few)
    if known.slow:
        limits.append(options.baseline_images)
    paths = choose(case, options, *limits)
    if not known.draws:
        return cell(experiment, case, paths, method, {each.name: each.default for each in known.knobs}, options)
    settings = default_settings(case, method, options.samples or SAMPLES[method])
    return cell(experiment, case, paths, method, settings, options, samples=SAMPLES[method])


def cell(
    experiment: str,
    case: Case,
    paths: Sequence[Path],
    method: str,
    settings: Row,
    options: Options,
    samples: int | None = None,
) -> Cell:
    """A row of a method with given settings; of a sampler `samples`, unless the options say how many."""
    prior = options.prior or (TOLD_PRIOR if METHODS_OF_TABLES[method].told else default_prior(case.channels))
    count = None if samples is None else options.samples or samples
    drawn = {} if count is None else {"samples": count, "seed": 0}
    known = weights(prior) if METHODS_OF_TABLES[method].prior is not None else NO_WEIGHTS
    key = {
        "experiment": experiment,
        "set": case.pictures,
        "crop": case.crop,
        "task": case.task,
        "knobs": dict(case.knobs),
        "images": len(paths),
        "pictures": [path.stem for path in paths],
        "method": method,
        "settings": settings,
        **drawn,
        **known,
    }
    return Cell(key, partial(measure, case, paths, method, settings, count, prior))


def default_settings(case: Case, method: str, count: int = 8) -> Row:
    """The settings of a sampler for a case."""
    if method == "paper":
        return ASCENT
    if method == "reverse":
        return asdict(Reverse())
    return default_schedule(case, count)


def default_schedule(case: Case, count: int = 8) -> Row:
    """The settings of the fast sampler for a case; they belong to the kind of operator, not to the size."""
    return asdict(methods.default_schedule(case.operator((case.channels, 32, 32)), count))


def choose(case: Case, options: Options, *limits: int | None) -> list[Path]:
    """Readable pictures of a case in name order, within the limits. A smaller choice is part of a larger one."""
    assert options.data is not None  # `available` has seen to it
    paths, _ = readable_images(options.data / case.pictures)
    count = min([len(paths), *(limit for limit in limits if limit is not None)])
    return [paths[index] for index in sorted(np.random.default_rng(0).permutation(len(paths))[:count])]


# Measuring


def measure(
    case: Case, paths: Sequence[Path], method: str, settings: Row, samples: int | None, prior: str, watch: Watch
) -> Row:
    """The measured part of a row. "evaluations" are those of the prior, if the method has one."""
    known = METHODS_OF_TABLES[method]
    check_prior(prior, case)
    done = []
    for picture in pictures(case, paths):
        problem = linear.pose(case.task, picture, case.knobs)
        chosen = runs.settings(problem, method, settings, prior=prior, samples=samples or 1)
        done.append(finish_watched(watch, picture.name, runs.solve(problem, chosen)))
    found = [run.scores for run in done if run.scores is not None]
    row: Row = {
        "seconds": average_of([run.parameters["seconds"] for run in done]),
        "evaluations": average_of([run.parameters["evaluations"] for run in done]) if known.prior else None,
    }
    if samples is None:
        each = {path.stem: {"result": round(one.mean["psnr"], 3)} for path, one in zip(paths, found, strict=True)}
        paper = (
            {"method": known.paper, "result": case.reported(known.paper)}
            if known.paper and known.paper in case.paper
            else {}
        )
        return {"result": over_pictures(found), **row, "each": each, "paper": paper}
    each = {
        path.stem: {"sample": round(one.sample["psnr"], 3), "mean": round(one.mean["psnr"], 3)}
        for path, one in zip(paths, found, strict=True)
    }
    several = samples > 1
    unfinished = sum(run.parameters["outcome"].startswith(("diverged", "stopped")) for run in done)
    return {
        "sample": scores.average([one.sample for one in found]),
        "mean": over_pictures(found),
        "averages": scores.average([progressive_psnr(one) for one in found]),
        "spread_skill": round(pooled_spread_skill([one.ensemble for one in found if one.ensemble]), 4)
        if several
        else None,
        "coverage": scores.average([one.coverage for one in found if one.coverage]) if several else None,
        **row,
        "unfinished": unfinished,
        "each": each,
        "paper": {name: case.reported(name) for name in ("sample", "mean") if name in case.paper},
    }


def pictures(case: Case, paths: Sequence[Path]) -> Iterator[Picture]:
    """The pictures of a case, in its colours and with its crop."""
    for path in paths:
        truth = images.load_image(path, channels=case.channels)
        yield Picture(path.stem, truth if case.crop is None else middle(truth, case.crop), path.stem)


def middle(image: Tensor, side: int) -> Tensor:
    """The square in the middle of an image (1, C, H, W), or as much of it as there is, not resized."""
    height, width = image.shape[-2:]
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    return image[..., top : top + side, left : left + side]


def check_prior(name: str, case: Case) -> None:
    """Raise ValueError for a prior of other colours than the pictures of a case."""
    prior = load_prior(name, Denoiser)
    if not prior.takes(case.channels):
        raise ValueError(
            f"{name} is for images of {prior.channels} channels, and those of {case.pictures} are compared in "
            f"{case.channels}: choose another prior"
        )


def over_pictures(found: Sequence[Scores]) -> dict[str, float]:
    """Mean and standard deviation of every metric over pictures, of one estimate each."""
    row: dict[str, float] = {}
    for name in found[0].mean:
        column = torch.tensor([one.mean[name] for one in found], dtype=torch.float64)
        row |= {name: round(float(column.mean()), 4), f"{name}_std": round(scores.deviation(column), 4)}
    return row


def progressive_psnr(found: Scores) -> dict[str, float]:
    """PSNR of the average of the first 1, 2, 4, ... samples and of all."""
    column = found.averages["psnr"]
    counts = sorted({*(2**power for power in range(len(column).bit_length())), len(column)})
    return {str(k): float(column[k - 1]) for k in counts if k <= len(column)}


def average_of(numbers: Sequence[float]) -> float:
    return round(sum(numbers) / len(numbers), 3)
