"""How close a result is to the truth, and how honest its spread is: for one picture, and averaged over many."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib.metrics import (
    Ensemble,
    coverage,
    ensemble,
    expected_coverage,
    expected_half_width,
    pooled_spread_skill,
)
from invlib.priors import checkpoints
from invlib.problems.spec import Problem

Columns = Mapping[str, Tensor]
"""Names of metrics -> a score for each picture or sample."""


@dataclass(frozen=True)
class Scores:
    """The scores of one picture. Images are clipped to [0, 1] first, as they are shown and saved.

    Attributes
    ----------
    input : of the picture that the measurements give without a prior, (1,) for each metric.
    samples : of each sample, (n,) for each metric.
    averages : PSNR and SSIM of the average of the first 1, 2, ... n samples, (n,) each.
    mean : of the average of all samples.
    ensemble : the samples' variance and the error of their average; None for a single sample.
    coverage : the fraction of the pixels whose true value lies within two standard deviations of the average, and what
        is expected of so many samples of the posterior; None for a single sample.
    calibration : the same for bands of 0.25 to 3 standard deviations.
    """

    input: Columns
    samples: Columns
    averages: Columns
    mean: dict[str, float]
    ensemble: Ensemble | None
    coverage: dict[str, float] | None
    calibration: dict[str, list[float]] | None

    @property
    def sample(self) -> dict[str, float]:
        """The scores of a sample, averaged over the samples, and their standard deviations (`psnr_std`, ...)."""
        return {name: float(column.mean()) for name, column in self.samples.items()} | {
            f"{name}_std": deviation(column) for name, column in self.samples.items()
        }


def score(problem: Problem, samples: Tensor, *, antithetic: bool = False) -> Scores:
    """Score samples (n, C, H, W) of a problem whose truth is known.

    Parameters
    ----------
    problem, samples : what was solved, and the answers.
    antithetic : whether the samples are pairs of opposite noise.
    """
    truth = problem.truth
    assert truth is not None
    samples = samples.detach().cpu()
    averages = samples.cumsum(0) / torch.arange(1, len(samples) + 1).view(-1, 1, 1, 1)
    several = len(samples) > 1
    clipped = samples.clamp(0, 1)
    return Scores(
        input=compare(problem, problem.baseline().cpu()),
        samples=compare(problem, samples),
        averages=compare(problem, averages, ("psnr", "ssim")),
        mean=one(compare(problem, samples.mean(0, keepdim=True))),
        ensemble=ensemble(clipped, truth) if several else None,
        coverage=cover(clipped, truth, antithetic=antithetic) if several else None,
        calibration=calibrate(clipped, truth, antithetic) if several else None,
    )


def compare(problem: Problem, images: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """Some or all metrics of a problem for images (n, C, H, W), clipped to [0, 1]: (n,) each."""
    assert problem.truth is not None
    return {name: problem.metrics[name](images.clamp(0, 1), problem.truth) for name in names or problem.metrics}


def cover(samples: Tensor, truth: Tensor, k: float = 2, *, antithetic: bool) -> dict[str, float]:
    """Measured and expected coverage of k standard deviations."""
    return {"measured": coverage(samples, truth, k), "expected": expected_coverage(len(samples), k, antithetic)}


def calibrate(samples: Tensor, truth: Tensor, antithetic: bool) -> dict[str, list[float]]:
    """Coverage of narrow to wide bands about the average: what samples of the posterior would have, and what is."""
    rows = [cover(samples, truth, k, antithetic=antithetic) for k in np.linspace(0.25, 3, 12)]
    return {name: [round(row[name], 4) for row in rows] for name in ("expected", "measured")}


CALIBRATION = Path(__file__).parent / "experiments" / "results" / "calibration.jsonl"
"""The rows of `invlib bench calibration`, which say what a standard deviation is worth."""

CALIBRATED = ("command", "task", "knobs", "noise_level", "estimate_noise", "method", "settings")
"""What a run and a row must agree on, besides the weights of the prior and the number of samples."""

LEVEL = 0.9
"""The fraction of the numbers at which the band is to hold the truth."""


def band(run: Mapping[str, Any], samples: Tensor, truth: Tensor | None) -> dict[str, Any] | None:
    """The band about the samples' average that holds the truth at `LEVEL` of the numbers that were not measured.

    Parameters
    ----------
    run : its JSON, as far as problem, prior and settings go.
    samples, truth : (n, C, H, W) and (1, C, H, W); None if the truth is not known.

    Returns
    -------
    "nominal" is `LEVEL`; "half_width" is that of the band, in standard deviations of the samples, and "factor" how many
    times as wide it is as that of n Gaussian samples of the posterior; "pictures" is on how many held-out pictures that
    was fitted; "measured" is the coverage here, if the truth is known; "meaning" says it in a sentence. The result is
    None where nothing was measured for this problem, with these settings, registered weights and number of samples.
    """
    if not CALIBRATION.is_file():
        return None
    rows = [json.loads(line) for line in CALIBRATION.read_text(encoding="utf-8").splitlines()]
    count, prior = len(samples), checkpoints.registry().get(run["prior"])
    for row in reversed(rows):
        factor = row["factors"].get(str(count))
        same = prior is not None and row["sha256"] == prior.sha256
        if factor is None or not same or any(row[name] != run.get(name) for name in CALIBRATED):
            continue
        half_width = factor * expected_half_width(count, LEVEL, bool(run["settings"].get("antithetic")))
        tested = sorted(100 * of["band"]["measured"] for of in row["sets"].values())
        least_most = " to ".join(dict.fromkeys(f"{each:.0f}" for each in (tested[0], tested[-1])))
        found = {"nominal": LEVEL, "half_width": round(half_width, 3), "factor": factor, "pictures": row["images"]}
        meaning = (
            f"In {100 * LEVEL:.0f} of 100 pixels that were not measured, the truth lies within ±{half_width:.2g} "
            f"standard deviations of the average, colour by colour: measured on {row['images']} "
            f"held-out pictures. On other sets of pictures it does in {least_most} of 100."
        )
        if truth is not None:
            found["measured"] = inside(samples.detach().cpu().clamp(0, 1), truth, half_width)
            if math.isfinite(found["measured"]):
                meaning += f" In this picture, {100 * found['measured']:.0f}."
        return {**found, "meaning": meaning}
    return None


def inside(samples: Tensor, truth: Tensor, half_width: float) -> float:
    """The fraction of the numbers whose true value lies within so many standard deviations of the average."""
    return coverage(samples, truth, half_width / (1 + 1 / len(samples)) ** 0.5)


def deviation(column: Tensor) -> float:
    """The unbiased standard deviation; 0 of a single number."""
    return float(column.std(correction=min(1, len(column) - 1)))


def summarise(scores: Sequence[Scores]) -> dict[str, Any]:
    """A row for the samples of several pictures: scores and coverage averaged, `spread_skill` pooled.

    The last two are None for single samples.
    """
    row: dict[str, Any] = {
        "input": average([one(each.input) for each in scores]),
        "sample": average([each.sample for each in scores]),
        "mean": average([each.mean for each in scores]),
        "coverage": None,
        "spread_skill": None,
    }
    ensembles = [each.ensemble for each in scores if each.ensemble is not None]
    if ensembles:
        row["coverage"] = average([each.coverage for each in scores if each.coverage is not None])
        row["spread_skill"] = round(pooled_spread_skill(ensembles), 4)
    return row


def summarise_estimate(scores: Sequence[Scores]) -> dict[str, Any]:
    """The same for a method that gives a single estimate."""
    return {
        "input": average([one(each.input) for each in scores]),
        "result": average([each.mean for each in scores]),
    }


def curves(scores: Scores) -> dict[str, list[float]]:
    """PSNR and SSIM of each sample, and of the average of the first n for n = 1, 2, ..."""
    return {
        f"{name}_{of}": [round(float(value), 4) for value in columns[name]]
        for of, columns in (("samples", scores.samples), ("averages", scores.averages))
        for name in ("psnr", "ssim")
    }


def one(columns: Columns) -> dict[str, float]:
    """The scores of a single picture."""
    return {name: float(column.mean()) for name, column in columns.items()}


def average(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of every column."""
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}
