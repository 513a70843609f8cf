"""Runs on actors of a small Ray cluster, whose processes are killed in the middle. Needs the package `ray`."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from invlib import engines, examples, images, runs, runtime
from invlib.cli import main
from invlib.jobs import JobQueue, Status
from invlib.problems import linear
from invlib.runs import Forming
from invlib.solvers import methods
from tests.patience import PATIENCE
from tests.small_priors import use_small_priors


@pytest.mark.parametrize("variables", [{"INVLIB_ENGINE": "rey"}, {"INVLIB_ENGINE": "ray", "INVLIB_WORKERS": "0"}])
def test_an_engine_that_there_is_not_is_refused(monkeypatch, capsys, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"{list(variables)[-1]} must be"):
        engines.engine()


def test_ray_is_needed_only_where_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it was not installed
    monkeypatch.delitem(sys.modules, "invlib.ray_engine", raising=False)
    monkeypatch.setattr(engines, "_engines", {})
    monkeypatch.delenv(engines.ENGINE, raising=False)
    assert engines.engine().workers == 1
    monkeypatch.setenv(engines.ENGINE, "ray")
    with pytest.raises(ImportError, match=r"pip install 'invlib\[ray\]'"):
        engines.engine()


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator:
    pytest.importorskip("ray")
    from invlib.ray_engine import RayEngine, ray

    with pytest.MonkeyPatch.context() as patch:
        use_small_priors(tmp_path_factory.mktemp("weights"), patch)  # before the actors, who look there too
        patch.setenv("RAY_AUTH_MODE", "disabled")
        # Two actors, although there may be one GPU; and this process gives what they give.
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        for module in (runtime, methods):
            patch.setattr(module, "default_device", lambda: torch.device("cpu"))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
        with ThreadPoolExecutor() as pool:  # The thread that starts the engine ends, as a page's does.
            made = pool.submit(RayEngine, workers=2).result()
        yield made
        ray.shutdown()


def kill(engine, seat) -> None:
    """Kill the process of an actor, once it has one."""
    from invlib.ray_engine import ray

    os.kill(ray.get(seat.started, timeout=PATIENCE), signal.SIGKILL)


def busy(engine):
    return max(engine.seats, key=lambda seat: seat.load)


class Disturbed:
    """An engine that does something in the middle of its runs, when each has been begun."""

    turn, workers = 0.05, 2

    def __init__(self, engine, disturb: Callable[[int], None]) -> None:
        self.engine, self.disturb, self.begun = engine, disturb, 0

    def solve(self, problem, settings):
        steps = self.engine.solve(problem, settings)
        yield next(steps)
        return (yield from self.disturbed(steps))

    def work(self, function, *arguments):
        return self.disturbed(self.engine.work(function, *arguments))

    def disturbed(self, steps):
        yield next(steps)
        self.begun += 1
        self.disturb(self.begun)
        return (yield from steps)


def posed(evaluations: int = 2, method: str = "fast"):
    name = "max_evaluations" if method == "paper" else "evaluations"
    problem = linear.pose("super-resolution", examples.picture("coffee", side=32), {"factor": 2})
    return problem, runs.settings(problem, method, {name: evaluations}, samples=2, seed=3)


def test_a_folder_on_two_workers_is_right_though_one_is_killed(engine, tmp_path, monkeypatch, capsys):
    for number, side in enumerate(range(16, 28)):
        images.save_image(examples.example("coffee", side=side), tmp_path / "photos" / f"{number}.png")
    arguments = ["restore", str(tmp_path / "photos"), "--task", "inpainting", "--box", "4,4,6,6", "--evaluations", "2"]
    assert main([*arguments, "--out", str(tmp_path / "here"), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)

    disturbed = Disturbed(engine, lambda begun: kill(engine, busy(engine)) if begun == 5 else None)
    monkeypatch.setattr(engines, "engine", lambda: disturbed)
    monkeypatch.setattr(engines, "solve", disturbed.solve)
    before = list(engine.seats)
    assert main([*arguments, "--out", str(tmp_path / "there"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["images"], row["left_out"], disturbed.begun) == (12, [], 12)
    assert sum(seat in before for seat in engine.seats) == 1, "one was replaced"
    assert row["mean"] == expected["mean"]
    for here, there in zip(expected["files"], row["files"], strict=True):
        assert Path(here).name == Path(there).name
        assert Path(here).read_bytes() == Path(there).read_bytes()


def test_rows_on_two_workers_are_right_though_one_is_killed(engine, tmp_path, monkeypatch, capsys):
    images.save_image(examples.example("coffee", side=26), tmp_path / "set5" / "coffee.png")
    images.save_image(examples.example("chelsea", side=26), tmp_path / "set14" / "chelsea.png")
    arguments = ["bench", "table1", "--data", str(tmp_path), "--methods", "least-squares,tv,fast", "--samples", "2"]
    assert main([*arguments, "--out", str(tmp_path / "here"), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["rows"]

    disturbed = Disturbed(engine, lambda begun: kill(engine, busy(engine)) if begun == 2 else None)
    monkeypatch.setattr(engines, "engine", lambda: disturbed)
    before = list(engine.seats)
    assert main([*arguments, "--out", str(tmp_path / "there"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [measured(row) for row in found] == [measured(row) for row in expected]
    assert len(found) == disturbed.begun > 4
    assert sum(seat in before for seat in engine.seats) == 1, "one was replaced"
    assert all(seat.load == 0 for seat in engine.seats)
    lines = [json.loads(line) for line in (tmp_path / "there").read_text().splitlines()]
    assert sorted(lines, key=lambda row: row["id"]) == sorted(found, key=lambda row: row["id"])

    assert main([*arguments, "--out", str(tmp_path / "there"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == found
    assert disturbed.begun == len(found), "nothing was measured again"


def measured(row):
    """A row without what differs from one time to another."""
    return {name: value for name, value in row.items() if name not in ("seconds", "date", "machine", "version")}


def test_rows_of_structured_noise_are_the_same_on_two_workers(engine, monkeypatch, capsys):
    arguments = ["bench", "structured-noise", "--task", "sinusoidal", "--examples", "cat,coffee", "--methods", "map,tv"]
    arguments += ["--steps", "3,4", "--json"]
    assert main(arguments) == 0
    expected = json.loads(capsys.readouterr().out)["rows"]
    monkeypatch.setattr(engines, "engine", lambda: engine)
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    assert [measured(row) for row in found] == [measured(row) for row in expected]
    assert len(found) > 2


def test_what_goes_wrong_in_a_cell_is_said(engine, tmp_path, monkeypatch, capsys):
    images.save_image(examples.example("coffee", side=26), tmp_path / "set5" / "coffee.png")
    monkeypatch.setattr(engines, "engine", lambda: engine)
    before = list(engine.seats)
    arguments = ["bench", "table1", "--data", str(tmp_path), "--methods", "fast", "--prior", "bf-unet-gray"]
    assert main([*arguments, "--out", str(tmp_path / "rows")]) == 2
    assert "compared in 3: choose another prior" in capsys.readouterr().err
    assert engine.seats == before
    assert all(seat.load == 0 for seat in engine.seats)


def test_work_waits_for_a_worker_that_does_nothing_else(engine):
    seats = [engine._take(), engine._take()]
    steps = engine.work(count_to, 3)
    assert [next(steps) for _ in range(3)] == [None] * 3
    for seat in seats:
        seat.load -= 1
    assert runs.finish(steps) == 3


def count_to(count):
    for _ in range(count):
        yield Forming()
    return count


def test_a_job_finishes_though_its_worker_is_killed(engine):
    problem, settings = posed(evaluations=40)
    disturbed = Disturbed(engine, lambda _: kill(engine, busy(engine)))
    job = JobQueue(turn=engine.turn).submit("tab", lambda: disturbed.solve(problem, settings))
    assert job.wait(PATIENCE)
    assert (job.status, job.error) == (Status.DONE, None)
    expected = runs.finish(runs.solve(problem, settings))
    assert np.array_equal(job.result.samples, expected.samples)
    assert job.result.answers(problem)
    assert job.result.used(settings)
    assert all(seat.load == 0 for seat in engine.seats)


def test_a_run_whose_workers_are_killed_twice_says_so(engine, monkeypatch):
    problem, settings = posed()
    steps = engine.solve(problem, settings)
    follow = importlib.import_module("invlib.ray_engine").follow

    def lost(actor, content, state):
        kill(engine, busy(engine))
        return (yield from follow(actor, content, state))

    monkeypatch.setattr("invlib.ray_engine.follow", lost)
    with pytest.raises(ValueError, match="two workers were lost"):
        runs.finish(steps)


def test_what_goes_wrong_on_a_worker_is_said_and_not_tried_again(engine):
    problem, settings = posed()
    object.__setattr__(settings, "prior", "no-such-prior")
    before = list(engine.seats)
    with pytest.raises(ValueError, match="no-such-prior"):
        runs.finish(engine.solve(problem, settings))
    assert engine.seats == before


def test_a_cancelled_job_stops_on_its_worker():
    pytest.importorskip("ray")
    from invlib.ray_engine import Worker, solve_read

    problem, settings = posed(evaluations=10**5, method="paper")
    worker = Worker()
    content = solve_read, (problem.parameters | settings.parameters, problem.picture)
    worker.begin("a", pickle.dumps(content))
    _, result, error, ended = pickle.loads(worker.look("a"))
    assert (result, error, ended) == (None, None, False)
    job = worker.jobs["a"]
    worker.cancel("a")
    assert job.wait(PATIENCE)
    assert job.status is Status.CANCELLED
    assert not worker.jobs
    worker.cancel("a")  # which is no error


def test_stop_reaches_the_worker(engine):
    problem, settings = posed()
    steps = engine.solve(problem, settings)
    next(steps)
    next(steps)
    seat = busy(engine)
    assert seat.load == 1
    steps.close()
    assert seat.load == 0
