"""Files of rows: a run that is cut off goes on, and nothing is measured twice."""

from __future__ import annotations

import json
import math

import pytest
import torch

from invlib.engines import Here
from invlib.experiments.rows import Cell, bare_row, circumstances, measured, read, run, spread


class Bench:
    """Cells that record when they are measured; `broken` is interrupted."""

    def __init__(self, count: int, broken: int | None = None) -> None:
        self.measured: list[int] = []
        self.broken = broken
        self.cells = [self.cell(number) for number in range(count)]

    def cell(self, number: int) -> Cell:
        def measure(watch):
            if number == self.broken:
                raise KeyboardInterrupt
            self.measured.append(number)
            return {"psnr": sum(watch("numbers", [number, 0.5]))}

        return Cell({"experiment": "test", "number": number}, measure)


def test_rows_have_their_key_their_figures_and_where_they_were_measured(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    (row,) = run(Bench(1).cells, path)
    assert json.loads(path.read_text()) == row
    assert {"experiment": "test", "number": 0, "psnr": 0.5}.items() <= row.items()
    assert row.keys() >= circumstances().keys() == {"date", "machine", "version"}
    assert row["machine"]["torch"] == torch.__version__
    assert row["machine"]["cores"] >= 1
    assert row["machine"]["cpu"]
    assert row["date"].endswith("+00:00")
    assert row["version"].startswith("0.")


def test_a_run_that_was_stopped_goes_on_and_measures_nothing_twice(tmp_path):
    path = tmp_path / "rows.jsonl"
    stopped = Bench(4, broken=2)
    with pytest.raises(KeyboardInterrupt):
        list(run(stopped.cells, path))
    assert stopped.measured == [0, 1]
    first = read(path)
    path.write_bytes(path.read_bytes() + b'{"experiment": "test", "number": 2, "ps')

    again = Bench(4)
    rows = list(run(again.cells, path))
    assert again.measured == [2, 3]
    assert rows[:2] == first
    assert [row["number"] for row in rows] == [0, 1, 2, 3]
    assert read(path) == rows, "the cut line is gone"

    done = Bench(4)
    assert list(run(done.cells, path)) == rows
    assert done.measured == []


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_measure_what_is_not_there_and_begin_it_in_order(tmp_path, workers):
    engine, path, told = Here(), tmp_path / "new" / "rows.jsonl", []
    engine.workers = workers
    list(run(Bench(2).cells, path))
    bench = Bench(5)
    found = list(spread(bench.cells, path, engine, lambda number, step: told.append(number)))
    assert [number for number, _ in found] == [1, 2, 3, 4, 5]
    assert bench.measured == [2, 3, 4]
    assert told == [3, 4, 5]
    assert read(path) == [row for _, row in found]
    assert found[-1][1].keys() == {"experiment", "number", "id", "psnr", *circumstances()}

    bench = Bench(1)
    assert list(spread(bench.cells, None, engine)) == [(1, {"experiment": "test", "number": 0, "psnr": 0.5})]


def test_when_a_cell_fails_on_a_worker_what_was_measured_is_kept_and_the_others_are_given_up(tmp_path):
    engine, path = Here(), tmp_path / "rows.jsonl"
    engine.workers = 2
    with pytest.raises(KeyboardInterrupt):
        list(spread(Bench(4, broken=1).cells, path, engine))
    assert [row["number"] for row in read(path)] == [0]


def test_a_worker_says_at_which_step_a_cell_is():
    steps = measured(Bench(1).cells[0], bare_row)
    step = next(steps)
    assert (step.about, step.number) == ("", 0)
    list(steps)
    assert (step.about, step.number) == ("numbers", 2)


def test_a_worker_refuses_a_prior_whose_file_is_another_one():
    bench = Bench(1)
    key = {**bench.cells[0].key, "prior": "bf-unet-gray", "sha256": "0" * 64}
    with pytest.raises(ValueError, match="file of bf-unet-gray is another one"):
        list(measured(Cell(key, bench.cells[0].measure), bare_row))
    assert bench.measured == []


def test_another_key_is_another_row(tmp_path):
    path = tmp_path / "rows.jsonl"
    bench = Bench(1)
    list(run(bench.cells, path))
    other = Cell({**bench.cells[0].key, "sha256": "another"}, bench.cells[0].measure)
    list(run([*bench.cells, other], path))
    assert bench.measured == [0, 0]
    assert len(read(path)) == 2


def test_the_order_of_a_key_does_not_matter():
    cell = Bench(1).cells[0]
    assert Cell(dict(reversed(cell.key.items())), cell.measure).id == cell.id


def test_a_watch_sees_the_steps(tmp_path):
    seen = []

    def watch(about, steps):
        for step in steps:
            seen.append((about, step))
            yield step

    list(run(Bench(1).cells, tmp_path / "rows.jsonl", watch))
    assert seen == [("numbers", 0), ("numbers", 0.5)]


@pytest.mark.parametrize("content", [b"a letter", b"a letter\n", b'{"json": 1}\n', b'{"json": 1}', b"\x89PNG\n\xff"])
def test_a_file_of_something_else_is_refused_and_stays(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    bench = Bench(1)
    with pytest.raises(ValueError, match="holds something else than the rows of experiments: name another file"):
        list(run(bench.cells, path))
    assert path.read_bytes() == content
    assert bench.measured == []


def test_figures_that_are_no_numbers_are_null_in_the_file_and_in_the_row(tmp_path):
    cell = Cell({"experiment": "test"}, lambda watch: {"psnr": {"0.1": math.inf}, "each": [math.nan, 1.0]})
    (row,) = run([cell], tmp_path / "rows.jsonl")
    assert (row["psnr"], row["each"]) == ({"0.1": None}, [None, 1.0])
    assert read(tmp_path / "rows.jsonl") == [row]
