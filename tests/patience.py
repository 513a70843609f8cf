"""How long a test waits for an event before it fails. Patience costs nothing while the tests are green."""

from __future__ import annotations

import os
import time

import torch

REFERENCE = 0.006
"""Seconds that `convolution_seconds` gives on one core of the machine for which 120 seconds of patience are plenty."""


def convolution_seconds() -> float:
    """The seconds that this machine needs for a small convolution, in the best of a few tries."""
    layer, pictures, seconds = torch.nn.Conv2d(64, 64, 3, padding=1), torch.rand(1, 64, 64, 64), []
    with torch.no_grad():
        for _ in range(5):
            started = time.perf_counter()
            layer(pictures)
            seconds.append(time.perf_counter() - started)
    return min(seconds)


PATIENCE = float(os.environ.get("TEST_PATIENCE") or 120 * max(1.0, convolution_seconds() / REFERENCE))
"""Seconds that a test waits for any event: longer on a slow machine, or what the variable TEST_PATIENCE says."""
