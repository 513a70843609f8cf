"""Long work beside a user interface: one worker thread, a bounded queue, progress, cancel.

A page submits a callable, gets a `Job` at once and looks at it as often as it likes; nothing here waits for a page, and
a worker never calls one. Make one `JobQueue` for each device: its jobs run one after the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from invlib.priors.checkpoints import CheckpointError


class HasProgress(Protocol):
    """What work yields: anything that says how far it is, from 0 to 1."""

    @property
    def progress(self) -> float: ...


logger = logging.getLogger(__name__)

State = TypeVar("State", bound=HasProgress)
Result = TypeVar("Result")

Work = Callable[[], Generator[State, None, Result]]
"""Yields states and returns a result. A job that was cancelled stops at the next yield."""


class Status(StrEnum):
    """What has become of a job. It waits, runs, and ends in one of the other three."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class QueueFull(RuntimeError):
    """A job that was refused because too many wait already; one sentence for the user."""


class Job(Generic[State, Result]):
    """A piece of work, as its owner sees it. Every attribute may be read at any time from any thread.

    Attributes
    ----------
    status : see `Status`.
    latest : the last state that the work yielded; None before the first.
    result : what the work returned; None unless `status` is DONE.
    error : one sentence; None unless `status` is FAILED.
    """

    def __init__(self, queue: JobQueue, session: str, work: Work[State, Result], alive: Callable[[], bool]) -> None:
        self.status = Status.WAITING
        self.latest: State | None = None
        self.result: Result | None = None
        self.error: str | None = None
        self.session = session
        self._queue, self._work, self._alive = queue, work, alive
        self._gone_since: float | None = None
        self._cancelled = threading.Event()
        self._ended = threading.Event()

    @property
    def position(self) -> int:
        """How many jobs are to end before this one starts; 0 once it runs or has ended."""
        return self._queue.position(self)

    @property
    def progress(self) -> float:
        """How far the work is, from 0 to 1."""
        if self.status is Status.DONE:
            return 1.0
        return 0.0 if self.latest is None else self.latest.progress

    @property
    def ended(self) -> bool:
        """Whether it is done, cancelled or failed."""
        return self._ended.is_set()

    @property
    def cancelling(self) -> bool:
        """Whether it was cancelled but has not come to the end of its current step."""
        return self._cancelled.is_set() and not self.ended

    def cancel(self) -> None:
        """Stop: at once if it waits, at the end of the current step if it runs. Does nothing if it has ended."""
        self._cancelled.set()
        self._queue.drop_cancelled()

    def wait(self, seconds: float | None = None) -> bool:
        """Block until the job has ended, or for some seconds; whether it has ended."""
        return self._ended.wait(seconds)

    def abandoned(self, grace: float) -> bool:
        """Whether its session was found gone `grace` seconds ago, and ever since."""
        if self._alive():
            self._gone_since = None
            return False
        if self._gone_since is None:
            self._gone_since = time.monotonic()
        return time.monotonic() - self._gone_since >= grace

    def run(self) -> None:
        """Do the work. For the worker only."""
        self.status, outcome = Status.RUNNING, Status.FAILED
        try:
            outcome = self._advance()
        except (ValueError, CheckpointError) as error:
            self.error = str(error)
        except MemoryError as error:
            self.error = str(error) or "not enough memory: use a smaller picture or fewer samples"
        except Exception as error:
            logger.exception("a job failed unexpectedly")
            self.error = f"the run failed unexpectedly ({type(error).__name__}): try again, or see the server's log"
        self.end(outcome)

    def _advance(self) -> Status:
        steps = self._work()
        try:
            while not self._cancelled.is_set():
                self.latest = next(steps)
                self._queue.drop_abandoned()
        except StopIteration as stop:
            self.result = stop.value
            return Status.DONE
        finally:
            steps.close()
        return Status.CANCELLED

    def end(self, status: Status) -> None:
        """Settle what has become of it. For the queue only."""
        self.status = status  # Last of all: who sees DONE or FAILED finds the result or the error.
        self._ended.set()


class JobQueue:
    """Jobs that run one after the other in one worker thread, in the order they came.

    Parameters
    ----------
    capacity : how many jobs may wait.
    grace : seconds after which the job of a session that is gone is cancelled. A page that reloads, or a telephone that
        loses its connection for a moment, is not gone.
    """

    def __init__(self, capacity: int = 8, grace: float = 10.0) -> None:
        self.capacity, self.grace = capacity, grace
        self._waiting: list[Job] = []
        self._running: Job | None = None
        self._changed = threading.Condition(threading.RLock())
        self._worker: threading.Thread | None = None

    def submit(
        self, session: str, work: Work[State, Result], alive: Callable[[], bool] = lambda: True
    ) -> Job[State, Result]:
        """Queue a job, in place of the one that the session has.

        Parameters
        ----------
        session : who asks. A session has one job at a time: an earlier one is cancelled.
        work : see `Work`.
        alive : says whether the session is still there; called from any thread.

        Raises
        ------
        QueueFull : if `capacity` jobs wait already.
        """
        job = Job(self, session, work, alive)
        with self._changed:
            for earlier in self._jobs():
                if earlier.session == session:
                    earlier.cancel()
            self.drop_abandoned()
            if len(self._waiting) >= self.capacity:
                raise QueueFull(f"{self.capacity} runs are waiting already: try again in a minute")
            self._waiting.append(job)
            if self._worker is None:
                self._worker = threading.Thread(target=self._serve, name="invlib-jobs", daemon=True)
                self._worker.start()
            self._changed.notify()
        return job

    def position(self, job: Job) -> int:
        """How many jobs are to end before `job` starts; 0 if it does not wait."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + (self._running is not None)

    def drop_abandoned(self) -> None:
        """Cancel the jobs whose sessions are gone; asked after every step, so that none waits behind a dead one."""
        with self._changed:
            for job in self._jobs():
                if job.abandoned(self.grace):
                    job.cancel()

    def drop_cancelled(self) -> None:
        """Take the jobs that were cancelled out of the queue."""
        with self._changed:
            dropped = [job for job in self._waiting if job.cancelling]
            self._waiting = [job for job in self._waiting if job not in dropped]
            for job in dropped:
                job.end(Status.CANCELLED)

    def _jobs(self) -> list[Job]:
        return [job for job in [self._running, *self._waiting] if job is not None]

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while not self._waiting:
                    self._changed.wait()
                self._running = job = self._waiting.pop(0)
            job.run()
            # Between jobs the worker holds on to nothing of the last one, which may be large.
            del job
