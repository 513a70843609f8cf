"""Measure images by any differentiable function f, before noise is added.

The functions here are those of Whang, Lei & Dimakis (2021), "Solving Inverse Problems with a Flow-based Noise Model",
https://arxiv.org/abs/2003.08089. They need neither be linear nor have orthonormal rows, unlike
`operators.LinearOperator`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from invlib.checks import check_seed, check_shape
from invlib.problems.noise import Gaussian, NoiseModel
from invlib.runtime import own_defaults

Forward = Callable[[Tensor], Tensor]
"""f, from images (batch, C, H, W) to measurements (batch, ...); differentiable, and on the device of the prior."""


def identity(x: Tensor) -> Tensor:
    """f(x) = x: denoising."""
    return x


class GaussianMeasurements(nn.Module):
    """f(x) = A x with independent entries N(0, 1/m): the paper's compressive sensing.

    Images of `image_shape` (C, H, W) have `count` = m measurements each. The matrix is the same on every device.
    ValueError if it would have no entries, or more than 2²⁷ (512 MiB).

    >>> GaussianMeasurements((3, 8, 8), count=50)(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 50])
    """

    matrix: Tensor

    @own_defaults
    def __init__(self, image_shape: Sequence[int], count: int, seed: int = 0) -> None:
        super().__init__()
        size = math.prod(check_shape(image_shape))
        if not 0 < size * count <= 2**27:
            raise ValueError(f"count must be from 1 to {2**27 // size} for an image of {size} numbers, got {count}")
        check_seed(seed)
        matrix = torch.randn(size, count, generator=torch.Generator().manual_seed(seed)).div_(math.sqrt(count))
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix


class SignMeasurements(GaussianMeasurements):
    """f(x) = sign(A x): 1-bit compressive sensing. Parameters and errors are as in `GaussianMeasurements`.

    >>> SignMeasurements((1, 8, 8), count=4, seed=1)(torch.ones(1, 1, 8, 8))
    tensor([[ 1., -1.,  1.,  1.]])
    """

    def forward(self, x: Tensor) -> Tensor:
        return sign(super().forward(x))

    def log_prob(self, noise: Gaussian, measurements: Tensor, x: Tensor, floor: float) -> Tensor:
        """log p(y | x), (batch,), with white noise of standard deviation `floor` > 0 added to A x before its sign.

        The sign is then 1 with probability Φ(u / floor), where u = A x. So the density is smooth, and a sum with the
        wrong sign is pulled harder the further it is off, which the gradient of `sign` cannot do.
        """
        u = super().forward(x) / floor
        positive = torch.special.log_ndtr(u) + noise.entries(measurements - 1)
        negative = torch.special.log_ndtr(-u) + noise.entries(measurements + 1)
        return torch.logaddexp(positive, negative).sum(1)


def sign(u: Tensor) -> Tensor:
    """-1, 0 or 1, with the gradient of the identity, which is called the straight-through estimator.

    See Bengio, Léonard & Courville (2013), "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation", https://arxiv.org/abs/1308.3432.
    """
    return u.sign().detach() + (u - u.detach())


def back_project(measurements: Tensor, forward: Forward, image_shape: Sequence[int]) -> Tensor:
    """Estimate images (batch, C, H, W) roughly, by one step of steepest descent on ‖y - f(x)‖² from grey.

    The step size is the best one for f linearised. Where f is a multiple of the identity, this solves y = f(x). The
    images are not clipped. ValueError if f(x) does not have the shape of the measurements (batch, ...).

    >>> back_project(torch.tensor([[[[0.1, 0.2]]]]), lambda x: 0.5 * x, (1, 1, 2))
    tensor([[[[0.2000, 0.4000]]]])
    """
    grey = measurements.new_full((len(measurements), *check_shape(image_shape)), 0.5)
    predicted, transpose = torch.func.vjp(forward, grey)  # type: ignore[misc]
    check_predicted(predicted, measurements)
    (gradient,) = transpose(measurements - predicted)
    _, change = torch.func.jvp(forward, (grey,), (gradient,))  # type: ignore[misc]
    energy, length = (tensor.flatten(1).square().sum(1) for tensor in (change, gradient))
    step = length / energy.clamp(min=torch.finfo(energy.dtype).tiny)
    return grey + step.view(-1, 1, 1, 1) * gradient


def noise_log_prob(noise: NoiseModel, measurements: Tensor, forward: Forward, x: Tensor, floor: float = 0.0) -> Tensor:
    """log p_Δ(y - f(x)) in nats, (batch,), as if white noise of standard deviation `floor` had been added.

    It is added to the measurements, or before the sign where `forward` takes signs (`SignMeasurements.log_prob`).
    """
    if floor and isinstance(forward, SignMeasurements) and isinstance(noise, Gaussian):
        return forward.log_prob(noise, measurements, x, floor)
    predicted = forward(x)
    check_predicted(predicted, measurements)
    return noise.log_prob(measurements - predicted, floor)


def check_predicted(predicted: Tensor, measurements: Tensor) -> None:
    """Raise ValueError unless what `forward` predicts has the shape of the measurements."""
    if predicted.shape != measurements.shape:
        expected, got = tuple(measurements.shape[1:]), tuple(predicted.shape[1:])
        raise ValueError(f"forward must give measurements of the shape of those given, {expected}, and gives {got}")
