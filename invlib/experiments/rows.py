"""The rows of an experiment in a file of JSON lines, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar

from invlib import runtime
from invlib.engines import Engine
from invlib.images import ImageError, list_images, load_image
from invlib.priors import checkpoints
from invlib.runs import Run, Solving, strict

Item = TypeVar("Item")
Row = dict[str, Any]


class Watch(Protocol):
    """Passes on the steps of what is going on, for instance to show progress. To cancel, raise in it."""

    def __call__(self, about: str, steps: Iterable[Item]) -> Iterable[Item]: ...


def unwatched(about: str, steps: Iterable[Item]) -> Iterable[Item]:
    return steps


def finish_watched(watch: Watch, about: str, steps: Solving) -> Run:
    """Run to the end, with every step passed to `watch`."""
    done: list[Run] = []

    def passing() -> Iterator[object]:
        done.append((yield from steps))

    for _ in watch(about, passing()):
        pass
    return done[0]


@dataclass(frozen=True)
class Options:
    """What a person chooses of an experiment; None leaves it to the experiment.

    Attributes
    ----------
    data : the folder that holds those of the pictures.
    prior : a name that `checkpoints.load` knows.
    samples : how many to draw for each picture.
    images : at most so many pictures of each set, picked at random, the same ones every time.
    baseline_images : the same for DIP and DeepRED.
    methods : those of the table; None for all.
    training : the pictures that the prior was trained on, as `invlib train --data` takes them.
    """

    data: Path | None = None
    prior: str | None = None
    samples: int | None = None
    images: int | None = None
    baseline_images: int = 2
    methods: Sequence[str] | None = None
    training: Path | None = None


@dataclass(frozen=True)
class Cell:
    """A row that can be measured.

    Attributes
    ----------
    key : what it is of: a JSON object whose first key is "experiment". Another key is another row.
    measure : measures the rest of the row. Only a function of a module, or a `partial` of one, can be sent to a worker.
    """

    key: Row
    measure: Callable[[Watch], Row]

    @property
    def id(self) -> str:
        """What tells one key from another: 16 hex digits."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """An experiment.

    Attributes
    ----------
    cells : its rows, before they are measured.
    left_out : sentences about those that cannot be measured here.
    timed : whether its point is how long things take, so that nothing else may run beside it.
    """

    cells: list[Cell]
    left_out: list[str] = field(default_factory=list)
    timed: bool = False


def run(cells: Iterable[Cell], path: Path, watch: Watch = unwatched) -> Iterator[Row]:
    """Measure the cells that a file lacks, and add each to it as soon as it is measured.

    Parameters
    ----------
    cells : in the order in which they are measured.
    path : a file of JSON lines, made if there is none. Rows of other cells stay in it.
    watch : see `Watch`.

    Yields
    ------
    The row of every cell, from the file if it was there: "id", the key, what was measured, and `circumstances`.

    Raises
    ------
    ValueError : the file is not one of rows.
    NotKept : a row was measured, but it cannot be written.
    """
    rows = kept(path)
    for cell in cells:
        if cell.id not in rows:
            rows[cell.id] = keep(whole_row(cell, watch), path)
        yield rows[cell.id]


def spread(
    cells: Iterable[Cell], path: Path | None, engine: Engine, tell: Callable[[int, Step], None] = lambda *_: None
) -> Iterator[tuple[int, Row]]:
    """Measure cells on the workers of an engine, each on a worker of its own. Otherwise as `run`.

    Parameters
    ----------
    cells : in the order in which they are begun. Each is taken only when a worker is there for it.
    path : as for `run`; None to keep nothing. A row then has its key and what was measured, no more.
    engine : see there. It may start a cell a second time.
    tell : called again and again with a cell's number, counted from 1, and where its measuring is.

    Yields
    ------
    The number and the row of every cell, in the order in which they are ready.

    Raises
    ------
    ValueError : as in `run`, or a cell cannot be measured. The others that are being measured are given up.
    NotKept : as in `run`.
    """
    rows = {} if path is None else kept(path)
    todo, active = enumerate(cells, start=1), dict[int, Generator[Step | None, None, Row]]()
    try:
        while True:
            while len(active) < engine.workers and (following := next(todo, None)) is not None:
                number, cell = following
                if cell.id in rows:
                    yield number, rows[cell.id]
                else:
                    active[number] = engine.work(measured, cell, bare_row if path is None else whole_row)
            if not active:
                return
            for number, steps in list(active.items()):
                try:
                    step = next(steps)
                except StopIteration as stop:
                    del active[number]
                    yield number, stop.value if path is None else keep(stop.value, path)
                else:
                    tell(number, step or Step())
    finally:
        for steps in active.values():
            steps.close()


@dataclass
class Step:
    """Where the measuring of a cell is.

    Attributes
    ----------
    about : what its `Watch` was told.
    number : how many steps of that are done.
    """

    about: str = ""
    number: int = 0
    progress = 0.0  # which is not known, and which `jobs.Job` wants

    def watch(self, about: str, steps: Iterable[Item]) -> Iterator[Item]:
        """A `Watch` that counts the steps."""
        self.about, self.number = about, 0
        for step in steps:
            runtime.pause()
            self.number += 1
            yield step


def measured(cell: Cell, row: Callable[[Cell, Watch], Row]) -> Generator[Step, None, Row]:
    """The row of a cell. What is yielded, once, changes while the row is measured.

    Raises
    ------
    ValueError : the prior's file on this machine is not the one that the key names.
    """
    prior = cell.key.get("prior")
    if prior is not None and cell.key["sha256"] != weights(prior)["sha256"]:
        raise ValueError(f"a worker's file of {prior} is another one: copy it to every machine")
    step = Step()
    yield step
    return row(cell, step.watch)


def whole_row(cell: Cell, watch: Watch) -> Row:
    """The row of a cell as files have it."""
    return strict({**cell.key, "id": cell.id, **cell.measure(watch), **circumstances()})


def bare_row(cell: Cell, watch: Watch) -> Row:
    """The key of a cell and what was measured."""
    return cell.key | cell.measure(watch)


def kept(path: Path) -> dict[str, Row]:
    """The rows of a file by id. The folder that it is in is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return {row["id"]: row for row in read(path)}


