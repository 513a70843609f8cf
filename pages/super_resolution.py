"""Super-resolution: many large pictures that shrink to the same small one."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import examples
from invlib.problems import linear
from pages.ui import knobs, page, picture
from pages.ui.stage import Request

TASK = "super-resolution"
(FACTOR,) = linear.TASKS[TASK].knobs

LONGEST_RESULT = 768
"""The longest side of an enlarged picture, in pixels. A run of it takes a minute or two on two processor cores."""


def ask(board: DeltaGenerator) -> page.Asked:
    mode = knobs.choice(
        "What to do",
        "mode",
        {"degrade": "Degrade and score", "enlarge": "Enlarge my picture"},
        help="Degrade a clean picture and see how close the answer comes to it; or enlarge a small one.",
    )
    place = st.container()  # the picture comes first, but how large it may be depends on the factor
    factor = knobs.widget(FACTOR)
    with place:
        if mode == "enlarge":
            chosen = picture.pick(longest=LONGEST_RESULT // factor, side=examples.EXAMPLE_SIDE // 4, small=True)
        else:
            chosen = picture.pick(longest=page.LONGEST)
    problem = linear.pose(TASK, chosen, {"factor": factor}, simulated=mode == "degrade")
    words = f"Each is the average of a block of {factor}×{factor} pixels."
    return Request(problem, knobs.settings(problem), words), {"mode": mode, "factor": factor}, True


page.show(
    "Super-resolution",
    "A small picture could have come from many large ones. A denoiser that has learnt what photographs look like finds "
    "several, each of which shrinks back to exactly the small picture.",
    ask,
    page.fold("a number of $m$ is the average of a block of pixels, and $M$ spreads it over the block again."),
    measured=lambda run: f"{run.parameters['knobs']['factor']}×",
)
