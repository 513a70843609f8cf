"""Inverse problems with noise of any density: the most probable image.

Measurements are y = f(x) + δ, where f may be any differentiable function and the noise δ has a density p_Δ. With a
flow for the prior p_G, `map_x` and `map_z` minimise

    -log p_Δ(y - f(x)) - β log p_G(x)

over the image x or over its code z, x = G(z) (Whang, Lei & Dimakis 2021, Eq. 10); with a GAN, `mle` minimises the first
term (Eq. 5). `bora` and `asim` are the two objectives that these generalise (Eqs. 6 and 8).

All are generators of `Iterate`: the caller shows, records or stops iterating, which is cancelling. `collect` drains
one. The prior's weights must be float32: in bfloat16 a flow is not invertible.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from invlib.checks import check_batch, check_positive, check_shape
from invlib.priors.flows import Flow, standard_normal, standard_normal_log_prob
from invlib.priors.gans import Generator
from invlib.problems.noise import Gaussian, NoiseModel
from invlib.problems.operators import hartley

Forward = Callable[[Tensor], Tensor]
"""Images (batch, C, H, W) to measurements (batch, ...), differentiable, on the device of the prior."""


def identity(x: Tensor) -> Tensor:
    """f(x) = x: denoising."""
    return x


@dataclass(frozen=True)
class Iterate:
    """One step of a minimisation, for a batch of measurements; of several restarts the one with the least objective.

    Attributes
    ----------
    step : 1, 2, ...
    image : (batch, C, H, W).
    objective : of that image, -noise_log_prob - weight · signal_log_prob with the method's weight, (batch,).
    noise_log_prob : log p_Δ(y - f(x)) in nats at this step's `floor`; for `bora` and `asim` -‖y - f(x)‖², (batch,).
    signal_log_prob : log p_G(x) in nats; 0 for `mle`, -‖z‖² for `bora`, -‖z‖ for `asim`, (batch,).
    floor : the level of white noise that this step's noise model was widened by.
    evaluations : passes through the prior per restart so far, each with its gradient.
    skipped : steps of any restart that led where the objective is not finite, and were undone.
    outcome : None while it runs; in the last iterate a sentence that says how it ended.
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
    start: Tensor | None = None,
    restarts: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """The most probable image, by descent in the image itself.

    Four things make tens of steps enough where the paper takes hundreds. The variables are the image's Hartley
    coefficients in units of their size in photographs, which falls as 1 / frequency: coarse structure moves first. The
    noise model starts wide and narrows to the exact one. Adam's averages are short, since the objective narrows with
    it: with its usual ones digits come off faces with 27 dB instead of 35. The learning rate falls to zero along a
    cosine. After every step the image is clipped to [0, 1].

    Parameters
    ----------
    prior : density of the image.
    noise : density of the noise.
    measurements : (batch, ...), each of an image of its own.
    forward : f.
    smoothing : β, the trust in the prior; 1 is Bayes' rule, less makes up for a prior that is too sure of itself.
    steps : each is one evaluation of the prior with its gradient.
    learning_rate : of Adam, at first; a step changes the mean of the image by up to this much.
    floor : first and last level of the white noise that widens the noise model; they change geometrically.
    start : images (batch or 1, C, H, W) to descend from; `back_project` if None, for denoising the measurements.
    restarts : descents for each measurement. The first goes from the start, the others from it plus random clouds.
    seed : of the clouds.

    Yields
    ------
    An `Iterate` per step, the last with an `outcome`.

    Raises
    ------
    ValueError : a parameter is out of range, or f(x) does not have the shape of the measurements.
    """
    problem = _Problem(measurements, forward, prior, noise, steps, learning_rate, floor, restarts, seed)
    scale = spectrum(prior.image_shape).to(problem.device)

    def densities(u: Tensor, level: float) -> _Densities:
        x = hartley(scale * u)
        return _Densities(x, problem.noise_log_prob(noise, x, level), prior.log_prob(x))

    def clip(u: Tensor) -> Tensor:
        return hartley(hartley(scale * u).clamp(0, 1)) / scale

    if start is None:
        start = back_project(measurements.to(problem.device), forward, prior.image_shape)
    check_batch(start, prior.image_shape, "images to start from")
    coordinates = hartley(start.to(problem.device)) / scale
    return problem.minimise(
        densities, problem.around(coordinates, 0.03), smoothing, decay=True, betas=(0.8, 0.99), project=clip
    )


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
    start: Tensor | None = None,
    restarts: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """The most probable image, by descent in its code z: the paper's way, Eq. 10.

    Parameters, yields and raises as in `map_x`, except:

    learning_rate : of Adam; throughout, or at first if there is a floor.
    floor : None keeps the noise model as it is. With one the learning rate falls too, along a cosine.
    start : images whose codes G⁻¹(start) to descend from; z = 0 if None. Other restarts add standard normal noise to z.
    """
    problem = _Problem(measurements, forward, prior, noise, steps, learning_rate, floor, restarts, seed)

    def densities(z: Tensor, level: float) -> _Densities:
        x, logdet = prior.decode(z)
        return _Densities(x, problem.noise_log_prob(noise, x, level), standard_normal_log_prob(z) - logdet)

    starts = problem.around(_codes(prior, start, problem.device))
    return problem.minimise(densities, starts, smoothing, decay=floor is not None)


