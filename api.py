"""The interface for programs: the server runs the JSON of a run, in the same queue and within the same limits as pages.

    curl -F run=@run.json -F picture=@photo.jpg http://localhost:8501/api/run

`invlib.Client` does the same from Python, and /api/openapi.json describes it.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from invlib import decoding, images, runs
from invlib.jobs import Job, QueueFull, Refused, Status
from invlib.problems.operators import DenseRows
from invlib.problems.spec import Problem
from invlib.runs import Json, Run, Settings
from pages.ui import live, stage

Result = TypeVar("Result")

WAIT = 30.0
"""For how many seconds a request waits for its run at most, before it is answered with a job to ask for."""

LARGEST = 2_000_000
"""The largest JSON of a run, in bytes. It may hold a mask or a drawing."""

LOOK = 0.05
"""Seconds after which a request that waits for its run looks at it again."""

FORGET = 300.0
"""Seconds after which a job that nobody asks for is cancelled, and its result forgotten."""

KEPT = 16
"""How many results are kept, the last ones: each holds all pictures of its run."""


DenseRows.largest = 40_000_000  # What pages make at most: a larger basis takes longer than a request should.


class Asked:
    """A job of a program, and when it was last asked for."""

    def __init__(self) -> None:
        self.job: Job[Any, Run] | None = None
        self.at = time.monotonic()

    def alive(self) -> bool:
        return time.monotonic() - self.at < FORGET


READERS = anyio.CapacityLimiter(4)
"""How many requests are read at once, each in a thread. The server needs the other threads for pages."""

ASKED: dict[str, Asked] = {}
"""The jobs of programs, by the names that they are asked for with."""


async def run(request: Request) -> JSONResponse:
    """`POST /api/run`: start a run, and answer with its result, or with a job if that takes longer than `wait`."""
    try:
        wait = seconds(request, WAIT)
        async with request.form(max_files=2, max_fields=2, max_part_size=1_000_000) as form:
            parameters = json.loads(await content(form.get("run"), "run"))
            given = form.get("picture")
            name = getattr(given, "filename", None) or "picture"
            picture = None if given is None else await content(given, "picture")
        known = None if picture is None else await read(images.load_strangers, picture, name)
        problem, settings = await read(runs.read, parameters, known)
        name = start(problem, settings, live.address(request.headers, request.client and request.client.host) or "")
    except QueueFull as error:
        return refusal(429, str(error))
    except (Refused, ValueError, TypeError, RecursionError) as error:
        return refusal(400, str(error))
    return await answer(name, ASKED[name], wait)


async def job(request: Request) -> JSONResponse:
    """`GET /api/jobs/NAME`: how far a run is, or its result, after at most `wait` seconds. `DELETE` cancels it."""
    name = request.path_params["name"]
    asked = ASKED.get(name)
    if asked is None:
        return refusal(404, f"there is no job {name}: its result was forgotten, or it never was")
    asked.at = time.monotonic()
    if request.method == "DELETE" and asked.job is not None:
        asked.job.cancel()
    try:
        return await answer(name, asked, seconds(request, 0.0))
    except ValueError as error:
        return refusal(400, str(error))


async def describe(request: Request) -> JSONResponse:
    """`GET /api/openapi.json`: what there is to ask for."""
    return JSONResponse(OPENAPI)


def seconds(request: Request, default: float) -> float:
    """How long a request is to wait; ValueError if that is not a number."""
    given = request.query_params.get("wait", str(default))
    try:
        return min(WAIT, max(0.0, float(given)))
    except ValueError as error:
        raise ValueError(f"wait must be a number of seconds, got {given!r}") from error


async def content(part: Any, name: str) -> bytes:
    """The bytes of a part of a form; ValueError if it is missing or too large."""
    if part is None:
        raise ValueError(f"the form lacks {name}: send the JSON of a run as run, and its picture as picture")
    if not isinstance(part, UploadFile):
        return str(part).encode()
    most = decoding.STRANGERS.size if name == "picture" else LARGEST
    found = bytes(await part.read(most + 1))
    if len(found) > most:
        raise ValueError(f"{name} is larger than {most / 1e6:g} MB: send a smaller file")
    return found


def start(problem: Problem, settings: Settings, visitor: str) -> str:
    """Queue a run, and return the name of its job. `Refused` is raised as in `JobQueue.submit`."""
    ended = [name for name, asked in ASKED.items() if asked.job is not None and asked.job.ended]
    for name in {*ended[:-KEPT], *(name for name, asked in ASKED.items() if not asked.alive())}:
        del ASKED[name]
    name, asked = secrets.token_urlsafe(16), Asked()
    work, seconds = partial(stage.solve, problem, settings), stage.seconds_of(problem, settings)
    asked.job = live.queue().submit(name, work, asked.alive, visitor=visitor or name, seconds=seconds)
    ASKED[name] = asked
    return name


async def read(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in one of a few threads."""
    return await anyio.to_thread.run_sync(function, *arguments, limiter=READERS)


