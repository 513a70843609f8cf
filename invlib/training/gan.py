"""The recipe for a GAN, to be read from top to bottom: non-saturating loss with a gradient penalty."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib import runtime
from invlib.priors.gans import Generator
from invlib.training.data import SHAPES, Images, load_images
from invlib.training.run import Optimisation, Progress, Training, begin

WIDTHS = {"faces": (384, 192, 96, 48), "mnist": (128, 64)}


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the images.

    Every `penalty_every` steps the gradient of the discriminator at true images is penalised with the weight
    `penalty * penalty_every / 2`, which keeps the two networks from circling each other (R1: Mescheder et al. 2018,
    "Which training methods for GANs do actually converge?", https://arxiv.org/abs/1801.04406).
    """

    kind: str = "faces"
    learning_rate: float = 4e-4
    penalty: float = 1.0
    penalty_every: int = 4

    def build(self) -> Generator:
        """The generator with random weights."""
        return Generator(SHAPES[self.kind], WIDTHS[self.kind])


def strided(image_shape: Sequence[int], width: Sequence[int], outputs: int) -> nn.Sequential:
    """Strided convolutions that mirror those of a generator of this width: from (batch, C, H, W) to `outputs` numbers.

    They come as (batch, outputs, 1, 1).
    """
    channels, height, _ = image_shape
    layers: list[nn.Module] = []
    for inputs, doubled in itertools.pairwise([channels, *reversed(width)]):
        layers += [nn.Conv2d(inputs, doubled, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(width[0], outputs, height // 2 ** len(width)))


class Discriminator(nn.Module):
    """A logit for how true an image looks, from strided convolutions that mirror those of a generator of this width."""

    def __init__(self, image_shape: Sequence[int], width: Sequence[int]) -> None:
        super().__init__()
        self.layers = strided(image_shape, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (batch,) of images (batch, C, H, W) in [0, 1]."""
        logits: Tensor = self.layers(2 * x - 1)
        return logits.flatten().float()


def train(recipe: Recipe, data: Path, state_file: Path, *, save_every: float = 120.0) -> Iterator[Progress]:
    """Train a generator and yield after every step, as `denoiser.train` does, on the images that `load_images` reads.

    Losses are in nats. There is no figure that says how good the generator is, so its `quality` is empty.
    """
    device = begin(recipe)
    pictures, _ = load_images(data, recipe.kind)
    images = Images(pictures.to(device), recipe.kind == "faces", recipe.seed)
    net, judge = recipe.build(), Discriminator(SHAPES[recipe.kind], WIDTHS[recipe.kind])
    for network in (net, judge):
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device)
    training = Training(recipe, state_file, save_every, net, average, betas=(0.5, 0.99), discriminator=judge)

    if training.done == recipe.steps:
        yield training.progress({}, {})
    for step in range(training.done, recipe.steps):
        true = images.batch(step, recipe.batch).float() / 255
        z = torch.randn(recipe.batch, net.latent_dim, generator=recipe.random(step, device), device=device)

        with runtime.autocast(device):
            made = net(z)
            judge_loss = F.softplus(judge(made.detach())).mean() + F.softplus(-judge(true)).mean()
        if step % recipe.penalty_every == 0:
            judge_loss = judge_loss + recipe.penalty * recipe.penalty_every / 2 * squared_gradient(judge, true)
        changed = training.descend(judge_loss, clip=10.0, part="discriminator")

        with runtime.autocast(device):
            loss = F.softplus(-judge(made)).mean()
        changed = changed and training.descend(loss, clip=10.0)
        losses = {"generator": loss, "discriminator": judge_loss}
        yield training.finish(losses, changed, {} if training.measures(recipe.steps) else None)


def squared_gradient(judge: nn.Module, true: Tensor) -> Tensor:
    """The mean squared norm of the gradient of the logits at true images, as a scalar that can be differentiated."""
    x = true.requires_grad_()
    (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
