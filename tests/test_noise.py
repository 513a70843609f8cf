"""Noise models: densities against closed forms, samples against their densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from invlib.priors.flows import RealNVP
from invlib.problems.noise import Gaussian, PastedDigits, Place, radial, scatter, scribbled, sinusoidal

SHAPE = (3, 8, 10)


def noise_like(shape: tuple[int, ...], count: int = 4) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(), (10,), (8, 1), (8, 10), (3, 1, 1), SHAPE])
def test_gaussian_density(size):
    std = 0.1 + torch.rand(size, generator=torch.Generator().manual_seed(1))
    mean = torch.linspace(-1, 1, math.prod(size)).view(size)
    delta = noise_like(SHAPE)
    exact = Independent(Normal(mean.expand(SHAPE), std.expand(SHAPE)), 3)
    torch.testing.assert_close(Gaussian(std, mean).log_prob(delta), exact.log_prob(delta), rtol=1e-5, atol=1e-3)


def test_a_floor_is_white_noise_added_to_a_gaussian():
    std, mean, floor = torch.tensor([0.1, 0.5, 2.0]), torch.tensor([0.0, 1.0, -1.0]), 0.7
    exact = MultivariateNormal(mean, torch.diag(std**2) + floor**2 * torch.eye(3))
    delta = noise_like((3,))
    torch.testing.assert_close(Gaussian(std, mean).log_prob(delta, floor), exact.log_prob(delta))


def test_gaussian_samples_have_the_mean_and_deviation_of_every_row():
    std, mean = torch.tensor([0.01, 0.1, 1.0])[:, None], torch.tensor([0.5, 0.0, -2.0])[:, None]
    samples = Gaussian(std, mean).sample(4, (2, 3, 5000), seed=1)
    assert samples.shape == (4, 2, 3, 5000)
    rows = samples.transpose(1, 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.std(1), std[:, 0], rtol=0.02, atol=0)
    torch.testing.assert_close((rows.mean(1) - mean[:, 0]) / std[:, 0], torch.zeros(3), rtol=0, atol=0.02)


def test_what_is_no_standard_deviation_is_refused():
    for std in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="std must be positive and finite"):
            Gaussian(torch.tensor([1.0, std]))
    with pytest.raises(ValueError, match=r"noise has shape \(3, 8, 10\) and its model \(9,\)"):
        Gaussian(torch.ones(9)).log_prob(noise_like(SHAPE))


def test_sinusoid_of_the_appendix():
    std = sinusoidal((3, 64, 64)).std
    assert std.shape == (64, 1), "one for each row"
    assert std[4].item() == pytest.approx(0.1), "c at the crest, sin = 1"
    assert std[2].item() == pytest.approx(0.1 * (math.exp(math.sqrt(0.5)) - 1) / (math.e - 1))
    assert int((std == 0.001).sum()) == 36
    torch.testing.assert_close(std[:16], std[16:32])
    entries = sinusoidal((2500,), c=0.3)
    assert entries.std.shape == (2500,), "one for each entry"
    assert entries.std.max().item() == pytest.approx(0.3)


def test_sinusoid_of_the_text():
    model = sinusoidal((1, 64, 64), c=1.0, profile="text", mean=0.2)
    assert model.std[4].item() == pytest.approx(1)
    assert model.std[12].item() == pytest.approx(math.exp(-2))
    assert model.mean.item() == pytest.approx(0.2)
    with pytest.raises(ValueError, match="unknown profile 'figure'"):
        sinusoidal((64,), profile="figure")  # type: ignore[arg-type]


def test_radial_noise_fades_from_the_middle():
    std = radial((3, 64, 64)).std
    assert std[31, 31].item() == std.max().item() == pytest.approx(0.1)
    assert std[31 + 6, 31 - 8].item() == pytest.approx(0.1 * math.exp(-0.5))
    assert std[0, 0].item() == pytest.approx(0.001), "clamped"
    assert radial((1, 8, 8), c=0.2, centre=(0, 7)).std[0, 7].item() == pytest.approx(0.2)


def test_scribbles_say_little_where_the_pen_was():
    strokes = torch.zeros(8, 10, dtype=torch.bool)
    strokes[2:4] = True
    model = scribbled(strokes)
    delta = torch.zeros(3, *SHAPE)
    delta[1, :, 2:4] = 1.0
    delta[2, :, 5] = 0.1
    clean, under, beside = model.log_prob(delta).tolist()
    assert clean - under == pytest.approx(0.5 * 60), "one standard deviation in each of 60 numbers"
    assert clean - beside == pytest.approx(0.5 * 100 * 30, rel=1e-4), "ten in each of 30"


class Digit(RealNVP):
    """An untrained flow, which is a Gaussian around ½ of standard deviation 1, with a known density."""

    def __init__(self) -> None:
        super().__init__((1, 4, 4), (4,), 1)
        self.requires_grad_(False)


PLACES = [Place(0, 0, 0), Place(0, 4, 3), Place(2, 2, 6)]


def pasted(std: float = 0.1) -> PastedDigits:
    return PastedDigits(Digit(), PLACES, SHAPE, std)


def expected_log_prob(delta: Tensor, std: float, temperature: float = 1.0) -> Tensor:
    entries = Normal(0.0, std).log_prob(delta)
    for channel, top, left in PLACES:
        window = (slice(None), channel, slice(top, top + 4), slice(left, left + 4))
        entries[window] = Normal(0.5, 1.0).log_prob(delta[window]) / temperature
    return entries.flatten(1).sum(1)


def test_pasted_digits_have_the_flows_density_at_their_places():
    delta = noise_like(SHAPE)
    torch.testing.assert_close(pasted().log_prob(delta), expected_log_prob(delta, 0.1), rtol=1e-5, atol=1e-3)


def test_a_floor_widens_pasted_digits_as_it_does_a_gaussian_of_their_finest_scale():
    delta, floor = noise_like(SHAPE), 2 * PastedDigits.FINEST
    expected = expected_log_prob(delta, math.hypot(0.1, floor), temperature=5.0)
    torch.testing.assert_close(pasted().log_prob(delta, floor), expected, rtol=1e-5, atol=1e-3)


def test_samples_of_pasted_digits():
    samples = pasted(std=0.001).sample(3, SHAPE, seed=4)
    digits = torch.stack([samples[:, c, top : top + 4, left : left + 4] for c, top, left in PLACES], 1)
    assert float(digits.min()) == 0, "clipped"
    assert float(digits.max()) == 1, "clipped"
    assert len(digits.flatten(0, 1).flatten(1).unique(dim=0)) == 9, "every digit is its own"
    elsewhere = samples[:, pasted().elsewhere]
    assert elsewhere.std().item() == pytest.approx(0.001, rel=0.1)
    with pytest.raises(ValueError, match=r"shape must be \(3, 8, 10\).*got \(3, 8, 8\)"):
        pasted().sample(1, (3, 8, 8))


@pytest.mark.parametrize("model", [Gaussian(0.1), pasted()], ids=["Gaussian", "PastedDigits"])
def test_each_sample_has_its_own_stream(model):
    three = model.sample(3, SHAPE, seed=1)
    torch.testing.assert_close(model.sample(5, SHAPE, seed=1)[:3], three, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(three, model.sample(3, SHAPE, seed=2))


@pytest.mark.parametrize("place", [(0, 2, 2), (0, 5, 6), (0, -1, 6), (3, 0, 0), (1, 0, 7)])
def test_digits_that_overlap_or_stick_out_are_refused(place):
    with pytest.raises(ValueError, match=r"inside the .* image without overlap"):
        PastedDigits(Digit(), [Place(0, 0, 0), Place(*place)], SHAPE)


def test_scattered_places_fit_and_reach_every_corner():
    shape = (3, 64, 64)
    digit = RealNVP((1, 28, 28), (2,), 1)
    for seed in range(5):
        places = scatter(shape, 12, seed=seed)
        PastedDigits(digit, places, shape)  # It refuses overlaps.
        assert len({place.channel for place in places}) == 3
    assert scatter(shape, 5, seed=1) == scatter(shape, 5, seed=1) != scatter(shape, 5, seed=2)
    tops = {place.top for seed in range(40) for place in scatter(shape, 12, seed=seed)}
    assert tops == {*range(5), *range(32, 37)}
    with pytest.raises(ValueError, match="count must be from 1 to the 12 digits that fit, got 13"):
        scatter(shape, 13)
