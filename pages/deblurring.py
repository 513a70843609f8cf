"""Deblurring: finds the frequencies again that a blur removed."""

from typing import Any

import numpy as np
import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator

from invlib.problems import linear
from invlib.problems.operators import FramedBlur
from pages.ui import knobs, page, picture, saved
from pages.ui.components import draw
from pages.ui.linear import frequencies
from pages.ui.stage import Request

TASK = "deblurring"
KEEP, GAUSSIAN, *_, CIRCULAR = linear.TASKS[TASK].knobs
LOW_PASS = "They are its lowest frequencies; all finer detail is lost."
FRAMED = "Each is an average over the shape of the blur, which reaches beyond the frame."
WRAPPED = "They are the frequencies that the blur left some trace of."

KERNEL_SIDE = 31  # of a drawn blur, in pixels
SQUIGGLE: list[draw.Stroke] = [{"points": [[7, 22], [9, 9], [16, 7], [19, 14], [15, 21], [24, 23]], "brush": 2}]


def blur() -> tuple[dict[str, Any], dict[str, Any]]:
    """Let the visitor choose a blur. Return the settings for the address, and the values of the task's knobs."""
    kind = knobs.selection(
        "Blur",
        "blur",
        {"low-pass": "Low-pass", "gaussian": "Gaussian", "motion": "Motion", "drawn": "Drawn by hand"},
        "Low-pass keeps the lowest frequencies whole. The others smear a point of light into a spot, a streak, or a "
        "shape that you draw.",
    )
    if kind == "low-pass":
        keep = knobs.widget(KEEP)
        return {"blur": kind, "keep": keep}, {"keep": keep}
    if kind == "gaussian":
        sigma = knobs.widget(GAUSSIAN, 2.0)
        return {"blur": kind, "gaussian": sigma}, {"gaussian": sigma}
    if kind == "motion":
        length = knobs.level("Length", "length", [3, 5, 9, 15, 21, 31], 15, "How far the camera moved, in pixels.")
        angle = knobs.level("Direction", "angle", list(range(0, 180, 15)), 30, "In degrees from the horizontal.")
        return {"blur": kind, "length": length, "angle": angle}, {"motion": (float(length), float(angle))}
    black, about = np.zeros((KERNEL_SIDE, KERNEL_SIDE), np.uint8), "Draw what becomes of a point of light"
    drawn = draw.over(black, key="kernel", label=about, brush=2, colour="#fff", initial=SQUIGGLE)
    drawn[KERNEL_SIDE // 2, KERNEL_SIDE // 2] |= not drawn.any()  # nothing drawn, no blur
    return {"blur": kind}, {"kernel": torch.from_numpy(drawn).float()}


def ask(board: DeltaGenerator) -> page.Asked:
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
        shown = picture.pick(longest=page.LONGEST, names=saved.pictures(TASK))
    simulated = mode == "blur"
    with st.expander("Noise and edges", icon=":material/blur_on:"):
        setting, noise = knobs.noise(simulated=simulated)
        if chosen["blur"] != "low-pass":
            blurred["circular"] = chosen["circular"] = knobs.widget(CIRCULAR)
    problem = linear.pose(TASK, shown, blurred, simulated=simulated, **noise)
    framed = isinstance(problem.operator, FramedBlur)
    words = FRAMED if framed else LOW_PASS if chosen["blur"] == "low-pass" else WRAPPED
    tiles = () if framed else (frequencies(problem),)
    request = Request(problem, knobs.settings(problem), words, tiles=tiles)
    return request, {"mode": mode, **chosen, **setting}, True


page.show(
    "Deblurring",
    "A blur wipes out fine detail, but a denoiser knows what usually was there. It keeps every frequency that survived "
    "and finds a likely value for those that did not.",
    ask,
    page.fold("$M^\\mathsf{T}$ takes the Fourier coefficients that the blur left, and $M$ puts them back."),
    measured=lambda run: "blurred",
)
