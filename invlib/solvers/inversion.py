"""Find the most probable image when the noise in the measurements has any known density.

Measurements are y = f(x) + δ, where f is any differentiable function and the noise δ has the density p_Δ. If the prior
p_G is a flow, `map_x` and `map_z` minimise

    -log p_Δ(y - f(x)) - β log p_G(x)

over the image x or over its code z, x = G(z): Eq. 10 of Whang, Lei & Dimakis (2021), "Solving Inverse Problems with a
Flow-based Noise Model", https://arxiv.org/abs/2003.08089. If the prior is a GAN, `mle` minimises only the first term
(Eq. 5). `asim` and `bora` are the two earlier methods that the paper generalises (Eqs. 8 and 6).

All five are generators of `Iterate`, so the caller shows, records or stops them, and `collect` runs one to its end.
The prior's weights must be float32, because a flow in bfloat16 is not invertible.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invlib.checks import MOST_STEPS, check_measurements, check_positive, check_seed, check_shape, check_whole
from invlib.priors.flows import Flow, standard_normal, standard_normal_log_prob
from invlib.priors.gans import Generator
from invlib.problems.forward import Forward, back_project, check_predicted, identity, noise_log_prob
from invlib.problems.noise import NoiseModel
from invlib.problems.operators import hartley
from invlib.runtime import on, own_defaults


@dataclass(frozen=True)
class Iterate:
    """One step of a minimisation, for a batch of measurements.

    Attributes
    ----------
    step : 1, 2, ...
    image : the estimate of each image, (batch, C, H, W).
    objective : -noise_log_prob - weight · signal_log_prob of that image, with the method's weight, (batch,).
    noise_log_prob : log p_Δ(y - f(x)) in nats at this step's `floor`; -‖y - f(x)‖² for `bora` and `asim`, (batch,).
    signal_log_prob : log p_G(x) in nats; 0 for `mle`, -‖z‖² for `bora`, -‖z‖ for `asim`, (batch,).
    floor : standard deviation of the white noise that widens the noise model in this step.
    evaluations : passes through the prior so far, each with its gradient.
    skipped : steps so far that led where the objective is not finite, and were undone.
    outcome : None until the last iterate, where one sentence says how the run ended.
    """

    step: int
    image: Tensor
    objective: Tensor
    noise_log_prob: Tensor
    signal_log_prob: Tensor
    floor: float
    evaluations: int
    skipped: int
    outcome: str | None = None


@own_defaults
def map_x(
    prior: Flow,
    noise: NoiseModel,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    smoothing: float = 0.5,
    steps: int = 80,
    learning_rate: float = 0.02,
    floor: tuple[float, float] = (0.3, 0.001),
) -> Iterator[Iterate]:
    """Find the most probable image by descent in the image itself.

    Four choices make 80 steps enough where the paper takes hundreds:

    - The variables are the image's Hartley coefficients in units of their size in photographs, which falls as
      1 / frequency. So coarse structure moves first.
    - The noise model starts wide and narrows to the exact one.
    - Adam's averages are short, because the objective changes as the noise model narrows. With Adam's usual averages
      digits come off faces with 27 dB instead of 35.
    - The learning rate falls to zero along a cosine.

    The descent starts at `back_project`, which is y itself for denoising. The image is clipped to [0, 1] after every
    step.

    Parameters
    ----------
    prior, noise : densities of the image and of the noise.
    measurements : (batch, ...), each of a different image.
    forward : f.
    smoothing : β, the weight of the prior. Bayes' rule is 1; less makes up for a prior that is too sure of itself.
    steps : of the descent; each is one evaluation of the prior with its gradient.
    learning_rate : Adam's first learning rate; one step changes the mean of the image by up to this much.
    floor : first and last standard deviation of the white noise that widens the noise model; it falls geometrically.

    Yields
    ------
    An `Iterate` after every step, the last one with an `outcome`.

    Raises
    ------
    ValueError : a parameter is out of range, or f(x) does not have the shape of the measurements.

    Examples
    --------
    An untrained RealNVP is the density N(½, I), so with noise N(0, I) the answer lies halfway between ½ and y:

    >>> from invlib.priors.flows import RealNVP
    >>> from invlib.problems.noise import Gaussian
    >>> y = torch.full((1, 1, 4, 4), 0.9)
    >>> last = collect(map_x(RealNVP((1, 4, 4), (2,), 1), Gaussian(1.0), y, smoothing=1.0))
    >>> print(f"{last.image.mean():.3f}", last.outcome)
    0.700 finished its 80 steps
    """
    prior = on(prior)
    descent = _Descent(measurements, forward, prior, noise, steps, learning_rate, floor)
    scale = spectrum(prior.image_shape).to(descent.device)

    def image_of(u: Tensor) -> tuple[Tensor, Tensor]:
        x = hartley(scale * u)
        return x, prior.log_prob(x)

    def clip(u: Tensor) -> Tensor:
        return hartley(hartley(scale * u).clamp(0, 1)) / scale

    start = hartley(back_project(descent.measurements, descent.forward, prior.image_shape)) / scale
    return descent.minimise(image_of, start, smoothing, decay=True, betas=(0.8, 0.99), project=clip)


@own_defaults
def map_z(
    prior: Flow,
    noise: NoiseModel,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    smoothing: float = 1.0,
    steps: int = 150,
    learning_rate: float = 0.02,
    floor: tuple[float, float] | None = None,
) -> Iterator[Iterate]:
    """Find the most probable image by descent in its code z from z = 0, as the paper does (Eq. 10).

    Parameters, what is yielded and what is raised are as in `map_x`. Without a `floor` the noise model stays as it is
    and the learning rate is constant; with one, the rate falls to zero along a cosine.
    """
    prior = on(prior)
    descent = _Descent(measurements, forward, prior, noise, steps, learning_rate, floor)

    def image_of(z: Tensor) -> tuple[Tensor, Tensor]:
        x, logdet = prior.decode(z)
        return x, standard_normal_log_prob(z) - logdet

    return descent.minimise(image_of, descent.zeros(prior.dims), smoothing, decay=floor is not None)


@own_defaults
def mle(
    generator: Generator,
    noise: NoiseModel,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    steps: int = 1000,
    learning_rate: float = 0.02,
    floor: tuple[float, float] | None = None,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Find the image of a GAN under which the measurements are most probable (Eq. 5).

    A GAN has no density. Its prior is that it can make the image. Measurement i of the batch starts at draw i of
    z ~ N(0, I), so a batch that repeats one measurement gives several answers. `seed` is for these draws. The other
    parameters, what is yielded and what is raised are as in `map_z`.
    """
    generator = on(generator)
    descent = _Descent(measurements, forward, generator, noise, steps, learning_rate, floor)
    starts = descent.draws(generator.latent_dim, seed)
    return descent.minimise(lambda z: (generator(z), torch.zeros(len(z), device=z.device)), starts, 0.0)


