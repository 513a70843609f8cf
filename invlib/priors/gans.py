"""Generators: priors without a density, which turn noise into images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from invlib.priors.flows import standard_normal


class Generator(nn.Module):
    """The generator of a DCGAN (Radford et al. 2016): transposed convolutions, batch normalisation and ReLU.

    Parameters
    ----------
    image_shape : (C, H, W), sides equal and a multiple of 2 to the power of the length of `width`.
    width : channels before each doubling of the sides, coarsest first.
    latent_dim : numbers in z, which is standard normal.
    folded : without batch normalisation, as `fold` returns it.

    Raises
    ------
    ValueError : if the sides are not such a multiple.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        width: Sequence[int] = (384, 192, 96, 48),
        latent_dim: int = 100,
        folded: bool = False,
    ) -> None:
        super().__init__()
        self.arguments = {
            "image_shape": list(image_shape),
            "width": list(width),
            "latent_dim": latent_dim,
            "folded": folded,
        }
        self.image_shape = tuple(image_shape)
        self.latent_dim = latent_dim
        channels, height, across = self.image_shape
        coarsest, rest = divmod(height, 2 ** len(width))
        if rest or height != across:
            raise ValueError(
                f"image_shape {self.image_shape} must be square with a side that is a multiple of {2 ** len(width)}"
            )
        doublings = zip(width, [*width[1:], channels], strict=True)
        self.layers = nn.ModuleList(
            [nn.ConvTranspose2d(latent_dim, width[0], coarsest)]
            + [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1) for inputs, outputs in doublings]
        )
        self.norms = nn.ModuleList() if folded else nn.ModuleList(nn.BatchNorm2d(size) for size in width)
        self.folded = folded

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
        """Draw images: (count, C, H, W); each has its own stream of noise, so sample 3 of 8 equals sample 3 of 4."""
        images: Tensor = self(standard_normal(count, self.latent_dim, seed).to(next(self.parameters())))
        return images

    def fold(self) -> Generator:
        """The same function as this generator in evaluation, its batch normalisation inside the convolutions."""
        *inner, last = self.layers
        fused = [fuse_conv_bn_eval(*pair, transpose=True) for pair in zip(inner, self.norms, strict=True)]  # type: ignore[arg-type, type-var]
        plain = Generator(**{**self.arguments, "folded": True})  # type: ignore[arg-type]
        plain.layers.load_state_dict(nn.ModuleList([*fused, last]).state_dict())
        return plain.eval()
