"""How the samplers of the first paper converge: its Figure 1, and what steps, samples and seconds are worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from invlib.experiments.calibration import plan_calibration
from invlib.experiments.denoising import plan_denoisers
from invlib.experiments.memorisation import plan_memorisation
from invlib.experiments.rows import Cell, Options, Plan, Row, Watch, weights
from invlib.experiments.speed import plan_speed
from invlib.experiments.tables import ASCENT, TABLES, Case, available, cell, choose, default_schedule, plan_table
from invlib.priors import checkpoints
from invlib.solvers.methods import default_prior
from invlib.solvers.posterior import Posterior
from invlib.solvers.samplers import ascend
from invlib.solvers.schedules import Ascent, predicted_sigmas

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
    posterior = Posterior(prior, shape=(prior.channels, FIGURE1_SIDE, FIGURE1_SIDE))
    states = ascend(posterior, Ascent(**settings), count=count, seed=0)
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

CONVERGENCE: tuple[tuple[Case, tuple[int, ...]], ...] = (
    (TABLES["table1"][0], (4, 10, 20, 50, 100)),
    (TABLES["table2"][0], (4, 10, 20, 50, 100)),
    (TABLES["table3"][1], (20, 50, 100, 200)),
)
"""Problems, and the evaluations of the fast sampler."""


def plan_convergence(options: Options) -> Plan:
    """PSNR of the average against samples averaged, evaluations and seconds: rows as in `plan_table`.

    The fast sampler at several lengths of its schedule, and the paper's. "averages" are for the first 1, 2, 4, ... of
    the samples, and "seconds" for all.
    """
    cases, left_out = available([case for case, _ in CONVERGENCE], options)
    cells = []
    for case, lengths in CONVERGENCE:
        if case in cases:
            paths = choose(case, options, options.images, case.few)
            row = partial(cell, "convergence", case, paths, options=options, samples=16)
            schedule = default_schedule(case)
            cells += [row("fast", {**schedule, "evaluations": length}) for length in lengths]
            cells.append(row("paper", ASCENT))
    return Plan(cells, left_out)


ROBUSTNESS_H0S = (0.01, 0.03, 0.1, 0.3)

ROBUSTNESS_BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)


def plan_robustness(options: Options) -> Plan:
    """PSNR of the paper's sampler over h₀ and β, for the first problem of table 1: rows as in `plan_table`."""
    case = TABLES["table1"][0]
    available([case], options)
    paths = choose(case, options, options.images)
    cells = [
        cell("robustness", case, paths, "paper", {**ASCENT, "h0": h0, "beta": beta}, options, samples=4)
        for h0 in ROBUSTNESS_H0S
        for beta in ROBUSTNESS_BETAS
    ]
    return Plan(cells)


EXPERIMENTS: Mapping[str, Callable[[Options], Plan]] = {
    **{name: partial(plan_table, name) for name in TABLES},
    "denoisers": plan_denoisers,
    "figure1": plan_figure1,
    "convergence": plan_convergence,
    "robustness": plan_robustness,
    "calibration": plan_calibration,
    "memorisation": plan_memorisation,
    "speed": plan_speed,
}
"""Every experiment by name."""
