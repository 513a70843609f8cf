"""Speed: the paper's procedure against the default, at super-resolution 4:1 of one picture."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invlib import engines, images
from invlib.experiments.rows import Cell, Options, Plan, Row, Watch, weights
from invlib.experiments.tables import ASCENT, TABLES, available, choose, default_schedule
from invlib.metrics import psnr
from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN, Denoiser
from invlib.problems.operators import BlockAverage
from invlib.solvers.methods import default_prior
from invlib.solvers.posterior import Posterior
from invlib.solvers.restoration import collect, states
from invlib.solvers.schedules import Schedule

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
    case = TABLES["table1"][0]
    available([case], options)
    path = next((path for path in choose(case, options) if path.stem == SPEED_PICTURE), None)
    if path is None:
        raise ValueError(f"{options.data}/{case.pictures} has no picture {SPEED_PICTURE}: copy it there")
    prior = options.prior or default_prior(case.channels)
    one, eight = default_schedule(case, 1), default_schedule(case)
    key = {
        "experiment": "speed",
        "set": case.pictures,
        "picture": path.stem,
        "task": case.task,
        "knobs": dict(case.knobs),
        "settings": {"paper": ASCENT, "fast": one, "eight samples": eight},
        **weights(prior),
        "network": weights(SPEED_NETWORK),
    }
    return Plan([Cell(key, partial(measure_speed, path, prior, Schedule(**one), Schedule(**eight)))], timed=True)


def measure_speed(path: Path, prior_name: str, one: Schedule, eight: Schedule, watch: Watch) -> Row:
    prior = checkpoints.load(prior_name)
    device = next(prior.parameters()).device
    truth = images.crop_to_multiple(images.load_image(path, channels=3), math.lcm(4, prior.multiple))
    operator = BlockAverage(truth.shape[1:], 4).to(device)
    measurements = operator.measure(truth.to(device))

    def timed(about: str, denoiser: Denoiser, repeats: int, sampler: str, count: int = 1, **settings: Any) -> Row:
        results = []
        for _ in range(repeats):
            steps = states(Posterior(denoiser, operator, measurements), sampler, count, 0, **settings)
            results.append(collect(watch(about, steps)))
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
            unfolded = BFCNN(**{**net.arguments, "folded": False}).to(next(net.parameters()).device)
            unfolded.load_state_dict(net.state_dict(), strict=False)
            net = unfolded.eval().requires_grad_(False)
        # PyTorch's stubs lack the overload of `to` that takes a memory format.
        self.net = net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def forward(self, y: Tensor, measured: Tensor | None = None, sigma: Tensor | float = 0.0) -> Tensor:
        """The noise in images whose sides are multiples of the network's."""
        return self.net.estimate_noise(y.contiguous())


def cold_start(path: Path, prior: str) -> float:
    """Seconds that a new process takes to restore a picture and write it."""
    package = Path(__file__).resolve().parents[2]
    paths = os.pathsep.join([str(package), *sys.path])
    environment = {**os.environ, engines.ENGINE: "", "PYTHONPATH": paths}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "invlib", "restore", str(path.resolve()), "--task", "super-resolution"]
        started = time.perf_counter()
        subprocess.run([*command, "--prior", prior, "--out", folder], env=environment, capture_output=True, check=True)
        return round(time.perf_counter() - started, 2)
