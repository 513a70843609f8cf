"""The recipe for a denoiser, to be read from top to bottom: crops plus Gaussian noise of every level.

A network that is told what was measured sees noise in the part of a crop that was not measured, by measurements that
are drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from invlib import runtime
from invlib.priors.denoisers import ARCHITECTURES, BFCNN, Denoiser, ResidualBlock
from invlib.problems.operators import BlockAverage, LinearOperator, LowPass, Mask, StructuredRows
from invlib.training.data import Crops, load_training_set
from invlib.training.measurements import draw_operator
from invlib.training.run import Optimisation, Progress, Training, begin
from invlib.training.strokes import scribble_over

VALIDATION_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4)

GROUP = 4
"""How many crops share a measurement."""


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
    width : channels of a U-Net at each scale, finest first; None for 64, 128 and 256.
    crop : side of the square crops, in pixels.
    sigma_min, uniform : the share `uniform` of the noise levels is uniform on [0, 1], and the rest is log-uniform from
        `sigma_min` to 1, so that training sees low levels, where pictures become sharp, as often as high ones.
    told : tell the network what was measured: each group of four crops has a random measurement of its own.
    strokes : the noise is what strokes of a pen add to a picture, instead of white noise.
    folded : train BF-CNN without its scales, at the end of a run. Standard deviations differ from batch to batch, and
        with the scales this limits how small the error can become.
    """

    architecture: str = "BFUNet"
    channels: int = 3
    blocks: tuple[int, ...] | None = None
    width: tuple[int, ...] | None = None
    crop: int = 64
    sigma_min: float = 0.005
    uniform: float = 0.5
    told: bool = False
    strokes: bool = False
    folded: bool = False

    def build(self) -> Denoiser:
        """The network with random weights. ValueError if `blocks` or `folded` do not apply to the architecture."""
        if self.folded and self.architecture != "BFCNN":
            raise ValueError(f"only BFCNN has scales that can be folded: leave folded out for {self.architecture}")
        if (self.blocks or self.width or self.told) and self.architecture != "BFUNet":
            raise ValueError(f"blocks, width and told apply to BFUNet only: leave them out for {self.architecture}")
        choices = {name: value for name in ("blocks", "width", "told", "folded") if (value := getattr(self, name))}
        return ARCHITECTURES[self.architecture](self.channels, **choices)


def draw_sigmas(count: int, sigma_min: float, uniform: float, generator: torch.Generator) -> Tensor:
    """Draw noise levels (count, 1, 1, 1), of which the share `uniform` is uniform and the rest log-uniform."""
    fraction, exponent = torch.rand(2, count, generator=generator, device=generator.device)
    first = torch.arange(count, device=generator.device) < uniform * count
    return torch.where(first, fraction, sigma_min**exponent).view(-1, 1, 1, 1)


class Noisy(NamedTuple):
    """Noisy crops `y` (n, C, H, W), their `noise`, and its level `sigma` (n,) in what was not measured.

    Crops of a group share the `operator`, if something was measured; `exact` (n,) says of which crops without noise.
    `unknown` is the root mean square of what was not measured, besides the mean colour.
    """

    y: Tensor
    noise: Tensor
    sigma: Tensor
    operator: LinearOperator | None
    exact: Tensor
    unknown: float = 1.0

    def loss(self, net: Callable[..., Tensor]) -> Tensor:
        """The squared error of the network's noise estimate, weighted by the level: (n,)."""
        measured = () if self.operator is None else (self.operator.project(self.y),)
        with runtime.autocast(self.y.device):
            error = net(self.y, *measured) - self.noise
        if self.operator is None:
            return error.square().mean((1, 2, 3)) / (self.sigma + 0.02)
        # What was measured exactly is put in place of the estimate, so errors there do not count.
        error = torch.where(self.exact.view(-1, 1, 1, 1), error - self.operator.project(error), error)
        # However much noise there is, exact measurements bound the error.
        bound = torch.where(self.exact, min(1.0, 4 * self.unknown), 1.0)
        return error.square().mean((1, 2, 3)) / (torch.minimum(self.sigma, bound) + 0.02)


