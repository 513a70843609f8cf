"""The recipe for a GAN: non-saturating loss with a gradient penalty, in one file to read top to bottom.

A run is a function of its `Recipe` and its data, and one that was stopped goes on where it was.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib import runtime
from invlib.priors.gans import Generator
from invlib.training.data import Images, load_images
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
WIDTHS = {"faces": (384, 192, 96, 48), "mnist": (128, 64)}


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the images.

    The discriminator's gradient at true images is penalised (R1, Mescheder et al. 2018) every `penalty_every` steps,
    with the weight `penalty` x `penalty_every` / 2: what keeps the two networks from circling one another.
    """

    kind: str = "faces"
    learning_rate: float = 4e-4
    penalty: float = 1.0
    penalty_every: int = 4

    def build(self) -> Generator:
        """The generator, with random weights."""
        return Generator(SHAPES[self.kind], WIDTHS[self.kind])


class Discriminator(nn.Module):
    """How true an image looks, as a logit: strided convolutions that mirror the generator's.

    Parameters
    ----------
    image_shape : (C, H, W).
    width : channels after each halving of the sides, coarsest first as in the generator.
    """

    def __init__(self, image_shape: Sequence[int], width: Sequence[int]) -> None:
        super().__init__()
        channels, height, _ = image_shape
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([channels, *reversed(width)]):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width[0], 1, height // 2 ** len(width)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch,) of images (batch, C, H, W) in [0, 1]."""
        logits: Tensor = self.layers(2 * x - 1)
        return logits.flatten().float()


@dataclass(frozen=True)
class Progress:
    """Where a run is: the two losses of this step in nats, seconds in all, and steps that changed nothing."""

    step: int
    steps: int
    generator_loss: float
    discriminator_loss: float
    seconds: float
    skipped: int


def train(recipe: Recipe, data: Path, state_file: Path, *, save_every: float = 120.0) -> Iterator[Progress]:
    """Train a generator, yielding after every step; stop iterating to pause, call again to go on.

    Parameters
    ----------
    recipe : what to train.
    data : CelebA's aligned pictures, a zip file or a folder; or the folder of MNIST's idx files.
    state_file : both networks, the averaged generator and the optimisers are kept here every `save_every` seconds and
        at the end; a run whose state file exists goes on from it.

    Raises
    ------
    ValueError : the state file belongs to another recipe, or the data cannot be used.
    """
    device = runtime.default_device()
    torch.set_flush_denormal(True)  # averages of gradients that have vanished: arithmetic with them is slow on a CPU
    training, _ = load_images(data, recipe.kind)
    images = Images(training.to(device), recipe.kind == "faces", recipe.seed)
    torch.manual_seed(recipe.seed)
    net = recipe.build().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    judge = Discriminator(SHAPES[recipe.kind], WIDTHS[recipe.kind])
    judge = judge.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device)
    average.load_state_dict(net.state_dict())
    optimizers = build_optimizers(recipe.optimizer, net, betas=(0.5, 0.99))
    judges = build_optimizers(recipe.optimizer, judge, betas=(0.5, 0.99))
    networks = {"net": net, "discriminator": judge, "average": average}
    first, seconds = load_state(state_file, recipe, networks, [*optimizers, *judges])

    if first == recipe.steps:
        yield Progress(first, recipe.steps, math.nan, math.nan, seconds, 0)
    started, saved, skipped = time.monotonic() - seconds, seconds, 0
    for step in range(first, recipe.steps):
        true = images.batch(step, recipe.batch).float() / 255
        generator = torch.Generator(device).manual_seed(recipe.seed * 1_000_003 + step)
        z = torch.randn(recipe.batch, net.latent_dim, generator=generator, device=device)
        rate = learning_rate(step, recipe)

        with runtime.autocast(device):
            made = net(z)
            judge_loss = F.softplus(judge(made.detach())).mean() + F.softplus(-judge(true)).mean()
        if step % recipe.penalty_every == 0:
            judge_loss = judge_loss + recipe.penalty * recipe.penalty_every / 2 * squared_gradient(judge, true)
        judge.zero_grad()
        judge_loss.backward()
        judged = nn.utils.clip_grad_norm_(judge.parameters(), 10.0).isfinite()
        if judged:
            update(judges, rate)

        with runtime.autocast(device):
            loss = F.softplus(-judge(made)).mean()
        net.zero_grad()
        loss.backward()
        if judged and nn.utils.clip_grad_norm_(net.parameters(), 10.0).isfinite():
            update(optimizers, rate)
            update_average(average, net, min(recipe.ema, (step + 1) / (step + 10)))
        else:
            skipped += 1

        seconds = time.monotonic() - started
        if step + 1 == recipe.steps or seconds - saved > save_every:
            save_state(state_file, recipe, step + 1, seconds, networks, [*optimizers, *judges])
            saved = seconds
        yield Progress(step + 1, recipe.steps, loss.item(), judge_loss.item(), seconds, skipped)


def squared_gradient(judge: nn.Module, true: Tensor) -> Tensor:
    """Mean squared norm of the gradient of the logits at true images: a scalar that can be differentiated."""
    x = true.requires_grad_()
    (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def trained_generator(state_file: Path) -> tuple[Generator, float]:
    """The averaged generator of a run, ready to ship (folded), and the seconds that the run took."""
    recipe, weights, seconds = read_average(state_file)
    net = Recipe(**recipe).build()
    net.load_state_dict(weights)
    return net.eval().fold(), seconds
