"""The server for a long time, under many visitors, and with files that are made to stop it."""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from invlib import Client, ServerError, examples, images, runs
from invlib.images import Picture
from invlib.jobs import Job, JobQueue, Status
from tests import bombs
from tests.browser.conftest import serve
from tests.load.amounts import JOBS, MINUTES, VISITORS, report
from tests.patience import PATIENCE

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


def run_of(side: int, evaluations: int, samples: int) -> tuple[runs.Json, bytes]:
    """The JSON of a run of a stranger's picture, and that picture's file."""
    file = images.encode_png(images.to_uint8(examples.example("coffee", side=side)))
    problem = runs.pose("super-resolution", Picture("mine.png", images.load_image(file), "mine"), {"factor": 4})
    settings = runs.settings(problem, "fast", {"evaluations": evaluations}, samples=samples)
    return problem.parameters | settings.parameters, file


def resident(process: int) -> int:
    """Bytes of memory that a process and all that it has started take; those that have ended take none."""
    try:
        status = Path(f"/proc/{process}/smaps_rollup").read_text()
        children = Path(f"/proc/{process}/task").glob("*/children")
        started = [int(child) for each in children for child in each.read_text().split()]
    except OSError:
        return 0
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Pss:"))
    return 1024 * own + sum(map(resident, started))


