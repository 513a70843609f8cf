"""Figures, in the colours and fonts of the page's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

CONFIG = {"displayModeBar": False, "scrollZoom": False}
"""For `st.plotly_chart`: no toolbar, and the wheel scrolls the page."""

FORECAST = {"color": "#8a8f98", "dash": "dot", "width": 2}
"""The grey dotted line of what is compared against. It can be seen on light and on dark."""

RUNS = ["#3b82b8", "#d0743c", "#4f9d69", "#9b72b8"]
"""A colour for each of several runs and its forecast. All can be seen on light and on dark."""


def sigma_axis(levels: Sequence[float]) -> dict[str, Any]:
    """The axis of noise levels, to 1, or to the highest of `levels` if that is above."""
    return {"title": "noise level σ", "type": "log", "range": [-2.6, math.log10(max(levels)) + 0.2], "dtick": 1}


Curve = tuple[Sequence[int], Sequence[float]]
"""Steps, and a value at each."""


def noise_levels(
    evaluations: Sequence[int], sigma: Sequence[float], forecast: Sequence[float], height: int
) -> go.Figure:
    """The measured noise level and its forecast.

    Parameters
    ----------
    evaluations, sigma : the measured noise level after each step so far.
    forecast : the level that is expected at evaluation 1, 2, ...
    height : in pixels.
    """
    figure = go.Figure()
    figure.add_scatter(x=list(evaluations), y=list(sigma), name="measured", mode="lines+markers", marker_size=5)
    figure.add_scatter(x=list(range(1, len(forecast) + 1)), y=list(forecast), name="predicted", line=FORECAST)
    x = from_zero("evaluations", max([2, len(forecast), *evaluations]))
    return frame(figure, height, x, sigma_axis([*sigma, *forecast, 1]))


def score_curves(
    name: str, unit: str, samples: Sequence[float], averages: Sequence[float], baseline: float
) -> go.Figure:
    """A score of each sample, of the average of the first n, and of the measurements alone."""
    count = list(range(1, len(samples) + 1))
    ends = [0.5, len(samples) + 0.5]
    figure = go.Figure()
    figure.add_scatter(x=count, y=list(averages), name="average of the first n", mode="lines+markers")
    figure.add_scatter(x=count, y=list(samples), name="sample n", mode="markers", marker_symbol="diamond")
    figure.add_scatter(x=ends, y=[baseline, baseline], name="measured alone", mode="lines", line=FORECAST)
    x = {"title": "n", "dtick": 1, "range": ends}
    return frame(figure, 300, x, {"title": f"{name}, {unit}" if unit else name})


def sweep(
    xs: Sequence[float],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    axis: str,
    tick: Callable[[float], str],
    baseline: str,
) -> go.Figure:
    """PSNR against a setting.

    Parameters
    ----------
    xs : all the values of the setting, ascending, so that the axis does not move.
    curves : name -> the points (x, dB) so far.
    axis, tick : the title of the axis, and how to write a value on it.
    baseline : the name of the curve that is compared against.
    """
    figure = go.Figure()
    for name, points in curves.items():
        style = {"line": FORECAST} if name == baseline else {}
        figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], name=name, mode="lines+markers", **style)
    return frame(figure, 320, logarithmic(axis, xs, tick, 1.2), {"title": "PSNR, dB"})


def convergence(measured: Mapping[str, Curve], forecasts: Mapping[str, Sequence[float]]) -> go.Figure:
    """Measured noise levels of up to four runs, with dotted forecasts.

    Parameters
    ----------
    measured : name -> evaluations and noise levels so far.
    forecasts : name -> the level that is expected at evaluation 1, 2, ..., for all the runs.
    """
    figure = go.Figure()
    for colour, (name, forecast) in zip(RUNS, forecasts.items(), strict=False):
        evaluations, sigma = measured.get(name, ((), ()))
        figure.add_scatter(x=list(evaluations), y=list(sigma), name=name, mode="lines", line={"color": colour})
        count, dotted = list(range(1, len(forecast) + 1)), {"color": colour, "dash": "dot"}
        figure.add_scatter(
            x=count, y=list(forecast), name=f"{name}, predicted", mode="lines", line=dotted, showlegend=False
        )
    x = from_zero("evaluations", max([2, *map(len, forecasts.values())]))
    levels = [level for forecast in forecasts.values() for level in forecast]
    return frame(figure, 320, x, sigma_axis([*levels, 1]))


def log_densities(found: Mapping[str, Curve], true: Mapping[str, Curve], steps: int) -> go.Figure:
    """Log-densities of what a descent has found so far, and dotted of the truth.

    Parameters
    ----------
    found, true : name -> log-densities, in nats for every number.
    steps : how many steps the descent has in all.
    """
    figure = go.Figure()
    for colour, name in zip(RUNS, found, strict=False):
        x, y = found[name]
        figure.add_scatter(x=list(x), y=list(y), name=name, mode="lines", line={"color": colour})
        if name in true:
            x, y = true[name]
            dotted = {"color": colour, "dash": "dot", "width": 2, "shape": "spline"}
            figure.add_scatter(x=list(x), y=list(y), name=f"true {name}", mode="lines", line=dotted)
    # The axis does not move. A descent may begin, or fail, far below it, where nothing is likely.
    ends = [value for _, values in true.values() for value in values] + [values[-1] for _, values in found.values()]
    span = [max(-4.0, min([0.0, *ends])) - 0.5, max([4.0, *ends]) + 0.3]
    return frame(figure, 250, from_zero("step", steps), {"title": "log-density, nats a number", "range": span})


def calibration(expected: Sequence[float], measured: Sequence[float]) -> go.Figure:
    """The fraction of the pixels whose true value lies in a band about the average, against the expected fraction."""
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], name="as expected", mode="lines", line=FORECAST)
    figure.add_scatter(x=list(expected), y=list(measured), name="these samples", mode="lines+markers")
    x, y = ({"title": title, "range": [0, 1], "tickformat": ".0%"} for title in ("expected in the band", "found in it"))
    return frame(figure, 300, x, y)


def from_zero(title: str, last: float) -> dict[str, Any]:
    """An axis that reaches the last value from the start, so that nothing moves but the curve."""
    return {"title": title, "range": [0, last * 1.03]}


def logarithmic(
    title: str, values: Sequence[float], tick: Callable[[float], str] = "{:g}".format, margin: float = 1.15
) -> dict[str, Any]:
    """A logarithmic axis from the first to the last of some values, which are written on it."""
    span = [math.log10(values[0] / margin), math.log10(values[-1] * margin)]
    ticks = [tick(value) for value in values]
    return {"title": title, "type": "log", "tickvals": list(values), "ticktext": ticks, "range": span}


def frame(
    figure: go.Figure, height: int, x: Mapping[str, Any], y: Mapping[str, Any], hovermode: str = "x unified"
) -> go.Figure:
    """Give a figure its axes, its height in pixels and its legend, and return it."""
    figure.update_xaxes(**x, fixedrange=True)
    figure.update_yaxes(**y, fixedrange=True)
    return figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        hovermode=hovermode,
    )
