"""Structured noise: a model of the noise and a model of pictures take it off a picture."""

from dataclasses import replace
from typing import Any

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator

from invlib import examples, images, runs
from invlib.images import Picture
from invlib.problems import structured
from invlib.problems.structured import DRAWN, TASKS
from invlib.solvers.methods import METHODS, methods_for
from pages.ui import address, comparison, knobs, page, picture, saved, theory
from pages.ui.components import draw
from pages.ui.stage import Request
from pages.ui.structured import PEN, drawing

WAYS = METHODS["remove-noise"]
COMPARED = ("asim", "bora")
"""Methods whose knobs belong to the comparison, so that they are there whatever method the run has."""

SETTINGS = ("beta", "steps", "samples", "evaluations", "sigma_0", "sigma_L", "correlation")
CHOICES = ("method", "gamma", "lam", *SETTINGS)
"""Widgets that start again when the method, or the problem, is another."""


SIZES = {"small": "Face, 64×64", "photograph": "Photograph"}


def scribble(chosen: Picture, board: DeltaGenerator, task: str) -> torch.Tensor:
    """Let the visitor draw on the picture. Return the drawing, (4, H, W)."""
    small = structured.is_small(task, chosen.image.shape[1:])
    initial = saved.SCRIBBLES["structured-noise" if small else "photograph"]
    if st.session_state["picture"] == picture.OWN or (not small and chosen.side != examples.EXAMPLE_SIDE):
        initial = []
    label, shown = "Scribble on the picture.", images.to_uint8(chosen.image)
    with board.container(width=360 if small else 440):
        brush = max(2, min(chosen.image.shape[-2:]) // 50)
        return drawing(draw.over(shown, key="scribble", label=label, brush=brush, colour=PEN, initial=initial), task)


def pick(task: str) -> Picture:
    """Let the visitor pick a picture: a small one, which flows know, or a photograph, where that can be measured."""
    kind = TASKS[task]
    if kind.sensing:
        return picture.pick_small(kind.pictures)
    about = "Flows know faces of 64×64 pixels only. Implicit priors take pictures of any size."
    size = knobs.choice("Size", "size", SIZES, help=about, on_change=lambda: knobs.forget("picture", *CHOICES))
    if size == "small":
        return picture.pick_small(kind.pictures)
    return picture.pick(longest=page.LONGEST, names=saved.pictures(task))


def defaults(task: str, method: str, samples: int = 1) -> dict[str, Any]:
    """The settings that a method has for a task where the visitor changes nothing."""
    return WAYS[method].complete(task, samples, {}, method)


def settle(task: str, small: bool) -> tuple[str, dict[str, Any], dict[str, Any], int, int]:
    """Let the visitor choose the method, its settings, those of the comparison, the number of samples, and the seed."""
    suitable = {name: WAYS[name].title for name in comparison.offered(task, small=small)}
    # The widget of the method comes last, but the others start from values that depend on the method.
    address.remember("method", next(iter(suitable)), suitable)
    name = st.session_state["method"]
    method = WAYS[name]
    count = knobs.samples(4 if name == "pair" else 1) if method.draws else 1
    ours = defaults(task, name, count)
    values = knobs.of_method(method, ours, advanced=False)
    with st.expander("Advanced", icon=":material/tune:"):
        if small:
            presets(task)
        knobs.selection(
            "Method",
            "method",
            suitable,
            "MAP changes the picture itself, step by step, from rough to fine. The paper changes its code z in the "
            "flow, which takes several times as long. Implicit priors are those of denoisers, one for the picture and, "
            "where it takes one, another for the noise: they take pictures of any size and draw samples. The others "
            "see less of the noise or of the picture.",
            on_change=lambda: knobs.forget(*SETTINGS),
        )
        values |= knobs.of_method(method, ours, advanced=True)
        others = {}
        for other in COMPARED if small else ():
            knob = next(knob for knob in WAYS[other].knobs if knob.name in ("gamma", "lam"))
            own = values.get(knob.name)
            others[knob.name] = knobs.widget(knob, defaults(task, other)[knob.name]) if own is None else own
        seed = knobs.seed("What is drawn: the noise, where the digits lie, what is measured.")
    return name, values, others, count, seed


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
        on_change=lambda: knobs.forget("c", "count", *CHOICES),
    )
    chosen = pick(task)
    small = structured.is_small(task, chosen.image.shape[1:])
    values = knobs.of_task(TASKS[task].knobs)
    name, given, others, count, seed = settle(task, small)
    drawn = {} if task not in DRAWN else {"strokes": scribble(chosen, board, task)}
    problem = structured.pose(task, chosen, {**values, **drawn}, seed=seed)
    settings = runs.settings(problem, name, given, samples=count, seed=seed)
    compared = {}
    for each, method in methods_for(problem).items():
        known = {knob.name: others[knob.name] for knob in method.knobs if knob.name in others}
        compared[each] = runs.settings(problem, each, known, samples=4 if each == "pair" else 1, seed=seed)
    if name != "pair":
        compared[name] = replace(settings, samples=1)
    request = Request(problem, settings, compared=compared)
    size = {} if TASKS[task].sensing else {"size": st.session_state["size"]}
    return request, {"noise": task, **size, **values, **others}, problem.ready


def compare(request: Request) -> None:
    comparison.show(request)
    comparison.show_sweep(request)


page.show(
    "Structured noise",
    "Stripes, pasted digits, a scribble: noise that has a shape of its own. One prior knows which noise is likely, "
    "another which pictures are; together they tell the two apart.",
    ask,
    theory.noise_fold,
    measured=lambda run: TASKS[run.parameters["task"]].title.lower(),
    further=compare,
)
