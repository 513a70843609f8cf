"""Normalizing flows: priors with an exact density.

A flow is an invertible network between images and standard normal noise whose Jacobian determinant is cheap to compute.
With `x = G(z)` the density is `log p(x) = log N(G⁻¹(x); 0, I) + log |det ∂z/∂x|`, so one kind of network serves as the
prior of the signal and as the model of structured noise. Log-densities are in nats; images are continuous, in [0, 1].

References
----------
Whang, Lei & Dimakis 2021, "Solving inverse problems with a flow-based noise model", https://arxiv.org/abs/2003.08089;
    Eqs. 5 and 6.
Dinh, Sohl-Dickstein & Bengio 2017, "Density estimation using Real NVP", https://arxiv.org/abs/1605.08803.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib.checks import check_seed, check_shape
from invlib.runtime import own_defaults


class Flow(nn.Module):
    """An invertible network between images and standard normal noise; subclasses implement `encode` and `decode`.

    Attributes
    ----------
    image_shape, dims : (C, H, W), and how many numbers an image has, C·H·W.
    arguments : what the constructor was called with; checkpoints keep it.
    """

    def __init__(self, image_shape: Sequence[int], **arguments: Any) -> None:
        super().__init__()
        self.arguments = {"image_shape": list(image_shape), **arguments}
        self.image_shape = check_shape(image_shape)
        self.dims = math.prod(self.image_shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn images x (batch, C, H, W) in [0, 1] into noise: z (batch, C·H·W), and log |det ∂z/∂x| (batch,)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Turn noise z (batch, C·H·W) into images: x (batch, C, H, W), and log |det ∂x/∂z| (batch,)."""
        raise NotImplementedError

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density, in nats, of images (batch, C, H, W) in [0, 1]: (batch,)."""
        z, logdet = self.encode(x)
        return standard_normal_log_prob(z) + logdet

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Draw images: (count, C, H, W), mostly in [0, 1].

        Each image has its own stream of noise, so that sample 3 of 8 equals sample 3 of 4. The `temperature` is the
        standard deviation of z; below 1, images are more typical and less varied.
        """
        z = temperature * standard_normal(count, self.dims, seed)
        return self.decode(z.to(next(self.parameters())))[0]


