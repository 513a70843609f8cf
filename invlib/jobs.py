"""Long work beside a user interface: one device, a bounded queue, turns, progress, cancel.

A page submits a callable, gets a `Job` at once and looks at it as often as it likes; nothing here waits for a page, and
a worker never calls one. Make one `JobQueue` for each device. A few of its jobs are in progress at once, each in a
worker thread of its own, so that one can be put aside in the middle of a step. They take turns: only the one whose turn
it is computes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from invlib import runtime
from invlib.priors.checkpoints import CheckpointError

LONGEST = float(os.environ.get("INVLIB_LONGEST", 120))
"""How many seconds a job may take, by its estimate."""

NO_MEMORY = "not enough memory: use a smaller picture or fewer samples"


class HasProgress(Protocol):
    """What work yields: anything that says how far it is, from 0 to 1."""

    @property
    def progress(self) -> float: ...


logger = logging.getLogger(__name__)

State = TypeVar("State", bound=HasProgress)
Result = TypeVar("Result")

Work = Callable[[], Generator[State, None, Result]]
"""Yields states and returns a result. A job pauses, or stops if it was cancelled, at every yield and every call of
`runtime.pause`, as networks do after each layer."""


class Status(StrEnum):
    """What has become of a job. It waits, runs, and ends in one of the other three."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Refused(RuntimeError):
    """A job that was not taken, because it would take too long; one sentence for the user."""


class QueueFull(Refused):
    """A job that was not taken, because too many of the visitor or of all are under way; one sentence for the user."""


class Cancelled(BaseException):
    """Raised in the middle of a step of a job that was cancelled. It is no Exception, so that work lets it pass."""


