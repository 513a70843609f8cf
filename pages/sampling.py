"""Sampling: draws pictures that a prior finds likely, with nothing measured."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from invlib import runs
from invlib.solvers.methods import METHODS
from pages.ui import betas, knobs, page, sampling, theory
from pages.ui.sampling import KINDS, PAPER, TEMPERATURES
from pages.ui.stage import Request

WORDS = {
    ("draw", False): "Each starts from noise of its own.",
    ("interpolate", False): "The ends are samples 1 and 2 of this seed. Between them, all noise is a mixture of "
    "theirs, as strong as ever: each picture is a sample too.",
    ("draw", True): "Each is what one evaluation of the network makes of noise of its own.",
    ("interpolate", True): "The ends are samples 1 and 2 of this seed. Between them, the noise turns from the one to "
    "the other along a circle, as strong as ever: each picture is a sample too.",
}
PRIOR = (
    "The network that knows what such pictures look like. A denoiser climbs to a picture in dozens of evaluations; a "
    "flow (RealNVP) or the generator of a GAN or a VAE makes one of noise at once."
)


def ask(board: DeltaGenerator) -> page.Asked:
    chosen = knobs.choice(
        "Kind of picture",
        "kind",
        {name: kind.label for name, kind in KINDS.items()},
        help="What the prior was trained on: faces, photographs in colour or in grey, or handwritten digits.",
        on_change=lambda: knobs.forget("h0", "beta"),
    )
    kind = KINDS[chosen]
    prior = knobs.prior(sampling.priors(chosen), PRIOR)
    name = sampling.method_of(prior)
    method, direct = METHODS["sample"][name], name in TEMPERATURES
    mode = knobs.choice(
        "What to do",
        "mode",
        {"draw": "Draw", "interpolate": "Interpolate"},
        help="Draw pictures, each from noise of its own; or walk from one to another by mixing their noise.",
        on_change=lambda: knobs.forget("samples"),
    )
    interpolate = mode == "interpolate"
    count = knobs.samples(
        8 if interpolate or direct else kind.samples,
        kind.most,
        least=2 if interpolate else 1,
        help="How many pictures to draw. Time grows with their number.",
    )
    paper, ours = ({"temperature": 1.0}, {"temperature": TEMPERATURES[name]}) if direct else (PAPER, kind.arguments)
    values = knobs.of_method(method, ours, advanced=False)
    side = kind.side
    with st.expander("Advanced", icon=":material/tune:"):
        if paper != ours:
            knobs.presets(paper, ours)
        if not direct:
            about = "Of the pictures, in pixels. The denoiser sees a part at a time, so large ones are a patchwork."
            side = int(knobs.level("Side", "size", kind.sides, kind.side, about))
        values |= knobs.of_method(method, ours, advanced=True)
        seed = knobs.seed()
    problem = kind.problem(side, interpolate)
    settings = runs.settings(problem, name, values, prior=prior, samples=count, seed=seed)
    request = Request(problem, settings, WORDS[mode, direct], instant=direct)
    return request, {"kind": chosen, "mode": mode, "size": side}, True


def explain() -> None:
    direct = sampling.method_of(st.session_state["prior"]) in TEMPERATURES
    (theory.direct_fold if direct else theory.fold)()


def compare_betas(request: Request) -> None:
    if request.settings.method != "paper":
        return
    _, height, _ = request.problem.image_shape
    betas.show(KINDS[st.session_state["kind"]].problem(height, interpolate=False), request.settings)


page.show(
    "Sampling",
    "From nothing but noise, a denoiser climbs towards what it thinks likely. Nobody taught it to draw, yet faces come "
    "out, the edges and shadings of photographs, or strokes that are almost digits. Flows and GANs were taught to "
    "draw: they turn noise into a picture at once.",
    ask,
    explain,
    measured=lambda run: "{1}×{0} pixels".format(*run.mean.shape),
    further=compare_betas,
)
