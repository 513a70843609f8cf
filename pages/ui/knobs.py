"""The settings that every page of the first paper has: how many samples, which sampler, which prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from invlib.priors import checkpoints
from invlib.problems.linear import default_prior
from invlib.solvers.ascent import default_schedule
from pages.ui import address, kinds
from pages.ui.address import Value
from pages.ui.kinds import Kind
from pages.ui.runs import Problem, Settings

STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]
"""For h₀ and β, which matter by their order of magnitude."""

PAPER: dict[str, Any] = {"sampler": "paper", "h0": 0.01, "beta": 0.01, "sigma_0": 1.0, "sigma_L": 0.01}
"""Kadkhodaie & Simoncelli (2021), for every inverse problem."""


SIGMAS_0 = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0]
SIGMAS_L = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1]
CORRELATIONS = [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]


def choice(
    label: str,
    key: str,
    options: Mapping[Value, str],
    *,
    help: str,
    default: Value | None = None,
    on_change: Callable[[], None] | None = None,
) -> Value:
    """One of a few options, side by side; the first is the default if none is named."""
    address.remember(key, next(iter(options)) if default is None else default, options)
    chosen = st.segmented_control(
        label,
        list(options),
        key=key,
        format_func=options.__getitem__,
        required=True,
        width="stretch",
        help=help,
        on_change=on_change,
    )
    assert chosen is not None  # It is required, and `remember` gave it a value.
    return chosen


def selection(
    label: str,
    key: str,
    options: Mapping[Value, str],
    help: str,
    on_change: Callable[[], None] | None = None,
) -> Value:
    """One of a few options whose names are too long to stand side by side; the first is the default."""
    address.remember(key, next(iter(options)), options)
    return st.selectbox(label, list(options), key=key, format_func=options.__getitem__, help=help, on_change=on_change)


def level(label: str, key: str, options: Sequence[float], default: float, help: str) -> float:
    """One of a few numbers on a slider."""
    address.remember(key, default, options)
    return st.select_slider(label, options, key=key, help=help, persist_state="page")


def fraction(label: str, key: str, options: Sequence[float], default: float, help: str) -> float:
    """One of a few fractions, shown in per cent."""
    address.remember(key, default, options)
    return st.select_slider(label, options, key=key, format_func=percent, help=help, persist_state="page")


def percent(value: float) -> str:
    return f"{100 * value:g} %"


def settings(problem: Problem) -> Settings:
    """How to solve a problem: samples and sampler in view, everything else folded away."""
    count = samples(4)
    sampler = choice(
        "Sampler",
        "sampler",
        {"fast": "Fast", "paper": "Paper's"},
        help="Fast: a fixed number of denoising steps, seconds for a small picture. Paper's: the published stochastic "
        "ascent, which takes several times as many steps for pictures of the same quality.",
        on_change=lambda: forget("sigma_0", "sigma_L"),
    )
    steps = step_sizes(PAPER) if sampler == "paper" else {}
    ours = ours_for(problem, count)
    with st.expander("Advanced", icon=":material/tune:"):
        presets(ours, PAPER)
        arguments = steps | (noise_levels(PAPER) if sampler == "paper" else schedule(ours))
        chosen = prior(priors(problem.image_shape[0]))
        number = seed()
    return Settings(chosen, sampler, count, number, arguments)


def ours_for(problem: Problem, count: int) -> dict[str, Any]:
    """Our defaults for a problem: the fast sampler, and its schedule for what was measured and so many samples."""
    assert problem.operator is not None
    return {"sampler": "fast", **asdict(default_schedule(problem.operator, count))}


def sampling(kind: Kind, interpolate: bool) -> tuple[int, Settings]:
    """The side of the pictures to draw from a prior alone, and how to draw them."""
    count = samples(
        8 if interpolate else 4,
        kind.most,
        least=2 if interpolate else 1,
        help="How many pictures to draw. Time grows with their number.",
    )
    ours = kind.arguments
    steps = step_sizes(ours)
    with st.expander("Advanced", icon=":material/tune:"):
        presets(ours, kinds.PAPER)
        about = "Of the pictures, in pixels. The denoiser sees a part at a time, so large ones are a patchwork."
        side = int(level("Side", "size", kind.sides, kind.side, about))
        arguments = steps | noise_levels(ours)
        chosen = prior(kind.offered(priors(kind.channels)))
        number = seed()
    return side, Settings(chosen, "paper", count, number, arguments)


def presets(ours: Mapping[str, Any], paper: Mapping[str, Any]) -> None:
    """Both sets of defaults, one click away."""
    with st.container(horizontal=True):
        st.button("Paper's defaults", on_click=st.session_state.update, args=[paper])
        st.button("Our defaults", on_click=st.session_state.update, args=[ours])


def forget(*keys: str) -> None:
    """Let widgets start from their defaults again, which are about to change."""
    for key in keys:
        st.session_state.pop(key, None)


SAMPLES = (
    "How many answers to draw. They differ where the picture leaves room for guessing, and their average is smoother "
    "and closer to the truth than any of them. Time grows with their number."
)


def samples(default: int, most: int = 8, *, least: int = 1, help: str = SAMPLES) -> int:
    """How many answers."""
    address.remember("samples", default, range(least, most + 1))
    return st.slider("Samples", least, most, key="samples", help=help)


SEED = "Where the noise starts from: another seed gives other answers, the same seed the same ones."


def seed(help: str = SEED) -> int:
    address.remember("seed", 0, lambda seed: 0 <= seed < 2**31)
    return st.number_input("Seed", 0, 2**31 - 1, key="seed", help=help)


def schedule(ours: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the fast sampler's schedule."""
    step = 1 if ours["derivative"] else 2  # of two where every step takes the derivative
    address.remember("evaluations", ours["evaluations"], range(4, 201, step))
    count = st.slider(
        "Evaluations",
        4,
        200,
        step=step,
        key="evaluations",
        persist_state="page",
        help="How often the network runs for each sample: a step denoises and, but for holes and the last steps, asks "
        "how the estimate depends on its input. Fewer is quicker and leaves edges soft; beyond a hundred you will "
        "hardly see a difference.",
    )
    correlation = level(
        "Noise correlation",
        "correlation",
        CORRELATIONS,
        ours["correlation"],
        "How much of a step's noise is that of the step before. The more, the further the samples spread over what the "
        "measurements leave open, and the rougher each is.",
    )
    kept = {name: ours[name] for name in ("rho", "antithetic", "derivative", "common", "extrapolation")}
    return {"evaluations": count, **noise_levels(ours), **kept, "correlation": correlation}


