"""Deblurring: frequencies that a blur removed, found again."""

from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
import torch

from invlib import images
from invlib.priors import checkpoints
from pages.ui import address, draw, knobs, layout, picture, pixels, results, saved, stage, theory, views
from pages.ui.runs import Problem, given, simulate

TASK = "deblurring"
LONGEST = 512  # of a picture's sides, in pixels
WORDS = {
    "low-pass": "They are its lowest frequencies; all finer detail is lost.",
    "gaussian": "They are the frequencies that the blur left some trace of.",
    "motion": "They are the frequencies that the streak left some trace of; it wipes out whole bands.",
    "drawn": "They are the frequencies that the drawn blur left some trace of.",
}


KERNEL_SIDE = 31  # of a drawn blur, in pixels
SQUIGGLE: list[draw.Stroke] = [{"points": [[7, 22], [9, 9], [16, 7], [19, 14], [15, 21], [24, 23]], "brush": 2}]


def blur() -> tuple[dict[str, str | float], dict[str, Any]]:
    """Let the visitor choose a blur: the settings for the address, and the task's knobs."""
    kind = knobs.selection(
        "Blur",
        "blur",
        {"low-pass": "Low-pass", "gaussian": "Gaussian", "motion": "Motion", "drawn": "Drawn by hand"},
        "Low-pass keeps the lowest frequencies whole. The others smear a point of light into a spot, a streak, or a "
        "shape that you draw.",
    )
    if kind == "low-pass":
        about = "How many of the frequencies are left. Fewer leave a softer picture and more to be guessed."
        keep = knobs.fraction("Frequencies kept", "keep", [0.02, 0.05, 0.1, 0.2, 0.4], 0.1, about)
        return {"blur": kind, "keep": keep}, {"keep": keep}
    if kind == "gaussian":
        about = "The standard deviation of the spot, in pixels."
        sigma = knobs.level("Spread", "gaussian", [0.5, 1.0, 1.5, 2.0, 3.0, 4.0], 2.0, about)
        return {"blur": kind, "gaussian": sigma}, {"gaussian": sigma}
    if kind == "motion":
        length = knobs.level("Length", "length", [3, 5, 9, 15, 21, 31], 15, "How far the camera moved, in pixels.")
        angle = knobs.level("Direction", "angle", list(range(0, 180, 15)), 30, "In degrees from the horizontal.")
        return {"blur": kind, "length": length, "angle": angle}, {"motion": (length, angle)}
    about = "Draw what becomes of a point of light"
    black = pixels.png(np.zeros((KERNEL_SIDE, KERNEL_SIDE), np.uint8))
    drawn = draw.strokes(
        black,
        width=KERNEL_SIDE,
        height=KERNEL_SIDE,
        key="kernel",
        label=about,
        brush=2,
        colour="#fff",
        initial=SQUIGGLE,
    )
    drawn[KERNEL_SIDE // 2, KERNEL_SIDE // 2] |= not drawn.any()  # nothing drawn, no blur
    return {"blur": kind}, {"kernel": torch.from_numpy(drawn).float()}


def pose(mode: str, **blurred: Any) -> Problem:
    """Let the visitor pick a picture and blur it, or take it as the blurred one."""
    chosen = picture.pick(longest=LONGEST, names=saved.pictures(TASK))
    if mode == "sharpen":
        return given(TASK, chosen, tuple(chosen.image.shape[1:]), **blurred)
    return simulate(TASK, chosen, **blurred)


layout.heading(
    "Deblurring",
    "A blur wipes out fine detail, but a denoiser knows what usually was there. It keeps every frequency that survived "
    "and finds a likely value for those that did not.",
)
left, right = layout.columns()
try:
    with left:
        mode = knobs.choice(
            "What to do",
            "mode",
            {"blur": "Blur and score", "sharpen": "Sharpen my picture"},
            help="Blur a clean picture and see how close the answer comes to it; or sharpen a picture that is blurred "
            "in a way that you know.",
        )
        place = st.container()  # the picture comes before the blur
        chosen, blurred = blur()
        with place:
            problem = pose(mode, **blurred)
        problem = replace(problem, words=WORDS[chosen["blur"]], tiles=(views.frequencies(problem),))
        settings = knobs.settings(problem)
        address.write(mode=mode, picture=st.session_state["picture"], **chosen, **settings.parameters)
        stage.run_button(problem, settings)
    with right:
        run = stage.show(problem, settings, saved.load(TASK))
        theory.fold("$M^\\mathsf{T}$ takes the Fourier coefficients that the blur left, and $M$ puts them back.")
    results.show(run, measured="blurred")
except (images.ImageError, checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
