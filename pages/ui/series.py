"""Several runs, one after the other, on demand: methods side by side, one noise under different β, or a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import streamlit as st

from invlib import engines
from invlib.problems.spec import Problem
from invlib.runs import Run, Series, Settings, seconds_of, solve_all
from pages.ui import knobs, live, pixels, plots
from pages.ui.live import Submission

Pairs = Sequence[tuple[Callable[[], Problem], Settings]]
"""Functions that pose a problem when its turn comes, each with the settings of its run."""


@dataclass(frozen=True)
class Chart:
    """A button that makes several runs, and a drawing of them.

    Attributes
    ----------
    key : the key of the job.
    label, icon : what the button shows.
    about : says in a sentence how far the runs are.
    draw : draws the runs so far.
    """

    key: str
    label: str
    icon: str
    about: Callable[[Series, Any], str]
    draw: Callable[[Series, Any], None]

    def show(self, problem: Problem, pairs: Pairs, request: Any, *, ready: bool = True) -> None:
        """Show the button, and the drawing if it was pressed.

        Parameters
        ----------
        problem : the one on the page. Those of the runs are as large, so it tells how long they will take.
        pairs : the runs to make.
        request : what `about` and `draw` need to know. The knobs may have changed by then.
        ready : whether there is anything to run.
        """
        known = [seconds for _, chosen in pairs if (seconds := seconds_of(problem, chosen)) is not None]
        takes = sum(known) if known and len(known) == len(pairs) else None
        with st.container(width=240):
            work, widget = partial(solve_all, pairs, engines.solve), f"start {self.key}"
            live.button(self.key, self.label, self.icon, work, request, widget=widget, ready=ready, seconds=takes)
        if takes is not None:
            st.caption(f"This takes about {pixels.plural(max(1, round(takes)), 'second')} here.")
        live.follow(self.key, self.look)
        submission = live.last(self.key)
        if submission is not None and submission.request != request:
            st.caption("These are of other settings than those above.")

    def look(self, submission: Submission) -> None:
        """Draw the runs once, as far as they are."""
        job = submission.job
        live.show_error(job)
        series: Series = job.result or job.latest or Series()
        if not job.ended:
            started = job.latest is not None
            st.progress(series.progress, text=self.about(series, submission.request) if started else live.waiting(job))
        self.draw(series, submission.request)


# A sweep

ANSWER, BASELINE = "average of the samples", "least squares"


@dataclass(frozen=True)
class Sweep:
    """A score against a setting.

    Attributes
    ----------
    key : the key of the job.
    axis, xs, tick : the name of the setting, its values in ascending order, and how to write one.
    names : the names of the curves, of which each has one run for every value.
    baseline : the name of the curve that is compared against.
    """

    key: str
    axis: str
    xs: Sequence[float]
    names: tuple[str, ...] = (ANSWER,)
    baseline: str = BASELINE
    tick: Callable[[float], str] = knobs.percent

    def points(self, runs: Sequence[Run]) -> list[tuple[float, dict[str, float]]]:
        """The values whose runs have ended, each with the PSNR in dB by the names of the curves."""
        found, count = [], len(self.names)
        for index in range(len(runs) // count):
            here = runs[index * count : (index + 1) * count]
            scores = {name: psnr_of(run) for name, run in zip(self.names, here, strict=True)}
            found.append((self.xs[index], {**scores, self.baseline: here[0].parameters["input"]["psnr"]}))
        return found

    def about(self, series: Series, request: Any) -> str:
        return f"Point {len(series.runs) // len(self.names) + 1} of {len(self.xs)}."

    def draw(self, series: Series, request: Any) -> None:
        points = self.points(series.runs)
        names = [*self.names, self.baseline] if points else []
        curves = {name: [(x, scores[name]) for x, scores in points] for name in names}
        figure = plots.sweep(self.xs, curves, self.axis, self.tick, self.baseline)
        values = [f"{scores[self.names[0]]:.1f} dB at {self.tick(x).replace(' ', '')}" for x, scores in points]
        alt = f"PSNR, {self.names[0]}: {', '.join(values)}"
        st.plotly_chart(figure, key=f"curve of {self.key}", config=plots.CONFIG, alt=alt)

    def show(self, problem: Problem, pairs: Pairs) -> None:
        """Show a button, and the curves as they come. The pairs of all curves at the first value come first.

        `problem` is the one on the page.
        """
        chart = Chart(f"sweep {self.key}", "Draw the curve", ":material/show_chart:", self.about, self.draw)
        chart.show(problem, pairs, None)


def heading(about: str) -> None:
    """Head a sweep with a sentence or two about what it shows."""
    st.subheader("A sweep")
    st.caption(about)


def psnr_of(run: Run) -> float:
    """The PSNR of a run's answer, in dB."""
    scores = run.parameters.get("mean") or run.parameters["result"]
    return float(scores["psnr"])


def captioned(run: Run, title: str) -> str:
    """A caption: the title of a run, how good its answer is if that is known, and how long it took."""
    score = f"{psnr_of(run):.1f} dB, " if "input" in run.parameters else ""
    return f"{title}: {score}{run.parameters['seconds']:.1f} s"


def pictures(tiles: Sequence[pixels.Tile], titles: Sequence[str], image_shape: Sequence[int]) -> None:
    """Show tiles, and blanks for the titles that have no tile yet."""
    blanks = [pixels.Tile(None, title, f"{title}: nothing yet") for title in titles[len(tiles) :]]
    pixels.show_tiles([*tiles, *blanks], image_shape)
