"""The rows of the experiments that come with the app, and of the tables the lines that are shown. No Streamlit here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from invlib.experiments import rows as results
from invlib.experiments.rows import Row
from invlib.experiments.tables import BASELINES, Problem, paper_scores
from invlib.solvers.ascent import SAMPLERS
from pages.ui.knobs import percent
from pages.ui.results import plural

FOLDER = Path(results.__file__).with_name("results")
"""A file of rows for each experiment that was run."""

TITLES = {
    "fast": "Ours",
    "paper": "Paper’s settings",
    "deepred": "DeepRED",
    "dip": "DIP",
    "bm3d": "BM3D, plug-and-play",
    "red": "RED",
    "tv": "Total variation",
    "least-squares": "Least squares",
}
"""The methods of the tables, in the order in which they are shown."""

SETS = {"set5": ("Set5", 5), "set14": ("Set14", 14), "set68": ("Set68", 68)}
"""Title and number of pictures of each set."""


def path(experiment: str) -> Path:
    return FOLDER / f"{experiment}.jsonl"


def load(experiment: str) -> list[Row]:
    """The rows of an experiment, oldest first; none if it was not run."""
    return results.read(path(experiment))


# Problems


def slug(problem: Problem) -> str:
    """What the address calls a problem: set5-4, set68-0.1-crop-dense."""
    knobs = [str(value) for name, value in problem.knobs.items() if name != "dense"]
    crop = [] if problem.crop is None else ["crop"]
    return "-".join([problem.pictures, *knobs, *crop, *(["dense"] if problem.knobs.get("dense") else [])])


def title(problem: Problem) -> str:
    """What a page calls a problem: Set5, 4:1."""
    name, _ = SETS[problem.pictures]
    kept = {"deblurring": "of frequencies", "compressive-sensing": "measured"}.get(problem.task)
    amount = f"{percent(problem.knobs['keep'])} {kept}" if kept else f"{problem.knobs['factor']}:1"
    crop = [] if problem.crop is None else ["crops, dense" if problem.knobs.get("dense") else "crops"]
    return ", ".join([name, amount, *crop])


def of(problem: Problem, rows: Iterable[Row]) -> list[Row]:
    """The rows of a problem."""
    key = {
        "set": problem.pictures,
        "task": problem.task,
        "knobs": dict(problem.knobs),
        "crop": problem.crop,
    }
    return [row for row in rows if key.items() <= row.items()]


# The lines of a table


@dataclass(frozen=True)
class Line:
    """An estimate that a method gives: a sample, the average of the samples, or the only one.

    Attributes
    ----------
    method : its title.
    estimate : "one sample" or "average of 8"; empty for the only one.
    ours : whether it samples the prior.
    measured, reported : by metric, what was measured here and what the paper reports; empty if nothing was.
    row : what was measured with it; empty if nothing was.
    same_pictures : where a method had fewer pictures than ours, our PSNR on them.
    """

    method: str
    estimate: str
    ours: bool
    measured: Mapping[str, float]
    reported: Mapping[str, float]
    row: Mapping[str, Any]
    same_pictures: float | None = None

    @property
    def label(self) -> str:
        return ", ".join(part for part in (self.method, self.estimate) if part)

    @property
    def single(self) -> bool:
        """Whether it is one of several samples, so that there is a line of their average, too."""
        return self.estimate == "one sample" and self.row.get("samples") != 1


def lines(problem: Problem, rows: Iterable[Row]) -> list[Line]:
    """The lines of a problem: of the latest row of each method, and of what only the paper has."""
    latest = {row["method"]: row for row in of(problem, rows)}
    found = [line for method in TITLES for line in of_method(problem, method, latest.get(method, {}), latest)]
    known = {"sample", "mean", *(baseline.paper for baseline in BASELINES.values())}
    others = [Line(name, "", False, {}, paper_scores(problem, name), {}) for name in problem.paper if name not in known]
    return [*found, *others]


def of_method(problem: Problem, method: str, row: Row, latest: Mapping[str, Row]) -> list[Line]:
    """The lines of a method; our default has none unless it was measured, as the paper's figures are of its own."""
    parts = {"result": BASELINES[method].paper or ""} if method in BASELINES else {"mean": "mean", "sample": "sample"}
    if row.get("samples") == 1:
        del parts["mean"]  # It is the sample.
    found = []
    for part, name in parts.items():
        reported = paper_scores(problem, name) if name in problem.paper else {}
        if row or (reported and method != "fast"):
            same = same_pictures(part, row, latest.get("fast", {}))
            found.append(
                Line(TITLES[method], estimate(part, row), method in SAMPLERS, row.get(part, {}), reported, row, same)
            )
    return found


def estimate(part: str, row: Row) -> str:
    """What a part of a row is of. The paper averages ten samples."""
    return {"result": "", "sample": "one sample", "mean": f"average of {row.get('samples', 10)}"}[part]


def same_pictures(part: str, row: Row, ours: Row) -> float | None:
    """Our PSNR on the pictures of a row, if it has only some of ours: of the average, or as the row's of a sample."""
    if not row or not ours or not set(row["pictures"]) < set(ours["pictures"]):
        return None
    return fmean(ours["each"][name]["sample" if part == "sample" else "mean"] for name in row["pictures"])


def pictures(row: Mapping[str, Any]) -> str:
    """How many of a set's pictures a row has: "all 5", "2 of 5"."""
    if not row:
        return ""
    _, total = SETS[row["set"]]
    return f"all {total}" if row["images"] == total else f"{row['images']} of {total}"


# How they were measured


def circumstances(rows: Sequence[Row]) -> str:
    """When, on what, with which weights and by which code rows were measured, in a sentence."""
    dates = sorted(datetime.fromisoformat(row["date"]) for row in rows)
    days = list(dict.fromkeys(f"{date.day} {date:%B %Y}" for date in (dates[0], dates[-1])))
    weights = distinct(f"{row['prior']} (sha256 {row['sha256'][:8]})" for row in rows if row["prior"])
    parts = [
        f"Measured {' to '.join(days)} on {distinct(machine(row['machine']) for row in rows)}",
        *([f"weights {weights}"] if weights else []),
        f"version {distinct(row['version'] for row in rows)}",
    ]
    return f"{'; '.join(parts)}."


def machine(known: Mapping[str, Any]) -> str:
    """A machine: its accelerator, or its processor and how many threads computed."""
    name = known["cpu"] if known["device"] == "cpu" else known["device"]
    return f"{name} ({plural(known['threads'], 'thread')}, {known['precision']})"


def distinct(words: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(words))
