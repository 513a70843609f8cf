"""Runs on a Ray cluster: an actor for each device, each with a queue of its own in which its runs take turns.

What crosses to an actor is a function of the library and its arguments, for instance the JSON of a run and its picture;
what comes back is its states and its result, for instance `runs.Forming` and `runs.Run`. They are pickled here, because
arrays that Ray itself passes on would hold its shared memory for as long as they live.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

# Before Ray is imported, which would report to its makers, and wait for minutes for a cluster that is gone.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")

import ray
from ray.exceptions import RayError, RayTaskError

from invlib import runs, runtime
from invlib.images import Picture
from invlib.jobs import Job, JobQueue
from invlib.pace import PACE
from invlib.problems.spec import Problem
from invlib.runs import Forming, Json, Settings, Solving

logger = logging.getLogger(__name__)

State = TypeVar("State")
Result = TypeVar("Result")

LOOK = 0.1
"""Seconds after which a run is looked at again."""

SILENCE = 30.0
"""Seconds after which an actor cancels a run that nobody looks at: whoever asked for it is gone."""

STORE = 128 * 2**20
"""Bytes of shared memory that a cluster has which is started here. Only a few states cross it at a time."""


class Worker:
    """What an actor does. Every method returns soon; the work is done in the threads of a `JobQueue`.

    Parameters
    ----------
    folder : where paths start that do not start at the root, if this machine has it.
    """

    def __init__(self, folder: str = ".") -> None:
        with contextlib.suppress(OSError):
            os.chdir(folder)
        runtime.set_threads()
        self.queue = JobQueue(capacity=1000, grace=0)
        self.jobs: dict[str, Job[Any, Any]] = {}
        self.looked: dict[str, float] = {}

    def started(self) -> int:
        """The number of the process, once it has started."""
        return os.getpid()

    def watched(self, name: str) -> bool:
        """Whether somebody has looked at a run lately."""
        return time.monotonic() - self.looked.get(name, 0.0) < SILENCE

    def begin(self, name: str, content: bytes) -> None:
        """Start the pickled function and arguments, under a name that nobody else uses."""
        for gone in [each for each in list(self.jobs) if not self.watched(each)]:
            self.cancel(gone)
        self.looked[name] = time.monotonic()
        function, arguments = pickle.loads(content)
        self.jobs[name] = self.queue.submit(name, partial(function, *arguments), lambda: self.watched(name))

    def look(self, name: str) -> bytes:
        """The last state of a run, its result, why it failed, and whether it has ended: pickled. It waits a little."""
        self.looked[name], job = time.monotonic(), self.jobs[name]
        ended = job.wait(LOOK)
        state = job.latest
        if isinstance(state, Forming) and state.images is not None:
            state = replace(state, images=state.images.cpu())
        return pickle.dumps((state, job.result, job.error, ended))

    def cancel(self, name: str) -> None:
        """Stop a run in the middle of a step, if it has not ended, and forget it."""
        self.looked.pop(name, None)
        if (job := self.jobs.pop(name, None)) is not None:
            job.cancel()


def solve_read(run: Json, picture: Picture | None) -> Solving:
    """Solve the problem that a run's JSON describes."""
    return (yield from runs.solve(*runs.read(run, picture)))


class LostError(Exception):
    """Raised when an actor has given up a run."""


@dataclass(eq=False)
class Seat:
    """An actor, the number of its process once it has one, and how many runs it has."""

    actor: Any
    started: Any
    load: int = field(default=0)

    @property
    def ready(self) -> bool:
        return bool(ray.wait([self.started], timeout=0)[0])


