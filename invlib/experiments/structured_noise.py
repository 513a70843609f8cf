"""Structured noise removed from many pictures: the comparisons of Whang, Lei & Dimakis (2021), a row for each point."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invlib import images
from invlib.metrics import psnr_all_channels, ssim
from invlib.problems import structured as removal
from invlib.problems.structured import IMAGE_SHAPES, METHODS, TASKS, Problem
from invlib.solvers.inversion import Iterate, collect
from invlib.training.data import read_idx

DIGITS_FILE = "t10k-images-idx3-ubyte.gz"
"""The test split of MNIST, on which no prior was trained."""

Row = dict[str, Any]


def structured_noise(
    task: str,
    truths: Tensor,
    methods: Sequence[str],
    *,
    knobs: Iterable[Mapping[str, float]] = ({},),
    settings: Mapping[str, Sequence[float]] = {},
    seed: int = 0,
    batch: int = 5,
    watch: Callable[[Iterator[Iterate]], Iterable[Iterate]] = iter,
) -> Iterator[Row]:
    """Add noise to pictures and remove it: every method with all of its settings, at every value of the knobs.

    All methods and settings see the same measurements.

    Parameters
    ----------
    task : one of `removal.TASKS`.
    truths : pictures (count, C, H, W) in [0, 1], of the shape that `IMAGE_SHAPES` gives for the task's kind.
    methods : of `removal.METHODS`.
    knobs : of the problem; those that are left out have the task's defaults.
    settings : name -> values. A method has a row for each combination of those that it knows; the others are as
        `removal.settings` says.
    seed : of the noise, the places of digits and the random sums.
    batch : how many pictures a method works on at once.
    watch : passes on the iterates of each batch, for instance to show progress.

    Yields
    ------
    JSON objects: what was run; the average PSNR over all channels of the measurements ("input") and of the result,
    with its standard deviation over the pictures, and the average SSIM; seconds for each picture; steps that were
    skipped, over all pictures. A method whose package is not installed has "missing" instead, a sentence.

    Raises
    ------
    ValueError : a knob or a setting is out of range, or the method cannot solve the problem.
    """
    for values in knobs:
        for method in methods:
            known = {name: each for name, each in settings.items() if name in METHODS[method].settings}
            for combination in itertools.product(*known.values()):
                chosen = removal.settings(task, method, dict(zip(known, combination, strict=True)))
                point = {**TASKS[task].knobs, **values}
                row: Row = {"task": task, "method": method, "knobs": point, "settings": chosen}
                try:
                    yield row | solve(task, point, truths, method, chosen, seed, batch, watch)
                except ImportError as error:
                    yield row | {"missing": str(error)}


def solve(
    task: str,
    knobs: Mapping[str, float],
    truths: Tensor,
    method: str,
    settings: Mapping[str, float],
    seed: int,
    batch: int,
    watch: Callable[[Iterator[Iterate]], Iterable[Iterate]],
) -> Row:
    """The part of a row that is measured."""
    problem = build_problem(task, knobs, seed)
    prior = removal.load_prior(task, method)
    measurements = problem.measure(truths, seed)
    unrestored = without_prior(problem, measurements)
    restored, skipped, seconds = [], 0, 0.0
    for y in measurements.split(batch):
        started = time.perf_counter()
        result = collect(watch(METHODS[method].run(problem, prior, y, seed, **settings)))
        seconds += time.perf_counter() - started
        skipped += result.skipped
        restored.append(result.image.cpu().clamp(0, 1))
    found = torch.cat(restored)
    psnr = psnr_all_channels(found, truths)
    return {
        "images": len(truths),
        "input": {"psnr": average(psnr_all_channels(unrestored, truths))},
        "result": {
            "psnr": average(psnr),
            "psnr_std": round(float(psnr.std(correction=min(1, len(truths) - 1))), 4),
            "ssim": average(ssim(found, truths)),
        },
        "seconds": round(seconds / len(truths), 3),
        "skipped": skipped,
    }


def average(scores: Tensor) -> float:
    return round(float(scores.mean()), 4)


def build_problem(task: str, knobs: Mapping[str, Any], seed: int) -> Problem:
    """The problem of a task for pictures of its kind; the seed is for those that draw something."""
    build = TASKS[task].build
    drawn = {"seed": seed} if "seed" in signature(build).parameters else {}
    return build(IMAGE_SHAPES[TASKS[task].kind], **knobs, **drawn)


def without_prior(problem: Problem, measurements: Tensor) -> Tensor:
    """Measurements as pictures (batch, C, H, W) in [0, 1] of the truth's brightness: what a result must surpass."""
    return (problem.view(measurements) / (problem.factor or 1)).clamp(0, 1)


def prepare(image: Tensor, shape: Sequence[int]) -> Tensor:
    """The square in the middle of an image, in the colours and the size of `shape` (C, H, W), and in 8 bits."""
    channels, side, _ = shape
    return images.quantise(images.centre_square(images.to_channels(image, channels), side))


def load_truths(task: str, folder: Path, count: int) -> Tensor:
    """The first `count` pictures for a task, or as many as there are: (count, C, H, W).

    Parameters
    ----------
    task : one of `removal.TASKS`.
    folder : of pictures, taken in the order of their names; for digits, of MNIST's idx files.
    count : at least 1.

    Raises
    ------
    ValueError : there are no pictures in the folder, or one cannot be read.
    """
    kind = TASKS[task].kind
    if kind == removal.DIGITS:
        path = folder / DIGITS_FILE
        if not path.is_file():
            raise ValueError(f"{folder} has no {DIGITS_FILE}: name the folder of MNIST's idx files")
        return read_idx(path)[:count].float() / 255
    paths = images.list_images(folder)[:count]
    return torch.cat([prepare(images.load_image(path), IMAGE_SHAPES[kind]) for path in paths])
