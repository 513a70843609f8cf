"""Figures of the experiments, in the colours and fonts of the page's theme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from invlib.experiments.rows import Row
from pages.ui.benchmarks.rows import Line, pictures
from pages.ui.plots import FORECAST, RUNS, frame, logarithmic

GREY = FORECAST["color"]

REPORTED = {"size": 12, "symbol": "diamond-open", "color": GREY, "line": {"width": 2}}
"""The hollow grey markers of what the paper reports. They can be seen on light and on dark."""

LINE = 36
"""The height of a line of a dot plot, in pixels."""


def scores(lines: Sequence[Line], metric: str, axis: str) -> go.Figure:
    """A score of every line, with hollow markers for what the paper reports.

    Error bars are standard deviations over the samples of a picture. `metric` is a key of the lines' scores, and `axis`
    is the title of the axis.
    """
    figure = go.Figure()
    for name, ours in (("ours", True), ("other methods", False)):
        chosen = [line for line in lines if line.measured and line.ours is ours]
        add_scores(figure, name, chosen, [line.measured for line in chosen], metric, {"size": 10})
    chosen = [line for line in lines if line.reported]
    add_scores(figure, "as the paper reports", chosen, [line.reported for line in chosen], metric, REPORTED)
    fewer = [line for line in lines if line.same_pictures is not None]
    if fewer and metric == "psnr":
        figure.add_scatter(
            x=[line.same_pictures for line in fewer],
            y=[category(line) for line in fewer],
            name="ours on the same pictures",
            mode="markers",
            marker={"size": 16, "symbol": "line-ns", "line": {"width": 3, "color": GREY}},
            hovertemplate="%{x:.2f}",
        )
    # Every line has its place from the start, from the top down.
    categories = {"type": "category", "categoryarray": [category(line) for line in lines]}
    return frame(figure, LINE * len(lines) + 110, {"title": axis}, {**categories, **downwards(lines)}, "closest")


def category(line: Line) -> str:
    """The label of a line on the axis: in two rows if it is long, with the pictures unless they are all of the set."""
    count = pictures(line.row)
    few = f"{count} pictures" if " of " in count else ""
    details = ", ".join(part for part in (line.estimate, few) if part)
    return f"{line.method},<br>{details}" if details else line.method


def downwards(lines: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """The range of an axis whose first line is at the top."""
    return {"range": [len(lines) - 0.4, -0.6], "showgrid": True}


def add_scores(
    figure: go.Figure,
    name: str,
    lines: Sequence[Line],
    values: Sequence[Mapping[str, float]],
    metric: str,
    marker: Mapping[str, Any],
) -> None:
    """Add the markers of some lines. An empty trace is added too, so that the next ones keep their colour."""
    spread = [value.get(f"{metric}_std") if line.single else None for line, value in zip(lines, values, strict=True)]
    figure.add_scatter(
        x=[value[metric] for value in values],
        y=[category(line) for line in lines],
        error_x={"type": "data", "array": spread, "thickness": 2, "width": 0},
        name=name,
        mode="markers",
        marker=marker,
        showlegend=bool(lines),
        hovertemplate="%{x:.2f}" if metric == "psnr" else "%{x:.3f}",
    )


def averages(rows: Mapping[str, Row]) -> go.Figure:
    """PSNR of the average against the number of samples averaged, with a curve for each named row."""
    figure = go.Figure()
    for name, row in rows.items():
        points = {int(count): value for count, value in row["averages"].items()}
        figure.add_scatter(x=list(points), y=list(points.values()), name=name, mode="lines+markers")
    counts = sorted({int(count) for row in rows.values() for count in row["averages"]})
    return frame(figure, 360, logarithmic("samples averaged", counts), {"title": "PSNR of the average, dB"})


def costs(rows: Sequence[Row], cost: str, axis: str) -> go.Figure:
    """PSNR against what an answer costs, with curves of the fast sampler and hollow markers of the paper's settings.

    `cost` is "evaluations" or "seconds", and `axis` is the title of the axis.
    """
    figure = go.Figure()
    fast = sorted((row for row in rows if row["method"] == "fast"), key=lambda row: row[cost])
    published = [row for row in rows if row["method"] == "paper"]
    for part, name in (("mean", "average"), ("sample", "one sample")):
        x, y = [row[cost] for row in fast], [row[part]["psnr"] for row in fast]
        figure.add_scatter(x=x, y=y, name=name, mode="lines+markers")
    for part, name, symbol in (("mean", "average", "diamond-open"), ("sample", "one sample", "circle-open")):
        x, y = [row[cost] for row in published], [row[part]["psnr"] for row in published]
        marker = {**REPORTED, "symbol": symbol}
        figure.add_scatter(x=x, y=y, name=f"{name}, paper’s settings", mode="markers", marker=marker)
    return frame(figure, 340, logarithmic(axis, ticks(row[cost] for row in rows)), {"title": "PSNR, dB"})


def ticks(values: Iterable[float]) -> list[float]:
    """The numbers of 1, 2, 5, 10, ... that lie around some values."""
    values = list(values)
    steps = (digit * 10.0**power for power in range(-4, 6) for digit in (1, 2, 5))
    return [step for step in steps if min(values) / 2.5 <= step <= 2.5 * max(values)]


def robustness(rows: Sequence[Row]) -> go.Figure:
    """PSNR of the average, and the evaluations, in a cell for each h₀ and β. A cell without a row is blank."""
    cells = {(row["settings"]["h0"], row["settings"]["beta"]): row for row in rows}
    h0s, betas = (sorted({key[place] for key in cells}) for place in (0, 1))

    def grid(value: Any) -> list[list[Any]]:
        return [[value(cells[h0, beta]) if (h0, beta) in cells else None for beta in betas] for h0 in h0s]

    figure = go.Figure(
        go.Heatmap(
            x=[f"{beta:g}" for beta in betas],
            y=[f"{h0:g}" for h0 in h0s],
            z=grid(lambda row: row["mean"]["psnr"]),
            text=grid(lambda row: f"<b>{row['mean']['psnr']:.2f}</b><br>{row['evaluations']:.0f}"),
            texttemplate="%{text}",
            textfont={"size": 12},
            hovertemplate="h₀ = %{y}, β = %{x}: %{z:.2f} dB<extra></extra>",
            colorscale="Viridis",
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    x, y = ({"title": title, "type": "category"} for title in ("noise control β", "first step h₀"))
    return frame(figure, 340, x, y, "closest")


def iterations(rows: Sequence[Row]) -> go.Figure:
    """How many iterations each sample takes, with a box for each h₀ and β."""
    figure = go.Figure()
    for colour, h0 in zip(RUNS, sorted({row["settings"]["h0"] for row in rows}), strict=False):
        found = [
            (f"β = {row['settings']['beta']:g}", count)
            for row in rows
            for count in row["iterations"]
            if row["settings"]["h0"] == h0 and count is not None
        ]
        figure.add_box(
            x=[count for _, count in found],
            y=[beta for beta, _ in found],
            name=f"h₀ = {h0:g}",
            orientation="h",
            boxpoints="all",
            jitter=0.6,
            pointpos=0,
            marker={"color": colour, "size": 4, "opacity": 0.6},
        )
    counts = [count for row in rows for count in row["iterations"] if count is not None]
    x = logarithmic("iterations until σ ≤ 0.01", ticks(counts or [1]))
    return frame(figure, 300, x, {}, "closest").update_layout(boxmode="group")


def durations(runs: Mapping[str, Row]) -> go.Figure:
    """How many seconds each of several runs took."""
    seconds = [run["seconds"] for run in runs.values()]
    figure = go.Figure()
    figure.add_scatter(
        x=seconds,
        y=[name.replace(", ", ",<br>") for name in runs],
        mode="markers+text",
        marker={"size": 12},
        text=[f"{value:.3g} s" for value in seconds],
        textposition="top center",
        cliponaxis=False,
        hoverinfo="skip",
    )
    x = logarithmic("seconds", ticks([min(seconds), 2 * max(seconds)]))  # leaves room for the text of the slowest
    return frame(figure, LINE * len(runs) + 80, x, downwards(runs))


def denoising(curves: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """PSNR against the noise level, with a curve for each name."""
    figure = go.Figure()
    for name, points in curves.items():
        levels = [float(level) for level in points]
        figure.add_scatter(x=levels, y=list(points.values()), name=name, mode="lines+markers")
    levels = sorted({float(level) for points in curves.values() for level in points})
    return frame(figure, 380, logarithmic("noise level σ", levels), {"title": "PSNR, dB"})
