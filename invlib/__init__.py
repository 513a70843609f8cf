"""Image inverse problems with the prior implicit in a denoiser, or explicit in a flow.

A prior says which pictures are likely. A problem says what was measured, and with what noise. A solver finds pictures
that are likely and agree with the measurements. A run is one of each, with its settings, states, result and scores.

>>> import torch
>>> prior = load("bf-cnn-mnist")
>>> operator = BlockAverage((1, 28, 28), factor=2)
>>> result = restore(prior, operator, operator.measure(torch.rand(1, 1, 28, 28)), count=2, seed=0)
>>> result.mean.shape
torch.Size([1, 1, 28, 28])
"""

from invlib import runs
from invlib.client import Client, ServerError
from invlib.images import ImageError, load_image, save_image
from invlib.metrics import psnr, ssim
from invlib.priors.checkpoints import CheckpointError, load
from invlib.priors.denoisers import Denoiser
from invlib.priors.flows import Flow
from invlib.priors.gans import Generator
from invlib.problems.operators import BlockAverage, Blur, DenseRows, LinearOperator, LowPass, Mask, StructuredRows
from invlib.problems.spec import Knob
from invlib.solvers.noise_level import estimate_noise
from invlib.solvers.posterior import Posterior
from invlib.solvers.restoration import Restoration, posterior_mean, restore, sample
from invlib.solvers.samplers import State, ascend, sample_fast
from invlib.solvers.schedules import Ascent, Schedule

__all__ = [
    "Ascent",
    "BlockAverage",
    "Blur",
    "CheckpointError",
    "Client",
    "Denoiser",
    "DenseRows",
    "Flow",
    "Generator",
    "ImageError",
    "Knob",
    "LinearOperator",
    "LowPass",
    "Mask",
    "Posterior",
    "Restoration",
    "Schedule",
    "ServerError",
    "State",
    "StructuredRows",
    "ascend",
    "estimate_noise",
    "load",
    "load_image",
    "posterior_mean",
    "psnr",
    "restore",
    "runs",
    "sample",
    "sample_fast",
    "save_image",
    "ssim",
]
