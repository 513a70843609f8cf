"""Super-resolution: many large pictures that shrink to the same small one."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import examples
from invlib.problems import linear
from pages.ui import knobs, page, picture
from pages.ui.stage import Request

TASK = "super-resolution"
FACTOR, WAY = linear.TASKS[TASK].knobs
MADE = {
    "box": "Each is the average of a block of {0}×{0} pixels.",
    "bicubic": "A bicubic filter made the picture {0} times smaller.",
    "lanczos": "A Lanczos filter made the picture {0} times smaller.",
    "nearest": "Each is the pixel in the middle of a block of {0}×{0} pixels.",
    "stride": "Each is the first pixel of a block of {0}×{0} pixels.",
}
"""The ways in which a picture is made small, in words."""

LONGEST_RESULT = 768
"""The longest side of an enlarged picture, in pixels. A run of it takes a minute or two on two processor cores."""


def ask(board: DeltaGenerator) -> page.Asked:
    mode = knobs.choice(
        "What to do",
        "mode",
        {"degrade": "Degrade and score", "enlarge": "Enlarge my picture"},
        help="Degrade a clean picture and see how close the answer comes to it; or enlarge a small one.",
    )
    simulated = mode == "degrade"
    place = st.container()  # the picture comes first, but how large it may be depends on the factor
    factor = knobs.widget(FACTOR)
    with place:
        if mode == "enlarge":
            chosen = picture.pick(longest=LONGEST_RESULT // factor, side=examples.EXAMPLE_SIDE // 4, small=True)
        else:
            chosen = picture.pick(longest=page.LONGEST)
    with st.expander("How the small picture was made", icon=":material/photo_size_select_small:"):
        way = knobs.widget(WAY)
        setting, noise = knobs.noise(simulated=simulated)
    problem = linear.pose(TASK, chosen, {"factor": factor, "downsampling": way}, simulated=simulated, **noise)
    request = Request(problem, knobs.settings(problem), MADE[way].format(factor))
    return request, {"mode": mode, "factor": factor, "downsampling": way, **setting}, True


page.show(
    "Super-resolution",
    "A small picture could have come from many large ones. A denoiser that has learnt what photographs look like finds "
    "several, each of which shrinks back to exactly the small picture.",
    ask,
    page.fold("a number of $m$ is the average of a block of pixels, and $M$ spreads it over the block again."),
    measured=lambda run: f"{run.parameters['knobs']['factor']}×",
)
