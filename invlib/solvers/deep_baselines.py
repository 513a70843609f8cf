"""Deep image prior and DeepRED: a network fitted to the measurements of a single picture, with no training data.

They take thousands of steps of a gradient descent for each picture, so that the comparisons run them on a few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib import runtime
from invlib.checks import check_positive
from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import LinearOperator


def deep_image_prior(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    steps: int = 2000,
    width: int = 128,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Restore by the structure of a convolutional network alone (Ulyanov, Vedaldi & Lempitsky 2018).

    An untrained network maps fixed noise to a picture; its weights minimise ‖Mᵀx - m‖². It fits natural pictures before
    it fits anything else, so the number of steps is what regularises.

    Parameters
    ----------
    operator, measurements : of one image; both on the device that is to work.
    steps : of Adam; the authors take 2000 for super-resolution by a factor of 4.
    width : channels of the network, 128 in the paper.
    learning_rate : of Adam.
    seed : of the weights and the noise.

    Yields
    ------
    After every step the estimate, (1, C, H, W): the running average of the network's pictures over a hundred steps.
    """
    check_positive(steps=steps, width=width, learning_rate=learning_rate)
    picture = _Picture(operator, measurements, width, learning_rate, seed)
    for _ in range(int(steps)):
        image = picture.draw()
        picture.descend(misfit(image, operator, measurements))
        yield picture.include(image)


def deep_red(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    denoiser: Denoiser,
    steps: int = 2000,
    width: int = 128,
    learning_rate: float = 0.01,
    lam: float = 0.05,
    mu: float = 0.06,
    every: int = 10,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Deep image prior with regularisation by denoising (Mataev, Elad & Milanfar 2019), by ADMM.

    Minimises ½ ‖Mᵀx - m‖² + ½ lam xᵀ(x - D(x)) over the pictures x of the network. The authors' denoiser is non-local
    means; here D is a blind one, which itself judges how noisy x is.

    Parameters
    ----------
    denoiser : called once in `every` steps.
    lam, mu : weights of the regularisation and of the constraint that x is the network's picture.

    The others, and what is yielded, are as in `deep_image_prior`.
    """
    check_positive(steps=steps, width=width, learning_rate=learning_rate, lam=lam, mu=mu, every=every)
    picture = _Picture(operator, measurements, width, learning_rate, seed)
    x = operator.adjoint(measurements)
    dual = torch.zeros_like(x)
    for step in range(int(steps)):
        image = picture.draw()
        apart = 0.5 * mu * (image - (x - dual)).square().mean()
        picture.descend(misfit(image, operator, measurements) + apart)
        if step % every == 0:
            denoised = x - denoiser(x)
        image = image.detach()
        x = (lam * denoised + mu * (image + dual)) / (lam + mu)
        dual = dual + image - x
        yield picture.include(image)


def misfit(image: Tensor, operator: LinearOperator, measurements: Tensor) -> Tensor:
    """½ ‖Mᵀx - m‖² for each number of the image."""
    return 0.5 * (operator.measure(image) - measurements).square().sum() / image.numel()


class _Picture:
    """A network that makes one picture out of noise, its optimiser, and the running average of its pictures."""

    DEPTH, CODES, JITTER, MEMORY = 5, 32, 1 / 30, 100

    def __init__(
        self, operator: LinearOperator, measurements: Tensor, width: int, learning_rate: float, seed: int
    ) -> None:
        self.channels, self.height, self.width = operator.image_shape
        # The coarsest scale keeps four pixels a side; a multiple of the largest step fits the network, and is cut.
        depth = min(self.DEPTH, int(math.log2(max(8, min(self.height, self.width)) / 4)))
        sides = [side + -side % 2**depth for side in (self.height, self.width)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            last = nn.Conv2d(width, self.channels, 1)
            self.network = nn.Sequential(Scale(self.CODES, width, depth), last, nn.Sigmoid())
        self.device = measurements.device
        # PyTorch's stubs lack the overload of `to` that takes a memory format.
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(seed)
        self.codes = 0.1 * torch.rand(1, self.CODES, *sides, generator=self.generator).to(self.device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), learning_rate)
        self.average: Tensor | None = None
        self.count = 0

    def draw(self) -> Tensor:
        """The picture of the codes, which are moved a little every time: (1, C, H, W)."""
        jitter = self.JITTER * torch.randn(self.codes.shape, generator=self.generator).to(self.device)
        codes = (self.codes + jitter).contiguous(memory_format=torch.channels_last)
        with runtime.autocast(self.device):
            image = self.network(codes)
        return image.float()[..., : self.height, : self.width]

    def descend(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def include(self, image: Tensor) -> Tensor:
        """The running average, with this picture in it."""
        self.count += 1
        image = image.detach()
        weight = 1 / min(self.count, self.MEMORY)
        self.average = image if self.average is None else self.average.lerp(image, weight)
        return self.average


class Scale(nn.Module):
    """One scale of the paper's hourglass, and inside it the coarser ones: (1, inputs, H, W) to (1, width, H, W)."""

    SKIP = 4
    """Channels that pass by the coarser scales."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.skip = block(inputs, self.SKIP, 1)
        coarser = [Scale(width, width, depth - 1)] if depth > 1 else []
        self.coarse = nn.Sequential(block(inputs, width, 3, stride=2), block(width, width, 3), *coarser)
        joined = self.SKIP + width
        self.merge = nn.Sequential(nn.BatchNorm2d(joined), block(joined, width, 3), block(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        below = F.interpolate(self.coarse(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.merge(torch.cat([self.skip(x), below], dim=1))


def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution with reflected borders, batch normalisation and a leaky ReLU."""
    return nn.Sequential(
        # Reflecting a border of nothing would copy the image.
        nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode="reflect" if kernel > 1 else "zeros"
        ),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )
