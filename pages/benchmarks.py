"""Benchmarks: the first paper's tables and figures, measured again, and a row of them on this machine."""

import streamlit as st

from invlib.priors import checkpoints
from pages.ui import address, layout, pixels
from pages.ui.benchmarks import views

VIEWS = {
    "super-resolution": ("Super-resolution", lambda: views.table("table1")),
    "deblurring": ("Deblurring", lambda: views.table("table2")),
    "compressive-sensing": ("Compressive sensing", lambda: views.table("table3")),
    "convergence": ("Convergence", views.convergence),
    "figure-1": ("Figure 1", lambda: views.results_of("figure1", views.figure1)),
    "denoising": ("Denoising", lambda: views.results_of("denoisers", views.denoising)),
    "calibration": ("Calibration", lambda: views.results_of("calibration", views.calibrated)),
    "memorisation": ("Memorisation", lambda: views.results_of("memorisation", views.memorised)),
    "speed": ("Speed", lambda: views.results_of("speed", views.speed)),
}

layout.heading(
    "Benchmarks",
    "The tables and figures of the paper behind these pages, measured again: what this app’s denoisers achieve, beside "
    "what the paper reports and what one would try instead.",
)
try:
    titles = {name: title for name, (title, _) in VIEWS.items()}
    chosen = views.pick("Experiment", "show", titles, "The first three are tables 1 to 3 of the paper.")
    address.write(show=chosen, **VIEWS[chosen][1]())
except (checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