def step_sizes(defaults: Mapping[str, float]) -> dict[str, float]:
    """The two arguments of the paper's ascent that matter most."""
    return {
        "h0": level(
            "First step h₀",
            "h0",
            STEPS,
            defaults["h0"],
            "How much of the denoiser's correction the first step takes. Larger is quicker and gives coarser pictures.",
        ),
        "beta": level(
            "Noise control β",
            "beta",
            STEPS,
            defaults["beta"],
            "Smaller values add more noise on the way: more varied texture and a longer run. 1 adds none, and the "
            "picture comes out smooth.",
        ),
    }


def noise_levels(defaults: Mapping[str, float]) -> dict[str, float]:
    """Where a run starts and where it ends."""
    return {
        "sigma_0": level(
            "First noise level σ₀",
            "sigma_0",
            SIGMAS_0,
            defaults["sigma_0"],
            "How strong the noise is at the start, 1 being the picture's full range. Lower starts closer to the "
            "measured picture, with fewer ways to differ from it.",
        ),
        "sigma_L": level(
            "Last noise level σ_L",
            "sigma_L",
            SIGMAS_L,
            defaults["sigma_L"],
            "Where the run stops. Lower resolves finer detail; higher ends sooner and leaves the picture softer.",
        ),
    }


def prior(titles: Mapping[str, str]) -> str:
    """Which denoiser, of those with these names and titles, the default first."""
    if not titles:
        raise checkpoints.CheckpointError("there is no prior for such pictures: restore the folder weights/")
    address.remember("prior", next(iter(titles)), titles)
    return st.selectbox(
        "Prior",
        list(titles),
        key="prior",
        format_func=titles.__getitem__,
        help="The denoiser that knows what pictures look like. Grey pictures get one that was trained on grey ones.",
    )


@st.cache_data
def priors(channels: int) -> dict[str, str]:
    """Names and titles of the registered priors for pictures with so many channels, the default first."""
    titles = {
        name: entry.title
        for name, entry in checkpoints.registry().items()
        if checkpoints.describe(name).arguments.get("channels") == channels
    }
    return {name: titles[name] for name in sorted(titles, key=lambda name: name != default_prior(channels))}