@own_defaults
def standard_normal(count: int, dims: int, seed: int) -> Tensor:
    """Draw from N(0, I), each row from its own stream of random numbers: (count, dims).

    >>> torch.equal(standard_normal(2, 5, seed=1), standard_normal(3, 5, seed=1)[:2])
    True
    """
    check_seed(seed)
    seeds = (np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] for index in range(count))
    return torch.stack([torch.randn(dims, generator=torch.Generator().manual_seed(int(number))) for number in seeds])


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, from (batch, dims) to (batch,)."""
    return -0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))


def bits_per_dim(log_prob: Tensor, dims: int, bits: int, entropy: float = 0.0) -> Tensor:
    """An upper bound on the bits that a flow needs for each number of an image, from its log-density in nats.

    The image has `bits` bits per number, and noise was added to fill its bins, which are 2^-bits wide in [0, 1]. The
    noise is uniform (Theis et al. 2016, "A note on the evaluation of generative models",
    https://arxiv.org/abs/1511.01844), or has `entropy` bits for a bin of width 1 (variational dequantisation, Ho et al.
    2019, "Flow++", https://arxiv.org/abs/1902.00275).

    >>> float(bits_per_dim(torch.tensor(0.0), dims=12, bits=5))  # density 1, as uniform noise has
    5.0
    """
    return bits - entropy - log_prob / (dims * math.log(2))


class RealNVP(Flow):
    """Multi-scale RealNVP (Dinh et al. 2017) with residual coupling networks.

    Each scale halves the sides by moving blocks of 2×2 pixels into channels, so that one colour of a checkerboard of
    pixels is half of the channels. Couplings between the two colours therefore run at the new size, at a quarter of the
    cost of masked couplings. Couplings between other halves of the channels follow, and then half of the channels leave
    as noise. If a side is odd, it is not halved, and that scale only has couplings between channels.

    Parameters
    ----------
    image_shape : (C, H, W).
    width : channels of the coupling networks at each scale, finest first.
    blocks : residual blocks of a coupling network.
    logit : model logit(0.05 + 0.9 x) instead of x - ½ (Dinh et al. 2017, section 4.1). This suits images that are black
        and white. There is no density outside -0.055 < x < 1.055; without `logit` the density is finite everywhere.
    folded : build the flow without weight normalisation, as `fold` returns it.

    Raises
    ------
    ValueError : if a scale has an odd number of channels, which cannot be halved.

    >>> flow = RealNVP((1, 4, 4), width=(8, 8), blocks=1)
    >>> x = flow.sample(2, seed=0)
    >>> torch.allclose(flow.decode(flow.encode(x)[0])[0], x, atol=1e-5), flow.log_prob(x).shape
    (True, torch.Size([2]))
    """

    LOGIT_MARGIN = 0.05

    def __init__(
        self,
        image_shape: Sequence[int],
        width: Sequence[int] = (64, 64, 96, 96, 64),
        blocks: int = 2,
        logit: bool = False,
        folded: bool = False,
    ) -> None:
        super().__init__(image_shape, width=list(width), blocks=blocks, logit=logit, folded=folded)
        self.logit = logit
        self.scales = nn.ModuleList()
        self.halves: list[tuple[int, int, int]] = []
        channels, height, across = self.image_shape
        for size in width:
            layers: list[nn.Module] = []
            if height % 2 == across % 2 == 0:
                layers.append(Checkerboard())
                channels, height, across = 4 * channels, height // 2, across // 2
            if channels % 2:
                raise ValueError(
                    f"image_shape {self.image_shape} leaves an odd number of channels, {channels}, at a scale, and no "
                    "coupling can halve it: choose even sides, or fewer scales in width"
                )
            for index in range(6):
                if index == 3:
                    layers.append(Shuffle())
                # The last coupling changes the half that leaves, given the half that stays.
                layers += [ActNorm(channels), Coupling(channels, size, blocks, flip=index % 2 == 0, folded=folded)]
            self.scales.append(nn.ModuleList(layers))
            channels //= 2
            self.halves.append((channels, height, across))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, logdet = self._to_reals(x)
        parts = []
        for scale in self.scales:
            for layer in scale:  # type: ignore[attr-defined]
                h, change = layer(h)
                logdet = logdet + change
            h, noise = h.chunk(2, 1)
            parts.append(noise.flatten(1))
        return torch.cat([*parts, h.flatten(1)], 1), logdet

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        sizes = [math.prod(half) for half in self.halves]
        *parts, rest = z.split([*sizes, sizes[-1]], 1)
        h = rest.unflatten(1, self.halves[-1])
        logdet = z.new_zeros(len(z))
        for scale, noise, half in reversed(list(zip(self.scales, parts, self.halves, strict=True))):
            h = torch.cat([h, noise.unflatten(1, half)], 1)
            for layer in reversed(scale):
                h, change = layer.inverse(h)
                logdet = logdet + change
        x, change = self._from_reals(h)
        return x, logdet + change

    def _to_reals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if tuple(x.shape[1:]) != self.image_shape:
            raise ValueError(f"expected a batch of images (B, {self.image_shape}), got {tuple(x.shape)}")
        if not self.logit:
            return x - 0.5, x.new_zeros(len(x))
        squeezed = self.LOGIT_MARGIN + (1 - 2 * self.LOGIT_MARGIN) * x
        y = squeezed.logit()
        return y, self._logit_slope(y)

    def _from_reals(self, y: Tensor) -> tuple[Tensor, Tensor]:
        if not self.logit:
            return y + 0.5, y.new_zeros(len(y))
        x = (y.sigmoid() - self.LOGIT_MARGIN) / (1 - 2 * self.LOGIT_MARGIN)
        return x, -self._logit_slope(y)

    def _logit_slope(self, y: Tensor) -> Tensor:
        """log |det ∂y/∂x| of y = logit(α + (1 - 2α) x): (batch,)."""
        return (math.log(1 - 2 * self.LOGIT_MARGIN) + F.softplus(y) + F.softplus(-y)).sum((1, 2, 3))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set every ActNorm so that its output has mean 0 and variance 1 on a batch of images (batch, C, H, W)."""
        norms = [layer for layer in self.modules() if isinstance(layer, ActNorm)]
        hooks = [norm.register_forward_pre_hook(lambda norm, inputs: norm.fit(*inputs)) for norm in norms]
        self.encode(x)
        for hook in hooks:
            hook.remove()

    @torch.no_grad()
    def fold(self) -> RealNVP:
        """The same function without weight normalisation, which only helps training."""
        plain = RealNVP(**{**self.arguments, "folded": True})
        plain.load_state_dict({name: value for name, value in self.state_dict().items() if "length" not in name})
        for layer, folded in zip(self.modules(), plain.modules(), strict=True):
            if isinstance(layer, WeightNormConv2d):
                folded.weight.copy_(layer.kernel())  # type: ignore[operator]
        return plain.train(self.training)


# Layers. forward(h) -> (h, logdet) leads towards the noise, inverse(h) -> (h, logdet) towards the image.


class Checkerboard(nn.Module):
    """Moves blocks of 2×2 pixels into channels, one colour of the checkerboard first: (C, H, W) to (4C, H/2, W/2)."""

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        top_left, top_right, bottom_left, bottom_right = F.pixel_unshuffle(h, 2).unflatten(1, (-1, 4)).unbind(2)
        return torch.cat([top_left, bottom_right, top_right, bottom_left], 1), h.new_zeros(())

    def inverse(self, h: Tensor) -> tuple[Tensor, Tensor]:
        top_left, bottom_right, top_right, bottom_left = h.chunk(4, 1)
        blocks = torch.stack([top_left, top_right, bottom_left, bottom_right], 2)
        return F.pixel_shuffle(blocks.flatten(1, 2), 2), h.new_zeros(())


class Shuffle(nn.Module):
    """Interleaves the two halves of the channels, so that the next couplings split them differently."""

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2), h.new_zeros(())

    def inverse(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2), h.new_zeros(())


