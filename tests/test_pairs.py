"""A picture and what was added to it, each with a prior of its own."""

from __future__ import annotations

import pytest
import torch

from invlib.priors.denoisers import BFCNN
from invlib.priors.pairs import Placed, SideBySide
from invlib.priors.tiles import TiledParts, receptive_field, tiled
from invlib.problems.operators import Sum
from invlib.solvers.posterior import Posterior
from invlib.solvers.samplers import sample_fast
from invlib.solvers.schedules import Schedule
from tests.test_samplers import SIXTEEN, GaussianPrior, check_moments, with_noise


class Rough(GaussianPrior):
    """The same with the highest frequencies, and some of those of the smooth images."""

    def __init__(self, side: int, dimension: int) -> None:
        super().__init__(side, dimension)
        other = GaussianPrior(side, side**2 - 20)
        self.basis = other.basis[:, -dimension:]
        self.basis = torch.cat([GaussianPrior(side, 10).basis, self.basis[:, 10:]], 1)
        self.variances = torch.linspace(0.5, 0.05, dimension)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_samples_of_two_gaussians_are_those_of_the_exact_posterior(factor: float) -> None:
    """The posterior of the pair is that of the Wiener filter, and the sum alone fixes neither of the two."""
    smooth, rough, noise = GaussianPrior(16, 30), Rough(16, 30), 0.1
    operator = Sum(SIXTEEN, factor)
    pair = torch.cat([smooth.draw(), rough.draw()], 1)
    measurements = with_noise(operator.measure(pair), noise)
    posterior = Posterior(SideBySide(smooth, rough), operator, measurements, torch.full(SIXTEEN, noise))
    schedule = Schedule(200, sigma_L=0.003, rho=7, correlation=0.5, antithetic=False)
    *_, last = sample_fast(posterior, schedule, count=200)

    rows = torch.cat([factor * smooth.basis, rough.basis], 1) / operator.scale
    precision = torch.diag(1 / torch.cat([smooth.variances, rough.variances])) + rows.T @ rows / noise**2
    covariance = torch.linalg.inv(precision)
    mean = covariance @ rows.T @ measurements.flatten() / noise**2
    x, added = last.denoised.chunk(2, 1)
    found = torch.cat([x.flatten(1) @ smooth.basis, added.flatten(1) @ rough.basis], 1)
    assert float(covariance[:30, 30:].abs().max()) > 0.01, "the two are not independent given their sum"
    check_moments(found, mean, covariance, bias=0.03)


def built(channels: int, depth: int = 3) -> BFCNN:
    torch.manual_seed(channels)
    return BFCNN(channels, depth=depth, width=4).eval().requires_grad_(False)


def test_parts_see_their_own_channels() -> None:
    first, second, y = built(3), built(1), torch.rand(2, 4, 9, 11)
    noise = SideBySide(first, second)(y)
    torch.testing.assert_close(noise, torch.cat([first(y[:, :3]), second(y[:, 3:])], 1))


def test_placed_pictures_are_denoised_where_they_lie_and_all_else_is_noise() -> None:
    small, y = built(1), torch.rand(2, 3, 20, 30)
    noise = Placed(small, 3, (8, 9), [(0, 1, 2), (2, 12, 21)])(y)
    torch.testing.assert_close(noise[:, :1, 1:9, 2:11], small(y[:, :1, 1:9, 2:11]))
    torch.testing.assert_close(noise[:, 2:, 12:20, 21:30], small(y[:, 2:, 12:20, 21:30]))
    noise[:, 0, 1:9, 2:11] = y[:, 0, 1:9, 2:11]
    noise[:, 2, 12:20, 21:30] = y[:, 2, 12:20, 21:30]
    assert torch.equal(noise, y)


def test_large_pictures_are_cut_into_tiles_except_for_what_has_places() -> None:
    """The estimate and its derivative are those of the whole."""
    placed = Placed(built(1), 1, (8, 8), [(0, 30, 40)])
    assert receptive_field(placed) is None
    pair, y = SideBySide(built(1), placed), torch.rand(1, 2, 48, 56)
    network = tiled(pair)
    assert isinstance(network, TiledParts)
    network.networks[0].side = network.networks[1].side = 16
    assert len(network.networks[0].tiles(y[:, :1])) > 1
    torch.testing.assert_close(network(y), pair(y))
    x_hat, pulled_back = network.linearised(y)
    torch.testing.assert_close(x_hat, y - pair(y))
    direction = torch.rand(y.shape)
    with torch.enable_grad():
        leaf = y.clone().requires_grad_()
        (expected,) = torch.autograd.grad(((leaf - pair(leaf)) * direction).sum(), leaf)
    torch.testing.assert_close(pulled_back(direction), expected, atol=1e-5, rtol=1e-4)
