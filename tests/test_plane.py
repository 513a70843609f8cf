"""The algorithm in a plane: the exact denoiser of a curve, and where the samples end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invlib.experiments import plane
from invlib.solvers.schedules import Ascent

CURVE = plane.spiral()


def distances(points: Tensor) -> Tensor:
    """From the curve: (n,)."""
    return torch.cdist(points, CURVE).min(1).values


def crossings(line: plane.Line) -> Tensor:
    """Where the curve crosses a line: (k, 2)."""
    normal = torch.tensor([math.cos(math.radians(line[0])), math.sin(math.radians(line[0]))])
    side = (CURVE - 0.5) @ normal - line[1]
    return CURVE[1:][side[1:] * side[:-1] <= 0]


def test_the_curve_is_evenly_spaced_within_the_square() -> None:
    steps = CURVE.diff(dim=0).norm(dim=1)
    assert steps.std() < 0.1 * steps.mean()
    assert CURVE.min() > 0.05
    assert CURVE.max() < 0.95


@pytest.mark.parametrize("sigma", [0.4, 0.15, 0.05])
def test_the_field_is_the_gradient_of_the_blurred_density(sigma: float) -> None:
    """The noise of the rest of the picture tells the blind denoiser the level."""
    y = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    log_density = (-(torch.cdist(y, CURVE).square()) / (2 * sigma**2)).logsumexp(1)
    (gradient,) = torch.autograd.grad(log_density.sum(), y)
    field = plane.PlanePosterior((0.5, 0.5)).field(y.detach(), sigma)
    assert (field - sigma**2 * gradient).norm(dim=1).mean() < 0.03 * field.norm(dim=1).mean()


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.1])
def test_samples_of_the_prior_end_on_the_curve(beta: float) -> None:
    done = plane.walk((0.1, 0.9), settings=replace(plane.SETTINGS, beta=beta))
    assert distances(done.places[-1]).max() < 0.005
    assert torch.cdist(CURVE, done.places[-1]).min(1).values.median() < 0.05, "they are all along it"


def near_crossings(line: plane.Line, settings: Ascent = plane.SETTINGS) -> Tensor:
    """Which of the samples of the posterior end near which crossing of the curve and the line: (count, k)."""
    return torch.cdist(plane.walk((0.1, 0.9), line, settings).places[-1], crossings(line)) < 0.03


@pytest.mark.parametrize("line", [(0.0, 0.0), (30.0, 0.0), (90.0, -0.1), (170.0, 0.05)])
def test_samples_of_the_posterior_end_where_curve_and_line_cross(line: plane.Line) -> None:
    near = near_crossings(line)
    assert near.any(1).float().mean() > 0.95
    assert near.any(0).all(), "each crossing is found"


def test_with_more_noise_fewer_samples_stop_off_the_curve() -> None:
    quiet, noisy = (
        near_crossings((135.0, 0.25), replace(plane.SETTINGS, beta=beta)).any(1).float().mean() for beta in (1.0, 0.1)
    )
    assert quiet < 0.6
    assert noisy > 0.8


def test_a_walk_starts_at_the_point_and_sigma_falls_as_predicted() -> None:
    one, other = (plane.walk(point, (60.0, 0.1), count=4) for point in ((0.1, 0.9), (0.8, 0.2)))
    assert one.places[0, 0].tolist() == pytest.approx([0.1, 0.9])
    assert torch.equal(one.places[:20, 1:], other.places[:20, 1:]), "the other samples stay as they are"
    assert not torch.allclose(one.places[:20, 0], other.places[:20, 0])
    assert len(one.places) >= len(one.sigma) + 1
    ratios = [level / expected for level, expected in zip(one.sigma, one.predicted, strict=False)]
    assert all(0.6 < ratio < 1.4 for ratio in ratios)
    assert one.sigma[-1] <= plane.SETTINGS.sigma_L < one.sigma[-2]
