# What `import invlib` offers. `__init__.py` reads it and imports each name when it is first used.

from . import runs
from .client import Client, ServerError
from .images import ImageError, load_image, save_image
from .metrics import psnr, ssim
from .priors.checkpoints import CheckpointError, load
from .priors.denoisers import Denoiser
from .priors.flows import Flow
from .priors.gans import Generator
from .problems.operators import BlockAverage, Blur, DenseRows, LinearOperator, LowPass, Mask, StructuredRows
from .problems.spec import Knob
from .solvers.noise_level import estimate_noise
from .solvers.posterior import Posterior
from .solvers.restoration import Restoration, posterior_mean, restore, sample
from .solvers.samplers import State, ascend, sample_fast
from .solvers.schedules import Ascent, Schedule

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