def noisy_batch(crops: Crops, recipe: Recipe, step: int) -> list[Noisy]:
    """The noisy crops of a step, in groups that share what was measured."""
    x = crops.batch(step, recipe.batch)
    generator = recipe.random(step, x.device)
    if recipe.strokes:
        return [scribbled(x, recipe, step, generator)]
    sigma = draw_sigmas(recipe.batch, recipe.sigma_min, recipe.uniform, generator)
    white = sigma * torch.randn(x.shape, generator=generator, device=x.device)
    if not recipe.told:
        return [without_measurements(x, white, sigma)]
    random = np.random.default_rng((recipe.seed, step, 1))
    # One half of the levels is uniform and the other log-uniform, so groups take every so many crops.
    groups = [torch.arange(first, len(x), -(-len(x) // GROUP)) for first in range(-(-len(x) // GROUP))]
    return [told_noise(x[group], white[group], sigma[group], random, generator) for group in groups]


def scribbled(x: Tensor, recipe: Recipe, step: int, generator: torch.Generator) -> Noisy:
    """Crops under strokes. Faint white noise is on them as well, which the network leaves as it is."""
    added = scribble_over(x, np.random.default_rng((recipe.seed, step, 2)))
    faint = 0.03 * torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
    y = x + added + faint * torch.randn(x.shape, generator=generator, device=x.device)
    strength = added.square().mean((1, 2, 3)).sqrt()
    exact = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    return Noisy(y.contiguous(memory_format=torch.channels_last), added, strength, None, exact)


def without_measurements(x: Tensor, white: Tensor, sigma: Tensor) -> Noisy:
    """Crops plus white noise."""
    y = (x + white).contiguous(memory_format=torch.channels_last)
    return Noisy(y, white, sigma.flatten(), None, torch.zeros(len(x), dtype=torch.bool, device=x.device))


def told_noise(
    x: Tensor, white: Tensor, sigma: Tensor, random: np.random.Generator, generator: torch.Generator
) -> Noisy:
    """Crops plus noise in the part that a random measurement leaves open.

    For a third of the crops the measurements have noise of their own. If its level is s, an iterate of level σ and the
    measurements together have noise of the level (1/σ² + 1/s²)^-½ in the measured part.
    """
    operator = draw_operator((x.shape[1], x.shape[2], x.shape[3]), random)
    if operator is None:
        return without_measurements(x, white, sigma)
    operator, sigma = operator.to(x.device), sigma.flatten()
    exact, level = torch.rand(2, len(x), generator=generator, device=x.device)
    exact = exact < 0.67
    noise = white - operator.project(white)
    for index in (~exact).nonzero().flatten().tolist():
        s = operator.noise_levels(0.005 * 40 ** level[index].item()).to(x.device)
        own = torch.randn(1, *operator.measurement_shape, generator=generator, device=x.device)
        noise[index] += operator.adjoint((1 / sigma[index].square() + 1 / s.square()).rsqrt() * own)[0]
    y, detail = (x + noise).contiguous(memory_format=torch.channels_last), x - x.mean((2, 3), keepdim=True)
    unknown = (detail - operator.project(detail)).square().mean().sqrt().item()
    return Noisy(y, noise, sigma, operator, exact, unknown)


def warm_start(net: Denoiser, source: Denoiser, y: Tensor) -> None:
    """Copy the weights of another network of the same architecture, also from colour to grey or from grey to colour.

    From colour to grey, the first layer is summed and the last layer averaged over the colours, because a grey picture
    is a colour picture with equal channels. From grey to colour, each colour gets an equal share. Residual blocks of a
    U-Net that `source` does not have start as the identity. If only `net` is told what was measured, it starts by
    ignoring it. If only `source` is folded, the scales of `net` are set on
    the noisy crops `y` so that training starts with the same function. ValueError is raised if `source` has layers that
    `net` does not have.
    """
    state = source.state_dict()
    if net.channels != source.channels:
        first, last = (key for key in state if state[key].shape != net.state_dict()[key].shape)
        parts = state[first].chunk(2 if source.told else 1, 1)
        mixed = torch.cat([mix_colours(part, source.channels, net.channels, dim=1) for part in parts], 1)
        state[first] = mixed * source.channels / net.channels
        state[last] = mix_colours(state[last], source.channels, net.channels, dim=0)
    if net.told and not source.told:
        state["stem.weight"] = torch.cat([state["stem.weight"], torch.zeros_like(state["stem.weight"])], 1)
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
    quality: dict[str, Any] = {"validation_psnr": psnr}
    return quality | {"validation_told": validate_told(net, pictures, device)} if net.told else quality


@torch.inference_mode()
def validate_strokes(net: Denoiser, pictures: list[Tensor], device: torch.device, side: int = 128) -> dict[str, Any]:
    """Mean PSNR in dB of the middle of each picture under strokes, and of what is left when they are taken off."""
    before, after = [], []
    for index, picture in enumerate(pictures):
        top, left = ((length - min(side, length)) // 2 for length in picture.shape[-2:])
        x = picture[None, :, top : top + side, left : left + side].to(device).float() / 255
        added = scribble_over(x, np.random.default_rng(index))
        with runtime.autocast(device):
            error = net(x + added) - added
        before.append(-10 * math.log10(max(added.square().mean().item(), 1e-6)))
        after.append(-10 * math.log10(max(error.square().mean().item(), 1e-6)))
    return {"validation_strokes": [round(sum(each) / len(each), 3) for each in (before, after)]}


MEASUREMENTS = {
    "blocks 4": lambda shape: BlockAverage(shape, 4),
    "low-pass 10 %": lambda shape: LowPass(shape, 0.1),
    "pixels 10 %": lambda shape: Mask.random_pixels(shape, 0.1),
    "rows 10 %": lambda shape: StructuredRows(shape, 0.1),
    "hole": lambda shape: Mask.block(shape, (shape[1] // 4, shape[2] // 4, shape[1] // 2, shape[2] // 2)),
}
"""What is measured of the validation pictures."""


@torch.inference_mode()
def validate_told(
    net: Denoiser, pictures: list[Tensor], device: torch.device, side: int = 128
) -> dict[str, list[float]]:
    """Mean PSNR in dB of one estimate by what was measured, with an iterate of σ 1, 0.3 and 0.1.

    It is taken over all channels, on the middle of each picture.
    """
    psnr: dict[str, list[float]] = {name: [] for name in MEASUREMENTS}
    for name, build in MEASUREMENTS.items():
        for sigma in (1.0, 0.3, 0.1):
            values = []
            for index, picture in enumerate(pictures):
                height, width = (min(side, length) // 8 * 8 for length in picture.shape[-2:])
                top, left = (picture.shape[-2] - height) // 2, (picture.shape[-1] - width) // 2
                x = picture[None, :, top : top + height, left : left + width].to(device).float() / 255
                operator = build((x.shape[1], height, width)).to(device)
                white = torch.randn(x.shape, generator=torch.Generator().manual_seed(index)).to(device)
                noise = sigma * (white - operator.project(white))
                with runtime.autocast(device):
                    error = net(x + noise, operator.project(x)) - noise
                error = error - operator.project(error)
                values.append(-10 * math.log10(max(error.square().mean().item(), 1e-12)))
            psnr[name].append(round(sum(values) / len(values), 3))
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
    """Train a denoiser and yield after every step. Stop iterating to pause, and call again to go on.

    Parameters
    ----------
    recipe : what to train.
    data : folder of photographs, or of MNIST's idx files, or zip file of CelebA's aligned faces.
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
        warm_start(net, source, noisy_batch(crops, recipe, 0)[0].y.cpu())
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device).eval()
    training = Training(recipe, state_file, save_every, net, average)
    forward = torch.compile(net) if compiled else net
    judge = validate_strokes if recipe.strokes else validate

    if training.done == recipe.steps:
        yield training.progress({}, judge(average, validation, device))
    for step in range(training.done, recipe.steps):
        loss = torch.cat([noisy.loss(forward) for noisy in noisy_batch(crops, recipe, step)]).mean()
        changed = training.descend(loss, clip=1.0)
        quality = None
        if training.measures(validate_every):
            calibrate(average, crops, recipe)
            quality = judge(average, validation, device)
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
            (noisy,) = noisy_batch(crops, recipe, step)
            with runtime.autocast(noisy.y.device):
                average(noisy.y)
        average.eval()
