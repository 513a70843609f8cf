"""The Gaussian prior of photographs against dense matrices, and what runs that start from it draw."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from invlib import runs
from invlib.images import Picture
from invlib.priors.denoisers import Denoiser
from invlib.problems import linear, prior
from invlib.problems.operators import BlockAverage, DenseMatrix, Downsampling, LinearOperator, Mask, StructuredRows
from invlib.solvers import samplers
from invlib.solvers.posterior import Posterior
from invlib.solvers.power_law import DETAIL, FINEST, PowerLaw, cosines
from invlib.solvers.samplers import reverse_diffusion
from invlib.solvers.schedules import Ascent, Reverse

COLOUR = (3, 16, 12)
SUMS = torch.randn(576, 60, generator=torch.Generator().manual_seed(0)) / 24


def unit_pictures(shape: tuple[int, int, int]) -> Tensor:
    size = shape[0] * shape[1] * shape[2]
    return torch.eye(size).view(size, *shape)


def covariance_of(law: PowerLaw, shape: tuple[int, int, int]) -> Tensor:
    """From the map that makes pictures of white noise: L Lᵀ."""
    root = (law.sample(unit_pictures(shape)) - 0.5).flatten(1)
    return root.T @ root


def test_the_power_falls_as_the_frequency_to_the_minus_two_and_a_half():
    shape = (1, 64, 64)
    waves, covariance = cosines(64).float(), covariance_of(PowerLaw(shape), shape)
    assert len(waves) == 2 * 64 * FINEST + 1

    def power(k: int) -> float:
        wave = torch.outer(waves[k], waves[0]).flatten()
        return float(wave @ covariance @ wave)

    for k in (2, 4, 8):
        assert power(k) / power(2 * k) == pytest.approx(2**2.5, rel=1e-3)
    kept = torch.einsum("kh,lw->klhw", waves, waves).flatten(2).flatten(0, 1)
    torch.testing.assert_close(covariance, kept.T @ (kept @ covariance @ kept.T) @ kept, msg="something is finer")


def test_colours_vary_as_those_of_photographs():
    """Brightness varies most and green against both others least, and the channels of other pictures independently."""
    shape = (3, 16, 12)
    covariance = covariance_of(PowerLaw(shape), shape).view(3, 192, 3, 192)
    flat = torch.full((192,), 192**-0.5)
    colours = torch.einsum("apbq,p,q->ab", covariance, flat, flat)
    brightness, red_blue, green = (torch.tensor(axis) for axis in ((1.0, 1, 1), (1.0, 0, -1), (1.0, -2, 1)))
    strengths = [float(axis @ colours @ axis / axis.square().sum()) for axis in (brightness, red_blue, green)]
    assert strengths[0] > 5 * strengths[1] > 10 * strengths[2] > 0
    two = covariance_of(PowerLaw((2, 16, 12)), (2, 16, 12))
    grey = covariance_of(PowerLaw((1, 16, 12)), (1, 16, 12))
    torch.testing.assert_close(two, torch.block_diag(grey, grey))


@pytest.mark.parametrize(
    "operator",
    [
        pytest.param(Mask.block(COLOUR, (4, 3, 6, 6)), id="hole"),
        pytest.param(Mask.block(COLOUR, (0, 0, 16, 8)), id="large hole"),
        pytest.param(Mask.random_pixels(COLOUR, 0.3), id="random pixels"),
        pytest.param(BlockAverage(COLOUR, 4), id="block averages"),
        pytest.param(StructuredRows(COLOUR, 0.2), id="random rows"),
        pytest.param(Downsampling(COLOUR, 4, "bicubic"), id="bicubic"),
        pytest.param(DenseMatrix(COLOUR, SUMS), id="weighted sums"),
    ],
)
def test_pictures_that_agree_with_measurements_have_the_mean_and_the_covariance_of_bayes(
    operator: LinearOperator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("invlib.solvers.power_law.LARGE", 8)
    law = PowerLaw(COLOUR)
    truth = law.sample(torch.randn(1, *COLOUR, generator=torch.Generator().manual_seed(1)))
    m = operator.measure(truth)
    units = unit_pictures(COLOUR)
    covariance, rows = covariance_of(law, COLOUR), operator.measure(units).flatten(1).T
    gain = covariance @ rows.T @ torch.linalg.inv(rows @ covariance @ rows.T + DETAIL**2 * torch.eye(len(rows)))
    mean = 0.5 + gain @ (m.flatten() - rows @ torch.full((576,), 0.5))

    found = law.sample_given(operator, m, torch.zeros(1, *COLOUR))
    torch.testing.assert_close(found.flatten(), mean, atol=2e-3, rtol=0)
    # The map from white noise to pictures; Bayes' covariance adds the detail, which counts as noise.
    root = (law.sample_given(operator, m, units) - found).flatten(1)
    expected = covariance - gain @ rows @ covariance
    spread = gain @ gain.T * DETAIL**2
    torch.testing.assert_close(root.T @ root, expected - spread, atol=5e-3, rtol=0)


def test_pictures_are_right_between_lines_that_hide_little():
    """Coarse cosines that cross thin lines are known from both sides, each to about the strength of the detail."""
    shape = (1, 512, 512)
    law = PowerLaw(shape)
    truth, detail, white = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)).split(1)
    truth = law.sample(truth)
    lines = Mask(shape, torch.arange(512).expand(512, 512).T % 40 != 20)
    found = law.sample_given(lines, lines.measure(truth + DETAIL * detail), white)
    cosines_of_a_pixel = law.variance.numel() / 512**2
    expected = DETAIL * cosines_of_a_pixel**0.5
    assert float((found - truth).square().mean().sqrt()) == pytest.approx(expected, rel=0.2)


class Clouds(Denoiser):
    """The exact blind denoiser of the prior: it finds σ where there is only noise, beyond the coarse cosines."""

    def __init__(self, side: int) -> None:
        super().__init__(1)
        law = PowerLaw((1, side, side))
        rows = cosines(side).float()
        self.basis = torch.einsum("kh,lw->klhw", rows, rows).flatten(2).flatten(0, 1)
        self.variances = law.variance.flatten()

    def estimate_noise(self, y: Tensor) -> Tensor:
        flat = (y - 0.5).flatten(1)
        coordinates = flat @ self.basis.T
        energy = flat.square().sum(1) - coordinates.square().sum(1)
        sigma2 = energy.view(-1, 1) / (flat.shape[1] - len(self.variances))
        estimate = (coordinates * self.variances / (self.variances + sigma2)) @ self.basis
        return y - 0.5 - estimate.view(y.shape)

    def strengths(self, pictures: Tensor) -> Tensor:
        """The variance of samples along each cosine, over that of the prior."""
        return ((pictures - 0.5).flatten(1) @ self.basis.T).square().mean(0) / self.variances


@pytest.mark.parametrize("method", ["paper", "reverse"])
def test_samples_have_the_contrast_of_the_prior_only_if_they_start_with_its_coarse_parts(method: str):
    """A run from grey and noise of σ = 1 leaves a part that has the variance λ ≫ 1 about 1 / (1 + λ) of it."""
    clouds = Clouds(48)
    coarsest = clouds.variances > 10
    assert int(coarsest.sum()) >= 3

    def strengths(power_law: bool) -> Tensor:
        posterior = Posterior(clouds, shape=(1, 48, 48))
        if method == "paper":
            states = samplers.ascend(posterior, Ascent(h0=0.02, beta=0.5, power_law=power_law), count=200)
        else:
            states = reverse_diffusion(posterior, Reverse(60, antithetic=False, power_law=power_law), count=200)
        *_, last = states
        return clouds.strengths(last.denoised)

    grey, coarse = strengths(False), strengths(True)
    expected = 1 / (1 + clouds.variances[coarsest])
    assert bool((grey[coarsest] < 2 * expected + 0.02).all())
    assert float(coarse[coarsest].mean()) == pytest.approx(1, abs=0.2)
    assert 0.7 < float(coarse.mean()) < 1.1


def test_photographs_that_a_prior_draws_have_the_contrast_of_photographs():
    def contrast(**given: bool) -> float:
        problem = prior.pose((3, 48, 48))
        for estimate in runs.solve(problem, runs.settings(problem, "paper", given, prior="bf-unet-color", samples=4)):
            drawn = estimate.images
        return float(drawn.std((1, 2, 3)).mean())

    assert 0.12 < contrast() < 0.3
    assert contrast(power_law=False) < 0.08


def test_a_hole_is_filled_with_the_shades_around_it():
    """A sky that is brighter above. From grey, what is far from the edge of the hole stays darker."""
    sky = torch.linspace(0.95, 0.75, 64).view(1, 1, 64, 1).expand(1, 3, 64, 64) * torch.tensor([0.85, 0.95, 1]).view(
        3, 1, 1
    )
    picture = Picture("sky", sky, "sky")
    problem = linear.pose("inpainting", picture, {"box": (16, 16, 32, 32)})
    hole = ~problem.operator.kept

    def error(**given: bool) -> float:
        settings = runs.settings(problem, "fast", {"evaluations": 24, **given}, samples=2)
        mean = runs.finish(runs.solve(problem, settings)).mean
        mean = torch.from_numpy(mean).permute(2, 0, 1) / 255
        return float((mean - picture.image[0])[hole].square().mean())

    assert error() < 0.5 * error(power_law=False)


def test_the_json_of_a_run_says_how_it_started_and_older_ones_started_from_grey():
    problem = prior.pose((3, 24, 24))
    run = runs.finish(runs.solve(problem, runs.settings(problem, "paper", {"h0": 0.5}, prior="bf-unet-color")))
    record = json.loads(json.dumps(run.to_json()))
    assert runs.read(record)[1].values["power_law"] is True
    del record["settings"]["power_law"]
    assert runs.read(record)[1].values["power_law"] is False
    digits = runs.settings(prior.pose((1, 28, 28)), "paper", prior="bf-cnn-mnist")
    assert digits.values["power_law"] is False
