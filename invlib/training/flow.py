"""The recipe for a flow, to be read from top to bottom: maximum likelihood of dequantised images.

The loss is in bits per dimension: the bits that a code built on the flow needs for each number of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from invlib import runtime
from invlib.priors.flows import RealNVP, bits_per_dim
from invlib.training import processes
from invlib.training.data import SHAPES, Dequantisation, Images, dequantisation_entropy, dequantise, load_images
from invlib.training.run import Optimisation, Progress, Training, begin

WIDTHS = {"faces": (64, 64, 96, 96, 64), "mnist": (32, 32, 32)}
BITS = {"faces": 5, "mnist": 8}


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the images.

    Attributes
    ----------
    kind : "faces" (64×64, 5 bits, mirrored at random) or "mnist" (28×28, 8 bits).
    logit : model logits, which suits digits as signals, because their pixels are black or white. The flow that models
        digits as noise does without.
    dequantisation : noise that fills the bins. Most pixels of digits are exactly black; "normal" gives them a shape
        that couplings can make from standard normal noise, and uniform noise costs 0.25 bits per pixel more.
    noise : standard deviation of white noise that is added to the images, which makes the density smooth enough for
        gradient descent.
    blocks : residual blocks of a coupling network.
    """

    kind: str = "faces"
    logit: bool = False
    dequantisation: Dequantisation = "uniform"
    noise: float = 0.0
    blocks: int = 2
    ema: float = 0.999

    def build(self) -> RealNVP:
        """The flow with random weights."""
        return RealNVP(SHAPES[self.kind], WIDTHS[self.kind], self.blocks, self.logit)


def dequantised_batch(images: Images, recipe: Recipe, step: int) -> Tensor:
    """The images of a step: (batch, C, H, W)."""
    batch = images.batch(step, recipe.batch)
    return continuous(batch, recipe, recipe.random(step, batch.device))


def continuous(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Turn uint8 images into what the flow models: (count, C, H, W), in [0, 1] plus `recipe.noise`."""
    x = dequantise(images, BITS[recipe.kind], generator, recipe.dequantisation)
    return x + recipe.noise * torch.randn(x.shape, generator=generator, device=x.device) if recipe.noise else x


def mean_bits(log_prob: Tensor, flow: RealNVP, recipe: Recipe) -> Tensor:
    """The mean bits per dimension of images with these log-densities, as a scalar."""
    return bits_per_dim(log_prob, flow.dims, BITS[recipe.kind], dequantisation_entropy(recipe.dequantisation)).mean()


@torch.inference_mode()
def validate(flow: RealNVP, images: Tensor, recipe: Recipe) -> dict[str, float]:
    """Mean bits per dimension of uint8 images (count, C, H, W), always with the same noise."""
    generator = torch.Generator(images.device).manual_seed(0)
    batches = [flow.log_prob(continuous(batch, recipe, generator)) for batch in images.split(100)]
    return {"validation_bits_per_dim": round(mean_bits(torch.cat(batches), flow, recipe).item(), 4)}


def train(
    recipe: Recipe, data: Path, state_file: Path, *, save_every: float = 120.0, validate_every: int = 500
) -> Iterator[Progress]:
    """Train a flow and yield after every step, as `denoiser.train` does, on the images that `load_images` reads."""
    device = begin(recipe)
    pictures, validation = (images.to(device) for images in load_images(data, recipe.kind))
    images = Images(pictures, recipe.kind == "faces", recipe.seed)
    flow = recipe.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flow.initialise(dequantised_batch(images, recipe, 0))
    average = recipe.build().to(device).eval()
    training = Training(recipe, state_file, save_every, flow, average)

    if training.done == recipe.steps:
        yield training.progress({}, validate(average, validation, recipe))
    for step in range(training.done, recipe.steps):
        x = processes.share(dequantised_batch(images, recipe, step))
        with runtime.autocast(device):
            log_prob = flow.log_prob(x)
        loss = mean_bits(log_prob, flow, recipe)
        changed = training.descend(loss, clip=1.0)
        quality = validate(average, validation, recipe) if training.measures(validate_every) else None
        yield training.finish({"bits per dimension": loss}, changed, quality)
