"""The stage: the picture, what was measured of it, and the answer, while it forms and when it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import streamlit as st
from streamlit import runtime as server
from streamlit.runtime.scriptrunner import get_script_run_ctx

from invlib import runtime
from invlib.images import to_uint8
from invlib.jobs import Job, JobQueue, QueueFull, Status
from pages.ui import pixels, plots
from pages.ui.runs import Forming, Problem, Run, Settings, solve

POLL = timedelta(seconds=0.5)


@dataclass(frozen=True)
class Submission:
    """A job, and what it was asked to do; the knobs may have moved on since."""

    job: Job[Forming, Run]
    problem: Problem
    settings: Settings

    @property
    def active(self) -> bool:
        return not self.job.ended


@st.cache_resource
def queue() -> JobQueue:
    """The queue of this process, which has one device."""
    runtime.set_threads()
    return JobQueue()


def run_button(problem: Problem, settings: Settings) -> None:
    """Run, or Stop while a run is under way."""
    submission: Submission | None = st.session_state.get(f"submission {problem.task}")
    if submission is not None and submission.active:
        stopping = submission.job.cancelling
        label = "Stopping" if stopping else "Stop"
        st.button(label, icon=":material/stop:", width="stretch", disabled=stopping, on_click=submission.job.cancel)
    elif st.button("Run", icon=":material/play_arrow:", type="primary", width="stretch", key="run"):
        try:
            job = queue().submit(session(), solve(problem, settings), alive=presence())
        except QueueFull as refusal:
            st.error(pixels.sentence(refusal))
        else:
            st.session_state[f"submission {problem.task}"] = Submission(job, problem, settings)
            st.rerun()


def session() -> str:
    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def presence() -> Callable[[], bool]:
    """A predicate that says whether this session's browser is still connected; a hidden tab is."""
    if not server.exists():
        return lambda: True
    instance, name = server.get_instance(), session()
    return lambda: instance.is_active_session(name)


def show(problem: Problem, settings: Settings, *, measured: str, example: Run) -> Run:
    """Show the problem and its answer, and follow a run while there is one.

    Parameters
    ----------
    measured : what the measurements are, in a sentence.
    example : the run that is shown until the visitor has made one.

    Returns
    -------
    The last finished run.
    """
    submission: Submission | None = st.session_state.get(f"submission {problem.task}")
    if submission is not None and submission.job.result is not None:
        st.session_state[f"run {problem.task}"] = submission.job.result
    run: Run = st.session_state.get(f"run {problem.task}", example)
    active = submission is not None and submission.active
    follow = st.fragment(draw, run_every=POLL if active else None)
    follow(problem, settings, measured, submission, run, active)
    return run


def draw(
    problem: Problem, settings: Settings, measured: str, submission: Submission | None, run: Run, active: bool
) -> None:
    """One look at the run. What is shown while it forms is the job's problem, wherever the knobs are by now."""
    if submission is not None:
        if active and not submission.active:
            st.rerun()  # The whole page: the results change, and nobody needs to look again.
        if active:
            problem, settings = submission.problem, submission.settings
    scene = compose(problem, settings, submission, run)

    kept, all_numbers = problem.operator.measured, int(np.prod(problem.operator.image_shape))
    st.markdown(f"**{group(kept)} of {group(all_numbers)} numbers kept.** {measured}")
    view = problem.view()
    height, width = problem.operator.image_shape[1:]
    tiles = [(view, f"Measured, {view.shape[1]}×{view.shape[0]}", f"What was measured: {problem.picture.description}")]
    if problem.truth is not None:
        truth = to_uint8(problem.truth)
        tiles.insert(0, (truth, f"Original, {width}×{height}", f"The original: {problem.picture.description}"))
    tiles.append(
        (scene.picture if scene.picture is not None else pixels.blank(height, width), scene.caption, scene.alt)
    )
    with st.grid(len(tiles), min_column_width=150, gap="small"):
        for picture, caption, alt in tiles:
            st.image(pixels.png(picture), caption=caption, alt=alt, width="stretch")

    if scene.error is not None:
        st.error(scene.error, icon=":material/error:")
    else:
        st.progress(scene.progress, text=scene.status)
    figure = plots.noise_levels(scene.evaluations, scene.sigma, scene.forecast, height=230)
    alt = f"The noise level falls with every evaluation. {scene.status}"
    st.plotly_chart(figure, key=f"noise levels {problem.task}", config=plots.CONFIG, alt=alt)


@dataclass(frozen=True)
class Scene:
    """What the stage shows of a run: the answer, a status line, and the noise level so far."""

    picture: np.ndarray | None
    caption: str
    alt: str
    status: str
    progress: float = 0.0
    evaluations: Sequence[int] = field(default_factory=list)
    sigma: Sequence[float] = field(default_factory=list)
    forecast: Sequence[float] = field(default_factory=list)
    error: str | None = None


def compose(problem: Problem, settings: Settings, submission: Submission | None, run: Run) -> Scene:
    """The job that runs, or came to nothing; else the run that answers the problem; else a blank."""
    if submission is not None and submission.problem.parameters == problem.parameters:
        job = submission.job
        if submission.active or job.status in (Status.CANCELLED, Status.FAILED):
            return forming(job, submission.settings)
    if not run.answers(problem):
        return Scene(
            picture=None,
            caption="The answer appears here",
            alt="Nothing yet",
            status="Press Run to restore the picture.",
            forecast=settings.forecast(),
        )
    history, count = run.parameters["history"], len(run.samples)
    score = f", PSNR {run.parameters['mean']['psnr']:.1f} dB" if "mean" in run.parameters else ""
    whose = "A saved run" if run.saved else "Your run"
    changed = "" if run.used(settings) else " The settings have changed since: press Run."
    return Scene(
        picture=run.mean,
        caption=f"{'Average of ' + str(count) + ' samples' if count > 1 else 'One sample'}{score}",
        alt=f"Restored: {problem.picture.description}",
        status=f"{whose}: {run.parameters['outcome']} ({run.parameters['seconds']:.1f} s).{changed}",
        progress=1.0,
        evaluations=history["evaluations"],
        sigma=history["sigma"],
        forecast=history["predicted"],
    )


def forming(job: Job[Forming, Run], settings: Settings) -> Scene:
    """A job that waits, runs, or ended without a result."""
    state = job.latest or Forming()
    steps = state.history
    count = steps[-1].evaluations if steps else 0
    return Scene(
        picture=state.picture,
        caption="Forming" if not job.ended else "As it stood",
        alt="The picture while it forms",
        status=status(job, settings, state, count),
        progress=min(1.0, job.progress),
        evaluations=[step.evaluations for step in steps],
        sigma=[step.sigma for step in steps],
        forecast=settings.forecast(),
        error=None if job.error is None else pixels.sentence(job.error),
    )


def status(job: Job[Forming, Run], settings: Settings, state: Forming, count: int) -> str:
    if job.status is Status.CANCELLED:
        return f"Stopped after {count} evaluations."
    if job.cancelling:
        return "Stopping at the end of this evaluation."
    if job.status is Status.WAITING:
        return f"Waiting: {job.position} {'run is' if job.position == 1 else 'runs are'} ahead."
    if not state.history or state.remaining is None:
        return "Loading the prior."
    of = f" of {len(settings.forecast())}" if settings.sampler == "fast" else ""
    return f"Evaluation {count}{of}, σ = {state.history[-1].sigma:.3f}, about {state.remaining:.0f} s left."


def group(number: int) -> str:
    """12288 -> "12 288"."""
    return f"{number:,}".replace(",", " ")
