"""Figures, in the colours and fonts of the page's theme."""

from __future__ import annotations

from collections.abc import Sequence

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


def frame(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
