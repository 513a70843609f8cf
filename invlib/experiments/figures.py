"""How the samplers of the first paper converge: its Figure 1, and what steps, samples and seconds are worth."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invlib import images
from invlib.experiments.denoising import plan_denoisers
from invlib.experiments.rows import Cell, Plan, Row, Watch, weights
from invlib.experiments.tables import (
    ASCENT,
    TABLES,
    Options,
    Problem,
    available,
    choose,
    default_schedule,
    device_of,
    low_pass,
    plan_table,
    random_rows,
    sampling_cell,
    super_resolution,
)
from invlib.metrics import psnr
from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN, Denoiser
from invlib.problems.linear import default_prior
from invlib.problems.operators import BlockAverage
from invlib.solvers import ascent
from invlib.solvers.ascent import SAMPLERS, Schedule, ascend, predicted_sigmas

# Figure 1

FIGURE1_BETAS = (1.0, 0.5, 0.1)

FIGURE1_H0S = (0.01, 0.05)
"""The paper has two and does not say which."""

FIGURE1_SIDE = 64

FIGURE1_LIMIT = 5000
"""Evaluations after which a sample counts as not converging."""


def plan_figure1(options: Options) -> Plan:
    """Figure 1: the noise level of a sample of the prior against the prediction, and how soon 50 samples converge.

    A row for each h₀ and β: "sigma" is the measured level of the first sample at every step, "predicted" the curve
    σ_t = (1 - β h_t) σ_{t-1} for as long, "iterations" the steps that each sample took, None for those that did not
    converge.
    """
    prior = options.prior or default_prior(3)
    cells = []
    for h0 in FIGURE1_H0S:
        for beta in FIGURE1_BETAS:
            settings = {**ASCENT, "h0": h0, "beta": beta, "max_evaluations": FIGURE1_LIMIT}
            count = options.samples or 50
            key = {
                "experiment": "figure1",
                "method": "paper",
                "settings": settings,
                "samples": count,
                "seed": 0,
                "side": FIGURE1_SIDE,
                **weights(prior),
            }
            cells.append(Cell(key, partial(measure_convergence, prior, settings, count)))
    return Plan(cells)


def measure_convergence(prior_name: str, settings: Row, count: int, watch: Watch) -> Row:
    prior = checkpoints.load(prior_name)
    states = ascend(prior, shape=(prior.channels, FIGURE1_SIDE, FIGURE1_SIDE), count=count, seed=0, **settings)
    iterations: list[int | None] = [None] * count
    sigma = []
    started = time.perf_counter()
    for state in watch(f"h0 {settings['h0']:g}, beta {settings['beta']:g}", states):
        if iterations[0] is None:
            sigma.append(round(float(state.sigma[0]), 5))
        for index, level in enumerate(state.sigma.tolist()):
            if iterations[index] is None and level <= settings["sigma_L"]:
                iterations[index] = state.step
    curve = predicted_sigmas(settings["h0"], settings["beta"], settings["sigma_0"])
    return {
        "sigma": sigma,
        "predicted": [round(level, 5) for level, _ in zip(curve, sigma, strict=False)],
        "iterations": iterations,
        "seconds": round(time.perf_counter() - started, 2),
        "outcome": state.outcome,
    }


# What evaluations and samples are worth

CONVERGENCE: tuple[tuple[Problem, tuple[int, ...]], ...] = (
    (super_resolution("set5", 4), (4, 10, 20, 50, 100)),
    (low_pass(0.1), (4, 10, 20, 50, 100)),
    (random_rows(0.1), (20, 50, 100, 200)),
)
"""Problems, and the evaluations of the fast sampler."""


def plan_convergence(options: Options) -> Plan:
    """PSNR of the average against samples averaged, evaluations and seconds: rows as in `plan_table`.

    The fast sampler at several lengths of its schedule, and the paper's. "averages" are for the first 1, 2, 4, ... of
    the samples, and "seconds" for all.
    """
    problems, left_out = available([problem for problem, _ in CONVERGENCE], options)
    cells = []
    for problem, lengths in CONVERGENCE:
        if problem in problems:
            paths = choose(problem, options, options.images, problem.few)
            cell = partial(sampling_cell, "convergence", problem, paths, options=options, samples=16)
            schedule = default_schedule(problem)
            cells += [cell("fast", {**schedule, "evaluations": length}) for length in lengths]
            cells.append(cell("paper", ASCENT))
    return Plan(cells, left_out)


ROBUSTNESS_H0S = (0.01, 0.03, 0.1, 0.3)

ROBUSTNESS_BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)


def plan_robustness(options: Options) -> Plan:
    """PSNR of the paper's sampler over h₀ and β, for the first problem of table 1: rows as in `plan_table`."""
    problem = super_resolution("set5", 4)
    available([problem], options)
    paths = choose(problem, options, options.images)
    cells = [
        sampling_cell("robustness", problem, paths, "paper", {**ASCENT, "h0": h0, "beta": beta}, options, samples=4)
        for h0 in ROBUSTNESS_H0S
        for beta in ROBUSTNESS_BETAS
    ]
    return Plan(cells)


# Speed

SPEED_PICTURE = "butterfly"

