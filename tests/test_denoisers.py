"""Denoisers: homogeneity, folding, any size."""

from __future__ import annotations

import pytest
import torch

from invlib.denoisers import BFCNN, BFUNet, Denoiser


def trained_like(net: Denoiser) -> Denoiser:
    """Weights large enough that the output isn't lost in rounding, with scales that are not one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            fan = parameter[0].numel()
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5 if fan > 1 else parameter
            )
        for name, tensor in net.state_dict().items():
            if "gammas" in name or "running_sd" in name:
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return net.eval().requires_grad_(False)


NETWORKS = [
    pytest.param(lambda: BFCNN(3, depth=6, width=16), id="BFCNN"),
    pytest.param(lambda: BFCNN(1, depth=5, width=8).eval().fold(), id="BFCNN folded"),
    pytest.param(lambda: BFUNet(3, width=(8, 16, 32), blocks=1), id="BFUNet"),
    pytest.param(lambda: BFUNet(1, width=(8, 12), blocks=2), id="BFUNet grey"),
]


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("size", [(32, 32), (31, 45), (1, 7), (8, 9)])
def test_any_size_is_accepted_and_kept(build, size):
    net = trained_like(build())
    y = torch.randn(2, net.channels, *size, generator=torch.Generator().manual_seed(1))
    assert net(y).shape == y.shape


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("factor", [0.013, 0.7, 3.1, 1000.0])
def test_homogeneous(build, factor):
    """net(a y) = a net(y); factors that are powers of two would pass even with rounding tricks."""
    net = trained_like(build())
    y = torch.rand(1, net.channels, 21, 26, generator=torch.Generator().manual_seed(1))
    noise = net(y)
    assert float(noise.abs().max()) > 1e-4
    torch.testing.assert_close(
        net(factor * y), factor * noise, rtol=1e-4, atol=1e-5 * factor * float(noise.abs().max())
    )


def test_no_parameter_is_additive():
    for net in (BFCNN(3), BFUNet(3)):
        assert not [name for name, _ in net.named_parameters() if "bias" in name]


def test_fold_is_the_same_function():
    net = trained_like(BFCNN(3, depth=8, width=16))
    folded = net.fold()
    y = torch.randn(2, 3, 20, 21, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(folded(y), net(y), rtol=1e-4, atol=1e-6 * float(net(y).abs().max()))
    assert not [name for name in folded.state_dict() if "gamma" in name or "running" in name]
    assert folded.arguments["folded"]
    assert folded.fold() is folded


def test_training_divides_by_the_batch_deviation_and_tracks_it():
    net = BFCNN(1, depth=3, width=4).train()
    y = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    features = net.conv_layers[1](torch.relu(net.conv_layers[0](y)))
    deviation = features.std((0, 2, 3), correction=0)
    expected = net.conv_layers[2](torch.relu(features / deviation.view(1, -1, 1, 1)))
    # 1e-5 is added to the variance, which is small for freshly initialised weights.
    torch.testing.assert_close(net(y), expected, rtol=0.05, atol=0.02)
    before = torch.ones(4)
    torch.testing.assert_close(net.running_sd[0].flatten(), 0.9 * before + 0.1 * deviation, rtol=1e-2, atol=1e-4)


def test_architecture_of_the_published_size():
    assert sum(p.numel() for p in BFUNet(3).parameters()) == pytest.approx(4.18e6, rel=0.005)
    names = set(BFCNN(3).state_dict())
    assert {"conv_layers.0.weight", "conv_layers.19.weight", "gammas.17", "running_sd.17"} <= names
    assert BFCNN(3).gammas[0].shape == (1, 64, 1, 1)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="3-channel"):
        BFUNet(3, width=(4, 8))(torch.zeros(1, 1, 8, 8))
