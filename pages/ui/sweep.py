"""A score against a setting, one run a point, on demand."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import streamlit as st

from invlib.jobs import Job, Work
from invlib.scores import score
from invlib.solvers.ascent import collect
from pages.ui import knobs, pixels, plots, stage
from pages.ui.runs import Problem, Settings, load_prior

XS = Sequence[float]
Pose = Callable[[float], Problem]

ANSWER, BASELINE = "average of the samples", "least squares"


@dataclass(frozen=True)
class Point:
    """PSNR in dB, by the names of the curves, at a value of the setting."""

    x: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Swept:
    """How far a sweep is, from 0 to 1, and the points so far."""

    progress: float = 0.0
    points: tuple[Point, ...] = ()


def work(pose: Pose, xs: XS, settings: Settings) -> Callable[[Callable[[], bool]], Generator[Swept, None, Swept]]:
    """The work of a job: pose and solve the problem for each value.

    Parameters
    ----------
    pose : the problem at a value of the setting; its truth is known.
    """

    def run(cancelled: Callable[[], bool]) -> Generator[Swept, None, Swept]:
        points: tuple[Point, ...] = ()
        yield Swept()
        denoiser = load_prior(settings.prior)
        for x in xs:
            problem = pose(x)
            assert problem.operator is not None
            assert problem.measurements is not None
            assert problem.truth is not None
            for state in settings.states(denoiser, problem):
                yield Swept((len(points) + settings.progress(state)) / len(xs), points)
            result, pairs = collect([state]), settings.antithetic
            scores = score(result, problem.operator, problem.measurements, problem.truth, antithetic=pairs)
            points += (Point(x, {ANSWER: scores.mean["psnr"], BASELINE: scores.input["psnr"]}),)
        return Swept(1.0, points)

    return run


def show(work: Work[Swept, Swept], xs: XS, *, key: str, axis: str, about: str) -> None:
    """A button, and the curves as they come.

    Parameters
    ----------
    work : sweeps.
    xs : the values, ascending.
    axis : what is varied, for the axis.
    about : what the curves show, in a sentence or two.
    """
    heading(about)
    draw(work, xs, key=key, axis=axis, tick=knobs.percent, baseline=BASELINE)


def heading(about: str) -> None:
    st.subheader("A sweep")
    st.caption(about)


def draw(work: Work[Swept, Swept], xs: XS, *, key: str, axis: str, tick: Callable[[float], str], baseline: str) -> None:
    """The button and the curves.

    Parameters
    ----------
    tick : how to write a value.
    baseline : the name of the curve that is compared against.
    """
    name = f"sweep {key}"
    job: Job[Swept, Swept] | None = st.session_state.get(name)
    with st.container(width=240):
        started = stage.button("Draw the curve", job, work, key=f"start {name}", icon=":material/show_chart:")
    if started is not None:
        st.session_state[name] = started
        st.rerun()
    if job is not None:
        look = st.fragment(follow, run_every=None if job.ended else stage.POLL)
        look(job, xs, key, axis, tick, baseline, not job.ended)


def follow(
    job: Job[Swept, Swept], xs: XS, key: str, axis: str, tick: Callable[[float], str], baseline: str, active: bool
) -> None:
    """One look at the sweep."""
    if active and job.ended:
        st.rerun()
    if job.error is not None:
        st.error(pixels.sentence(job.error), icon=":material/error:")
    swept = job.result or job.latest or Swept()
    if not job.ended:
        words = f"Point {len(swept.points) + 1} of {len(xs)}." if job.latest else stage.waiting(job)
        st.progress(swept.progress, text=words)
    names = list(swept.points[0].scores) if swept.points else []
    curves = {name: [(point.x, point.scores[name]) for point in swept.points] for name in names}
    figure = plots.sweep(xs, curves, axis, tick, baseline)
    best = next((name for name in names if name != baseline), "")
    values = [f"{point.scores[best]:.1f} dB at {tick(point.x).replace(' ', '')}" for point in swept.points]
    alt = f"PSNR, {best}: {', '.join(values)}"
    st.plotly_chart(figure, key=f"curve {key}", config=plots.CONFIG, alt=alt)
