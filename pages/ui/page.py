"""The frame of a page about a problem: knobs, stage, explanation and closer look. The page adds the problem's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import images
from invlib.priors import checkpoints
from invlib.problems import linear
from invlib.runs import Run
from pages.ui import address, knobs, layout, picture, pixels, results, saved, stage, theory
from pages.ui.stage import Request

LONGEST = 512
"""The default for the longest side of a visitor's own picture, in pixels, with which a run takes seconds."""

Asked = tuple[Request, dict[str, Any], bool]
"""What the knobs ask for, the settings for the address, and whether there is anything to run."""


@contextmanager
def frame(title: str, lead: str) -> Iterator[tuple[DeltaGenerator, DeltaGenerator]]:
    """Show a page's title, and yield the columns of its knobs and its stage. An error is shown as a sentence."""
    layout.heading(title, lead)
    columns = layout.columns()
    try:
        yield columns
    except (images.ImageError, checkpoints.CheckpointError, ValueError) as error:
        st.error(pixels.sentence(error))


def show(
    title: str,
    lead: str,
    ask: Callable[[DeltaGenerator], Asked],
    explain: Callable[[], None],
    *,
    measured: Callable[[Run], str],
    by_difference: bool = False,
    further: Callable[[Request], None] = lambda request: None,
) -> None:
    """Show a page.

    Parameters
    ----------
    title, lead : the page's name, and what it is about in a sentence or two.
    ask : shows the knobs in the left column and returns what they ask for. It gets the right column, where it can put a
        drawing board.
    explain : shows the explanation below the stage.
    measured : says in a word or two what was measured in a run: "4×".
    by_difference : whether the gallery begins with the most typical sample and goes on with those that differ most.
    further : shows what follows the closer look.
    """
    with frame(title, lead) as (left, right):
        with left:
            request, settings, ready = ask(right)
            chosen = st.session_state.get("picture")
            here = {} if request.problem.picture is None else {"picture": chosen}
            address.write(**(settings | here | knobs.in_address(request.problem, request.settings)))
            stage.run_button(request, ready=ready)
        with right:
            run = stage.show(request, saved.load(request.key) if request.key in saved.ALL else nothing(request))
            explain()
        if run.samples:
            results.show(run, measured=measured(run), by_difference=by_difference)
            further(request)


def nothing(request: Request) -> Run:
    """A stand-in for a run, for a task that has no saved run."""
    empty = pixels.blank(1, 1)
    return Run({}, None, None, None, [], empty, empty, 1.0, [])


def linear_problem(task: str, *, words: str = "", longest: int = LONGEST) -> Callable[[DeltaGenerator], Asked]:
    """The `ask` of a page whose knobs are those of the problem's entry in `linear.TASKS`.

    Parameters
    ----------
    task : the problem's name.
    words : says in a sentence what the measurements are.
    longest : the longest side of a visitor's own picture, in pixels.
    """

    def ask(board: DeltaGenerator) -> Asked:
        chosen = picture.pick(longest=longest, names=saved.pictures(task))
        values = knobs.of_task(linear.TASKS[task].knobs)
        problem = linear.pose(task, chosen, values)
        return Request(problem, knobs.settings(problem), words), values, not problem.complete

    return ask


def fold(measurement: str = "") -> Callable[[], None]:
    """The explanation of the first paper's algorithm, for a page on which `measurement` says what M is."""
    return lambda: theory.fold(measurement)
