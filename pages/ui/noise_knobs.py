"""The settings of the page for structured noise: which noise, how much of it, and how it is removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from invlib.problems import structured as removal
from invlib.problems.structured import TASKS
from pages.ui import address, knobs
from pages.ui.removals import Settings

BETAS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
GAMMAS = (0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
LAMS = (0, 0.0001, 0.001, 0.01, 0.1, 1)
WAYS = {"map": "The picture", "map-z": "Its code"}
STEPS = (10, 20, 40, 60, 80, 100, 150, 200, 300, 400)


@dataclass(frozen=True)
class Slider:
    """How a knob of a task is shown.

    Attributes
    ----------
    options : besides the task's default.
    about : what it does to the picture, in a sentence.
    """

    label: str
    options: tuple[float, ...]
    about: str


RATE = Slider(
    "Noise rate c",
    (0.02, 0.05, 0.1, 0.2, 0.3, 0.4),
    "How strong the noise is where it is strongest, 1 being the picture's full range. More hides more of the picture.",
)
SENSING_RATE = Slider(
    RATE.label,
    RATE.options,
    "How strong the noise in the measured numbers is where it is strongest. More leaves the picture coarser.",
)
SLIDERS = {
    "sinusoidal": {"c": RATE},
    "radial": {"c": RATE},
    "digits": {
        "count": Slider("Digits", tuple(range(1, 13)), "How many are pasted on the picture. Each hides a part of it.")
    },
    "scribble": {},
    "compressive-sensing": {
        "count": Slider(
            "Measurements",
            (500, 1000, 2500, 5000, 7500),
            "How many random sums of the picture's 12 288 numbers are measured. Fewer leave more to be guessed.",
        ),
        "c": SENSING_RATE,
    },
    "one-bit": {
        "count": Slider(
            "Measurements",
            (500, 1000, 2000, 3000),
            "How many random sums of the picture's 784 numbers are measured, of each only the sign. Fewer leave more "
            "to be guessed.",
        ),
        "c": SENSING_RATE,
    },
}
"""Tasks -> their knobs, in the order they are shown."""


def noise() -> str:
    """Which noise."""
    return knobs.selection(
        "Noise",
        "noise",
        {name: task.title for name, task in TASKS.items()},
        "What is put on the picture, or how it is measured. Of each, the noise model knows how strong it is where, or "
        "what it looks like.",
        on_change=lambda: knobs.forget("c", "count", "beta", "method", "steps", "gamma", "lam"),
    )


def amounts(task: str) -> dict[str, float]:
    """How much of it: the knobs of a task."""
    return {
        name: number(slider.label, name, slider.options, TASKS[task].knobs[name], slider.about)
        for name, slider in SLIDERS[task].items()
    }


def number(label: str, key: str, options: Sequence[float], default: float, about: str) -> float:
    """One of a few numbers on a slider, the default among them."""
    exact = type(default)  # a slider takes 5 and 5.0 for different options
    values = sorted({exact(option) for option in (*options, default)})
    address.remember(key, default, values)
    return st.select_slider(label, values, key=key, format_func="{:g}".format, help=about, persist_state="page")


def settings(task: str) -> tuple[Settings, dict[str, Settings], int]:
    """How the noise is removed, by the run, and by each method of a comparison; and the seed."""
    address.remember("method", "map", WAYS)  # Its widget comes last, and what the others start from depends on it.
    method = st.session_state["method"]
    ours = removal.settings(task, method)
    beta = number(
        "Smoothing β",
        "beta",
        BETAS,
        float(ours["smoothing"]),
        "How much the prior is trusted, against what was measured. Less leaves noise in the picture; more smooths it "
        "away, and with it what the prior has not seen in faces, or in digits.",
    )
    with st.expander("Advanced", icon=":material/tune:"):
        presets(task)
        method = knobs.choice(
            "Descend in",
            "method",
            WAYS,
            help="What is changed, step by step: the picture itself, from rough to fine; or its code z in the flow, as "
            "in the paper, which takes several times as long.",
            on_change=lambda: knobs.forget("beta", "steps"),
        )
        about = "How often the picture is changed. Fewer steps are quicker and leave it unfinished."
        steps = int(number("Steps", "steps", STEPS, ours["steps"], about))
        seed = knobs.seed("What is drawn: the noise, where the digits lie, what is measured.")
        gamma = number(
            "γ, of Asim et al.",
            "gamma",
            GAMMAS,
            removal.settings(task, "asim")["gamma"],
            "For the comparison of methods: how short the picture's code is to be. More makes pictures plainer.",
        )
        lam = number(
            "λ, of Bora et al.",
            "lam",
            LAMS,
            removal.settings(task, "bora")["lam"],
            "For the comparison of methods: how short the code in the GAN is to be. More makes pictures plainer.",
        )
    chosen = Settings(method, removal.settings(task, method, {"smoothing": beta, "steps": steps}))
    others = {"asim": {"gamma": gamma}, "bora": {"lam": lam}}
    compared = {
        name: chosen if name == method else Settings(name, removal.settings(task, name, others.get(name, {})))
        for name in TASKS[task].methods
    }
    return chosen, compared, seed


def presets(task: str) -> None:
    """The paper's settings and ours, one click away."""
    paper, ours = removal.settings(task, "map-z"), removal.settings(task, "map")
    others = {"gamma": removal.settings(task, "asim")["gamma"], "lam": removal.settings(task, "bora")["lam"]}
    with st.container(horizontal=True):
        for label, method, defaults in (("Paper's defaults", "map-z", paper), ("Our defaults", "map", ours)):
            values = {"method": method, "beta": defaults["smoothing"], "steps": defaults["steps"], **others}
            st.button(label, on_click=st.session_state.update, args=[{**TASKS[task].knobs, **values}])


def remembered(chosen: Settings, compared: dict[str, Settings]) -> dict[str, str | float]:
    """The settings for the page's address, by the names that the command line has for them."""
    return {
        "method": chosen.method,
        "beta": chosen.arguments["smoothing"],
        "steps": chosen.arguments["steps"],
        "gamma": compared["asim"].arguments["gamma"],
        "lam": compared["bora"].arguments["lam"],
    }
