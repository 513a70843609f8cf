"""Denoisers: the contract that every architecture keeps, and what is particular to each."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from invlib.priors import checkpoints
from invlib.priors.denoisers import ARCHITECTURES, BFCNN, BFDenseNet, BFRecurrentCNN, BFUNet, Denoiser


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


SMALL = {
    "BFCNN": {"depth": 6, "width": 16},
    "BFUNet": {"width": (8, 16, 32), "blocks": 1},
    "BFRecurrentCNN": {"width": 16, "blocks": 2, "passes": 3},
    "BFDenseNet": {"width": 16, "growth": 8, "layers": 3, "blocks": 2},
}
"""Arguments, by architecture, of a network that takes milliseconds."""


NETWORKS = [
    pytest.param(partial(build, channels, **SMALL[name]), id=f"{name} {colour}")
    for name, build in ARCHITECTURES.items()
    for channels, colour in ((3, "colour"), (1, "grey"))
] + [
    pytest.param(lambda: BFCNN(1, depth=5, width=8).eval().fold(), id="BFCNN folded"),
    pytest.param(lambda: BFUNet(1, width=(8, 12), blocks=2), id="BFUNet of two scales"),
    pytest.param(lambda: BFUNet(3, width=(8, 12), blocks=1, told=True), id="BFUNet that is told"),
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


@pytest.mark.parametrize("build", NETWORKS)
def test_wrong_channels_are_refused(build):
    net = build()
    with pytest.raises(ValueError, match=f"{net.channels}-channel"):
        net(torch.zeros(1, 2, 8, 8))


@pytest.mark.parametrize("build", NETWORKS)
def test_a_checkpoint_gives_the_same_network_back(build, tmp_path):
    net = trained_like(build()).half().float()
    checkpoints.save(net, tmp_path / "net.safetensors", recipe="none", data="none", quality={})
    loaded = checkpoints.load(tmp_path / "net.safetensors", device="cpu", dtype=torch.float32)
    assert type(loaded) is type(net)
    y = torch.rand(1, net.channels, 13, 18, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loaded(y), net(y), rtol=1e-4, atol=1e-6 * float(net(y).abs().max()))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_parameter_is_additive(name):
    net = ARCHITECTURES[name](3)
    assert not [key for key in net.state_dict() if "bias" in key]
    assert not net.eval()(torch.zeros(1, 3, 16, 16)).any()


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
    sizes = {"BFCNN": 0.667e6, "BFUNet": 4.18e6, "BFRecurrentCNN": 0.235e6, "BFDenseNet": 0.387e6}
    for name, size in sizes.items():
        assert sum(tensor.numel() for tensor in ARCHITECTURES[name](3).parameters()) == pytest.approx(size, rel=0.005)
    names = set(BFCNN(3).state_dict())
    assert {"conv_layers.0.weight", "conv_layers.19.weight", "gammas.17", "running_sd.17"} <= names
    assert BFCNN(3).gammas[0].shape == (1, 64, 1, 1)


def reach(net: Denoiser) -> int:
    """Rows below the middle pixel of an image whose change moves the estimate there."""
    y = torch.rand(1, net.channels, 65, 65, generator=torch.Generator().manual_seed(3)).requires_grad_()
    net(y)[..., 32, 32].sum().backward()
    assert y.grad is not None
    return int(y.grad.abs().sum((0, 1, 3)).nonzero().max()) - 32


def test_passes_share_their_weights_and_each_sees_further():
    reaches = []
    for passes in (1, 2, 3):
        net = BFRecurrentCNN(1, width=8, blocks=1, passes=passes)
        net.load_state_dict(BFRecurrentCNN(1, width=8, blocks=1).state_dict())
        reaches.append(reach(trained_like(net)))
    # Stem and head reach one block of 2x2 pixels each, a pass of two convolutions two; +1 within the block.
    assert reaches == [2 * 4 + 1, 2 * 6 + 1, 2 * 8 + 1]


def test_each_layer_of_a_dense_block_sees_all_before_it():
    block = BFDenseNet(1, width=16, growth=8, layers=3, blocks=1).blocks[0]
    assert [layer.weight.shape[1] for layer in block.layers] == [16, 24, 32]
    # With layers that copy channel 0 of their input, and a mixture that sums theirs, the result is known.
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        for layer in block.layers:
            layer.weight[:, 0, 1, 1] = 1
        block.mix.weight[:, 16:] = 1
    x = torch.randn(2, 16, 5, 6, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(block(x), x + 24 * x[:, :1].relu())


def test_a_network_can_be_told_what_was_measured():
    net = trained_like(BFUNet(1, width=(8, 12), blocks=1, told=True))
    y, measured = torch.rand(2, 2, 1, 18, 22, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(0.3 * y, 0.3 * measured), 0.3 * net(y, measured))
    torch.testing.assert_close(net(y), net(y, torch.zeros_like(y)))
    assert not torch.allclose(net(y, measured), net(y), rtol=0.1)


def test_what_was_not_measured_counts_less_the_more_noise_is_in_it():
    net = trained_like(BFUNet(1, width=(8, 12), blocks=1, told=True))
    first, second, measured = torch.rand(3, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def estimates(sigma):
        return [y - net(y, measured, sigma) for y in (first, second)]

    torch.testing.assert_close(*estimates(math.inf))
    changes = [float((a - b).abs().mean()) for a, b in map(estimates, (0.25, 1.0, 100.0))]
    assert changes[0] > changes[1] > changes[2] > 0
    both = net(torch.cat([first, second]), torch.cat([measured, measured]), torch.tensor([0.2, 0.7]))
    torch.testing.assert_close(both[1:], net(second, measured, 0.7))


def test_a_network_for_colour_that_is_told_takes_grey_images():
    net = trained_like(BFUNet(3, width=(8, 12), blocks=1, told=True))
    y, measured = torch.rand(2, 2, 1, 18, 22, generator=torch.Generator().manual_seed(0))
    grey = [image.expand(-1, 3, -1, -1) for image in (y, measured)]
    torch.testing.assert_close(net(y, measured, 0.3), net(*grey, 0.3).mean(1, keepdim=True))
    torch.testing.assert_close(net(y), net(grey[0]).mean(1, keepdim=True))
    assert net.takes(1)
    assert not BFUNet(3, width=(8, 12), blocks=1).takes(1)
    assert not BFUNet(1, width=(8, 12), blocks=1, told=True).takes(3)


def test_what_was_measured_must_fit():
    y = torch.rand(2, 1, 16, 16)
    with pytest.raises(ValueError, match="this network takes none"):
        BFUNet(1, width=(8, 12), blocks=1)(y, y)
    with pytest.raises(ValueError, match=r"got \(1, 1, 16, 16\) for \(2, 1, 16, 16\)"):
        BFUNet(1, width=(8, 12), blocks=1, told=True)(y, y[:1])
