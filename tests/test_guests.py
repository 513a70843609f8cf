"""The library among other people's code: their tensors, their modes, their defaults."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN
from invlib.priors.flows import RealNVP
from invlib.priors.gans import Generator
from invlib.problems.forward import GaussianMeasurements
from invlib.problems.noise import Gaussian, radial, sinusoidal
from invlib.problems.operators import BlockAverage, Blur, DenseRows, LowPass, Mask, StructuredRows, gaussian_kernel
from invlib.runtime import own_defaults
from invlib.solvers import baselines, deep_baselines, inversion
from invlib.solvers.noise_level import estimate_noise
from invlib.solvers.posterior import Posterior
from invlib.solvers.restoration import posterior_mean, restore, sample
from invlib.solvers.samplers import sample_fast
from invlib.solvers.schedules import Ascent, Schedule

SHAPE = (1, 8, 8)
NET = BFCNN(channels=1, depth=2, width=4).eval()
FLOW = RealNVP(SHAPE, (2,), 1)
GAN = Generator(SHAPE, (4,), latent_dim=4).eval()
FAST = Schedule(4)
MEASURED = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def halves() -> BlockAverage:
    return BlockAverage(SHAPE, 2)


def end(iterates: Iterator) -> Tensor:
    *_, last = iterates
    return last if isinstance(last, Tensor) else last.image


OF_ONE: dict[str, Callable[[Tensor], Tensor | float]] = {
    "restore": lambda m: restore(NET, halves(), m, schedule=FAST, count=2).samples,
    "paper": lambda m: restore(NET, halves(), m, sampler="paper", max_evaluations=3).samples,
    "posterior_mean": lambda m: posterior_mean(NET, halves(), m).mean,
    "estimate_noise": lambda m: own_defaults(torch.tensor)(estimate_noise(NET, halves(), m)),
    "red": lambda m: end(baselines.red(halves(), m, denoiser=NET, steps=2)),
    "deep": lambda m: end(deep_baselines.deep_image_prior(halves(), m, steps=2, width=4)),
    "deep_red": lambda m: end(deep_baselines.deep_red(halves(), m, denoiser=NET, steps=2, width=4)),
}
OF_MANY: dict[str, Callable[[Tensor], Tensor | float]] = {
    "tv": lambda m: end(baselines.least_total_variation(halves(), m, steps=2)),
    "total_variation": lambda m: baselines.total_variation(m, 0.1),
    "lasso": lambda m: baselines.lasso_dct(halves().measure, m, SHAPE, max_iterations=3),
    "map_x": lambda m: end(inversion.map_x(FLOW, Gaussian(0.1), m, halves().measure, steps=2)),
    "map_z": lambda m: end(inversion.map_z(FLOW, Gaussian(0.1), m, halves().measure, steps=2)),
    "mle": lambda m: end(inversion.mle(GAN, Gaussian(0.1), m, halves().measure, steps=2)),
    "bora": lambda m: end(inversion.bora(GAN, m, halves().measure, steps=2)),
    "asim": lambda m: end(inversion.asim(FLOW, m, halves().measure, steps=2)),
}
SOLVERS = OF_ONE | OF_MANY


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (0, 1, 4, 4), (1, 1, 4, 5), (1, 4, 4), (1, 1, 1, 4, 4), ()])
def test_measurements_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must have the shape \(1, 1, 4, 4\), and theirs is") as caught:
        OF_ONE[name](torch.rand(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("kind", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.bool, torch.complex64])
def test_measurements_of_another_type_are_refused(name: str, kind: torch.dtype) -> None:
    with pytest.raises(ValueError, match=f"float32, got {kind}"):
        SOLVERS[name](MEASURED.to(kind))


@pytest.mark.parametrize("name", SOLVERS)
def test_measurements_that_are_not_finite_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not finite"):
        SOLVERS[name](MEASURED * math.nan)


@contextmanager
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


HOUSES = {"inference": torch.inference_mode, "float64": float64, "meta": lambda: torch.device("meta")}


@pytest.mark.parametrize("house", HOUSES)
@pytest.mark.parametrize("name", SOLVERS)
def test_a_result_is_the_same_in_another_house(name: str, house: str) -> None:
    expected = SOLVERS[name](MEASURED)
    with HOUSES[house]():
        found = SOLVERS[name](MEASURED.clone())
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected)
    assert not found.is_inference(), "it can be used with gradients"


@pytest.mark.parametrize("name", SOLVERS)
def test_measurements_that_require_a_gradient_are_detached(name: str) -> None:
    found = SOLVERS[name](MEASURED.clone().requires_grad_())
    assert not found.requires_grad
    torch.testing.assert_close(found, SOLVERS[name](MEASURED))


MODULES: dict[str, Callable[[], torch.nn.Module]] = {
    "mask": lambda: Mask.random_pixels(SHAPE, 0.5, seed=3),
    "box": lambda: Mask.block(SHAPE, (1, 1, 2, 2)),
    "low pass": lambda: LowPass(SHAPE, 0.2),
    "blur": lambda: Blur(SHAPE, gaussian_kernel(1.0)),
    "rows": lambda: StructuredRows(SHAPE, 0.3, seed=3),
    "dense": lambda: DenseRows(SHAPE, 0.3, seed=3),
    "matrix": lambda: GaussianMeasurements(SHAPE, 5, seed=3),
    "sine": lambda: sinusoidal(SHAPE),
    "radial": lambda: radial(SHAPE),
}


@pytest.mark.parametrize("house", HOUSES)
@pytest.mark.parametrize("name", MODULES)
def test_what_is_built_is_the_same_in_another_house(name: str, house: str) -> None:
    with HOUSES[house]():
        found = MODULES[name]().state_dict()
    for key, expected in MODULES[name]().state_dict().items():
        torch.testing.assert_close(found[key], expected, rtol=0, atol=0)
        assert not found[key].is_inference()


@pytest.mark.parametrize("house", HOUSES)
def test_a_network_that_is_loaded_in_another_house_can_be_trained(house: str, tmp_path: Path) -> None:
    checkpoints.save(NET, tmp_path / "net.safetensors", recipe="none", data="none", quality={})
    with HOUSES[house]():
        net = checkpoints.load(tmp_path / "net.safetensors", device="cpu", dtype=torch.float32)
    net.train().requires_grad_()
    net(torch.rand(1, *SHAPE)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_networks_that_were_built_in_inference_mode_work() -> None:
    with torch.inference_mode():
        net, flow = BFCNN(channels=1, depth=2, width=4).eval(), RealNVP(SHAPE, (2,), 1)
        restore(net, halves(), MEASURED, schedule=FAST)
        end(inversion.map_x(flow, Gaussian(0.1), MEASURED, halves().measure, steps=1))
    assert next(net.parameters()).is_inference(), "the caller's module stays as it is"


@pytest.mark.parametrize(
    "settings",
    [
        *({key: value} for key in ("rho", "sigma_0", "sigma_L") for value in (1e-200, 1e200, math.nan, -1, "1")),
        *({"evaluations": value} for value in (10**9, 10**400, 20.0, True, "20", -1)),
    ],
)
def test_a_schedule_out_of_bounds_is_refused_at_once(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Schedule(**settings).sigmas()


@pytest.mark.parametrize(
    "settings", [{"max_evaluations": 10**9}, {"sigma_0": 1e200}, {"sigma_L": 1e-200}, {"h0": "1"}, {"beta": math.nan}]
)
def test_an_ascent_out_of_bounds_is_refused_at_once(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        sample(NET, SHAPE, **settings)


def test_a_forecast_ends_where_the_run_gives_up() -> None:
    assert len(Ascent(h0=1e-9, beta=1e-9).forecast()) == Ascent().max_evaluations


@pytest.mark.parametrize("count", [10**9, 0, 1.0, True])
@pytest.mark.parametrize("antithetic", [True, False])
def test_a_count_out_of_bounds_is_refused_at_once(count: int, antithetic: bool) -> None:
    posterior = Posterior(NET, halves(), MEASURED)
    with pytest.raises(ValueError, match="count must be a whole number"):
        next(sample_fast(posterior, Schedule(4, antithetic=antithetic), count=count))
    with pytest.raises(ValueError, match="count must be a whole number"):
        sample(NET, SHAPE, count=count)


@pytest.mark.parametrize("seed", [-1, 2**53, 1.0])
def test_a_seed_out_of_bounds_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be a whole number"):
        restore(NET, halves(), MEASURED, seed=seed)


@pytest.mark.parametrize("derivative_above", [0.0, 0.1, 0.15, 0.5, 1.0])
@pytest.mark.parametrize("rho", [1.0, 3.0, 5.0])
def test_the_levels_are_those_of_the_longest_schedule_that_is_paid_for(derivative_above: float, rho: float) -> None:
    for evaluations in range(2, 60):
        schedule = Schedule(evaluations, rho=rho, derivative_above=derivative_above)
        longest = [schedule.sigma_0]
        for steps in range(1, evaluations + 1):
            levels = schedule.spacing(steps)
            if steps + sum(level > derivative_above for level in levels) > evaluations:
                break
            longest = levels
        assert schedule.sigmas() == longest
    assert len(Schedule(100_000, derivative_above=derivative_above).sigmas()) >= 50_000