def mle(
    generator: Generator,
    noise: NoiseModel,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    steps: int = 1000,
    learning_rate: float = 0.02,
    floor: tuple[float, float] | None = None,
    restarts: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """The image of a generator under which the measurements are most probable, Eq. 5.

    A GAN has no density; its prior is that the image is one that it can make. Every descent starts at a z that is drawn
    from N(0, I). Parameters, yields and raises as in `map_z`.
    """
    problem = _Problem(measurements, forward, generator, noise, steps, learning_rate, floor, restarts, seed)

    def densities(z: Tensor, level: float) -> _Densities:
        x = generator(z)
        return _Densities(x, problem.noise_log_prob(noise, x, level), torch.zeros(len(z), device=z.device))

    return problem.minimise(densities, problem.draws(generator.latent_dim), 0.0)


def bora(
    generator: Generator,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    lam: float = 0.01,
    steps: int = 1000,
    learning_rate: float = 0.02,
    restarts: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Minimise ‖y - f(G(z))‖² + λ ‖z‖² over the code of a GAN (Bora et al. 2017; Eq. 6).

    It is `mle` for white noise, with a preference for short z. Parameters, yields and raises as there.
    """
    problem = _Problem(measurements, forward, generator, None, steps, learning_rate, None, restarts, seed)

    def densities(z: Tensor, level: float) -> _Densities:
        x = generator(z)
        return _Densities(x, -problem.squared_distance(x), -z.square().sum(1))

    return problem.minimise(densities, problem.draws(generator.latent_dim), lam)


def asim(
    prior: Flow,
    measurements: Tensor,
    forward: Forward = identity,
    *,
    gamma: float = 2.0,
    steps: int = 150,
    learning_rate: float = 0.02,
    start: Tensor | None = None,
    restarts: int = 1,
    seed: int = 0,
) -> Iterator[Iterate]:
    """Minimise ‖y - f(G(z))‖² + γ ‖z‖ over the code of a flow (Asim et al. 2019; Eq. 8).

    It is `map_z` for white noise, with the norm of z (not squared) in place of the prior's log-density. Parameters,
    yields and raises as there.
    """
    problem = _Problem(measurements, forward, prior, None, steps, learning_rate, None, restarts, seed)

    def densities(z: Tensor, level: float) -> _Densities:
        x, _ = prior.decode(z)
        return _Densities(x, -problem.squared_distance(x), -torch.linalg.vector_norm(z, dim=1))

    return problem.minimise(densities, problem.around(_codes(prior, start, problem.device)), gamma)


def collect(iterates: Iterable[Iterate]) -> Iterate:
    """Run a minimisation to its end and return the last iterate; ValueError if it was stopped before."""
    end = deque(iterates, maxlen=1)
    if not end or end[0].outcome is None:
        raise ValueError("the minimisation stopped before its end, so there is no result to collect")
    return end[0]


def back_project(measurements: Tensor, forward: Forward, image_shape: Sequence[int]) -> Tensor:
    """Images that explain the measurements roughly: one step of steepest descent on ‖y - f(x)‖² from grey.

    The step is the best one for f linearised. It leads all the way where f is a multiple of the identity.

    Parameters
    ----------
    measurements : (batch, ...).
    forward : f.
    image_shape : (C, H, W).

    Returns
    -------
    (batch, C, H, W), of any range.
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


class GaussianMeasurements(nn.Module):
    """f(x) = A x, A with independent entries N(0, 1/m): the paper's compressive sensing.

    Parameters
    ----------
    image_shape : (C, H, W).
    count : m; images (batch, C, H, W) have measurements (batch, m).
    seed : of the matrix, the same on every device.

    Raises
    ------
    ValueError : if the matrix would have no entries, or more than 2²⁷ (512 MiB).
    """

    matrix: Tensor

    def __init__(self, image_shape: Sequence[int], count: int, seed: int = 0) -> None:
        super().__init__()
        size = math.prod(check_shape(image_shape))
        if not 0 < size * count <= 2**27:
            raise ValueError(f"count must be from 1 to {2**27 // size} for an image of {size} numbers, got {count}")
        matrix = torch.randn(size, count, generator=torch.Generator().manual_seed(seed)).div_(math.sqrt(count))
        self.register_buffer("matrix", matrix)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix


class SignMeasurements(GaussianMeasurements):
    """f(x) = sign(A x): 1-bit compressive sensing. Parameters and raises as in `GaussianMeasurements`."""

    def forward(self, x: Tensor) -> Tensor:
        return sign(super().forward(x))

    def log_prob(self, noise: Gaussian, measurements: Tensor, x: Tensor, floor: float) -> Tensor:
        """log p(y | x), (batch,), if white noise of standard deviation `floor` > 0 were added to A x before its sign.

        With probability Φ(u / floor), u = A x, the sign is then 1. So the density is smooth, and a sum that has the
        wrong sign is pulled the harder the further it is off; the gradient of `sign` cannot tell.
        """
        u = super().forward(x) / floor
        positive = torch.special.log_ndtr(u) + noise.entries(measurements - 1)
        negative = torch.special.log_ndtr(-u) + noise.entries(measurements + 1)
        return torch.logaddexp(positive, negative).sum(1)


def sign(u: Tensor) -> Tensor:
    """-1, 0 or 1, with the gradient of the identity: the straight-through estimator (Bengio et al. 2013)."""
    return u.sign().detach() + (u - u.detach())


def spectrum(image_shape: Sequence[int]) -> Tensor:
    """How large the Hartley coefficients of photographs are, up to a factor: √(HW) / (1 + frequency), (H, W).

    The frequency is in cycles per image. The mean of the image, in [0, 1], is its coefficient of frequency 0 in these
    units.
    """
    _, height, width = check_shape(image_shape)
    down, across = height * torch.fft.fftfreq(height), width * torch.fft.fftfreq(width)
    return math.sqrt(height * width) / (1 + torch.hypot(down[:, None], across[None]))


@torch.no_grad()
def _codes(prior: Flow, start: Tensor | None, device: torch.device) -> Tensor:
    """G⁻¹(start), or z = 0: (batch or 1, C·H·W)."""
    return torch.zeros(1, prior.dims, device=device) if start is None else prior.encode(start.to(device))[0]


class _Densities(NamedTuple):
    """Images and, up to constants, the log-densities of their noise and of themselves."""

    image: Tensor
    noise: Tensor
    signal: Tensor


class _Problem:
    """Measurements, each `restarts` times, and the descent that all methods share."""

    def __init__(
        self,
        measurements: Tensor,
        forward: Forward,
        prior: nn.Module,
        noise: NoiseModel | None,
        steps: int,
        learning_rate: float,
        floor: tuple[float, float] | None,
        restarts: int,
        seed: int,
    ) -> None:
        first, last = floor or (1.0, 1.0)
        check_positive(steps=steps, learning_rate=learning_rate, restarts=restarts, first_floor=first, last_floor=last)
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        if not bool(torch.isfinite(measurements).all()):
            raise ValueError("the measurements hold numbers that are not finite")
        self.device = next(prior.parameters()).device
        if noise is not None:
            noise.to(self.device)
        self.batch, self.restarts, self.seed = len(measurements), restarts, seed
        self.measurements = measurements.to(self.device).repeat_interleave(restarts, 0)
        self.forward = forward.to(self.device) if isinstance(forward, nn.Module) else forward
        self.steps, self.learning_rate = steps, learning_rate
        self.floor = floor

    def level(self, step: int) -> float:
        """The floor of step 1, 2, ..., which changes geometrically; 0 if there is none."""
        if self.floor is None:
            return 0.0
        first, last = self.floor
        return first * (last / first) ** ((step - 1) / max(1, self.steps - 1))

    def residual(self, x: Tensor) -> Tensor:
        """y - f(x) of images (batch · restarts, C, H, W)."""
        predicted = self.forward(x)
        check_predicted(predicted, self.measurements)
        return self.measurements - predicted

    def noise_log_prob(self, noise: NoiseModel, x: Tensor, level: float) -> Tensor:
        """log p_Δ(y - f(x)) with the noise widened to `level`: (batch · restarts,)."""
        return noise_log_prob(noise, self.measurements, self.forward, x, level)

    def squared_distance(self, x: Tensor) -> Tensor:
        """‖y - f(x)‖²: (batch · restarts,)."""
        return self.residual(x).square().flatten(1).sum(1)

    def around(self, start: Tensor, spread: float = 1.0) -> Tensor:
        """Where the descents start: at `start` (batch or 1, ...), the others `spread` times white noise away."""
        if len(start) not in (1, self.batch):
            raise ValueError(
                f"start must hold one image, or one for each of {self.batch} measurements, got {len(start)}"
            )
        clouds = spread * standard_normal(self.restarts, start[0].numel(), self.seed).to(start)
        clouds[0] = 0
        starts = start.expand(self.batch, *start.shape[1:]).repeat_interleave(self.restarts, 0)
        return starts + clouds.repeat(self.batch, 1).view_as(starts)

    def draws(self, dims: int) -> Tensor:
        """Where the descents in the code of a GAN start: a draw for each restart, the same for all measurements.

        Not z = 0: there, after batch normalisation, whole layers of rectifiers may be off, and the gradient is 0.
        """
        return standard_normal(self.restarts, dims, self.seed).repeat(self.batch, 1).to(self.device)

    def minimise(
        self,
        densities: Callable[[Tensor, float], _Densities],
        starts: Tensor,
        weight: float,
        *,
        decay: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        project: Callable[[Tensor], Tensor] = lambda variables: variables,
    ) -> Iterator[Iterate]:
        """Adam on -noise - weight · signal.

        Parameters
        ----------
        densities : of variables (batch · restarts, ...), at a level of the floor.
        starts : variables (batch · restarts, ...).
        decay : lower the learning rate to zero along a cosine.
        betas : how long Adam averages gradients and their squares.
        project : applied to the variables at the start and after every step.
        """
        starts = project(starts)
        # One parameter for each descent, so that Adam can pass over one and forget its momentum.
        rows = [row.clone().requires_grad_() for row in starts.split(1)]
        adam = torch.optim.Adam(rows, self.learning_rate, betas)
        first_of_each = torch.arange(self.batch, device=self.device) * self.restarts
        good: list[Tensor] = []
        skipped = 0

        for step in range(1, self.steps + 1):
            floor = self.level(step)
            variables = torch.cat([row.detach() for row in rows])
            with torch.enable_grad():
                image, noise, signal = densities(torch.cat(rows), floor)
                objective = -noise - weight * signal
                gradients = torch.autograd.grad(objective.sum(), rows)
            finite = objective.isfinite() & torch.cat(gradients).flatten(1).isfinite().all(1)
            new = [tensor.detach() for tensor in (variables, image, noise, signal, objective)]
            if not good:
                good = [*new[:-1], objective.detach().where(finite, math.inf)]
            good = [
                torch.where(finite.view(-1, *[1] * (fresh.ndim - 1)), fresh, old)
                for fresh, old in zip(new, good, strict=True)
            ]
            skipped += int((~finite).sum())

            best = first_of_each + good[-1].view(self.batch, self.restarts).argmin(1)
            outcome = None
            if bool(good[-1][best].isinf().any()):
                outcome = "the objective is not finite at the start; choose another start"
            elif step == self.steps:
                outcome = f"finished its {step} steps"
            _, image, noise, signal, objective = (tensor[best] for tensor in good)
            yield Iterate(step, image, objective, noise, signal, floor, step, skipped, outcome)
            if outcome:
                return

            with torch.no_grad():
                for row, gradient, fine, last in zip(rows, gradients, finite.tolist(), good[0].split(1), strict=True):
                    row.grad = gradient if fine else None
                    if not fine:
                        row.copy_(last)
                        adam.state.pop(row, None)
                if decay:
                    adam.param_groups[0]["lr"] = self.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.steps))
                adam.step()
                for row in rows:
                    row.copy_(project(row))
