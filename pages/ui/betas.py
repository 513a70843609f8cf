"""The same noise climbing under different β, on demand: Figure 1 of Kadkhodaie & Simoncelli (2021)."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from invlib.images import to_uint8
from invlib.jobs import Job
from pages.ui import pixels, plots, results, stage
from pages.ui.runs import Problem, Settings, Tile, load_prior

BETAS = (1.0, 0.5, 0.1, 0.05)


@dataclass(frozen=True)
class Climb:
    """A run as far as it is.

    Attributes
    ----------
    evaluations, sigma : a point per step.
    picture : the sample as it stands, uint8.
    """

    beta: float
    evaluations: tuple[int, ...]
    sigma: tuple[float, ...]
    picture: np.ndarray


@dataclass(frozen=True)
class Compared:
    """How far a comparison is, from 0 to 1, and its runs so far."""

    progress: float = 0.0
    climbs: tuple[Climb, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A job, and what it was asked to do; the knobs may have moved on since."""

    job: Job[Compared, Compared]
    problem: Problem
    settings: Settings


def at(settings: Settings, beta: float) -> Settings:
    """One sample with a β."""
    return replace(settings, samples=1, arguments=settings.arguments | {"beta": beta})


def work(problem: Problem, settings: Settings) -> Callable[[Callable[[], bool]], Generator[Compared, None, Compared]]:
    """The work of a job: one sample for each β, all from the same seed."""

    def run(cancelled: Callable[[], bool]) -> Generator[Compared, None, Compared]:
        climbs: tuple[Climb, ...] = ()
        yield Compared()
        denoiser = load_prior(settings.prior)
        for beta in BETAS:
            one = at(settings, beta)
            climb = Climb(beta, (), (), np.empty(0))
            for state in one.states(denoiser, problem):
                climb = replace(
                    climb,
                    evaluations=(*climb.evaluations, state.evaluations),
                    sigma=(*climb.sigma, float(state.sigma[0])),
                    picture=to_uint8(state.denoised),
                )
                yield Compared((len(climbs) + one.progress(state)) / len(BETAS), (*climbs, climb))
            climbs += (climb,)
        return Compared(1.0, climbs)

    return run


def show(problem: Problem, settings: Settings) -> None:
    """A button, and the samples and their curves as they come."""
    comparison: Comparison | None = st.session_state.get("betas")
    job = None if comparison is None else comparison.job
    st.subheader("Same noise, different β")
    st.caption(
        "With β = 1 the ascent adds no noise on its way and ends soonest. The more it adds, the longer it climbs: the "
        "parts of a picture come to agree, and faint contrast is lost. Dotted is what theory predicts; with much noise "
        "the ascent is faster."
    )
    with st.container(width=240):
        label, icon = "Compare", ":material/stacked_line_chart:"
        started = stage.button(label, job, work(problem, settings), key="compare betas", icon=icon)
    if started is not None:
        st.session_state["betas"] = Comparison(started, problem, settings)
        st.rerun()
    if comparison is not None:
        active = not comparison.job.ended
        st.fragment(follow, run_every=stage.POLL if active else None)(comparison, active)


def follow(comparison: Comparison, active: bool) -> None:
    """One look at the comparison."""
    job, settings = comparison.job, comparison.settings
    if active and job.ended:
        st.rerun()
    if job.error is not None:
        st.error(pixels.sentence(job.error), icon=":material/error:")
    compared = job.result or job.latest or Compared()
    climbs = compared.climbs
    if not job.ended:
        words = f"β = {climbs[-1].beta:g}, evaluation {climbs[-1].evaluations[-1]}." if climbs else stage.waiting(job)
        st.progress(compared.progress, text=words)
    captions = [f"β = {climb.beta:g}: {results.plural(climb.evaluations[-1], 'evaluation')}" for climb in climbs]
    tiles = [
        Tile(climb.picture, caption, f"A sample with β = {climb.beta:g}")
        for climb, caption in zip(climbs, captions, strict=True)
    ]
    tiles += [Tile(None, f"β = {beta:g}", "Nothing yet") for beta in BETAS[len(climbs) :]]
    stage.show_tiles(tiles, comparison.problem.image_shape)
    measured = {f"β = {climb.beta:g}": (climb.evaluations, climb.sigma) for climb in climbs}
    figure = plots.convergence(measured, {f"β = {beta:g}": at(settings, beta).forecast() for beta in BETAS})
    alt = f"The noise level falls. {'; '.join(captions)}"
    st.plotly_chart(figure, key="convergence", config=plots.CONFIG, alt=alt)
    st.caption(f"Seed {settings.seed}, h₀ = {settings.arguments['h0']:g}, prior {settings.prior}.")
