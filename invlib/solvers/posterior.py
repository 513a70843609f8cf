"""A denoiser and measurements together: what the samplers need to know of a problem."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invlib.checks import check_measurements, check_shape
from invlib.priors.denoisers import Denoiser
from invlib.priors.tiles import tiled
from invlib.problems.operators import LinearOperator
from invlib.runtime import Batched, on, own_defaults
from invlib.solvers.power_law import PowerLaw

Level = Tensor | float
"""A noise level of all images, or of each of them."""

MISFIT = 2.0
"""By how much an estimate may miss the measurements for the denoiser's derivative to be trusted: the mean square of
what is missing, in units of the noise's variance, that in the iterate and that in the measurements. It is 1, and as
much again for chance and for a noise level that is not quite right."""


class Posterior:
    """The distribution of images given measurements m = Mᵀx + S n, by a prior that is implicit in a denoiser.

    Parameters
    ----------
    denoiser : blind and bias-free.
    operator, measurements : what was measured of one image, (1, *measurement_shape). Without them the posterior is the
        prior itself.
    noise : the standard deviation of the Gaussian noise. A number is that of white noise in the picture that was
        measured (see `LinearOperator.noise_levels`); a tensor (*measurement_shape) has one level for each measurement.
    shape : (C, H, W) of the images, where there is no operator to say it.

    Attributes
    ----------
    device : the denoiser's; the measurements and a copy of the operator are moved there.
    measured : how many numbers are known of an image.
    told : whether the denoiser is told what was measured, which has to be `smooth`; `mean` then takes one evaluation.
    noise : S, the noise level of each measurement, (1, *measurement_shape); None if all of them are exact.

    Raises
    ------
    ValueError : an operator without measurements or the reverse, no shape, an image of other channels than the
        denoiser's, measurements of several pictures, of another shape or type than float32 and float64, or that are not
        finite, or a noise level that is out of range.

    Examples
    --------
    >>> from invlib.priors.denoisers import BFCNN
    >>> from invlib.problems.operators import BlockAverage
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
        noise: Level = 0.0,
        *,
        shape: Sequence[int] | None = None,
    ) -> None:
        if (operator is None) != (measurements is None):
            raise ValueError("give the operator and its measurements together, or neither")
        if operator is None and shape is None:
            raise ValueError("give the shape (C, H, W) of the samples, or an operator and its measurements")
        if operator is None and (isinstance(noise, Tensor) or noise != 0):
            raise ValueError(f"noise is that of the measurements, and there are none: leave it 0, got {noise}")
        self.shape = check_shape(operator.image_shape if operator is not None else shape or ())
        if not denoiser.takes(self.shape[0]):
            raise ValueError(
                f"the prior is for images of {denoiser.channels} channels, and the image has shape {self.shape}"
            )
        self.device = next(denoiser.parameters(), torch.empty(0, device="cpu")).device
        self.denoiser = on(denoiser, self.device)
        self.operator = None if operator is None else on(operator, self.device)
        self.measured = 0 if operator is None else operator.measured
        if operator is not None and measurements is not None:
            measurements = check_measurements(measurements, tuple(operator.measurement_shape), pictures=1)
        self.measurements = (
            torch.empty(0, device=self.device) if measurements is None else measurements.to(self.device, torch.float32)
        )
        self.noise = None if self.operator is None else noise_levels(self.operator, noise)
        if self.noise is not None:
            self.noise = self.noise.to(self.device)
        self.told = denoiser.told and self.operator is not None and self.operator.smooth
        self._network = tiled(self.denoiser)
        self._residual = Batched(self._network)
        self._conditioned = Batched(self._tell if self.told else self._condition)

    def denoise(self, y: Tensor) -> Tensor:
        """The denoiser's estimate of the clean images, whatever was measured: x̂ = y + f(y)."""
        return y - self._residual(y)

    def mean(self, y: Tensor, sigma: float) -> Tensor:
        """The mean of x given the measurements and y = x + σ n: E[x | y, m], from y (n, C, H, W) and its noise level.

        If nothing was measured, it is the denoiser's estimate. A denoiser that is told what was measured gives it in
        one evaluation; if σ is infinite, it is E[x | m]. The measurements and the measured part of y are first combined
        into one picture, whose noise in that part has the level (1/σ² + 1/s²)^-½, where s is that of the measurements.

        Of another denoiser, or if the operator's rows are not orthonormal, the derivative is used as well, for two
        evaluations. Given y, x has the mean x̂(y) and the covariance C = σ² ∂x̂/∂y. If p(x | y) is
        Gaussian, the mean given m as well is x̂ + C M v, where (MᵀC M + S²) v = m - Mᵀx̂. Here v is one step of steepest
        descent from zero, which takes one product with C, and the rest is as if C were σ²: without noise the result
        agrees with the measurements exactly. All of it is, if x̂ misses them by more than the noise allows. What the
        derivative adds is `bounded` from place to place.

        References
        ----------
        Efron (2011), "Tweedie's Formula and Selection Bias", https://doi.org/10.1198/jasa.2011.tm11181
        Rozet et al. (2024), "Learning Diffusion Priors from Observations by Expectation Maximization",
        https://arxiv.org/abs/2405.13712
        """
        return self.denoise(y) if self.operator is None else self._conditioned(y, sigma)

    def replaced(self, y: Tensor, sigma: Level) -> Tensor:
        """The same as if C were σ²: what was measured corrects itself only. x̂ + σ² M (σ² MᵀM + S²)⁻¹ (m - Mᵀx̂).

        Without noise the measured part of the estimate is put in place, as in the paper.
        """
        return self.correct(self.denoise(y), sigma)

    def correct(self, x_hat: Tensor, sigma: Level) -> Tensor:
        """The mean of x given m, if x has the mean x̂ and white noise of level σ without m: (n, C, H, W)."""
        if self.noise is None and (self.operator is None or self.operator.orthonormal):
            return self.impose(x_hat, 1.0)
        return x_hat + self._spread(self._solve(self.missing(x_hat), sigma), self.level(sigma).square())

    def _tell(self, y: Tensor, sigma: float) -> Tensor:
        # Of noisy measurements as much is taken as makes the noise of the measured part least.
        y = self.impose(y, 1.0 if self.noise is None else 1 / (1 + (self.noise / sigma).square()))
        x_hat = y - self._network(y, self._spread(self._measure(y), 1.0), sigma)
        return x_hat if self.noise is not None else self.impose(x_hat, 1.0)

    def _condition(self, y: Tensor, sigma: float) -> Tensor:
        x_hat, pulled_back = self._network.linearised(y)
        missing = self.missing(x_hat)
        # In units of the noise that the iterate and the measurements have.
        direction = self._solve(missing, sigma)
        # An exact denoiser's derivative is symmetric: the transpose is as good.
        picture = self._spread(direction, sigma**2)
        gradient = bounded(pulled_back(picture), picture)
        explained = self._measure(gradient)
        if self.noise is not None:
            explained = explained + self.noise.square() * direction
        energy = inner(missing, direction)
        # The least counts where the derivative is next to nothing, or not that of an exact denoiser.
        length = energy / torch.maximum(inner(direction, explained), 1e-3 * energy).clamp_min(1e-30)
        # An exact denoiser's estimate misses the measurements by no more than the noise. Where this one's does, because
        # it takes fine texture for noise, what its derivative adds would make that worse from step to step.
        length = torch.where(energy <= MISFIT * self.measured, length, 0.0)
        x_hat = x_hat + length.view(-1, 1, 1, 1) * gradient
        if self.noise is None:
            return self.correct(x_hat, sigma)
        rest = self._solve(missing - self._each(length, missing) * explained, sigma)
        return x_hat + self._spread(rest, sigma**2)

    def impose(self, image: Tensor, weight: Level) -> Tensor:
        """Images with the fraction `weight` of their measured part from the measurements: x + M κ (m - Mᵀx)."""
        return image + self._spread(self.missing(image), weight)

    def missing(self, image: Tensor) -> Tensor:
        """What images (n, C, H, W) lack of the measurements: m - Mᵀx, (n, *measurement_shape)."""
        return self.measurements - self._measure(image)

    def _measure(self, image: Tensor) -> Tensor:
        return image.new_empty(len(image), 0) if self.operator is None else self.operator.measure(image)

    def _spread(self, numbers: Tensor, weight: Level) -> Tensor:
        """Images M w r of numbers r (n, *measurement_shape), times a weight for all, each image, or each number."""
        if self.operator is None:
            return numbers.new_zeros(len(numbers), *self.shape)
        return self.operator.adjoint(self._each(weight, numbers) * numbers)

    def _solve(self, missing: Tensor, sigma: Level) -> Tensor:
        """(σ² MᵀM + S²)⁻¹ r of numbers r (n, *measurement_shape)."""
        if self.operator is None:
            return missing
        variance = self.level(0.0) if self.noise is None else self.noise.square()
        return self.operator.solve(missing, self._each(self.level(sigma).square(), missing), variance)

    def _each(self, value: Level, numbers: Tensor) -> Tensor:
        """A value for all images or one for each, so that it multiplies their numbers; other values as they are."""
        value = self.level(value)
        return value.view(-1, *[1] * (numbers.ndim - 1)) if value.ndim == 1 else value

    def grey(self) -> Tensor:
        """An image of ½ everywhere: (1, C, H, W)."""
        return torch.full((1, *self.shape), 0.5, device=self.device)

    def level(self, value: Level) -> Tensor:
        """A number, one for all images or one for each, as a tensor (1,) or (n,); other tensors as they are."""
        value = torch.as_tensor(value, dtype=torch.float32, device=self.device)
        return value if value.ndim else value.view(1)

    # Noisy measurements in the iterates of the samplers

    @property
    def tempered(self) -> bool:
        """Whether the iterates of `ascend` hold a share of noisy measurements, for which M must be orthonormal."""
        return self.noise is not None and self.operator is not None and self.operator.orthonormal

    def start(self, sigma_0: float, white: Tensor, coarse: Tensor | None = None) -> Tensor:
        """The first iterates (n, C, H, W) from white noise of that shape: y₀ ~ N(½ (1 - MMᵀ1) + M m, σ₀² I).

        They are grey where nothing was measured, or as in a picture of the prior `PowerLaw` given the measurements,
        which is made of the white noise `coarse`. Of noisy measurements as much is taken as σ₀ covers.
        """
        x = self.grey() if coarse is None else self._clouds(coarse)
        if self.operator is not None and not self.operator.orthonormal:
            return self.correct(x, sigma_0) + sigma_0 * white
        return self.impose(x, self.share(sigma_0)) + self.inject(white, sigma_0, sigma_0)

    def _clouds(self, white: Tensor) -> Tensor:
        prior = PowerLaw(self.shape, self.device)
        if self.operator is None:
            return prior.sample(white)
        return prior.sample_given(self.operator, self.measurements, white)

    def share(self, sigma: Level) -> Tensor:
        """κ = min(1, σ² / s²): how much of each measurement an iterate of level σ may hold; 1 if all are exact."""
        level = self.level(sigma)
        if self.noise is None:
            return torch.ones_like(level)
        return (self._each(level, self.noise) / self.noise).square().clamp_max(1)

    def inject(self, white: Tensor, sigma: Level, following: Level, h: float = 1) -> Tensor:
        """Noise that takes what a step of the fraction `h` leaves of the level `sigma` to the `following` level.

        In the measured part the noise of the measurements is there already, and less is added.
        """

        def lacking(before: Tensor, after: Tensor) -> Tensor:
            return (after.square() - ((1 - h) * before).square()).clamp_min(0).sqrt()

        gamma = lacking(self.level(sigma), self.level(following))
        everywhere = gamma.view(-1, 1, 1, 1) * white
        if not self.tempered:
            return everywhere
        measured = lacking(self._added(sigma), self._added(following)) - self._each(gamma, self.measurements)
        return everywhere + self._spread(self._measure(white), measured)

    def _added(self, sigma: Level) -> Tensor:
        """√(σ² - κ² s²): how much noise each measurement needs besides its own, (1 or n, *measurement_shape)."""
        assert self.noise is not None
        own = self.share(sigma) * self.noise
        return (self._each(self.level(sigma), own).square() - own.square()).clamp_min(0).sqrt()


