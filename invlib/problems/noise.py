"""Describe the noise in measurements by its density.

Any density that can be evaluated will do, as in Whang, Lei & Dimakis (2021), "Solving Inverse Problems with a
Flow-based Noise Model", https://arxiv.org/abs/2003.08089: independent Gaussians whose strength varies from row to row,
or digits whose density is a normalizing flow. Log-densities are in nats and summed over the entries of a measurement.
A noise model is a module, so `.to(device)` moves its tensors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib.checks import check_seed, check_shape
from invlib.priors.flows import Flow, standard_normal
from invlib.runtime import own_defaults


class NoiseModel(nn.Module, ABC):
    """A density of the noise δ in measurements y = f(x) + δ."""

    @abstractmethod
    def log_prob(self, delta: Tensor, floor: float = 0.0) -> Tensor:
        """Return the log-density of noise in nats, (batch,).

        Parameters
        ----------
        delta : the noise, (batch, *measurement shape).
        floor : standard deviation of white noise that is taken to be added, which widens the density. A descent that
            lowers it step by step meets a smooth objective first.
        """

    @abstractmethod
    def sample(self, count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
        """Draw noise for `count` measurements of `shape`: (count, *shape).

        Each draw has its own stream of random numbers, so draw 3 of 8 equals draw 3 of 4.
        """


class Gaussian(NoiseModel):
    """Independent Gaussian noise with a standard deviation and a mean for every entry.

    Both broadcast to the shape of a measurement. ValueError unless `std` is positive and finite.

    >>> Gaussian(1.0).log_prob(torch.zeros(2, 1, 4, 4))
    tensor([-14.7030, -14.7030])
    >>> Gaussian(torch.tensor([0.1, 0.2])).sample(3, (5, 2)).shape
    torch.Size([3, 5, 2])
    """

    std: Tensor
    mean: Tensor

    @own_defaults
    def __init__(self, std: Tensor | float, mean: Tensor | float = 0.0) -> None:
        super().__init__()
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32))
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        if not bool(((self.std > 0) & self.std.isfinite()).all()):
            raise ValueError("std must be positive and finite in every entry")

    def log_prob(self, delta: Tensor, floor: float = 0.0) -> Tensor:
        return self.entries(delta, floor).flatten(1).sum(1)

    def entries(self, delta: Tensor, floor: float = 0.0) -> Tensor:
        """Return the log-density of every entry of `delta`, in its shape."""
        try:
            variance = self.std.expand(delta.shape[1:]).square() + floor**2
        except RuntimeError as error:
            given, expected = tuple(delta.shape[1:]), tuple(self.std.shape)
            raise ValueError(f"the noise has shape {given} and its model {expected}: build it for {given}") from error
        return -0.5 * ((delta - self.mean).square() / variance + (2 * math.pi * variance).log())

    def sample(self, count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
        white = standard_normal(count, math.prod(shape), seed).to(self.std.device)
        return self.mean + self.std * white.unflatten(1, tuple(shape))


Profile = Literal["appendix", "text"]


@own_defaults
def sinusoidal(shape: Sequence[int], c: float = 0.1, profile: Profile = "appendix", mean: float = 0.0) -> Gaussian:
    """Make Gaussian noise whose strength rises and falls over 16 rows of an image, or 16 entries of a vector.

    The paper (see the module) gives two formulas for the standard deviation of row k = 0, 1, ...:
    `c·(exp(sin(2πk / 16)) - 1) / (e - 1)` in its appendix, which leaves half of the rows at the least value, and
    `c·exp(sin(2πk / 16)) / e` in its text. Both are clamped to [0.001, 1] here.

    Parameters
    ----------
    shape : shape of a measurement, (C, H, W) or (m,).
    c : the largest standard deviation, which is 1 in the paper's text.
    profile : "appendix" or "text"; ValueError otherwise.
    mean : mean of the noise, which the paper's text says is positive, without a value.

    Examples
    --------
    >>> sinusoidal((3, 64, 64), c=0.1).std[:6, 0]
    tensor([0.0010, 0.0271, 0.0598, 0.0884, 0.1000, 0.0884])
    """
    rows = shape[0] if len(shape) == 1 else shape[-2]
    wave = torch.sin(2 * math.pi * torch.arange(rows) / 16).exp()
    if profile not in ("appendix", "text"):
        raise ValueError(f"unknown profile {profile!r}; choose appendix or text")
    std = (c * (wave - 1) / (math.e - 1) if profile == "appendix" else c * wave / math.e).clamp(0.001, 1)
    return Gaussian(std if len(shape) == 1 else std[:, None], mean)


@own_defaults
def radial(shape: Sequence[int], c: float = 0.1, centre: tuple[float, float] | None = None) -> Gaussian:
    """Make Gaussian noise that fades with the distance d in pixels from a centre, for images of shape (C, H, W).

    The standard deviation is `c·exp(-0.005 d²)`, clamped to [0.001, 1000] (appendix B.1 of the paper, see the module).
    `centre` is a row and a column, from 0. None is the middle: (31, 31) of 64×64 pixels, as in the paper.

    >>> radial((3, 64, 64), c=0.1).std[31, 31:42:5]
    tensor([0.1000, 0.0882, 0.0607])
    """
    _, height, width = check_shape(shape)
    row, column = ((height - 1) // 2, (width - 1) // 2) if centre is None else centre
    distance2 = (torch.arange(height) - row)[:, None] ** 2 + (torch.arange(width) - column) ** 2
    return Gaussian((c * torch.exp(-0.005 * distance2)).clamp(0.001, 1000))


@own_defaults
def scribbled(strokes: Tensor, std: float = 0.01, spread: float = 1.0) -> Gaussian:
    """Make the noise model of strokes of a pen over a picture, at known places and of unknown colour.

    Under a stroke δ is the pen's colour minus the picture's, between -1 and 1. A Gaussian that wide says nearly
    nothing, so the prior fills in what the strokes hide, whatever their colour. A density learned from strokes would
    know their shapes, but those are given exactly.

    `strokes` is bool, True where the pen was, of any shape that broadcasts to the image's. `spread` is the standard
    deviation under a stroke, and `std` elsewhere.

    >>> scribbled(torch.tensor([[False, True, True]])).std
    tensor([[0.0100, 1.0000, 1.0000]])
    """
    return Gaussian(torch.where(strokes, spread, std))


class Place(NamedTuple):
    """Where a digit lies: its channel, and the row and column of its top left corner."""

    channel: int
    top: int
    left: int


class PastedDigits(NoiseModel):
    """Digits at known places, whose density is a flow, and white noise elsewhere.

    The log-density is the sum of the flow's at the places and the Gaussian's elsewhere.

    Parameters
    ----------
    flow : density of one digit, (1, height, width) in [0, 1]. It has no logit, because a descent leaves [0, 1]. It is
        trained on digits with white noise of `FINEST`, because the density of clean digits is too sharp to descend.
    places : one for each digit; ValueError if there is none, one is outside the image, or two overlap.
    image_shape : (C, H, W) of the images under the digits.
    std : standard deviation of the noise elsewhere.

    Examples
    --------
    >>> from invlib.priors.flows import RealNVP
    >>> digit = RealNVP((1, 28, 28), (2,), 1)
    >>> noise = PastedDigits(digit, scatter((3, 64, 64), 2), (3, 64, 64))
    >>> noise.sample(4, (3, 64, 64)).shape
    torch.Size([4, 3, 64, 64])
    """

    FINEST = 0.01
    """Standard deviation of the white noise on the digits that the flow is trained on."""

    elsewhere: Tensor

    @own_defaults
    def __init__(self, flow: Flow, places: Sequence[Place], image_shape: Sequence[int], std: float = 0.01) -> None:
        super().__init__()
        self.flow, self.places, self.image_shape = flow, tuple(places), check_shape(image_shape)
        self.background = Gaussian(std)
        _, self.height, self.width = flow.image_shape
        elsewhere = torch.ones(self.image_shape, dtype=torch.bool)
        if not self.places:
            raise ValueError("places must have at least one place of a digit")
        for place in self.places:
            patch = elsewhere[self._window(place)] if 0 <= place.channel < len(elsewhere) else elsewhere
            if min(place) < 0 or patch.shape != (self.height, self.width) or not bool(patch.all()):
                raise ValueError(
                    f"places must lie inside the {self.image_shape} image without overlap, and {tuple(place)} does not"
                )
            patch.fill_(False)
        self.register_buffer("elsewhere", elsewhere)

    def log_prob(self, delta: Tensor, floor: float = 0.0) -> Tensor:
        """Return the log-density of noise (batch, C, H, W) in nats, (batch,); with a floor it is not normalised.

        A flow has no closed form for added noise. So the floor raises the flow's density to a power below 1, the one
        that widens a Gaussian of standard deviation `FINEST` as much as the noise would. Without it the descent stops
        where the flow's density is steep.
        """
        digits = torch.stack([delta[:, *self._window(place)] for place in self.places], 1)
        known = self.flow.log_prob(digits.flatten(0, 1)[:, None]).view(len(delta), -1).sum(1)
        rest = self.background.entries(delta, floor).where(self.elsewhere, 0).flatten(1).sum(1)
        return known / (1 + (floor / self.FINEST) ** 2) + rest

    def sample(self, count: int, shape: Sequence[int], seed: int = 0) -> Tensor:
        """Draw noise, (count, *shape), with digits clipped to [0, 1]. ValueError unless `shape` is the model's."""
        if tuple(shape) != self.image_shape:
            raise ValueError(f"shape must be {self.image_shape}, for which the places were given, got {tuple(shape)}")
        delta = self.background.sample(count, shape, seed)
        digits = self.flow.sample(count * len(self.places), seed).clamp(0, 1).view(count, -1, self.height, self.width)
        for index, place in enumerate(self.places):
            delta[:, *self._window(place)] = digits[:, index]
        return delta

    def _window(self, place: Place) -> tuple[int, slice, slice]:
        channel, top, left = place
        return channel, slice(top, top + self.height), slice(left, left + self.width)


