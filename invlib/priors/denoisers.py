"""Blind, bias-free denoisers: networks that estimate the noise in an image without being told its level.

A ReLU network without additive constants is homogeneous, `net(a y) = a net(y)` for a > 0, so one network serves every
noise level. Its residual `f(y) = x̂(y) - y = -net(y)` is `σ² ∇ log p(y)`, where p is the density of noisy images. This
gradient is all that the samplers need.

To write a denoiser of your own, subclass `Denoiser` and implement `estimate_noise`.

References
----------
Kadkhodaie & Simoncelli 2021, "Stochastic solutions for linear inverse problems using the prior implicit in a denoiser",
    https://arxiv.org/abs/2007.13640; the residual is its Eq. 3.
Mohan et al. 2020, "Robust and interpretable blind image denoising via bias-free convolutional neural networks",
    https://arxiv.org/abs/1906.05478.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DROWNED = 0.25
"""The noise level from which on little can be told from the part of a picture that was not measured."""


class Denoiser(nn.Module):
    """A blind denoiser: `net(y) -> noise estimate`.

    Subclasses implement `estimate_noise` for images whose sides are multiples of `multiple`; `forward` pads other sizes
    by reflection and crops the result. The network runs in the precision of its weights; the result is float32.

    Attributes
    ----------
    channels : 3 for colour, 1 for grey. See `takes`.
    arguments : what the constructor was called with; checkpoints keep it.
    multiple : `estimate_noise` only has to accept sides that are multiples of this.
    fixed : whether it knows places in the picture, so that it cannot be given a part of one.
    told : whether the network can be told what was measured of the clean images. Then `estimate_noise` is given twice
        as many channels and one: the noisy images, below them the part of them that was measured, and below that the
        noise level in the rest, in every pixel.

    >>> class HighPass(Denoiser):
    ...     def estimate_noise(self, y):
    ...         return y - F.avg_pool2d(y, 3, stride=1, padding=1)
    >>> HighPass(channels=1)(torch.rand(2, 1, 8, 9)).shape
    torch.Size([2, 1, 8, 9])
    """

    multiple: int = 1
    fixed: bool = False
    told: bool = False

    def __init__(self, channels: int, **arguments: Any) -> None:
        super().__init__()
        self.channels = channels
        self.arguments = {"channels": channels, **arguments}

    def estimate_noise(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def takes(self, channels: int) -> bool:
        """Whether it is for images of so many channels. One for colour that is told also takes grey ones.

        It sees a grey image as one in colour whose channels are equal, noise included.
        """
        return channels == self.channels or (self.told and channels == 1)

    def forward(self, y: Tensor, measured: Tensor | None = None, sigma: Tensor | float = 0.0) -> Tensor:
        """Estimate the noise in `y`.

        A network that is told what was measured sees the rest of `y`, u = y - M Mᵀ y, times c = min(1, 0.25 / σ). So
        strong noise does not drown what was measured, and what the network takes from its input is the image. Below
        0.25, it is a denoiser as any other. If σ is infinite, it sees the measurements alone.

        Parameters
        ----------
        y : (batch, channels, height, width), images in [0, 1] plus Gaussian noise of an unknown level, of any size.
        measured : only for a network that is `told`: the measured part `M Mᵀ y` of images whose measurements have less
            noise than the rest, or none. Without it, the noise is taken to be white.
        sigma : with `measured`: the noise level in the rest, of all images or (batch,) of each.

        Returns
        -------
        The noise, of the same shape, float32: `y - net(y)` is the least-squares estimate of the clean images.

        Raises
        ------
        ValueError : another number of dimensions or channels, or a measured part that does not fit.
        """
        if y.ndim != 4 or not self.takes(y.shape[1]):
            expected = f"{self.channels}-channel images (B, {self.channels}, H, W)"
            raise ValueError(f"expected a batch of {expected}, got {tuple(y.shape)}")
        if measured is not None and (not self.told or measured.shape != y.shape):
            wrong = f"got {tuple(measured.shape)} for {tuple(y.shape)}" if self.told else "this network takes none"
            raise ValueError(f"measured must be the measured part of the images, of their shape: {wrong}")
        if y.shape[1] != self.channels:
            grey = [image if image is None else image.repeat(1, self.channels, 1, 1) for image in (y, measured)]
            return self(*grey, sigma).mean(1, keepdim=True)
        if measured is not None:
            unmeasured = y - measured
            level = torch.as_tensor(sigma, dtype=y.dtype, device=y.device).view(-1, 1, 1, 1)
            shrink = (DROWNED / level).clamp_max(1)
            known = level.clamp_max(1).expand(len(y), 1, *y.shape[2:])
            y = torch.cat([measured + shrink * unmeasured, measured, known], 1)
        elif self.told:
            y = torch.cat([y, y.new_zeros(len(y), self.channels + 1, *y.shape[2:])], 1)
        height, width = y.shape[-2:]
        bottom, right = -height % self.multiple, -width % self.multiple
        # Reflect where possible: to the network, copies of one noisy row look like stripes, which it would keep.
        mode = "reflect" if bottom < height and right < width else "replicate"
        padded = F.pad(y, (0, right, 0, bottom), mode=mode) if bottom or right else y
        dtype = next(self.parameters(), padded).dtype
        noise = self.estimate_noise(padded.to(dtype, memory_format=torch.channels_last))
        noise = noise[..., :height, :width].to(torch.float32, memory_format=torch.contiguous_format)
        return noise if measured is None else noise + (1 - shrink) * unmeasured


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size and has no bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class BFCNN(Denoiser):
    """The paper's denoiser: `depth` convolutions with ReLU between them and no additive constants.

    The responses of each inner layer are divided by their standard deviation and multiplied by a learned scale, which
    is batch normalisation without the mean (Mohan et al. 2020; Kadkhodaie & Simoncelli 2021, supplement). In evaluation
    mode the standard deviations are running averages, and `fold` multiplies them and the scales into the convolutions.
    Parameters have the names that they have in the authors' checkpoints.

    Parameters
    ----------
    channels : channels of the image.
    depth, width, kernel : number of convolutions, channels of the inner ones, side of their kernels.
    folded : build the network without scales, as `fold` returns it.

    Attributes
    ----------
    mean_over_processes : averages a tensor over the processes that share each batch of a training, so that standard
        deviations are those of the whole batch; None for one process.

    >>> net = BFCNN(channels=1, depth=4, width=8).eval()
    >>> y = torch.rand(1, 1, 16, 16)
    >>> torch.allclose(net(2 * y), 2 * net(y), atol=1e-6), torch.allclose(net.fold()(y), net(y), atol=1e-6)
    (True, True)
    """

    def __init__(
        self, channels: int = 3, depth: int = 20, width: int = 64, kernel: int = 3, folded: bool = False
    ) -> None:
        super().__init__(channels, depth=depth, width=width, kernel=kernel, folded=folded)
        if depth < 2 or kernel % 2 == 0:
            raise ValueError(f"depth must be at least 2 and kernel odd, got {depth} and {kernel}")
        sizes = [channels, *[width] * (depth - 1), channels]
        self.conv_layers = nn.ModuleList(conv(*pair, kernel) for pair in itertools.pairwise(sizes))
        self.folded = folded
        self.mean_over_processes: Callable[[Tensor], Tensor] | None = None
        if not folded:
            self.gammas = nn.ParameterList(torch.ones(1, width, 1, 1) for _ in range(depth - 2))
            self.running_sd = BufferList(torch.ones(1, width, 1, 1) for _ in range(depth - 2))

    def estimate_noise(self, y: Tensor) -> Tensor:
        first, *inner, last = self.conv_layers
        features = F.relu(first(y))
        for index, layer in enumerate(inner):
            features = layer(features)
            if not self.folded:
                features = features * self._scale(index, features).to(features.dtype)
            features = F.relu(features)
        return last(features)

    def _scale(self, index: int, features: Tensor) -> Tensor:
        """The factors for the responses of inner layer `index`: (1, width, 1, 1)."""
        sd = self.running_sd[index]
        if self.training:
            running, sd = sd, (self._variance(features.float()) + 1e-5).sqrt()
            running.mul_(0.9).add_(sd.detach(), alpha=0.1)
        return self.gammas[index] / sd

    def _variance(self, features: Tensor) -> Tensor:
        """The variance of each channel over the batch: (1, width, 1, 1)."""
        if self.mean_over_processes is None:
            return features.var((0, 2, 3), keepdim=True, correction=0)
        variance, mean = torch.var_mean(features, (0, 2, 3), keepdim=True, correction=0)
        deviation = mean - self.mean_over_processes(mean)
        return self.mean_over_processes(variance + deviation.square())

    @torch.no_grad()
    def set_scales(self, y: Tensor) -> None:
        """Set the scales of a network with folded weights so that training on `y` starts with the same function."""
        first, *inner, _ = self.conv_layers
        features = F.relu(first(y))
        for index, layer in enumerate(inner):
            features = layer(features)
            sd = features.std((0, 2, 3), keepdim=True, correction=0)
            self.gammas[index].copy_(sd)
            self.running_sd[index].copy_(sd)
            features = F.relu(features)

    @torch.no_grad()
    def fold(self) -> BFCNN:
        """The same function as this network in evaluation mode, with the scales multiplied into the convolutions."""
        if self.folded:
            return self
        plain = BFCNN(**{**self.arguments, "folded": True}).to(next(self.parameters()))
        plain.conv_layers.load_state_dict(self.conv_layers.state_dict())
        _, *inner, _ = plain.conv_layers
        for layer, gamma, sd in zip(inner, self.gammas, self.running_sd.buffers(), strict=True):
            layer.get_parameter("weight").mul_((gamma / sd).transpose(0, 1))
        return plain.train(self.training)


class BufferList(nn.Module):
    """A list of buffers whose names in the state dict are their indices, as in the authors' checkpoints."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        for index, tensor in enumerate(tensors):
            self.register_buffer(str(index), tensor)

    def __getitem__(self, index: int) -> Tensor:
        return self.get_buffer(str(index))


