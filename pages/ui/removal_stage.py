"""The stage of the page for structured noise: true picture, noisy one, restored one and noise, while they form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import streamlit as st

from invlib.images import to_uint8
from invlib.jobs import Job, Status
from pages.ui import layout, pixels, plots, stage
from pages.ui.removals import Case, Forming, Posed, Removal, Settings, frame_steps, pose, solve
from pages.ui.runs import Tile
from pages.ui.stage import Submission, group

WORDS = {
    "sinusoidal": "The noise rises and falls from row to row. How strong it is in each, the noise model knows.",
    "radial": "The noise is strong in the middle and fades outwards. How strong it is where, the noise model knows.",
    "digits": "The picture was dimmed to half, and handwritten digits were added to it, each in one of its three "
    "colours. The noise model is a flow that knows what digits look like, and where they lie, but not which they are.",
    "scribble": "The noise model knows where the pen was, and nothing about what is below.",
    "compressive-sensing": "Of {size} numbers, only {count} random sums were measured, with noise that rises and falls "
    "from one to the next.",
    "one-bit": "Of {size} numbers, {count} random sums were measured, of each only its sign, with noise that rises and "
    "falls from one to the next.",
}
SENSING = ("compressive-sensing", "one-bit")


def run_button(case: Case, settings: Settings) -> None:
    """Run, or Stop while a run is under way; and a switch to run on every change."""
    stage.offer_run(case, settings, solve(case, settings), ready=case.ready)


def show(case: Case, settings: Settings, example: Removal) -> Removal:
    """Show a case and its answer, and follow a run while there is one; the last finished run of the task.

    Parameters
    ----------
    example : the run that is shown until the visitor has made one.
    """
    return stage.follow(case, settings, example, draw)


def draw(
    case: Case, settings: Settings, submission: Submission[Forming, Removal] | None, run: Removal, active: bool
) -> None:
    """One look at the run. What is shown while it forms is the job's case, wherever the knobs are by now."""
    if submission is not None and active:
        if not submission.active:
            st.rerun()  # The whole page: the results change, and nobody needs to look again.
        case, settings = submission.problem, submission.settings
    posed = pose(case)
    scene = compose(case, settings, submission, run)
    st.markdown(words(case, posed))
    stage.show_tiles([*given(case), *scene.tiles], case.truth.shape[1:])
    if scene.error is not None:
        st.error(scene.error, icon=":material/error:")
    else:
        st.progress(scene.progress, text=scene.status)
    layout.breathe(0.3)
    st.session_state["arrived"] = True
    found, true = densities(scene.history, posed.count, case.truth.numel(), scene.steps)
    figure = plots.log_densities(found, true, scene.steps)
    alt = f"The log-densities of noise and picture rise towards those of the true ones. {scene.status}"
    st.plotly_chart(figure, key=f"log-densities {case.task}", config=plots.CONFIG, alt=alt)


def densities(
    history: Mapping[str, Any], numbers: int, size: int, steps: int
) -> tuple[dict[str, plots.Curve], dict[str, plots.Curve]]:
    """Log-densities in nats for every number, of the noise and of the picture: those found, and the true ones."""
    if not history:
        return {}, {}
    count = range(1, len(history["objective"]) + 1)
    noise, truth = history["truth"]["noise_log_prob"], history["truth"]["signal_log_prob"] / size
    found: dict[str, plots.Curve] = {
        "noise": (count, [value / numbers for value in history["noise_log_prob"]]),
        "picture": (count, [value / size for value in history["signal_log_prob"]]),
    }
    true: dict[str, plots.Curve] = {
        "noise": (frame_steps(steps)[: len(noise)], [value / numbers for value in noise]),
        "picture": ((1, steps), (truth, truth)),
    }
    return found, true


def words(case: Case, posed: Posed) -> str:
    """What was done to the picture, in a sentence or two."""
    if not case.ready:
        return "Nothing is drawn yet."
    about = WORDS[case.noise].format(count=group(posed.count), size=group(case.truth.numel()))
    return f"**{posed.scores['psnr']:.1f} dB before anything is done.** {about}"


def given(case: Case) -> list[Tile]:
    """The true picture, and what was measured of it."""
    posed = pose(case)
    height, width = case.truth.shape[2:]
    what = case.picture.description
    shown = "Back-projected" if case.noise in SENSING else "With noise"
    return [
        Tile(to_uint8(case.truth), f"Original, {width}×{height}", f"The original: {what}"),
        Tile(posed.view, f"{shown}, {posed.scores['psnr']:.1f} dB", f"{shown}: {what}"),
    ]


@dataclass(frozen=True)
class Scene:
    """What the stage shows of a run of some steps: the answer, a status line, and the log-densities so far."""

    tiles: list[Tile]
    status: str
    steps: int
    progress: float = 0.0
    history: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def compose(case: Case, settings: Settings, submission: Submission[Forming, Removal] | None, run: Removal) -> Scene:
    """The job that runs, or came to nothing; else the run that answers the case; else a blank."""
    if submission is not None and submission.problem == case:
        job = submission.job
        if submission.active or job.status in (Status.CANCELLED, Status.FAILED):
            state = job.latest or Forming()
            return Scene(
                tiles=answer(case, state.picture, state.noise, "As it stood" if job.ended else "Forming"),
                status=status(job, submission.settings),
                steps=submission.settings.steps,
                progress=min(1.0, job.progress),
                history=state.history,
                error=None if job.error is None else pixels.sentence(job.error),
            )
    if not run.answers(case):
        return Scene(answer(case, None, None, "The answer appears here"), "Press Run.", settings.steps)
    done = run.parameters
    whose = "A saved run" if run.saved else "Your run"
    changed = "" if run.used(settings) else " The settings have changed since: press Run."
    return Scene(
        tiles=answer(case, run.restored, run.noise, f"Restored, {done['result']['psnr']:.1f} dB"),
        status=f"{whose}: {done['outcome']} ({done['seconds']:.1f} s).{changed}",
        steps=done["evaluations"],
        progress=1.0,
        history=done["history"],
    )


def answer(case: Case, picture: np.ndarray | None, noise: np.ndarray | None, caption: str) -> list[Tile]:
    """The picture, and the noise that is left when it is taken away from what was measured."""
    what = case.picture.description
    return [
        Tile(picture, caption, "Nothing yet" if picture is None else f"Restored: {what}"),
        Tile(noise, "Noise found; grey is none", "Nothing yet" if noise is None else f"The noise found on {what}"),
    ]


def status(job: Job[Forming, Removal], settings: Settings) -> str:
    """Where a job is, in a sentence."""
    state = job.latest or Forming()
    if job.status is Status.CANCELLED:
        return f"Stopped after {state.step} steps."
    if job.cancelling:
        return "Stopping at the end of this step."
    if job.status is Status.WAITING:
        return stage.waiting(job)
    if state.remaining is None:
        return "Loading the prior."
    return f"Step {state.step} of {settings.steps}, about {math.ceil(state.remaining)} s left."
