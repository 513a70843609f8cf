"""The samplers against a linear-subspace prior, whose denoiser is exact."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import invlib
from invlib.ascent import Schedule, ascend, collect, default_schedule, recur, step_size
from invlib.denoisers import Denoiser
from invlib.operators import BlockAverage, Mask, StructuredRows
from tests.conftest import SubspacePrior

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
    pytest.param({"sampler": "paper", "h0": 0.01, "beta": 0.1, "sigma_L": 1e-3}, id="paper"),
    pytest.param({"sampler": "fast", "schedule": Schedule(200, sigma_L=1e-3)}, id="fast"),
]


@pytest.mark.parametrize("settings", SLOW)
@pytest.mark.parametrize(
    "operator",
    [BlockAverage((1, 32, 32), 2), StructuredRows((1, 32, 32), 0.2), Mask.block((1, 32, 32), (8, 8, 16, 16))],
    ids=lambda operator: type(operator).__name__,
)
def test_enough_measurements_give_the_one_image_that_agrees(subspace, operator, settings):
    """More independent measurements than dimensions, so one point of the subspace agrees with them."""
    x = subspace.draw(1, seed=5)
    result = invlib.restore(subspace, operator, operator.measure(x), count=2, **settings)
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
    states = list(recur(subspace, operator, measurements, schedule=Schedule(7)))
    assert [state.evaluations for state in states] == list(range(1, 8))
    torch.testing.assert_close(operator.measure(states[-1].denoised), measurements, atol=1e-5, rtol=0)
    assert default_schedule(operator).evaluations == 20
    assert default_schedule(StructuredRows((1, 32, 32), 0.1)).evaluations == 100


def test_step_sizes_are_those_of_the_paper():
    assert [step_size(t, 0.5) for t in (1, 2, 3)] == pytest.approx([0.5, 2 / 3, 0.75])


def test_schedule_is_linear_in_the_root_of_sigma():
    levels = Schedule(5, sigma_0=1.0, sigma_L=0.001, rho=3).sigmas()
    roots = [level ** (1 / 3) for level in levels]
    assert roots == pytest.approx([1.0, 0.775, 0.55, 0.325, 0.1])


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
    with pytest.raises(ValueError, match="unknown sampler"):
        invlib.restore(subspace, gray, gray.measure(torch.zeros(1, 1, 32, 32)), sampler="magic")
    with pytest.raises(ValueError, match="finite"):
        invlib.restore(subspace, gray, gray.measure(torch.full((1, 1, 32, 32), math.nan)))
    with pytest.raises(ValueError, match="stopped before"):
        collect([])
