"""Strokes of a pen over pictures, drawn at random: the noise of a denoiser that takes scribbles off."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invlib.problems.noise import pen_strokes
from invlib.training.measurements import log_uniform


def scribble_over(x: Tensor, random: np.random.Generator) -> Tensor:
    """What strokes add to pictures x (n, C, H, W): up to three on each, of random colours, widths and opacities.

    A stroke of colour c and opacity α turns x into x + α (c - x) where the pen was. A quarter of pictures have none.

    >>> x = torch.rand(8, 3, 64, 64)
    >>> added = scribble_over(x, np.random.default_rng(0))
    >>> bool((added == 0).any()), bool((added != 0).any()), bool((x + added).min() >= 0), bool((x + added).max() <= 1)
    (True, True, True, True)
    """
    drawn = x.clone()
    channels, *size = x.shape[1:]
    for picture in drawn:
        for _ in range(random.integers(0, 4)):
            pen = pen_strokes((size[0], size[1]), 1, random, thick=int(random.integers(0, 8)))
            mask = torch.from_numpy(pen).to(x)
            if random.random() < 0.4:  # smooth edges, as many programs draw them
                mask = F.avg_pool2d(F.pad(mask[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
            # Half of the pens are of a pure colour, or black or white.
            colour = (
                random.random((channels, 1, 1)) if random.random() < 0.5 else random.integers(0, 2, (channels, 1, 1))
            )
            picture += log_uniform(0.2, 1.0, random) * mask * (torch.from_numpy(colour).to(x) - picture)
    return drawn - x
