"""Denoising: every number of a picture was measured, with noise. It is the linear problem of the operator `Identity`.

White noise has the same strength everywhere, and no pixel's noise tells of its neighbour's. The noise of a camera is
stronger where the picture is bright: photons are counted, and a count of n varies by √n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invlib.checks import check_seed, check_shape
from invlib.images import Picture
from invlib.metrics import psnr_all_channels, ssim
from invlib.problems.linear import LinearProblem, LinearTask, noise_to_assume
from invlib.problems.operators import Identity
from invlib.problems.spec import Knob

DENOISING = "denoising"

GAIN = Knob(
    "gain",
    float,
    "How much the noise grows with brightness, as that of a camera does: where the picture is x, the noise has the "
    "variance gain · x besides that of the noise level.",
    "Gain of the camera",
    0.0,
    values=(0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    advanced=True,
    least=0,
    most=1,
)

TASKS: dict[str, LinearTask] = {DENOISING: LinearTask(operator=Identity, knobs=(GAIN,))}


@dataclass(frozen=True, eq=False, kw_only=True)
class DenoisingProblem(LinearProblem):
    """A picture with noise. The measurements are the picture itself, and `noise_level` is the white part of its noise.

    Attributes
    ----------
    levels : the noise level as a solver has found it, a number or one for each pixel, (C, H, W).
    """

    levels: Tensor | None = None

    command: ClassVar[str] = "denoise"
    metrics = {"psnr": psnr_all_channels, "ssim": ssim}  # noqa: RUF012 - annotated in the base class

    @property
    def kind(self) -> LinearTask:
        return TASKS[self.task]

    @property
    def gain(self) -> float | None:
        """How much the noise's variance grows with brightness; None if that is to be estimated."""
        return self.knobs["gain"] or (None if self.estimate_noise else 0.0)

    @property
    def noise(self) -> float | Tensor:
        return self.noise_level if self.levels is None else self.levels


def pose(
    task: str,
    picture: Picture,
    knobs: Mapping[str, Any] = {},
    *,
    simulated: bool = True,
    noise_level: float | None = None,
    estimate_noise: bool | None = None,
    seed: int = 0,
) -> DenoisingProblem:
    """Add noise to a clean picture, or take a picture as it is, noise and all.

    Parameters
    ----------
    task : "denoising", the only name in `TASKS`.
    picture : a clean one, or a noisy one.
    knobs : "gain", if the noise grows with brightness.
    simulated : whether the picture is clean, so that noise is added and an answer can be scored.
    noise_level : standard deviation of the white part of the noise, where white is 1.
    estimate_noise : whether a solver is to estimate the noise instead of knowing it. That is the default for a picture
        that is noisy already, unless its level is given.
    seed : of the noise that is added.

    Raises
    ------
    ValueError : an unknown knob, a value out of range, or no noise to add.

    Examples
    --------
    >>> grey = Picture("grey", torch.full((1, 1, 64, 64), 0.5), "nothing but grey")
    >>> problem = pose("denoising", grey, {"gain": 0.02}, noise_level=0.01)
    >>> float((problem.view() - 0.5).std())  # √(0.02 · 0.5 + 0.01²) = 0.1005
    0.10...
    """
    noise_level, estimate_noise = noise_to_assume(TASKS[task], simulated, noise_level, estimate_noise)
    values, image = TASKS[task].complete(knobs, task), picture.image
    gain = values["gain"]
    if not (noise_level or gain) and (simulated or not estimate_noise):
        raise ValueError("there is no noise: give a --noise-level or a --gain above 0")
    return DenoisingProblem(
        task=task,
        image_shape=check_shape(image.shape[1:]),
        knobs=values,
        picture=picture,
        simulated=simulated,
        seed=seed,
        operator=Identity(image.shape[1:]),
        measurements=add_noise(image, noise_level, gain, seed) if simulated else image,
        noise_level=noise_level,
        estimate_noise=estimate_noise,
    )


def add_noise(image: Tensor, noise_level: float, gain: float, seed: int) -> Tensor:
    """A picture with the noise of a camera: Poisson noise of variance gain · x, and white Gaussian noise."""
    generator = torch.Generator().manual_seed(check_seed(seed))
    white = noise_level * torch.randn(image.shape, generator=generator)
    # A smaller gain changes no number of float32, and the counts would be too large for one.
    counted = gain * torch.poisson(image.clamp_min(0) / gain, generator) if gain > 1e-14 else image
    return counted + white
