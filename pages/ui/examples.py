"""The saved run that a page opens with.

`python -m pages.ui.examples` makes them again, with this project's own priors and samplers.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from invlib import images, runtime
from pages.ui.runs import Frame, Picture, Problem, Run, Settings, simulate, solve

FOLDER = Path(__file__).resolve().parent.parent / "examples"

SETTINGS = Settings("bf-unet-color", "fast", samples=4, seed=0, arguments={"evaluations": 20})


def problem(task: str) -> Problem:
    """What the example of a task measures: of every one the astronaut, a NASA portrait in the public domain."""
    knobs = {"super-resolution": {"factor": 4}}[task]
    picture = Picture("astronaut", images.example("astronaut"), images.EXAMPLES["astronaut"].description)
    return simulate(task, picture, **knobs)


def save(run: Run, folder: Path) -> None:
    """Write a run as a few small files."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = run.frames[1::2]  # noise does not compress
    for name, quality, pictures in (
        ("samples", 90, [*run.samples, run.mean]),
        ("denoised", 80, [frame.denoised for frame in frames]),
        ("noisy", 45, [frame.noisy for frame in frames]),
    ):
        Image.fromarray(np.concatenate(pictures)).save(folder / f"{name}.webp", quality=quality)
    Image.fromarray(run.std).save(folder / "std.webp", quality=80)
    parameters = {
        **run.parameters,
        "std_top": run.std_top,
        "frames": [{"evaluations": frame.evaluations, "sigma": frame.sigma} for frame in frames],
    }
    (folder / "run.json").write_text(json.dumps(parameters, indent=1) + "\n")


@lru_cache
def load(task: str) -> Run:
    """The saved run of a task. The original and what was measured are made from the example picture again."""
    folder = FOLDER / task
    parameters = json.loads((folder / "run.json").read_text())
    std_top, frames = parameters.pop("std_top"), parameters.pop("frames")
    posed = problem(task)
    *samples, mean = strip(folder / "samples.webp", parameters["samples"] + 1)
    noisy, denoised = (strip(folder / f"{name}.webp", len(frames)) for name in ("noisy", "denoised"))
    assert posed.truth is not None
    return Run(
        parameters=parameters,
        measured=posed.view(),
        truth=images.to_uint8(posed.truth),
        mean=mean,
        samples=samples,
        std=np.asarray(Image.open(folder / "std.webp").convert("L")),
        std_top=std_top,
        frames=[Frame(**frame, noisy=noisy[index], denoised=denoised[index]) for index, frame in enumerate(frames)],
        saved=True,
    )


def strip(path: Path, count: int) -> list[np.ndarray]:
    """The pictures of a file that holds `count` of them, one below the other."""
    return np.split(np.asarray(Image.open(path).convert("RGB")), count)


def main() -> None:
    runtime.set_threads()
    for task in ("super-resolution",):
        steps = solve(problem(task), SETTINGS)(lambda: False)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                save(stop.value, FOLDER / task)
                break
        print(f"{FOLDER / task}: {sum(file.stat().st_size for file in (FOLDER / task).iterdir()):,} bytes")


if __name__ == "__main__":
    main()
