"""Where runs are worked out: in this process, or by actors of a Ray cluster.

The environment variable `INVLIB_ENGINE` chooses. Without it, runs stay in this process and nothing of Ray is imported.

>>> here = Here()
>>> here.workers
1
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from invlib import runs
from invlib.problems.spec import Problem
from invlib.runs import Settings, Solving

ENGINE = "INVLIB_ENGINE"
"""The environment variable that chooses: `ray`, `ray://host:port`, or nothing."""

WORKERS = "INVLIB_WORKERS"
"""The environment variable that says how many actors of Ray there are."""

TURN = 0.5
"""Seconds for which a run has this process's device for itself."""

State = TypeVar("State")
Result = TypeVar("Result")


class Engine(Protocol):
    """Whatever works out runs.

    Attributes
    ----------
    workers : how many runs it works out at once without slowing each of them down.
    turn : for how many seconds a job of `jobs.JobQueue` should have its turn when this engine does the work.
    """

    workers: int
    turn: float

    def solve(self, problem: Problem, settings: Settings) -> Solving:
        """What `runs.solve` does. States may be passed over, or come again."""

    def work(
        self, function: Callable[..., Generator[State, None, Result]], *arguments: Any
    ) -> Generator[State | None, None, Result]:
        """Call a function on a worker that does nothing else, and return what it returns.

        States may be passed over, or come again, and are None before the first. The function must belong to a module,
        and its arguments, states and result must be such that they can be pickled. Its work may be started twice.
        """


class Here:
    """Works out runs in this process."""

    workers, turn = 1, TURN

    def solve(self, problem: Problem, settings: Settings) -> Solving:
        return runs.solve(problem, settings)

    def work(
        self, function: Callable[..., Generator[State, None, Result]], *arguments: Any
    ) -> Generator[State | None, None, Result]:
        return (yield from function(*arguments))


_engines: dict[str, Engine] = {}
_lock = threading.Lock()


def engine() -> Engine:
    """The engine that the environment chooses, which is started when it is first asked for.

    Raises
    ------
    ValueError : the variables say something else than they may, or there is no such cluster.
    ImportError : the package `ray` is needed and not installed.
    """
    name = os.environ.get(ENGINE, "")
    with _lock:
        if name not in _engines:
            _engines[name] = _start(name)
        return _engines[name]


def solve(problem: Problem, settings: Settings) -> Solving:
    """Run a method on a problem wherever the environment says; otherwise as `runs.solve`."""
    return engine().solve(problem, settings)


def _start(name: str) -> Engine:
    if not name:
        return Here()
    if name != "ray" and not name.startswith("ray://"):
        raise ValueError(f"{ENGINE} must be ray or ray://HOST:PORT, got {name!r}")
    count = os.environ.get(WORKERS, "")
    if count and not (count.isdecimal() and int(count)):
        raise ValueError(f"{WORKERS} must be a whole number of at least 1, got {count!r}")
    try:
        from invlib.ray_engine import RayEngine
    except ImportError as error:
        raise ImportError(f"{ENGINE}={name} needs the package ray: pip install 'invlib[ray]'") from error
    return RayEngine(None if name == "ray" else name, int(count) if count else None)
