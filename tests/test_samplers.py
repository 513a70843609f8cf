"""The samplers against a linear-subspace prior and a Gaussian one, whose denoisers are exact."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

import pytest
import torch
from torch import Tensor

import invlib
from invlib.priors.denoisers import BFCNN, DROWNED, Denoiser
from invlib.problems.operators import (
    BlockAverage,
    Blur,
    DenseMatrix,
    DenseRows,
    Downsampling,
    FramedBlur,
    Identity,
    LinearOperator,
    LowPass,
    Mask,
    StructuredRows,
    hartley,
)
from invlib.solvers import samplers
from invlib.solvers.methods import default_schedule
from invlib.solvers.noise_level import estimate_noise
from invlib.solvers.posterior import Posterior, bounded
from invlib.solvers.restoration import collect
from invlib.solvers.samplers import State, mean_of_all, reverse_diffusion
from invlib.solvers.schedules import Ascent, Reverse, Schedule, step_size
from tests.conftest import SubspacePrior


def ascend(prior, operator=None, measurements=None, *, shape=None, noise=0.0, count=1, seed=0, **settings):
    interpolate = settings.pop("interpolate", False)
    posterior = Posterior(prior, operator, measurements, levels(operator, noise), shape=shape)
    return samplers.ascend(posterior, Ascent(**settings), count=count, seed=seed, interpolate=interpolate)


def sample_fast(prior, operator, measurements, *, schedule=None, noise=0.0, count=1, seed=0) -> Iterator[State]:
    schedule = schedule or default_schedule(operator, count)
    posterior = Posterior(prior, operator, measurements, levels(operator, noise))
    return samplers.sample_fast(posterior, schedule, count=count, seed=seed)


def levels(operator, noise):
    """The same noise level for each measurement, whatever that is in the picture's units."""
    return noise if isinstance(noise, Tensor) or not noise else torch.full(operator.measurement_shape, noise)


SAMPLERS = [
    pytest.param({"sampler": "paper", "h0": 0.1, "beta": 0.1}, id="paper"),
    pytest.param({"sampler": "fast"}, id="fast"),
]


def test_without_noise_sigma_follows_the_predicted_curve_exactly(subspace):
    """β = 1: d_t shrinks by 1 - h_t, Eq. 5 with γ = 0."""
    states = list(ascend(subspace, shape=subspace.shape, h0=0.05, beta=1.0, seed=1))
    for before, after in itertools.pairwise(states):
        assert float(after.sigma) == pytest.approx((1 - step_size(before.step, 0.05)) * float(before.sigma), rel=1e-3)
    assert float(states[-1].sigma) <= 0.01 < float(states[-2].sigma)


def test_with_noise_sigma_follows_the_recursion_of_equation_5(subspace):
    """Noise adds γ² only in the N - k dimensions off the subspace, so σ falls as computed here."""
    h0, beta, size, dimension = 0.05, 0.2, 1024, 20
    states = list(ascend(subspace, shape=subspace.shape, h0=h0, beta=beta, count=8, seed=0))
    expected = float(states[0].sigma.square().mean())
    # Samples leave the batch as they converge and then keep their last σ, so compare while all are running.
    for state in itertools.takewhile(lambda state: float(state.sigma.min()) > 0.011, states):
        assert math.sqrt(float(state.sigma.square().mean())) == pytest.approx(math.sqrt(expected), rel=0.05)
        h = step_size(state.step, h0)
        expected *= (1 - h) ** 2 + ((1 - beta * h) ** 2 - (1 - h) ** 2) * (size - dimension) / size


def test_predicted_curve_starts_at_sigma_0(subspace):
    expected = 0.8
    for state in ascend(subspace, shape=subspace.shape, h0=0.02, beta=0.5, sigma_0=0.8):
        assert state.predicted == pytest.approx(expected)
        expected *= 1 - 0.5 * step_size(state.step, 0.02)


def test_samples_of_the_prior_lie_on_the_subspace(subspace):
    samples = invlib.sample(subspace, subspace.shape, count=3, h0=0.1).samples
    torch.testing.assert_close(subspace.project(samples), samples, atol=1e-5, rtol=0)
    assert float(samples.std(0).mean()) > 1e-3, "samples differ from each other"


SLOW = [
    pytest.param({"sampler": "paper", "h0": 0.05, "beta": 0.1, "sigma_L": 1e-3}, id="paper"),
    pytest.param({"sampler": "fast", "schedule": Schedule(60, sigma_L=1e-3)}, id="fast"),
]


