"""The stage: the picture, what was measured of it, and the answer, while it forms and when it is there.

`linear`, `sampling` and `structured` hold the words, tiles and curves that differ between the kinds of problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any

import streamlit as st

from invlib.engines import solve
from invlib.jobs import Job, Status
from invlib.problems.spec import Problem
from invlib.runs import Forming, Run, Settings, method_of, seconds_of
from invlib.solvers.methods import METHODS
from pages.ui import denoising, layout, linear, live, pixels, plots, sampling, structured
from pages.ui.live import Submission
from pages.ui.pixels import Tile

KINDS: dict[str, ModuleType] = {
    "denoise": denoising,
    "restore": linear,
    "sample": sampling,
    "remove-noise": structured,
}
"""The command that poses a kind of problem -> the module with its words, tiles and curve."""


@dataclass(frozen=True)
class Request:
    """What a page asks for.

    Attributes
    ----------
    problem, settings : what is to be solved, and how.
    words : says in a sentence what the measurements are.
    shown : the name of the picture of the measurements.
    tiles : further pictures of the measurements.
    compared : method -> its settings where methods are compared.
    instant : whether a run is so short that it starts by itself on every change.
    """

    problem: Problem
    settings: Settings
    words: str = ""
    shown: str = "Measured"
    tiles: tuple[Tile, ...] = ()
    compared: Mapping[str, Settings] = field(default_factory=dict)
    instant: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """The part of the run's JSON that is known before the run."""
        return self.problem.parameters | self.settings.parameters

    @property
    def key(self) -> str:
        """A name for the task that is unique among all pages."""
        return key_of(self.problem.command, self.problem.task)

    @property
    def kind(self) -> ModuleType:
        return KINDS[self.problem.command]


def key_of(command: str, task: str) -> str:
    """A name for a task that is unique among all pages, because two pages have compressive sensing."""
    return f"structured-noise {task}" if command == "remove-noise" else task


def run_button(request: Request, *, ready: bool = True) -> None:
    """Show the button that starts and stops a run, and a switch that starts one on every change."""
    work, seconds = partial(solve, request.problem, request.settings), seconds_of(request.problem, request.settings)
    live.button(request.key, "Run", ":material/play_arrow:", work, request, widget="run", ready=ready, seconds=seconds)
    every_change = request.instant or st.toggle(
        "Run on every change",
        key="live",
        help="Starts anew whenever you move something. With one sample of a small picture the answer follows at once.",
    )
    submission = live.last(request.key)
    asked = {} if submission is None else submission.request.parameters
    if every_change and ready and asked != request.parameters:
        live.submit(request.key, work, request, seconds, wait=request.instant)
    takes = "" if seconds is None else f"A run takes about {pixels.plural(max(1, round(seconds)), 'second')} here. "
    st.caption(f"{takes}The page's address holds these settings: copy it to share them.")


def show(request: Request, example: Run) -> Run:
    """Show the problem and its answer, and follow a run while there is one.

    Return the last finished run of the task, or `example` until the visitor has made one.
    """
    submission = live.last(request.key)
    if submission is not None and submission.job.result is not None:
        st.session_state[f"run {request.key}"] = submission.job.result
    run: Run = st.session_state.get(f"run {request.key}", example)
    live.watch(submission, draw, request, submission, run)
    return run


def draw(request: Request, submission: Submission | None, run: Run) -> None:
    """Draw the stage once. While a job is under way, its problem is shown, even if the knobs have changed since."""
    if submission is not None and submission.active:
        request = submission.request
    scene = compose(request, submission, run)
    st.markdown(request.kind.headline(request))
    pixels.show_tiles([*request.kind.posed(request), *request.tiles, *scene.tiles], request.problem.image_shape)
    if scene.error is not None:
        st.error(scene.error, icon=":material/error:")
    else:
        st.progress(scene.progress, text=scene.status)
    layout.breathe(0.3)
    st.session_state["arrived"] = True
    if (curve := request.kind.curve(request, scene.history, scene.done)) is not None:
        figure, alt = curve
        st.plotly_chart(figure, key=f"curve {request.key}", config=plots.CONFIG, alt=f"{alt} {scene.status}")


@dataclass(frozen=True)
class Scene:
    """What the stage shows of a run: the answer, a status line, and the history of its steps so far."""

    tiles: Sequence[Tile]
    status: str
    progress: float = 0.0
    history: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    error: str | None = None


def compose(request: Request, submission: Submission | None, run: Run) -> Scene:
    """The scene of a job that is under way or failed, else of the run if it answers the problem, else of nothing."""
    if submission is not None and submission.request.problem == request.problem:
        job = submission.job
        if submission.active or job.status in (Status.CANCELLED, Status.FAILED):
            state = job.latest or Forming()
            return Scene(
                tiles=answer(submission.request, state, "As it stood" if job.ended else "Forming"),
                status=status(job, submission.request),
                progress=min(1.0, job.progress),
                history=state.history,
                error=None if job.error is None else pixels.sentence(job.error),
            )
    if not run.answers(request.problem):
        return Scene(answer(request, Forming(), "The answer appears here"), "Press Run.")
    whose, done = "A saved run" if run.saved else "Your run", run.parameters
    seen = f" Its noise was estimated at {done['noise_estimate']:.3f}." if "noise_estimate" in done else ""
    changed = "" if run.used(request.settings) else " The settings have changed since: press Run."
    return Scene(
        tiles=request.kind.answer(request, run.samples, run.mean, run.noise, finished(run)),
        status=f"{whose}: {done['outcome']} ({done['seconds']:.1f} s).{seen}{changed}",
        progress=1.0,
        history=run.parameters["history"],
        done=True,
    )


def answer(request: Request, state: Forming, caption: str) -> Sequence[Tile]:
    """The tiles of the answer as it stands, or as many blanks before the first step."""
    if state.mean is not None:
        return request.kind.answer(request, state.pictures, state.mean, state.noise, caption)
    nothing = [pixels.blank(*request.problem.image_shape[1:])] * request.settings.samples
    tiles = request.kind.answer(request, nothing, nothing[0], None, caption)
    return [replace(tile, picture=None, alt="Nothing yet") for tile in tiles]


def finished(run: Run) -> str:
    """The caption of a finished answer."""
    count, drawn = len(run.samples), METHODS[run.parameters["command"]][run.parameters["method"]].draws
    what = f"Average of {count} samples" if count > 1 else "One sample" if drawn else "Restored"
    scores = run.parameters.get("mean") or run.parameters.get("result")
    return f"{what}, PSNR {scores['psnr']:.1f} dB" if scores else what


def status(job: Job[Forming, Run], request: Request) -> str:
    """Say in a sentence how far a job is."""
    state, unit = job.latest or Forming(), request.kind.UNIT
    count = len(state.history.get("evaluations", [])) if unit == "step" else state.evaluations
    if job.status is Status.CANCELLED:
        return f"Stopped after {count} {unit}s."
    if job.cancelling:
        return "Stopping."
    if job.status is Status.WAITING:
        return live.waiting(job)
    if not state.history or state.remaining is None:
        return "Loading the prior."
    length = method_of(request.problem, request.settings).length(request.settings.values)
    of = "" if length is None else f" of {length}"
    level = f", σ = {state.history['sigma'][-1]:.3f}" if "sigma" in state.history else ""
    return f"{unit.capitalize()} {count}{of}{level}, about {state.remaining / job.share:.0f} s left."
