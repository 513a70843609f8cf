"""Flows: exact inverses, exact densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from invlib.priors import checkpoints
from invlib.priors.checkpoints import CheckpointError
from invlib.priors.flows import ActNorm, Flow, RealNVP, bits_per_dim, standard_normal_log_prob


@pytest.fixture(autouse=True)
def seeded():
    """The networks start from random weights, and how well-conditioned they are depends on them."""
    torch.manual_seed(0)


def trained_like(flow: RealNVP) -> RealNVP:
    """Every parameter moved from where it starts, those that start at zero too."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return flow.eval()


def pictures(flow: Flow, count: int = 3) -> Tensor:
    return torch.rand(count, *flow.image_shape, generator=torch.Generator().manual_seed(1))


FLOWS = [
    pytest.param(lambda: RealNVP((3, 4, 4), (8, 8), 1), id="colour"),
    pytest.param(lambda: RealNVP((1, 4, 4), (8, 8), 1, logit=True), id="logit"),
    pytest.param(lambda: RealNVP((1, 6, 6), (8, 8), 1), id="a scale of odd sides"),
    pytest.param(lambda: RealNVP((2, 1, 1), (8,), 2, logit=True), id="two numbers"),
]


@pytest.mark.parametrize("build", FLOWS)
def test_decode_inverts_encode(build):
    flow = trained_like(build())
    x = pictures(flow)
    z, logdet = flow.encode(x)
    assert z.shape == (3, flow.dims)
    assert not torch.allclose(z, (x - 0.5).flatten(1), atol=0.1), "it is not the identity"
    back, inverse_logdet = flow.decode(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("build", FLOWS)
def test_log_determinants_are_those_of_the_jacobian(build):
    flow = trained_like(build()).double()
    x = pictures(flow, 1).double()
    z, logdet = flow.encode(x)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.encode(x)[0], x).reshape(flow.dims, flow.dims)
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(logdet.item(), rel=1e-8)
    _, logdet = flow.decode(z)
    jacobian = torch.autograd.functional.jacobian(lambda z: flow.decode(z)[0], z).reshape(flow.dims, flow.dims)
    assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(logdet.item(), rel=1e-8)


@pytest.mark.parametrize("logit", [False, True])
def test_the_density_integrates_to_one(logit):
    flow = trained_like(RealNVP((2, 1, 1), (4,), 1, logit)).double()
    # With a logit the density lives where .05 + .9 x is between 0 and 1.
    low, high = (-0.05 / 0.9, 0.95 / 0.9) if logit else (-6.0, 7.0)
    side, count = (high - low) / 120, 120
    centres = low + side * (torch.arange(count, dtype=torch.float64) + 0.5)
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(centres, centres).view(-1, 2, 1, 1)).exp()
    assert density.sum().item() * side**2 == pytest.approx(1, abs=1e-3)


def test_a_new_flow_is_a_gaussian_around_grey():
    flow = RealNVP((1, 4, 4), (8, 8), 1)
    x = pictures(flow)
    torch.testing.assert_close(flow.log_prob(x), standard_normal_log_prob((x - 0.5).flatten(1)))


def test_standard_normal_log_prob():
    z = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standard_normal_log_prob(z), torch.distributions.Normal(0, 1).log_prob(z).sum(1))


def test_the_density_is_finite_outside_the_range_of_images():
    """An optimiser that descends in x leaves [0, 1]."""
    flow = trained_like(RealNVP((1, 8, 8), (8, 8), 1))
    x = torch.stack([torch.full((1, 8, 8), value) for value in (-2.0, 0.0, 1.0, 3.0)]).requires_grad_()
    log_prob = flow.log_prob(x)
    assert torch.isfinite(log_prob).all()
    assert torch.isfinite(torch.autograd.grad(log_prob.sum(), x)[0]).all()


def test_white_noise_of_n_bits_needs_n_bits():
    """Uniform on [0, 1] has density 1."""
    assert float(bits_per_dim(torch.zeros(()), dims=12, bits=5)) == 5
    # A density of 2 in every dimension, half of the bins: one bit less.
    assert float(bits_per_dim(torch.tensor(12 * math.log(2)), dims=12, bits=5)) == pytest.approx(4)


@pytest.mark.parametrize("build", FLOWS)
def test_fold_is_the_same_function(build):
    flow = trained_like(build())
    folded = flow.fold()
    x = pictures(flow)
    torch.testing.assert_close(folded.log_prob(x), flow.log_prob(x), rtol=1e-5, atol=1e-4)
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in flow.parameters())
    assert not folded.training


def test_initialise_gives_every_actnorm_an_output_of_mean_zero_and_variance_one():
    flow = trained_like(RealNVP((3, 8, 8), (8, 8), 1))
    x = 0.2 + 0.1 * pictures(flow, 64)
    flow.initialise(x)
    outputs: list[Tensor] = []
    for layer in flow.modules():
        if isinstance(layer, ActNorm):
            layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output[0]))
    flow.encode(x)
    assert len(outputs) == 12
    for output in outputs:
        deviation, mean = torch.std_mean(output, (0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
        torch.testing.assert_close(deviation, torch.ones_like(deviation), rtol=1e-3, atol=0)


def test_each_sample_has_its_own_stream():
    flow = trained_like(RealNVP((1, 4, 4), (8, 8), 1))
    four, eight = flow.sample(4, seed=3), flow.sample(8, seed=3)
    assert eight.shape == (8, 1, 4, 4)
    torch.testing.assert_close(four, eight[:4], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(four, flow.sample(4, seed=4))
    middle = flow.decode(torch.zeros(1, 16))[0]
    torch.testing.assert_close(flow.sample(1, temperature=0.0), middle)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="odd number of channels, 3,"):
        RealNVP((3, 5, 5), (8,))
    with pytest.raises(ValueError, match=r"\(1, 4, 4\).*got \(2, 1, 8, 8\)"):
        RealNVP((1, 4, 4), (8, 8)).log_prob(torch.zeros(2, 1, 8, 8))


def test_a_checkpoint_loads_in_float32_and_only_as_a_flow(tmp_path):
    flow = trained_like(RealNVP((1, 8, 8), (8, 8), 1)).fold()
    path = tmp_path / "flow.safetensors"
    checkpoints.save(flow, path, recipe="none", data="none", quality={"validation_bits_per_dim": 2.0})
    loaded = checkpoints.load(path, Flow, device="cpu")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    x = pictures(flow)
    # The file is float16.
    torch.testing.assert_close(loaded.log_prob(x), flow.log_prob(x), rtol=1e-2, atol=0.1)
    torch.testing.assert_close(loaded.decode(loaded.encode(x)[0])[0], x, rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match="is a RealNVP, not a Denoiser"):
        checkpoints.load(path)
