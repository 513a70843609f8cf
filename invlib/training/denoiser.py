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
from invlib.problems.operators import BlockAverage, Blur, LinearOperator, LowPass, gaussian_kernel
from invlib.training import processes
from invlib.training.data import Crops, load_training_set
from invlib.training.measurements import POOL, pooled_operator
from invlib.training.run import Optimisation, Progress, Training, begin
from invlib.training.strokes import scribble_over

VALIDATION_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4)

GROUP = 4
"""How many crops share a measurement."""

EXACT = 0.75
"""The share of the measurements that have no noise."""

ALONE = 0.75
"""The share of the crops of which a network that is told the measurements sees nothing else."""

GREY = 0.125
"""The share of the groups whose colour crops are made grey, so that a network that is told serves grey pictures too."""


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
    reduced : take crops from reduced photographs as well, which are sharper and have no traces of compression.
    sigma_min, sigma_max, uniform : the share `uniform` of the noise levels is uniform on [0, `sigma_max`], and the rest
        is log-uniform from `sigma_min` to `sigma_max`, so that training sees low levels, where pictures become sharp,
        as often as high ones. Samples of a prior alone start from noise that drowns everything, for which 1 is too low.
    told : tell the network what was measured: each group of four crops has a random measurement of its own. Of the
        share `ALONE` of the crops it sees the measurements alone.
    strokes : the noise is what strokes of a pen add to a picture, instead of white noise.
    folded : train BF-CNN without its scales, at the end of a run. Standard deviations differ from batch to batch, and
        with the scales this limits how small the error can become.
    """

    architecture: str = "BFUNet"
    channels: int = 3
    blocks: tuple[int, ...] | None = None
    width: tuple[int, ...] | None = None
    crop: int = 64
    reduced: bool = False
    sigma_min: float = 0.005
    sigma_max: float = 1.0
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


def draw_sigmas(
    count: int, sigma_min: float, uniform: float, generator: torch.Generator, sigma_max: float = 1.0
) -> Tensor:
    """Draw noise levels (count, 1, 1, 1), of which the share `uniform` is uniform and the rest log-uniform."""
    fraction, exponent = torch.rand(2, count, generator=generator, device=generator.device)
    first = torch.arange(count, device=generator.device) < uniform * count
    logarithmic = sigma_max * (sigma_min / sigma_max) ** exponent
    return torch.where(first, sigma_max * fraction, logarithmic).view(-1, 1, 1, 1)


class Noisy(NamedTuple):
    """Noisy crops and what the loss needs to know of them.

    Attributes
    ----------
    y, noise : crops plus noise, and that noise: (n, C, H, W).
    weight : what the squared error of each crop is multiplied by: (n,).
    measured, sigma : the measured part of the crops and the noise level (n,) in the rest of them, for a network that is
        told them; None for others.
    exact : the measurement of each group of `GROUP` crops, if it has no noise, else None; empty if no group has one.
    """

    y: Tensor
    noise: Tensor
    weight: Tensor
    measured: Tensor | None = None
    sigma: Tensor | None = None
    exact: tuple[LinearOperator | None, ...] = ()

    def share(self) -> Noisy:
        """The part that this process works on, in whole groups."""
        return Noisy(*map(processes.share, self))

    def loss(self, net: Callable[..., Tensor]) -> Tensor:
        """The mean of the weighted squared errors of the network's noise estimate."""
        with runtime.autocast(self.y.device):
            estimate = net(self.y) if self.measured is None else net(self.y, self.measured, self.sigma)
        error = estimate - self.noise
        # What was measured exactly is put in place of the estimate, so errors there do not count.
        if self.exact:
            groups = zip(self.exact, error.split(GROUP), strict=True)
            error = torch.cat([e if operator is None else e - operator.project(e) for operator, e in groups])
        return (self.weight * error.square().mean((1, 2, 3))).mean()


