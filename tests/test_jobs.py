"""Jobs are steered with events, so that nothing here depends on how fast a thread is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest

from invlib.jobs import Job, JobQueue, QueueFull, Status
from invlib.priors.checkpoints import CheckpointError
from tests.patience import PATIENCE


@dataclass
class State:
    progress: float


@dataclass
class Steered:
    """Work of `steps` steps that goes on only when it is told to."""

    steps: int = 2
    started: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self) -> Generator[State, None, str]:
        self.started.set()
        try:
            for step in range(1, self.steps + 1):
                self.arrived.release()
                assert self.go.acquire(timeout=PATIENCE)
                yield State(step / self.steps)
            self.arrived.release()
            assert self.go.acquire(timeout=PATIENCE)
            return "finished"
        finally:
            self.closed.set()

    def advance(self) -> None:
        """Let it take a step and wait until it stands before the next one."""
        self.go.release()
        assert self.arrived.acquire(timeout=PATIENCE)

    def start(self) -> None:
        assert self.arrived.acquire(timeout=PATIENCE)

    def finish(self) -> None:
        for _ in range(self.steps + 1):
            self.go.release()


def instantly(result: object = None) -> Callable[..., Generator[State, None, object]]:
    def work() -> Generator[State, None, object]:
        yield State(0.5)
        return result

    return work


def failing(error: BaseException) -> Callable[..., Generator[State, None, None]]:
    def work() -> Generator[State, None, None]:
        yield State(0.5)
        raise error

    return work


def ended(job: Job) -> Status:
    assert job.wait(PATIENCE), "the job did not end"
    return job.status


def test_a_job_shows_its_progress_and_ends_with_its_result() -> None:
    work = Steered(steps=4)
    job = JobQueue().submit("a", work)
    work.start()
    assert (job.status, job.progress, job.latest, job.result) == (Status.RUNNING, 0.0, None, None)
    work.advance()
    assert job.progress == 0.25
    work.advance()
    assert job.latest == State(0.5)
    work.finish()
    assert ended(job) is Status.DONE
    assert (job.result, job.progress, job.error) == ("finished", 1.0, None)


def test_jobs_run_one_at_a_time_in_the_order_they_came() -> None:
    queue = JobQueue()
    works = [Steered() for _ in range(3)]
    jobs = [queue.submit(str(index), work) for index, work in enumerate(works)]
    works[0].start()
    assert [job.position for job in jobs] == [0, 1, 2]
    assert [job.status for job in jobs] == [Status.RUNNING, Status.WAITING, Status.WAITING]
    works[0].finish()
    works[1].start()
    assert jobs[0].status is Status.DONE
    assert not works[2].started.is_set()
    assert [job.position for job in jobs] == [0, 0, 1]
    for work, job in zip(works[1:], jobs[1:], strict=True):
        work.finish()
        assert ended(job) is Status.DONE


def test_a_waiting_job_is_cancelled_at_once_and_never_starts() -> None:
    queue = JobQueue()
    first, second, third = Steered(), Steered(), Steered()
    jobs = [queue.submit(name, work) for name, work in zip("abc", (first, second, third), strict=True)]
    first.start()
    jobs[1].cancel()
    assert jobs[1].status is Status.CANCELLED
    assert jobs[2].position == 1
    first.finish()
    third.start()
    assert not second.started.is_set()
    third.finish()
    assert ended(jobs[2]) is Status.DONE


def test_a_running_job_is_cancelled_at_its_next_step() -> None:
    work = Steered(steps=100)
    job = JobQueue().submit("a", work)
    work.start()
    work.advance()
    job.cancel()
    assert job.cancelling
    work.go.release()
    assert ended(job) is Status.CANCELLED
    assert work.closed.is_set(), "the generator was not closed"
    assert job.latest == State(0.02), "the step it was in was lost, or it went on"
    assert not job.cancelling
    assert job.result is None


def test_cancelling_a_job_that_has_ended_changes_nothing() -> None:
    job = JobQueue().submit("a", instantly("kept"))
    assert ended(job) is Status.DONE
    job.cancel()
    assert (job.status, job.result, job.cancelling) == (Status.DONE, "kept", False)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("factor must divide both sides"), "factor must divide both sides"),
        (CheckpointError("there is no checkpoint named 'x'"), "there is no checkpoint named 'x'"),
        (MemoryError(), "use a smaller picture or fewer samples"),
        (KeyError("surprise"), "failed unexpectedly (KeyError)"),
    ],
)
def test_a_failing_job_keeps_a_sentence_and_the_worker_lives_on(error: Exception, sentence: str) -> None:
    queue = JobQueue()
    job = queue.submit("a", failing(error))
    assert ended(job) is Status.FAILED
    assert job.error is not None
    assert sentence in job.error
    assert "\n" not in job.error
    assert ended(queue.submit("b", instantly())) is Status.DONE


def test_a_full_queue_refuses_with_a_sentence_and_takes_jobs_again() -> None:
    queue = JobQueue(capacity=1)
    running = Steered()
    first = queue.submit("a", running)
    running.start()
    waiting = queue.submit("b", instantly())
    with pytest.raises(QueueFull, match="try again"):
        queue.submit("c", instantly())
    waiting.cancel()
    third = queue.submit("c", instantly())
    running.finish()
    assert (ended(first), ended(third)) == (Status.DONE, Status.DONE)


def test_a_session_has_one_job_and_the_second_replaces_the_first() -> None:
    queue = JobQueue(capacity=1)
    running, other = Steered(), Steered()
    jobs = [queue.submit("a", running)]
    running.start()
    jobs.append(queue.submit("b", other))
    jobs.append(queue.submit("b", other))  # the queue has room for one: b's earlier job made it
    assert jobs[1].status is Status.CANCELLED
    jobs.append(queue.submit("b", instantly("replaced")))
    running.finish()
    assert ended(jobs[3]) is Status.DONE
    assert not other.started.is_set()

    work = Steered()
    first = queue.submit("c", work)
    work.start()
    second = queue.submit("c", instantly())
    assert first.cancelling
    work.finish()
    assert (ended(first), ended(second)) == (Status.CANCELLED, Status.DONE)


def test_the_job_of_a_session_that_is_gone_is_cancelled() -> None:
    queue = JobQueue(grace=0.0)
    here = threading.Event()
    here.set()
    work = Steered(steps=100)
    running = queue.submit("a", work, alive=here.is_set)
    waiting = queue.submit("a dead one", Steered(), alive=here.is_set)
    work.start()
    work.advance()
    assert (running.status, waiting.status) == (Status.RUNNING, Status.WAITING)
    here.clear()
    work.go.release()
    assert ended(running) is Status.CANCELLED
    assert ended(waiting) is Status.CANCELLED
    assert ended(queue.submit("b", instantly())) is Status.DONE


def test_a_job_whose_session_is_gone_makes_room_in_a_full_queue() -> None:
    queue = JobQueue(capacity=1, grace=0.0)
    here = threading.Event()
    here.set()
    running = Steered()
    queue.submit("a", running)
    running.start()
    dead = queue.submit("a dead one", Steered(), alive=here.is_set)
    here.clear()
    job = queue.submit("b", instantly())
    assert dead.status is Status.CANCELLED
    running.finish()
    assert ended(job) is Status.DONE


def test_a_session_that_is_gone_for_a_moment_keeps_its_job() -> None:
    queue = JobQueue(grace=3600.0)
    work = Steered()
    job = queue.submit("a", work, alive=lambda: False)
    work.finish()
    assert ended(job) is Status.DONE


def test_many_sessions_at_once() -> None:
    queue = JobQueue(capacity=100)
    jobs: list[Job] = []
    lock = threading.Lock()

    def visit(session: int) -> None:
        for _ in range(20):
            job = queue.submit(str(session), instantly())
            with lock:
                jobs.append(job)

    visitors = [threading.Thread(target=visit, args=(session,)) for session in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(PATIENCE)
    assert len(jobs) == 160
    assert {ended(job) for job in jobs} <= {Status.DONE, Status.CANCELLED}
    assert [job.position for job in jobs] == [0] * len(jobs)
    # Nobody replaced the last job of a session, so it was done.
    latest = {job.session: job for job in jobs}
    assert {job.status for job in latest.values()} == {Status.DONE}
