"""Sampling: what a denoiser takes for a likely picture, with nothing measured."""

from dataclasses import replace

import streamlit as st

from invlib.priors import checkpoints
from pages.ui import address, betas, knobs, layout, pixels, results, saved, stage, theory
from pages.ui.kinds import KINDS

TASK = "sampling"
WORDS = {
    "draw": "Each starts from noise of its own.",
    "interpolate": "The ends are samples 1 and 2 of this seed. Between them, all noise is a mixture of theirs, as "
    "strong as ever: each picture is a sample too.",
}

layout.heading(
    "Sampling",
    "From nothing but noise, a denoiser climbs towards what it thinks likely. Nobody taught it to draw, yet the edges, "
    "textures and shadings of photographs come out, or strokes that are almost digits.",
)
left, right = layout.columns()
try:
    with left:
        kind = knobs.choice(
            "Kind of picture",
            "kind",
            {name: kind.label for name, kind in KINDS.items()},
            help="What the denoiser was trained on: photographs in colour, in grey, or handwritten digits.",
            on_change=lambda: knobs.forget("h0", "beta"),
        )
        mode = knobs.choice(
            "What to do",
            "mode",
            {"draw": "Draw", "interpolate": "Interpolate"},
            help="Draw pictures, each from noise of its own; or walk from one to another by mixing their noise.",
            on_change=lambda: knobs.forget("samples"),
        )
        side, settings = knobs.sampling(KINDS[kind], mode == "interpolate")
        problem = replace(KINDS[kind].problem(side, mode == "interpolate"), words=WORDS[mode])
        address.write(kind=kind, mode=mode, size=side, **settings.parameters)
        stage.run_button(problem, settings)
    with right:
        run = stage.show(problem, settings, saved.load(TASK))
        theory.fold()
    height, width = run.mean.shape[:2]
    results.show(run, measured=f"{width}×{height} pixels")
    betas.show(KINDS[kind].problem(side, interpolate=False), settings)
except (checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
