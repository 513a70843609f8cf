"""How long a run will take on this machine, known before it starts: from the runs that it has done.

Time goes with the evaluations of the network, the samples and the pixels.

>>> pace = Pace()
>>> first = pace.seconds("bf-unet-color", evaluations=40, pixels=4 * 256**2)
>>> pace.learn("bf-unet-color", evaluations=20, pixels=256**2, seconds=2 * 20 * 256**2 * pace.default)
>>> pace.seconds("bf-unet-color", evaluations=40, pixels=4 * 256**2) / first
2.0
"""

from __future__ import annotations

import torch

from invlib import runtime

CORE_SECONDS = 1.2e-5
"""Core-seconds that an evaluation of the shipped U-Net takes for a pixel, without fast instructions."""

GPU_SECONDS = 1e-7
"""The same of a slow GPU, in seconds."""

LEAST = 2**14
"""In smaller pictures an evaluation takes time that does not go with the pixels, so nothing is learnt from them."""


class Pace:
    """Seconds for each evaluation of a pixel, by prior. Each run that ends counts as much as all before it."""

    def __init__(self) -> None:
        self._learnt: dict[str, float] = {}

    @property
    def default(self) -> float:
        """The pace of a prior that has not run here."""
        return GPU_SECONDS if runtime.default_device().type == "cuda" else CORE_SECONDS / torch.get_num_threads()

    def seconds(self, prior: str, evaluations: int, pixels: int) -> float:
        """How long it will take to evaluate a prior on pictures of so many pixels together."""
        return self._learnt.get(prior, self.default) * evaluations * pixels

    def learn(self, prior: str, evaluations: int, pixels: int, seconds: float) -> None:
        """Note how long it took."""
        if pixels >= LEAST and evaluations > 0:
            pace = seconds / (evaluations * pixels)
            self._learnt[prior] = (self._learnt.get(prior, pace) + pace) / 2


PACE = Pace()
"""The pace of this process."""