SPEED_NETWORK = "bf-cnn-color"
"""The paper's network."""

REPEATS = 5
"""How often a run of seconds is timed; the median counts."""


def plan_speed(options: Options) -> Plan:
    """Super-resolution 4:1 of one picture by the paper's procedure and by ours: one row, so that all is of one run.

    "runs" has for each "psnr" (of the estimate: the sample, or the average of eight), "seconds" and "evaluations";
    "ratios" the seconds of the paper's procedure over ours by default, and of eight samples over one. "cold_start" is
    the time from starting `python -m invlib restore` to its end, the picture written.
    """
    problem = super_resolution("set5", 4)
    available([problem], options)
    path = next((path for path in choose(problem, options) if path.stem == SPEED_PICTURE), None)
    if path is None:
        raise ValueError(f"{options.data}/{problem.pictures} has no picture {SPEED_PICTURE}: copy it there")
    prior = options.prior or default_prior(problem.channels)
    one, eight = default_schedule(problem, 1), default_schedule(problem)
    key = {
        "experiment": "speed",
        "set": problem.pictures,
        "picture": path.stem,
        "task": problem.task,
        "knobs": dict(problem.knobs),
        "settings": {"paper": ASCENT, "fast": one, "eight samples": eight},
        **weights(prior),
        "network": weights(SPEED_NETWORK),
    }
    return Plan([Cell(key, partial(measure_speed, path, prior, Schedule(**one), Schedule(**eight)))])


def measure_speed(path: Path, prior_name: str, one: Schedule, eight: Schedule, watch: Watch) -> Row:
    prior = checkpoints.load(prior_name)
    truth = images.crop_to_multiple(images.load_image(path, channels=3), math.lcm(4, prior.multiple))
    operator = BlockAverage(truth.shape[1:], 4).to(device_of(prior))
    measurements = operator.measure(truth.to(device_of(prior)))

    def timed(about: str, denoiser: Denoiser, repeats: int, sampler: str, count: int = 1, **settings: Any) -> Row:
        results = []
        for _ in range(repeats):
            states = SAMPLERS[sampler](denoiser, operator, measurements, count=count, seed=0, **settings)
            results.append(ascent.collect(watch(about, states)))
        return {
            "samples": count,
            "psnr": round(float(psnr(results[0].mean.cpu().clamp(0, 1), truth)), 3),
            "seconds": round(statistics.median(result.seconds for result in results), 4),
            "evaluations": results[0].evaluations,
        }

    timed("warm-up", prior, 1, "fast", 8, schedule=eight)
    runs = {
        "default": timed("default", prior, REPEATS, "fast", schedule=one),
        "ten evaluations": timed("ten evaluations", prior, REPEATS, "fast", schedule=replace(one, evaluations=10)),
        "eight samples": timed("eight samples", prior, REPEATS, "fast", 8, schedule=eight),
        "paper, default network": timed("paper, default network", AsPublished(prior_name), 1, "paper", **ASCENT),
        "paper, its network": timed("paper, its network", AsPublished(SPEED_NETWORK), 1, "paper", **ASCENT),
    }
    seconds = {name: run["seconds"] for name, run in runs.items()}
    return {
        "runs": runs,
        "ratios": {
            "paper, default network": round(seconds["paper, default network"] / seconds["default"], 1),
            "paper, its network": round(seconds["paper, its network"] / seconds["default"], 1),
            "eight samples": round(seconds["eight samples"] / seconds["default"], 2),
        },
        "cold_start": cold_start(path, prior_name),
    }


class AsPublished(Denoiser):
    """A denoiser as the paper's code runs it: float32, channels first, its scales not folded into the convolutions."""

    def __init__(self, name: str) -> None:
        net = checkpoints.load(name, dtype=torch.float32)
        super().__init__(net.channels)
        if isinstance(net, BFCNN) and net.folded:
            # Scales of 1, the constructor's, leave the function as it is and cost what any would.
            arguments: dict[str, Any] = {**net.arguments, "folded": False}
            unfolded = BFCNN(**arguments).to(device_of(net))
            unfolded.load_state_dict(net.state_dict(), strict=False)
            net = unfolded.eval().requires_grad_(False)
        # PyTorch's stubs lack the overload of `to` that takes a memory format.
        self.net = net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, y: Tensor) -> Tensor:
        """The noise in images whose sides are multiples of the network's."""
        return self.net.estimate_noise(y.contiguous())


def cold_start(path: Path, prior: str) -> float:
    """Seconds that a new process takes to restore a picture and write it."""
    package = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path])}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "invlib", "restore", str(path.resolve()), "--task", "super-resolution"]
        started = time.perf_counter()
        subprocess.run([*command, "--prior", prior, "--out", folder], env=environment, capture_output=True, check=True)
        return round(time.perf_counter() - started, 2)


EXPERIMENTS: Mapping[str, Callable[[Options], Plan]] = {
    **{name: partial(plan_table, name) for name in TABLES},
    "denoisers": plan_denoisers,
    "figure1": plan_figure1,
    "convergence": plan_convergence,
    "robustness": plan_robustness,
    "speed": plan_speed,
}
"""Every experiment by name."""
