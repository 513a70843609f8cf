"""The experiments' results: a plot, the same numbers in a table, and how they were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from invlib.experiments.figures import CONVERGENCE
from invlib.experiments.rows import Row
from invlib.experiments.tables import DEEP_WIDTH, TABLES, Problem
from pages.ui import address, benchmark_plots, benchmark_rows, benchmark_run, benchmark_table, knobs, plots
from pages.ui.benchmark_rows import Line
from pages.ui.results import offer_download, plural

METRICS = {"psnr": "PSNR", "ssim_paper": "SSIM"}

SAID = {
    "table1": "A picture is measured by averages of blocks of pixels.",
    "table2": "Only the lowest frequencies of a picture are measured.",
    "table3": "A picture is measured by random sums of all its pixels. The paper’s total variation is TVAL3.",
}

Settings = dict[str, str | int]
"""What the address is to hold."""


def missing(experiment: str) -> None:
    """What to do where an experiment was not run."""
    data = "" if experiment == "figure1" else " --data DIR"
    file = f"invlib/experiments/results/{experiment}.jsonl"
    st.info(
        f"There are no results of this yet; `python -m invlib bench {experiment}{data} --out {file}` measures them.",
        icon=":material/hourglass_empty:",
    )


def footer(experiment: str, rows: Sequence[Row]) -> None:
    """How the rows were measured, and a file of all the experiment's."""
    st.caption(benchmark_rows.circumstances(rows))
    with st.container(width=240):
        content = benchmark_rows.path(experiment).read_bytes
        offer_download(experiment, "All rows, JSON lines", ".jsonl", "application/jsonl", content)


def pick(label: str, key: str, options: Mapping[str, str], help: str) -> str:
    """One of several options, in as many rows as they need; the first is the default."""
    address.remember(key, next(iter(options)), options)
    chosen = st.pills(
        label, list(options), key=key, format_func=options.__getitem__, required=True, wrap=True, help=help
    )
    assert chosen is not None  # It is required, and `remember` gave it a value.
    return chosen


def choose_problem(problems: Sequence[Problem], rows: Sequence[Row]) -> Problem:
    """Let the visitor choose a problem: of those that have rows, if any has."""
    offered = {benchmark_rows.slug(problem): problem for problem in problems if benchmark_rows.of(problem, rows)}
    offered = offered or {benchmark_rows.slug(problem): problem for problem in problems}
    titles = {slug: benchmark_rows.title(problem) for slug, problem in offered.items()}
    return offered[pick("Problem", "problem", titles, "The pictures, and how much of them is measured.")]


# Tables


def table(experiment: str) -> Settings:
    """One of the tables: a problem's scores, and a row of it run here."""
    rows = benchmark_rows.load(experiment)
    left, right = st.columns([3, 1])
    with left:
        problem = choose_problem(TABLES[experiment], rows)
    settings: Settings = {"problem": benchmark_rows.slug(problem)}
    lines, chosen = benchmark_rows.lines(problem, rows), benchmark_rows.of(problem, rows)
    if chosen:
        with right:
            metric = knobs.choice("Score", "score", METRICS, help="In the plot. Higher is better.")
        settings["score"] = metric
        scores(experiment, problem, lines, metric)
        footer(experiment, chosen)
    else:
        missing(experiment)
    return settings | benchmark_run.show(problem, lines)


def scores(experiment: str, problem: Problem, lines: Sequence[Line], metric: str) -> None:
    """The scores of a problem: one in a plot, all in a table."""
    axis = "PSNR, dB" if metric == "psnr" else "SSIM, the paper’s convention"
    described = [f"{line.label} {value(line.measured, metric)}" for line in lines if line.measured]
    described += [f"{line.label} {value(line.reported, metric)} in the paper" for line in lines if line.reported]
    figure = benchmark_plots.scores(lines, metric, axis)
    alt = f"{METRICS[metric]} of {benchmark_rows.title(problem)}: {', '.join(described)}"
    st.plotly_chart(figure, key="scores", config=plots.CONFIG, alt=alt)
    words = [SAID[experiment], "Bars are standard deviations over the samples of a picture."]
    if any(line.same_pictures is not None for line in lines):
        words.append("Where a method had fewer pictures than ours, a tick is ours on the same ones: compare with that.")
    if any(line.row and line.method in ("DIP", "DeepRED") for line in lines):
        words.append(f"DIP and DeepRED have networks of {DEEP_WIDTH} channels here, half the paper’s.")
    if metric == "ssim_paper":
        words.append(
            "SSIM is computed as in the paper, which takes the range of a picture for 2; with the true range, 1, it is "
            "lower: see the table."
        )
    st.caption(" ".join(words))
    benchmark_table.show_lines(lines, f"Scores of {benchmark_rows.title(problem)} by method")


