"""Generators and what judges them: shapes, range, folding."""

from __future__ import annotations

import pytest
import torch

from invlib.priors import checkpoints
from invlib.priors.gans import Generator
from invlib.training.gan import SHAPES, WIDTHS, Discriminator, squared_gradient


def trained_like(net: Generator) -> Generator:
    """Statistics and scales of the batch normalisation that are not those of the start."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if "norms" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("kind", ["faces", "mnist"])
def test_images_of_the_published_sizes(kind):
    net = trained_like(Generator(SHAPES[kind], WIDTHS[kind]))
    x = net.sample(2, seed=1)
    assert x.shape == (2, *SHAPES[kind])
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    assert sum(parameter.numel() for parameter in net.parameters()) <= 3.5e6
    assert Discriminator(SHAPES[kind], WIDTHS[kind])(x).shape == (2,)


def test_each_sample_has_its_own_stream():
    net = trained_like(Generator((1, 8, 8), (8, 4)))
    torch.testing.assert_close(net.sample(2, seed=5), net.sample(4, seed=5)[:2])
    assert not torch.allclose(net.sample(2, seed=5), net.sample(2, seed=6))


def test_fold_is_the_same_function():
    net = trained_like(Generator((3, 16, 16), (16, 8)))
    folded = net.fold()
    z = torch.randn(4, net.latent_dim, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(folded(z), net(z), rtol=1e-5, atol=1e-6)
    assert float(folded(z).std()) > 0.01
    assert not [name for name in folded.state_dict() if "norms" in name]


def test_a_checkpoint_loads_in_float32(tmp_path):
    net = trained_like(Generator((1, 8, 8), (8, 4))).fold()
    path = tmp_path / "gan.safetensors"
    checkpoints.save(net, path, recipe="none", data="none", quality={})
    loaded = checkpoints.load(path, Generator, device="cpu")
    assert loaded.latent_dim == 100
    assert loaded.image_shape == (1, 8, 8)
    torch.testing.assert_close(loaded.sample(2), net.sample(2), rtol=1e-2, atol=1e-3)


def test_sides_that_do_not_halve_are_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        Generator((3, 40, 40))
    with pytest.raises(ValueError, match="square"):
        Generator((3, 32, 64))


def test_the_gradient_penalty_of_a_linear_judge_is_its_squared_weights():
    judge = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    penalty = squared_gradient(judge, torch.rand(5, 3, 2, 2))
    torch.testing.assert_close(penalty, judge[1].weight.square().sum())
    penalty.backward()
    torch.testing.assert_close(judge[1].weight.grad, 2 * judge[1].weight)
