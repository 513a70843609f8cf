"""Talking to a person or a program: progress on standard error, a result on standard output, pictures in a folder."""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
from torch import Tensor

from invlib.images import encode_png
from invlib.priors.tiles import watching
from invlib.runs import Forming, Run, Solving, finish

Item = TypeVar("Item")
Result = dict[str, Any]


def escape_what_cannot_be_printed() -> None:
    """Make standard output print σ as \\u03c3, as standard error does, where its encoding lacks the letter."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line to standard error. If its reader has left, or it is closed, the work goes on without a word."""
    if sys.stderr is None:  # `print` would take standard output instead
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        mute(sys.stderr)


def tell(text: str) -> int:
    """Print a result to standard output, and return the exit status. It is 0 too if a reader such as `head` has left.

    A result that cannot be printed, because the disk is full, goes to standard error, so that it is not lost.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        mute(sys.stdout)
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # the latter is what Windows says of a closed pipe
            say(f"{text}\nerror: standard output cannot be written ({error.strerror}), so it stands above")
            return 2
    return 0


def mute(stream: TextIO) -> None:
    """Send what a stream still holds, and all that follows, nowhere; else Python complains when it ends."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def every_second(items: Iterable[Item]) -> Iterator[tuple[Item, bool]]:
    """The items, and whether a second has passed since it was last so."""
    said = time.monotonic()
    for item in items:
        due = time.monotonic() - said > 1
        if due:
            said = time.monotonic()
        yield item, due


def watch(steps: Solving) -> Run:
    """Run to the end, and say every second where it is."""
    return watch_images(steps)[0]


def watch_images(steps: Solving) -> tuple[Run, Tensor | None]:
    """Run to the end, as `watch` does; return the samples too, (count, C, H, W), before they were rounded to 8 bits."""
    return finish(watched(steps))


