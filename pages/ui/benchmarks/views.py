"""The results of the experiments: plots, the same numbers in tables, and how they were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from invlib.experiments import report
from invlib.experiments.figures import CONVERGENCE
from invlib.experiments.rows import Row
from invlib.experiments.tables import TABLES, Case
from invlib.solvers.methods import DEEP_WIDTH
from pages.ui import knobs, plots
from pages.ui.benchmarks import plots as figures
from pages.ui.benchmarks import rows as stored
from pages.ui.benchmarks import run as here
from pages.ui.benchmarks import table as tables
from pages.ui.benchmarks.rows import Line
from pages.ui.pixels import plural
from pages.ui.results import offer_download

METRICS = {"psnr": "PSNR", "ssim_paper": "SSIM"}

SAID = {
    "table1": "A picture is measured by averages of blocks of pixels.",
    "table2": "Only the lowest frequencies of a picture are measured.",
    "table3": "A picture is measured by random sums of all its pixels. The paper’s total variation is TVAL3.",
}

Settings = dict[str, str | int]
"""What the address holds."""


def results_of(experiment: str, draw: Callable[[Sequence[Row]], None]) -> Settings:
    """Draw the rows of an experiment and say how they were measured, or how to measure them if there are none."""
    if rows := stored.load(experiment):
        draw(rows)
        footer(experiment, rows)
    else:
        missing(experiment)
    return {}


def missing(experiment: str) -> None:
    """Say how to run an experiment that was not run."""
    data = "" if experiment in ("figure1", "memorisation") else " --data DIR"
    data += " --data-training PATH" if experiment in ("calibration", "memorisation") else ""
    file = f"invlib/experiments/results/{experiment}.jsonl"
    st.info(
        f"There are no results of this yet; `python -m invlib bench {experiment}{data} --out {file}` measures them.",
        icon=":material/hourglass_empty:",
    )


def footer(experiment: str, rows: Sequence[Row]) -> None:
    """Say how some rows were measured, and offer a file of all rows of the experiment."""
    st.caption(stored.circumstances(rows))
    content = stored.path(experiment).read_bytes
    with st.container(width=240):
        offer_download(experiment, "All rows, JSON lines", ".jsonl", "application/jsonl", content)


def pick(label: str, key: str, options: Mapping[str, str], help: str) -> str:
    """Let the visitor choose one of several options. The first is the default."""
    return knobs.one_of(st.pills, label, key, options, help, required=True, wrap=True)


def choose_problem(problems: Sequence[Case], rows: Sequence[Row]) -> Case:
    """Let the visitor choose a problem that has rows, or any if none has."""
    measured = [problem for problem in problems if stored.of(problem, rows)]
    offered = {stored.slug(problem): problem for problem in measured or problems}
    titles = {slug: stored.title(problem) for slug, problem in offered.items()}
    return offered[pick("Problem", "problem", titles, "The pictures, and how much of them is measured.")]


# Tables


def table(experiment: str) -> Settings:
    """Show one of the tables: the scores of a problem, and a row that is measured on this machine."""
    rows = stored.load(experiment)
    left, right = st.columns([3, 1])
    with left:
        problem = choose_problem(TABLES[experiment], rows)
    settings: Settings = {"problem": stored.slug(problem)}
    lines, chosen = stored.lines(problem, rows), stored.of(problem, rows)
    if chosen:
        with right:
            metric = knobs.choice("Score", "score", METRICS, help="In the plot. Higher is better.")
        settings["score"] = metric
        scores(experiment, problem, lines, metric)
        footer(experiment, chosen)
    else:
        missing(experiment)
    return settings | here.show(problem, lines)


def scores(experiment: str, problem: Case, lines: Sequence[Line], metric: str) -> None:
    """Show one score of a problem in a plot, and all in a table."""
    axis = "PSNR, dB" if metric == "psnr" else "SSIM, the paper’s convention"
    described = [f"{line.label} {value(line.measured, metric)}" for line in lines if line.measured]
    described += [f"{line.label} {value(line.reported, metric)} in the paper" for line in lines if line.reported]
    figure = figures.scores(lines, metric, axis)
    alt = f"{METRICS[metric]} of {stored.title(problem)}: {', '.join(described)}"
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
    tables.show_lines(lines, f"Scores of {stored.title(problem)} by method")


def value(scores: Mapping[str, float], metric: str) -> str:
    return f"{scores[metric]:.2f} dB" if metric == "psnr" else f"{scores[metric]:.3f}"


# Figures


def convergence() -> Settings:
    """Show PSNR against samples averaged, evaluations and seconds, and the paper's sampler over h₀ and β."""
    rows = stored.load("convergence")
    problem = choose_problem([problem for problem, _ in CONVERGENCE], rows)
    if chosen := stored.of(problem, rows):
        curves(chosen)
        footer("convergence", chosen)
    else:
        missing("convergence")
    st.header("The paper’s sampler under other h₀ and β")
    results_of("robustness", robustness)
    return {"problem": stored.slug(problem)}


