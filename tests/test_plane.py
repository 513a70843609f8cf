"""The algorithm in a plane: the exact denoiser of a curve, and where the samples end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invlib.experiments import plane

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
    print((field - sigma**2 * gradient).norm(dim=1).max(), field.norm(dim=1).mean())
    assert (field - sigma**2 * gradient).norm(dim=1).mean() < 0.03 * field.norm(dim=1).mean()


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.1])
def test_samples_of_the_prior_end_on_the_curve(beta: float) -> None:
    done = plane.walk((0.1, 0.9), settings=replace(plane.SETTINGS, beta=beta))
    assert distances(done.places[-1]).max() < 0.005
    assert torch.cdist(CURVE, done.places[-1]).min(1).values.median() < 0.05, "they are all along it"


@pytest.mark.parametrize("line", [(90.0, 0.2), (0.0, 0.0), (30.0, -0.1), (135.0, 0.25)])
def test_samples_of_the_posterior_end_where_curve_and_line_cross(line: plane.Line) -> None:
    ends = plane.walk((0.1, 0.9), line).places[-1]
    apart = torch.cdist(ends, crossings(line))
    print(line, apart.min(1).values.sort().values[-10:], apart.min(0).values)
    assert apart.min(1).values.median() < 0.01
    assert apart.min(0).values.max() < 0.02, "each crossing is found"


def test_a_walk_starts_at_the_point_and_sigma_falls_as_predicted() -> None:
    one, other = (plane.walk(point, (60.0, 0.1), count=4) for point in ((0.1, 0.9), (0.8, 0.2)))
    assert one.places[0, 0].tolist() == pytest.approx([0.1, 0.9])
    assert torch.equal(one.places[:20, 1:], other.places[:20, 1:]), "the other samples stay as they are"
    assert not torch.allclose(one.places[:20, 0], other.places[:20, 0])
    assert len(one.places) >= len(one.sigma) + 1
    ratios = [level / expected for level, expected in zip(one.sigma, one.predicted, strict=False)]
    assert all(0.6 < ratio < 1.4 for ratio in ratios)
    assert one.sigma[-1] <= plane.SETTINGS.sigma_L < one.sigma[-2]
