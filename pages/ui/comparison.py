"""Several methods on the same measurements, on demand: side by side, or swept over the strength of the noise."""

from __future__ import annotations

from functools import partial

import streamlit as st

from invlib.problems import structured
from invlib.problems.structured import DIGITS, FACES, StructuredProblem
from invlib.runs import Series
from invlib.solvers.methods import FAMILIES, METHODS, methods_for, suiting
from pages.ui import pixels, series
from pages.ui.pixels import Tile
from pages.ui.stage import Request

Asked = tuple[Request, tuple[str, ...]]
"""What the methods were given, and their names."""

SLOW = {FACES: ("map-z", "asim"), DIGITS: ()}
"""Kinds of pictures -> methods that take minutes for them, so that they run only if the visitor picks them."""

SWEPT = ("asim", "tv", "lasso")
"""Methods whose curves may be drawn besides that of MAP."""

AXES = {
    "c": ("noise rate c", "the noise gets stronger"),
    "count": ("measurements", "more is measured"),
    "digits": ("digits", "more digits are pasted"),
}
"""A knob that is swept -> the title of the axis, and what happens along it."""

INPUT = "measured alone"


ABOUT = (
    "The same measurements, given to each method in turn. Asim et al. and Bora et al. take all noise for white; MLE "
    "and Bora et al. look only among the pictures that a GAN can make; BM3D, total variation and LASSO know nothing of "
    "faces or digits."
)


def title(name: str, command: str = "remove-noise") -> str:
    return METHODS[command][name].title


def show(request: Request, words: str = ABOUT) -> None:
    """Let the visitor pick methods and run them, and show their pictures as they come; `words` introduce them."""
    st.subheader("Compare methods")
    st.caption(words)
    problem = request.problem
    methods = [name for name, method in methods_for(problem).items() if method.installed and name in request.compared]
    slow = SLOW[problem.kind.pictures] if isinstance(problem, StructuredProblem) else ()
    picked = st.pills(
        "Methods",
        methods,
        selection_mode="multi",
        default=[name for name in methods if name not in slow],
        format_func=partial(title, command=problem.command),
        key=f"methods {problem.task}",
    )
    chosen = [name for name in methods if name in picked]  # in their order, not in that of the clicks
    if any(name in slow for name in chosen):
        st.caption("Descent in the code of a flow takes a minute or two.")
    chart = series.Chart(f"methods of {request.key}", "Compare", ":material/compare:", about, draw)
    pairs = [(lambda: problem, request.compared[name]) for name in chosen]
    ready = not isinstance(problem, StructuredProblem) or problem.ready
    chart.show(problem, pairs, (request, tuple(chosen)), ready=ready and bool(chosen))


def offered(task: str, *, small: bool = True) -> list[str]:
    """The methods that suit a task and that this installation can run: BM3D is an extra, because of its licence.

    Flows and GANs are for `small` pictures only.
    """
    methods = suiting("remove-noise", task).items()
    return [name for name, each in methods if each.installed and (small or each.prior not in FAMILIES)]


def about(done: Series, asked: Asked) -> str:
    """Say in a sentence which method is at work, and how far it is."""
    request, methods = asked
    name, forming = title(methods[len(done.runs)], request.problem.command), done.forming
    if forming.remaining is None:
        return f"{name}."
    return f"{name}: step {len(forming.history['evaluations'])}, {forming.remaining:.0f} s left."


def draw(done: Series, asked: Asked) -> None:
    """Draw what was measured, and what each method has made of it."""
    request, methods = asked
    problem = request.problem
    names = [title(name, problem.command) for name in methods]
    assert problem.picture is not None
    what = problem.picture.description
    tiles = [
        Tile(run.mean, series.captioned(run, name), f"{what}, restored by {name}")
        for name, run in zip(names, done.runs, strict=False)
    ]
    given = request.kind.posed(request)
    series.pictures([*given, *tiles], [*(tile.caption for tile in given), *names], problem.image_shape)


def show_sweep(request: Request) -> None:
    """Show PSNR against the knob over which the task is swept, if there is one."""
    problem = request.problem
    assert isinstance(problem, StructuredProblem)
    if problem.kind.swept is None:
        return
    knob, xs = problem.kind.swept
    axis, words = AXES[knob if problem.task != "digits" else "digits"]
    first = next(iter(methods_for(problem)))
    others = [name for name in methods_for(problem) if name in SWEPT and METHODS["remove-noise"][name].installed]
    series.heading(
        f"How good is the answer as {words}? A run of {title(first)} for each value, and of the methods that you add."
    )
    added = st.pills("Add methods", others, selection_mode="multi", format_func=title, key=f"swept {problem.task}")
    methods = (first, *added)
    titles = tuple(title(name) for name in methods)
    sweep = series.Sweep(request.key, axis, xs, titles, INPUT, tick)
    sweep.show(problem, [(partial(at, problem, x), request.compared[name]) for x in xs for name in methods])


def tick(x: float) -> str:
    return pixels.group(round(x)) if x >= 1 else f"{x:g}"


def at(problem: StructuredProblem, value: float) -> StructuredProblem:
    """The problem with another value of the knob over which its task is swept."""
    assert problem.kind.swept is not None
    assert problem.picture is not None
    knobs = {**problem.knobs, problem.kind.swept[0]: value}
    return structured.pose(problem.task, problem.picture, knobs, seed=problem.seed)