async def answer(name: str, asked: Asked, wait: float) -> JSONResponse:
    """What is known of a job when it has ended, or after `wait` seconds: with 200, 422 if it failed, 202 before."""
    job, end = asked.job, time.monotonic() + wait
    assert job is not None
    while not job.ended and time.monotonic() < end:
        await anyio.sleep(LOOK)  # A thread that waited for it would be missed by the pages.
    state = {"job": name, "status": str(job.status), "progress": round(job.progress, 4)}
    if job.status is Status.FAILED:
        return JSONResponse({**state, "error": job.error}, 422)
    if job.status is not Status.DONE or job.result is None:
        return JSONResponse({**state, "ahead": job.position}, 200 if job.ended else 202)
    result = job.result
    samples = [images.encode_data_url(sample) for sample in result.samples]
    return JSONResponse(
        {**state, "run": result.to_json(), "mean": images.encode_data_url(result.mean), "samples": samples}
    )


def refusal(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence or "the request cannot be read"}, status)


ROUTES = [
    Route("/api/run", run, methods=["POST"]),
    Route("/api/jobs/{name}", job, methods=["GET", "DELETE"]),
    Route("/api/openapi.json", describe),
]

ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "a sentence that says what to do"}},
}
PNG = {"type": "string", "description": "a PNG file as a data URL"}
ANSWER = {
    "type": "object",
    "required": ["job", "status", "progress"],
    "properties": {
        "job": {"type": "string", "description": "the name to ask for it with"},
        "status": {"enum": [str(status) for status in Status]},
        "progress": {"type": "number", "minimum": 0, "maximum": 1},
        "ahead": {"type": "integer", "description": "how many jobs are to end before this one starts"},
        "run": {"type": "object", "description": "the JSON of the run, with its scores, once it is done"},
        "mean": {**PNG, "description": "the average of the samples"},
        "samples": {"type": "array", "items": PNG},
        "error": ERROR["properties"]["error"],
    },
}


def response(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


ANSWERS = {
    "200": response("It has ended: the result, unless it was cancelled.", ANSWER),
    "202": response("It waits or runs: ask for the job.", ANSWER),
    "422": response("It failed.", ANSWER),
}
NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
FORM = {
    "type": "object",
    "required": ["run"],
    "properties": {
        "run": {"type": "string", "description": "the JSON of a run, as `invlib restore --json` and pages give it"},
        "picture": {"type": "string", "format": "binary", "description": "its picture, unless it is an example"},
    },
}
OPENAPI: Json = {
    "openapi": "3.1.0",
    "info": {"title": "Inverse problems with a denoiser", "version": "1", "description": __doc__},
    "paths": {
        "/api/run": {
            "post": {
                "summary": "Make a run again",
                "parameters": [
                    {
                        "name": "wait",
                        "in": "query",
                        "description": "seconds to wait for the result before the job is answered instead",
                        "schema": {"type": "number", "minimum": 0, "maximum": WAIT, "default": WAIT},
                    }
                ],
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}},
                "responses": {
                    **ANSWERS,
                    "400": response("The request is not that of a run.", ERROR),
                    "429": response("Too many runs wait.", ERROR),
                },
            }
        },
        "/api/jobs/{name}": {
            "get": {
                "summary": "How far a run is, or its result",
                "parameters": [NAME],
                "responses": {**ANSWERS, "404": response("There is no such job.", ERROR)},
            },
            "delete": {
                "summary": "Cancel a run",
                "parameters": [NAME],
                "responses": {**ANSWERS, "404": response("There is no such job.", ERROR)},
            },
        },
    },
}
