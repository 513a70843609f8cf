"""Structured noise removed from many pictures: the comparisons of Whang, Lei & Dimakis (2021), a row for each point."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invlib import images, runs
from invlib.experiments.rows import readable_images
from invlib.images import Picture
from invlib.metrics import psnr_all_channels, ssim
from invlib.problems import structured
from invlib.problems.structured import DIGITS, DRAWN, TASKS, prepare
from invlib.scores import deviation, summarise, summarise_estimate
from invlib.solvers.inversion import Iterate, collect
from invlib.solvers.methods import FAMILIES, METHODS, load_prior
from invlib.training.data import read_idx

DIGITS_FILE = "t10k-images-idx3-ubyte.gz"
"""The test split of MNIST, on which no prior was trained."""

Row = dict[str, Any]


def structured_noise(
    task: str,
    truths: Tensor | Sequence[Tensor],
    methods: Sequence[str],
    *,
    knobs: Iterable[Mapping[str, float]] = ({},),
    settings: Mapping[str, Sequence[float]] = {},
    seed: int = 0,
    batch: int = 5,
    samples: int = 8,
    watch: Callable[[Iterator[Iterate]], Iterable[Iterate]] = iter,
) -> Iterator[Row]:
    """Add noise to pictures and remove it: every method with all of its settings, at every value of the knobs.

    All methods and settings see the same measurements.

    Parameters
    ----------
    task : one of `structured.TASKS`.
    truths : pictures in [0, 1]: (count, C, H, W) of the shape that `IMAGE_SHAPES` gives for the task's kind, or a list
        of pictures (1, C, H, W) of any shapes.
    methods : of `METHODS`.
    knobs : of the problem; those that are left out have the task's defaults.
    settings : name -> values. A method has a row for each combination of those that it knows; the others are the
        defaults of the method for the task.
    seed : of the noise, the places of digits and the random sums.
    batch : how many pictures a method works on at once, if they have the shape of the task's kind.
    samples : how many a method draws whose answers are samples.
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
            way = METHODS["remove-noise"][method]
            known = {name: each for name, each in settings.items() if name in {knob.name for knob in way.knobs}}
            for combination in itertools.product(*known.values()):
                count = samples if way.draws else 1
                chosen = way.complete(task, count, dict(zip(known, combination, strict=True)), method)
                point = TASKS[task].complete(values, task)
                alone = task in DRAWN or way.minimise is None or not isinstance(truths, Tensor)
                row: Row = {"task": task, "method": method, "knobs": point, "settings": chosen}
                try:
                    if alone:
                        yield row | solve_each(task, point, truths, method, chosen, seed, count)
                    else:
                        assert isinstance(truths, Tensor)
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
    kind, known = TASKS[task], METHODS["remove-noise"][method]
    assert known.minimise is not None
    model = kind.build(knobs, seed)
    prior = None if known.prior is None else load_prior(f"{FAMILIES[known.prior]}-{kind.pictures}", known.prior)
    measurements = model.measure(truths, seed)
    unrestored = model.baseline(measurements)
    restored, skipped, seconds = [], 0, 0.0
    for y in measurements.split(batch):
        started = time.perf_counter()
        result = collect(watch(known.minimise(model, prior, y, seed, **settings)))
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


def solve_each(
    task: str,
    knobs: Mapping[str, Any],
    truths: Tensor | Sequence[Tensor],
    method: str,
    values: Mapping[str, Any],
    seed: int,
    samples: int,
) -> Row:
    """The same, one picture after another, each with noise of its own. Drawings are drawn at random."""
    found, done = [], []
    for index, truth in enumerate(truths):
        truth = truth.view(1, *truth.shape[-3:])
        size = truth.shape[-2], truth.shape[-1]
        drawn = {"strokes": structured.draw_scribble(size, seed + index)} if task in DRAWN else {}
        picture = Picture(f"picture {index}", truth, "")
        problem = structured.pose(task, picture, {**knobs, **drawn}, seed=seed + index)
        run = runs.finish(runs.solve(problem, runs.settings(problem, method, values, samples=samples)))
        assert run.scores is not None
        found.append(run.scores)
        done.append(run.parameters)
    several = samples > 1
    row = summarise(found) if several else summarise_estimate(found)
    psnr = torch.tensor([each.mean["psnr"] for each in found])
    result = {**row["mean" if several else "result"], "psnr_std": round(deviation(psnr), 4)}
    return {
        "images": len(found),
        "samples": samples,
        "evaluations": done[0]["evaluations"],
        **row,
        "result": result,
        "seconds": round(sum(each["seconds"] for each in done) / len(done), 3),
    }


def average(scores: Tensor) -> float:
    return round(float(scores.mean()), 4)


def load_truths(task: str, folder: Path, count: int, *, whole: bool = False) -> Tensor | list[Tensor]:
    """The first `count` pictures for a task that can be read, or as many as there are: (count, C, H, W).

    With `whole` they keep their size and colours, and are a list of (1, C, H, W).

    Parameters
    ----------
    task : one of `structured.TASKS`.
    folder : of pictures, taken in the order of their names; for digits, of MNIST's idx files.
    count : at least 1.

    Raises
    ------
    ValueError : there are no pictures in the folder, or none can be read.
    """
    kind = TASKS[task].pictures
    if kind == DIGITS:
        path = folder / DIGITS_FILE
        if not path.is_file():
            raise ValueError(f"{folder} has no {DIGITS_FILE}: name the folder of MNIST's idx files")
        return read_idx(path)[:count].float() / 255
    paths, _ = readable_images(folder, count)
    if whole:
        return [images.load_image(path) for path in paths]
    return torch.cat([prepare(images.load_image(path), kind) for path in paths])
