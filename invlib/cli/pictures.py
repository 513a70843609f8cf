"""What `restore`, `denoise` and `remove-noise` have in common: they take a picture, or every picture of a folder."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from invlib import engines, images, runs, runtime
from invlib.cli.options import load_picture, problem_of
from invlib.cli.talk import Result, check_out, say, unwritable, watch_images, watched, write_pictures
from invlib.experiments.rows import weights
from invlib.images import Picture
from invlib.jobs import NO_MEMORY
from invlib.problems.spec import Problem
from invlib.runs import Forming, Run, Settings
from invlib.scores import average

Pose = Callable[[argparse.Namespace, Picture], tuple[Problem, Settings]]
"""Poses the problem of a picture, and says how to solve it."""


@dataclass(frozen=True)
class Solved:
    """A picture that was worked on.

    Attributes
    ----------
    picture : as it was read; None if the run that was replayed is of an example.
    problem, run : what was solved, and the result.
    exact : the samples (count, C, H, W) before they were rounded to 8 bits.
    stem : how the names of its files begin.
    """

    picture: Picture | None
    problem: Problem
    run: Run
    exact: Tensor | None
    stem: str


Outcome = Callable[[argparse.Namespace, Solved], tuple[Result, dict[str, np.ndarray]]]
"""Gives what the JSON says beside the run's parameters, and the pictures to write, by name."""


def run(options: argparse.Namespace, command: str, pose: Pose, outcome: Outcome, first: str = "1") -> Result:
    """Work on the picture or folder that the options name. `first` ends the name of a file that is always written."""
    if options.image is not None and options.image.is_dir():
        return run_folder(options, command, pose, outcome)
    picture, problem, settings = problem_of(options, command, pose)
    assert problem.picture is not None
    stem = Path(problem.picture.name).stem
    check_out(options.out / f"{stem}-{first}.png")
    done, exact = watch_images(engines.solve(problem, settings))
    more, pictures = outcome(options, Solved(picture, problem, done, exact, stem))
    return {**done.parameters, **more, **write_pictures(pictures, options.out)}


# A folder


def run_folder(options: argparse.Namespace, command: str, pose: Pose, outcome: Outcome) -> Result:
    """Work on every picture of a folder whose result is not there, on as many at once as the engine has workers.

    Raises
    ------
    ValueError : another argument does not go with a folder, or no picture could be worked on.
    """
    paths, out = images.list_images(options.image), options.out
    if options.replay is not None:
        raise ValueError("--replay is for one picture: name that one as IMAGE")
    if out.resolve() == options.image.resolve():
        raise ValueError(f"{out} holds the pictures themselves: name another folder with --out")
    check_out(out / f"{paths[0].stem}.json")
    alike = len({path.stem.casefold() for path in paths}) < len(paths)  # a.png and a.jpg
    work: list[tuple[Path, Working]] = [
        (path, run_one(options, pose, outcome, path, path.name if alike else path.stem)) for path in paths
    ]
    records: dict[Path, Result] = {}
    skipped, workers = 0, engines.engine().workers
    failed: dict[Path, str] = {}
    first_error: Exception | None = None
    active: list[tuple[Path, Working]] = []
    while (work or active) and not any("error" in record for record in records.values()):
        while work and len(active) < workers:
            say(f"picture {len(paths) - len(work) + 1} of {len(paths)}: {work[0][0].name}")
            active.append(work.pop(0))
        for path, steps in list(active):
            try:
                next(steps)
                continue
            except StopIteration as stop:
                records[path], was_there = stop.value
                skipped += was_there
            except (ValueError, MemoryError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and not runtime.is_out_of_memory(error):
                    raise
                failed[path] = NO_MEMORY if isinstance(error, RuntimeError) else str(error) or NO_MEMORY
                say(f"{path.name} is left out: {failed[path]}")
                if first_error is None or isinstance(first_error, images.ImageError):
                    first_error = error  # a bad setting rather than a broken file
            active.remove((path, steps))
    if not records and first_error is not None:
        raise first_error
    done = [records[path] for path in paths if path in records]
    errors = [record["error"] for record in done if "error" in record]
    return {
        "command": command,
        "images": len(done),
        "skipped": skipped,
        "left_out": [f"{path.name} is left out: {failed[path]}" for path in paths if path in failed],
        "evaluations": sum(record["evaluations"] for record in done) / len(done),
        "seconds": round(sum(record["seconds"] for record in done) / len(done), 4),
        **mean_scores(done),
        "files": [str(out / name) for record in done for name in record["files"]],
        **({"error": errors[0]} if errors else {}),
    }


Working = Generator[Forming, None, tuple[Result, bool]]


def run_one(options: argparse.Namespace, pose: Pose, outcome: Outcome, path: Path, stem: str) -> Working:
    """Work on a picture of a folder; return the JSON that is kept beside the result, and whether it was there."""
    picture = load_picture(path)
    problem, settings = pose(options, picture)
    bits = {"bits": options.bits} if "bits" in options else {}
    about = runs.strict(problem.parameters | settings.parameters | bits)
    if settings.prior is not None:
        about |= {"sha256": weights(settings.prior)["sha256"]}
    kept = options.out / f"{stem}.json"
    if (record := read_record(kept, json.loads(json.dumps(about)))) is not None:
        say(f"{path.name} is skipped: its result is there")
        return record, True
    done, exact = yield from watched(engines.solve(problem, settings), f"{path.name}  ")
    more, pictures = outcome(options, Solved(picture, problem, done, exact, stem))
    written = write_pictures(pictures, options.out)
    record = runs.strict({**about, **done.parameters, **more, **written})
    record["files"] = [Path(file).name for file in written["files"]]
    return record if "error" in record else write_record(kept, record), False


def read_record(path: Path, about: Result) -> Result | None:
    """The JSON of an earlier run, if it was the same and its pictures are there."""
    try:
        record = json.loads(path.read_bytes())
        same = about.items() <= record.items() and all((path.parent / name).is_file() for name in record["files"])
        return record if same else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # cut off, or another's file
        return None


def write_record(path: Path, record: Result) -> Result:
    """Write the JSON of a run, whole or not at all; return it, with "error" if it cannot be written."""
    try:
        part = path.with_name(f"{path.name}.part")
        part.write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        return {**record, "error": unwritable(path, error)}
    return record


def mean_scores(records: Sequence[Result]) -> Result:
    """The scores of several runs, averaged. One that is null for a run, as it was infinite there, is null."""
    found: dict[str, Any] = {}
    for part in ("input", "sample", "mean", "result"):
        rows = [record[part] for record in records if part in record]
        if rows:
            lacking = {name for row in rows for name, value in row.items() if value is None}
            whole = average([{name: value for name, value in row.items() if name not in lacking} for row in rows])
            found[part] = {name: whole.get(name) for name in rows[0]}
    return found