class ActNorm(nn.Module):
    """A scale and a shift for each channel (Kingma & Dhariwal 2018, "Glow", https://arxiv.org/abs/1807.03039)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    @torch.no_grad()
    def fit(self, h: Tensor) -> None:
        """Choose scale and shift so that the output for `h` (batch, channels, H, W) has mean 0 and variance 1."""
        deviation, mean = torch.std_mean(h, (0, 2, 3), keepdim=True, correction=0)
        self.log_scale.copy_(-torch.log(deviation + 1e-6))
        self.shift.copy_(-mean * self.log_scale.exp())

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h * self.log_scale.exp() + self.shift, self._logdet(h)

    def inverse(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return (h - self.shift) * (-self.log_scale).exp(), -self._logdet(h)

    def _logdet(self, h: Tensor) -> Tensor:
        return self.log_scale.sum() * h[0, 0].numel()


class Coupling(nn.Module):
    """Scales and shifts one half of the channels by functions of the other half.

    The logarithm of the scale is a learned multiple of a tanh. It and the shift, which a network with this `width` and
    number of `blocks` predicts, start at 0. With `flip` the first half is changed instead of the second.
    """

    def __init__(self, channels: int, width: int, blocks: int, flip: bool, folded: bool) -> None:
        super().__init__()
        self.flip = flip
        changed = channels // 2
        # This layer starts at zero, which weight normalisation could not leave.
        last = nn.Conv2d(width, 2 * changed, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        inner = (ResidualBlock(width, folded) for _ in range(blocks))
        self.net = nn.Sequential(conv(changed, width, folded), *inner, nn.ReLU(), last)
        self.scale = nn.Parameter(torch.ones(1, changed, 1, 1))

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        given, changed = self._split(h)
        log_scale, shift = self._predict(given)
        return self._join(given, changed * log_scale.exp() + shift), log_scale.sum((1, 2, 3))

    def inverse(self, h: Tensor) -> tuple[Tensor, Tensor]:
        given, changed = self._split(h)
        log_scale, shift = self._predict(given)
        return self._join(given, (changed - shift) * (-log_scale).exp()), -log_scale.sum((1, 2, 3))

    def _split(self, h: Tensor) -> tuple[Tensor, Tensor]:
        first, second = h.chunk(2, 1)
        return (second, first) if self.flip else (first, second)

    def _join(self, given: Tensor, changed: Tensor) -> Tensor:
        return torch.cat([changed, given] if self.flip else [given, changed], 1)

    def _predict(self, given: Tensor) -> tuple[Tensor, Tensor]:
        # The network may run in bfloat16 under autocast; the transformation itself must not.
        raw, shift = self.net(given).to(given.dtype).chunk(2, 1)
        return self.scale * raw.tanh(), shift


class ResidualBlock(nn.Module):
    """`x + b(relu(a(relu(x))))` with two convolutions."""

    def __init__(self, width: int, folded: bool) -> None:
        super().__init__()
        self.a, self.b = conv(width, width, folded), conv(width, width, folded)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(F.relu(x)), inplace=True))


class WeightNormConv2d(nn.Conv2d):
    """A convolution whose kernels have separate directions and lengths.

    Salimans & Kingma 2016, "Weight normalization", https://arxiv.org/abs/1602.07868. PyTorch's `weight_norm` loses the
    channels-last layout of the kernels, which costs a quarter of a training step on a CPU.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)
        self.length = nn.Parameter(self._norm().detach())

    def kernel(self) -> Tensor:
        return self.weight * (self.length / self._norm())

    def _norm(self) -> Tensor:
        return torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=1)


def conv(inputs: int, outputs: int, folded: bool) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, with weight normalisation unless `folded`."""
    return nn.Conv2d(inputs, outputs, 3, padding=1) if folded else WeightNormConv2d(inputs, outputs)