@pytest.mark.parametrize("settings", SLOW)
@pytest.mark.parametrize(
    "operator",
    [
        BlockAverage((1, 32, 32), 2),
        StructuredRows((1, 32, 32), 0.2),
        Mask.block((1, 32, 32), (8, 8, 16, 16)),
        FramedBlur((1, 32, 32), torch.ones(3, 2)),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_enough_measurements_give_the_one_image_that_agrees(subspace, operator, settings):
    """More independent measurements than dimensions, so one point of the subspace agrees with them."""
    x = subspace.draw(1, seed=5)
    result = invlib.restore(subspace, operator, operator.measure(x), count=2, **settings)
    x = operator.crop(x)
    error = (result.samples - x).square().mean().sqrt() / x.square().mean().sqrt()
    assert float(error) < 0.02


@pytest.mark.parametrize("settings", SLOW)
def test_too_few_measurements_give_samples_that_agree_and_differ(settings):
    prior = SubspacePrior((1, 8, 8), dimension=30)
    operator = BlockAverage((1, 8, 8), 2)  # 16 numbers for 30 dimensions
    x = prior.draw(1, seed=5)
    result = invlib.restore(prior, operator, operator.measure(x), count=4, **settings)
    disagreement = operator.measure(result.samples) - operator.measure(x)
    assert float(disagreement.square().mean().sqrt()) < 0.01
    off = result.samples - prior.project(result.samples)
    assert float(off.square().mean().sqrt()) < 0.01
    assert float(result.std.mean()) > 0.05
    torch.testing.assert_close(result.mean, result.samples.mean(0, keepdim=True))
    torch.testing.assert_close(result.std, result.samples.std(0, keepdim=True))


@pytest.mark.parametrize("settings", SAMPLERS)
def test_a_sample_depends_on_its_seed_and_index_only(subspace, settings):
    operator = BlockAverage((1, 32, 32), 16)
    measurements = operator.measure(subspace.draw(1))

    def draw(count: int, seed: int) -> torch.Tensor:
        return invlib.restore(subspace, operator, measurements, count=count, seed=seed, **settings).samples

    four = draw(4, seed=3)
    torch.testing.assert_close(draw(8, seed=3)[:4], four, atol=1e-4, rtol=0)
    assert float((draw(4, seed=4) - four).abs().mean()) > 1e-3


def interpolated(prior, count: int, **settings) -> torch.Tensor:
    return invlib.sample(prior, prior.shape, count=count, interpolate=True, seed=3, **settings).samples


SHORT = {"h0": 0.2, "beta": 0.1}


def test_interpolation_goes_from_the_first_sample_to_the_second(subspace):
    path = interpolated(subspace, 5, **SHORT)
    sizes = subspace.calls[:-1]
    assert sizes[-1] < sizes[0] == 5, "some samples end before others"
    ends = invlib.sample(subspace, subspace.shape, count=2, seed=3, **SHORT).samples
    torch.testing.assert_close(path[[0, -1]], ends, atol=1e-4, rtol=0)
    steps = path.diff(dim=0).flatten(1).norm(dim=1)
    assert float(steps.min()) > 0.1 * float(steps.max()), "each differs from the one before"
    assert float(steps.max()) < 0.6 * float((path[-1] - path[0]).norm()), "and by a part of the way"


def test_a_sample_in_between_depends_on_its_angle_only(subspace):
    torch.testing.assert_close(
        interpolated(subspace, 9, **SHORT)[::4], interpolated(subspace, 3, **SHORT), atol=1e-4, rtol=0
    )


def test_interpolated_noise_is_white_and_as_strong(subspace):
    """At the start and, with a denoiser that changes nothing but the mean, in every later step."""
    states = ascend(Constant(1), shape=(1, 64, 64), count=3, interpolate=True, h0=0.5, beta=0.1)
    before, after = (next(states) for _ in range(2))
    h = step_size(2, 0.5)
    gamma = math.sqrt((1 - 0.1 * h) ** 2 - (1 - h) ** 2) * after.sigma
    mean = before.image.mean((2, 3), keepdim=True)
    noise = (after.image - before.image - h * (mean - before.image)) / gamma.view(-1, 1, 1, 1)
    torch.testing.assert_close(noise.std((1, 2, 3)), torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(before.sigma, torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(noise[1], (noise[0] + noise[2]) / math.sqrt(2), atol=1e-4, rtol=0)
    correlation = torch.corrcoef(noise.flatten(1))
    assert float(correlation[0, 2].abs()) < 0.05


def test_samples_leave_the_batch_as_they_converge(subspace):
    result = invlib.sample(subspace, subspace.shape, count=6, h0=0.2, beta=0.1)
    sizes = subspace.calls[:-1]  # the last call is the final denoising of all
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 6 > sizes[-1]
    assert subspace.calls[-1] == 6
    assert result.evaluations == len(subspace.calls)
    assert "converged" in result.outcome


def test_the_cap_stops_a_run_and_says_so(subspace):
    result = invlib.sample(subspace, subspace.shape, h0=0.01, beta=0.01, max_evaluations=10)
    assert result.evaluations == 10
    assert "cap of 10" in result.outcome


class Amplifier(Denoiser):
    """A broken prior, whose correction points the wrong way."""

    def __init__(self, scale: float) -> None:
        super().__init__(1)
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def estimate_noise(self, y):
        return self.scale * y


class Constant(Denoiser):
    """A denoiser without parameters: every image is even."""

    def estimate_noise(self, y):
        return y - y.mean((2, 3), keepdim=True)


def test_a_denoiser_needs_no_parameters():
    operator = BlockAverage((1, 8, 8), 8)
    result = invlib.restore(Constant(1), operator, operator.measure(torch.full((1, 1, 8, 8), 0.3)))
    torch.testing.assert_close(result.mean, torch.full((1, 1, 8, 8), 0.3))


@pytest.mark.parametrize("scale", [-3.0, math.nan])
@pytest.mark.parametrize("settings", SAMPLERS)
def test_divergence_stops_a_run_and_keeps_finite_samples(scale, settings):
    operator = BlockAverage((1, 8, 8), 8)
    result = invlib.restore(Amplifier(scale), operator, operator.measure(torch.ones(1, 1, 8, 8)), **settings)
    assert "diverged" in result.outcome
    assert torch.isfinite(result.samples).all()


def test_stopping_the_iteration_stops_the_evaluations(subspace):
    states = ascend(subspace, shape=subspace.shape)
    for _ in range(5):
        next(states)
    states.close()
    assert len(subspace.calls) == 5


def test_states_do_not_change_after_they_were_yielded(subspace):
    first, *_ = states = list(ascend(subspace, shape=subspace.shape, h0=0.3, beta=0.5, count=2))
    again = next(ascend(subspace, shape=subspace.shape, h0=0.3, beta=0.5, count=2))
    torch.testing.assert_close(first.image, again.image)
    torch.testing.assert_close(first.sigma, again.sigma)
    assert len(states) > 3


def test_the_fast_sampler_spends_its_schedule(subspace):
    operator = BlockAverage((1, 32, 32), 4)
    measurements = operator.measure(subspace.draw(1))
    states = list(sample_fast(subspace, operator, measurements, schedule=Schedule(6)))
    assert [state.evaluations for state in states] == [2, 4, 6], "a step takes two"
    torch.testing.assert_close(operator.measure(states[-1].denoised), measurements, atol=1e-5, rtol=0)
    without = list(sample_fast(subspace, operator, measurements, schedule=Schedule(3, derivative_above=1.0)))
    assert [state.evaluations for state in without] == [1, 2, 3]
    torch.testing.assert_close(operator.measure(without[-1].denoised), measurements, atol=1e-5, rtol=0)
    at_first = Schedule(8, derivative_above=0.1)
    assert [level > 0.1 for level in at_first.sigmas()] == [True, True, True, False, False], "six would cost too much"
    assert at_first.costs() == [2, 2, 2, 1, 1]
    assert Schedule(9, derivative_above=0.1).costs() == [2, 2, 2, 2, 1], "what is left pays for a derivative more"
    assert Schedule(5).costs() == [2, 2]
    partly = list(sample_fast(subspace, operator, measurements, schedule=at_first))
    assert [state.evaluations for state in partly] == [2, 4, 6, 7, 8]


@pytest.mark.parametrize("antithetic", [False, True])
def test_samples_can_share_their_first_steps(subspace, antithetic):
    operator = BlockAverage((1, 32, 32), 4)
    measurements = operator.measure(subspace.draw(1))
    schedule = Schedule(10, antithetic=antithetic, shared_above=0.2)
    shared = sum(level > 0.2 for level in schedule.sigmas())
    assert 1 < shared < 4
    subspace.calls.clear()
    states = list(sample_fast(subspace, operator, measurements, schedule=schedule, count=5))
    assert subspace.calls == [2] * shared + [5] * (5 - shared)
    for state in states[:shared]:
        torch.testing.assert_close(state.denoised[2:4], state.denoised[:2], atol=0, rtol=0)
    assert states[-1].denoised.std(0).mean() > 0.01, "then they go their own ways"
    pair = invlib.restore(subspace, operator, measurements, schedule=schedule, count=2)
    torch.testing.assert_close(states[-1].denoised[:2], pair.samples, atol=1e-5, rtol=0)


def test_how_long_the_fast_sampler_takes_belongs_to_the_problem():
    operator = BlockAverage((1, 32, 32), 4)
    assert default_schedule(operator).evaluations == 14
    assert default_schedule(StructuredRows((1, 32, 32), 0.1)) == Schedule(40, sigma_0=0.5, rho=5)
    assert default_schedule(DenseRows((1, 32, 32), 0.04)) == Schedule(40, sigma_0=0.5, rho=5, power_law=True)
    assert default_schedule(Mask.random_pixels((1, 32, 32), 0.1)) == Schedule(60)
    left_half = torch.arange(32).expand(32, 32) < 16
    assert default_schedule(Mask((1, 32, 32), left_half)) == Schedule(60, power_law=True)
    assert default_schedule(Mask.block((1, 32, 32), (8, 8, 8, 8))) == Schedule(
        60, correlation=0.25, derivative_above=1.0, power_law=True
    )


def test_a_sample_alone_has_no_correlation_to_spread_it():
    operator = BlockAverage((1, 32, 32), 4)
    assert default_schedule(operator, 1) == Schedule(13, sigma_L=0.03, correlation=0, derivative_above=0.15)
    assert default_schedule(StructuredRows((1, 32, 32), 0.1), 1).correlation == 0
    assert (
        default_schedule(operator, 2)
        == default_schedule(operator)
        == Schedule(14, sigma_L=0.03, correlation=0.0, derivative_above=0.12, shared_above=0.4, extrapolation=0.5)
    )
    assert Schedule().correlation > 0


class GaussianPrior(Denoiser):
    """Smooth images N(0, B diag(variances) Bᵀ), with the lowest frequencies as columns of B and variances falling like
    those of photographs.

    Its blind denoiser finds σ where there is only noise, off the columns of B, and is exact but for the error of that.
    """

    def __init__(self, side: int, dimension: int) -> None:
        super().__init__(1)
        self.shape = (1, side, side)
        index = torch.arange(side)
        distance = torch.minimum(index, side - index)
        frequency = (distance[:, None] ** 2 + distance**2).flatten()
        chosen = frequency.argsort(stable=True)[:dimension]
        self.basis = hartley(torch.eye(side**2).view(-1, side, side)).flatten(1)[:, chosen]
        self.variances = side**2 * 0.01 / (1 + frequency[chosen])

    def estimate_noise(self, y: Tensor) -> Tensor:
        flat = y.flatten(1)
        coordinates = flat @ self.basis
        energy = flat.square().sum(1) - coordinates.square().sum(1)
        sigma2 = energy.view(-1, 1) / (len(self.basis) - len(self.variances))
        estimate = (coordinates * self.variances / (self.variances + sigma2)) @ self.basis.T
        return y - estimate.view(y.shape)

    def draw(self) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        coordinates = self.variances.sqrt() * torch.randn(1, len(self.variances), generator=generator)
        return (coordinates @ self.basis.T).view(1, *self.shape)

    def posterior(self, operator: LinearOperator, measurements: Tensor, noise: Tensor | float) -> tuple[Tensor, Tensor]:
        """Mean (k,) and covariance (k, k) of the coordinates in B, given the measurements: Bayes' rule."""
        rows = operator.measure(self.basis.T.reshape(-1, *self.shape)).flatten(1)
        weighted = rows / levels(operator, noise).flatten().square()
        covariance = torch.linalg.inv(torch.diag(1 / self.variances) + weighted @ rows.T)
        return covariance @ weighted @ measurements.flatten(), covariance


def with_noise(measurements: Tensor, noise: Tensor | float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return measurements + noise * torch.randn(measurements.shape, generator=generator)


def check_moments(samples: Tensor, mean: Tensor, covariance: Tensor, bias: float) -> None:
    """That samples (n, k) have this mean and covariance along every direction in which the covariance is diagonal.

    Within four standard errors, of which there are k, and for variances besides within the fraction `bias`.
    """
    count = len(samples)
    eigenvalues, directions = torch.linalg.eigh(covariance)
    whitened = (samples - mean) @ directions / eigenvalues.sqrt()
    assert float(whitened.mean(0).abs().max()) < 4 / math.sqrt(count)
    error = math.sqrt(2 / count)
    assert float((whitened.var(0) - 1).abs().max()) < 4 * error + bias
    # Pooled over directions the error is smaller: over all, the widest half (hardly measured) and the narrowest.
    half = len(mean) // 2
    for chosen in (slice(None), slice(half, None), slice(half)):
        variance = whitened[:, chosen].var(0)
        assert float(variance.mean()) == pytest.approx(1, abs=3 * error / math.sqrt(len(variance)) + bias)


SIXTEEN = (1, 16, 16)
SUMS = torch.randn(256, 77, generator=torch.Generator().manual_seed(0)) / 16


@pytest.mark.parametrize(
    ("operator", "noise"),
    [
        pytest.param(BlockAverage(SIXTEEN, 4), 0.05, id="block averages"),
        pytest.param(BlockAverage(SIXTEEN, 4), 0.5, id="block averages, more noise"),
        pytest.param(LowPass(SIXTEEN, 0.1), 0.05, id="low frequencies"),
        pytest.param(Blur(SIXTEEN, torch.ones(5, 5)), 0.05, id="blur"),
        pytest.param(Mask.random_pixels(SIXTEEN, 0.3), 0.05, id="random pixels"),
        # These determine some directions so badly that with less noise the mean needs more evaluations.
        pytest.param(Mask.block(SIXTEEN, (4, 4, 8, 8)), 0.15, id="hole"),
        pytest.param(StructuredRows(SIXTEEN, 0.3), 0.1, id="random rows"),
        pytest.param(DenseRows(SIXTEEN, 0.3), 0.1, id="dense random rows"),
        pytest.param(Identity(SIXTEEN), 0.3, id="all pixels"),
        pytest.param(Downsampling(SIXTEEN, 4, "bicubic"), 0.05, id="bicubic"),
        pytest.param(FramedBlur(SIXTEEN, torch.ones(3, 4)), 0.1, id="blur in a frame"),
        pytest.param(DenseMatrix(SIXTEEN, SUMS), 0.2, id="weighted sums"),
    ],
)
@pytest.mark.parametrize("uneven", [False, True], ids=["as noisy", "not as noisy"])
def test_with_correlated_noise_the_fast_sampler_draws_from_the_posterior(operator, noise, uneven):
    """Measurements that are equally noisy, and some that are four times as noisy as others."""
    prior = GaussianPrior(16, dimension=40)
    noise = levels(operator, noise)
    if uneven:
        noise = noise * 4 ** torch.rand(noise.shape, generator=torch.Generator().manual_seed(3))
    measurements = with_noise(operator.measure(prior.draw()), noise)
    schedule = Schedule(200, sigma_L=0.003, rho=7, correlation=0.5, antithetic=False)
    *_, last = sample_fast(prior, operator, measurements, schedule=schedule, count=200, noise=noise)
    mean, covariance = prior.posterior(operator, measurements, noise)
    check_moments(last.denoised.flatten(1) @ prior.basis, mean, covariance, bias=0.03)


def test_a_derivative_adds_no_peaks():
    picture = torch.randn(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bounded(0.5 * picture, picture), 0.5 * picture)
    gradient = 0.5 * picture
    gradient[1, :, 10:13, 20:23] += 30
    found = bounded(gradient, picture)
    assert torch.equal(found[0], gradient[0])
    assert torch.equal(found[1, :, :, 30:], gradient[1, :, :, 30:])
    assert float(found[1, :, 7:16, 17:26].square().mean().sqrt()) < 1.3
    assert float(found[1, 0, 11, 21]) > 0
    assert not bounded(gradient, torch.zeros_like(picture)).any()


class HotSpot(Denoiser):
    """A Gaussian prior's denoiser whose derivative is 30 times too large in one pixel, where its value is right."""

    def __init__(self, prior: GaussianPrior, sigma: float) -> None:
        super().__init__(channels=1)
        self.known = KnownLevel(prior, sigma)

    def estimate_noise(self, y: Tensor) -> Tensor:
        noise = self.known(y).clone()
        noise[..., 5, 6] += 30 * (y.detach() - y)[..., 5, 6]
        return noise


def test_a_spot_where_the_derivative_is_wrong_does_not_grow():
    prior, operator, sigma = GaussianPrior(16, dimension=40), DenseRows(SIXTEEN, 0.25), 0.2
    truth = prior.draw()
    y = truth + sigma * torch.randn(3, *SIXTEEN, generator=torch.Generator().manual_seed(2))
    right, wrong = (
        Posterior(known, operator, operator.measure(truth)).mean(y, sigma)
        for known in (KnownLevel(prior, sigma), HotSpot(prior, sigma))
    )
    error, spot = ((estimate - truth).square().mean().sqrt() for estimate in (right, wrong))
    assert float(spot) < 1.8 * float(error), "2.5 times without the bound"


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
def test_one_step_of_descent_explains_one_measurement(noise):
    """With a single number measured, the estimate is the exact mean of a Gaussian given it and the iterate."""
    prior, operator, sigma = GaussianPrior(16, dimension=40), DenseRows(SIXTEEN, 1 / 256), 0.2
    measurements = operator.measure(prior.draw())
    y = prior.draw() + sigma * torch.randn(3, *SIXTEEN, generator=torch.Generator().manual_seed(2))
    known = KnownLevel(prior, sigma)
    estimate = Posterior(known, operator, measurements, noise).mean(y, sigma)

    row = operator.adjoint(torch.ones(1, 1)).flatten(1) @ prior.basis
    precision = torch.diag(1 / prior.variances + 1 / sigma**2)
    mean = (y.flatten(1) @ prior.basis / sigma**2) @ torch.linalg.inv(precision)
    gain = torch.linalg.solve(precision, row.T) / (row @ torch.linalg.solve(precision, row.T) + noise**2)
    expected = (mean + (measurements - mean @ row.T) * gain.T) @ prior.basis.T
    torch.testing.assert_close(estimate.flatten(1), expected, atol=1e-4, rtol=0)


class ToldGaussian(Denoiser):
    """The exact denoiser of `GaussianPrior` that is told the measured part, whose measurements have the noise `s`.

    Call after call, the noise in what was not measured has the next of `sigmas`.
    """

    told = True

    def __init__(self, prior: GaussianPrior, operator: LinearOperator, s: Tensor, sigmas: Iterable[float]) -> None:
        super().__init__(1)
        self.prior, self.operator, self.known = prior, operator, 1 / s.flatten().square()
        self.rows = operator.measure(prior.basis.T.reshape(-1, *prior.shape)).flatten(1)
        self.sigmas = iter(sigmas)

    def estimate_noise(self, y: Tensor) -> Tensor:
        shrunk, told, level = y.split(1, dim=1)
        torch.testing.assert_close(told, self.operator.project(shrunk), atol=1e-4, rtol=0)
        sigma = next(self.sigmas)
        assert bool((level == min(sigma, 1)).all())
        weight, shrink = sigma**-2, min(1, DROWNED / sigma)
        unmeasured = (shrunk - told) / shrink if shrink else torch.zeros_like(told)
        image = told + unmeasured
        # Of the measured part, y and m are told as one, with the information of both.
        precision = torch.diag(1 / self.prior.variances + weight) + self.rows * self.known @ self.rows.T
        evidence = weight * (image - told).flatten(1) @ self.prior.basis
        evidence = evidence + (self.operator.measure(told).flatten(1) * (weight + self.known)) @ self.rows.T
        estimate = torch.linalg.solve(precision, evidence.T).T @ self.prior.basis.T
        return image - estimate.view(image.shape) - (1 - shrink) * unmeasured


TOLD = pytest.mark.parametrize(
    "operator",
    [
        BlockAverage(SIXTEEN, 4),
        Downsampling(SIXTEEN, 4, "bicubic"),
        LowPass(SIXTEEN, 0.1),
        Blur(SIXTEEN, torch.ones(5, 5)),
    ],
    ids=lambda operator: type(operator).__name__,
)


@TOLD
@pytest.mark.parametrize("sigma", [0.1, 0.7])
def test_a_denoiser_that_is_told_the_measured_part_gives_the_exact_mean(operator, sigma):
    """By Bayes' rule from the iterate and the measurements, two observations of the image with independent noise."""
    prior = GaussianPrior(16, dimension=40)
    s = levels(operator, 0.3) * 2 ** torch.rand(operator.measurement_shape, generator=torch.Generator().manual_seed(3))
    measurements = with_noise(operator.measure(prior.draw()), s)
    y = prior.draw() + sigma * torch.randn(3, *SIXTEEN, generator=torch.Generator().manual_seed(2))
    told = ToldGaussian(prior, operator, s, [sigma])
    estimate = Posterior(told, operator, measurements, s).mean(y, sigma)

    precision = torch.diag(1 / prior.variances + 1 / sigma**2) + told.rows * told.known @ told.rows.T
    evidence = y.flatten(1) @ prior.basis / sigma**2 + (measurements.flatten(1) * told.known) @ told.rows.T
    expected = torch.linalg.solve(precision, evidence.T).T @ prior.basis.T
    torch.testing.assert_close(estimate.flatten(1), expected, atol=1e-3, rtol=0)


@TOLD
def test_the_mean_of_all_answers_takes_one_evaluation(operator):
    prior = GaussianPrior(16, dimension=40)
    s = levels(operator, 0.05) * torch.ones(operator.measurement_shape)
    measurements = with_noise(operator.measure(prior.draw()), s)
    posterior = Posterior(ToldGaussian(prior, operator, s, [math.inf]), operator, measurements, s)
    expected, _ = prior.posterior(operator, measurements, s)
    torch.testing.assert_close(
        mean_of_all(posterior, 2).flatten(1) @ prior.basis, expected.expand(2, -1), atol=1e-4, rtol=0
    )


def variances_of_reverse_diffusion(variances: Tensor, settings: Reverse) -> Tensor:
    """Those of samples of a Gaussian posterior with these variances, whose first iterates are its mean plus noise."""
    sigmas = torch.tensor(settings.sigmas()[1:])
    spread = sigmas[0].square().expand(len(variances))
    for sigma, following in itertools.pairwise(sigmas):
        kept, gain = (following / sigma).square(), variances / (variances + sigma.square())
        spread = (gain + kept * (1 - gain)).square() * spread + following.square() * (1 - kept)
    return (variances / (variances + sigmas[-1].square())).square() * spread


@TOLD
def test_reverse_diffusion_draws_from_the_posterior(operator):
    prior, settings = GaussianPrior(16, dimension=40), Reverse(40, sigma_0=3.0, sigma_L=0.01)
    s = levels(operator, 0.05) * torch.ones(operator.measurement_shape)
    measurements = with_noise(operator.measure(prior.draw()), s)
    told = ToldGaussian(prior, operator, s, [math.inf, *settings.sigmas()[1:]])
    *_, last = reverse_diffusion(Posterior(told, operator, measurements, s), settings, count=400)

    mean, covariance = prior.posterior(operator, measurements, s)
    variances, directions = torch.linalg.eigh(covariance)
    coordinates = (last.denoised.flatten(1) @ prior.basis - mean) @ directions
    # Samples come in pairs of opposite noise, which cancels in their average.
    torch.testing.assert_close(coordinates.mean(0), torch.zeros(len(variances)), atol=1e-3, rtol=0)
    ratio = (coordinates - coordinates.mean(0))[::2].square().mean(0) / variances_of_reverse_diffusion(
        variances, settings
    )
    assert float((ratio - 1).abs().max()) < 4 * math.sqrt(2 / 200)
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / 200 / len(variances)))


def test_reverse_diffusion_becomes_exact_with_more_steps():
    variances = torch.logspace(-3, 0, 7)
    errors = []
    for steps in (50, 100, 200):
        settings = Reverse(steps, sigma_0=5.0, sigma_L=0.001, rho=7)
        spread = variances_of_reverse_diffusion(variances, settings)
        errors.append(float((spread / variances - 1).abs().max()))
    assert errors[0] < 0.25
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], rel=0.15)


def test_reverse_diffusion_agrees_with_exact_measurements():
    prior, operator, settings = GaussianPrior(16, dimension=40), BlockAverage(SIXTEEN, 4), Reverse(5)
    measurements = operator.measure(prior.draw())
    told = ToldGaussian(prior, operator, torch.full((16,), 0.01), [math.inf, *settings.sigmas()[1:]])
    *_, last = reverse_diffusion(Posterior(told, operator, measurements), settings, count=2)
    torch.testing.assert_close(operator.measure(last.denoised), measurements.expand(2, -1, -1, -1), atol=1e-5, rtol=0)
    assert last.evaluations == 5


def test_the_prior_alone_has_its_measurements_where_the_denoiser_is():
    posterior = Posterior(BFCNN(1, depth=2, width=4).to("meta"), shape=(1, 8, 8))
    assert posterior.start(1.0, torch.empty(2, 1, 8, 8, device="meta")).is_meta


def test_reverse_diffusion_needs_a_denoiser_that_is_told(subspace):
    operator = BlockAverage(subspace.shape, 4)
    posterior = Posterior(subspace, operator, operator.measure(subspace.draw(1)))
    with pytest.raises(ValueError, match="told what was measured"):
        next(reverse_diffusion(posterior, Reverse()))
    with pytest.raises(ValueError, match="told what was measured"):
        mean_of_all(posterior)


@pytest.mark.parametrize(
    "operator",
    [
        StructuredRows(SIXTEEN, 0.3),
        Mask.block(SIXTEEN, (3, 3, 10, 10)),
        Downsampling(SIXTEEN, 4, "nearest"),
        FramedBlur(SIXTEEN, torch.ones(3, 3)),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_a_denoiser_is_told_only_of_smaller_or_blurred_pictures(operator):
    told = ToldGaussian(GaussianPrior(16, dimension=40), BlockAverage(SIXTEEN, 4), torch.ones(16), [])
    assert not Posterior(told, operator, torch.zeros(1, *operator.measurement_shape)).told


def test_reverse_diffusion_of_a_prior_alone_ends_on_it(subspace):
    """The prior is spread evenly over a subspace, so that what is left of the start there is known as well."""
    posterior, settings = Posterior(subspace, shape=subspace.shape), Reverse(6, sigma_0=2.0, sigma_L=0.1)
    *_, last = reverse_diffusion(posterior, settings, count=2)
    torch.testing.assert_close(last.denoised, subspace.project(last.denoised), atol=1e-5, rtol=0)
    assert last.evaluations == 6
    assert float((last.denoised[0] - last.denoised[1]).abs().max()) > 0.01


class Opaque(Denoiser):
    """A denoiser whose derivative is not known: every image is a quarter of what is seen."""

    @torch.no_grad()
    def estimate_noise(self, y):
        return 0.75 * y


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_without_a_derivative_only_the_measured_part_is_corrected(noise):
    operator, y, sigma = BlockAverage(SIXTEEN, 4), torch.rand(2, *SIXTEEN), 0.2
    measurements = torch.rand(1, 1, 4, 4)
    problem = Posterior(Opaque(1), operator, measurements, levels(operator, noise))
    gain = sigma**2 / (sigma**2 + noise**2)
    expected = y / 4 + gain * operator.adjoint(measurements - operator.measure(y / 4))
    torch.testing.assert_close(problem.mean(y, sigma), expected)
    torch.testing.assert_close(problem.replaced(y, sigma), expected)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_where_the_prior_is_wrong_its_derivative_is_not_trusted(noise):
    """Pictures that lack what was measured by more than the noise, beside one that has it."""
    prior, operator, sigma = GaussianPrior(16, dimension=40), BlockAverage(SIXTEEN, 4), 0.05
    measurements = with_noise(operator.measure(prior.draw()), noise)
    y = torch.cat([prior.draw(), prior.draw() + 1.0, -prior.draw()])
    problem = Posterior(KnownLevel(prior, sigma), operator, measurements, levels(operator, noise))
    difference = (problem.mean(y, sigma) - problem.replaced(y, sigma)).abs().amax((1, 2, 3))
    assert float(difference[0]) > 1e-3
    torch.testing.assert_close(difference[1:], torch.zeros(2), atol=1e-6, rtol=0)


class KnownLevel(Denoiser):
    """The exact denoiser of a Gaussian prior that is told the noise level."""

    def __init__(self, prior: GaussianPrior, sigma: float) -> None:
        super().__init__(1)
        self.prior, self.gains = prior, prior.variances / (prior.variances + sigma**2)

    def estimate_noise(self, y: Tensor) -> Tensor:
        return y - ((y.flatten(1) @ self.prior.basis * self.gains) @ self.prior.basis.T).view(y.shape)


def test_with_independent_noise_the_fast_sampler_has_half_the_variance():
    prior, operator = GaussianPrior(16, dimension=40), BlockAverage(SIXTEEN, 4)
    measurements = with_noise(operator.measure(prior.draw()), 0.05)
    schedule = Schedule(150, sigma_L=0.003, correlation=0, antithetic=False)
    *_, last = sample_fast(prior, operator, measurements, schedule=schedule, count=200, noise=0.05)
    mean, covariance = prior.posterior(operator, measurements, 0.05)
    errors = last.denoised.flatten(1) @ prior.basis - mean
    assert float(errors.square().mean() / covariance.diag().mean()) == pytest.approx(0.5, abs=0.05)


def test_extrapolation_keeps_the_mean_of_a_gaussian_posterior_and_most_of_its_variance():
    noise = 0.05
    prior, operator = GaussianPrior(16, dimension=40), BlockAverage(SIXTEEN, 4)
    measurements = with_noise(operator.measure(prior.draw()), noise)
    schedule = Schedule(300, sigma_L=0.003, correlation=0, antithetic=False, extrapolation=0.5)
    *_, last = sample_fast(prior, operator, measurements, schedule=schedule, count=200, noise=noise)
    mean, covariance = prior.posterior(operator, measurements, noise)
    errors = last.denoised.flatten(1) @ prior.basis - mean
    scale = float(covariance.diag().mean())
    assert float(errors.mean(0).square().mean()) < 2 * scale / 200
    assert 0.75 < float(errors.square().mean()) / scale < 1.05


def test_extrapolation_is_of_second_order():
    """For a fall of σ in equal steps of log σ half of the last change is added, and in proportion elsewhere."""
    assert Schedule(10, rho=3).leads() == [0.0] * 4
    schedule = Schedule(8, extrapolation=0.5)
    falls = [math.log(before / after) for before, after in itertools.pairwise(schedule.sigmas())]
    assert schedule.leads() == pytest.approx([0, falls[1] / falls[0] / 2, falls[2] / falls[1] / 2])


def test_a_pair_of_opposite_samples_averages_to_the_mean_of_a_gaussian_posterior():
    prior, operator = GaussianPrior(16, dimension=40), BlockAverage(SIXTEEN, 4)
    measurements = with_noise(operator.measure(prior.draw()), 0.05)
    schedule = Schedule(300, sigma_L=0.003, rho=7, correlation=0.5)
    *_, last = sample_fast(prior, operator, measurements, schedule=schedule, count=4, noise=0.05)
    mean, covariance = prior.posterior(operator, measurements, 0.05)
    errors = last.denoised.flatten(1) @ prior.basis - mean
    scale = float(covariance.diag().mean())
    assert float(errors.square().mean()) > 0.7 * scale, "a sample alone is as far from the mean as any"
    assert float((errors[0] + errors[2]).square().mean()) > 0.7 * scale, "pairs are independent"
    for pair in errors.split(2):
        assert float(pair.mean(0).square().mean()) < 0.01 * scale


@pytest.mark.parametrize(
    "operator",
    [BlockAverage(SIXTEEN, 4), LowPass(SIXTEEN, 0.1), StructuredRows(SIXTEEN, 0.3), Mask.random_pixels(SIXTEEN, 0.3)],
    ids=lambda operator: type(operator).__name__,
)
def test_the_posterior_mean_is_found_in_few_evaluations(operator):
    """As near as the average of eight independent samples of the posterior would be, an eighth of its variance off."""
    prior = GaussianPrior(16, dimension=40)
    measurements = with_noise(operator.measure(prior.draw()), 0.05)
    result = invlib.posterior_mean(prior, operator, measurements, noise=levels(operator, 0.05))
    mean, covariance = prior.posterior(operator, measurements, 0.05)
    error = result.mean.flatten(1) @ prior.basis - mean
    assert float(error.square().mean()) < float(covariance.diag().mean()) / 8
    assert result.evaluations == default_schedule(operator).evaluations


def test_sample_three_of_four_is_that_of_three(subspace):
    operator = BlockAverage((1, 32, 32), 4)
    measurements = operator.measure(subspace.draw(1))
    four, three = (invlib.restore(subspace, operator, measurements, count=count).samples for count in (4, 3))
    torch.testing.assert_close(four[:3], three, atol=1e-4, rtol=0)


def test_the_ascent_comes_near_the_posterior_in_small_steps():
    prior, operator = GaussianPrior(16, dimension=4), BlockAverage(SIXTEEN, 4)
    measurements = with_noise(operator.measure(prior.draw()), 0.05)
    *_, last = ascend(
        prior, operator, measurements, h0=2e-3, beta=0.02, sigma_0=0.1, sigma_L=0.01, count=150, noise=0.05
    )
    mean, covariance = prior.posterior(operator, measurements, 0.05)
    errors = last.denoised.flatten(1) @ prior.basis - mean
    scale = covariance.diag().mean()
    assert float(errors.mean(0).square().max()) < 16 * float(scale) / 150
    # 1 - h/2, with h up to .43, times .95 for beta; without account of the noise it would be 0.
    assert float(errors.var(0).mean() / scale) == pytest.approx(0.75, abs=0.15)


class Oracle(Denoiser):
    """A denoiser that knows the image."""

    def __init__(self, image: Tensor) -> None:
        super().__init__(1)
        self.image = image

    def estimate_noise(self, y):
        return y - self.image


@pytest.mark.parametrize("sampler", [sample_fast, ascend])
def test_noise_of_the_measurements_is_part_of_that_of_the_iterate(sampler):
    """All of the iterate's noise, in the measured part and elsewhere, is as strong as it says, above and below .2."""
    operator = BlockAverage((1, 64, 64), 2)
    image = torch.zeros(1, 1, 64, 64)
    measurements = with_noise(operator.measure(image), 0.2)
    settings = {"schedule": Schedule(60)} if sampler is sample_fast else {"h0": 0.3, "beta": 0.4}
    *states, last = sampler(Oracle(image), operator, measurements, noise=0.2, **settings)
    for state, following in itertools.pairwise([*states, last]):
        level = following.predicted
        measured = operator.measure(state.image)
        elsewhere = (state.image - operator.project(state.image)).square().sum() / (3 * 32 * 32)
        assert float(measured.std()) == pytest.approx(level, rel=0.1)
        assert float(elsewhere.sqrt()) == pytest.approx(level, rel=0.1)
        assert float(state.sigma) == pytest.approx(state.predicted, rel=0.1)


@pytest.mark.parametrize("settings", SAMPLERS)
def test_little_noise_in_the_measurements_is_as_none(subspace, settings):
    operator = BlockAverage((1, 32, 32), 4)
    measurements = operator.measure(subspace.draw(1))
    none, little = (
        invlib.restore(subspace, operator, measurements, noise=noise, **settings).samples for noise in (0.0, 1e-6)
    )
    torch.testing.assert_close(little, none, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "operator",
    [
        LowPass((1, 32, 32), 0.3),
        Identity((1, 32, 32)),
        Blur((1, 32, 32), torch.ones(5, 5)),
        Mask.random_pixels((1, 32, 32), 0.3),
        StructuredRows((1, 32, 32), 0.3),
        DenseRows((1, 32, 32), 0.3),
    ],
    ids=lambda operator: type(operator).__name__,
)
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
def test_noise_is_estimated(operator, noise):
    prior = GaussianPrior(32, dimension=40)
    clean = operator.measure(prior.draw())
    amount = operator.noise_levels(noise)
    estimates = [estimate_noise(prior, operator, with_noise(clean, amount, seed), seed=seed) for seed in range(4)]
    # Off the prior's 40 dimensions only noise is measured, so one estimate errs by 1 / √(2 (measured - 40)).
    error = 1 / math.sqrt(2 * (operator.measured - 40) * len(estimates))
    assert sum(estimates) / 4 == pytest.approx(noise, rel=3 * error + 0.02, abs=1e-5)


@pytest.mark.parametrize("settings", SAMPLERS)
def test_unknown_noise_is_estimated_first(subspace, settings):
    operator = LowPass((1, 32, 32), 0.3)
    measurements = with_noise(operator.measure(subspace.draw(1)), 0.05)
    estimate = estimate_noise(subspace, operator, measurements, seed=2)
    assert estimate == pytest.approx(0.05, rel=0.15)
    unknown, known = (
        invlib.restore(subspace, operator, measurements, seed=2, noise=noise, **settings).samples
        for noise in (None, estimate)
    )
    assert torch.equal(unknown, known)


def test_consecutive_noise_has_the_correlation_of_the_schedule():
    """With a denoiser that changes nothing but the mean, the iterates are their noise."""
    operator = BlockAverage((1, 64, 64), 64)
    schedule = Schedule(8, correlation=0.3)
    states = list(sample_fast(Constant(1), operator, torch.zeros(1, 1, 1, 1), schedule=schedule))
    levels = schedule.sigmas()[1:]
    noise = torch.stack([(state.image / level).flatten() for state, level in zip(states[:-1], levels, strict=True)])
    correlation = torch.corrcoef(noise)
    assert float(correlation[0, 1]) == pytest.approx(0.3, abs=0.05)
    assert float(correlation[1, 2]) == pytest.approx(0.3, abs=0.05)
    assert float(correlation[0, 2]) == pytest.approx(0.0, abs=0.05)
    torch.testing.assert_close(noise.std(1), torch.ones(3), atol=0.05, rtol=0)


@pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize("settings", SAMPLERS)
def test_noise_out_of_range_is_named(subspace, settings, noise):
    operator = BlockAverage((1, 32, 32), 4)
    with pytest.raises(ValueError, match="noise must be"):
        invlib.restore(subspace, operator, torch.zeros(1, 1, 8, 8), noise=noise, **settings)


@pytest.mark.parametrize("correlation", [-0.1, 0.6, math.nan])
def test_correlation_out_of_range_is_named(subspace, correlation):
    operator = BlockAverage((1, 32, 32), 4)
    with pytest.raises(ValueError, match="correlation must be between"):
        next(sample_fast(subspace, operator, torch.zeros(1, 1, 8, 8), schedule=Schedule(correlation=correlation)))


def test_step_sizes_are_those_of_the_paper():
    assert [step_size(t, 0.5) for t in (1, 2, 3)] == pytest.approx([0.5, 2 / 3, 0.75])


def test_schedule_is_linear_in_the_root_of_sigma():
    levels = Schedule(10, sigma_0=1.0, sigma_L=0.001, rho=3).sigmas()
    roots = [level ** (1 / 3) for level in levels]
    assert roots == pytest.approx([1.0, 0.775, 0.55, 0.325, 0.1])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"evaluations": 1}, "evaluations must be a whole number from 2 to"),
        ({"evaluations": 0, "derivative_above": 1.0}, "evaluations must be a whole number from 1 to"),
        ({"derivative_above": -0.1}, "derivative_above"),
        ({"derivative_above": math.nan}, "derivative_above"),
        ({"extrapolation": 1.5}, "extrapolation"),
        ({"sigma_0": 0.01}, "sigma_L"),
        ({"rho": 0.0}, "rho"),
        ({"shared_above": math.inf}, "shared_above"),
    ],
)
def test_schedules_that_cannot_be_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        Schedule(**settings).sigmas()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"h0": 0.0}, "h0"),
        ({"h0": 1.5}, "h0"),
        ({"beta": math.nan}, "beta"),
        ({"beta": -0.1}, "beta"),
        ({"sigma_L": 2.0}, "sigma_L"),
        ({"sigma_0": math.inf}, "sigma_0"),
        ({"count": 0}, "count"),
        ({"max_evaluations": 0}, "max_evaluations"),
        ({"interpolate": True}, "count must be at least 2"),
    ],
)
def test_parameters_out_of_range_are_named(subspace, settings, named):
    with pytest.raises(ValueError, match=named):
        invlib.sample(subspace, subspace.shape, **settings)


def test_mismatches_are_refused(subspace):
    operator = BlockAverage((3, 32, 32), 4)
    with pytest.raises(ValueError, match="channels"):
        invlib.restore(subspace, operator, operator.measure(torch.zeros(1, 3, 32, 32)))
    gray = BlockAverage((1, 32, 32), 4)
    with pytest.raises(ValueError, match="noise is that of the measurements"):
        Posterior(subspace, noise=0.1, shape=subspace.shape)
    with pytest.raises(ValueError, match="needs measurements"):
        next(samplers.sample_fast(Posterior(subspace, shape=subspace.shape), Schedule()))
    with pytest.raises(ValueError, match="unknown sampler"):
        invlib.restore(subspace, gray, gray.measure(torch.zeros(1, 1, 32, 32)), sampler="magic")
    with pytest.raises(ValueError, match="finite"):
        invlib.restore(subspace, gray, gray.measure(torch.full((1, 1, 32, 32), math.nan)))
    with pytest.raises(ValueError, match="stopped before"):
        collect([])