def noisy_batch(crops: Crops, recipe: Recipe, step: int) -> Noisy:
    """The noisy crops of a step."""
    x = crops.batch(step, recipe.batch)
    generator = recipe.random(step, x.device)
    if recipe.strokes:
        return scribbled(x, recipe, step, generator)
    sigma = draw_sigmas(recipe.batch, recipe.sigma_min, recipe.uniform, generator, recipe.sigma_max)
    if not recipe.told:
        white = sigma * torch.randn(x.shape, generator=generator, device=x.device)
        # However much noise there is, an error is no larger than the picture.
        return Noisy(channels_last(x + white), white, 1 / (sigma.flatten().clamp_max(1) + 0.02))
    # One half of the levels is uniform and the other log-uniform, so they are shuffled before crops become groups.
    sigma = sigma[torch.randperm(len(sigma), generator=generator, device=x.device)]
    random = np.random.default_rng((recipe.seed, step, 1))
    groups = []
    for clean, levels in zip(x.split(GROUP), sigma.split(GROUP), strict=True):
        shape, number = (x.shape[1], x.shape[2], x.shape[3]), int(random.integers(POOL))
        grey = random.random() < GREY
        if grey:
            clean = clean.mean(1, keepdim=True).expand_as(clean)
        operator = pooled_operator(shape, recipe.seed, number, x.device)
        level = None if random.random() < EXACT else 0.005 * 40 ** random.random()
        if operator is not None:
            alone = torch.rand(levels.shape, generator=generator, device=x.device) < ALONE
            levels = levels.masked_fill(alone, math.inf)
        groups.append(told_noise(clean, levels, operator, level, generator, grey))
    return side_by_side(groups)


def scribbled(x: Tensor, recipe: Recipe, step: int, generator: torch.Generator) -> Noisy:
    """Crops under strokes. Faint white noise is on them as well, which the network leaves as it is."""
    added = scribble_over(x, np.random.default_rng((recipe.seed, step, 2)))
    faint = 0.03 * torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
    y = x + added + faint * torch.randn(x.shape, generator=generator, device=x.device)
    strength = added.square().mean((1, 2, 3)).sqrt()
    return Noisy(channels_last(y), added, 1 / (strength + 0.02))


def told_noise(
    x: Tensor,
    sigma: Tensor,
    operator: LinearOperator | None,
    level: float | None,
    generator: torch.Generator,
    grey: bool = False,
) -> Noisy:
    """Crops (n, C, H, W) plus the noise that a measurement by `operator` leaves of white noise of the levels `sigma`.

    Where σ is infinite, nothing but the measurements is left of a crop. `level` is the level of the noise of the
    measurements, in the picture that they show, or None if they are exact. `grey` crops have the same noise in all
    channels. If a measurement has the level s, an iterate
    of level σ and the measurement together have noise of the level (1/σ² + 1/s²)^-½ in the measured part.
    """
    alone = sigma.isinf()
    white = sigma.masked_fill(alone, 0) * white_noise(x.shape, generator, grey)
    sigma = sigma.flatten()
    if operator is None:
        nothing, unknown = torch.zeros_like(x), torch.zeros_like(sigma)
        return Noisy(channels_last(x + white), white, 1 / (sigma + 0.02), nothing, unknown, (None,))
    detail = x - x.mean((2, 3), keepdim=True)
    known, shown, of_detail = operator.project(torch.cat([white, x, detail])).chunk(3)
    noise = torch.where(alone, shown - x, white - known)
    if level is not None:
        s = operator.noise_levels(level).to(x.device)
        own = white_noise((len(x), *operator.measurement_shape), generator, grey)
        both = (1 / sigma.view(-1, *[1] * (own.ndim - 1)).square() + 1 / s.square()).rsqrt()
        noise = noise + operator.adjoint(both * own)
    # However much noise there is, the error is bounded: of exact measurements by the detail that they leave out.
    missing = detail if level is not None else detail - of_detail
    bounded = torch.minimum(sigma, 4 * missing.square().mean().sqrt())
    y = channels_last(x + noise)
    exact = operator if level is None else None
    return Noisy(y, noise, 1 / (bounded + 0.02), operator.project(y), sigma, (exact,))


def white_noise(shape: tuple[int, ...], generator: torch.Generator, grey: bool) -> Tensor:
    """Standard normal noise, equal in all channels if it is `grey`."""
    noise = torch.randn(shape, generator=generator, device=generator.device)
    return noise[:, :1].expand(shape) if grey else noise


