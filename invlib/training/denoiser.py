"""The recipe for a blind denoiser: crops plus Gaussian noise of every level, in one file to read top to bottom.

A run is a function of its `Recipe` and its data: batch `n` depends on the seed and `n` only, and everything else is in
the state file, so a run that was stopped goes on where it was.
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
from invlib.priors.denoisers import ARCHITECTURES, BFCNN, Denoiser, ResidualBlock
from invlib.training.data import Crops, load_training_set
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

VALIDATION_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the pictures.

    A part of the noise levels, `uniform`, is uniform on [0, 1] and the rest log-uniform from `sigma_min` to 1, so that
    the fine end, where pictures become sharp, is seen as often as the coarse one. The squared error of a crop is
    divided by σ + .02: a plain mean would be ruled by the noisiest crops, and division by σ² by the cleanest.

    On BF-CNN Muon needs less than half the steps of AdamW (see training/README.md).

    `blocks` are the residual blocks of a U-Net at each scale, finest first; None for two.

    `folded` trains BF-CNN without its scales, to end a run: a batch's standard deviations differ from those of the
    next, and the error that this makes is the network's floor.
    """

    architecture: str = "BFUNet"
    channels: int = 3
    blocks: tuple[int, ...] | None = None
    crop: int = 64
    sigma_min: float = 0.005
    uniform: float = 0.5
    folded: bool = False

    def build(self) -> Denoiser:
        """The network, with random weights. ValueError if the architecture does not have what is chosen."""
        if self.folded and self.architecture != "BFCNN":
            raise ValueError(f"only BFCNN has scales that can be folded: leave folded out for {self.architecture}")
        if self.blocks and self.architecture != "BFUNet":
            raise ValueError(f"only BFUNet has blocks at each scale: leave them out for {self.architecture}")
        choices = {name: value for name in ("blocks", "folded") if (value := getattr(self, name))}
        return ARCHITECTURES[self.architecture](self.channels, **choices)


@dataclass(frozen=True)
class Progress:
    """Where a run is: the loss of this step, seconds in all, and PSNR on the validation set when it was measured."""

    step: int
    steps: int
    loss: float
    seconds: float
    psnr: dict[str, float] | None = None


def draw_sigmas(count: int, sigma_min: float, uniform: float, generator: torch.Generator) -> Tensor:
    """Noise levels for a batch, the share `uniform` uniform and the rest log-uniform: (count, 1, 1, 1)."""
    fraction, exponent = torch.rand(2, count, generator=generator, device=generator.device)
    first = torch.arange(count, device=generator.device) < uniform * count
    return torch.where(first, fraction, sigma_min**exponent).view(-1, 1, 1, 1)


