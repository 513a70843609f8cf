"""Compressive sensing: a picture from a few random sums of all its pixels."""

from dataclasses import replace

import streamlit as st

from invlib import images
from invlib.priors import checkpoints
from pages.ui import address, knobs, layout, picture, pixels, results, saved, stage, sweep, theory, views
from pages.ui.runs import Picture, Problem, simulate

TASK = "compressive-sensing"

# Longest sides, in pixels. A dense basis is a matrix of as many rows as a picture has numbers.
LONGEST = {"structured": 256, "dense": 64}
KEEPS = {"structured": [0.02, 0.04, 0.1, 0.15, 0.25, 0.5], "dense": [0.02, 0.04, 0.1, 0.15, 0.25]}


def pose(chosen: Picture, keep: float, basis: str) -> Problem:
    """Measure a picture."""
    problem = simulate(TASK, chosen, keep=keep, dense=basis == "dense")
    words = "Each is a sum of all pixels, with random weights."
    return replace(problem, words=words, shown="Least squares", tiles=(views.numbers(problem),))


layout.heading(
    "Compressive sensing",
    "Measure a few random mixtures of all pixels, far fewer numbers than there are pixels. Least squares sees noise in "
    "them; a denoiser that has learnt what photographs look like finds the picture.",
)
left, right = layout.columns()
try:
    with left:
        place = st.container()  # the picture comes first, but how large it may be depends on the basis
        basis = knobs.choice(
            "Random weights",
            "basis",
            {"structured": "Structured", "dense": "Dense"},
            help="Structured: random signs, then a fast transform, for pictures of any size. Dense: a matrix of "
            "Gaussian random numbers made orthonormal, as in the paper, for a picture of 64 pixels.",
        )
        about = "How many numbers are measured, as a fraction of those in the picture. Fewer leave more to be guessed."
        keep = knobs.fraction("Numbers kept", "keep", KEEPS[basis], 0.1, about)
        with place:
            side = min(saved.EXAMPLES[TASK].side, LONGEST[basis])
            chosen = picture.pick(longest=LONGEST[basis], side=side, names=saved.pictures(TASK))
        problem = pose(chosen, keep, basis)
        settings = knobs.settings(problem)
        address.write(basis=basis, keep=keep, picture=st.session_state["picture"], **settings.parameters)
        stage.run_button(problem, settings)
    with right:
        run = stage.show(problem, settings, saved.load(TASK))
        theory.fold("the columns of $M$ are random directions, orthonormal, in the space of all pictures.")
    results.show(run, measured=f"{run.parameters['measured']} random sums")
    sweep.show(
        sweep.work(lambda keep: pose(chosen, keep, basis), KEEPS[basis], replace(settings, samples=1)),
        KEEPS[basis],
        key=TASK,
        axis="numbers kept",
        about="How good is one sample when fewer numbers are measured? A run for each fraction, with the settings "
        "above.",
    )
except (images.ImageError, checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
