"""A row of a table that is measured on demand, on this machine and with a picture that comes with the app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import streamlit as st

from invlib import engines, examples, runs
from invlib.experiments.tables import METHODS_OF_TABLES, Case, default_settings, middle, offered
from invlib.jobs import Job, Status
from invlib.problems import linear
from invlib.problems.linear import LinearProblem
from invlib.runs import Forming, Run, Settings
from pages.ui import knobs, live, pixels
from pages.ui.benchmarks import table
from pages.ui.benchmarks.rows import SETS, TITLES, Line, of_method, pictures
from pages.ui.linear import posed
from pages.ui.live import Submission
from pages.ui.pixels import Tile
from pages.ui.stage import Request

KEY = "measurement"


@dataclass(frozen=True)
class Asked:
    """A case of a table, a picture of `examples.EXAMPLES`, a method of `METHODS_OF_TABLES`, and its samples."""

    case: Case
    picture: str
    method: str
    samples: int

    @cached_property
    def problem(self) -> LinearProblem:
        """The problem of the case, with the example in place of a picture of the set, in the set's colours and crop."""
        picture = examples.picture(self.picture, channels=self.case.channels)
        if self.case.crop is not None:
            picture = replace(picture, image=middle(picture.image, self.case.crop), side=None)
        return linear.pose(self.case.task, picture, self.case.knobs)

    @cached_property
    def settings(self) -> Settings:
        """The settings that the method has in the table."""
        values = default_settings(self.case, self.method) if METHODS_OF_TABLES[self.method].draws else {}
        return runs.settings(self.problem, self.method, values, samples=self.samples)

    def solve(self) -> runs.Solving:
        """Solve the problem. As the work of a job, this also poses it, because a dense basis takes seconds."""
        return engines.solve(self.problem, self.settings)


def show(case: Case, lines: Sequence[Line]) -> dict[str, str | int]:
    """Let the visitor measure a case, and show the result beside the table's lines. Return the address's settings."""
    st.header("Run it here")
    st.caption(
        "The pictures of the tables may not be passed on, so this takes one that comes with the app, and the scores "
        "are of that one. DIP and DeepRED, which take many minutes, are for the command line."
    )
    titles = {name: name.capitalize() for name in examples.EXAMPLES}
    with st.grid(3, min_column_width=220):
        method = knobs.selection("Method", "method", quick(case), "With the settings that it has in the table.")
        picture = knobs.selection("Picture", "picture", titles, "One that comes with the app.")
        draws = METHODS_OF_TABLES[method].draws
        samples = knobs.samples(8) if draws else 1
    asked = Asked(case, picture, method, samples)
    with st.container(width=240):
        live.button(KEY, "Run", ":material/play_arrow:", asked.solve, asked, widget="run")
    submission = live.last(KEY)
    if submission is not None and (submission.active or submission.request.case == case):
        live.follow(KEY, partial(look, lines=lines))
        if submission.request != asked:
            st.caption("This is of other settings than those above.")
    return {"method": method, "picture": picture, **({"samples": samples} if draws else {})}


def quick(case: Case) -> dict[str, str]:
    """Names -> titles of the methods that run in seconds or a few minutes, the default first."""
    methods = {name: method for name, method in offered(case).items() if method.installed and not method.slow}
    return {name: title for name, title in TITLES.items() if name in methods}


def look(submission: Submission, lines: Sequence[Line]) -> None:
    """Draw the measurement once, as far as it is."""
    job: Job[Forming, Run] = submission.job
    asked: Asked = submission.request
    title = TITLES[asked.method]
    live.show_error(job)
    if job.status is Status.CANCELLED:
        st.caption(f"{title}: stopped.")
    if not job.ended:
        st.progress(min(1.0, job.progress), text=status(job, title))
    run, forming = job.result, job.latest or Forming()
    picture = forming.mean if run is None else run.mean
    if picture is None:
        return
    row = {} if run is None else run.parameters
    found = [replace(line, reported={}) for line in of_method(asked.case, asked.method, row, {})]
    here = [line for line in found if line.measured]
    caption = f"{here[0].label}, {here[0].measured['psnr']:.2f} dB" if here else title
    assert asked.problem.picture is not None
    answer = Tile(picture, caption, f"Restored: {asked.problem.picture.description}")
    pixels.show_tiles([*posed(Request(asked.problem, asked.settings)), answer], asked.problem.image_shape)
    if here:
        compare_with(asked, here, lines)


def status(job: Job[Forming, Run], title: str) -> str:
    """Say in a sentence how far a measurement is."""
    if job.latest is None:
        return live.waiting(job)
    if job.latest.remaining is None:
        return "Loading the prior."
    return f"{title}: {job.latest.progress:.0%}, about {job.latest.remaining / job.share:.0f} s left."


def compare_with(asked: Asked, here: Sequence[Line], lines: Sequence[Line]) -> None:
    """Show the scores of the picture that was measured here beside those of the table."""
    there = [line for line in lines if line.method == TITLES[asked.method] and line.measured]
    name, _ = SETS[asked.case.pictures]
    where = [f"{asked.picture.capitalize()}, here" for _ in here]
    where += [f"{name}, {pictures(line.row)}" for line in there]
    table.show_lines([*here, *there], "Scores here, and those of the table", where)
    st.caption(
        "It is another picture: how its PSNR compares with the table’s says nothing of the method. Compare methods on "
        "the same picture."
    )
