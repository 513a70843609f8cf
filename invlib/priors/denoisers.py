"""Blind, bias-free denoisers: networks that estimate the noise in an image without being told its level.

Without additive constants anywhere a ReLU network is homogeneous, `net(a y) = a net(y)` for a > 0, and so one network
serves every noise level. Its residual `f(y) = x̂(y) - y = -net(y)` is `σ² ∇ log p(y)`: the gradient of the log density
of noisy images (Kadkhodaie & Simoncelli 2021, Eq. 3), which is all that the samplers in `ascent` need.

A denoiser of your own is a subclass of `Denoiser` with one method, `estimate_noise`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Denoiser(nn.Module):
    """A blind denoiser: `net(y) -> noise estimate`.

    Subclasses implement `estimate_noise` for sides that are multiples of `multiple`; any other size is padded by
    reflection here and cropped again. The network runs in the precision of its weights; the result is float32.

    Attributes
    ----------
    channels : 3 for colour, 1 for grey.
    multiple : the sides that `estimate_noise` accepts are multiples of this.
    """

    multiple: int = 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def estimate_noise(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, y: Tensor) -> Tensor:
        """Estimate the noise in `y`.

        Parameters
        ----------
        y : (batch, channels, height, width), clean image in [0, 1] plus Gaussian noise of unknown level, any size.

        Returns
        -------
        (batch, channels, height, width), float32: the noise, so that `y - net(y)` is the least-squares estimate of the
        clean image.
        """
        if y.ndim != 4 or y.shape[1] != self.channels:
            raise ValueError(
                f"expected a batch of {self.channels}-channel images (B, {self.channels}, H, W), got {tuple(y.shape)}"
            )
        height, width = y.shape[-2:]
        bottom, right = -height % self.multiple, -width % self.multiple
        # Reflected, because several copies of one noisy row look like stripes that are to be kept.
        mode = "reflect" if bottom < height and right < width else "replicate"
        padded = F.pad(y, (0, right, 0, bottom), mode=mode) if bottom or right else y
        dtype = next(self.parameters(), padded).dtype
        noise = self.estimate_noise(padded.to(dtype, memory_format=torch.channels_last))
        return noise[..., :height, :width].to(torch.float32, memory_format=torch.contiguous_format)


def conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    """A convolution that keeps the size and has no bias."""
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)


class BFCNN(Denoiser):
    """The paper's denoiser: `depth` convolutions with ReLU between them and no additive constants.

    Each inner layer is divided by the standard deviation of its responses and multiplied by a learned scale: batch
    normalisation without the mean (Mohan et al. 2020; Kadkhodaie & Simoncelli 2021, supplement). In evaluation the
    standard deviations are running averages, and `fold` multiplies both into the convolutions.
    The names of the parameters are those of the authors' checkpoints.

    Parameters
    ----------
    channels : channels of the image.
    depth, width, kernel : number of convolutions, channels of the inner ones, side of their kernels.
    folded : without the scales, as `fold` returns it.
    """

    def __init__(
        self, channels: int = 3, depth: int = 20, width: int = 64, kernel: int = 3, folded: bool = False
    ) -> None:
        super().__init__(channels)
        inner = depth - 2
        self.arguments = {"channels": channels, "depth": depth, "width": width, "kernel": kernel, "folded": folded}
        self.conv_layers = nn.ModuleList(
            [conv(channels, width, kernel)]
            + [conv(width, width, kernel) for _ in range(inner)]
            + [conv(width, channels, kernel)]
        )
        self.folded = folded
        if not folded:
            self.gammas = nn.ParameterList(torch.ones(1, width, 1, 1) for _ in range(inner))
            self.running_sd = BufferList(torch.ones(1, width, 1, 1) for _ in range(inner))

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
        """What the responses of inner layer `index` are multiplied by: (1, width, 1, 1)."""
        running = self.running_sd[index]
        if not self.training:
            return self.gammas[index] / running
        sd = (features.float().var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        running.mul_(0.9).add_(sd.detach(), alpha=0.1)
        return self.gammas[index] / sd

    @torch.no_grad()
    def set_scales(self, y: Tensor) -> None:
        """Give folded weights their scales back: those with which training on `y` begins as the function they are."""
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
        """The same function as this network in evaluation, with the scales multiplied into the convolutions."""
        if self.folded:
            return self
        depth, (width, channels, kernel, _) = len(self.conv_layers), self._kernel(0).shape
        plain = BFCNN(channels, depth, width, kernel, folded=True).to(self._kernel(0))
        for index in range(depth):
            plain._kernel(index).copy_(self._kernel(index))
            if 0 < index < depth - 1:
                scale = self.gammas[index - 1] / self.running_sd[index - 1]
                plain._kernel(index).mul_(scale.transpose(0, 1))
        return plain.train(self.training)

    def _kernel(self, index: int) -> Tensor:
        return self.conv_layers[index].get_parameter("weight")


class BufferList(nn.Module):
    """A list of buffers, named by their index in the state dict as the authors' checkpoints name them."""

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
    """A bias-free U-Net that works at half resolution: about three times cheaper than `BFCNN`, and better at high
    noise.

    Four neighbouring pixels become channels (`pixel_unshuffle`), so the widest activations are a quarter of the image's
    size. Each scale has as many residual blocks on the way up as on the way down; skips add.

    Parameters
    ----------
    channels : channels of the image.
    width : channels at each scale, finest first.
    blocks : residual blocks in each direction, at each scale, finest first; one number is for all scales.
    """

    def __init__(
        self, channels: int = 3, width: Sequence[int] = (64, 128, 256), blocks: int | Sequence[int] = 2
    ) -> None:
        super().__init__(channels)
        blocks = [blocks] * len(width) if isinstance(blocks, int) else list(blocks)
        if len(blocks) != len(width):
            raise ValueError(f"blocks must be one number, or one for each of {len(width)} scales, got {blocks}")
        self.arguments = {"channels": channels, "width": list(width), "blocks": blocks}
        self.multiple = 2 ** len(width)
        steps = list(itertools.pairwise(width))

        def stage(scale: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(width[scale]) for _ in range(blocks[scale])))

        self.stem = conv(4 * channels, width[0])
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

    All passes share their weights (Zhang et al. 2018, "Dynamically unfolding recurrent restorer"). The network of Mohan
    et al. (2020, appendix) makes four passes of seven convolutions on the noisy image beside its last estimate. Here a
    pass hands on features instead of an estimate, the next begins with the mean of these and the noisy image's (their
    sum grows from pass to pass: training was unstable), and the convolutions are paired in residual blocks. Four
    neighbouring pixels become channels, as in `BFUNet`.

    Parameters
    ----------
    channels : channels of the image.
    width : channels of the features.
    blocks : residual blocks in a pass.
    passes : how many times they are applied.
    """

    multiple = 2

    def __init__(self, channels: int = 3, width: int = 64, blocks: int = 3, passes: int = 4) -> None:
        super().__init__(channels)
        self.arguments = {"channels": channels, "width": width, "blocks": blocks, "passes": passes}
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
    """`x` plus a mixture of it and of `layers` convolutions, each of which sees `x` and the outputs of those before."""

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
    """A bias-free DenseNet: in each block a convolution sees the features of all that came before it.

    A layer adds `growth` channels to those it is given (Huang et al. 2017). Each block adds to its input, as in the
    residual dense network of Zhang et al. (2018), and so needs no batch normalisation. The simplified DenseNet of Mohan
    et al. (2020, appendix) also has four blocks, but of plain convolutions, and joins blocks only: each is given the
    noisy image beside the output of the one before. Four neighbouring pixels become channels, as in `BFUNet`.

    Parameters
    ----------
    channels : channels of the image.
    width : channels between the blocks.
    growth, layers : channels that each layer of a block adds, and how many layers a block has.
    blocks : number of dense blocks.
    """

    multiple = 2

    def __init__(self, channels: int = 3, width: int = 64, growth: int = 32, layers: int = 3, blocks: int = 4) -> None:
        super().__init__(channels)
        self.arguments = {"channels": channels, "width": width, "growth": growth, "layers": layers, "blocks": blocks}
        self.stem = conv(4 * channels, width)
        self.blocks = nn.Sequential(*(DenseBlock(width, growth, layers) for _ in range(blocks)))
        self.head = conv(width, 4 * channels)

    def estimate_noise(self, y: Tensor) -> Tensor:
        return F.pixel_shuffle(self.head(self.blocks(self.stem(F.pixel_unshuffle(y, 2)))), 2)


ARCHITECTURES: dict[str, Callable[..., Denoiser]] = {
    "BFCNN": BFCNN,
    "BFUNet": BFUNet,
    "BFRecurrentCNN": BFRecurrentCNN,
    "BFDenseNet": BFDenseNet,
}
"""Every architecture that a checkpoint may name."""
