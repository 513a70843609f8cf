"""Untrained priors of the shapes and names of those that are shipped, small enough for a step to take no time.

An untrained RealNVP is the identity up to the order of the entries: images are N(½, I).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from invlib.priors import checkpoints
from invlib.priors.flows import RealNVP
from invlib.priors.gans import Generator


def use_small_priors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a weights folder of them, and the one that names are looked up in."""
    torch.manual_seed(0)
    priors: dict[str, nn.Module] = {
        "realnvp-faces": RealNVP((3, 64, 64), (2,), 1),
        "realnvp-mnist": RealNVP((1, 28, 28), (2,), 1),
        "realnvp-mnist-noise": RealNVP((1, 28, 28), (2,), 1),
        "dcgan-faces": Generator((3, 64, 64), (4, 4, 4), latent_dim=4),
        "dcgan-mnist": Generator((1, 28, 28), (4, 4), latent_dim=4),
    }
    monkeypatch.setenv("INVLIB_WEIGHTS", str(folder))
    for name, prior in priors.items():
        path = folder / f"{name}.safetensors"
        checkpoints.save(prior, path, recipe="none", data="none", quality={})
        checkpoints.register(name, path, name)