@own_defaults
def bora(
    generator: Generator,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    lam: float = 0.01,
    steps: int = 1000,
    learning_rate: float = 0.02,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Minimise ‖y - f(G(z))‖² + λ ‖z‖² over the code z of a GAN (Eq. 6).

    This is `mle` for white noise, with a preference for short z. Parameters, what is yielded and what is raised are as
    in `mle`, and `lam` is λ. See Bora et al. (2017), "Compressed Sensing using Generative Models",
    https://arxiv.org/abs/1703.03208.
    """
    generator = on(generator)
    descent = _Descent(measurements, forward, generator, None, steps, learning_rate, None)
    starts = descent.draws(generator.latent_dim, seed)
    return descent.minimise(lambda z: (generator(z), -z.square().sum(1)), starts, lam)


@own_defaults
def asim(
    prior: Flow,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    gamma: float = 2.0,
    steps: int = 150,
    learning_rate: float = 0.02,
) -> Iterator[Iterate]:
    """Minimise ‖y - f(G(z))‖² + γ ‖z‖ over the code z of a flow (Eq. 8).

    This is `map_z` for white noise, with the norm of z (not squared) in place of the prior's log-density. Parameters,
    what is yielded and what is raised are as in `map_z`, and `gamma` is γ. See Asim et al. (2019), "Invertible
    generative models for inverse problems: mitigating representation error and dataset bias",
    https://arxiv.org/abs/1905.11672.
    """
    prior = on(prior)
    descent = _Descent(measurements, forward, prior, None, steps, learning_rate, None)
    starts = descent.zeros(prior.dims)
    return descent.minimise(lambda z: (prior.decode(z)[0], -torch.linalg.vector_norm(z, dim=1)), starts, gamma)


def collect(iterates: Iterable[Iterate]) -> Iterate:
    """Run a minimisation to its end and return the last iterate; ValueError if it was stopped before."""
    end = deque(iterates, maxlen=1)
    if not end or end[0].outcome is None:
        raise ValueError("the minimisation stopped before its end, so there is no result to collect")
    return end[0]


def spectrum(image_shape: Sequence[int]) -> Tensor:
    """The typical size of the Hartley coefficients of photographs, √(HW) / (1 + frequency) up to a factor: (H, W).

    The frequency is in cycles per image. Divided by this, the coefficient of frequency 0 is the mean of the image.
    """
    _, height, width = check_shape(image_shape)
    down, across = height * torch.fft.fftfreq(height), width * torch.fft.fftfreq(width)
    return math.sqrt(height * width) / (1 + torch.hypot(down[:, None], across[None]))


class _Descent:
    """The measurements of a batch, and the descent that all methods share."""

    def __init__(
        self,
        measurements: Tensor,
        forward: Forward,
        prior: nn.Module,
        noise: NoiseModel | None,
        steps: int,
        learning_rate: float,
        floor: tuple[float, float] | None,
    ) -> None:
        first, last = floor or (1.0, 1.0)
        check_whole(1, MOST_STEPS, steps=steps)
        check_positive(learning_rate=learning_rate, first_floor=first, last_floor=last)
        self.device = next(prior.parameters()).device
        self.noise = None if noise is None else on(noise, self.device)
        # A clone that is made here can be used with gradients, even if the measurements come from inference mode.
        self.measurements = check_measurements(measurements).to(self.device, torch.float32).clone()
        self.forward = on(forward, self.device) if isinstance(forward, nn.Module) else forward
        self.steps, self.learning_rate, self.floor = steps, learning_rate, floor

    def level(self, step: int) -> float:
        """The floor of step 1, 2, ..., which falls geometrically; 0 if there is none."""
        if self.floor is None:
            return 0.0
        first, last = self.floor
        return first * (last / first) ** ((step - 1) / max(1, self.steps - 1))

    def noise_log_prob(self, x: Tensor, level: float) -> Tensor:
        """log p_Δ(y - f(x)), (batch,), with the noise widened to `level`; without a noise model -‖y - f(x)‖²."""
        if self.noise is not None:
            return noise_log_prob(self.noise, self.measurements, self.forward, x, level)
        predicted = self.forward(x)
        check_predicted(predicted, self.measurements)
        return -(self.measurements - predicted).square().flatten(1).sum(1)

    def zeros(self, dims: int) -> Tensor:
        """The code 0 for every measurement: (batch, dims)."""
        return torch.zeros(len(self.measurements), dims, device=self.device)

    def draws(self, dims: int, seed: int) -> Tensor:
        """A random code for every measurement, where a descent in the code of a GAN starts: (batch, dims).

        At z = 0, after batch normalisation, all rectifiers of a layer may be off, and the gradient is then 0.
        """
        check_seed(seed)
        return standard_normal(len(self.measurements), dims, seed).to(self.device)

    @own_defaults
    def minimise(
        self,
        image_of: Callable[[Tensor], tuple[Tensor, Tensor]],
        starts: Tensor,
        weight: float,
        *,
        decay: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        project: Callable[[Tensor], Tensor] = lambda variables: variables,
    ) -> Iterator[Iterate]:
        """Minimise -noise - weight · signal with Adam from variables `starts` (batch, ...).

        `image_of` goes from variables to images and their signal log-density, `betas` say how long Adam averages, and
        `project` is applied to the variables at the start and after every step. With `decay` the learning rate falls to
        zero along a cosine.
        """
        starts = project(starts)
        # Each measurement has its own parameter, so that Adam can skip a step of one and forget its momentum.
        rows = [row.clone().requires_grad_() for row in starts.split(1)]
        adam = torch.optim.Adam(rows, self.learning_rate, betas)
        good: list[Tensor] = []
        skipped = 0

        for step in range(1, self.steps + 1):
            floor = self.level(step)
            variables = torch.cat([row.detach() for row in rows])
            with torch.enable_grad():
                image, signal = image_of(torch.cat(rows))
                noise = self.noise_log_prob(image, floor)
                objective = -noise - weight * signal
                gradients = torch.autograd.grad(objective.sum(), rows)
            finite = objective.isfinite() & torch.cat(gradients).flatten(1).isfinite().all(1)
            new = [tensor.detach() for tensor in (variables, image, noise, signal, objective)]
            if not good:
                good = [*new[:-1], objective.detach().where(finite, math.inf)]
            pairs = zip(new, good, strict=True)
            good = [torch.where(finite.view(-1, *[1] * (one.ndim - 1)), one, old) for one, old in pairs]
            skipped += int((~finite).sum())

            variables, image, noise, signal, objective = good
            outcome = None
            if bool(objective.isinf().any()):
                outcome = "the objective is not finite at the start: choose settings nearer to the defaults"
            elif step == self.steps:
                outcome = f"finished its {step} steps"
            yield Iterate(step, image, objective, noise, signal, floor, step, skipped, outcome)
            if outcome:
                return

            with torch.no_grad():
                for row, gradient, fine, last in zip(rows, gradients, finite.tolist(), variables.split(1), strict=True):
                    row.grad = gradient if fine else None
                    if not fine:
                        row.copy_(last)
                        adam.state.pop(row, None)
                if decay:
                    adam.param_groups[0]["lr"] = self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
                adam.step()
                for row in rows:
                    row.copy_(project(row))
