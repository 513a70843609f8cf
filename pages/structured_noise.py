"""Structured noise: taken off a picture by a model of the noise and a model of pictures."""

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import images
from invlib.priors import checkpoints
from invlib.problems.structured import TASKS
from pages.ui import (
    address,
    draw,
    layout,
    methods,
    noise_knobs,
    picture,
    pixels,
    removal_examples,
    removal_results,
    removal_stage,
    theory,
)
from pages.ui.removals import PEN, Case
from pages.ui.runs import Picture


def scribble(chosen: Picture, board: DeltaGenerator) -> np.ndarray:
    """Let the visitor draw on the picture: True where the pen was."""
    height, width = chosen.image.shape[2:]
    own = st.session_state["picture"] == picture.OWN
    with board.container(width=360):
        return draw.strokes(
            pixels.png(images.to_uint8(chosen.image)),
            width=width,
            height=height,
            key="scribble",
            label="Scribble on the picture.",
            brush=2,
            colour=PEN,
            initial=() if own else removal_examples.SCRIBBLE,
        )


layout.heading(
    "Structured noise",
    "Stripes, pasted digits, a scribble: noise that has a shape of its own. One flow knows which noise is likely, "
    "another which pictures are; together they tell the two apart.",
)
left, right = layout.columns()
try:
    with left:
        noise = noise_knobs.noise()
        chosen = picture.pick_small(TASKS[noise].kind)
        knobs = noise_knobs.amounts(noise)
        settings, compared, seed = noise_knobs.settings(noise)
        strokes = scribble(chosen, right) if noise == "scribble" else None
        case = Case(noise, chosen, knobs, seed, strokes)
        names = noise_knobs.remembered(settings, compared)
        address.write(noise=noise, picture=st.session_state["picture"], **knobs, seed=seed, **names)
        removal_stage.run_button(case, settings)
    with right:
        run = removal_stage.show(case, settings, removal_examples.load(noise))
        theory.noise_fold()
    removal_results.show(run)
    methods.show(case, compared)
    methods.show_sweep(case, compared)
except (images.ImageError, checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
