"""The recipe for a flow: maximum likelihood of images, dequantised, in one file to read top to bottom.

The loss is in bits per dimension, what a code built on the flow needs for each number of an image. A run is a function
of its `Recipe` and its data, and one that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from invlib import runtime
from invlib.priors.flows import RealNVP, bits_per_dim
from invlib.training.data import Dequantisation, Images, dequantisation_entropy, dequantise, load_images
from invlib.training.run import (
    Optimisation,
    build_optimizers,
    learning_rate,
    load_state,
    read_average,
    save_state,
    update,
    update_average,
)

SHAPES = {"faces": (3, 64, 64), "mnist": (1, 28, 28)}
WIDTHS = {"faces": (64, 64, 96, 96, 64), "mnist": (32, 32, 32)}
BITS = {"faces": 5, "mnist": 8}


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the images.

    `kind` is "faces" (64×64, 5 bits, mirrored at random) or "mnist" (28×28, 8 bits). With `logit` the flow models
    digits as signals, which are black or white; the flow that models digits as noise goes without. Most pixels of
    digits are exactly black, and `dequantisation` "normal" gives them the shape that couplings can make from standard
    normal noise: even noise costs them .25 bits each. White noise of standard deviation `noise` is added to the images,
    which makes a density that a descent can follow.
    """

    kind: str = "faces"
    logit: bool = False
    dequantisation: Dequantisation = "uniform"
    noise: float = 0.0
    blocks: int = 2
    ema: float = 0.999

    def build(self) -> RealNVP:
        """The flow, with random weights."""
        return RealNVP(SHAPES[self.kind], WIDTHS[self.kind], self.blocks, self.logit)


@dataclass(frozen=True)
class Progress:
    """Where a run is.

    Attributes
    ----------
    step, steps : done, and in all.
    loss : bits per dimension of this step's batch.
    seconds : in all.
    skipped : steps since the run began or went on that changed nothing, because the gradient was not finite.
    bits : bits per dimension of the validation set under the averaged weights, when it was measured.
    """

    step: int
    steps: int
    loss: float
    seconds: float
    skipped: int
    bits: float | None = None


def dequantised_batch(images: Images, recipe: Recipe, step: int) -> Tensor:
    """The images of a step: (batch, C, H, W) in [0, 1]."""
    generator = torch.Generator(images.images.device).manual_seed(recipe.seed * 1_000_003 + step)
    return continuous(images.batch(step, recipe.batch), recipe, generator)


def continuous(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Images of uint8 as the flow models them: (count, C, H, W), in [0, 1] but for the noise."""
    x = dequantise(images, BITS[recipe.kind], generator, recipe.dequantisation)
    return x + recipe.noise * torch.randn(x.shape, generator=generator, device=x.device) if recipe.noise else x


@torch.inference_mode()
def validate(flow: RealNVP, images: Tensor, recipe: Recipe) -> float:
    """Bits per dimension, averaged over images (count, C, H, W) of uint8; always with the same noise."""
    generator = torch.Generator(images.device).manual_seed(0)
    bits, distribution = BITS[recipe.kind], recipe.dequantisation
    batches = [flow.log_prob(continuous(batch, recipe, generator)) for batch in images.split(100)]
    return round(
        bits_per_dim(torch.cat(batches), flow.dims, bits, dequantisation_entropy(distribution)).mean().item(), 4
    )


def train(
    recipe: Recipe,
    data: Path,
    state_file: Path,
    *,
    save_every: float = 120.0,
    validate_every: int = 500,
) -> Iterator[Progress]:
    """Train a flow, yielding after every step; stop iterating to pause, call again to go on.

    Parameters
    ----------
    recipe : what to train.
    data : CelebA's aligned pictures, a zip file or a folder; or the folder of MNIST's idx files.
    state_file : flow, averaged flow and optimiser are kept here every `save_every` seconds and at the end; a run whose
        state file exists goes on from it.

    Raises
    ------
    ValueError : the state file belongs to another recipe, or the data cannot be used.
    """
    device = runtime.default_device()
    torch.set_flush_denormal(True)  # averages of gradients that have vanished: arithmetic with them is slow on a CPU
    training, validation = (images.to(device) for images in load_images(data, recipe.kind))
    images = Images(training, recipe.kind == "faces", recipe.seed)
    bits, entropy = BITS[recipe.kind], dequantisation_entropy(recipe.dequantisation)
    torch.manual_seed(recipe.seed)
    flow = recipe.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flow.initialise(dequantised_batch(images, recipe, 0))
    average = recipe.build().to(device).eval()
    average.load_state_dict(flow.state_dict())
    optimizers = build_optimizers(recipe.optimizer, flow)
    networks = {"net": flow, "average": average}
    first, seconds = load_state(state_file, recipe, networks, optimizers)

    if first == recipe.steps:
        yield Progress(first, recipe.steps, math.nan, seconds, 0, validate(average, validation, recipe))
    started, saved, skipped = time.monotonic() - seconds, seconds, 0
    for step in range(first, recipe.steps):
        x = dequantised_batch(images, recipe, step)
        with runtime.autocast(device):
            log_prob = flow.log_prob(x)
        loss = bits_per_dim(log_prob, flow.dims, bits, entropy).mean()
        flow.zero_grad()
        loss.backward()
        if nn.utils.clip_grad_norm_(flow.parameters(), 1.0).isfinite():
            update(optimizers, learning_rate(step, recipe))
            update_average(average, flow, min(recipe.ema, (step + 1) / (step + 10)))
        else:
            skipped += 1

        seconds = time.monotonic() - started
        last = step + 1 == recipe.steps
        if last or seconds - saved > save_every:
            save_state(state_file, recipe, step + 1, seconds, networks, optimizers)
            saved = seconds
        measured = last or (step + 1) % validate_every == 0
        held_out = validate(average, validation, recipe) if measured else None
        yield Progress(step + 1, recipe.steps, loss.item(), seconds, skipped, held_out)


def trained_flow(state_file: Path) -> tuple[RealNVP, float]:
    """The averaged flow of a run, ready to ship (folded), and the seconds that the run took."""
    recipe, weights, seconds = read_average(state_file)
    flow = Recipe(**recipe).build()
    flow.load_state_dict(weights)
    return flow.eval().fold(), seconds
