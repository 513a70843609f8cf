"""A score against a setting, one run a point, on demand."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import streamlit as st

from invlib.ascent import collect
from invlib.experiments.restoration import score
from invlib.jobs import Job
from pages.ui import pixels, plots, stage
from pages.ui.runs import Problem, Settings, load_prior

XS = Sequence[float]
Pose = Callable[[float], Problem]


@dataclass(frozen=True)
class Point:
    """PSNR in dB of the answer, and of the least-squares estimate, at a value of the setting."""

    x: float
    psnr: float
    least_squares: float


@dataclass(frozen=True)
class Swept:
    """How far a sweep is, from 0 to 1, and the points so far."""

    progress: float
    points: tuple[Point, ...]


def work(pose: Pose, xs: XS, settings: Settings) -> Callable[[Callable[[], bool]], Generator[Swept, None, Swept]]:
    """The work of a job: pose and solve the problem for each value."""

    def run(cancelled: Callable[[], bool]) -> Generator[Swept, None, Swept]:
        points: tuple[Point, ...] = ()
        yield Swept(0.0, points)
        denoiser = load_prior(settings.prior)
        for x in xs:
            problem = pose(x)
            assert problem.operator is not None
            assert problem.measurements is not None
            assert problem.truth is not None
            for state in settings.states(denoiser, problem):
                yield Swept((len(points) + settings.progress(state)) / len(xs), points)
            scores = score(collect([state]), problem.operator, problem.measurements, problem.truth)
            points += (Point(x, scores.mean["psnr"], scores.input["psnr"]),)
        return Swept(1.0, points)

    return run


def show(pose: Pose, xs: XS, settings: Settings, *, key: str, axis: str, about: str) -> None:
    """A button, and the curve as it comes.

    Parameters
    ----------
    pose : the problem at a value of the setting; its truth is known.
    xs : the values, fractions, ascending.
    axis : what is varied, for the axis.
    about : what the curve shows, in a sentence or two.
    """
    name = f"sweep {key}"
    job: Job[Swept, Swept] | None = st.session_state.get(name)
    st.subheader("A sweep")
    st.caption(about)
    with st.container(width=240):
        started = stage.button(
            "Draw the curve", job, work(pose, xs, settings), key=f"start {name}", icon=":material/show_chart:"
        )
    if started is not None:
        st.session_state[name] = started
        st.rerun()
    if job is not None:
        st.fragment(follow, run_every=None if job.ended else stage.POLL)(job, xs, key, axis, not job.ended)


def follow(job: Job[Swept, Swept], xs: XS, key: str, axis: str, active: bool) -> None:
    """One look at the sweep."""
    if active and job.ended:
        st.rerun()
    if job.error is not None:
        st.error(pixels.sentence(job.error), icon=":material/error:")
    swept = job.result or job.latest or Swept(0.0, ())
    if not job.ended:
        words = f"Point {len(swept.points) + 1} of {len(xs)}." if job.latest else stage.waiting(job)
        st.progress(swept.progress, text=words)
    points = swept.points
    figure = plots.sweep(xs, [(p.x, p.psnr) for p in points], [(p.x, p.least_squares) for p in points], axis)
    alt = "PSNR " + ", ".join(f"{point.psnr:.1f} dB at {point.x:.0%}" for point in points)
    st.plotly_chart(figure, key=f"curve {key}", config=plots.CONFIG, alt=alt)
