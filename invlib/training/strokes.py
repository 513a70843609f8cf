"""Pictures of what strokes of a pen add to a picture, drawn by the code: training data that need no licence.

A stroke of colour c and opacity α turns a picture x into x + α (c - x) where the pen was. What it adds is drawn here,
over pictures x that are random clouds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from invlib.problems.noise import pen_strokes
from invlib.training.measurements import log_uniform


def draw_added(channels: int, side: int, random: np.random.Generator) -> Tensor:
    """Draw what up to three strokes add to a picture: (channels, side, side), from -1 to 1, mostly 0.

    >>> added = draw_added(3, 64, np.random.default_rng(0))
    >>> added.shape, bool((added == 0).any()), bool((added != 0).any())
    (torch.Size([3, 64, 64]), True, True)
    """
    added = torch.zeros(channels, side, side)
    x = clouds(channels, side, random)
    for _ in range(random.integers(0, 4)):
        pen = pen_strokes(
            (side, side), 1, random, thick=int(random.choice([0, 1, 2, 3, 4], p=[0.15, 0.35, 0.25, 0.15, 0.1]))
        )
        mask = torch.from_numpy(pen).float()
        if random.random() < 0.4:  # smooth edges, as many programs draw them
            mask = F.avg_pool2d(F.pad(mask[None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[0]
        colour = random.random((channels, 1, 1)) if random.random() < 0.6 else random.integers(0, 2, (channels, 1, 1))
        opacity = log_uniform(0.25, 1.0, random) * mask
        added += opacity * (torch.from_numpy(colour).float() - x - added)
    return added


def clouds(channels: int, side: int, random: np.random.Generator) -> Tensor:
    """A random picture in [0, 1], smooth and rough in parts: (channels, side, side)."""
    picture = torch.full((1, channels, side, side), 0.5)
    colours = torch.from_numpy(random.normal(size=(1, channels, 1, 1))).float()
    for cells in (1, 2, 4, 8, 16, 32):
        grain = torch.from_numpy(random.normal(size=(1, 1, cells, cells))).float() * (1 + 0.3 * colours)
        wide = F.interpolate(grain, size=(side, side), mode="bilinear", align_corners=False)
        picture += random.random() * 0.5 / cells**0.5 * wide
    return (picture[0] + 0.1 * colours[0]).clamp(0, 1)


class Strokes:
    """Batches of drawings that depend only on the seed and the step, as `data.Crops` are."""

    def __init__(self, channels: int, size: int, seed: int, device: torch.device) -> None:
        self.channels, self.size, self.seed, self.device = channels, size, seed, device

    def batch(self, step: int, count: int) -> Tensor:
        """Return `count` drawings for training step `step`: (count, channels, size, size)."""
        random = np.random.default_rng((self.seed, step))
        return torch.stack([draw_added(self.channels, self.size, random) for _ in range(count)]).to(self.device)
