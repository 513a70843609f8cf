"""Figures, in the colours and fonts of the page's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import plotly.graph_objects as go

CONFIG = {"displayModeBar": False, "scrollZoom": False}
"""For `st.plotly_chart`: no toolbar, and the wheel scrolls the page."""

FORECAST = {"color": "#8a8f98", "dash": "dot", "width": 2}
"""What is compared against is a grey dotted line that shows on light and dark."""


def noise_levels(
    evaluations: Sequence[int], sigma: Sequence[float], forecast: Sequence[float], height: int
) -> go.Figure:
    """The measured noise level, falling, and the forecast.

    Parameters
    ----------
    evaluations, sigma : a point per step so far.
    forecast : the level that is expected at evaluation 1, 2, ...
    height : in pixels.
    """
    # The axes are those of the end from the start, so that nothing moves but the curve.
    last = max([2, len(forecast), *evaluations])
    figure = go.Figure()
    figure.add_scatter(x=list(evaluations), y=list(sigma), name="measured", mode="lines+markers", marker_size=5)
    figure.add_scatter(x=list(range(1, len(forecast) + 1)), y=list(forecast), name="predicted", line=FORECAST)
    figure.update_xaxes(title="evaluations", range=[0, last * 1.03], fixedrange=True)
    figure.update_yaxes(title="noise level σ", type="log", range=[-2.6, 0.2], dtick=1, fixedrange=True)
    return frame(figure, height)


def score_curves(
    name: str, unit: str, samples: Sequence[float], averages: Sequence[float], baseline: float
) -> go.Figure:
    """A score of each sample, of the average of the first n, and of what was measured alone."""
    count = list(range(1, len(samples) + 1))
    ends = [0.5, len(samples) + 0.5]
    figure = go.Figure()
    figure.add_scatter(x=count, y=list(averages), name="average of the first n", mode="lines+markers")
    figure.add_scatter(x=count, y=list(samples), name="sample n", mode="markers", marker_symbol="diamond")
    figure.add_scatter(x=ends, y=[baseline, baseline], name="measured alone", mode="lines", line=FORECAST)
    figure.update_xaxes(title="n", dtick=1, range=ends, fixedrange=True)
    figure.update_yaxes(title=f"{name}, {unit}" if unit else name, fixedrange=True)
    return frame(figure, 300)


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
    xs : all the values, ascending, so that the axis does not move.
    curves : name -> points (x, dB) as they come.
    tick : how to write a value.
    baseline : the name of the curve that is compared against.
    """
    figure = go.Figure()
    for name, points in curves.items():
        style = {"line": FORECAST} if name == baseline else {}
        figure.add_scatter(x=[x for x, _ in points], y=[y for _, y in points], name=name, mode="lines+markers", **style)
    figure.update_xaxes(
        title=axis,
        type="log",
        tickvals=list(xs),
        ticktext=[tick(x) for x in xs],
        range=[math.log10(xs[0] / 1.2), math.log10(xs[-1] * 1.2)],
        fixedrange=True,
    )
    figure.update_yaxes(title="PSNR, dB", fixedrange=True)
    return frame(figure, 320)


RUNS = ["#3b82b8", "#d0743c", "#4f9d69", "#9b72b8"]
"""A colour for each of several runs, and for its forecast; all show on light and dark."""


def convergence(
    measured: Mapping[str, tuple[Sequence[int], Sequence[float]]], forecasts: Mapping[str, Sequence[float]]
) -> go.Figure:
    """Measured noise levels of up to four runs, and dotted their forecasts.

    Parameters
    ----------
    measured : evaluations and sigma of the runs so far, by name.
    forecasts : of all the runs, by name, the level that is expected at evaluation 1, 2, ...
    """
    figure = go.Figure()
    for colour, (name, forecast) in zip(RUNS, forecasts.items(), strict=False):
        evaluations, sigma = measured.get(name, ((), ()))
        figure.add_scatter(x=list(evaluations), y=list(sigma), name=name, mode="lines", line={"color": colour})
        dotted = {"color": colour, "dash": "dot"}
        count = list(range(1, len(forecast) + 1))
        figure.add_scatter(
            x=count, y=list(forecast), name=f"{name}, predicted", mode="lines", line=dotted, showlegend=False
        )
    last = max([2, *map(len, forecasts.values())])
    figure.update_xaxes(title="evaluations", range=[0, last * 1.03], fixedrange=True)
    figure.update_yaxes(title="noise level σ", type="log", range=[-2.6, 0.2], dtick=1, fixedrange=True)
    return frame(figure, 320)


Curve = tuple[Sequence[int], Sequence[float]]
"""Steps, and a value at each."""


def log_densities(found: Mapping[str, Curve], true: Mapping[str, Curve], steps: int) -> go.Figure:
    """Log-densities of what a descent has found so far, and dotted of the truth.

    Parameters
    ----------
    found, true : name -> nats for every number.
    steps : how many there will be.
    """
    figure = go.Figure()
    for colour, name in zip(RUNS, found, strict=False):
        x, y = found[name]
        figure.add_scatter(x=list(x), y=list(y), name=name, mode="lines", line={"color": colour})
        x, y = true[name]
        dotted = {"color": colour, "dash": "dot", "width": 2, "shape": "spline"}
        figure.add_scatter(x=list(x), y=list(y), name=f"true {name}", mode="lines", line=dotted)
    figure.update_xaxes(title="step", range=[0, steps * 1.03], fixedrange=True)
    # The axis is that of the end from the start. A descent may begin, or fail, far below, where nothing is likely.
    ends = [value for _, values in true.values() for value in values] + [values[-1] for _, values in found.values()]
    span = [max(-4.0, min([0.0, *ends])) - 0.5, max([4.0, *ends]) + 0.3]
    figure.update_yaxes(title="log-density, nats a number", range=span, fixedrange=True)
    return frame(figure, 250)


def calibration(expected: Sequence[float], measured: Sequence[float]) -> go.Figure:
    """Fraction of the pixels whose true value lies in a band about the average, against what is expected, in 0 to 1."""
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], name="as expected", mode="lines", line=FORECAST)
    figure.add_scatter(x=list(expected), y=list(measured), name="these samples", mode="lines+markers")
    figure.update_xaxes(title="expected in the band", range=[0, 1], tickformat=".0%", fixedrange=True)
    figure.update_yaxes(title="found in it", range=[0, 1], tickformat=".0%", fixedrange=True)
    return frame(figure, 300)


def frame(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