def watched(steps: Solving, whose: str = "") -> Generator[Forming, None, tuple[Run, Tensor | None]]:
    """Pass on the states of a run, and say every second where it is; return what `watch_images` does.

    `whose` stands before every line.
    """
    said, forming = time.monotonic(), Forming()

    def say_tiles(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > 5:
            say(f"{whose}{where(forming)}  tile {done} of {total}")
            said = time.monotonic()

    while True:
        try:
            with watching(say_tiles):
                forming = next(steps)
        except StopIteration as stop:
            run: Run = stop.value
            say(f"{whose}{where(forming)}  {run.parameters['outcome']}")
            return run, forming.images
        if time.monotonic() - said > 1 and forming.history:
            say(f"{whose}{where(forming)}")
            said = time.monotonic()
        yield forming


def where(forming: Forming) -> str:
    """Where a run is: its last step, and what was measured of it."""
    words = {"sigma": "σ", "objective": "objective"}
    step = len(forming.history.get("evaluations", []))
    measures = [f"{words[name]} {values[-1]:.4g}" for name, values in forming.history.items() if name in words]
    left = [f"about {duration(forming.remaining)} left"] if forming.remaining else []
    return "  ".join([f"step {step}", *measures, *left])


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(42), duration(200)
    ('42 s', '3 min')
    """
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def show_count(about: str, steps: Iterable[Item]) -> Iterator[Item]:
    """Say every second how many steps of something are done."""
    for number, (step, due) in enumerate(every_second(steps), start=1):
        if due:
            say(f"{about}  step {number}")
        yield step


def count_progress(items: Iterable[Item], what: str, total: int) -> Generator[Item, None, None]:
    """Say which of the items is being worked on."""
    for number, item in enumerate(items, start=1):
        say(f"{what} {number} of {total}")
        yield item


def readable(result: Mapping[str, Any], indent: str = "") -> str:
    """A JSON object for people: a key for each line, objects indented, without what only programs read."""
    lines = []
    for key, value in result.items():
        if key in {"history", "each", "calibration", "error"} or value == {} or str(value).startswith("data:"):
            continue
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", readable(value, indent + "  ")]
        elif isinstance(value, list) and key in ("rows", "files"):
            items = map(readable_row, value) if key == "rows" else value
            lines += [f"{indent}{key}:", *(f"{indent}  {each}" for each in items)]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(line for line in lines if line.strip())


def readable_key(key: Result) -> str:
    """What a row of an experiment is of: its name, problem, method and the settings that vary."""
    settings = {name: key["settings"][name] for name in ("h0", "beta", "evaluations") if name in key["settings"]}
    crop = f"{key['crop']}×{key['crop']}" if key.get("crop") else None
    words = [key["experiment"], key.get("set"), crop, key.get("task"), pairs(key.get("knobs", {}))]
    return "  ".join(word for word in (*words, key.get("method", key["prior"]), pairs(settings)) if word)


def pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in values.items())


def readable_row(row: Result) -> str:
    """A row of an experiment in a line."""
    if "ratios" in row:
        ratios = ", ".join(f"{name} {ratio:g}" for name, ratio in row["ratios"].items())
        return f"{readable_key(row)}  times the default's seconds: {ratios}  cold start {row['cold_start']} s"
    if "iterations" in row:
        done = [count for count in row["iterations"] if count is not None]
        return (
            f"{readable_key(row)}  {len(done)} of {row['samples']} converged, the last in {max(done, default=0)} steps"
        )
    if "factors" in row:
        found = {name: f"{of['band']['measured']:.0%}" for name, of in row["sets"].items()}
        return f"{readable_key(row)}  images {row['images']}  in the band {pairs(found)}"
    if "distances" in row:
        found = {"distance from training faces, over that of held-out faces,": row["ratio"]}
        return f"{readable_key(row)}  {pairs(found)} with equal contrast {row['alike']['ratio']}"
    if "psnr" in row:
        return f"{readable_key(row)}  images {row['images']}  PSNR in dB by σ: {pairs(row['psnr'])}"
    if "experiment" in row and "input" not in row:
        found = {part: row[part]["psnr"] for part in ("result", "sample", "mean") if part in row}
        scores = [f"{part} {'no finite PSNR' if each is None else f'{each:.2f} dB'}" for part, each in found.items()]
        return f"{readable_key(row)}  images {row['images']}  {'  '.join(scores)}  {row['seconds']:.2f} s"
    chosen = " ".join(f"{name} {value:g}" for name, value in {**row["knobs"], **row["settings"]}.items())
    if "missing" in row:
        return f"{row['method']}  {chosen}  {row['missing']}"
    result = row["result"]
    spread = f"  spread over error {row['spread_skill']:.2f}" if row.get("spread_skill") else ""
    return (
        f"{row['method']}  {chosen}  {row['input']['psnr']:.2f} -> {result['psnr']:.2f} ± {result['psnr_std']:.2f} dB  "
        f"SSIM {result['ssim']:.3f}{spread}  {row['seconds']:.2f} s"
    )


def check_out(path: Path) -> None:
    """Find out before the work whether a file can be written afterwards; the folders that it is in are made.

    Raises
    ------
    ValueError : it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            path.open("r+b").close()
        elif path.exists():
            raise ValueError(f"{path} is not a file: name another place with --out")
        else:
            tempfile.NamedTemporaryFile(prefix=path.stem, suffix=path.suffix, dir=path.parent).close()
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{path.parent} is not a folder: name another place with --out") from error
    except OSError as error:
        raise ValueError(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    return f"{path} cannot be written ({error.strerror or error}): name another place with --out"


def write_pictures(pictures: Mapping[str, np.ndarray], folder: Path) -> Result:
    """Write pictures by name as PNG files: "files" and, if not all can be written, "error", a sentence."""
    files: list[str] = []
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(picture))
        except OSError as error:
            return {"files": files, "error": unwritable(path, error)}
        files.append(str(path))
    return {"files": files}


def samples_by_name(run: Run, stem: str) -> dict[str, np.ndarray]:
    """Every sample of a run and, of several, their average and standard deviation."""
    pictures = {f"{stem}-{number}": sample for number, sample in enumerate(run.samples, start=1)}
    return pictures | ({f"{stem}-mean": run.mean, f"{stem}-std": run.std} if len(run.samples) > 1 else {})
