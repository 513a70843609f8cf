"""Structured noise removed from many pictures: the comparisons of Whang, Lei & Dimakis (2021), a row for each point."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invlib import images, runs
from invlib.experiments.rows import NO_WEIGHTS, Cell, Row, Watch, readable_images, unwatched, weights
from invlib.images import Picture
from invlib.metrics import psnr_all_channels, ssim
from invlib.problems import structured
from invlib.problems.structured import DIGITS, DRAWN, TASKS, prepare
from invlib.scores import deviation, summarise, summarise_estimate
from invlib.solvers.inversion import collect
from invlib.solvers.methods import FAMILIES, METHODS, default_denoiser, load_sized
from invlib.training.data import read_idx

DIGITS_FILE = "t10k-images-idx3-ubyte.gz"
"""The test split of MNIST, on which no prior was trained."""


def structured_noise(
    task: str,
    truths: Tensor | Sequence[Tensor],
    methods: Sequence[str],
    *,
    knobs: Iterable[Mapping[str, float]] = ({},),
    settings: Mapping[str, Sequence[float]] = {},
    prior: str | None = None,
    seed: int = 0,
    batch: int = 5,
    samples: int = 8,
    about: Mapping[str, object] = {},
) -> Iterator[Cell]:
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
    prior : the name of a checkpoint, for all methods that have a prior; the shipped one if None.
    seed : of the noise, the places of digits and the random sums.
    batch : how many pictures a method works on at once, if they have the shape of the task's kind.
    samples : how many a method draws whose answers are samples.
    about : what the keys of the rows begin with.

    Yields
    ------
    Cells. Their rows have what was run; the average PSNR over all channels of the measurements ("input") and of the
    result, with its standard deviation over the pictures, and the average SSIM; the PSNR of "each" picture; seconds for
    each picture; steps that were skipped, over all pictures. A method whose package is not installed has "missing"
    instead, a sentence.

    Raises
    ------
    ValueError : a knob or a setting is out of range, or the method cannot solve the problem.
    """
    for values in knobs:
        for method in methods:
            way = METHODS["remove-noise"][method]
            name = None if way.prior is None else prior or shipped(way.prior, task, truths)
            known = {name: each for name, each in settings.items() if name in {knob.name for knob in way.knobs}}
            for combination in itertools.product(*known.values()):
                count = samples if way.draws else 1
                chosen = way.complete(task, count, dict(zip(known, combination, strict=True)), method)
                point = TASKS[task].complete(values, task)
                key: Row = {**about, "task": task, "knobs": point, "images": len(truths), "seed": seed}
                key |= {"method": method, "settings": chosen, **(NO_WEIGHTS if name is None else weights(name))}
                if task in DRAWN or way.minimise is None or not isinstance(truths, Tensor):
                    key["samples"] = count
                    yield Cell(key, partial(solve_each, task, point, truths, method, chosen, name, seed, count))
                else:
                    yield Cell(key, partial(solve, task, point, truths, method, chosen, name, seed, batch))


def shipped(kind: type, task: str, truths: Tensor | Sequence[Tensor]) -> str:
    """The name of the shipped prior of a class for pictures."""
    if kind in FAMILIES:
        return f"{FAMILIES[kind]}-{TASKS[task].pictures}"
    small = truths[0].shape[-3:] == TASKS[task].small
    return default_denoiser(TASKS[task].pictures if small else None, truths[0].shape[-3])


def solve(
    task: str,
    knobs: Mapping[str, float],
    truths: Tensor,
    method: str,
    settings: Mapping[str, float],
    prior: str | None,
    seed: int,
    batch: int,
    watch: Watch = unwatched,
) -> Row:
    """The part of a row that is measured."""
    known = METHODS["remove-noise"][method]
    assert known.minimise is not None
    model = TASKS[task].build(knobs, seed)
    network = None if known.prior is None or prior is None else load_sized(prior, known.prior, model.image_shape)
    measurements = model.measure(truths, seed)
    unrestored = model.baseline(measurements)
    restored, skipped, seconds = [], 0, 0.0
    for y in measurements.split(batch):
        started = time.perf_counter()
        try:
            result = collect(watch(method, known.minimise(model, network, y, seed, **settings)))
        except ImportError as error:
            return {"missing": str(error)}
        seconds += time.perf_counter() - started
        skipped += result.skipped
        restored.append(result.image.cpu().clamp(0, 1))
    found = torch.cat(restored)
    before, psnr = psnr_all_channels(unrestored, truths), psnr_all_channels(found, truths)
    each = zip(before.tolist(), psnr.tolist(), strict=True)
    return {
        "input": {"psnr": average(before)},
        "result": {
            "psnr": average(psnr),
            "psnr_std": round(float(psnr.std(correction=min(1, len(truths) - 1))), 4),
            "ssim": average(ssim(found, truths)),
        },
        "each": [{"input": round(one, 3), "result": round(other, 3)} for one, other in each],
        "seconds": round(seconds / len(truths), 3),
        "skipped": skipped,
    }


def solve_each(
    task: str,
    knobs: Mapping[str, Any],
    truths: Tensor | Sequence[Tensor],
    method: str,
    values: Mapping[str, Any],
    prior: str | None,
    seed: int,
    samples: int,
    watch: Watch = unwatched,
) -> Row:
    """The same, one picture after another, each with noise of its own. Drawings are drawn at random."""
    found, done = [], []
    for index, truth in enumerate(truths):
        truth = truth.view(1, *truth.shape[-3:])
        size = truth.shape[-2], truth.shape[-1]
        drawn = {"strokes": structured.draw_scribble(size, seed + index)} if task in DRAWN else {}
        picture = Picture(f"picture {index}", truth, "")
        problem = structured.pose(task, picture, {**knobs, **drawn}, seed=seed + index)
        chosen = runs.settings(problem, method, values, prior=prior, samples=samples)
        run = runs.finish(runs.solve(problem, chosen))
        assert run.scores is not None
        found.append(run.scores)
        done.append(run.parameters)
    row = summarise(found) if samples > 1 else summarise_estimate(found)
    psnr = torch.tensor([each.mean["psnr"] for each in found])
    result = {**(row["mean"] if samples > 1 else row["result"]), "psnr_std": round(deviation(psnr), 4)}
    pairs = [(float(each.input["psnr"]), each.mean["psnr"]) for each in found]
    return {
        **row,
        "result": result,
        "each": [{"input": round(one, 3), "result": round(other, 3)} for one, other in pairs],
        "evaluations": done[0]["evaluations"],
        "seconds": round(sum(each["seconds"] for each in done) / len(done), 3),
        "skipped": 0,
    }


def average(scores: Tensor) -> float:
    return round(float(scores.mean()), 4)


def load_truths(task: str, folder: Path, count: int, *, whole: bool = False) -> tuple[list[str], Tensor | list[Tensor]]:
    """The first `count` pictures for a task that can be read, or as many as there are: names, and (count, C, H, W).

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
        digits = read_idx(path)[:count].float() / 255
        return [str(number) for number in range(len(digits))], digits
    paths, _ = readable_images(folder, count)
    names = [path.stem for path in paths]
    if whole:
        return names, [images.load_image(path) for path in paths]
    return names, torch.cat([prepare(images.load_image(path), kind) for path in paths])
