"""Image inverse problems with the prior implicit in a denoiser, or explicit in a flow.

>>> import invlib
>>> prior = invlib.load("bf-unet-color")
>>> x = invlib.load_image("photo.jpg")
>>> operator = invlib.BlockAverage(x.shape[1:], factor=4)
>>> result = invlib.restore(prior, operator, operator.measure(x), count=8, seed=0)
>>> invlib.save_image(result.mean, "restored.png")
"""

from invlib.images import ImageError, load_image, save_image
from invlib.metrics import psnr, ssim
from invlib.priors.checkpoints import CheckpointError, load
from invlib.priors.denoisers import Denoiser
from invlib.priors.flows import Flow
from invlib.priors.gans import Generator
from invlib.problems.operators import BlockAverage, Blur, DenseRows, LinearOperator, LowPass, Mask, StructuredRows
from invlib.solvers.ascent import Restoration, Schedule, State, ascend, posterior_mean, recur, restore, sample

__all__ = [
    "BlockAverage",
    "Blur",
    "CheckpointError",
    "Denoiser",
    "DenseRows",
    "Flow",
    "Generator",
    "ImageError",
    "LinearOperator",
    "LowPass",
    "Mask",
    "Restoration",
    "Schedule",
    "State",
    "StructuredRows",
    "ascend",
    "load",
    "load_image",
    "posterior_mean",
    "psnr",
    "recur",
    "restore",
    "sample",
    "save_image",
    "ssim",
]
