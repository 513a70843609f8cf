"""The settings that every page of the first paper has: how many samples, which sampler, which prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from invlib import checkpoints
from invlib.tasks import default_prior
from pages.ui import address
from pages.ui.address import Value
from pages.ui.runs import Settings

STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]
"""For h₀ and β, which matter by their order of magnitude."""

PAPER: dict[str, Any] = {"sampler": "paper", "h0": 0.01, "beta": 0.01, "sigma_0": 1.0, "sigma_L": 0.01}
"""Kadkhodaie & Simoncelli (2021), for every inverse problem."""


def choice(label: str, key: str, options: Mapping[Value, str], *, help: str, default: Value | None = None) -> Value:
    """One of a few options, side by side; the first is the default if none is named."""
    address.remember(key, next(iter(options)) if default is None else default, options)
    chosen = st.segmented_control(
        label, list(options), key=key, format_func=options.__getitem__, required=True, width="stretch", help=help
    )
    assert chosen is not None  # It is required, and `remember` gave it a value.
    return chosen


def samples() -> int:
    """How many answers."""
    address.remember("samples", 4, range(1, 9))
    return st.slider(
        "Samples",
        1,
        8,
        key="samples",
        help="How many answers to draw. They differ where the picture leaves room for guessing, and their average is "
        "smoother and closer to the truth than any of them. Time grows with their number.",
    )


def sampler() -> str:
    """Which way to climb."""
    return choice(
        "Sampler",
        "sampler",
        {"fast": "Fast", "paper": "Paper's"},
        help="Fast: a fixed number of denoising steps, seconds for a small picture. Paper's: the published stochastic "
        "ascent, which takes ten times as many steps for pictures of the same quality.",
    )


def advanced(*, samples: int, sampler: str, channels: int, evaluations: int) -> Settings:
    """Everything else, folded away.

    Parameters
    ----------
    samples, sampler : from above.
    channels : of the picture; only priors for as many are offered.
    evaluations : of the fast sampler, by default.
    """
    with st.expander("Advanced", icon=":material/tune:"):
        with st.container(horizontal=True):
            ours = {"sampler": "fast", "evaluations": evaluations}
            st.button("Paper's defaults", on_click=st.session_state.update, args=[PAPER])
            st.button("Our defaults", on_click=st.session_state.update, args=[ours])
        arguments = fast_arguments(evaluations) if sampler == "fast" else paper_arguments()
        chosen = prior(channels)
        address.remember("seed", 0, lambda seed: 0 <= seed < 2**31)
        seed = st.number_input(
            "Seed",
            0,
            2**31 - 1,
            key="seed",
            help="Where the noise starts from: another seed gives other answers, the same seed the same ones.",
        )
    return Settings(chosen, sampler, samples, seed, arguments)


def fast_arguments(default: int) -> dict[str, Any]:
    address.remember("evaluations", default, range(3, 201))
    count = st.slider(
        "Evaluations",
        3,
        200,
        key="evaluations",
        persist_state="page",
        help="How many times each sample is denoised. Fewer is quicker and leaves edges soft; more adds fine texture, "
        "and beyond a hundred you will hardly see a difference.",
    )
    return {"evaluations": count}


def paper_arguments() -> dict[str, Any]:
    def level(label: str, key: str, options: list[float], sentence: str) -> float:
        address.remember(key, PAPER[key], options)
        return st.select_slider(label, options, key=key, help=sentence, persist_state="page")

    return {
        "h0": level(
            "First step h₀",
            "h0",
            STEPS,
            "How much of the denoiser's correction the first step takes. Larger is quicker and gives coarser pictures.",
        ),
        "beta": level(
            "Noise control β",
            "beta",
            STEPS,
            "Smaller values add more noise on the way: more varied texture and a longer run. 1 adds none, and the "
            "picture comes out smooth.",
        ),
        "sigma_0": level(
            "First noise level σ₀",
            "sigma_0",
            [0.1, 0.2, 0.4, 0.6, 0.8, 1.0],
            "How strong the noise is at the start, 1 being the picture's full range. Lower starts closer to the "
            "measured picture, with fewer ways to differ from it.",
        ),
        "sigma_L": level(
            "Last noise level σ_L",
            "sigma_L",
            [0.005, 0.01, 0.02, 0.05, 0.1],
            "Where the run stops. Lower resolves finer detail; higher ends sooner and leaves the picture softer.",
        ),
    }


def prior(channels: int) -> str:
    """Which denoiser, of those for pictures with so many channels."""
    titles = priors(channels)
    if not titles:
        raise checkpoints.CheckpointError(
            f"there is no prior for pictures with {channels} channels: restore the folder weights/"
        )
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
