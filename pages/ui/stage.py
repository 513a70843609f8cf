"""The stage: the picture, what was measured of it, and the answer, while it forms and when it is there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic

import numpy as np
import streamlit as st
from streamlit import runtime as server
from streamlit.runtime.scriptrunner import get_script_run_ctx

from invlib import runtime
from invlib.images import to_uint8
from invlib.jobs import Job, JobQueue, QueueFull, Result, State, Status, Work
from pages.ui import layout, pixels, plots
from pages.ui.runs import Forming, Problem, Run, Settings, Tile, solve

POLL = timedelta(seconds=0.7)

PATIENCE = 0.7
"""Seconds that Stop waits for a step to end before it says that it is stopping."""


@dataclass(frozen=True)
class Submission(Generic[State, Result]):
    """A job, and what it was asked to do; the knobs may have moved on since.

    Attributes
    ----------
    problem, settings : a `Problem` and `Settings` of `runs`, or whatever else has a `task` and `parameters`.
    """

    job: Job[State, Result]
    problem: Any
    settings: Any

    @property
    def active(self) -> bool:
        return not self.job.ended


@st.cache_resource
def queue() -> JobQueue:
    """The queue of this process, which has one device."""
    runtime.set_threads()
    return JobQueue()


def run_button(problem: Problem, settings: Settings, *, ready: bool = True) -> None:
    """Run, or Stop while a run is under way; and a switch to run on every change.

    Parameters
    ----------
    ready : whether there is anything to restore.
    """
    offer_run(problem, settings, solve(problem, settings), ready=ready)


def offer_run(problem: Any, settings: Any, work: Work[State, Result], *, ready: bool = True) -> None:
    """The same for any work; its problem and settings are as in `Submission`."""
    name = f"submission {problem.task}"
    submission: Submission[State, Result] | None = st.session_state.get(name)
    job = None if submission is None else submission.job
    started = button("Run", job, work, key="run", icon=":material/play_arrow:", ready=ready)
    live = st.toggle(
        "Run on every change",
        key="live",
        help="Starts anew whenever you move something. With one sample of a small picture the answer follows at once.",
    )
    asked = {} if submission is None else submission.problem.parameters | submission.settings.parameters
    if live and ready and started is None and asked != problem.parameters | settings.parameters:
        started = submit(work)
    if started is not None:
        st.session_state[name] = Submission(started, problem, settings)
        st.rerun()
    st.caption("The page's address holds these settings: copy it to share them.")


def button(
    label: str, job: Job[State, Result] | None, work: Work[State, Result], *, key: str, icon: str, ready: bool = True
) -> Job[State, Result] | None:
    """A button that starts work, or stops the job while it is under way.

    Returns
    -------
    The new job, if the visitor asked for one.
    """
    if job is not None and not job.ended:
        stopping = job.cancelling
        label = "Stopping" if stopping else "Stop"
        st.button(label, icon=":material/stop:", width="stretch", disabled=stopping, on_click=stop, args=[job])
        return None
    asked = st.button(label, icon=icon, type="primary", width="stretch", key=key, disabled=not ready)
    return submit(work) if asked else None


def stop(job: Job) -> None:
    """Cancel a job; it ends with its current step, mostly before the page is drawn again."""
    job.cancel()
    job.wait(PATIENCE)


def submit(work: Work[State, Result]) -> Job[State, Result] | None:
    """Queue work; None, and a sentence on the page, if too much waits already."""
    try:
        return queue().submit(session(), work, alive=presence())
    except QueueFull as refusal:
        st.error(pixels.sentence(refusal))
        return None


def session() -> str:
    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def presence() -> Callable[[], bool]:
    """A predicate that says whether this session's browser is still connected; a hidden tab is."""
    if not server.exists():
        return lambda: True
    instance, name = server.get_instance(), session()
    return lambda: instance.is_active_session(name)