@contextmanager
def watched(process: int) -> Iterator[list[int]]:
    """The memory of a process from time to time, while something happens."""
    seen, over = [resident(process)], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.append(resident(process))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a server, and its process."""
    before = own_children()
    with serve(tmp_path_factory.mktemp("server") / "log.txt") as address:
        (process,) = own_children() - before
        yield address, process


def own_children() -> set[int]:
    return {int(child) for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()}


# --- In this process --------------------------------------------------------------------------------------------------


def longest() -> Callable[[], Generator[Any, None, Any]]:
    """A run that takes far longer than the test, whose steps are as long as those of the largest picture of pages."""
    problem = runs.pose("super-resolution", examples.picture("coffee", side=256), {"factor": 4})
    return partial(runs.solve, problem, runs.settings(problem, "fast", {"evaluations": 200}, samples=8))


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that no event tells."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


@pytest.fixture
def queue_with_the_longest() -> Iterator[tuple[JobQueue, Job]]:
    queue = JobQueue()
    job = queue.submit("long", longest(), visitor="a")
    until(lambda: job.clock() > 0.2 and job.status is Status.RUNNING)
    yield queue, job
    job.cancel()
    assert job.wait(PATIENCE)


def test_a_short_job_behind_the_longest(queue_with_the_longest: tuple[JobQueue, Job]) -> None:
    queue, _ = queue_with_the_longest
    started, problem = time.monotonic(), runs.pose("super-resolution", examples.picture("coffee", side=32), {})
    short = queue.submit("short", partial(runs.solve, problem, runs.settings(problem, samples=1)), visitor="b")
    until(lambda: short.status is not Status.WAITING)
    seconds = time.monotonic() - started
    report(f"A short job behind the longest starts within {seconds:.2f} s")
    assert seconds <= max(3.0, PATIENCE / 40)
    assert short.wait(PATIENCE)
    assert short.status is Status.DONE


def test_stop_frees_the_slot(queue_with_the_longest: tuple[JobQueue, Job]) -> None:
    _, job = queue_with_the_longest
    started = time.monotonic()
    job.cancel()
    assert job.wait(PATIENCE)
    seconds = time.monotonic() - started
    report(f"Stop frees the slot of the longest job within {seconds:.2f} s")
    assert seconds <= max(1.5, PATIENCE / 80)


# --- A server ---------------------------------------------------------------------------------------------------------


@LINUX
@pytest.mark.load
def test_memory_after_many_jobs(server: tuple[str, int]) -> None:
    address, process = server
    (parameters, file), memory = run_of(32, 2, 1), []
    for _ in range(JOBS):
        Client(address).run(parameters, file)
        memory.append(resident(process))
    report(f"Memory after 20 jobs is {memory[19] / 1e6:.0f} MB, and after {JOBS} {memory[-1] / 1e6:.0f} MB")
    assert memory[-1] <= 1.1 * memory[19]


BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG of scans": lambda: bombs.empty_scans(7_000, 1_000),
    "JPEG of segments": lambda: bombs.empty_segments(4_900_000),
    "PNG of chunks": lambda: bombs.png(8, 8, bombs.chunk(b"abCd", b"") * 1_600_000, rows=bytes(72)),
    "PNG of 40 megapixels": lambda: bombs.encoded(np.zeros((6_300, 6_300, 3), np.uint8), "PNG"),
    "PNG of 900 megapixels": lambda: bombs.png(30_000, 30_000),
    "PPM of comments": lambda: bombs.comment_lines(1_000_000),
    "GIF of blocks": lambda: bombs.empty_blocks(6_000_000),
    "TIFF of pages": lambda: bombs.many_pages(100_000),
}


@LINUX
@pytest.mark.load
def test_bombs_one_by_one_and_four_at_once(server: tuple[str, int]) -> None:
    address, process = server
    parameters = run_of(32, 2, 1)[0]
    files = {name: make() for name, make in BOMBS.items()}

    def send(name: str) -> tuple[float, str]:
        started = time.monotonic()
        with pytest.raises(ServerError) as refused:
            Client(address).run(parameters, files[name])
        return time.monotonic() - started, str(refused.value)

    with watched(process) as memory, ThreadPoolExecutor(4) as threads:
        answers = dict(zip(files, map(send, files), strict=True))
        sent, pages = [threads.submit(send, name) for name in files], list[float]()
        while not all(each.done() for each in sent):
            pages.append(opened(address))
            threading.Event().wait(0.2)
        at_once = [each.result() for each in sent]
    slowest = max(answers.values()), max(at_once)
    report(f"The slowest bomb is refused in {slowest[0][0]:.1f} s, and in {slowest[1][0]:.1f} s of four at once")
    report(f"Peak memory is {max(memory) / 1e6:.0f} MB; the page is served meanwhile in {max(pages):.2f} s")
    assert max(slowest)[0] <= 10
    assert max(pages) <= 2
    assert all("picture" in sentence for _, sentence in [*answers.values(), *at_once]), answers
    assert max(memory) <= 2e9


def opened(address: str) -> float:
    """How many seconds the server takes to answer with the page."""
    started = time.monotonic()
    with urllib.request.urlopen(f"{address}/super_resolution", timeout=PATIENCE) as answer:
        assert answer.status == 200
        answer.read()
    return time.monotonic() - started


@pytest.mark.load
def test_many_visitors(server: tuple[str, int]) -> None:
    """Each asks for runs with other settings, looks how far they are, and opens pages."""
    address, _ = server
    end, outcomes, reactions = time.monotonic() + 60 * MINUTES, Counter[str](), list[float]()

    def ask(path: str, body: bytes | None = None, headers: Mapping[str, str] = {}) -> runs.Json:
        started = time.monotonic()
        try:
            return Client(address)._ask(path, body, headers)
        finally:
            reactions.append(time.monotonic() - started)

    def visit(number: int) -> None:
        here = {"X-Forwarded-For": f"203.0.113.{number}"}
        turn = 0
        while time.monotonic() < end:
            turn += 1
            parameters, file = run_of(32 + 32 * (number % 3), 2 + (number + turn) % 9, 1 + turn % 4)
            body = form({"run": json.dumps(parameters).encode(), "picture": file})
            try:
                answer = ask("/api/run?wait=0", body, {**here, "Content-Type": "multipart/form-data; boundary=b"})
                until_ended = time.monotonic() + PATIENCE
                while answer["status"] in ("waiting", "running") and time.monotonic() < until_ended:
                    opened(address)
                    threading.Event().wait(0.7)  # as a page does
                    answer = ask(f"/api/jobs/{answer['job']}", headers=here)
                outcomes[answer["status"]] += 1
            except ServerError as refused:
                outcomes["refused" if "waiting" in str(refused) or "runs" in str(refused) else str(refused)] += 1
                threading.Event().wait(2.0)

    with ThreadPoolExecutor(VISITORS) as threads:
        list(threads.map(visit, range(VISITORS)))
    median = statistics.median(reactions)
    report(f"{VISITORS} visitors for {MINUTES:g} minutes: {dict(outcomes)}, median reaction {median:.2f} s")
    assert set(outcomes) <= {"done", "refused"}
    assert outcomes["done"] > 0
    assert median <= 1.0


def form(parts: dict[str, bytes]) -> bytes:
    """The body of a form with the boundary b."""
    heads = {name: f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n' for name in parts}
    return b"".join(heads[name].encode() + content + b"\r\n" for name, content in parts.items()) + b"--b--\r\n"
