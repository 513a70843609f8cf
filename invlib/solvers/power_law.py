"""A Gaussian prior of photographs, whose power falls with the frequency as that of photographs does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from invlib.checks import check_shape
from invlib.problems.operators import LinearOperator, Mask, conjugate_gradients

POWER = (7e-4, 6e-5, 1.2e-5)
"""Of brightness, of red against blue, and of green against both: the power of the frequency f, in cycles per pixel, is
this times f^-2.5. Measured on crops of 64 to 256 pixels of the photographs that the denoisers were trained on."""

EXPONENT = 2.5

AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
"""Brightness, red against blue, green against both, in (red, green, blue): the principal axes of photographs."""

FINEST = 0.125
"""The highest frequency in cycles per pixel. What is finer is much weaker than the noise that a run starts with."""

DETAIL = 0.07
"""The standard deviation of what is finer. So pictures agree with the measurements only so far."""

STEPS = 100
"""The most steps of conjugate gradients that make pictures agree with measurements."""

LARGE = 64
"""The side in pixels of a hole that hides so many cosines that solving for the pixels around it takes fewer steps."""


class PowerLaw:
    """Pictures that are Gaussian, with the mean ½ and a power that falls as the frequency to the -2.5.

    They look like clouds. A denoiser that was trained with noise of σ ≤ 1 knows what is finer, but not how the coarse
    parts of a picture vary: in photographs these are so strong that no such noise hides them, so a run that starts from
    grey and white noise makes a pale picture. A run that starts from a picture of this prior, plus noise, does not.

    Parameters
    ----------
    shape : (C, H, W). Three channels are red, green and blue, and vary together; any others vary independently.
    device : where the pictures are made.

    Examples
    --------
    >>> clouds = PowerLaw((3, 48, 64)).sample(torch.randn(8, 3, 48, 64, generator=torch.Generator().manual_seed(0)))
    >>> clouds.shape, 0.1 < float(clouds.std((1, 2, 3)).mean()) < 0.3
    (torch.Size([8, 3, 48, 64]), True)

    References
    ----------
    Field (1987), "Relations between the statistics of natural images and the response properties of cortical cells",
    https://doi.org/10.1364/JOSAA.4.002379
    Ruderman, Cronin & Chiao (1998), "Statistics of cone responses to natural images: implications for visual coding",
    https://doi.org/10.1364/JOSAA.15.002036
    """

    def __init__(self, shape: Sequence[int], device: torch.device | str = "cpu") -> None:
        channels, height, width = check_shape(shape)
        if channels == 3:
            axes, power = torch.tensor(AXES, dtype=torch.float64), torch.tensor(POWER, dtype=torch.float64)
        else:  # each varies as the mean of the three colours does
            axes = torch.eye(channels, dtype=torch.float64)
            power = torch.full((channels,), POWER[0] / 3, dtype=torch.float64)
        down, across = cosines(height), cosines(width)
        # A cosine with k half-periods has the frequency k / (2 side). The mean varies as if its frequency were the
        # lowest of a picture that is twice as large.
        frequency = torch.hypot(
            torch.arange(len(down), dtype=torch.float64)[:, None] / (2 * height),
            torch.arange(len(across), dtype=torch.float64) / (2 * width),
        ).clamp_min(0.5 / max(height, width))
        variance = power.view(-1, 1, 1) * frequency**-EXPONENT
        self.axes, self.down, self.across, self.variance = (
            each.to(device, torch.float32) for each in (axes / axes.norm(dim=1, keepdim=True), down, across, variance)
        )

    def sample(self, white: Tensor) -> Tensor:
        """Pictures (n, C, H, W) of the prior, from white noise of that shape."""
        return 0.5 + self._filter(white, self.variance.sqrt())

    def sample_given(self, operator: LinearOperator, m: Tensor, white: Tensor) -> Tensor:
        """Pictures (n, C, H, W) of the prior that agree with measurements m (1, *measurement_shape), from white noise.

        A picture x of the prior becomes x + Bᵀ (δ² V⁻¹ + B M MᵀBᵀ)⁻¹ B M (m - Mᵀx), where the rows of B are the coarse
        cosines, V are their variances, and δ is the strength of the detail that they leave out, which counts as noise
        in every measurement. So does noise that the measurements have.

        Conjugate gradients solve this in 15 to 50 steps, except where a mask has a large hole: cosines that it hides
        would take hundreds. There they solve the equal x + C M (MᵀC M + δ²)⁻¹ (m - Mᵀx), where C = Bᵀ V B is the
        covariance of the prior, in 50 to 100 steps. Its unknowns are the pixels outside the hole.

        References
        ----------
        Hoffman & Ribak (1991), "Constrained realizations of Gaussian fields: a simple algorithm",
        https://doi.org/10.1086/186160
        """
        x = self.sample(white)
        rest = m - operator.measure(x)
        if isinstance(operator, Mask) and operator.hides(LARGE):
            return x + self._filter(self._around(operator, operator.adjoint(rest)), self.variance)
        return x + self._synthesise(self._cosines(operator, rest))

    def _cosines(self, operator: LinearOperator, m: Tensor) -> Tensor:
        """`(δ² V⁻¹ + B M MᵀBᵀ)⁻¹ B M m`: the strengths of cosines that explain measurements m."""
        unlikely = DETAIL**2 / self.variance
        share = operator.measured / math.prod(operator.image_shape)

        def apply(strengths: Tensor) -> Tensor:
            found = operator.adjoint(operator.measure(self._synthesise(strengths)))
            return unlikely * strengths + self._analyse(found)

        b = self._analyse(operator.adjoint(m))
        return conjugate_gradients(apply, b, lambda r: r / (unlikely + share), STEPS, tolerance=1e-9)

    def _around(self, mask: Mask, x: Tensor) -> Tensor:
        """`M (MᵀC M + δ²)⁻¹ Mᵀx` of pictures x (n, C, H, W) that are zero in the holes of a mask."""

        def apply(v: Tensor) -> Tensor:
            return mask.project(self._filter(v, self.variance)) + DETAIL**2 * v

        def precondition(r: Tensor) -> Tensor:
            """δ² (C + δ²)⁻¹ outside the holes: up to a factor, the inverse if there are none."""
            return r - mask.project(self._filter(r, self.variance / (self.variance + DETAIL**2)))

        return conjugate_gradients(apply, x, precondition, STEPS)

    def _filter(self, x: Tensor, gain: Tensor) -> Tensor:
        """Pictures whose coarse cosines are multiplied by a gain, and whose others vanish."""
        return self._synthesise(gain * self._analyse(x))

    def _analyse(self, x: Tensor) -> Tensor:
        """`B x`: the strengths of the coarse cosines in pictures (n, C, H, W)."""
        return torch.einsum("kc,nchw->nkhw", self.axes, self.down @ x @ self.across.mT)

    def _synthesise(self, strengths: Tensor) -> Tensor:
        """`Bᵀ s`: pictures whose coarse cosines have these strengths, and that have no others."""
        return self.down.mT @ torch.einsum("kc,nkhw->nchw", self.axes, strengths) @ self.across


def cosines(side: int) -> Tensor:
    """Cosines with 0, 1, ... half-periods in `side` pixels, up to the frequency `FINEST`: orthonormal rows, float64.

    >>> rows = cosines(16)
    >>> rows.shape, torch.allclose(rows @ rows.mT, torch.eye(5, dtype=rows.dtype))
    (torch.Size([5, 16]), True)
    """
    count = min(side, math.floor(2 * side * FINEST) + 1)
    k, place = torch.arange(count, dtype=torch.float64)[:, None], torch.arange(side, dtype=torch.float64) + 0.5
    rows = torch.cos(math.pi / side * k * place) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return rows
