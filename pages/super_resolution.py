"""Super-resolution: many large pictures that shrink to the same small one."""

from dataclasses import replace

import streamlit as st

from invlib import examples, images
from invlib.priors import checkpoints
from pages.ui import address, knobs, layout, picture, pixels, results, saved, stage, theory
from pages.ui.runs import Problem, given, simulate

TASK = "super-resolution"

# Longest sides, in pixels, of a picture to degrade and of an enlarged one. On two processor cores a run takes seconds
# for an example and a minute or two for the largest.
LONGEST = 512
LONGEST_RESULT = 768


def pose(mode: str, factor: int) -> Problem:
    """Let the visitor pick a picture and measure it, or take it as what was measured."""
    if mode == "enlarge":
        small = picture.pick(longest=LONGEST_RESULT // factor, side=examples.EXAMPLE_SIDE // 4, small=True)
        channels, height, width = small.image.shape[1:]
        return given(TASK, small, (channels, height * factor, width * factor), factor=factor)
    clean = picture.pick(longest=LONGEST)
    return simulate(TASK, picture.cropped(clean, factor), factor=factor)


layout.heading(
    "Super-resolution",
    "A small picture could have come from many large ones. A denoiser that has learnt what photographs look like finds "
    "several, each of which shrinks back to exactly the small picture.",
)
left, right = layout.columns()
try:
    with left:
        mode = knobs.choice(
            "What to do",
            "mode",
            {"degrade": "Degrade and score", "enlarge": "Enlarge my picture"},
            help="Degrade a clean picture and see how close the answer comes to it; or enlarge a small one.",
        )
        place = st.container()  # the picture comes first, but how large it may be depends on the factor
        factor = knobs.choice(
            "Factor",
            "factor",
            {2: "2×", 3: "3×", 4: "4×", 8: "8×"},
            default=4,
            help="How many times wider and higher the result is. At 8×, one measured pixel stands for 64 unknown ones.",
        )
        with place:
            problem = pose(mode, factor)
        problem = replace(problem, words=f"Each is the average of a block of {factor}×{factor} pixels.")
        settings = knobs.settings(problem)
        address.write(mode=mode, factor=factor, picture=st.session_state["picture"], **settings.parameters)
        stage.run_button(problem, settings)
    with right:
        run = stage.show(problem, settings, saved.load(TASK))
        theory.fold("a number of $m$ is the average of a block of pixels, and $M$ spreads it over the block again.")
    results.show(run, measured=f"{run.parameters['factor']}×")
except (images.ImageError, checkpoints.CheckpointError) as error:
    st.error(pixels.sentence(error))