def value(scores: Mapping[str, float], metric: str) -> str:
    return f"{scores[metric]:.2f} dB" if metric == "psnr" else f"{scores[metric]:.3f}"


# Figures


def convergence() -> Settings:
    """PSNR against samples averaged, evaluations and seconds; and over h₀ and β."""
    rows = benchmark_rows.load("convergence")
    problem = choose_problem([problem for problem, _ in CONVERGENCE], rows)
    if chosen := benchmark_rows.of(problem, rows):
        curves(chosen)
        footer("convergence", chosen)
    else:
        missing("convergence")
    robustness()
    return {"problem": benchmark_rows.slug(problem)}


def curves(rows: Sequence[Row]) -> None:
    names = {length(row): row for row in rows}
    st.header("Samples averaged")
    st.caption(
        "Each sample is one of the pictures that fit; the more are averaged, the closer to the truth. "
        f"{measured_on(rows)}"
    )
    described = [f"with {name} {row['mean']['psnr']:.2f} dB" for name, row in names.items()]
    alt = f"PSNR of the average of all samples: {', '.join(described)}"
    st.plotly_chart(benchmark_plots.averages(names), key="averages", config=plots.CONFIG, alt=alt)
    st.header("What it costs")
    count = max(row["samples"] for row in rows)
    st.caption(f"The average is of {plural(count, 'sample')}, and seconds are for all of them on one picture.")
    for column, cost, axis in zip(
        st.columns(2, gap="medium"), ("evaluations", "seconds"), ("evaluations a sample", "seconds"), strict=True
    ):
        figure = benchmark_plots.costs(list(names.values()), cost, axis)
        points = [f"{row['mean']['psnr']:.2f} dB at {row[cost]:g} {cost}" for row in names.values()]
        alt = f"PSNR of the average: {', '.join(points)}"
        column.plotly_chart(figure, key=cost, config=plots.CONFIG, alt=alt)


def measured_on(rows: Sequence[Row]) -> str:
    """Which pictures rows are of, in a sentence."""
    names = list(dict.fromkeys(name for row in rows for name in row["pictures"]))
    return f"Pictures: {benchmark_rows.pictures(rows[0])} ({', '.join(names)})."


def length(row: Row) -> str:
    """What tells a row of the convergence from others: its sampler's length."""
    words = plural(round(row["evaluations"]), "evaluation")
    return words if row["method"] == "fast" else f"paper’s settings, {words}"


def robustness() -> None:
    """The paper's sampler over h₀ and β."""
    st.header("The paper’s sampler under other h₀ and β")
    rows = benchmark_rows.load("robustness")
    if not rows:
        missing("robustness")
        return
    best = max(rows, key=lambda row: row["mean"]["psnr"])
    worst = min(rows, key=lambda row: row["mean"]["psnr"])
    st.caption(
        f"PSNR of the average of {plural(best['samples'], 'sample')} in dB, Set5, 4:1, and below it the evaluations "
        f"that a sample took. {measured_on(rows)}"
    )
    alt = f"PSNR over h₀ and β: from {at(worst)} to {at(best)}"
    st.plotly_chart(benchmark_plots.robustness(rows), key="robustness", config=plots.CONFIG, alt=alt)
    footer("robustness", rows)


def at(row: Row) -> str:
    return f"{row['mean']['psnr']:.2f} dB at h₀ = {row['settings']['h0']:g}, β = {row['settings']['beta']:g}"