def curves(rows: Sequence[Row]) -> None:
    names = {length(row): row for row in rows}
    st.header("Samples averaged")
    about = "Each sample is one of the pictures that fit; the more are averaged, the closer to the truth."
    st.caption(f"{about} {measured_on(rows)}")
    described = [f"with {name} {row['mean']['psnr']:.2f} dB" for name, row in names.items()]
    alt = f"PSNR of the average of all samples: {', '.join(described)}"
    st.plotly_chart(figures.averages(names), key="averages", config=plots.CONFIG, alt=alt)
    st.header("What it costs")
    count = max(row["samples"] for row in rows)
    st.caption(f"The average is of {plural(count, 'sample')}, and seconds are for all of them on one picture.")
    axes = {"evaluations": "evaluations a sample", "seconds": "seconds"}
    for column, (cost, axis) in zip(st.columns(2, gap="medium"), axes.items(), strict=True):
        figure = figures.costs(list(names.values()), cost, axis)
        points = [f"{row['mean']['psnr']:.2f} dB at {row[cost]:g} {cost}" for row in names.values()]
        alt = f"PSNR of the average: {', '.join(points)}"
        column.plotly_chart(figure, key=cost, config=plots.CONFIG, alt=alt)


def measured_on(rows: Sequence[Row]) -> str:
    """Say in a sentence of which pictures some rows are."""
    names = list(dict.fromkeys(name for row in rows for name in row["pictures"]))
    return f"Pictures: {stored.pictures(rows[0])} ({', '.join(names)})."


def length(row: Row) -> str:
    """The length of a row's sampler, by which the rows of the convergence differ."""
    words = plural(round(row["evaluations"]), "evaluation")
    return words if row["method"] == "fast" else f"paper’s settings, {words}"


def robustness(rows: Sequence[Row]) -> None:
    """Show the paper's sampler over h₀ and β."""
    worst, best = (extreme(rows, key=lambda row: row["mean"]["psnr"]) for extreme in (min, max))
    st.caption(
        f"PSNR of the average of {plural(best['samples'], 'sample')} in dB, Set5, 4:1, and below it the evaluations "
        f"that a sample took. {measured_on(rows)}"
    )
    alt = f"PSNR over h₀ and β: from {at(worst)} to {at(best)}"
    st.plotly_chart(figures.robustness(rows), key="robustness", config=plots.CONFIG, alt=alt)


def at(row: Row) -> str:
    return f"{row['mean']['psnr']:.2f} dB at {setting(row)}"


def setting(row: Row) -> str:
    return f"h₀ = {row['settings']['h0']:g}, β = {row['settings']['beta']:g}"


def figure1(rows: Sequence[Row]) -> None:
    """Show measured noise levels against the prediction, and how many iterations samples take."""
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
    st.plotly_chart(figures.iterations(rows), key="iterations", config=plots.CONFIG, alt=spans(rows))


def spans(rows: Sequence[Row]) -> str:
    """Say in words the least and the most iterations for each setting."""
    words = []
    for row in rows:
        counts = [count for count in row["iterations"] if count is not None]
        words.append(f"{setting(row)}: " + (f"{min(counts)} to {max(counts)}" if counts else "none converged"))
    return f"Iterations until samples converge. {'; '.join(words)}"


RUNS = {
    "paper, its network": "The paper’s procedure, its network",
    "paper, default network": "The paper’s procedure, our network",
    "default": "Ours",
    "ten evaluations": "Ours, 10 evaluations",
    "eight samples": "Ours, average of 8",
}


def speed(rows: Sequence[Row]) -> None:
    """Show the seconds of the paper's procedure and of ours, by the latest row of each machine."""
    for number, row in enumerate({stored.machine(row["machine"]): row for row in rows}.values()):
        runs = {title: row["runs"][name] for name, title in RUNS.items() if name in row["runs"]}
        st.header(stored.machine(row["machine"]))
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
        st.plotly_chart(figures.durations(runs), key=f"speed {number}", config=plots.CONFIG, alt=alt)
        columns = {name: [run[name] for run in runs.values()] for name in ("psnr", "evaluations", "seconds")}
        tables.show({"method": list(runs), **columns}, "Seconds, evaluations and PSNR by procedure")


def denoising(rows: Sequence[Row]) -> None:
    """Show the PSNR of the priors against the noise level."""
    st.caption("PSNR over all channels of pictures with white noise, denoised once.")
    named = {f"{row['prior']}, {row['set']}": row["psnr"] for row in rows}
    figure = figures.denoising(named)
    described = [f"{name} {points['0.1']:.2f} dB" for name, points in named.items()]
    alt = f"PSNR falls as the noise gets stronger. At σ = 0.1: {', '.join(described)}"
    st.plotly_chart(figure, key="denoising", config=plots.CONFIG, alt=alt)


def calibrated(rows: Sequence[Row]) -> None:
    """Show how honest the spread of samples is, problem by problem."""
    st.caption(
        "How far samples spread, over what is right for so many of them in pairs of opposite noise: below 1 they are "
        "too alike. The factor makes up for that: it was fitted on held-out training pictures, so that a band about "
        "the average holds the truth at 90 % of the numbers that were not measured. The last column is the test on "
        "these pictures."
    )
    show_rows(report.calibrated(rows), "How honest the spread of samples is, by problem")


def memorised(rows: Sequence[Row]) -> None:
    """Show how near to their training faces the samples of priors are."""
    st.caption(
        "Has a prior only learnt its training faces by heart? Each sample is compared with the training face nearest "
        "to it, and so is each of as many faces that were held out. The distance is the root mean square of the "
        "differences, where black and white are 1 apart. If a prior copies, its samples are much nearer than held-out "
        "faces are, and the ratio of the two medians is far below 1. Pale pictures are near to all others, so the last "
        "column compares pictures that were given the same brightness and contrast."
    )
    show_rows(report.memorised(rows), "How near to their training faces the samples of each prior are")


def show_rows(lines: Sequence[Row], alt: str) -> None:
    """Show rows that have the same columns as a table."""
    tables.show({name: [line[name] for line in lines] for name in lines[0]}, alt)
