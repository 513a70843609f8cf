"""Samples from one starting noise under different β, on demand: Figure 1 of Kadkhodaie & Simoncelli (2021)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from invlib.problems.prior import PriorProblem
from invlib.runs import Series, Settings, forecast
from pages.ui import pixels, plots, series
from pages.ui.pixels import Tile

BETAS = (1.0, 0.5, 0.1, 0.05)

Request = tuple[PriorProblem, Settings]


def at(settings: Settings, beta: float) -> Settings:
    """The settings for one sample with a given β."""
    return replace(settings, samples=1, values=settings.values | {"beta": beta})


def show(problem: PriorProblem, settings: Settings) -> None:
    """Show a button that runs every β, and the samples and their curves as they come."""
    st.subheader("Same noise, different β")
    st.caption(
        "With β = 1 the ascent adds no noise on its way and ends soonest. The more it adds, the longer it climbs: the "
        "parts of a picture come to agree, and faint contrast is lost. Dotted is what theory predicts; with much noise "
        "the ascent is faster."
    )
    chart = series.Chart("betas", "Compare", ":material/stacked_line_chart:", about, draw)
    chart.show(problem, [(lambda: problem, at(settings, beta)) for beta in BETAS], (problem, settings))


def about(done: Series, request: Request) -> str:
    """Say in a sentence which β is at work."""
    return f"β = {BETAS[len(done.runs)]:g}, evaluation {done.forming.evaluations}."


def draw(done: Series, request: Request) -> None:
    """Draw the samples so far, and their noise levels."""
    problem, settings = request
    climbs: list[tuple[Any, dict[str, Any]]] = [(run.samples[0], run.parameters["history"]) for run in done.runs]
    if done.forming.history:
        climbs.append((done.forming.pictures[0], done.forming.history))
    names = [f"β = {beta:g}" for beta in BETAS]
    captions, tiles, measured = [], [], {}
    for name, (picture, history) in zip(names, climbs, strict=False):
        captions.append(f"{name}: {pixels.plural(history['evaluations'][-1], 'evaluation')}")
        tiles.append(Tile(picture, captions[-1], f"A sample with {name}"))
        measured[name] = history["evaluations"], history["sigma"]
    series.pictures(tiles, names, problem.image_shape)
    predicted = {name: forecast(problem, at(settings, beta)) for name, beta in zip(names, BETAS, strict=True)}
    figure = plots.convergence(measured, predicted)
    alt = f"The noise level falls. {'; '.join(captions)}"
    st.plotly_chart(figure, key="convergence", config=plots.CONFIG, alt=alt)
    st.caption(f"Seed {settings.seed}, h₀ = {settings.values['h0']:g}, prior {settings.prior}.")
