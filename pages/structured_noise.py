"""Structured noise: a model of the noise and a model of pictures take it off a picture."""

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import images, runs
from invlib.images import Picture
from invlib.problems import structured
from invlib.problems.structured import SCRIBBLE, TASKS
from invlib.solvers.methods import METHODS, methods_for
from pages.ui import address, comparison, knobs, page, picture, saved, theory
from pages.ui.components import draw
from pages.ui.stage import Request
from pages.ui.structured import PEN, drawing

WAYS = METHODS["remove-noise"]
COMPARED = ("asim", "bora")
"""Methods whose knobs belong to the comparison, so that they are there whatever method the run has."""


def scribble(chosen: Picture, board: DeltaGenerator) -> np.ndarray:
    """Let the visitor draw on the picture. Return an array (H, W) that is True where the pen was."""
    initial = () if st.session_state["picture"] == picture.OWN else saved.SCRIBBLES["structured-noise"]
    label, shown = "Scribble on the picture.", images.to_uint8(chosen.image)
    with board.container(width=360):
        return draw.over(shown, key="scribble", label=label, brush=2, colour=PEN, initial=initial)


def defaults(task: str, method: str) -> dict[str, Any]:
    """The settings that a method has for a task where the visitor changes nothing."""
    return WAYS[method].complete(task, 1, {}, method)


def settle(task: str) -> tuple[str, dict[str, Any], dict[str, Any], int]:
    """Let the visitor choose the method, its settings, those of the comparison, and the seed."""
    suitable = {name: WAYS[name].title for name in comparison.offered(task)}
    # The widget of the method comes last, but the others start from values that depend on the method.
    address.remember("method", "map", suitable)
    name = st.session_state["method"]
    method, ours = WAYS[name], defaults(task, name)
    values = knobs.of_method(method, ours, advanced=False)
    with st.expander("Advanced", icon=":material/tune:"):
        presets(task)
        knobs.selection(
            "Method",
            "method",
            suitable,
            "MAP changes the picture itself, step by step, from rough to fine. The paper changes its code z in the "
            "flow, which takes several times as long. The others see less of the noise or of the picture.",
            on_change=lambda: knobs.forget("beta", "steps", "samples"),
        )
        values |= knobs.of_method(method, ours, advanced=True)
        others = {}
        for other in COMPARED:
            knob = next(knob for knob in WAYS[other].knobs if knob.name in ("gamma", "lam"))
            own = values.get(knob.name)
            others[knob.name] = knobs.widget(knob, defaults(task, other)[knob.name]) if own is None else own
        seed = knobs.seed("What is drawn: the noise, where the digits lie, what is measured.")
    return name, values, others, seed


def presets(task: str) -> None:
    """Show a button for the paper's settings and one for ours."""
    problem = {knob.key: knob.default for knob in TASKS[task].knobs if knob.default is not None}
    common = {**problem, "gamma": defaults(task, "asim")["gamma"], "lam": defaults(task, "bora")["lam"]}
    paper, ours = (
        {**common, "method": name, "beta": defaults(task, name)["smoothing"], "steps": defaults(task, name)["steps"]}
        for name in ("map-z", "map")
    )
    knobs.presets(paper, ours)


def ask(board: DeltaGenerator) -> page.Asked:
    task = knobs.selection(
        "Noise",
        "noise",
        {name: kind.title for name, kind in TASKS.items()},
        "What is put on the picture, or how it is measured. Of each, the noise model knows how strong it is where, or "
        "what it looks like.",
        on_change=lambda: knobs.forget("c", "count", "beta", "method", "steps", "gamma", "lam", "samples"),
    )
    chosen = picture.pick_small(TASKS[task].pictures)
    values = knobs.of_task(TASKS[task].knobs)
    name, given, others, seed = settle(task)
    drawn = {} if task != SCRIBBLE else {"strokes": drawing(scribble(chosen, board))}
    problem = structured.pose(task, chosen, {**values, **drawn}, seed=seed)
    count = knobs.samples(1) if WAYS[name].draws else 1
    settings = runs.settings(problem, name, given, samples=count, seed=seed)
    compared = {}
    for each, method in methods_for(problem).items():
        known = {knob.name: others[knob.name] for knob in method.knobs if knob.name in others}
        compared[each] = runs.settings(problem, each, known, seed=seed)
    request = Request(problem, settings, compared=compared | {name: replace(settings, samples=1)})
    return request, {"noise": task, **values, **others}, problem.ready


def compare(request: Request) -> None:
    comparison.show(request)
    comparison.show_sweep(request)


page.show(
    "Structured noise",
    "Stripes, pasted digits, a scribble: noise that has a shape of its own. One flow knows which noise is likely, "
    "another which pictures are; together they tell the two apart.",
    ask,
    theory.noise_fold,
    measured=lambda run: TASKS[run.parameters["task"]].title.lower(),
    further=compare,
)
