"""A denoiser and measurements together: what the samplers need to know of a problem."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invlib.checks import check_shape
from invlib.priors.denoisers import Denoiser
from invlib.problems.operators import BlockAverage, FourierRows, LinearOperator
from invlib.runtime import Batched, on
from invlib.solvers.schedules import Schedule
from invlib.solvers.streams import Streams

Level = Tensor | float
"""A noise level of all images, or of each of them."""

MISFIT = 2.0
"""By how much an estimate may miss the measurements for the denoiser's derivative to be trusted: the mean square of
what is missing, in units of the noise's variance, that in the iterate and that in the measurements. It is 1, and as
much again for chance and for a noise level that is not quite right."""


class Posterior:
    """The distribution of images given measurements m = Mᵀx + s n, by a prior that is implicit in a denoiser.

    Parameters
    ----------
    denoiser : blind and bias-free.
    operator, measurements : what was measured of one image, (1, *measurement_shape). Without them the posterior is the
        prior itself.
    noise : s, the standard deviation of the white Gaussian noise in the measurements.
    shape : (C, H, W) of the images, where there is no operator to say it.

    Attributes
    ----------
    device : the denoiser's; the measurements and a copy of the operator are moved there.
    measured : how many numbers are known of an image.

    Raises
    ------
    ValueError : an operator without measurements or the reverse, no shape, an image of other channels than the
        denoiser's, measurements that are not finite, or a noise level that is out of range.

    Examples
    --------
    >>> from invlib.priors.denoisers import BFCNN
    >>> operator = BlockAverage((1, 8, 8), 4)
    >>> posterior = Posterior(BFCNN(channels=1, depth=2, width=4).eval(), operator, torch.ones(1, 1, 2, 2))
    >>> x_hat = posterior.mean(torch.randn(3, 1, 8, 8), sigma=1.0)
    >>> torch.allclose(operator.measure(x_hat), torch.tensor(1.0), atol=1e-4)
    True
    """

    def __init__(
        self,
        denoiser: Denoiser,
        operator: LinearOperator | None = None,
        measurements: Tensor | None = None,
        noise: float = 0.0,
        *,
        shape: Sequence[int] | None = None,
    ) -> None:
        if (operator is None) != (measurements is None):
            raise ValueError("give the operator and its measurements together, or neither")
        if operator is None and shape is None:
            raise ValueError("give the shape (C, H, W) of the samples, or an operator and its measurements")
        if operator is None and noise != 0:
            raise ValueError(f"noise is that of the measurements, and there are none: leave it 0, got {noise}")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise must be a number from 0 up, got {noise}")
        self.shape = check_shape(operator.image_shape if operator is not None else shape or ())
        if self.shape[0] != denoiser.channels:
            raise ValueError(
                f"the prior is for images of {denoiser.channels} channels, and the image has shape {self.shape}"
            )
        self.denoiser = denoiser
        self.device = next(denoiser.parameters(), torch.empty(0)).device
        self.operator = None if operator is None else on(operator, self.device)
        self.measured = 0 if operator is None else operator.measured
        self.measurements = torch.empty(0) if measurements is None else measurements.to(self.device)
        if not bool(torch.isfinite(self.measurements).all()):
            raise ValueError("the measurements hold numbers that are not finite")
        self.noise = noise
        self._residual = Batched(denoiser)
        self._conditioned = Batched(self._condition)

    def denoise(self, y: Tensor) -> Tensor:
        """The denoiser's estimate of the clean images, whatever was measured: x̂ = y + f(y)."""
        return y - self._residual(y)

    def mean(self, y: Tensor, sigma: float) -> Tensor:
        """The mean of x given the measurements and y = x + σ n: E[x | y, m], from y (n, C, H, W) and its noise level.

        Given y, x has the mean x̂(y) and the covariance C = σ² ∂x̂/∂y. If p(x | y) is Gaussian, the mean given m as
        well is x̂ + C M v, where (MᵀC M + s²) v = m - Mᵀx̂. Here v is one step of steepest descent from zero, which
        takes one product with C, and the rest is as if C were σ²: without noise the result agrees with the
        measurements exactly. All of it is, if x̂ misses them by more than the noise allows.

        It takes two evaluations, the denoiser's and that of its derivative.

        References
        ----------
        Efron (2011), "Tweedie's Formula and Selection Bias", https://doi.org/10.1198/jasa.2011.tm11181
        Rozet et al. (2024), "Learning Diffusion Priors from Observations by Expectation Maximization",
        https://arxiv.org/abs/2405.13712
        """
        return self._conditioned(y, sigma)

    def replaced(self, y: Tensor, sigma: float) -> Tensor:
        """The same as if C were σ²: what was measured corrects itself only. x̂ + σ² / (σ² + s²) M (m - Mᵀx̂).

        Without noise the measured part of the estimate is put in place, as in the paper.
        """
        return self.impose(self.denoise(y), self.level(sigma**2 / (sigma**2 + self.noise**2)))

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _condition(self, y: Tensor, sigma: float) -> Tensor:
        y = y.clone().requires_grad_()
        x_hat = y - self.denoiser(y)
        missing = self.missing(x_hat.detach())
        # An exact denoiser's derivative is symmetric: the gradient of ⟨x̂, r⟩ is its product with r. With r as an
        # argument of its own PyTorch would load sympy, half a second, the first time.
        (gradient,) = torch.autograd.grad(inner(x_hat, missing).sum(), y)
        towards = sigma**2 * gradient
        explained = self.project(towards) + self.noise**2 * missing
        energy, total = inner(missing, missing), sigma**2 + self.noise**2
        # The least counts where the derivative is next to nothing, or not that of an exact denoiser.
        length = energy / torch.maximum(inner(missing, explained), 1e-3 * total * energy).clamp_min(1e-30)
        # An exact denoiser's estimate misses the measurements by no more than the noise. Where this one's does, because
        # it takes fine texture for noise, what its derivative adds would make that worse from step to step.
        length = torch.where(energy <= MISFIT * self.measured * total, length, 0.0)
        return x_hat.detach() + length * towards + sigma**2 / total * (missing - length * explained)

    def impose(self, image: Tensor, weight: Level) -> Tensor:
        """Images with the fraction `weight` of their measured part from the measurements: x + κ M (m - Mᵀx)."""
        return image + self.level(weight).view(-1, 1, 1, 1) * self.missing(image)

    def missing(self, image: Tensor) -> Tensor:
        """What images (n, C, H, W) lack of the measurements: M (m - Mᵀx)."""
        if self.operator is None:
            return torch.zeros_like(image)
        return self.operator.adjoint(self.measurements - self.operator.measure(image))

    def project(self, image: Tensor) -> Tensor:
        """The part of images (n, C, H, W) that is measured: M Mᵀx."""
        return torch.zeros_like(image) if self.operator is None else self.operator.project(image)

    def grey(self) -> Tensor:
        """An image of ½ everywhere: (1, C, H, W)."""
        return torch.full((1, *self.shape), 0.5, device=self.device)

    def level(self, value: Level) -> Tensor:
        """A number, one for all images or one for each, as a tensor (1,) or (n,)."""
        return torch.as_tensor(value, device=self.device).view(-1)

    # Noisy measurements in the iterates of the samplers

    def start(self, sigma_0: float, white: Tensor) -> Tensor:
        """The first iterates (n, C, H, W) from white noise of that shape: y₀ ~ N(½ (1 - MMᵀ1) + M m, σ₀² I).

        They are grey where nothing was measured. Of noisy measurements as much is taken as σ₀ covers.
        """
        return self.impose(self.grey(), self.share(sigma_0)) + self.inject(white, sigma_0, sigma_0)

    def share(self, sigma: Level) -> Tensor:
        """κ = min(1, σ² / s²): how much of the measurements an iterate of level σ may hold, (1,) or (n,)."""
        level = self.level(sigma)
        return (level / self.noise).square().clamp_max(1) if self.noise else torch.ones_like(level)

    def inject(self, white: Tensor, sigma: Level, following: Level, h: float = 1) -> Tensor:
        """Noise that takes what a step of the fraction `h` leaves of the level `sigma` to the `following` level.

        In the measured part the noise of the measurements is there already, and less is added.
        """

        def lacking(before: Tensor, after: Tensor) -> Tensor:
            return (after.square() - ((1 - h) * before).square()).clamp_min(0).sqrt().view(-1, 1, 1, 1)

        gamma = lacking(self.level(sigma), self.level(following))
        if not self.noise:
            return gamma * white
        measured = lacking(self._added(sigma), self._added(following))
        return gamma * white + (measured - gamma) * self.project(white)

    def _added(self, sigma: Level) -> Tensor:
        """√(σ² - κ² s²): how much noise the measured part has besides that of the measurements, (1,) or (n,)."""
        return (self.level(sigma).square() - (self.share(sigma) * self.noise).square()).clamp_min(0).sqrt()


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each image of one batch with that of the other: (n, 1, 1, 1)."""
    return (a * b).sum((1, 2, 3), keepdim=True)


def estimate_noise(denoiser: Denoiser, operator: LinearOperator, measurements: Tensor, *, seed: int = 0) -> float:
    """Estimate the standard deviation of the white Gaussian noise in measurements; 0 if it is below 0.01.

    One sample descends from σ = 1 to 0.01 with its measured part fixed to the measurements, so that at every level σ
    the rest of the picture is as noisy as σ and the measured part as noisy as the measurements. What the denoiser takes
    away from the n measured numbers, r² = ‖m - Mᵀx̂‖², falls short of their noise n s² by the factor 1 - c, where
    c = tr(Mᵀ ∂x̂/∂y M) / n is the slope of its response there. So s is r / √(n (1 - c)) once σ has come down to it. The
    slope is probed by one small random change, so a level costs two evaluations.

    Detail that the denoiser cannot tell from noise adds to the estimate. On two 96×96 pictures with the colour U-Net it
    is within 7 % from 0.05 up for a hole, half of the pixels, a blur or a factor of 2. It is up to a third too high at
    0.05 for a factor of 4 or a tenth of the frequencies, a half for a quarter of the random rows, and as much again for
    a tenth of the pixels or of the random rows: give the level for those if you can.

    Parameters
    ----------
    denoiser, operator, measurements : as for `Posterior`.
    seed : of the descent.

    References
    ----------
    Ramani, Blu & Unser (2008), "Monte-Carlo SURE: A Black-Box Optimization of Regularization Parameters for General
    Denoising Algorithms", https://doi.org/10.1109/TIP.2008.2001404
    """
    posterior = Posterior(denoiser, operator, measurements)
    streams = Streams(seed, 1, posterior.shape, posterior.device)
    x_hat = posterior.grey()
    above: tuple[float, float] | None = None  # the level before, and the estimate there less that level
    # Where the picture has to form, too few levels leave errors that look like noise.
    levels = 20 if isinstance(operator, BlockAverage | FourierRows) else 60
    for level in Schedule().spacing(levels):
        y = posterior.impose(x_hat + level * streams.draw([0]), 1.0)
        probe = 0.1 * level * posterior.project(streams.draw([0]))
        x_hat, moved = posterior.denoise(torch.cat([y, y + probe])).split(1)
        slope = float(((moved - x_hat) * probe).sum() / probe.square().sum())
        residual = float(posterior.project(y - x_hat).square().sum()) / operator.measured
        # A response that keeps all of the measured part tells nothing of its noise.
        excess = math.sqrt(residual / max(1 - slope, 0.01)) - level
        if excess >= 0:
            if above is None:
                return level + excess
            higher, lack = above
            return level + (higher - level) * excess / (excess - lack)
        above = level, excess
    return 0.0
