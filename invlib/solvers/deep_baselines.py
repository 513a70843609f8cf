"""Deep image prior and DeepRED: fit a network to the measurements of a single picture, without training data.

Each picture takes thousands of gradient steps, so the benchmarks run these on a few pictures only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invlib import runtime
from invlib.checks import MOST_STEPS, check_measurements, check_positive, check_seed, check_whole
from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import LinearOperator


@runtime.own_defaults
@torch.enable_grad()
def deep_image_prior(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    steps: int = 2000,
    width: int = 128,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Restore by the structure of a convolutional network alone.

    An untrained network maps fixed noise to a picture x, and its weights minimise ‖Mᵀx - m‖². It fits natural pictures
    before it fits anything else, so the number of steps regularises. The method is that of Ulyanov, Vedaldi & Lempitsky
    (2018), "Deep Image Prior", https://arxiv.org/abs/1711.10925.

    Parameters
    ----------
    operator, measurements : the linear operator, and what it measured of one image, both on the device to work on.
    steps : number of Adam's steps. The authors take 2000 for super-resolution by a factor of 4.
    width : channels of the network, 128 in the paper.
    learning_rate : Adam's learning rate.
    seed : for the weights and the noise.

    Yields
    ------
    The estimate (1, C, H, W) after every step: the running average of the network's pictures over 100 steps.
    """
    check_whole(1, MOST_STEPS, steps=steps)
    check_positive(learning_rate=learning_rate)
    measurements = check_measurements(measurements, tuple(operator.measurement_shape), pictures=1).float().clone()
    picture = _Picture(operator, measurements.device, width, learning_rate, seed)
    for _ in range(int(steps)):
        image = picture.draw()
        picture.descend(misfit(image, operator, measurements))
        yield picture.include(image)


@runtime.own_defaults
@torch.enable_grad()
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
    """Restore by the deep image prior with regularisation by denoising, using ADMM.

    The result minimises ½ ‖Mᵀx - m‖² + ½ lam xᵀ(x - D(x)) over the pictures x that the network can make. The authors'
    denoiser D is non-local means; here D is blind and judges by itself how noisy x is. The method is that of Mataev,
    Elad & Milanfar (2019), "DeepRED: Deep Image Prior Powered by RED", https://arxiv.org/abs/1903.10176.

    The other parameters, and what is yielded, are as in `deep_image_prior`.

    Parameters
    ----------
    denoiser : D, a blind denoiser.
    lam, mu : weights of the regularisation, and of the constraint that x is the network's picture.
    every : number of steps from one call of the denoiser to the next.
    """
    check_whole(1, MOST_STEPS, steps=steps, every=every)
    check_positive(learning_rate=learning_rate, lam=lam, mu=mu)
    measurements = check_measurements(measurements, tuple(operator.measurement_shape), pictures=1).float().clone()
    picture = _Picture(operator, measurements.device, width, learning_rate, seed)
    x = operator.adjoint(measurements)
    dual = torch.zeros_like(x)
    for step in range(int(steps)):
        image = picture.draw()
        apart = 0.5 * mu * (image - (x - dual)).square().mean()
        picture.descend(misfit(image, operator, measurements) + apart)
        if step % every == 0:
            denoised = (x - denoiser(x)).detach()
        image = image.detach()
        x = (lam * denoised + mu * (image + dual)) / (lam + mu)
        dual = dual + image - x
        yield picture.include(image)


def misfit(image: Tensor, operator: LinearOperator, measurements: Tensor) -> Tensor:
    """Return ½ ‖Mᵀx - m‖² divided by the size of the image."""
    return 0.5 * (operator.measure(image) - measurements).square().sum() / image.numel()


class _Picture:
    """A network that turns noise into one picture, its optimiser, and the running average of its pictures."""

    DEPTH, CODES, JITTER, MEMORY = 5, 32, 1 / 30, 100

    def __init__(self, operator: LinearOperator, device: torch.device, width: int, rate: float, seed: int) -> None:
        check_whole(1, 4096, width=width)
        check_seed(seed)
        channels, self.height, self.width = operator.image_shape
        # The coarsest scale has sides of at least 4 pixels. Sides are rounded up to fit the network, and `draw` crops.
        depth = min(self.DEPTH, int(math.log2(max(8, min(self.height, self.width)) / 4)))
        sides = [side + -side % 2**depth for side in (self.height, self.width)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(check_seed(seed))
            last = nn.Conv2d(width, channels, 1)
            self.network = nn.Sequential(Scale(self.CODES, width, depth), last, nn.Sigmoid())
        self.device = device
        # PyTorch's stubs lack the overload of `to` that takes a memory format.
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.generator = torch.Generator().manual_seed(seed)
        self.codes = 0.1 * torch.rand(1, self.CODES, *sides, generator=self.generator).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), rate)
        self.average: Tensor | None = None
        self.count = 0

    def draw(self) -> Tensor:
        """Make the picture (1, C, H, W) of the codes, which get a little new noise every time."""
        jitter = self.JITTER * torch.randn(self.codes.shape, generator=self.generator).to(self.device)
        codes = (self.codes + jitter).contiguous(memory_format=torch.channels_last)
        with runtime.autocast(self.device):
            return self.network(codes).float()[..., : self.height, : self.width]

    def descend(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()

    def include(self, image: Tensor) -> Tensor:
        """Add a picture to the running average, and return the average."""
        self.count += 1
        image = image.detach()
        weight = 1 / min(self.count, self.MEMORY)
        self.average = image if self.average is None else self.average.lerp(image, weight)
        return self.average


class Scale(nn.Module):
    """One scale of the paper's hourglass with the coarser scales inside: (1, inputs, H, W) to (1, width, H, W)."""

    SKIP = 4
    """How many channels bypass the coarser scales."""

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
    """Make a convolution with reflected borders, batch normalisation and a leaky ReLU."""
    return nn.Sequential(
        # A 1×1 kernel has no border, and reflecting it would copy the image for nothing.
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect" if kernel > 1 else "zeros"),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    )
