"""The saved runs that pages open with. `python -m pages.ui.saved [TASK ...]` makes them again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from invlib import examples, runtime
from invlib.images import to_uint8
from invlib.problems import structured
from invlib.problems.denoising import DENOISING, DenoisingProblem
from invlib.problems.prior import SAMPLING
from invlib.problems.spec import Problem
from invlib.runs import POSE, TASKS, Frame, Run, Settings, finish, noise_pictures, settings, solve
from pages.ui import sampling
from pages.ui.components.draw import Stroke, rasterise
from pages.ui.stage import key_of
from pages.ui.structured import drawing

FOLDER = Path(__file__).resolve().parent.parent / "examples"

SCRIBBLES: dict[str, list[Stroke]] = {
    "inpainting": [
        {"points": [[18, 58], [48, 40], [42, 87], [80, 43], [77, 100], [112, 55], [107, 110], [143, 73]], "brush": 5},
        {"points": [[25, 125], [58, 117], [92, 132], [133, 122]], "brush": 5},
    ],
    "photograph": [
        {
            "points": [[30, 160], [90, 90], [80, 185], [145, 80], [135, 190], [190, 95], [185, 185], [230, 140]],
            "brush": 5,
        },
        {"points": [[55, 225], [110, 212], [170, 230], [215, 215]], "brush": 5},
    ],
    "structured-noise": [
        {"points": [[8, 40], [22, 22], [20, 46], [36, 20], [34, 48], [48, 24], [46, 46], [58, 34]], "brush": 2},
        {"points": [[14, 56], [28, 53], [42, 58], [54, 54]], "brush": 2},
    ],
}
"""Damage for a picture of 160 pixels, and scribbles for one of 256 and one of 64."""


@dataclass(frozen=True)
class Example:
    """A picture, its side in pixels, the knobs of what is measured of it, the noise, and how many samples are drawn."""

    picture: str
    side: int
    knobs: dict[str, Any]
    noise_level: float = 0.0
    samples: int = 4


EXAMPLES = {
    DENOISING: Example("coffee", 256, {}, 0.1, 1),
    "super-resolution": Example("astronaut", 256, {"factor": 4}),
    "deblurring": Example("coffee", 256, {"keep": 0.1}),
    "inpainting": Example("chelsea", 160, {"mask": torch.from_numpy(~rasterise(SCRIBBLES["inpainting"], 160, 160))}),
    "random-pixels": Example("chelsea", 160, {"keep": 0.1}),
    "compressive-sensing": Example("chelsea", 128, {"keep": 0.1, "dense": False}),
}

ALL = [*EXAMPLES, SAMPLING, *(key_of("remove-noise", task) for task in structured.TASKS)]
"""The keys of the tasks that have a saved run."""


def pictures(task: str) -> list[str]:
    """The pictures that a task offers. The picture of its saved run comes first."""
    first = EXAMPLES[task].picture if task in EXAMPLES else None
    return sorted(examples.EXAMPLES, key=lambda name: name != first)


def problem(key: str) -> Problem:
    """The problem that the saved run of a task solves."""
    if key == SAMPLING:
        return sampling.example()[0]
    if key in EXAMPLES:
        example = EXAMPLES[key]
        command = next(command for command, tasks in TASKS.items() if key in tasks)
        picture = examples.picture(example.picture, side=example.side)
        return POSE[command](key, picture, example.knobs, noise_level=example.noise_level)
    task = key.removeprefix("structured-noise ")
    kind = structured.TASKS[task].pictures
    picture = examples.subject(kind, next(iter(examples.SUBJECTS[kind])))
    knobs = {}
    if task in structured.DRAWN:
        knobs = {"strokes": drawing(rasterise(SCRIBBLES["structured-noise"], *picture.image.shape[:1:-1]), task)}
    return structured.pose(task, picture, knobs)


def chosen(key: str) -> Settings:
    """The settings of the saved run of a task, which are our defaults."""
    if key == SAMPLING:
        return sampling.example()[1]
    samples = 4 if key == key_of("remove-noise", structured.STROKES) else 1
    return settings(problem(key), samples=EXAMPLES[key].samples if key in EXAMPLES else samples)


def folder_of(key: str) -> Path:
    """The folder of a saved run."""
    return FOLDER / key.replace(" ", "/")


def save(run: Run, folder: Path) -> None:
    """Write a run as a few small files. Answers of 64 pixels or fewer, and their noise, are stored without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    small = max(run.mean.shape) <= 64
    frames = run.frames if small else run.frames[::-2][::-1]  # every second, and the last; noise does not compress
    strips = {
        "samples": (96, [*run.samples, run.mean]),
        "denoised": (80, [frame.denoised for frame in frames]),
        "noisy": (45, [frame.noisy for frame in frames]),
        "std": (80, [run.std]),
        **({} if run.noise is None else {"noise": (100, [run.noise])}),
    }
    for name, (quality, strip) in strips.items():
        exact = small and name in ("samples", "noise")
        Image.fromarray(np.concatenate(strip)).save(folder / f"{name}.webp", quality=quality, lossless=exact)
    states = [{"evaluations": frame.evaluations, "sigma": frame.sigma} for frame in frames]
    parameters = {**run.to_json(), "top": run.top, "frames": states}
    (folder / "run.json").write_text(json.dumps(parameters, indent=1) + "\n")


@lru_cache
def load(key: str) -> Run:
    """The saved run of a task. The original and the measurements are made again from the example picture."""
    folder = folder_of(key)
    parameters = json.loads((folder / "run.json").read_text())
    top, frames = parameters.pop("top"), parameters.pop("frames")
    posed = problem(key)
    parameters |= posed.parameters  # a drawing's encoding may differ from machine to machine
    *samples, mean = strip(folder / "samples.webp", parameters["samples"] + 1, posed)
    noisy, denoised = (strip(folder / f"{name}.webp", len(frames), posed) for name in ("noisy", "denoised"))
    picture = None if posed.picture is None else to_uint8(posed.picture.image)
    view = posed.view()
    noise = folder / "noise.webp"
    return Run(
        parameters=parameters,
        picture=picture,
        measured=None if view is None else to_uint8(view),
        truth=None if posed.truth is None else to_uint8(posed.truth),
        samples=samples,
        mean=mean,
        std=np.asarray(Image.open(folder / "std.webp").convert("L")),
        top=top,
        frames=[Frame(**frame, noisy=noisy[index], denoised=denoised[index]) for index, frame in enumerate(frames)],
        **(noise_pictures(posed, *strip(noise, 1, posed), parameters.get("noise_top", 1.0)) if noise.exists() else {}),
        saved=True,
    )


def strip(path: Path, count: int, posed: Problem) -> list[np.ndarray]:
    """The pictures of a file in which `count` of them stand below one another. Noise in sums of pixels is grey."""
    sums = isinstance(posed, structured.StructuredProblem) and posed.kind.sensing and path.stem in ("noisy", "noise")
    level = isinstance(posed, DenoisingProblem) and path.stem == "noise"
    mode = "L" if posed.image_shape[0] == 1 or sums or level else "RGB"
    return np.split(np.asarray(Image.open(path).convert(mode)), count)


def main(keys: Sequence[str]) -> None:
    """Make the saved runs of some tasks."""
    runtime.set_threads()
    for key in keys:
        save(finish(solve(problem(key), chosen(key))), folder_of(key))
        print(f"{folder_of(key)}: {sum(file.stat().st_size for file in folder_of(key).iterdir()):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:] or ALL)
