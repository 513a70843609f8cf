"""The recipe for a VAE, to be read from top to bottom: the bound on the likelihood of pictures of black and white.

What is kept of it is the decoder, which is a `Generator` as that of a GAN is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib import runtime
from invlib.metrics import psnr_all_channels
from invlib.priors.gans import Generator
from invlib.training.data import SHAPES, Images, load_images
from invlib.training.gan import strided
from invlib.training.run import Optimisation, Progress, Training, begin

WIDTHS = {"mnist": (64, 32)}


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the images; `latent_dim` is how many numbers a code has."""

    kind: str = "mnist"
    latent_dim: int = 20
    learning_rate: float = 2e-3

    def build(self) -> VAE:
        """The network with random weights."""
        return VAE(Generator(SHAPES[self.kind], WIDTHS[self.kind], self.latent_dim))


class VAE(nn.Module):
    """A variational autoencoder: a decoder, and an encoder that mirrors it and guesses the codes of images.

    Kingma & Welling 2014, "Auto-encoding variational Bayes", https://arxiv.org/abs/1312.6114.
    """

    def __init__(self, decoder: Generator) -> None:
        super().__init__()
        self.decoder = decoder
        self.encoder = strided(decoder.image_shape, decoder.arguments["width"], 2 * decoder.latent_dim)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the logarithm of the standard deviation of the codes (batch, latent_dim) of images in [0, 1]."""
        mean, log_std = self.encoder(2 * x - 1).flatten(1).float().chunk(2, 1)
        return mean, log_std

    def bound(self, x: Tensor, noise: Tensor) -> Tensor:
        """The bound on -log p(x) in nats, (batch,), at codes drawn with standard normal noise (batch, latent_dim).

        A number of the image is taken for the probability that a pixel is white.
        """
        mean, log_std = self.encode(x)
        made = self.decoder(mean + log_std.exp() * noise)
        with torch.autocast(x.device.type, enabled=False):  # which refuses this loss on a GPU, as if `made` had 16 bits
            missed = F.binary_cross_entropy(made, x, reduction="none").flatten(1).sum(1)
        return missed + 0.5 * (mean.square() + (2 * log_std).exp() - 2 * log_std - 1).sum(1)

    def fold(self) -> Generator:
        """The decoder as it is kept."""
        return self.decoder.fold()


@torch.inference_mode()
def validate(net: VAE, images: Tensor) -> dict[str, float]:
    """The mean bound, in nats, of uint8 images (count, C, H, W), and the PSNR of what is decoded from their codes."""
    x = images.float() / 255
    noise = torch.randn(len(x), net.decoder.latent_dim, generator=torch.Generator().manual_seed(0)).to(x.device)
    psnr = psnr_all_channels(net.decoder(net.encode(x)[0]), x)
    bound = net.bound(x, noise)
    return {"validation_nats": round(bound.mean().item(), 2), "validation_psnr": round(psnr.mean().item(), 2)}


def train(
    recipe: Recipe, data: Path, state_file: Path, *, save_every: float = 120.0, validate_every: int = 1000
) -> Iterator[Progress]:
    """Train a VAE and yield after every step, as `denoiser.train` does, on the images that `load_images` reads."""
    device = begin(recipe)
    pictures, validation = (images.to(device) for images in load_images(data, recipe.kind))
    images = Images(pictures, False, recipe.seed)
    net = recipe.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device).eval()
    training = Training(recipe, state_file, save_every, net, average)

    if training.done == recipe.steps:
        yield training.progress({}, validate(average, validation))
    for step in range(training.done, recipe.steps):
        x = images.batch(step, recipe.batch).float() / 255
        noise = torch.randn(recipe.batch, recipe.latent_dim, generator=recipe.random(step, device), device=device)
        with runtime.autocast(device):
            loss = net.bound(x, noise).mean()
        changed = training.descend(loss, clip=100.0)
        quality = validate(average, validation) if training.measures(validate_every) else None
        yield training.finish({"nats": loss}, changed, quality)