class RayEngine:
    """Works out runs with the actors of a cluster; see `engines.Engine`.

    Parameters
    ----------
    address : ray://host:port; None starts a cluster on this machine, or takes the one that this process is part of.
    workers : how many actors; one for each GPU if None or, without any, one for each machine.

    Raises
    ------
    ValueError : there is no cluster at the address.
    """

    turn = LOOK / 2  # Jobs here only look, so they need not have it long.

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        self._address, self._asked = address, workers
        self._lock = threading.Lock()
        self._connect()

    def _connect(self) -> None:
        try:
            if self._address is not None:
                ray.shutdown()  # what is left of a connection that was lost
                ray.init(self._address, log_to_driver=False)
            elif not ray.is_initialized():
                most = {"num_cpus": max(runtime.cores(), self._asked or 1), "object_store_memory": STORE}
                start_in_lasting_thread(
                    partial(ray.init, "local", **most, include_dashboard=False, log_to_driver=False)
                )
        except (ConnectionError, RayError) as error:  # the latter for want of a token
            raise ValueError(
                f"there is no Ray cluster at {self._address}: start one with `ray start --head` or, if it has a token, "
                "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            ) from error
        ray._private.worker._worker_logs_enabled = False  # else standard output, too, says that an actor was lost
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        cpus, gpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("CPU", "GPU"))
        self.workers = min(self._asked or gpus or len(nodes), gpus or cpus)
        share = min(cpus // self.workers, *(int(node["CPU"]) for node in nodes)) if not gpus else 1
        self._made = ray.remote(Worker).options(
            num_cpus=share, num_gpus=int(gpus > 0), max_concurrency=64, scheduling_strategy="SPREAD"
        )
        self.seats = [self._seat() for _ in range(self.workers)]

    def solve(self, problem: Problem, settings: Settings) -> Solving:
        """What `runs.solve` does. If the actor is lost, the run starts again on another one, once."""
        state = Forming()
        yield state
        arguments = problem.parameters | settings.parameters, problem.picture
        run = yield from self._work(solve_read, arguments, state, self._take)
        if settings.prior is not None and runs.forecast(problem, settings):
            done = run.parameters
            PACE.learn(settings.prior, done["evaluations"], runs.pixels_of(problem, settings), done["seconds"])
        return run

    def work(
        self, function: Callable[..., Generator[State, None, Result]], *arguments: Any
    ) -> Generator[State | None, None, Result]:
        """See `engines.Engine`. If the actor is lost, the work starts again on another one, once."""
        return (yield from self._work(function, arguments, None, self._take_free))

    def _work(
        self,
        function: Callable[..., Generator[Any, None, Result]],
        arguments: tuple[Any, ...],
        state: State,
        take: Callable[[], Seat | None],
    ) -> Generator[State, None, Result]:
        """Call a function on the actor that `take` gives. It yields `state` before there is another one."""
        content, lost = pickle.dumps((function, arguments)), 0
        while True:
            while (seat := take()) is None:
                yield state
                time.sleep(LOOK)
            try:
                return (yield from follow(seat.actor, content, state))
            except (ValueError, RayTaskError):
                raise
            except Exception as error:  # of an actor or, in no class of its own, of a cluster that is gone
                self._replace(seat)
                lost += 1
                if lost == 2:
                    raise ValueError("two workers were lost in the middle of this run: try again") from error
            finally:
                seat.load -= 1

    def _seat(self) -> Seat:
        actor = self._made.remote(os.getcwd())
        return Seat(actor, actor.started.remote())

    def _take(self) -> Seat:
        """The seat with the fewest runs, of those whose actors have started if there are any."""
        with self._lock:
            self._reconnect()
            seat = min(self.seats, key=lambda seat: (not seat.ready, seat.load))
            seat.load += 1
        return seat

    def _take_free(self) -> Seat | None:
        """A seat without a run whose actor has started; None if there is none."""
        with self._lock:
            self._reconnect()
            seat = next((seat for seat in self.seats if not seat.load and seat.ready), None)
            if seat is not None:
                seat.load += 1
        return seat

    def _reconnect(self) -> None:
        if not ray.is_initialized():
            self._connect()

    def _replace(self, seat: Seat) -> None:
        """Put a new actor in the place of one that was lost."""
        logger.warning("a worker of the Ray cluster was lost, and another one takes its place")
        with self._lock:
            if seat in self.seats and ray.is_initialized():
                self.seats[self.seats.index(seat)] = self._seat()


def start_in_lasting_thread(start: Callable[[], Any]) -> None:
    """Call a function in a thread that never ends: a cluster ends with the thread that started it, on Linux."""
    started: Future[Any] = Future()

    def run() -> None:
        try:
            started.set_result(start())
        except BaseException as error:
            started.set_exception(error)
        threading.Event().wait()

    threading.Thread(target=run, name="invlib-ray", daemon=True).start()
    started.result()


def follow(actor: Any, content: bytes, state: Any) -> Generator[Any, None, Any]:
    """Start a run on an actor, and look at it again and again. It is cancelled if the iteration is stopped.

    It yields `state` before there is another one.
    """
    name = secrets.token_hex(8)
    answer = actor.begin.remote(name, content)
    try:
        while True:
            while not ray.wait([answer], timeout=LOOK)[0]:
                yield state
            if (found := ray.get(answer)) is not None:
                latest, run, error, ended = pickle.loads(found)
                state = state if latest is None else latest
                yield state
                if run is not None:
                    return run
                if error is not None:
                    raise ValueError(error)
                if ended:
                    raise LostError
            answer = actor.look.remote(name)
    finally:
        with contextlib.suppress(Exception):  # whatever has become of it
            actor.cancel.remote(name)
