"""Generators of GANs and VAEs, which turn noise into images: priors without a density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from invlib.checks import check_shape
from invlib.priors.flows import standard_normal


class Generator(nn.Module):
    """The generator of a DCGAN, and the decoder of a VAE: transposed convolutions, batch normalisation and ReLU.

    Radford et al. 2016, "Unsupervised representation learning with deep convolutional generative adversarial networks",
    https://arxiv.org/abs/1511.06434.

    Parameters
    ----------
    image_shape : (C, H, W). The sides must be equal, and a multiple of 2 to the power of the length of `width`.
    width : channels before each doubling of the sides, coarsest first.
    latent_dim : how many numbers z has. They are standard normal.
    folded : build the generator without batch normalisation, as `fold` returns it.

    >>> net = Generator((1, 8, 8), width=(16, 8), latent_dim=4).eval()
    >>> net(torch.randn(2, 4)).shape
    torch.Size([2, 1, 8, 8])
    >>> torch.allclose(net.fold().sample(2), net.sample(2), atol=1e-5)
    True
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        width: Sequence[int] = (384, 192, 96, 48),
        latent_dim: int = 100,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"image_shape": list(image_shape), "width": list(width)}
        self.arguments |= {"latent_dim": latent_dim, "folded": folded}
        self.image_shape, self.latent_dim, self.folded = check_shape(image_shape), latent_dim, folded
        channels, height, across = self.image_shape
        coarsest, rest = divmod(height, 2 ** len(width))
        if rest or height != across:
            multiple = f"a multiple of {2 ** len(width)}"
            raise ValueError(f"image_shape {self.image_shape} must be square with a side that is {multiple}")
        doublings = zip(width, [*width[1:], channels], strict=True)
        self.layers = nn.ModuleList(
            [nn.ConvTranspose2d(latent_dim, width[0], coarsest)]
            + [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1) for inputs, outputs in doublings]
        )
        self.norms = nn.ModuleList() if folded else nn.ModuleList(nn.BatchNorm2d(size) for size in width)

    def forward(self, z: Tensor) -> Tensor:
        """Images (batch, C, H, W) in [0, 1] from standard normal noise (batch, latent_dim)."""
        *inner, last = self.layers
        h = z[:, :, None, None]
        for index, layer in enumerate(inner):
            h = layer(h)
            h = F.relu(h if self.folded else self.norms[index](h))
        return last(h).float().sigmoid()

    @torch.no_grad()
    def sample(self, count: int, seed: int = 0) -> Tensor:
        """Draw images (count, C, H, W). Each has its own stream of noise: sample 3 of 8 equals sample 3 of 4."""
        images: Tensor = self(standard_normal(count, self.latent_dim, seed).to(next(self.parameters())))
        return images

    def fold(self) -> Generator:
        """The same function as this generator in evaluation mode, with batch normalisation inside the convolutions."""
        *inner, last = self.layers
        fused = [fuse_conv_bn_eval(*pair, transpose=True) for pair in zip(inner, self.norms, strict=True)]  # type: ignore[arg-type, type-var]
        plain = Generator(**{**self.arguments, "folded": True})
        plain.layers.load_state_dict(nn.ModuleList([*fused, last]).state_dict())
        return plain.eval()
