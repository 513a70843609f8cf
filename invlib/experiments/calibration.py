"""How honest the spread of samples is, problem by problem, and the band that holds the truth at 90 % of the numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invlib import runs, scores
from invlib.experiments.rows import Cell, Options, Plan, Row, Watch, weights
from invlib.experiments.tables import Case, available, choose, middle, pictures
from invlib.images import Picture
from invlib.metrics import (
    deviations,
    ensemble,
    expected_coverage,
    expected_half_width,
    expected_spread_skill,
    half_width,
    pooled_spread_skill,
)
from invlib.priors.denoisers import Denoiser
from invlib.problems import linear
from invlib.runs import Settings
from invlib.solvers.methods import default_prior, load_prior
from invlib.training.data import load_training_set

PROBLEMS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *(("super-resolution", {"factor": factor}) for factor in (2, 4, 8)),
    *(("deblurring", {"keep": keep}) for keep in (0.1, 0.05)),
    ("deblurring", {"gaussian": 2.0}),
    ("inpainting", {}),
    ("random-pixels", {"keep": 0.1}),
    *(("compressive-sensing", {"keep": keep}) for keep in (0.25, 0.1, 0.04)),
)
"""Tasks, and their knobs where they are not the defaults."""

SETS = {"set5": None, "set68": 128, "faces64": None}
"""The pictures on which a band is verified, 20 of each -> the side of the square in the middle that is taken."""

SIDE = 128
"""The same of the held-out training pictures, to which a band is fitted."""


def plan_calibration(options: Options) -> Plan:
    """A row for each problem and prior: the factors of the bands, and how honest the spread is on every set.

    "factors" has, for each number of samples from 2 up, by how much their standard deviation has to be multiplied so
    that the band of Student's distribution about their average holds the truth at `scores.LEVEL` of all numbers of the
    "images" held-out training pictures; `scores.band` uses them. "sets" has for all samples, measured and expected,
    "spread_skill", "coverage" of two standard deviations, and "band": the coverage of the band on those pictures.

    Raises
    ------
    ValueError : no folder of any of the sets, no training pictures, or a single sample.
    """
    count = options.samples or 8
    if options.training is None:
        raise ValueError("--data-training is required: name the pictures that the prior was trained on")
    if count < 2:
        raise ValueError(f"--samples must be at least 2, as a single one has no spread, got {count}")
    cases, left_out = available(
        [Case(name, task, knobs, crop=crop, few=20) for task, knobs in PROBLEMS for name, crop in SETS.items()], options
    )
    cells = []
    for channels in sorted({case.channels for case in cases}, reverse=True):
        prior = options.prior or default_prior(channels)
        if load_prior(prior, Denoiser).channels != channels:
            left_out.append(f"{prior} is for other colours than pictures of {channels} channels, which are left out")
            continue
        training = load_training_set(options.training, channels)[1][: options.images]
        held_out = [middle(image[None], SIDE) / 255 for image in training]
        for task, knobs in PROBLEMS:
            ours = [case for case in cases if (case.task, case.knobs, case.channels) == (task, knobs, channels)]
            cells.append(cell(ours, held_out, prior, count, options))
    return Plan(cells, left_out)


def cell(cases: Sequence[Case], held_out: Sequence[Tensor], prior: str, count: int, options: Options) -> Cell:
    """The row of a problem, which is that of all cases."""
    blank = linear.pose(cases[0].task, Picture("", torch.zeros(1, cases[0].channels, 32, 32), ""), cases[0].knobs)
    settings = runs.settings(blank, prior=prior, samples=count)
    known = blank.parameters | settings.parameters
    paths = {case.pictures: choose(case, options, options.images, case.few) for case in cases}
    assert options.training is not None  # `plan_calibration` has seen to it
    key = {
        "experiment": "calibration",
        **{name: known[name] for name in scores.CALIBRATED},
        "samples": count,
        "seed": settings.seed,
        **weights(prior),
        "training": options.training.name,
        "images": len(held_out),
        "pictures": {name: [path.stem for path in chosen] for name, chosen in paths.items()},
    }

    return Cell(key, partial(measure, cases, held_out, paths, settings))


def measure(
    cases: Sequence[Case],
    held_out: Sequence[Tensor],
    paths: Mapping[str, Sequence[Path]],
    settings: Settings,
    watch: Watch,
) -> Row:
    """The measured part of a row; see `plan_calibration`."""
    started = time.perf_counter()
    answers = partial(solve, cases[0], settings, watch)
    fitted = list(answers(Picture(f"held out {n}", x, "") for n, x in enumerate(held_out, start=1)))
    counts = range(2, settings.samples + 1)
    right = [expected_half_width(n, scores.LEVEL, settings.antithetic) for n in counts]
    widths = [half_width(deviations(samples[:n], x) for samples, x in fitted) for n in counts]
    factors = {str(n): round(w / r, 4) for n, (w, r) in enumerate(zip(widths, right, strict=True), start=2)}
    sets = {
        case.pictures: {
            "crop": case.crop,
            **honesty(list(answers(pictures(case, paths[case.pictures]))), widths[-1], settings.antithetic),
        }
        for case in cases
    }
    return {"factors": factors, "sets": sets, "seconds": round(time.perf_counter() - started, 2)}


def solve(case: Case, settings: Settings, watch: Watch, truths: Iterable[Picture]) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples (n, C, H, W) of a case's problem with every picture, clipped to [0, 1], and the truth (1, C, H, W)."""
    for picture in truths:
        problem = linear.pose(case.task, picture, case.knobs)
        for forming in watch(picture.name, runs.solve(problem, settings)):
            found = forming.images
        assert found is not None
        assert problem.truth is not None
        yield found.cpu().clamp(0, 1), problem.truth


def honesty(answers: Sequence[tuple[Tensor, Tensor]], width: float, antithetic: bool) -> Row:
    """What is measured and what is expected of samples and truths, and of a band of so many standard deviations."""
    count, far = len(answers[0][0]), torch.cat([deviations(*each) for each in answers])
    found = {
        "spread_skill": (
            pooled_spread_skill(ensemble(*each) for each in answers),
            expected_spread_skill(count, antithetic),
        ),
        "coverage": ((far <= 2 * (1 + 1 / count) ** 0.5).double().mean(), expected_coverage(count, 2, antithetic)),
        "band": ((far <= width).double().mean(), scores.LEVEL),
    }
    pairs = {name: dict(zip(("measured", "expected"), map(float, pair), strict=True)) for name, pair in found.items()}
    return {"images": len(answers), **pairs}