def noisy_batch(crops: Crops, recipe: Recipe, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The noisy crops of a step, their noise, and its level: (batch, C, H, W) twice, (batch, 1, 1, 1)."""
    x = crops.batch(step, recipe.batch)
    generator = torch.Generator(x.device).manual_seed(recipe.seed * 1_000_003 + step)
    sigma = draw_sigmas(recipe.batch, recipe.sigma_min, recipe.uniform, generator)
    noise = sigma * torch.randn(x.shape, generator=generator, device=x.device)
    return (x + noise).contiguous(memory_format=torch.channels_last), noise, sigma


def warm_start(net: Denoiser, source: Denoiser, y: Tensor) -> None:
    """Start from another network of the same architecture, also across colour and grey.

    From colour to grey the first layer is summed and the last averaged over the colours (a grey picture is a colour
    picture with equal channels); from grey to colour each colour gets an equal share. Residual blocks of a U-Net that
    the other does not have begin as the identity.

    Parameters
    ----------
    net, source : the new network and the one it starts from, which may be folded.
    y : noisy crops, on which the scales of a folded BF-CNN are set so that training starts with the same function.
    """
    state = source.state_dict()
    if net.channels != source.channels:
        first, last = (key for key in state if state[key].shape != net.state_dict()[key].shape)
        state[first] = mix_colours(state[first], source.channels, net.channels, dim=1) * source.channels / net.channels
        state[last] = mix_colours(state[last], source.channels, net.channels, dim=0)
    missing, unexpected = net.load_state_dict(state, strict=False)
    if unexpected:
        raise ValueError(f"the network to start from has more layers than the new one: {', '.join(unexpected[:3])}...")
    for name, block in net.named_modules():
        if isinstance(block, ResidualBlock) and f"{name}.b.weight" in missing:
            nn.init.zeros_(block.b.weight)
    if isinstance(net, BFCNN) and isinstance(source, BFCNN) and source.folded and not net.folded:
        net.set_scales(y)


def mix_colours(kernel: Tensor, source: int, target: int, dim: int) -> Tensor:
    """A kernel whose dimension `dim` has `target` colours, each the average over the `source` colours."""
    grey = kernel.unflatten(dim, (source, -1)).mean(dim, keepdim=True)
    return torch.cat([grey] * target, dim).flatten(dim, dim + 1)


@torch.inference_mode()
def validate(net: Denoiser, pictures: list[Tensor], device: torch.device, limit: int = 256) -> dict[str, float]:
    """Mean PSNR in dB over all channels, per noise level, on the middle of each picture; the noise is not clipped."""
    psnr: dict[str, float] = {}
    for sigma in VALIDATION_SIGMAS:
        values = []
        for index, picture in enumerate(pictures):
            height, width = (min(side, limit) for side in picture.shape[-2:])
            top, left = (picture.shape[-2] - height) // 2, (picture.shape[-1] - width) // 2
            x = picture[None, :, top : top + height, left : left + width].to(device).float() / 255
            noise = sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(index)).to(device)
            with runtime.autocast(device):
                error = net(x + noise) - noise
            values.append(-10 * math.log10(error.square().mean().item()))
        psnr[f"{sigma:g}"] = round(sum(values) / len(values), 3)
    return psnr


def train(
    recipe: Recipe,
    data: Path,
    state_file: Path,
    *,
    source: Denoiser | None = None,
    compiled: bool = False,
    save_every: float = 120.0,
    validate_every: int = 500,
) -> Iterator[Progress]:
    """Train a denoiser, yielding after every step; stop iterating to pause, call again to go on.

    Parameters
    ----------
    recipe : what to train.
    data : folder of photographs, or of MNIST's idx files.
    state_file : network, averaged network and optimiser are kept here every `save_every` seconds and at the end; a run
        whose state file exists goes on from it.
    source : start from this network instead of random weights.
    compiled : let `torch.compile` fuse what lies between the convolutions (needs a C++ compiler; twice as fast for
        BF-CNN).

    Raises
    ------
    ValueError : the state file belongs to another recipe, or the data cannot be used.
    """
    device = runtime.default_device()
    torch.set_flush_denormal(True)  # averages of gradients that have vanished: arithmetic with them is slow on a CPU
    pictures, validation, augment = load_training_set(data, recipe.channels)
    crops = Crops(pictures, min(recipe.crop, *pictures[0].shape[-2:]), augment, recipe.seed, device)
    torch.manual_seed(recipe.seed)
    net = recipe.build()
    if source is not None:
        y, _, _ = noisy_batch(crops, recipe, 0)
        warm_start(net, source, y.cpu())
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device).eval()
    average.load_state_dict(net.state_dict())
    optimizers = build_optimizers(recipe.optimizer, net)
    networks = {"net": net, "average": average}
    first, seconds = load_state(state_file, recipe, networks, optimizers)
    forward = torch.compile(net) if compiled else net

    if first == recipe.steps:
        yield Progress(first, recipe.steps, math.nan, seconds, validate(average, validation, device))
    started, saved = time.monotonic() - seconds, seconds
    for step in range(first, recipe.steps):
        net.train()
        y, noise, sigma = noisy_batch(crops, recipe, step)
        with runtime.autocast(device):
            error = forward(y) - noise
        loss = (error.square().mean((1, 2, 3)) / (sigma.flatten() + 0.02)).mean()
        net.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        update(optimizers, learning_rate(step, recipe))
        update_average(average, net, min(recipe.ema, (step + 1) / (step + 10)))

        seconds = time.monotonic() - started
        last = step + 1 == recipe.steps
        measured = last or (step + 1) % validate_every == 0
        if measured:
            calibrate(average, crops, recipe)
        if last or seconds - saved > save_every:
            save_state(state_file, recipe, step + 1, seconds, networks, optimizers)
            saved = seconds
        psnr = validate(average, validation, device) if measured else None
        yield Progress(step + 1, recipe.steps, loss.item(), seconds, psnr)


@torch.no_grad()
def calibrate(average: Denoiser, crops: Crops, recipe: Recipe, batches: int = 30) -> None:
    """Measure BF-CNN's standard deviations afresh for averaged weights.

    An average of weights responds less than the weights it averages, so an average of their deviations is too large, by
    a factor that compounds over the layers.
    """
    if not isinstance(average, BFCNN) or average.folded:
        return
    average.train()
    for step in range(batches):
        y, _, _ = noisy_batch(crops, recipe, step)
        with runtime.autocast(y.device):
            average(y)
    average.eval()


def trained_network(state_file: Path) -> tuple[Denoiser, float]:
    """The averaged network of a run, ready to ship (BF-CNN folded), and the seconds that the run took."""
    recipe, weights, seconds = read_average(state_file)
    net = Recipe(**recipe).build()
    net.load_state_dict(weights)
    net.eval()
    return net.fold() if isinstance(net, BFCNN) else net, seconds
