"""Restoration without sampling: total variation, denoisers as regularisers, networks fitted to one picture."""

from __future__ import annotations

import itertools
import sys
from collections import deque
from types import SimpleNamespace

import pytest
import torch

from invlib import examples
from invlib.problems.operators import BlockAverage, Mask, StructuredRows
from invlib.solvers.baselines import (
    divergence,
    gradient,
    least_total_variation,
    plug_and_play_bm3d,
    red,
    regularise_by_denoising,
)
from invlib.solvers.deep_baselines import deep_image_prior, deep_red, misfit


def last(estimates):
    return deque(estimates, maxlen=1).pop()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def variation(x):
    return float(gradient(x).square().sum((1, 2)).sqrt().sum())


def test_divergence_is_minus_the_adjoint_of_the_gradient():
    x, slopes = normal(2, 3, 5, 7), normal(2, 2, 3, 5, 7, seed=1)
    assert float((gradient(x) * slopes).sum()) == pytest.approx(-float((x * divergence(slopes)).sum()), abs=1e-4)


def test_least_total_variation_of_a_line_is_that_of_its_known_pixels():
    """Between known pixels a line can rise steadily, so its variation is the sum of their differences and no less."""
    x = torch.rand(1, 1, 1, 24, generator=torch.Generator().manual_seed(0))
    kept = torch.zeros(1, 24, dtype=torch.bool)
    kept[0, ::4] = True
    operator = Mask(x.shape[1:], kept)
    found = last(least_total_variation(operator, operator.measure(x), steps=2000))
    assert variation(found) == pytest.approx(float(x[0, 0, 0, ::4].diff().abs().sum()), rel=1e-2)
    torch.testing.assert_close(operator.measure(found), operator.measure(x))


def test_least_total_variation_recovers_a_cartoon_from_half_of_its_numbers():
    x = torch.full((1, 3, 24, 24), 0.3)
    x[:, :, 5:14, 8:20] = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1)
    operator = StructuredRows(x.shape[1:], 0.5)
    start = operator.adjoint(operator.measure(x))
    found = last(least_total_variation(operator, operator.measure(x)))
    assert float((start - x).abs().max()) > 0.3
    assert float((found - x).abs().max()) < 0.01
    assert variation(found) == pytest.approx(variation(x), rel=1e-2)


@pytest.mark.parametrize("lam", [0.3, 2.0])
def test_a_linear_denoiser_leads_to_the_ridge_solution(lam):
    """½ ‖Mᵀx - m‖² + ½ λ xᵀ(I - A)x is least where MMᵀx + λ (I - A) x = M m."""
    operator = StructuredRows((1, 4, 4), 0.5)
    basis = torch.linalg.qr(normal(16, 16)).Q
    shrink = basis @ torch.diag(torch.linspace(0.1, 0.9, 16)) @ basis.T
    m = operator.measure(normal(1, 1, 4, 4, seed=1))
    identity = torch.eye(16)
    projection = operator.project(identity.view(16, 1, 4, 4)).flatten(1)
    expected = torch.linalg.solve(projection + lam * (identity - shrink), operator.adjoint(m).flatten())
    denoisers = itertools.repeat(lambda x: (x.flatten(1) @ shrink).view(x.shape), 500)
    found = last(regularise_by_denoising(denoisers, operator, m, lam=lam))
    torch.testing.assert_close(found.flatten(), expected, atol=1e-4, rtol=1e-4)


def test_the_weight_of_a_regularisation_is_not_negative():
    operator = BlockAverage((1, 8, 8), 2)
    with pytest.raises(ValueError, match="lam must be a number of at least 0, got -1"):
        next(regularise_by_denoising([torch.clone], operator, torch.zeros(1, 1, 4, 4), lam=-1))


def test_red_finds_the_picture_of_the_prior_that_agrees(subspace):
    x = subspace.draw(1)
    operator = Mask.random_pixels(subspace.shape, 0.5)
    m = operator.measure(x)
    found = last(red(operator, m, denoiser=subspace, sigma_L=0.003))
    assert subspace.calls == [1] * 100
    torch.testing.assert_close(operator.measure(found), m)
    torch.testing.assert_close(found, x, atol=0.005, rtol=0)
    torch.testing.assert_close(last(red(operator, m, denoiser=subspace, sigma_L=0.003)), found)
    assert not torch.equal(last(red(operator, m, denoiser=subspace, sigma_L=0.003, seed=1)), found)


def test_plug_and_play_lowers_the_level_of_bm3d(monkeypatch):
    levels = []

    def package(picture, level):
        levels.append(level)
        return picture * 0.5

    monkeypatch.setitem(sys.modules, "bm3d", SimpleNamespace(bm3d=package))
    x = examples.example("camera", side=16)
    operator = BlockAverage(x.shape[1:], 4)
    found = last(plug_and_play_bm3d(operator, operator.measure(x), steps=3, sigma_0=0.4, sigma_L=0.1))
    assert levels == pytest.approx([0.4, 0.2, 0.1])
    torch.testing.assert_close(operator.measure(found), operator.measure(x))


def test_the_network_of_a_deep_image_prior_learns_the_measurements():
    x = examples.example("coffee", side=24)[..., :18, :23]  # no multiple of anything
    operator = StructuredRows(x.shape[1:], 0.3)
    m = operator.measure(x)
    torch.manual_seed(5)
    estimates = list(deep_image_prior(operator, m, steps=120, width=8))
    assert torch.initial_seed() == 5
    assert estimates[0].shape == x.shape
    losses = [float(misfit(estimate, operator, m)) for estimate in estimates]
    assert losses[-1] < 0.2 * losses[0]
    assert float((estimates[-1] - x).square().mean()) < 0.5 * float((operator.adjoint(m) - x).square().mean())
    again = last(deep_image_prior(operator, m, steps=3, width=8))
    torch.testing.assert_close(again, estimates[2])
    assert not torch.equal(last(deep_image_prior(operator, m, steps=3, width=8, seed=1)), again)


def test_deep_red_pulls_towards_what_the_denoiser_keeps(subspace):
    x = subspace.draw(1).sigmoid()
    operator = Mask.random_pixels(subspace.shape, 0.5)
    m = operator.measure(x)
    plain = last(deep_image_prior(operator, m, steps=40, width=8))
    weak = last(deep_red(operator, m, denoiser=subspace, steps=40, width=8, lam=1e-6, mu=1e-6))
    strong = last(deep_red(operator, m, denoiser=subspace, steps=40, width=8, lam=5, mu=5))
    assert subspace.calls == [1] * 8, "once in ten steps"
    torch.testing.assert_close(weak, plain, atol=0.05, rtol=0)

    def removed(image):
        return float((image - subspace.project(image)).square().mean())

    assert removed(strong) < 0.5 * removed(plain)
