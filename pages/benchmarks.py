"""Benchmarks: the first paper's tables and figures, measured again, and a row of them on this machine."""

import streamlit as st

from invlib.priors import checkpoints
from pages.ui import address, benchmarks, layout, pixels

VIEWS = {
    "super-resolution": ("Super-resolution", lambda: benchmarks.table("table1")),
    "deblurring": ("Deblurring", lambda: benchmarks.table("table2")),
    "compressive-sensing": ("Compressive sensing", lambda: benchmarks.table("table3")),
    "convergence": ("Convergence", benchmarks.convergence),
    "figure-1": ("Figure 1", benchmarks.figure1),
    "denoising": ("Denoising", benchmarks.denoising),
    "speed": ("Speed", benchmarks.speed),
}

layout.heading(
    "Benchmarks",
    "The tables and figures of the paper behind these pages, measured again: what this app’s denoisers achieve, beside "
    "what the paper reports and what one would try instead.",
)
try:
    titles = {name: title for name, (title, _) in VIEWS.items()}
    chosen = benchmarks.pick("Experiment", "show", titles, "The first three are tables 1 to 3 of the paper.")
    _, show = VIEWS[chosen]
    address.write(show=chosen, **show())
except (checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
