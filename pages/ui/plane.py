"""The algorithm in a plane, to play with: Figure 7 of Kadkhodaie & Simoncelli (2021)."""

from __future__ import annotations

import math
from dataclasses import replace

import plotly.graph_objects as go
import streamlit as st
import torch

from invlib.experiments import plane
from pages.ui import plots

PITCH = 0.08
"""The distance of neighbouring arrows."""

LEAD = """
**The same in a plane.** Suppose that all pictures lie on a spiral: then the denoiser is known exactly. The arrows show
$d$ from each place, at the noise level of the moment. Long ones are cut short.
"""
MEASURED = "What was measured says that the answer lies on the dotted line."
CAPTION = """
The orange path is one ascent: click on the plane to start it elsewhere. The blue dots are {count} other samples at the
same step, each from noise of its own. At σ = {sigma:.2g} the denoiser sees the spiral blurred by as much: at first the
arrows point at the whole of it, at last at the nearest arm. Two numbers alone would not tell how noisy they are. So
these are the first two of a picture of {numbers} numbers, and the others hold only noise, as most dimensions of a
picture do.
"""
STUCK = "Some samples stop where the line comes close to the spiral but does not cross it; with a smaller β fewer do."

BETAS = (0.1, 0.2, 0.3, 0.5, 1.0)
STARTS = {"plane x": 0.1, "plane y": 0.9}
CHART = "plane"

walk = st.cache_data(plane.walk, max_entries=64, show_spinner=False)


def show(*, measured: bool) -> None:
    """Show the plane and its widgets. `measured` says whether there is a line, on which the answer must lie."""
    st.markdown(f"{LEAD} {MEASURED if measured else ''}")
    for key, value in STARTS.items():
        st.session_state.setdefault(key, value)
    picture, widgets = st.columns([3, 2], gap="medium")
    with widgets:
        share = st.slider(
            "How far the ascent has come",
            0,
            100,
            100,
            5,
            format="%d %%",
            key="plane share",
            help="Go back to see how the path and the arrows change as the noise falls.",
        )
        line = None
        if measured:
            angle = st.slider("Direction of the line", -90, 90, -60, 5, format="%d°", key="plane angle")
            line = float(90 + angle), st.slider("Distance of the line", -0.4, 0.4, 0.0, 0.05, key="plane distance")
        across, up = (
            st.slider(label, 0.0, 1.0, step=0.02, key=key)
            for label, key in zip(("Start, across", "Start, up"), STARTS, strict=True)
        )
        beta = st.select_slider(
            "Noise control β",
            BETAS,
            plane.SETTINGS.beta,
            key="plane beta",
            help="With 1 no noise is added on the way, and the path is smooth. Smaller values add more.",
        )
    done = walk((across, up), line, replace(plane.SETTINGS, beta=beta))
    step = round(share / 100 * (len(done.places) - 1))
    sigma = done.sigma[: step + 1]
    with picture:
        st.plotly_chart(
            figure(done, line, step, sigma[-1]),
            key=CHART,
            config=plots.CONFIG,
            on_select=start_there,
            selection_mode="points",
            alt="A plane with a spiral{}. The path leads from ({:.2f}, {:.2f}) to ({:.2f}, {:.2f}).".format(
                " and a line" if measured else "", across, up, *done.places[step, 0].tolist()
            ),
        )
    curve = plots.noise_levels(range(1, len(sigma) + 1), sigma, done.predicted, 200)
    st.plotly_chart(
        curve, key="plane sigma", config=plots.CONFIG, alt=f"The noise level has fallen to {sigma[-1]:.2g}."
    )
    words = CAPTION.format(count=done.places.shape[1] - 1, sigma=sigma[-1], numbers=math.prod(plane.SHAPE))
    st.caption(f"{words} {STUCK if measured else ''}")


def start_there() -> None:
    """Move the start to the arrow that was clicked."""
    if points := st.session_state[CHART].selection.points:
        for key, axis in zip(STARTS, "xy", strict=True):
            st.session_state[key] = round(min(1.0, max(0.0, points[0][axis])), 2)


def figure(done: plane.Walk, line: plane.Line | None, step: int, sigma: float) -> go.Figure:
    """The spiral, the denoiser's field at a noise level, the samples at a step, and the path of the first of them."""
    blue, orange, green, purple = plots.RUNS
    drawn = go.Figure()

    def add(places: torch.Tensor, name: str, mode: str, **style: object) -> None:
        x, y = places.T.tolist()
        drawn.add_scatter(**{"x": x, "y": y, "name": name, "mode": mode, "hoverinfo": "skip", **style})

    arrows = field(line, sigma)
    heads = {"symbol": ["circle", "arrow", "circle"] * (len(arrows) // 3), "size": [3, 7, 0] * (len(arrows) // 3)}
    marker = {**heads, "angleref": "previous", "color": plots.FORECAST["color"], "opacity": 1, "line_width": 0}
    grey = {"color": plots.FORECAST["color"], "width": 1}
    add(arrows, "denoiser", "lines+markers", line=grey, marker=marker, hoverinfo="none", opacity=0.7)
    add(plane.spiral(), "likely", "lines", line={"color": green, "width": 4})
    if line is not None:
        normal = plane.measured(line)[0].matrix[:2, 0]
        along = torch.tensor([[-2.0], [2.0]]) * torch.stack([-normal[1], normal[0]])
        add(0.5 + line[1] * normal + along, "measured", "lines", line={"color": purple, "width": 2, "dash": "dot"})
    add(done.places[step, 1:], "samples", "markers", marker={"color": blue, "size": 6, "line_width": 0})
    path = done.places[: step + 1, 0]
    ends = {
        "size": [14, *[0] * (step - 1), 10][: step + 1],
        "symbol": ["circle-open", *["circle"] * step],
        "opacity": 1,
    }
    thick = {"color": orange, "width": 2}
    add(path, "path", "lines+markers", line=thick, marker={**ends, "opacity": 1, "color": orange, "line": thick})
    drawn.update_traces(unselected_marker_opacity=1)
    x = {"range": [-0.05, 1.05], "constrain": "domain", "showticklabels": False, "showgrid": False, "zeroline": False}
    return plots.frame(drawn, 400, x, x | {"scaleanchor": "x", "constraintoward": "top"}, "closest")


def field(line: plane.Line | None, sigma: float) -> torch.Tensor:
    """Arrows on a grid, shortened to its pitch: a tail, a head and a gap for each, (3 n, 2)."""
    side = torch.arange(0.02, 1.0, PITCH)
    tails = torch.cartesian_prod(side, side)
    moves = plane.PlanePosterior((0.5, 0.5), line).field(tails, sigma)
    moves *= (0.8 * PITCH / moves.norm(dim=1, keepdim=True).clamp_min(1e-9)).clamp_max(1)
    return torch.stack([tails, tails + moves, torch.full_like(tails, math.nan)], 1).flatten(0, 1)
