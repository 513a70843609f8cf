"""The saved runs that the page for structured noise opens with, one for each noise. No Streamlit here."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from invlib import images
from invlib.problems import structured as removal
from invlib.problems.structured import TASKS
from pages.ui.draw import Stroke, rasterise
from pages.ui.removals import FRAMES, Case, Removal, Settings, pose, solve
from pages.ui.subjects import SUBJECTS, subject

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "structured-noise"

SCRIBBLE: list[Stroke] = [
    {"points": [[8, 40], [22, 22], [20, 46], [36, 20], [34, 48], [48, 24], [46, 46], [58, 34]], "brush": 2},
    {"points": [[14, 56], [28, 53], [42, 58], [54, 54]], "brush": 2},
]
"""A scribble, for a picture of 64 pixels."""


def case(noise: str) -> Case:
    """The page's defaults."""
    kind = TASKS[noise].kind
    picture = subject(kind, next(iter(SUBJECTS[kind])))
    strokes = rasterise(SCRIBBLE, *picture.image.shape[:1:-1]) if noise == "scribble" else None
    return Case(noise, picture, TASKS[noise].knobs, 0, strokes)


def settings(noise: str) -> Settings:
    return Settings("map", removal.settings(noise, "map"))


def make(noise: str) -> None:
    """Run the example of a noise and write it as a few small files."""
    steps = solve(case(noise), settings(noise))(lambda: False)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            save(stop.value, FOLDER / noise)
            return


def save(run: Removal, folder: Path) -> None:
    """Write a run; small pictures are kept exactly."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([*run.frames, run.restored])).save(folder / "frames.webp", lossless=True)
    Image.fromarray(run.noise).save(folder / "noise.webp", lossless=True)
    (folder / "run.json").write_text(json.dumps(run.parameters, indent=1) + "\n")


@lru_cache
def load(noise: str) -> Removal:
    """The saved run of a noise. The original and what was measured are made from the example picture again."""
    folder = FOLDER / noise
    parameters = json.loads((folder / "run.json").read_text())
    example = case(noise)
    posed, truth = pose(example), images.to_uint8(example.truth)
    *frames, restored = np.split(read(folder / "frames.webp", truth), FRAMES + 1)
    return Removal(
        parameters={**parameters, **example.parameters},  # a drawing's encoding may differ from machine to machine
        truth=truth,
        posed=posed,
        restored=restored,
        noise=read(folder / "noise.webp", posed.noise),
        frames=frames,
        saved=True,
    )


def read(path: Path, like: np.ndarray) -> np.ndarray:
    """The pixels of a picture, in colour or grey as another is."""
    return np.asarray(Image.open(path).convert("L" if like.ndim == 2 else "RGB"))
