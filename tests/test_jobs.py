"""Jobs are steered with events, so that nothing here depends on how fast a thread is."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch

from invlib import runtime
from invlib.jobs import LONGEST, NO_MEMORY, Job, JobQueue, QueueFull, Refused, Status
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


def test_jobs_that_wait_start_in_the_order_they_came() -> None:
    queue = JobQueue(at_once=1)
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
    queue = JobQueue(at_once=1)
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
        (SystemExit(1), "failed unexpectedly (SystemExit)"),
        (KeyboardInterrupt(), "failed unexpectedly (KeyboardInterrupt)"),
        (GeneratorExit(), "failed unexpectedly (GeneratorExit)"),
        (np._core._exceptions._ArrayMemoryError((2**50,), np.dtype("u1")), NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), NO_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), NO_MEMORY),
        (RuntimeError("shapes do not match"), "failed unexpectedly (RuntimeError)"),
        (MemoryError("not enough memory for one image"), "not enough memory for one image"),
        (ValueError("factor must divide both sides"), "factor must divide both sides"),
        (CheckpointError("there is no checkpoint named 'x'"), "there is no checkpoint named 'x'"),
        (MemoryError(), "use a smaller picture or fewer samples"),
        (KeyError("surprise"), "failed unexpectedly (KeyError)"),
    ],
)
def test_a_failing_job_keeps_a_sentence_and_the_worker_lives_on(error: BaseException, sentence: str) -> None:
    queue = JobQueue()
    job = queue.submit("a", failing(error))
    assert ended(job) is Status.FAILED
    assert job.error is not None
    assert sentence in job.error
    assert "\n" not in job.error
    assert ended(queue.submit("b", instantly())) is Status.DONE


def test_a_full_queue_refuses_with_a_sentence_and_takes_jobs_again() -> None:
    queue = JobQueue(capacity=1, at_once=1)
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
    queue = JobQueue(capacity=1, at_once=1)
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
    queue = JobQueue(grace=0.0, at_once=1, turn=0.0)
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
    queue = JobQueue(capacity=1, grace=0.0, at_once=1)
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


# Turns


def test_visitors_take_turns_and_then_the_jobs_of_each() -> None:
    queue, started, log = JobQueue(at_once=4, turn=0.0), set[str](), list[str]()

    def work(name: str) -> Generator[State, None, None]:
        started.add(name)
        while len(started) < 4:
            yield State(0.0)
        for _ in range(12):
            log.append(name)
            yield State(0.5)

    jobs = [queue.submit(name, partial(work, name), visitor=name[0]) for name in ("a1", "a2", "a3", "b1")]
    assert {ended(job) for job in jobs} == {Status.DONE}
    counts = Counter(log[:20])
    assert 9 <= counts["b1"] <= 11, "the visitor with three jobs had more than the one with one"
    assert all(2 <= counts[name] <= 5 for name in ("a1", "a2", "a3"))


@pytest.mark.parametrize("same", [False, True], ids=["another visitor", "the same visitor"])
def test_a_short_job_does_not_wait_for_a_long_one(same: bool) -> None:
    queue, stop = JobQueue(turn=0.0), threading.Event()

    def endless() -> Generator[State, None, None]:
        while not stop.is_set():
            yield State(0.1)

    long = queue.submit("long", endless, visitor="a")
    short = queue.submit("short", instantly("kept"), visitor="a" if same else "b")
    assert ended(short) is Status.DONE
    assert not long.ended
    long.cancel()
    assert ended(long) is Status.CANCELLED


def test_a_turn_may_end_in_the_middle_of_a_step() -> None:
    queue, short = JobQueue(turn=0.0), threading.Event()

    def one_long_step() -> Generator[State, None, str]:
        while not short.is_set():
            runtime.pause()
        yield State(1.0)
        return "finished"

    def at_last() -> Generator[State, None, None]:
        short.set()
        yield State(1.0)

    jobs = [queue.submit("a", one_long_step), queue.submit("b", at_last)]
    assert [ended(job) for job in jobs] == [Status.DONE, Status.DONE]


def test_who_comes_again_and_again_has_no_more_turns_than_others(monkeypatch: pytest.MonkeyPatch) -> None:
    now, log = [0.0], list[str]()
    monkeypatch.setattr("invlib.jobs.time.perf_counter", lambda: now[0])
    queue = JobQueue(at_once=5, turn=1.0)
    again, started = list[Job](), set[str]()

    def work(name: str, steps: int) -> Generator[State, None, None]:
        started.add(name)
        while len(started) < 3:
            now[0] += 1.0
            yield State(0.0)
        for _ in range(steps):
            now[0] += 0.9 if name == "again" else 1.0  # which has done its work in one turn
            log.append(name)
            if name != "again" and (not again or again[-1].ended):
                again.append(queue.submit("again", partial(work, "again", 1)))
                while again[-1] in queue._waiting:  # until a worker has it
                    threading.Event().wait(0.001)
            yield State(0.5)

    jobs = [queue.submit(name, partial(work, name, 40)) for name in "abc"]
    assert {ended(job) for job in jobs} == {Status.DONE}
    assert log.count("again") <= 45


@pytest.mark.parametrize("seed", range(3))
def test_only_one_job_computes_and_all_of_them_end(seed: int) -> None:
    drawn, computing = random.Random(seed), threading.Lock()
    queue = JobQueue(capacity=100, each=100, turn=0.0)

    def work(steps: int) -> Callable[[], Generator[State, None, None]]:
        def run() -> Generator[State, None, None]:
            for step in range(steps):
                assert computing.acquire(blocking=False), "two jobs computed at once"
                computing.release()
                runtime.pause()
                yield State(step / steps)

        return run

    jobs = [queue.submit(str(number), work(drawn.randrange(1, 9)), visitor=drawn.choice("abc")) for number in range(30)]
    for job in drawn.sample(jobs, 10):
        job.cancel()
    assert {ended(job) for job in jobs} <= {Status.DONE, Status.CANCELLED}
    assert sum(job.status is Status.DONE for job in jobs) >= 20


def test_seconds_are_those_of_the_own_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("invlib.jobs.time.perf_counter", lambda: now[0])
    queue, go = JobQueue(turn=1.0), threading.Event()
    seconds = {}

    def work(name: str, cost: float) -> Callable[[], Generator[State, None, None]]:
        def run() -> Generator[State, None, None]:
            assert go.wait(PATIENCE)
            started = runtime.clock()
            for _ in range(3):
                now[0] += cost
                yield State(0.5)
            seconds[name] = runtime.clock() - started

        return run

    jobs = [queue.submit("a", work("a", 2.0)), queue.submit("b", work("b", 5.0))]
    go.set()
    assert {ended(job) for job in jobs} == {Status.DONE}
    assert seconds == {"a": 6.0, "b": 15.0}


# Limits and waits


def test_a_visitor_may_have_a_few_jobs_and_a_session_one() -> None:
    queue, works = JobQueue(each=2), [Steered(), Steered(), Steered()]
    first, second = (queue.submit(f"tab {n}", work, visitor="a") for n, work in enumerate(works[:2]))
    with pytest.raises(QueueFull, match="2 runs under way already: stop one"):
        queue.submit("tab 2", works[2], visitor="a")
    other = queue.submit("tab 2", instantly(), visitor="b")
    again = queue.submit("tab 0", instantly(), visitor="a")
    works[0].finish()
    works[1].finish()
    assert [ended(job) for job in (first, second, other, again)] == [Status.CANCELLED, *[Status.DONE] * 3]
    assert ended(queue.submit("tab 2", instantly(), visitor="a")) is Status.DONE


def test_work_that_would_take_too_long_is_refused_and_what_runs_goes_on() -> None:
    queue, work = JobQueue(), Steered()
    job = queue.submit("a", work, seconds=LONGEST)
    with pytest.raises(Refused, match=r"about 2\.5 minutes here, and a run may take 2: lower the number of samples"):
        queue.submit("a", instantly(), seconds=1.25 * LONGEST)
    work.finish()
    assert ended(job) is Status.DONE


def test_the_wait_is_told_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("invlib.jobs.time.perf_counter", lambda: now[0])
    queue, works = JobQueue(at_once=2, turn=1000.0), [Steered(steps=4), Steered()]
    running = [
        queue.submit(name, work, seconds=seconds) for name, work, seconds in zip("ab", works, (8, 20), strict=True)
    ]
    works[0].start()
    waiting = [queue.submit(name, instantly(), seconds=seconds) for name, seconds in zip("cd", (5, None), strict=True)]
    assert [job.delay for job in running] == [0.0, 0.0]
    assert [job.delay for job in waiting] == [16.0, 26.0]  # c starts when a has had its 8 s, d when c has had its 5 s
    now[0] = 3.0
    works[0].advance()  # a quarter took 3 s, so 9 s are to go
    assert waiting[0].delay == 18.0
    assert queue.submit("e", instantly()).delay is None, "how long d will take is not known"
    works[0].finish()
    works[1].finish()
    assert {ended(job) for job in (*running, *waiting)} == {Status.DONE}


def test_visitors_share_the_device_evenly() -> None:
    queue, works = JobQueue(), [Steered() for _ in range(3)]
    jobs = [
        queue.submit(str(n), work, visitor=visitor) for n, (work, visitor) in enumerate(zip(works, "aab", strict=True))
    ]
    works[0].start()
    assert [job.share for job in jobs] == [0.25, 0.25, 0.5]
    for work in works:
        work.finish()
    assert {ended(job) for job in jobs} == {Status.DONE}


# What goes wrong


@pytest.mark.parametrize("error", [OSError("gone"), SystemExit()])
def test_who_cannot_be_told_to_be_there_is_gone_and_nobody_else_is(error: BaseException) -> None:
    def broken() -> bool:
        raise error

    queue, work = JobQueue(grace=0.0, turn=0.0), Steered()
    job = queue.submit("a", work)
    work.start()
    other = queue.submit("b", Steered(), alive=broken)
    work.finish()
    assert (ended(job), ended(other)) == (Status.DONE, Status.CANCELLED)


def layered() -> torch.nn.Module:
    return runtime.prepare(torch.nn.Sequential(*(torch.nn.Conv2d(1, 1, 3) for _ in range(3))), "cpu", torch.float32)


def evaluated(network: torch.nn.Module) -> None:
    network(torch.zeros(1, 1, 8, 8))


def differentiated(network: torch.nn.Module) -> None:
    x = torch.zeros(1, 1, 8, 8, requires_grad=True)
    torch.autograd.grad(network(x).sum(), x)


def batched(network: torch.nn.Module) -> None:
    evaluate = runtime.Batched(lambda images: images)
    evaluate.size = 1
    evaluate(torch.zeros(9, 1, 2, 2))


@pytest.mark.parametrize(("step", "least"), [(evaluated, 3), (differentiated, 6), (batched, 9)])
@pytest.mark.parametrize("when", [0, 1, 2, -1])
def test_a_job_is_cancelled_in_the_middle_of_a_step(
    step: Callable[[torch.nn.Module], None], least: int, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, pauses, before = layered(), [0], Job.pause

    def counted(job: Job) -> None:
        pauses[0] += 1
        before(job)

    def work() -> Generator[State, None, None]:
        yield State(0.5)
        pauses[0] = 0
        step(network)
        yield State(1.0)

    monkeypatch.setattr(Job, "pause", counted)
    assert ended(JobQueue().submit("a", work)) is Status.DONE
    most = pauses[0] - 1  # without that after the step
    assert most == least

    def cancelled(job: Job) -> None:
        if pauses[0] == when % most and job.latest is not None:
            job.cancel()
        counted(job)

    monkeypatch.setattr(Job, "pause", cancelled)
    job = JobQueue().submit("a", work)
    assert ended(job) is Status.CANCELLED
    assert job.latest == State(0.5), "what there was is kept"
    assert job.error is None


# What a job leaves behind


class Held:
    """Something that work holds on to."""


@pytest.mark.parametrize("end", [Status.DONE, Status.FAILED, Status.CANCELLED])
def test_a_job_that_has_ended_lets_go_of_its_work(end: Status) -> None:
    queue, held = JobQueue(), Held()
    gone = weakref.ref(held)

    go = threading.Event()

    def work(held: Held = held) -> Generator[State, None, None]:
        mine = held
        yield State(0.5)
        assert go.wait(PATIENCE)
        if end is Status.FAILED:
            raise ValueError(mine)
        runtime.pause()

    job = queue.submit("a", work)
    if end is Status.CANCELLED:
        job.cancel()
    go.set()
    assert ended(job) is end
    del held, work
    # A worker leaves a job in a moment after it has ended: by the end of the next one it has.
    assert ended(queue.submit("b", instantly())) is Status.DONE
    gc.collect()
    assert gone() is None


def test_many_jobs_leave_nothing_behind() -> None:
    queue, held = JobQueue(), weakref.WeakSet[Held]()

    def work() -> Generator[State, None, None]:
        mine = Held()
        held.add(mine)
        yield State(0.5)
        runtime.pause()

    before = threading.active_count()
    for number in range(300):
        assert ended(queue.submit(str(number), work)) is Status.DONE
    gc.collect()
    assert not held
    assert not queue._jobs()
    assert threading.active_count() - before <= queue.at_once
