"""Untrained priors of the shapes and names of those that are shipped, small enough for a step to take no time.

An untrained RealNVP is the identity up to the order of the entries: images are N(½, I).
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN, BFUNet
from invlib.priors.flows import RealNVP
from invlib.priors.gans import Generator


def use_small_priors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a weights folder of them, and the one that names are looked up in."""
    monkeypatch.setenv("INVLIB_WEIGHTS", str(folder))
    folder.mkdir(exist_ok=True)
    for name, content in weights_folder().items():
        (folder / name).write_bytes(content)
    torch.manual_seed(0)


@functools.cache
def weights_folder() -> dict[str, bytes]:
    """The files of the weights folder by name. To build the networks takes longer than most tests that use them."""
    torch.manual_seed(0)
    priors: dict[str, nn.Module] = {
        "realnvp-faces": RealNVP((3, 64, 64), (2,), 1),
        "realnvp-mnist": RealNVP((1, 28, 28), (2,), 1),
        "realnvp-mnist-noise": RealNVP((1, 28, 28), (2,), 1),
        "dcgan-faces": Generator((3, 64, 64), (4, 4, 4), latent_dim=4),
        "dcgan-mnist": Generator((1, 28, 28), (4, 4), latent_dim=4),
        "bf-unet-color": BFCNN(3, depth=2, width=4),
        "bf-unet-gray": BFCNN(1, depth=2, width=4),
        "bf-told-color": BFUNet(3, (4, 8), 1, told=True),
        "bf-unet-faces": BFCNN(3, depth=2, width=4),
        "bf-cnn-mnist": BFCNN(1, depth=2, width=4),
        "bf-strokes": BFCNN(3, depth=2, width=4),
        "vae-mnist": Generator((1, 28, 28), (4, 4), latent_dim=4),
    }
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("INVLIB_WEIGHTS", folder)
        for name, prior in priors.items():
            path = Path(folder, f"{name}.safetensors")
            checkpoints.save(prior, path, recipe="none", data="none", quality={})
            checkpoints.register(name, path, name)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}
