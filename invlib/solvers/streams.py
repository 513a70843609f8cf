"""Streams of white noise, one for each sample, so that sample 3 of 8 is sample 3 of 4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from invlib.checks import check_seed, check_whole

MOST = 4096
"""How many samples may run together."""


class Streams:
    """White Gaussian noise for samples that run together.

    Every stream has a generator whose seed depends on `seed` and the stream's index only. Without `mixing` each sample
    has a stream of its own; with it, the noise of a sample is a weighted sum of several streams.

    Parameters
    ----------
    seed : as in `check_seed`; ValueError otherwise.
    count : of the samples, from 1 to `MOST`; ValueError otherwise.
    shape : of a sample's noise, (C, H, W) for example.
    device : where the noise is drawn.
    mixing : weights (count, streams); see `quarter_turn` and `opposites`.
    """

    def __init__(
        self, seed: int, count: int, shape: Sequence[int], device: torch.device, mixing: Tensor | None = None
    ) -> None:
        check_whole(1, MOST, count=count)
        check_seed(seed)
        self.shape, self.device = tuple(shape), device
        self.mixing = None if mixing is None else mixing.to(device)
        streams = count if mixing is None else mixing.shape[1]
        seeds = (np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0] for index in range(streams))
        self.generators = [torch.Generator(device).manual_seed(int(number)) for number in seeds]

    def draw(self, indices: Iterable[int]) -> Tensor:
        """The next noise of some of the samples: (len(indices), *shape)."""
        if self.mixing is None:
            return self._draw(self.generators[index] for index in indices)
        # All streams move on at every step, whichever samples are left.
        weights = self.mixing[[int(index) for index in indices]]
        return torch.einsum("is,s...->i...", weights, self._draw(self.generators))

    def _draw(self, generators: Iterable[torch.Generator]) -> Tensor:
        draw = partial(torch.randn, self.shape, dtype=torch.float32, device=self.device)
        return torch.stack([draw(generator=each) for each in generators])


def quarter_turn(count: int) -> Tensor:
    """Weights (cos θ, sin θ) with θ evenly from 0 to π/2, for `count` samples from the first of a seed to its second.

    The ends are exactly (1, 0) and (0, 1), and all of the noise in between is as white and as strong: (count, 2).
    """
    check_whole(1, MOST, count=count)
    sine = torch.linspace(0, math.pi / 2, count, dtype=torch.float64, device="cpu").sin().float()
    return torch.stack([sine.flip(0), sine], dim=1)


def opposites(count: int) -> Tensor:
    """Weights for pairs of samples with opposite noise: (count, ⌈count / 2⌉).

    >>> opposites(3).tolist()
    [[1.0, 0.0], [-1.0, -0.0], [0.0, 1.0]]
    """
    check_whole(1, MOST, count=count)
    pairs = torch.eye(math.ceil(count / 2), dtype=torch.float32, device="cpu")
    return torch.stack([pairs, -pairs], dim=1).flatten(0, 1)[:count]
