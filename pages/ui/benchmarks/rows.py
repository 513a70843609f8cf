"""The rows of the experiments that come with the app, and the lines of the tables. Nothing here uses Streamlit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from invlib.experiments import rows as experiments
from invlib.experiments.rows import Row
from invlib.experiments.tables import METHODS_OF_TABLES, Case, offered
from pages.ui.knobs import percent
from pages.ui.pixels import plural

FOLDER = Path(experiments.__file__).with_name("results")
"""The folder with a file of rows for each experiment that was run."""

TITLES = {
    "fast": "Ours",
    "mean": "Ours, in one evaluation",
    "reverse": "Ours, by reverse diffusion",
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
    """The rows of an experiment, oldest first. There are none if it was not run."""
    return experiments.read(path(experiment))


# Problems


def slug(case: Case) -> str:
    """The name of a case in the address: set5-4, set68-0.1-crop-dense."""
    words = [case.pictures, *(str(value) for name, value in case.knobs.items() if name != "dense")]
    words += ["crop"] if case.crop is not None else []
    return "-".join([*words, "dense"] if case.knobs.get("dense") else words)


def title(case: Case) -> str:
    """The name of a case on the page: Set5, 4:1."""
    name, _ = SETS[case.pictures]
    kept = {"deblurring": "of frequencies", "compressive-sensing": "measured"}.get(case.task)
    amount = f"{percent(case.knobs['keep'])} {kept}" if kept else f"{case.knobs['factor']}:1"
    crop = [] if case.crop is None else ["crops, dense" if case.knobs.get("dense") else "crops"]
    return ", ".join([name, amount, *crop])


def of(case: Case, rows: Iterable[Row]) -> list[Row]:
    """The rows of a case."""
    key = {"set": case.pictures, "task": case.task, "knobs": dict(case.knobs), "crop": case.crop}
    return [row for row in rows if key.items() <= row.items()]


# The lines of a table


@dataclass(frozen=True)
class Line:
    """An answer that a method gives: a sample, the average of the samples, or the only answer.

    Attributes
    ----------
    method : the title of the method.
    estimate : "one sample" or "average of 8". It is empty for the only answer.
    ours : whether the method samples the prior.
    measured, reported : metric -> the score that was measured here, and the one that the paper reports.
    row : the row of the measurement. It is empty if there was none.
    same_pictures : our PSNR on the pictures of the row, if they are fewer than ours.
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
        """Whether the answer is one of several samples, so that there is a line of their average, too."""
        return self.estimate == "one sample" and self.row.get("samples") != 1


def lines(case: Case, rows: Iterable[Row]) -> list[Line]:
    """The lines of a case: of the latest row of each method, then of the methods that only the paper has."""
    latest = {row["method"]: row for row in of(case, rows)}
    found = [line for method in TITLES for line in of_method(case, method, latest.get(method, {}), latest)]
    known = {"sample", "mean", *(method.paper for method in METHODS_OF_TABLES.values())}
    others = [Line(name, "", False, {}, case.reported(name), {}) for name in case.paper if name not in known]
    return [*found, *others]


def of_method(case: Case, method: str, row: Row, latest: Mapping[str, Row]) -> list[Line]:
    """The lines of a method. Our default has none unless it was measured, because the paper reports its own sampler."""
    known = METHODS_OF_TABLES[method]
    ours = next((latest[name] for name in offered(case) if name in latest), {})
    # The paper averages ten samples.
    estimates = {"result": "", "sample": "one sample", "mean": f"average of {row.get('samples', 10)}"}
    parts = {"mean": "mean", "sample": "sample"} if known.draws else {"result": known.paper or ""}
    if row.get("samples") == 1:
        parts.pop("mean", None)  # It is the sample.
    found = []
    for part, name in parts.items():
        reported = case.reported(name) if name in case.paper else {}
        if row or (reported and (method == "paper" or not known.draws)):
            same = same_pictures(part, row, ours)
            found.append(
                Line(TITLES[method], estimates[part], known.draws or known.told, row.get(part, {}), reported, row, same)
            )
    return found


def same_pictures(part: str, row: Row, ours: Row) -> float | None:
    """Our PSNR of a sample, or of the average, on the pictures of a row that has only some of ours."""
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
    """Say in a sentence when, on what, with which weights and by which version rows were measured."""
    dates = sorted(datetime.fromisoformat(row["date"]) for row in rows)
    days = list(dict.fromkeys(f"{date.day} {date:%B %Y}" for date in (dates[0], dates[-1])))
    weights = distinct(f"{row['prior']} (sha256 {row['sha256'][:8]})" for row in rows if row["prior"])
    machines, versions = distinct(machine(row["machine"]) for row in rows), distinct(row["version"] for row in rows)
    used = f"; weights {weights}" if weights else ""
    return f"Measured {' to '.join(days)} on {machines}{used}; version {versions}."


def machine(known: Mapping[str, Any]) -> str:
    """The name of a machine's accelerator or processor, its number of threads, and the precision."""
    name = known["cpu"] if known["device"] == "cpu" else known["device"]
    return f"{name} ({plural(known['threads'], 'thread')}, {known['precision']})"


def distinct(words: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(words))