WINDOW = 9
"""The side in pixels of the windows in which a derivative may not put more energy than it was given."""


def bounded(gradient: Tensor, picture: Tensor) -> Tensor:
    """The gradient (n, C, H, W) that a derivative made of a picture, without the peaks that it has no reason for.

    An exact denoiser's derivative has no eigenvalue above 1, so it adds no energy. That of a network has larger ones in
    places, and what they add there grows from step to step into a spot. So the root mean square of the gradient in a
    window is at most that of the picture in the window where the picture has most.
    """

    def strength(image: Tensor) -> Tensor:
        power = image.square().mean(1, keepdim=True)
        down, across = (averages(side, WINDOW).to(power) for side in power.shape[2:])
        return (down @ power @ across.mT).sqrt()

    most = strength(picture).amax((1, 2, 3), keepdim=True)
    return gradient * (most / strength(gradient).clamp_min(1e-12)).clamp_max(1)


def averages(side: int, window: int) -> Tensor:
    """The matrix (side, side) that replaces each of `side` numbers by the average of the window around it.

    Multiplying rows and columns by it takes a sixth of the time of `avg_pool2d` with a stride of 1.

    >>> averages(4, 3)
    tensor([[0.5000, 0.5000, 0.0000, 0.0000],
            [0.3333, 0.3333, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.3333, 0.3333],
            [0.0000, 0.0000, 0.5000, 0.5000]])
    """
    place = torch.arange(side)
    near = ((place[:, None] - place).abs() <= window // 2).float()
    return near / near.sum(1, keepdim=True)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each item of one batch with that of the other: (n,)."""
    return (a * b).flatten(1).sum(1)


@own_defaults
def noise_levels(operator: LinearOperator, noise: Level) -> Tensor | None:
    """The noise level of each measurement, (1, *measurement_shape); None if all are exact.

    Parameters
    ----------
    operator : what was measured.
    noise : of white noise in the picture that was measured, or a tensor of one level for each measurement.

    Raises
    ------
    ValueError : a level is negative or not finite, or the tensor has another shape than the measurements.
    """
    shape = operator.measurement_shape
    if isinstance(noise, Tensor) and noise.ndim:
        if noise.shape != shape:
            raise ValueError(f"noise must have one level for each measurement, {shape}, got {tuple(noise.shape)}")
        levels = noise.detach().float()
    else:
        levels = operator.noise_levels(float(noise)).float()
    if not bool((levels >= 0).all() and levels.isfinite().all()):
        raise ValueError(f"noise must be a number from 0 up, or one for each measurement, got {noise}")
    return levels.expand(1, *shape) if bool(levels.any()) else None