def show(problem: Problem, settings: Settings, example: Run) -> Run:
    """Show the problem and its answer, and follow a run while there is one.

    Parameters
    ----------
    example : the run that is shown until the visitor has made one.

    Returns
    -------
    The last finished run of the task.
    """
    return follow(problem, settings, example, draw)


def follow(problem: Any, settings: Any, example: Result, draw: Callable[..., None]) -> Result:
    """The same for runs of any kind, of which `draw` draws one look."""
    submission: Submission[Any, Result] | None = st.session_state.get(f"submission {problem.task}")
    if submission is not None and submission.job.result is not None:
        st.session_state[f"run {problem.task}"] = submission.job.result
    run: Result = st.session_state.get(f"run {problem.task}", example)
    active = submission is not None and submission.active
    st.fragment(draw, run_every=POLL if active else None)(problem, settings, submission, run, active)
    return run


def draw(
    problem: Problem, settings: Settings, submission: Submission[Forming, Run] | None, run: Run, active: bool
) -> None:
    """One look at the run. What is shown while it forms is the job's problem, wherever the knobs are by now."""
    if submission is not None and active:
        if not submission.active:
            st.rerun()  # The whole page: the results change, and nobody needs to look again.
        problem, settings = submission.problem, submission.settings
    scene = compose(problem, settings, submission, run)
    if problem.operator is not None:
        count, total = problem.operator.measured, math.prod(problem.image_shape)
        st.markdown(f"**{group(count)} of {group(total)} numbers kept.** {problem.words}")
    else:
        st.markdown(problem.words)
    show_tiles([*posed(problem), *problem.tiles, *scene.tiles], problem.image_shape)
    if scene.error is not None:
        st.error(scene.error, icon=":material/error:")
    else:
        st.progress(scene.progress, text=scene.status)
    layout.breathe(0.3)
    st.session_state["arrived"] = True
    figure = plots.noise_levels(scene.evaluations, scene.sigma, scene.forecast, height=230)
    alt = f"The noise level falls with every evaluation. {scene.status}"
    st.plotly_chart(figure, key=f"noise levels {problem.task}", config=plots.CONFIG, alt=alt)


def posed(problem: Problem) -> list[Tile]:
    """The picture, if it is known, and what was measured of it."""
    tiles = []
    if problem.truth is not None:
        height, width = problem.image_shape[1:]
        caption, alt = f"Original, {width}×{height}", f"The original: {problem.description}"
        tiles.append(Tile(to_uint8(problem.truth), caption, alt))
    if (view := problem.view()) is not None:
        caption, alt = f"{problem.shown}, {view.shape[1]}×{view.shape[0]}", f"{problem.shown}: {problem.description}"
        tiles.append(Tile(view, caption, alt))
    return tiles


def show_tiles(tiles: Sequence[Tile], image_shape: Sequence[int]) -> None:
    """Pictures in one row if there are four or less, and in pairs on a telephone."""
    with st.grid(min(4, len(tiles)), min_column_width=140, gap="small"):
        for tile in tiles:
            picture = pixels.blank(*image_shape[1:]) if tile.picture is None else tile.picture
            pixels.figure(picture, caption=tile.caption, alt=tile.alt)


@dataclass(frozen=True)
class Scene:
    """What the stage shows of a run: the answer, a status line, and the noise level so far."""

    tiles: list[Tile]
    status: str
    progress: float = 0.0
    evaluations: Sequence[int] = field(default_factory=list)
    sigma: Sequence[float] = field(default_factory=list)
    forecast: Sequence[float] = field(default_factory=list)
    error: str | None = None