def keep(row: Row, path: Path) -> Row:
    """Add a row to a file, and return it.

    Raises
    ------
    NotKept : it cannot be written.
    """
    try:
        append(row, path)
    except OSError as error:
        raise NotKept(f"{path} cannot be written ({error.strerror}): make room for it", row) from error
    return row


class NotKept(OSError):
    """Raised when a row that was measured cannot be written to its file.

    Attributes
    ----------
    row : the row.
    """

    def __init__(self, sentence: str, row: Row) -> None:
        super().__init__(sentence)
        self.row = row


def read(path: Path) -> list[Row]:
    """The rows of a file; none if there is no such file. A last line that was cut off is not among them.

    Raises
    ------
    ValueError : the file is not one of rows.
    """
    if not path.exists():
        return []
    *lines, rest = path.read_bytes().split(b"\n")
    rows = [parse(line) for line in lines]
    if None in rows or not (rest.startswith(START) or START.startswith(rest)):
        raise ValueError(f"{path} holds something else than the rows of experiments: name another file")
    return [row for row in rows if row is not None]


START = b'{"experiment": '
"""How every row begins."""


def parse(line: bytes) -> Row | None:
    """The row of a line; None if it is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and line.startswith(START) and "id" in row else None


def append(row: Row, path: Path) -> None:
    """Add a row to a file, in place of a last line that was cut off."""
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def readable_images(folder: Path, count: int | None = None) -> tuple[list[Path], list[str]]:
    """The first `count` pictures of a folder that can be read, or all, and a sentence about each one left out.

    Raises
    ------
    ImageError : as in `list_images`, or no picture can be read.
    """
    paths: list[Path] = []
    left_out: list[str] = []
    for path in list_images(folder):
        if len(paths) == count:
            break
        if (trouble := trouble_with(path, path.stat().st_mtime_ns)) is None:
            paths.append(path)
        else:
            left_out.append(f"{trouble}; it is left out")
    if not paths:
        raise ImageError(f"{folder} holds no picture that can be read: name another folder")
    return paths, left_out


@cache
def trouble_with(path: Path, changed: int) -> str | None:
    """Why a picture cannot be read; None if it can. It is read once for as long as it is not `changed`."""
    try:
        load_image(path)
    except ImageError as error:
        return str(error)
    return None


def weights(prior: str) -> Row:
    """What a key says of a prior: its name, and the sha256 of its file."""
    with checkpoints.resolve(prior).open("rb") as file:
        return {"prior": prior, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


NO_WEIGHTS: Row = {"prior": None, "sha256": None}
"""The same for a method without a prior."""


def circumstances() -> Row:
    """When, on what and by which code a row was measured."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": runtime.machine(),
        "version": version(),
    }


def version() -> str:
    """The library's version and, in a clone of its repository, the commit, marked when code has changed since."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").exists():
        return metadata.version("invlib")
    number: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if shutil.which("git") is None or not (root / ".git").exists():
        return number
    commit = git(root, "rev-parse", "--short", "HEAD")
    changes = git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!**/results/*.jsonl")
    return number if commit is None else f"{number}+{commit}{'-dirty' if changes else ''}"


def git(root: Path, *arguments: str) -> str | None:
    """What git says of a clone; None if it fails."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
