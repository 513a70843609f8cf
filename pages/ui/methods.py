"""Several methods on the same measurements, side by side, on demand; and how they fare as the noise grows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import streamlit as st

from invlib.jobs import Job
from invlib.problems.structured import DIGITS, FACES, METHODS, TASKS
from pages.ui import pixels, stage, sweep
from pages.ui.removal_stage import given
from pages.ui.removals import Attempt, Case, Outcome, Settings, at, attempt, pose
from pages.ui.runs import Tile
from pages.ui.sweep import Point, Swept

SLOW = {FACES: ("map-z", "asim"), DIGITS: ()}
"""Kinds of pictures -> methods that take minutes for them, and so wait to be asked for."""

SWEPT = ("asim", "tv", "lasso")
"""Methods that a curve may be drawn of, besides that of MAP."""

AXES = {
    "c": ("noise rate c", "the noise gets stronger"),
    "count": ("measurements", "more is measured"),
    "digits": ("digits", "more digits are pasted"),
}
"""What is swept: the axis, and what happens along it."""

INPUT = "measured alone"


@dataclass(frozen=True)
class Compared:
    """How far a comparison is, from 0 to 1, what has come of it, and where it is, in a sentence."""

    progress: float = 0.0
    outcomes: tuple[Outcome, ...] = ()
    status: str = "Loading the priors."


@dataclass(frozen=True)
class Comparison:
    """A job, and what it was asked to do; the knobs may have moved on since."""

    job: Job[Compared, Compared]
    case: Case
    methods: tuple[str, ...]


def work(
    case: Case, settings: Sequence[Settings]
) -> Callable[[Callable[[], bool]], Generator[Compared, None, Compared]]:
    """The work of a job: one method after another."""

    def run(cancelled: Callable[[], bool]) -> Generator[Compared, None, Compared]:
        outcomes: tuple[Outcome, ...] = ()
        yield Compared()
        for method in settings:
            for now in attempt(case, method):
                yield Compared((len(outcomes) + now.progress) / len(settings), outcomes, status(method, now))
            assert now.outcome is not None  # An attempt ends with it.
            outcomes += (now.outcome,)
        return Compared(1.0, outcomes)

    return run


def status(settings: Settings, now: Attempt) -> str:
    """Where a method is, in a sentence."""
    title = METHODS[settings.method].title
    if settings.steps == 1 or now.remaining is None:
        return f"{title}."
    return f"{title}: step {round(now.progress * settings.steps)} of {settings.steps}, {now.remaining:.0f} s left."


def available(names: Sequence[str]) -> list[str]:
    """The methods that this installation can run: BM3D is an extra, because of its licence."""
    return [name for name in names if name != "bm3d" or find_spec("bm3d") is not None]


def show(case: Case, settings: Mapping[str, Settings]) -> None:
    """Which methods, a button, and their pictures as they come."""
    st.subheader("Compare methods")
    st.caption(
        "The same measurements, given to each method in turn. Asim et al. and Bora et al. take all noise for white; "
        "MLE and Bora et al. look only among the pictures that a GAN can make; BM3D, total variation and LASSO know "
        "nothing of faces or digits."
    )
    offered, slow = available(TASKS[case.noise].methods), SLOW[TASKS[case.noise].kind]
    picked = st.pills(
        "Methods",
        offered,
        selection_mode="multi",
        default=[name for name in offered if name not in slow],
        format_func=lambda name: METHODS[name].title,
        key=f"methods {case.noise}",
    )
    chosen = [name for name in offered if name in picked]  # in their order, not in that of the clicks
    if any(name in slow for name in chosen):
        st.caption("Descent in the code of a flow takes a minute or two.")
    name = f"methods of {case.task}"
    comparison: Comparison | None = st.session_state.get(name)
    job = None if comparison is None else comparison.job
    with st.container(width=240):
        tasks = work(case, [settings[method] for method in chosen])
        started = stage.button(
            "Compare", job, tasks, key="compare methods", icon=":material/compare:", ready=case.ready and bool(chosen)
        )
    if started is not None:
        st.session_state[name] = Comparison(started, case, tuple(chosen))
        st.rerun()
    if comparison is not None:
        active = not comparison.job.ended
        st.fragment(follow, run_every=stage.POLL if active else None)(comparison, active)
        if comparison.case != case:
            st.caption("These are of other settings than those above.")


def follow(comparison: Comparison, active: bool) -> None:
    """One look at the comparison."""
    job, case = comparison.job, comparison.case
    if active and job.ended:
        st.rerun()
    if job.error is not None:
        st.error(pixels.sentence(job.error), icon=":material/error:")
    compared = job.result or job.latest or Compared()
    if not job.ended:
        st.progress(compared.progress, text=compared.status if job.latest else stage.waiting(job))
    tiles = [tile(outcome, case) for outcome in compared.outcomes]
    tiles += [
        Tile(None, METHODS[method].title, f"{METHODS[method].title}: nothing yet")
        for method in comparison.methods[len(tiles) :]
    ]
    stage.show_tiles([*given(case), *tiles], case.truth.shape[1:])


def tile(outcome: Outcome, case: Case) -> Tile:
    """What a method made of it."""
    title = METHODS[outcome.method].title
    caption = f"{title}: {outcome.psnr:.1f} dB, {outcome.seconds:.1f} s"
    return Tile(outcome.picture, caption, f"{case.picture.description}, restored by {title}")


def show_sweep(case: Case, settings: Mapping[str, Settings]) -> None:
    """PSNR against the knob that the task is swept over, if there is one."""
    swept = TASKS[case.noise].swept
    if swept is None:
        return
    knob, xs = swept
    axis, words = AXES[knob if case.noise != "digits" else "digits"]
    sweep.heading(f"How good is the answer as {words}? A run of MAP for each value, and of the methods that you add.")
    others = [name for name in available(TASKS[case.noise].methods) if name in SWEPT]
    added = st.pills(
        "Add methods",
        others,
        selection_mode="multi",
        format_func=lambda name: METHODS[name].title,
        key=f"swept {case.noise}",
    )
    sweep.draw(
        sweep_work(case, xs, [settings[name] for name in ("map", *added)]),
        xs,
        key=case.task,
        axis=axis,
        tick=lambda x: stage.group(round(x)) if x >= 1 else f"{x:g}",
        baseline=INPUT,
    )


def sweep_work(
    case: Case, xs: Sequence[float], settings: Sequence[Settings]
) -> Callable[[Callable[[], bool]], Generator[Swept, None, Swept]]:
    """The work of a job: every method at every value."""

    def run(cancelled: Callable[[], bool]) -> Generator[Swept, None, Swept]:
        points: tuple[Point, ...] = ()
        yield Swept()
        for x in xs:
            here = at(case, x)
            scores: dict[str, float] = {}
            for method in settings:
                done = len(points) + len(scores) / len(settings)
                for now in attempt(here, method):
                    yield Swept((done + now.progress / len(settings)) / len(xs), points)
                assert now.outcome is not None  # An attempt ends with it.
                scores[METHODS[method.method].title] = now.outcome.psnr
            points += (Point(x, {**scores, INPUT: pose(here).scores["psnr"]}),)
        return Swept(1.0, points)

    return run
