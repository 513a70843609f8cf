"""The paper's algorithm in a plane, where the denoiser is known exactly: Figure 7 of Kadkhodaie & Simoncelli (2021).

The density is uniform on a curve. Two numbers alone would not tell a blind denoiser how noisy they are, and `ascend`
would not learn it from the residual: it would diverge, or stop between two arms of the curve. A picture tells it,
because most of its many dimensions hold only noise. So the plane is a slice through a space of pictures, of which only
the first two numbers vary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import DenseRows
from invlib.solvers.posterior import Posterior
from invlib.solvers.samplers import ascend
from invlib.solvers.schedules import Ascent
from invlib.solvers.streams import Streams

SHAPE = (1, 16, 16)
"""The pictures. Their first two numbers are the point in the plane, and all others are ½."""

SETTINGS = Ascent(h0=0.05, beta=0.3, sigma_0=0.3)
"""The start reaches a little beyond the curve. A smaller β is less likely to stop on a line off the curve."""

Line = tuple[float, float]
"""A line in the plane: the angle of its normal w in degrees, and its distance w·(x - c) from the centre c = (½, ½)."""


def spiral(count: int = 600) -> Tensor:
    """Points that are evenly spaced on a spiral about (½, ½): (count, 2)."""
    turn = torch.linspace(0.25, 1.85, 16 * count, dtype=torch.float64)
    radius, angle = 0.05 + 0.2 * turn, 2 * math.pi * turn
    fine = 0.5 + radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    length = torch.cat([fine.new_zeros(1), fine.diff(dim=0).norm(dim=1).cumsum(0)])
    even = torch.searchsorted(length, torch.linspace(0, float(length[-1]), count, dtype=torch.float64))
    return fine[even.clamp(max=len(fine) - 1)].float()


class CurveDenoiser(Denoiser):
    """The blind least-squares denoiser of pictures of which the first two numbers are one of some points.

    All points are equally likely, and so are all scales of the noise level: p(σ) ∝ 1/σ. Then N numbers y have
    p(y | x) ∝ ∫ σ⁻ᴺ exp(-‖y - x‖² / 2σ²) dσ/σ ∝ ‖y - x‖⁻ᴺ, which are the weights of the points in E[x | y].

    Parameters
    ----------
    points : (n, 2).

    >>> denoiser, y = CurveDenoiser(torch.tensor([[0.2, 0.2], [0.8, 0.8]])), picture(torch.tensor([[0.3, 0.2]]), 0.1)
    >>> (y - denoiser(y))[0, 0, 0, :3]
    tensor([0.2000, 0.2000, 0.5000])
    """

    points: Tensor

    def __init__(self, points: Tensor) -> None:
        super().__init__(channels=1)
        self.register_buffer("points", points)

    def estimate_noise(self, y: Tensor) -> Tensor:
        numbers = y.flatten(1)
        place, rest = numbers[:, :2], numbers[:, 2:] - 0.5
        squares = torch.cdist(place, self.points).square() + rest.square().sum(1, keepdim=True)
        weights = (-numbers.shape[1] / 2 * squares.clamp_min(1e-12).log()).softmax(1)
        return torch.cat([place - weights @ self.points, rest], 1).view_as(y)


def picture(points: Tensor, sigma: float) -> Tensor:
    """Pictures (n, *SHAPE) at points (n, 2) of the plane, whose other numbers are off by the noise level."""
    numbers = torch.full((len(points), math.prod(SHAPE)), 0.5 + sigma)
    numbers[:, :2] = points
    return numbers.view(-1, *SHAPE)


def measured(line: Line) -> tuple[DenseRows, Tensor]:
    """The measurement w·x that is the same all along a line: the operator, whose only row is w, and m, (1, 1)."""
    normal = torch.tensor([math.cos(math.radians(line[0])), math.sin(math.radians(line[0]))])
    operator = DenseRows(SHAPE, keep=1 / math.prod(SHAPE))
    operator.matrix = torch.cat([normal, torch.zeros(len(operator.matrix) - 2)])[:, None]
    return operator, (normal.sum() / 2 + line[1]).view(1, 1)


class PlanePosterior(Posterior):
    """The posterior of the curve and a line, or the prior; the first sample starts at a point of the plane."""

    def __init__(self, point: Sequence[float], line: Line | None = None) -> None:
        operator, measurements = (None, None) if line is None else measured(line)
        super().__init__(CurveDenoiser(spiral()), operator, measurements, shape=SHAPE)
        self.point = torch.tensor(point)

    def start(self, sigma_0: float, white: Tensor, coarse: Tensor | None = None) -> Tensor:
        y = super().start(sigma_0, white, coarse)
        y.view(len(y), -1)[0, :2] = self.point
        return y

    def field(self, points: Tensor, sigma: float) -> Tensor:
        """d at points (n, 2) of the plane, where the rest of the picture has noise of level `sigma`: (n, 2)."""
        y = picture(points, sigma)
        return (self.replaced(y, sigma) - y).flatten(1)[:, :2]


@dataclass(frozen=True)
class Walk:
    """What `ascend` did in the plane.

    Attributes
    ----------
    places : of the samples at the start and after each step, and then their results, (steps + 2, count, 2).
    sigma : the noise level of the first sample before each step, until it had converged.
    predicted : the noise level that theory predicts before each step.
    """

    places: Tensor
    sigma: list[float]
    predicted: list[float]


def walk(
    point: Sequence[float], line: Line | None = None, settings: Ascent = SETTINGS, *, count: int = 40, seed: int = 0
) -> Walk:
    """Draw `count` samples by `ascend`, the first of which starts at a point of the plane.

    >>> done = walk((0.1, 0.9), line=(0, 0.0))
    >>> round(float(done.places[-1, 0, 0]), 2)  # the first number is ½ all along the line
    0.5
    """
    posterior = PlanePosterior(point, line)
    white = Streams(seed, count, SHAPE, posterior.device).draw(range(count))  # the same as in `ascend`
    states = list(ascend(posterior, settings, count=count, seed=seed))
    images = [posterior.start(settings.sigma_0, white), *(state.image for state in states), states[-1].denoised]
    sigma = [float(state.sigma[0]) for state in states]
    running = 1 + sum(level > settings.sigma_L for level in sigma)
    return Walk(torch.stack(images).flatten(2)[..., :2], sigma[:running], settings.forecast())
