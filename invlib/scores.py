"""Scores of a restoration against the truth, for one picture and averaged over a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from invlib.metrics import Ensemble, coverage, ensemble, expected_coverage, pooled_spread_skill, psnr, ssim, ssim_paper
from invlib.problems.operators import LinearOperator
from invlib.solvers.ascent import Restoration

METRICS = {"psnr": psnr, "ssim": ssim, "ssim_paper": ssim_paper}


@dataclass(frozen=True)
class Scores:
    """How close a restoration is to the truth; pictures are clipped to [0, 1] first, as they are shown and saved.

    Attributes
    ----------
    input : PSNR and SSIM of the least-squares estimate M m, which needs no prior.
    sample : the same of each sample, averaged, and the standard deviation `psnr_std` of their PSNR.
    mean : the same of the samples' average.
    ensemble : the samples' variance and the error of their average; None for a single sample.
    coverage : the fraction of the pixels whose true value lies within two standard deviations of the average, and what
        is expected of so many samples of the posterior; None for a single sample.
    """

    input: dict[str, float]
    sample: dict[str, float]
    mean: dict[str, float]
    ensemble: Ensemble | None
    coverage: dict[str, float] | None


def score(
    result: Restoration, operator: LinearOperator, measurements: Tensor, truth: Tensor, *, antithetic: bool
) -> Scores:
    """Score a result against `truth` (1, C, H, W); `antithetic` if its samples are pairs of opposite noise."""
    samples = result.samples.cpu().clamp(0, 1)
    spread = float(psnr(samples, truth).std(correction=min(1, len(samples) - 1)))
    return Scores(
        input=compare(operator.adjoint(measurements).cpu().clamp(0, 1), truth),
        sample=compare(samples, truth) | {"psnr_std": spread},
        mean=compare(result.mean.cpu().clamp(0, 1), truth),
        ensemble=ensemble(samples, truth) if len(samples) > 1 else None,
        coverage=cover(samples, truth, antithetic=antithetic) if len(samples) > 1 else None,
    )


def cover(samples: Tensor, truth: Tensor, k: float = 2, *, antithetic: bool) -> dict[str, float]:
    """Measured and expected coverage of k standard deviations."""
    return {"measured": coverage(samples, truth, k), "expected": expected_coverage(len(samples), k, antithetic)}


def compare(image: Tensor, truth: Tensor) -> dict[str, float]:
    """Every metric, averaged over the batch."""
    return {name: float(metric(image, truth).mean()) for name, metric in METRICS.items()}


def summarise(scores: Sequence[Scores]) -> dict[str, object]:
    """One row for several pictures: PSNR, SSIM and coverage averaged, `spread_skill` pooled.

    The last two are None for single samples.
    """
    row: dict[str, object] = {}
    for part in ("input", "sample", "mean", "coverage"):
        columns = [getattr(each, part) for each in scores]
        row[part] = columns[0] and {
            name: round(sum(column[name] for column in columns) / len(columns), 4) for name in columns[0]
        }
    ensembles = [each.ensemble for each in scores if each.ensemble is not None]
    row["spread_skill"] = round(pooled_spread_skill(ensembles), 4) if ensembles else None
    return row
