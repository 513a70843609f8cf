"""MAP, MLE and their special cases against Gaussians, whose posteriors are known in closed form."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from invlib.priors.flows import Flow, RealNVP, standard_normal
from invlib.problems.forward import GaussianMeasurements, SignMeasurements, back_project, sign
from invlib.problems.noise import Gaussian
from invlib.problems.operators import hartley
from invlib.solvers.inversion import asim, bora, collect, map_x, map_z, mle, spectrum

SHAPE = (1, 4, 4)
SIZE = 16


class GaussianFlow(Flow):
    """N(½, LLᵀ) as a flow: x = ½ + L z."""

    def __init__(self, factor: Tensor) -> None:
        super().__init__(SHAPE)
        self.factor = nn.Parameter(factor)
        self.covariance = factor @ factor.T

    @property
    def logdet(self) -> Tensor:
        return self.factor.diagonal().abs().log().sum()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.linalg.solve_triangular(self.factor, (x - 0.5).flatten(1).T, upper=False).T
        return z, -self.logdet.expand(len(x))

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 + (z @ self.factor.T).view(-1, *SHAPE), self.logdet.expand(len(z))


class LinearGenerator(nn.Module):
    """G(z) = ½ + B z, two numbers to sixteen."""

    latent_dim = 2
    image_shape = SHAPE

    def __init__(self) -> None:
        super().__init__()
        self.basis = nn.Parameter(0.1 * torch.randn(2, SIZE, generator=torch.Generator().manual_seed(2)))

    def forward(self, z: Tensor) -> Tensor:
        return 0.5 + (z @ self.basis).view(-1, *SHAPE)


def prior(deviation: float = 0.05) -> GaussianFlow:
    """A Gaussian prior where neighbours are alike and no entry is far from ½."""
    index = torch.arange(SIZE)
    covariance = deviation**2 * torch.exp(-(index[:, None] - index).abs() / 3)
    return GaussianFlow(torch.linalg.cholesky(covariance))


def picture(seed: int = 0, count: int = 1) -> Tensor:
    z = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed))
    return prior().decode(z)[0].detach()


STD = torch.linspace(0.02, 0.1, SIZE).view(SHAPE)


def posterior_mean(y: Tensor, matrix: Tensor, std: Tensor, smoothing: float) -> Tensor:
    """The posterior mean for y = A x + N(0, diag std²) and x ~ N(½, LLᵀ), whose density is raised to `smoothing`."""
    precision = smoothing * torch.linalg.inv(prior().covariance)
    data = matrix.T / std.flatten() ** 2
    right = data @ y.flatten(1).T + precision @ torch.full((SIZE, 1), 0.5)
    return torch.linalg.solve(data @ matrix + precision, right).T.reshape(-1, *SHAPE).detach()


METHODS = [
    pytest.param(map_x, {"steps": 400}, id="map_x"),
    pytest.param(map_z, {"steps": 800, "learning_rate": 0.02}, id="map_z"),
]


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("smoothing", [0.5, 2.0])
def test_denoising_ends_at_the_posterior_mean(method, settings, smoothing):
    y = picture(count=2) + Gaussian(STD).sample(2, SHAPE, seed=1)
    expected = posterior_mean(y, torch.eye(SIZE), STD, smoothing)
    result = collect(method(prior(), Gaussian(STD), y, smoothing=smoothing, **settings))
    torch.testing.assert_close(result.image, expected, rtol=0, atol=1e-3)
    assert float((expected - y).abs().mean()) > 0.02


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_compressive_sensing_ends_at_the_posterior_mean(method, settings):
    forward = GaussianMeasurements(SHAPE, 6, seed=3)
    std, mean = torch.full((6,), 0.01), 0.3
    y = forward(picture()) + Gaussian(std, mean).sample(1, (6,), seed=1)
    expected = posterior_mean(y - mean, forward.matrix.T, std, 1.0)
    result = collect(method(prior(), Gaussian(std, mean), y, forward, smoothing=1.0, **settings))
    torch.testing.assert_close(result.image, expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("isotropic", [True, False])
def test_the_bound_of_theorem_4_1(isotropic):
    """‖x̂ - x*‖ ≤ ‖δ‖ / (1 + μσ²), with equality when the prior curves alike in every direction."""
    flow = GaussianFlow(0.1 * torch.eye(SIZE)) if isotropic else prior(0.1)
    mu = float(torch.linalg.eigvalsh(torch.linalg.inv(flow.covariance.detach())).min())
    sigma, truth = 0.08, torch.full((1, *SHAPE), 0.5)
    y = truth + Gaussian(sigma).sample(1, SHAPE, seed=2)
    result = collect(map_x(flow, Gaussian(sigma), y, smoothing=1.0, steps=300))
    bound = float((y - truth).norm()) / (1 + mu * sigma**2)
    error = float((result.image - truth).norm())
    assert error == pytest.approx(bound, rel=2e-3) if isotropic else error < bound


@pytest.mark.parametrize("method", [map_x, map_z])
def test_an_iterate_is_what_it_says(method):
    noise, y = Gaussian(STD), picture(count=2) + 0.1
    iterates = list(method(prior(), noise, y, smoothing=0.7, steps=5, floor=(0.2, 0.002)))
    assert [iterate.step for iterate in iterates] == [iterate.evaluations for iterate in iterates] == [1, 2, 3, 4, 5]
    assert [iterate.floor for iterate in iterates] == pytest.approx([0.2, 0.0632, 0.02, 0.00632, 0.002], rel=1e-2)
    assert [iterate.outcome for iterate in iterates] == [None] * 4 + ["finished its 5 steps"]
    start = y.clamp(0, 1) if method is map_x else torch.full((2, *SHAPE), 0.5)
    torch.testing.assert_close(iterates[0].image, start)
    exact = MultivariateNormal(torch.full((SIZE,), 0.5), prior().covariance.detach())
    for iterate in iterates:
        widened = Gaussian((STD.square() + iterate.floor**2).sqrt())
        torch.testing.assert_close(iterate.noise_log_prob, widened.log_prob(y - iterate.image), rtol=1e-4, atol=1e-3)
        signal = exact.log_prob(iterate.image.flatten(1))
        torch.testing.assert_close(iterate.signal_log_prob, signal, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(iterate.objective, -iterate.noise_log_prob - 0.7 * iterate.signal_log_prob)
    assert not iterates[-1].image.requires_grad


def test_without_a_floor_map_z_descends_the_exact_objective():
    y = picture() + 0.1
    iterates = list(map_z(prior(), Gaussian(STD), y, steps=100))
    assert all(iterate.floor == 0 for iterate in iterates)
    assert all(after.objective < before.objective for before, after in itertools.pairwise(iterates[:50]))


def test_images_stay_in_their_range():
    """A logit flow has a density in [0, 1] only. Outside, the objective would be NaN."""
    flow = RealNVP(SHAPE, (4,), 1, logit=True)
    y = torch.where(picture() > 0.5, 3.0, -2.0)
    iterates = list(map_x(flow, Gaussian(0.1), y, steps=20, learning_rate=0.5))
    images = torch.cat([iterate.image for iterate in iterates])
    assert float(images.min()) == pytest.approx(0, abs=1e-5)
    assert float(images.max()) == pytest.approx(1, abs=1e-5)
    assert iterates[-1].skipped == 0


def test_mle_projects_onto_the_range_of_a_generator():
    generator = LinearGenerator()
    y = picture() + 0.1
    weights = 1 / STD.flatten() ** 2
    gram = generator.basis * weights @ generator.basis.T
    z = torch.linalg.solve(gram, generator.basis * weights @ (y - 0.5).flatten())
    result = collect(mle(generator, Gaussian(STD), y, steps=500, learning_rate=0.05))
    torch.testing.assert_close(result.image, generator(z[None]).detach(), rtol=0, atol=1e-3)
    assert result.signal_log_prob.item() == 0


def test_bora_is_ridge_regression():
    generator, lam = LinearGenerator(), 0.05
    y = picture() + 0.1
    gram = generator.basis @ generator.basis.T + lam * torch.eye(2)
    z = torch.linalg.solve(gram, generator.basis @ (y - 0.5).flatten())
    result = collect(bora(generator, y, lam=lam, steps=500, learning_rate=0.05))
    torch.testing.assert_close(result.image, generator(z[None]).detach(), rtol=0, atol=1e-3)
    expected = (y - result.image).square().sum() + lam * z.square().sum()
    assert result.objective.item() == pytest.approx(expected.item(), rel=1e-3)


def test_asim_takes_the_norm_of_z_not_its_square():
    """With x = ½ + s z, the minimum of ‖y - x‖² + γ ‖z‖ shrinks the length of y - ½ by γ / 2s."""
    scale, gamma = 0.5, 0.2
    y = 0.5 + 0.3 * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    length = float((y - 0.5).norm())
    expected = 0.5 + (y - 0.5) * (1 - gamma / (2 * scale * length))
    result = collect(asim(GaussianFlow(scale * torch.eye(SIZE)), y, gamma=gamma, steps=500))
    torch.testing.assert_close(result.image, expected, rtol=0, atol=1e-3)
    assert result.signal_log_prob.item() == pytest.approx(-float((expected - 0.5).norm()) / scale, rel=1e-3)


def test_asim_leaves_zero():
    """The descent starts at z = 0, where the norm has no gradient."""
    first, second, *_ = asim(prior(), picture() + 0.1, steps=3)
    assert float((second.image - first.image).abs().max()) > 0
    assert second.skipped == 0


def test_sign_passes_the_gradient_straight_through():
    u = torch.tensor([-2.0, -1e-9, 0.0, 0.3], requires_grad=True)
    s = sign(u)
    assert s.tolist() == [-1, -1, 0, 1]
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (gradient,) = torch.autograd.grad((weights * s).sum(), u)
    assert gradient.tolist() == weights.tolist()


@pytest.mark.parametrize("method", [map_x, map_z])
def test_one_bit_measurements_recover_the_sides_of_the_mean(method):
    """The image agrees with the signs of sixteen differences from ½, observed with little noise."""
    truth = picture(seed=3)

    def forward(x: Tensor) -> Tensor:
        return sign(x - 0.5)

    result = collect(method(prior(), Gaussian(0.3), forward(truth), forward, steps=200))
    assert float((forward(result.image) == forward(truth)).float().mean()) >= 15 / 16


def test_gaussian_measurements():
    measure = GaussianMeasurements((3, 20, 20), 400, seed=1)
    x = torch.rand(8, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert measure.matrix.std().item() == pytest.approx(1 / 20, rel=0.01)
    ratio = measure(x).square().sum(1) / x.flatten(1).square().sum(1)
    torch.testing.assert_close(ratio, torch.ones(8), rtol=0, atol=0.3)
    torch.testing.assert_close(measure(x), GaussianMeasurements((3, 20, 20), 400, seed=1)(x))
    assert not torch.allclose(measure(x), GaussianMeasurements((3, 20, 20), 400, seed=2)(x))
    with pytest.raises(ValueError, match=r"count must be from 1 to 10922 .* got 20000"):
        GaussianMeasurements((3, 64, 64), 20000)


def test_the_density_of_signs_counts_both_ways_to_a_measurement():
    forward, noise, floor = SignMeasurements(SHAPE, 5, seed=1), Gaussian(0.5), 0.3
    x, y = picture(count=3), torch.randn(3, 5, generator=torch.Generator().manual_seed(4))
    u = x.flatten(1) @ forward.matrix
    torch.testing.assert_close(forward(x), u.sign())
    exact = torch.zeros(3, 5, dtype=torch.float64)
    for side in (-1.0, 1.0):
        probability = torch.distributions.Normal(0, floor).cdf(side * u.double())
        exact += probability * torch.distributions.Normal(side, 0.5).log_prob(y.double()).exp()
    density = forward.log_prob(noise, y, x, floor)
    torch.testing.assert_close(density, exact.log().sum(1).float(), rtol=1e-4, atol=1e-4)
    # If no sum is near zero, a small floor is as good as none.
    torch.testing.assert_close(forward.log_prob(noise, y, x, 1e-5), noise.log_prob(y - forward(x)))


def test_a_descent_with_a_floor_takes_the_density_of_signs():
    forward, noise = SignMeasurements(SHAPE, 12, seed=1), Gaussian(0.1)
    y = forward(picture(seed=3)) + noise.sample(1, (12,), seed=0)
    first = next(map_z(prior(), noise, y, forward, floor=(0.5, 0.1)))
    torch.testing.assert_close(first.noise_log_prob, forward.log_prob(noise, y, first.image, 0.5))


def test_back_projection():
    y = picture(count=2)
    torch.testing.assert_close(back_project(0.3 * y, lambda x: 0.3 * x, SHAPE), y)
    forward = GaussianMeasurements(SHAPE, 6, seed=3)
    measurements = forward(y)
    residual = measurements - forward(torch.full((2, *SHAPE), 0.5))
    gradient = residual @ forward.matrix.T
    step = gradient.square().sum(1) / (gradient @ forward.matrix).square().sum(1)
    torch.testing.assert_close(
        back_project(measurements, forward, SHAPE), 0.5 + (step[:, None] * gradient).view(-1, *SHAPE)
    )


def test_descents_in_the_code_of_a_gan_start_at_draws_of_it():
    generator, y = LinearGenerator(), picture().expand(2, -1, -1, -1)
    first = next(mle(generator, Gaussian(STD), y, steps=1, seed=5))
    torch.testing.assert_close(first.image, generator(standard_normal(2, 2, seed=5)).detach())
    assert not torch.equal(first.image[0], first.image[1]), "each measurement has a draw of its own"
    assert not torch.equal(first.image, next(bora(generator, y, steps=1, seed=6)).image)


def test_coordinates_of_the_descent():
    """A change of the first coordinate is a change of the mean, and coordinates of higher frequency weigh less."""
    scale = spectrum((3, 8, 10))
    u = torch.zeros(1, 3, 8, 10)
    u[..., 0, 0] = 0.02
    torch.testing.assert_close(hartley(scale * u), torch.full_like(u, 0.02))
    assert scale[0, 3].item() == scale[0, -3].item() == scale[3, 0].item() == pytest.approx(math.sqrt(80) / 4)


def test_a_picture_of_a_batch_is_what_it_is_alone():
    y = picture(count=3) + 0.1
    together = collect(map_x(prior(), Gaussian(STD), y, steps=20))
    alone = collect(map_x(prior(), Gaussian(STD), y[1:2], steps=20))
    torch.testing.assert_close(together.image[1:2], alone.image, rtol=0, atol=1e-4)


class Faulty(Gaussian):
    """A log-density that is NaN for the second measurement in some of its calls."""

    def __init__(self, calls: tuple[int, ...]) -> None:
        super().__init__(STD)
        self.faulty, self.calls = calls, itertools.count(1)

    def log_prob(self, delta: Tensor, floor: float = 0.0) -> Tensor:
        log_prob = super().log_prob(delta, floor)
        return log_prob * torch.tensor([1.0, math.nan if next(self.calls) in self.faulty else 1.0])


@pytest.mark.parametrize("method", [map_x, map_z])
def test_a_step_that_leads_to_nan_is_undone(method):
    y = picture(count=2) + 0.1
    iterates = list(method(prior(), Faulty((4, 7)), y, steps=60))
    sound = list(method(prior(), Gaussian(STD), y, steps=60))
    assert [iterate.skipped for iterate in iterates[:8]] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert all(iterate.image.isfinite().all() and iterate.objective.isfinite().all() for iterate in iterates)
    torch.testing.assert_close(iterates[3].image[1], iterates[2].image[1], rtol=0, atol=1e-6)
    for faulty, other in zip(iterates, sound, strict=True):
        torch.testing.assert_close(faulty.image[0], other.image[0], rtol=0, atol=1e-4)
    assert not torch.allclose(iterates[5].image[1], iterates[3].image[1], atol=1e-3), "it goes on"
    assert float((iterates[-1].image - sound[-1].image).abs().max()) < 0.02


def test_an_objective_that_is_never_finite_ends_the_run():
    iterates = list(map_x(prior(), Faulty(tuple(range(100))), picture(count=2)))
    assert len(iterates) == 1
    assert iterates[0].outcome == "the objective is not finite at the start: choose settings nearer to the defaults"


METHODS_THAT_RUN: list[Callable] = [
    lambda y, **settings: map_x(prior(), Gaussian(STD), y, **settings),
    lambda y, **settings: map_z(prior(), Gaussian(STD), y, **settings),
    lambda y, **settings: mle(LinearGenerator(), Gaussian(STD), y, **settings),
    lambda y, **settings: bora(LinearGenerator(), y, **settings),
    lambda y, **settings: asim(prior(), y, **settings),
]


@pytest.mark.parametrize("run", METHODS_THAT_RUN)
def test_parameters_out_of_range_are_refused_at_once(run):
    y = picture()
    for settings, message in [
        ({"steps": 0}, "steps must be a whole number .* got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(y, **settings)
    with pytest.raises(ValueError, match="measurements hold numbers that are not finite"):
        run(y * math.nan)
    with pytest.raises(ValueError, match=r"forward must give measurements.*\(1, 4, 2\), and gives \(1, 4, 4\)"):
        next(run(y[..., :2]))


def test_a_floor_and_a_seed_out_of_range_are_refused_at_once():
    with pytest.raises(ValueError, match="seed must be a whole number from 0"):
        bora(LinearGenerator(), picture(), seed=-1)
    with pytest.raises(ValueError, match="last_floor must be a positive number"):
        map_x(prior(), Gaussian(STD), picture(), floor=(0.1, 0.0))


@pytest.mark.parametrize("run", METHODS_THAT_RUN)
def test_a_cancelled_run_leaves_nothing(run):
    y = picture()
    before = y.clone()
    with torch.no_grad():
        iterates = run(y, steps=5)
        first = next(iterates)
        assert not torch.is_grad_enabled(), "a run does not change the mode of its caller between steps"
        kept = first.image.clone()
        next(iterates)
        iterates.close()
        torch.testing.assert_close(first.image, kept, rtol=0, atol=0)
    assert torch.is_grad_enabled()
    torch.testing.assert_close(y, before, rtol=0, atol=0)
    with pytest.raises(ValueError, match="stopped before its end"):
        collect(itertools.islice(run(y, steps=5), 2))


def test_networks_keep_their_gradients_to_themselves():
    flow = prior()
    collect(map_x(flow, Gaussian(STD), picture(), steps=3))
    assert flow.factor.requires_grad
    assert flow.factor.grad is None