def compose(problem: Problem, settings: Settings, submission: Submission[Forming, Run] | None, run: Run) -> Scene:
    """The job that runs, or came to nothing; else the run that answers the problem; else a blank."""
    if submission is not None and submission.problem.parameters == problem.parameters:
        job = submission.job
        if submission.active or job.status in (Status.CANCELLED, Status.FAILED):
            return forming(job, submission)
    if not run.answers(problem):
        return Scene(blanks(problem, settings, "The answer appears here"), "Press Run.", forecast=settings.forecast())
    history = run.parameters["history"]
    whose = "A saved run" if run.saved else "Your run"
    changed = "" if run.used(settings) else " The settings have changed since: press Run."
    return Scene(
        tiles=answers(problem, run.samples, run.mean, finished(run)),
        status=f"{whose}: {run.parameters['outcome']} ({run.parameters['seconds']:.1f} s).{changed}",
        progress=1.0,
        evaluations=history["evaluations"],
        sigma=history["sigma"],
        forecast=np.repeat(history["predicted"], np.diff(history["evaluations"], prepend=0)).tolist(),
    )


def forming(job: Job[Forming, Run], submission: Submission[Forming, Run]) -> Scene:
    """A job that waits, runs, or ended without a result."""
    state = job.latest or Forming()
    problem, settings = submission.problem, submission.settings
    caption = "As it stood" if job.ended else "Forming"
    tiles = blanks(problem, settings, caption)
    if state.mean is not None:
        tiles = answers(problem, state.pictures, state.mean, caption)
    return Scene(
        tiles=tiles,
        status=status(job, settings),
        progress=min(1.0, job.progress),
        evaluations=[step.evaluations for step in state.history],
        sigma=[step.sigma for step in state.history],
        forecast=settings.forecast(),
        error=None if job.error is None else pixels.sentence(job.error),
    )


def answers(problem: Problem, samples: Sequence[np.ndarray], mean: np.ndarray, caption: str) -> list[Tile]:
    """The average of the samples; of pictures that have nothing in common, each."""
    if problem.operator is not None:
        return [Tile(mean, caption, f"Restored: {problem.description}")]
    names = places(len(samples)) if problem.knobs["interpolate"] else ordinals(len(samples))
    return [
        Tile(sample, name, f"{problem.description.capitalize()}: {name}")
        for name, sample in zip(names, samples, strict=True)
    ]


def ordinals(count: int) -> list[str]:
    return [f"Sample {number} of {count}" for number in range(1, count + 1)]


def places(count: int) -> list[str]:
    """How far along the way from one sample to another each of several is."""
    return ["Sample 1", *(f"{place / (count - 1):.0%} of the way" for place in range(1, count - 1)), "Sample 2"]


def blanks(problem: Problem, settings: Settings, caption: str) -> list[Tile]:
    """As many tiles as the answer will have."""
    count = settings.samples if problem.operator is None else 1
    return [Tile(None, caption, "Nothing yet")] * count


def finished(run: Run) -> str:
    """The answer's caption."""
    count = len(run.samples)
    score = f", PSNR {run.parameters['mean']['psnr']:.1f} dB" if "mean" in run.parameters else ""
    return f"{f'Average of {count} samples' if count > 1 else 'One sample'}{score}"


def status(job: Job[Forming, Run], settings: Settings) -> str:
    """Where a job is, in a sentence."""
    state = job.latest or Forming()
    count = state.history[-1].evaluations if state.history else 0
    if job.status is Status.CANCELLED:
        return f"Stopped after {count} evaluations."
    if job.cancelling:
        return "Stopping at the end of this evaluation."
    if job.status is Status.WAITING:
        return waiting(job)
    if not state.history or state.remaining is None:
        return "Loading the prior."
    of = f" of {len(settings.forecast())}" if settings.sampler == "fast" else ""
    return f"Evaluation {count}{of}, σ = {state.history[-1].sigma:.3f}, about {state.remaining:.0f} s left."


def waiting(job: Job) -> str:
    """Where a job is in the queue."""
    if not job.position:
        return "Starting."
    return f"Waiting: {job.position} {'run is' if job.position == 1 else 'runs are'} ahead."


def group(number: int) -> str:
    """12288 -> "12 288"."""
    return f"{number:,}".replace(",", " ")
