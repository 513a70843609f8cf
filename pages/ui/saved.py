"""The saved run that a page opens with.

`python -m pages.ui.saved [TASK ...]` makes them again, with this project's own priors and samplers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from invlib import examples, images, runtime
from invlib.problems import structured as removal
from invlib.solvers.ascent import default_schedule
from pages.ui import kinds, removal_examples
from pages.ui.draw import Stroke, rasterise
from pages.ui.runs import SAMPLING, Frame, Picture, Problem, Run, Settings, simulate, solve

STRUCTURED_NOISE = "structured-noise"
"""The page that has a saved run for each kind of noise."""

FOLDER = Path(__file__).resolve().parent.parent / "examples"


@dataclass(frozen=True)
class Example:
    """What is measured of which picture, and with which knobs."""

    picture: str
    side: int
    knobs: dict[str, Any]


SCRIBBLE: list[Stroke] = [
    {"points": [[18, 58], [48, 40], [42, 87], [80, 43], [77, 100], [112, 55], [107, 110], [143, 73]], "brush": 5},
    {"points": [[25, 125], [58, 117], [92, 132], [133, 122]], "brush": 5},
]
"""Damage, for a picture of 160 pixels."""

EXAMPLES = {
    "super-resolution": Example("astronaut", 256, {"factor": 4}),
    "deblurring": Example("coffee", 256, {"keep": 0.1}),
    "inpainting": Example("chelsea", 160, {"mask": torch.from_numpy(~rasterise(SCRIBBLE, 160, 160))}),
    "random-pixels": Example("chelsea", 160, {"keep": 0.1}),
    "compressive-sensing": Example("chelsea", 128, {"keep": 0.1, "dense": False}),
}


def pictures(task: str) -> list[str]:
    """The pictures that a task offers, that of its example first."""
    return sorted(examples.EXAMPLES, key=lambda name: name != EXAMPLES[task].picture)


def problem(task: str) -> Problem:
    """What the example of a task measures."""
    if task == SAMPLING:
        return kinds.example()[0]
    example = EXAMPLES[task]
    image = examples.example(example.picture, side=example.side)
    description = examples.EXAMPLES[example.picture].description
    return simulate(task, Picture(example.picture, image, description, example.side), **example.knobs)


def settings(task: str) -> Settings:
    """How the example of a task is solved: with our defaults."""
    if task == SAMPLING:
        return kinds.example()[1]
    operator = problem(task).operator
    assert operator is not None
    return Settings("bf-unet-color", "fast", samples=4, seed=0, arguments=asdict(default_schedule(operator)))


def save(run: Run, folder: Path) -> None:
    """Write a run as a few small files."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = run.frames[::-2][::-1]  # every second, and the last; noise does not compress
    for name, quality, pictures in (
        ("samples", 96, [*run.samples, run.mean]),
        ("denoised", 80, [frame.denoised for frame in frames]),
        ("noisy", 45, [frame.noisy for frame in frames]),
    ):
        Image.fromarray(np.concatenate(pictures)).save(folder / f"{name}.webp", quality=quality)
    Image.fromarray(run.std).save(folder / "std.webp", quality=80)
    parameters = {
        **run.parameters,
        "top": run.top,
        "frames": [{"evaluations": frame.evaluations, "sigma": frame.sigma} for frame in frames],
    }
    (folder / "run.json").write_text(json.dumps(parameters, indent=1) + "\n")


@lru_cache
def load(task: str) -> Run:
    """The saved run of a task. The original and what was measured are made from the example picture again."""
    folder = FOLDER / task
    parameters = json.loads((folder / "run.json").read_text())
    top, frames = parameters.pop("top"), parameters.pop("frames")
    posed = problem(task)
    parameters |= posed.parameters  # a mask's encoding may differ from machine to machine
    *samples, mean = strip(folder / "samples.webp", parameters["samples"] + 1)
    noisy, denoised = (strip(folder / f"{name}.webp", len(frames)) for name in ("noisy", "denoised"))
    truth = None if posed.truth is None else images.to_uint8(posed.truth)
    return Run(
        parameters=parameters,
        picture=truth,
        measured=posed.view(),
        truth=truth,
        mean=mean,
        samples=samples,
        std=np.asarray(Image.open(folder / "std.webp").convert("L")),
        top=top,
        frames=[Frame(**frame, noisy=noisy[index], denoised=denoised[index]) for index, frame in enumerate(frames)],
        saved=True,
    )


def strip(path: Path, count: int) -> list[np.ndarray]:
    """The pictures of a file that has so many below one another."""
    return np.split(np.asarray(Image.open(path).convert("RGB")), count)


def main(tasks: Sequence[str]) -> None:
    """Make the saved runs of these tasks."""
    runtime.set_threads()
    for task in tasks:
        if task == STRUCTURED_NOISE:
            for noise in removal.TASKS:
                removal_examples.make(noise)
            continue
        steps = solve(problem(task), settings(task))(lambda: False)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                save(stop.value, FOLDER / task)
                break
        print(f"{FOLDER / task}: {sum(file.stat().st_size for file in (FOLDER / task).iterdir()):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:] or [*EXAMPLES, SAMPLING, STRUCTURED_NOISE])
