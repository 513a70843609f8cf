"""The recipe for a blind denoiser, to be read from top to bottom: crops plus Gaussian noise of every level."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invlib import runtime
from invlib.priors.denoisers import ARCHITECTURES, BFCNN, Denoiser, ResidualBlock
from invlib.training.data import Crops, load_training_set
from invlib.training.run import Optimisation, Progress, Training, begin

VALIDATION_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4)


@dataclass(frozen=True)
class Recipe(Optimisation):
    """Everything that a run depends on besides the pictures.

    The squared error of a crop is divided by σ + 0.02: the noisiest crops would dominate a plain mean, and the cleanest
    crops would dominate if it were divided by σ². Muon needs less than half the steps of AdamW on BF-CNN (see
    training/README.md).

    Attributes
    ----------
    architecture, channels : name in `denoisers.ARCHITECTURES`, and channels of the images.
    blocks : residual blocks of a U-Net at each scale, finest first; None for two.
    crop : side of the square crops, in pixels.
    sigma_min, uniform : the share `uniform` of the noise levels is uniform on [0, 1], and the rest is log-uniform from
        `sigma_min` to 1, so that training sees low levels, where pictures become sharp, as often as high ones.
    folded : train BF-CNN without its scales, at the end of a run. Standard deviations differ from batch to batch, and
        with the scales this limits how small the error can become.
    """

    architecture: str = "BFUNet"
    channels: int = 3
    blocks: tuple[int, ...] | None = None
    crop: int = 64
    sigma_min: float = 0.005
    uniform: float = 0.5
    folded: bool = False

    def build(self) -> Denoiser:
        """The network with random weights. ValueError if `blocks` or `folded` do not apply to the architecture."""
        if self.folded and self.architecture != "BFCNN":
            raise ValueError(f"only BFCNN has scales that can be folded: leave folded out for {self.architecture}")
        if self.blocks and self.architecture != "BFUNet":
            raise ValueError(f"only BFUNet has blocks at each scale: leave them out for {self.architecture}")
        choices = {name: value for name in ("blocks", "folded") if (value := getattr(self, name))}
        return ARCHITECTURES[self.architecture](self.channels, **choices)


def draw_sigmas(count: int, sigma_min: float, uniform: float, generator: torch.Generator) -> Tensor:
    """Draw noise levels (count, 1, 1, 1), of which the share `uniform` is uniform and the rest log-uniform."""
    fraction, exponent = torch.rand(2, count, generator=generator, device=generator.device)
    first = torch.arange(count, device=generator.device) < uniform * count
    return torch.where(first, fraction, sigma_min**exponent).view(-1, 1, 1, 1)


def noisy_batch(crops: Crops, recipe: Recipe, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The noisy crops of a step and their noise, both (batch, C, H, W), and the noise levels (batch, 1, 1, 1)."""
    x = crops.batch(step, recipe.batch)
    generator = recipe.random(step, x.device)
    sigma = draw_sigmas(recipe.batch, recipe.sigma_min, recipe.uniform, generator)
    noise = sigma * torch.randn(x.shape, generator=generator, device=x.device)
    return (x + noise).contiguous(memory_format=torch.channels_last), noise, sigma


def warm_start(net: Denoiser, source: Denoiser, y: Tensor) -> None:
    """Copy the weights of another network of the same architecture, also from colour to grey or from grey to colour.

    From colour to grey, the first layer is summed and the last layer averaged over the colours, because a grey picture
    is a colour picture with equal channels. From grey to colour, each colour gets an equal share. Residual blocks of a
    U-Net that `source` does not have start as the identity. If only `source` is folded, the scales of `net` are set on
    the noisy crops `y` so that training starts with the same function. ValueError is raised if `source` has layers that
    `net` does not have.
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
    """A kernel with `target` colours in dimension `dim`, each of which is the average over the `source` colours."""
    grey = kernel.unflatten(dim, (source, -1)).mean(dim, keepdim=True)
    return torch.cat([grey] * target, dim).flatten(dim, dim + 1)


@torch.inference_mode()
def validate(net: Denoiser, pictures: list[Tensor], device: torch.device, limit: int = 256) -> dict[str, Any]:
    """Mean PSNR in dB by noise level, over all channels, on the middle of each picture. The noise is not clipped."""
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
    return {"validation_psnr": psnr}


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
    """Train a denoiser and yield after every step. Stop iterating to pause, and call again to go on.

    Parameters
    ----------
    recipe : what to train.
    data : folder of photographs, or of MNIST's idx files.
    state_file, save_every : everything is saved in this file every `save_every` seconds and at the end. A run whose
        state file exists goes on from it.
    source : start from the weights of this network instead of random ones.
    compiled : let `torch.compile` fuse the operations between the convolutions. It needs a C++ compiler, and makes
        BF-CNN more than twice as fast.
    validate_every : number of steps between measurements of the PSNR.

    Raises
    ------
    ValueError : if the state file belongs to another recipe, or the data cannot be used.
    """
    device = begin(recipe)
    pictures, validation, augment = load_training_set(data, recipe.channels)
    crops = Crops(pictures, min(recipe.crop, *pictures[0].shape[-2:]), augment, recipe.seed, device)
    net = recipe.build()
    if source is not None:
        warm_start(net, source, noisy_batch(crops, recipe, 0)[0].cpu())
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device).eval()
    training = Training(recipe, state_file, save_every, net, average)
    forward = torch.compile(net) if compiled else net

    if training.done == recipe.steps:
        yield training.progress({}, validate(average, validation, device))
    for step in range(training.done, recipe.steps):
        y, noise, sigma = noisy_batch(crops, recipe, step)
        with runtime.autocast(device):
            error = forward(y) - noise
        loss = (error.square().mean((1, 2, 3)) / (sigma.flatten() + 0.02)).mean()
        changed = training.descend(loss, clip=1.0)
        quality = None
        if training.measures(validate_every):
            calibrate(average, crops, recipe)
            quality = validate(average, validation, device)
        yield training.finish({"loss": loss.item()}, changed, quality)


@torch.no_grad()
def calibrate(average: Denoiser, crops: Crops, recipe: Recipe, batches: int = 30) -> None:
    """Measure the standard deviations of BF-CNN afresh for averaged weights.

    A network with averaged weights responds less than the networks it averages, so the average of their standard
    deviations is too large, by a factor that compounds over the layers.
    """
    if isinstance(average, BFCNN) and not average.folded:
        average.train()
        for step in range(batches):
            y, _, _ = noisy_batch(crops, recipe, step)
            with runtime.autocast(y.device):
                average(y)
        average.eval()
