"""Denoising: takes the noise off a picture in one evaluation, and says how strong it was."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import runs
from invlib.problems import denoising
from invlib.problems.denoising import DENOISING, GAIN
from invlib.problems.spec import Knob
from invlib.solvers.methods import methods_for
from pages.ui import comparison, knobs, page, picture, saved, theory
from pages.ui.stage import Request

LEVELS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
NOISE = Knob(
    "noise",
    float,
    "The standard deviation of the noise that is added, where white is 1. At 0.4 hardly anything is left to see.",
    "Noise level",
    0.1,
    LEVELS,
)
KNOWN = Knob(
    "known",
    float,
    "The standard deviation of the noise in your picture, where white is 1; with 0 it is estimated. One evaluation "
    "does without it.",
    "Noise level, if you know it",
    0.0,
    (0.0, 0.01, *LEVELS),
)
WAYS = {"blind": "One evaluation", "fast": "Samples", "paper": "Paper's"}
HELP = (
    "One evaluation is the average of all pictures that could have been under the noise. Samples are such pictures, "
    "and take 12 evaluations; the paper's take hundreds."
)
COMPARED = ("blind", "fast", "bm3d", "wavelets", "tv")
ABOUT = (
    "The same picture, given to each method in turn. BM3D looks for patches that are alike, wavelets shrink small "
    "coefficients, and total variation flattens; they are told the noise level, or are given our estimate of it."
)


def ask(board: DeltaGenerator) -> page.Asked:
    mode = knobs.choice(
        "What to do",
        "mode",
        {"add": "Add noise", "clean": "Clean my picture"},
        help="Add noise to a clean picture and see how close the answer comes to it; or bring a picture that is noisy.",
    )
    adding = mode == "add"
    chosen = picture.pick(longest=page.LONGEST, names=saved.pictures(DENOISING), small=not adding)
    level = knobs.widget(NOISE) if adding else knobs.remembered(KNOWN)
    gain = knobs.remembered(GAIN)
    problem = denoising.pose(
        DENOISING,
        chosen,
        {"gain": gain},
        simulated=adding,
        noise_level=level or None,
        seed=knobs.remember_seed(),
    )
    settings = knobs.settings(problem, WAYS, HELP, (GAIN,) if adding else (KNOWN, GAIN))
    words = "White noise was added." if not gain else "Noise was added that is stronger where the picture is bright."
    if not adding:
        own = st.session_state["picture"] == picture.OWN
        words = (
            "The noise is that of your picture." if own else "An example has hardly any noise: bring a noisy picture."
        )
    methods = {name: method for name, method in methods_for(problem).items() if name in COMPARED and method.installed}
    compared = {
        name: runs.settings(problem, name, prior=settings.prior, samples=4 if method.draws else 1)
        for name, method in methods.items()
    }
    given = {"noise": level} if adding else {"known": level}
    request = Request(problem, settings, words, "Noisy", compared=compared)
    return request, {"mode": mode, **given, "gain": gain}, True


page.show(
    "Denoising",
    "A denoiser that was never told how noisy a picture is: one look takes the noise off, and tells how strong it was, "
    "from place to place.",
    ask,
    theory.denoising_fold,
    measured=lambda run: "noisy",
    further=lambda request: comparison.show(request, ABOUT),
)