@own_defaults
def scatter(image_shape: Sequence[int], count: int, size: tuple[int, int] = (28, 28), seed: int = 0) -> list[Place]:
    """Draw places for `count` digits of `size` (height, width) on an image (C, H, W), so that no two overlap.

    The image is divided into as many cells as fit. Each digit has a cell of its own and lies anywhere in it. ValueError
    if there are fewer cells than digits.

    >>> scatter((1, 28, 56), 2)
    [Place(channel=0, top=0, left=0), Place(channel=0, top=0, left=28)]
    """
    channels, rows, columns = check_shape(image_shape)[0], image_shape[1] // size[0], image_shape[2] // size[1]
    if not 0 < count <= channels * rows * columns:
        raise ValueError(f"count must be from 1 to the {channels * rows * columns} digits that fit, got {count}")
    generator = torch.Generator().manual_seed(check_seed(seed))
    height, width = image_shape[1] // rows, image_shape[2] // columns
    places = []
    for cell in torch.randperm(channels * rows * columns, generator=generator)[:count].tolist():
        channel, row, column = cell // (rows * columns), cell // columns % rows, cell % columns
        down = int(torch.randint(height - size[0] + 1, (), generator=generator))
        right = int(torch.randint(width - size[1] + 1, (), generator=generator))
        places.append(Place(channel, row * height + down, column * width + right))
    return places


def pen_strokes(size: tuple[int, int], count: int, random: np.random.Generator, thick: int = 0) -> np.ndarray:
    """Draw `count` smooth curves, `2 thick + 1` pixels wide: (height, width) bool, True where the pen was.

    >>> bool(pen_strokes((32, 48), 2, np.random.default_rng(0)).any())
    True
    """
    drawn = np.zeros(size, bool)
    for _ in range(count):
        turns = np.cumsum(random.normal(0, 0.25, 2 * max(size))) + random.uniform(0, 2 * math.pi)
        path = np.cumsum(0.5 * np.stack([np.sin(turns), np.cos(turns)]), 1)
        path = path - path.mean(1, keepdims=True) + random.uniform(0.25, 0.75, (2, 1)) * np.array(size)[:, None]
        row, column = (place.astype(int).clip(0, side - 1) for place, side in zip(path, size, strict=True))
        drawn[row, column] = True
    wide: Tensor = F.max_pool2d(torch.from_numpy(drawn)[None, None].float(), 2 * thick + 1, stride=1, padding=thick)
    return wide[0, 0].numpy() > 0