def figure1() -> Settings:
    """Measured noise levels against the prediction, and how many iterations samples take."""
    rows = benchmark_rows.load("figure1")
    if not rows:
        missing("figure1")
        return {}
    st.caption("Samples of the prior alone. The measured noise level of one, and dotted what theory predicts.")
    h0s = sorted({row["settings"]["h0"] for row in rows})
    for column, h0 in zip(st.columns(len(h0s), gap="medium"), h0s, strict=True):
        with column:
            st.header(f"h₀ = {h0:g}")
            chosen = {f"β = {row['settings']['beta']:g}": row for row in rows if row["settings"]["h0"] == h0}
            measured = {name: (range(1, len(row["sigma"]) + 1), row["sigma"]) for name, row in chosen.items()}
            figure = plots.convergence(measured, {name: row["predicted"] for name, row in chosen.items()})
            counts = [f"{name} in {len(row['sigma'])} evaluations" for name, row in chosen.items()]
            alt = f"The noise level falls with every evaluation. {', '.join(counts)}"
            st.plotly_chart(figure, key=f"sigma {h0:g}", config=plots.CONFIG, alt=alt)
    st.header("How soon samples converge")
    total = sum(len(row["iterations"]) for row in rows)
    failed = sum(row["iterations"].count(None) for row in rows)
    st.caption(
        f"Every dot is one of {plural(total, 'sample')}; "
        + (f"{failed} did not converge and are not shown." if failed else "all converged.")
    )
    st.plotly_chart(benchmark_plots.iterations(rows), key="iterations", config=plots.CONFIG, alt=spans(rows))
    footer("figure1", rows)
    return {}


def spans(rows: Sequence[Row]) -> str:
    """The least and the most iterations of each setting, in words."""
    words = []
    for row in rows:
        counts = [count for count in row["iterations"] if count is not None]
        name = f"h₀ = {row['settings']['h0']:g}, β = {row['settings']['beta']:g}"
        words.append(f"{name}: {min(counts)} to {max(counts)}" if counts else f"{name}: none converged")
    return f"Iterations until samples converge. {'; '.join(words)}"


RUNS = {
    "paper, its network": "The paper’s procedure, its network",
    "paper, default network": "The paper’s procedure, our network",
    "default": "Ours",
    "ten evaluations": "Ours, 10 evaluations",
    "eight samples": "Ours, average of 8",
}


def speed() -> Settings:
    """Seconds of the paper's procedure and of ours, of one row for each machine."""
    rows = benchmark_rows.load("speed")
    if not rows:
        missing("speed")
    for number, row in enumerate({benchmark_rows.machine(row["machine"]): row for row in rows}.values()):
        runs = {title: row["runs"][name] for name, title in RUNS.items() if name in row["runs"]}
        st.header(benchmark_rows.machine(row["machine"]))
        st.caption(f"Super-resolution {row['knobs']['factor']}:1 of one picture, {row['picture']}.")
        ratios = row["ratios"]
        with st.grid(3, min_column_width=150, gap="small"):
            about = "How many times faster ours is than the paper’s procedure with its own network, in plain float32."
            st.metric("Speed-up", f"{ratios['paper, its network']:.0f}×", help=about)
            about = "How many times as long 8 samples take as one."
            st.metric("8 samples cost", f"{ratios['eight samples']:.1f}×", help=about)
            about = "From the start of the command to its end, the picture written."
            st.metric("Cold start", f"{row['cold_start']:.1f} s", help=about)
        described = [f"{title} {run['seconds']:.3g}" for title, run in runs.items()]
        alt = f"Seconds: {', '.join(described)}"
        st.plotly_chart(benchmark_plots.durations(runs), key=f"speed {number}", config=plots.CONFIG, alt=alt)
        columns = {
            "method": list(runs),
            **{name: [run[name] for run in runs.values()] for name in ("psnr", "evaluations", "seconds")},
        }
        benchmark_table.show(columns, "Seconds, evaluations and PSNR by procedure")
    if rows:
        footer("speed", rows)
    return {}


def denoising() -> Settings:
    """PSNR of the priors against the noise level."""
    rows = benchmark_rows.load("denoisers")
    if not rows:
        missing("denoisers")
        return {}
    st.caption("PSNR over all channels of pictures with white noise, denoised once.")
    named = {f"{row['prior']}, {row['set']}": row["psnr"] for row in rows}
    figure = benchmark_plots.denoising(named)
    described = [f"{name} {points['0.1']:.2f} dB" for name, points in named.items()]
    alt = f"PSNR falls as the noise gets stronger. At σ = 0.1: {', '.join(described)}"
    st.plotly_chart(figure, key="denoising", config=plots.CONFIG, alt=alt)
    footer("denoisers", rows)
    return {}
