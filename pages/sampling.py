"""Sampling: draws pictures that a denoiser finds likely, with nothing measured."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import runs
from invlib.solvers.methods import METHODS
from pages.ui import betas, knobs, page
from pages.ui.sampling import KINDS, PAPER
from pages.ui.stage import Request

WORDS = {
    "draw": "Each starts from noise of its own.",
    "interpolate": "The ends are samples 1 and 2 of this seed. Between them, all noise is a mixture of theirs, as "
    "strong as ever: each picture is a sample too.",
}
ASCENT = METHODS["sample"]["paper"]


def ask(board: DeltaGenerator) -> page.Asked:
    chosen = knobs.choice(
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
    kind, interpolate = KINDS[chosen], mode == "interpolate"
    count = knobs.samples(
        8 if interpolate else 4,
        kind.most,
        least=2 if interpolate else 1,
        help="How many pictures to draw. Time grows with their number.",
    )
    values = knobs.of_method(ASCENT, kind.arguments, advanced=False)
    with st.expander("Advanced", icon=":material/tune:"):
        knobs.presets(PAPER, kind.arguments)
        about = "Of the pictures, in pixels. The denoiser sees a part at a time, so large ones are a patchwork."
        side = int(knobs.level("Side", "size", kind.sides, kind.side, about))
        values |= knobs.of_method(ASCENT, kind.arguments, advanced=True)
        prior = knobs.prior(kind.offered(knobs.priors(kind.channels)))
        seed = knobs.seed()
    problem = kind.problem(side, interpolate)
    settings = runs.settings(problem, "paper", values, prior=prior, samples=count, seed=seed)
    return Request(problem, settings, WORDS[mode]), {"kind": chosen, "mode": mode, "size": side}, True


def compare_betas(request: Request) -> None:
    _, height, _ = request.problem.image_shape
    betas.show(KINDS[st.session_state["kind"]].problem(height, interpolate=False), request.settings)


page.show(
    "Sampling",
    "From nothing but noise, a denoiser climbs towards what it thinks likely. Nobody taught it to draw, yet the edges, "
    "textures and shadings of photographs come out, or strokes that are almost digits.",
    ask,
    page.fold(),
    measured=lambda run: "{1}×{0} pixels".format(*run.mean.shape),
    further=compare_betas,
)
