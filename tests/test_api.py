"""The interface for programs, without a browser: what it answers, and that it gives what the library gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.applications import Starlette

import api
from invlib import Client, ServerError, examples, images, runs
from invlib.images import Picture
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=api.ROUTES), port=0, log_level="error"))
    started = threading.Event()
    startup = server.startup

    async def tell(*arguments: Any, **keywords: Any) -> None:
        await startup(*arguments, **keywords)
        started.set()

    server.startup = tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(PATIENCE)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)


def quick(samples: int = 2, **knobs: Any) -> tuple[runs.Run, bytes]:
    """A run of a stranger's picture that takes a moment, and that picture's file."""
    pixels = images.to_uint8(examples.example("coffee", side=32))
    file = images.encode_png(pixels)
    problem = runs.pose(
        "super-resolution", Picture("mine.png", images.load_image(file), "mine"), {"factor": 4, **knobs}
    )
    settings = runs.settings(problem, "fast", {"evaluations": 2}, samples=samples)
    return runs.finish(runs.solve(problem, settings)), file


def test_a_run_is_made_again_with_the_same_pixels(address: str) -> None:
    run, file = quick()
    answer = Client(address).run(run.to_json(), file)
    assert [images.to_uint8(sample).tolist() for sample in answer.samples] == [each.tolist() for each in run.samples]
    np.testing.assert_array_equal(images.to_uint8(answer.mean), run.mean)
    assert answer.parameters["mean"] == run.to_json()["mean"]


def test_a_basis_that_takes_a_minute_is_refused(address: str) -> None:
    picture = examples.picture("camera", side=160)
    problem = runs.pose("compressive-sensing", picture, {"keep": 0.1})
    run = runs.finish(runs.solve(problem, runs.settings(problem, "least-squares"))).to_json()
    with pytest.raises(ServerError, match="more than 40 million entries: use structured rows"):
        Client(address).run({**run, "knobs": {**run["knobs"], "dense": True}})


def test_a_run_that_is_not_waited_for_is_asked_for_and_cancelled(address: str) -> None:
    run, file = quick()
    client = Client(address)
    body = b'--b\r\nContent-Disposition: form-data; name="run"\r\n\r\n' + json.dumps(run.to_json()).encode()
    body += (
        b'\r\n--b\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n' + file + b"\r\n--b--\r\n"
    )
    first = client._ask("/api/run?wait=0", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert first["status"] in ("waiting", "running", "done")
    last = client._ask(f"/api/jobs/{first['job']}?wait=30")
    assert last["status"] == "done"
    assert last["mean"].startswith(images.PNG_URL)


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ("nonsense", "not a JSON object"),
        ({"command": "restore", "more": "x" * api.LARGEST}, "larger than 2 MB"),
        ({"command": "delete"}, "not a command"),
        ({"command": "restore", "task": "teleport"}, "method"),
        ({"command": "restore", "task": "super-resolution", "method": "fast", "knobs": [], "samples": 1}, "knobs"),
    ],
)
def test_what_is_no_run_is_refused_in_a_sentence(address: str, run: Any, sentence: str) -> None:
    with pytest.raises(ServerError, match=sentence):
        Client(address).run(run)


def test_a_picture_that_is_not_that_of_the_run_is_refused(address: str) -> None:
    run, _ = quick()
    other = images.encode_png(np.zeros((32, 32, 3), np.uint8))
    with pytest.raises(ServerError, match="is not the picture of the run"):
        Client(address).run(run.to_json(), other)
    with pytest.raises(ServerError, match="picture"):
        Client(address).run(run.to_json(), b"not a picture")


def test_only_the_last_results_are_kept(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "KEPT", 1)
    run, file = quick()
    for _ in range(4):
        Client(address).run(run.to_json(), file)
    assert len(api.ASKED) == 2, "the last one, and the one before it"


def test_jobs_that_never_were_and_servers_that_are_not_there(address: str) -> None:
    with pytest.raises(ServerError, match="there is no job"):
        Client(address)._ask("/api/jobs/nobody")
    with pytest.raises(ServerError, match="is the server running"):
        Client("http://127.0.0.1:9").run({})


def test_the_description_names_every_route(address: str) -> None:
    described = Client(address)._ask("/api/openapi.json")
    ours = {route.path for route in api.ROUTES} - {"/api/openapi.json"}
    assert set(described["paths"]) == ours