class Job(Generic[State, Result]):
    """A piece of work, as its owner sees it. Every attribute may be read at any time from any thread.

    Attributes
    ----------
    status : see `Status`.
    latest : the last state that the work yielded; None before the first.
    result : what the work returned; None unless `status` is DONE.
    error : one sentence; None unless `status` is FAILED.
    session, visitor, seconds : as in `JobQueue.submit`.
    """

    def __init__(
        self,
        queue: JobQueue,
        session: str,
        visitor: str,
        work: Work[State, Result],
        alive: Callable[[], bool],
        seconds: float | None,
    ) -> None:
        self.status = Status.WAITING
        self.latest: State | None = None
        self.result: Result | None = None
        self.error: str | None = None
        self.session, self.visitor, self.seconds = session, visitor, seconds
        self.turned = 0  # when it had its last turn, in turns of all jobs; for the queue only
        self._queue, self._alive = queue, alive
        self._work: Work[State, Result] | None = work
        self._spent = 0.0
        self._since: float | None = None
        self._gone_since: float | None = None
        self._cancelled = threading.Event()
        self._ended = threading.Event()

    @property
    def position(self) -> int:
        """How many jobs are to end before this one starts; 0 once it runs or has ended."""
        return self._queue.position(self)

    @property
    def delay(self) -> float | None:
        """Seconds until it starts, estimated; None if that cannot be known."""
        return self._queue.delay(self)

    @property
    def share(self) -> float:
        """Which part of the device's time it gets, now that others are in progress."""
        return self._queue.share(self)

    @property
    def progress(self) -> float:
        """How far the work is, from 0 to 1."""
        if self.status is Status.DONE:
            return 1.0
        return 0.0 if self.latest is None else self.latest.progress

    @property
    def remaining(self) -> float | None:
        """Seconds of work to go, judged by its progress, else by its estimate; None if neither is known."""
        spent, done = self.clock(), self.progress
        if done > 0:
            return spent * (1 - done) / done
        return None if self.seconds is None else max(0.0, self.seconds - spent)

    @property
    def ended(self) -> bool:
        """Whether it is done, cancelled or failed."""
        return self._ended.is_set()

    @property
    def cancelling(self) -> bool:
        """Whether it was cancelled but has not come to its next pause."""
        return self._cancelled.is_set() and not self.ended

    def cancel(self) -> None:
        """Stop: at once if it waits, at the next pause if it has its turn. Does nothing if it has ended."""
        self._cancelled.set()
        self._queue.drop_cancelled()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the job has ended, or for some seconds; whether it has ended."""
        return self._ended.wait(seconds)

    def abandoned(self, grace: float) -> bool:
        """Whether its session was found gone `grace` seconds ago, and ever since."""
        try:
            alive = self._alive()
        except BaseException:
            if self._gone_since is None:
                logger.exception("whether a session is still there could not be told, so it counts as gone")
            alive = False
        if alive:
            self._gone_since = None
            return False
        if self._gone_since is None:
            self._gone_since = time.monotonic()
        return time.monotonic() - self._gone_since >= grace

    # For the worker, and for the work by `runtime.taking_turns`

    def pause(self) -> None:
        """Let others have their turn, if it is time. `Cancelled` is raised if the job was cancelled."""
        if not self._cancelled.is_set():
            self._queue.take_turns(self)
        if self._cancelled.is_set():
            raise Cancelled

    def clock(self) -> float:
        """Seconds for which it has had its turn so far."""
        since = self._since
        return self._spent + (0.0 if since is None else time.perf_counter() - since)

    def turn(self, mine: bool) -> None:
        """Start or end its turn."""
        self._spent, self._since = self.clock(), time.perf_counter() if mine else None

    def run(self) -> None:
        """Do the work."""
        outcome = Status.FAILED
        try:
            with runtime.taking_turns(self):
                self._advance()
            outcome = Status.DONE
        except Cancelled:
            outcome = Status.CANCELLED
        except (ValueError, CheckpointError, ImportError) as error:  # which names a package that is not installed
            self.error = str(error)
        except MemoryError as error:  # The words of numpy's own kind are no advice.
            self.error = (str(error) if type(error) is MemoryError else "") or NO_MEMORY
        except BaseException as error:
            if isinstance(error, RuntimeError) and runtime.is_out_of_memory(error):
                self.error = NO_MEMORY
            else:
                logger.exception("a job failed unexpectedly")
                self.error = f"the run failed unexpectedly ({type(error).__name__}): try again, or see the server's log"
        self.end(outcome)

    def _advance(self) -> None:
        self.pause()
        self.status = Status.RUNNING
        assert self._work is not None
        steps = self._work()
        try:
            while True:
                self.latest = next(steps)
                self.pause()
        except StopIteration as stop:
            self.result = stop.value
        finally:
            steps.close()

    def end(self, status: Status) -> None:
        """Settle what has become of it, and let go of what the work holds."""
        self._work = None
        self.status = status  # Last of all: who sees DONE or FAILED finds the result or the error.
        self._ended.set()


class JobQueue:
    """Jobs that take turns on one device, in the order they came. Visitors have equal shares of its time.

    Parameters
    ----------
    capacity : how many jobs may wait.
    grace : seconds after which the job of a session that is gone is cancelled. A page that reloads, or a telephone that
        loses its connection for a moment, is not gone.
    at_once : how many jobs may be in progress, each of which holds memory.
    each : how many jobs a visitor may have, waiting or in progress.
    turn : how many seconds a turn takes. It goes on until the next pause.
    devices : how many devices do the work, if jobs only look on; see `engines`.
    """

    def __init__(
        self,
        capacity: int = 8,
        grace: float = 10.0,
        at_once: int = 4,
        each: int = 3,
        turn: float = 0.5,
        devices: int = 1,
    ) -> None:
        self.capacity, self.grace, self.at_once, self.each, self.turn = capacity, grace, at_once, each, turn
        self.devices = devices
        self._waiting: list[Job] = []
        self._running: list[Job] = []
        self._holder: Job | None = None  # whose turn it is
        self._turns = 0
        self._changed = threading.Condition(threading.RLock())
        self._workers = 0

    def submit(
        self,
        session: str,
        work: Work[State, Result],
        alive: Callable[[], bool] = lambda: True,
        *,
        visitor: str | None = None,
        seconds: float | None = None,
    ) -> Job[State, Result]:
        """Queue a job, in place of the one that the session has.

        Parameters
        ----------
        session : who asks. A session has one job at a time: an earlier one is cancelled.
        work : see `Work`.
        alive : says whether the session is still there; called from any thread.
        visitor : whose session it is; the session itself if None.
        seconds : how long the work will take if it has the device for itself; None if that is not known.

        Raises
        ------
        Refused : if it would take more than `LONGEST`.
        QueueFull : if `capacity` jobs wait already, or `each` of the visitor are under way.
        """
        job = Job(self, session, session if visitor is None else visitor, work, alive, seconds)
        if seconds is not None and seconds > LONGEST:
            raise Refused(
                f"this would take about {seconds / 60:.1f} minutes here, and a run may take {LONGEST / 60:g}: lower "
                "the number of samples or of evaluations, or take a smaller picture"
            )
        with self._changed:
            self.drop_abandoned()
            kept = [other for other in self._jobs() if other.session != session and not other.cancelling]
            if sum(other.visitor == job.visitor for other in kept) >= self.each:
                raise QueueFull(f"you have {self.each} runs under way already: stop one, or wait until one has ended")
            if len(kept) >= self.at_once + self.capacity:
                raise QueueFull(f"{self.capacity} runs are waiting already: try again in a minute")
            for earlier in self._jobs():
                if earlier.session == session:
                    earlier.cancel()
            self._waiting.append(job)
            if self._workers < min(self.at_once, len(self._jobs())):
                self._workers += 1
                threading.Thread(target=self._serve, name="invlib-jobs", daemon=True).start()
            self._changed.notify_all()
        return job

    def position(self, job: Job) -> int:
        """How many jobs are to end before `job` starts; 0 if it does not wait."""
        with self._changed:
            return max(0, self._jobs().index(job) + 1 - self.at_once) if job in self._waiting else 0

    def delay(self, job: Job) -> float | None:
        """Seconds until `job` starts, if those in progress share the device evenly; None if that cannot be known."""
        with self._changed:
            position = self.position(job)
            seconds = [each.remaining for each in self._jobs()[: self.at_once + position - 1]]
        known = [each for each in seconds if each is not None]
        if len(known) < len(seconds):
            return None
        delay, left = 0.0, sorted(known[: self.at_once])
        for following in range(self.at_once, self.at_once + position):
            shortest, delay = left[0], delay + left[0] * len(left)
            left = sorted([*(each - shortest for each in left[1:]), *known[following : following + 1]])
        return delay

    def share(self, job: Job) -> float:
        """Which part of a device's time `job` gets: visitors share it evenly, and then the jobs of each."""
        with self._changed:
            counts = Counter(each.visitor for each in self._jobs()[: self.at_once])
        return min(1.0, self.devices / max(1, len(counts) * counts[job.visitor]))

    def drop_abandoned(self) -> None:
        """Cancel the jobs whose sessions are gone; asked at every turn, so that none waits behind a dead one."""
        with self._changed:
            for job in self._jobs():
                if job.abandoned(self.grace):
                    job.cancel()

    def drop_cancelled(self) -> None:
        """Take the jobs that were cancelled out of the queue, and wake those that wait for their turn."""
        with self._changed:
            dropped = [job for job in self._waiting if job.cancelling]
            self._waiting = [job for job in self._waiting if job not in dropped]
            for job in dropped:
                job.end(Status.CANCELLED)
            self._changed.notify_all()

    def take_turns(self, job: Job) -> None:
        """Return when it is the turn of `job`, or when it is cancelled. For a job in progress only."""
        with self._changed:
            if self._holder is job:
                if time.perf_counter() - self._began < self.turn:
                    return
                self.drop_abandoned()
                self._pass_on()
            self._changed.wait_for(lambda: self._holder is job or job.cancelling)

    def _pass_on(self) -> None:
        """Give the turn to the visitor who has had none for longest, and to the job of that visitor that had none."""
        if self._holder is not None:
            self._turns += 1
            self._holder.turned = self._turns
            self._holder.turn(False)
        last = Counter[str]()
        for job in self._running:
            last[job.visitor] = max(last[job.visitor], job.turned)
        self._holder = min(self._running, key=lambda job: (last[job.visitor], job.turned), default=None)
        if self._holder is not None:
            self._began = time.perf_counter()
            self._holder.turn(True)
        self._changed.notify_all()

    def _jobs(self) -> list[Job]:
        return [job for job in [*self._running, *self._waiting] if not job.ended]

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                counts = Counter(each.visitor for each in self._running)
                job = min(self._waiting, key=lambda job: counts[job.visitor])
                self._waiting.remove(job)
                job.turned = self._turns  # It stands behind the others: who comes again and again gets no more turns.
                self._running.append(job)
                if self._holder is None:
                    self._pass_on()
            job.run()
            with self._changed:
                self._running.remove(job)
                if self._holder is job:
                    self._pass_on()
            # Between jobs the worker holds on to nothing of the last one, which may be large.
            del job