class ResidualBlock(nn.Module):
    """`x + b(relu(a(x)))` with two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = conv(width, width)
        self.b = conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x), inplace=True))


class BFUNet(Denoiser):
    """A bias-free U-Net at half resolution: about three times cheaper than `BFCNN`, and better at high noise.

    Four neighbouring pixels become channels (`pixel_unshuffle`), so the widest activations have a quarter of the pixels
    of the image. Each scale has as many residual blocks on the way up as on the way down. Skip connections add.

    Parameters
    ----------
    channels : channels of the image.
    width : channels at each scale, finest first.
    blocks : residual blocks in each direction at each scale, finest first; one number applies to all scales.
        ValueError is raised if `blocks` and `width` have different lengths.
    told : whether the network can be told what was measured of the clean images (see `Denoiser.forward`).

    >>> net = BFUNet(channels=3, width=(8, 16), blocks=1)
    >>> net(torch.rand(2, 3, 17, 30)).shape
    torch.Size([2, 3, 17, 30])
    """

    def __init__(
        self,
        channels: int = 3,
        width: Sequence[int] = (64, 128, 256),
        blocks: int | Sequence[int] = 2,
        told: bool = False,
    ) -> None:
        blocks = [blocks] * len(width) if isinstance(blocks, int) else list(blocks)
        if len(blocks) != len(width):
            raise ValueError(f"blocks must be one number, or one for each of {len(width)} scales, but is {blocks}")
        # Checkpoints of networks that are not told do not mention it, as those of version 0.1.0 do not.
        super().__init__(channels, width=list(width), blocks=blocks, **({"told": True} if told else {}))
        self.told = told
        self.multiple = 2 ** len(width)
        steps = list(itertools.pairwise(width))

        def stage(scale: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width[scale]) for _ in range(blocks[scale])))

        self.stem = conv(4 * (2 * channels + 1 if told else channels), width[0])
        self.enc = nn.ModuleList(stage(scale) for scale in range(len(steps)))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2, bias=False) for fine, coarse in steps)
        self.mid = stage(-1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False) for fine, coarse in steps)
        self.dec = nn.ModuleList(stage(scale) for scale in range(len(steps)))
        self.head = conv(width[0], 4 * channels)

    def estimate_noise(self, y: Tensor) -> Tensor:
        stem = features = self.stem(F.pixel_unshuffle(y, 2))
        skips = []
        for blocks, down in zip(self.enc, self.down, strict=True):
            skips.append(features := blocks(features))
            features = down(features)
        features = self.mid(features)
        for blocks, up, skip in reversed(list(zip(self.dec, self.up, skips, strict=True))):
            features = blocks(up(features) + skip)
        return F.pixel_shuffle(self.head(features + stem), 2)


class BFRecurrentCNN(Denoiser):
    """A bias-free recurrent CNN: one small network, applied `passes` times to its own output and the noisy image.

    All passes share their weights (Zhang et al. 2018, "Dynamically unfolding recurrent restorer",
    https://arxiv.org/abs/1805.07709). The network of Mohan et al. (2020, appendix) makes four passes of seven
    convolutions, and each pass sees the noisy image and the estimate of the previous pass. Here a pass hands on
    features instead of an estimate, and its convolutions are paired in residual blocks. The next pass starts with the
    mean of these features and those of the noisy image; their sum would grow from pass to pass, which made training
    unstable. Four neighbouring pixels become channels, as in `BFUNet`.

    Parameters
    ----------
    channels, width : channels of the image and of the features.
    blocks, passes : residual blocks in a pass, and how many times they are applied.
    """

    multiple = 2

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 3, passes: int = 4) -> None:
        super().__init__(channels, width=width, blocks=blocks, passes=passes)
        if not 1 <= passes <= 100:
            raise ValueError(f"passes must be from 1 to 100, got {passes}")
        self.passes = passes
        self.stem = conv(4 * channels, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.head = conv(width, 4 * channels)

    def estimate_noise(self, y: Tensor) -> Tensor:
        stem = features = self.stem(F.pixel_unshuffle(y, 2))
        for _ in range(self.passes):
            features = self.blocks((features + stem) / 2)
        return F.pixel_shuffle(self.head(features), 2)


class DenseBlock(nn.Module):
    """`x` plus a mixture of `x` and `layers` convolutions, each of which sees `x` and all earlier outputs."""

    def __init__(self, width: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(width + index * growth, growth) for index in range(layers))
        self.mix = conv(width + layers * growth, width, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        features = x
        for layer in self.layers:
            features = torch.cat([features, F.relu(layer(features), inplace=True)], 1)
        return x + self.mix(features)


class BFDenseNet(Denoiser):
    """A bias-free DenseNet: within a block, each convolution sees the features of all earlier ones.

    A layer adds `growth` channels to those it is given (Huang et al. 2017, "Densely connected convolutional networks",
    https://arxiv.org/abs/1608.06993). Each block adds to its input and so needs no batch normalisation (Zhang et al.
    2018, "Residual dense network for image super-resolution", https://arxiv.org/abs/1802.08797). The simplified
    DenseNet of Mohan et al. (2020, appendix) also has four blocks, but of plain convolutions, and only whole blocks are
    connected: each sees the noisy image and the output of the previous block. Four neighbouring pixels become channels,
    as in `BFUNet`.

    Parameters
    ----------
    channels, width : channels of the image, and between the blocks.
    growth, layers : channels that each layer of a block adds, and the number of layers in a block.
    blocks : number of dense blocks.
    """

    multiple = 2

    def __init__(self, channels: int = 3, width: int = 64, growth: int = 32, layers: int = 3, blocks: int = 4) -> None:
        super().__init__(channels, width=width, growth=growth, layers=layers, blocks=blocks)
        self.stem = conv(4 * channels, width)
        self.blocks = nn.Sequential(*(DenseBlock(width, growth, layers) for _ in range(blocks)))
        self.head = conv(width, 4 * channels)

    def estimate_noise(self, y: Tensor) -> Tensor:
        return F.pixel_shuffle(self.head(self.blocks(self.stem(F.pixel_unshuffle(y, 2)))), 2)


ARCHITECTURES: dict[str, type[Denoiser]] = {
    "BFCNN": BFCNN,
    "BFUNet": BFUNet,
    "BFRecurrentCNN": BFRecurrentCNN,
    "BFDenseNet": BFDenseNet,
}
"""The denoisers that a checkpoint may name."""
