"""How well a prior denoises: PSNR against noise level, the measure of the weights we ship."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from invlib.checks import check_seed
from invlib.experiments.rows import Cell, Options, Plan, Row, Watch, readable_images, weights
from invlib.images import load_image
from invlib.metrics import psnr_all_channels
from invlib.priors import checkpoints
from invlib.priors.denoisers import Denoiser

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


def denoising(
    prior: Denoiser, folder: Path, sigmas: Sequence[float] = SIGMAS, seed: int = 0
) -> Iterator[dict[str, float]]:
    """Denoise every picture of a folder at every noise level.

    Sizes are cropped to multiples of 8 and the noise is not clipped. PSNR is over all channels, in dB. Pictures that
    cannot be read are left out.

    Yields
    ------
    One row per picture: noise level (as text) to PSNR.
    """
    device = next(prior.parameters()).device
    for path in readable_images(folder)[0]:
        x = load_image(path, channels=prior.channels)
        x = x[..., : x.shape[-2] // 8 * 8, : x.shape[-1] // 8 * 8]
        row = {}
        for sigma in sigmas:
            y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(check_seed(seed)))
            with torch.inference_mode():
                x_hat = y - prior(y.to(device)).cpu()
            row[f"{sigma:g}"] = float(psnr_all_channels(x_hat, x))
        yield row


SETS = {
    "set5": ("bf-unet-color", "bf-cnn-color"),
    "set12": ("bf-unet-gray", "bf-cnn-gray", "bf-recurrent-gray", "bf-dense-gray"),
}
"""Pictures, and the shipped priors for their colours."""


def plan_denoisers(options: Options) -> Plan:
    """PSNR of every shipped prior for photographs: rows with "set", "images" and "psnr" by noise level.

    Raises
    ------
    ValueError : a folder without any of the sets.
    """
    if options.data is None:
        raise ValueError(f"--data is required: name the folder that holds {' or '.join(SETS)}")
    found = {name: options.data / name for name in SETS if (options.data / name).is_dir()}
    if not found:
        raise ValueError(f"{options.data} has no folder {' or '.join(SETS)}: name the folder that holds it")
    cells = []
    left_out = [f"{options.data} has no folder {name}, so its rows are left out" for name in SETS.keys() - found]
    for name, folder in found.items():
        paths, unreadable = readable_images(folder)
        left_out += unreadable
        for prior in SETS[name]:
            key = {
                "experiment": "denoisers",
                "set": name,
                "images": len(paths),
                "settings": {"sigmas": SIGMAS, "seed": 0},
                **weights(prior),
            }
            cells.append(Cell(key, partial(measure, prior, folder)))
    return Plan(cells, left_out)


def measure(prior: str, folder: Path, watch: Watch) -> Row:
    return {"psnr": average(list(watch(prior, denoising(checkpoints.load(prior), folder))))}


def average(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every column."""
    return {column: round(sum(row[column] for row in rows) / len(rows), 3) for column in rows[0]}
