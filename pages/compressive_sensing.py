"""Compressive sensing: a picture from a few random sums of all its pixels."""

from collections.abc import Generator
from dataclasses import replace
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib.jobs import HasProgress
from invlib.problems import linear, operators
from invlib.problems.linear import LinearProblem
from invlib.problems.spec import ImageShape
from pages.ui import knobs, live, page, picture, saved, series
from pages.ui.linear import numbers
from pages.ui.stage import Request

TASK = "compressive-sensing"
KEEP, _ = linear.TASKS[TASK].knobs

LONGEST = {"structured": 256, "dense": 64}
"""Longest sides, in pixels. A dense basis is a matrix of as many rows as a picture has numbers."""


def values(basis: str) -> list[float]:
    """The fractions that may be kept; half of the rows of a dense basis are more than a page computes."""
    return [keep for keep in KEEP.values if basis == "structured" or keep < 0.5]


def ask(board: DeltaGenerator) -> page.Asked:
    place = st.container()  # the picture comes first, but how large it may be depends on the basis
    basis = knobs.choice(
        "Random weights",
        "basis",
        {"structured": "Structured", "dense": "Dense"},
        help="Structured: random signs, then a fast transform, for pictures of any size. Dense: a matrix of "
        "Gaussian random numbers made orthonormal, as in the paper, for a picture of 64 pixels.",
    )
    keep = knobs.widget(KEEP, values=values(basis))
    with place:
        side = min(saved.EXAMPLES[TASK].side, LONGEST[basis])
        chosen = picture.pick(longest=LONGEST[basis], side=side, names=saved.pictures(TASK))
    shape: ImageShape = tuple(chosen.image.shape[1:])
    if basis == "dense" and not operators.is_made(shape, keep):
        about = "The random weights are being made orthonormal."
        live.prepare("basis", partial(make_basis, shape, keep), (shape, keep), about)
    problem = linear.pose(TASK, chosen, {"keep": keep, "dense": basis == "dense"})
    words = "Each is a sum of all pixels, with random weights."
    request = Request(problem, knobs.settings(problem), words, "Least squares", (numbers(problem),))
    return request, {"basis": basis, "keep": keep}, True


def make_basis(shape: ImageShape, keep: float) -> Generator[HasProgress, None, None]:
    """Make a dense basis, of which the library keeps the last ones."""
    yield from ()
    operators.DenseRows(shape, keep)


def sweep(request: Request) -> None:
    problem, one = request.problem, replace(request.settings, samples=1)
    assert isinstance(problem, LinearProblem)
    assert problem.picture is not None
    xs = values("dense" if problem.knobs["dense"] else "structured")
    posed = [partial(linear.pose, TASK, problem.picture, {**problem.knobs, "keep": keep}) for keep in xs]
    about = "How good is one sample when fewer numbers are measured? A run for each fraction, with the settings above."
    series.heading(about)
    series.Sweep(TASK, "numbers kept", xs).show(problem, [(each, one) for each in posed])


page.show(
    "Compressive sensing",
    "Measure a few random mixtures of all pixels, far fewer numbers than there are pixels. Least squares sees noise in "
    "them; a denoiser that has learnt what photographs look like finds the picture.",
    ask,
    page.fold("the columns of $M$ are random directions, orthonormal, in the space of all pictures."),
    measured=lambda run: f"{run.parameters['measured']} random sums",
    further=sweep,
)