def side_by_side(groups: list[Noisy]) -> Noisy:
    """The crops of several groups, which are all told what was measured."""
    y, noise, weight, measured, sigma = (
        torch.cat(parts) for parts in zip(*(group[:5] for group in groups), strict=True)
    )
    return Noisy(channels_last(y), noise, weight, measured, sigma, tuple(group.exact[0] for group in groups))


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


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
        first, *_, last = (key for key in state if key.endswith("weight") and state[key].ndim == 4)
        levels = 4 if source.told else 0  # of the four pixels that a U-Net takes together
        pictures, level = state[first].split([state[first].shape[1] - levels, levels], 1)
        parts = [mix_colours(part, source.channels, net.channels, dim=1) for part in pictures.chunk(1 + source.told, 1)]
        state[first] = torch.cat([*(part * source.channels / net.channels for part in parts), level], 1)
        state[last] = mix_colours(state[last], source.channels, net.channels, dim=0)
    if net.told and not source.told:
        known = state["stem.weight"]
        ignored = known.new_zeros(len(known), 4 * (net.channels + 1), *known.shape[2:])
        state["stem.weight"] = torch.cat([known, ignored], 1)
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
    "blocks 8": lambda shape: BlockAverage(shape, 8),
    "low-pass 10 %": lambda shape: LowPass(shape, 0.1),
    "Gaussian blur": lambda shape: Blur(shape, gaussian_kernel(2.0)),
}
"""What is measured of the validation pictures."""

VALIDATION_LEVELS = (math.inf, 0.3, 0.1)
"""Of the noise in the rest."""


@torch.inference_mode()
def validate_told(
    net: Denoiser, pictures: list[Tensor], device: torch.device, side: int = 128
) -> dict[str, list[float]]:
    """Mean PSNR in dB of one estimate from the measurements alone, and with noise of σ 0.3 and 0.1 in the rest.

    It is taken over all channels, on the middle of each picture.
    """
    psnr: dict[str, list[float]] = {name: [] for name in MEASUREMENTS}
    for name, build in MEASUREMENTS.items():
        for sigma in VALIDATION_LEVELS:
            values = []
            for index, picture in enumerate(pictures):
                height, width = (min(side, length) // 8 * 8 for length in picture.shape[-2:])
                top, left = (picture.shape[-2] - height) // 2, (picture.shape[-1] - width) // 2
                x = picture[None, :, top : top + height, left : left + width].to(device).float() / 255
                operator = build((x.shape[1], height, width)).to(device)
                level, generator = torch.full((1, 1, 1, 1), sigma, device=device), torch.Generator(device)
                noisy = told_noise(x, level, operator, None, generator.manual_seed(index))
                with runtime.autocast(device):
                    error = net(noisy.y, noisy.measured, noisy.sigma) - noisy.noise
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
    minutes: float | None = None,
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
    minutes : end after this time in all, instead of a number of steps. The learning rate falls from start to end.

    Raises
    ------
    ValueError : if the state file belongs to another recipe, the data cannot be used, or the processes that torchrun
        started cannot share a batch evenly.
    """
    device = begin(recipe, GROUP if recipe.told else 1)
    pictures, validation, augment = load_training_set(data, recipe.channels, recipe.reduced)
    crops = Crops(pictures, min(recipe.crop, *pictures[0].shape[-2:]), augment, recipe.seed, device)
    net = recipe.build()
    if source is not None:
        warm_start(net, source, noisy_batch(crops, recipe, 0).y.cpu())
    net = net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = recipe.build().to(device).eval()
    training = Training(recipe, state_file, save_every, net, average, minutes=minutes)
    if isinstance(net, BFCNN) and processes.count() > 1:
        net.mean_over_processes = processes.mean
    forward = torch.compile(net) if compiled else net
    judge = validate_strokes if recipe.strokes else validate

    if training.done == training.recipe.steps:
        yield training.progress({}, judge(average, validation, device))
    while training.done < training.recipe.steps:
        loss = noisy_batch(crops, recipe, training.done).share().loss(forward)
        changed = training.descend(loss, clip=1.0)
        quality = None
        if training.measures(validate_every):
            calibrate(average, crops, recipe)
            quality = judge(average, validation, device)
        yield training.finish({"loss": loss}, changed, quality)


@torch.no_grad()
def calibrate(average: Denoiser, crops: Crops, recipe: Recipe, batches: int = 30) -> None:
    """Measure the standard deviations of BF-CNN afresh for averaged weights.

    A network with averaged weights responds less than the networks it averages, so the average of their standard
    deviations is too large, by a factor that compounds over the layers.
    """
    if isinstance(average, BFCNN) and not average.folded:
        average.train()
        for step in range(batches):
            y = noisy_batch(crops, recipe, step).y
            with runtime.autocast(y.device):
                average(y)
        average.eval()
