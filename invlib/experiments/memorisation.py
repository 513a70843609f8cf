"""Whether a prior has memorised its training pictures: how near to them its samples are, beside pictures held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from invlib import runs
from invlib.experiments.rows import Cell, Options, Plan, Row, Watch, weights
from invlib.problems import prior
from invlib.runs import Settings
from invlib.solvers.methods import sampler_of
from invlib.training.data import SHAPES, load_images

PRIORS = ("bf-unet-faces", "realnvp-faces", "dcgan-faces")
"""The shipped priors of faces."""

AT_ONCE = 1000
"""How many training pictures are compared at once, to spare memory."""


def plan_memorisation(options: Options) -> Plan:
    """A row for each prior of faces: its samples, and as many held-out faces, beside their nearest training faces.

    "distances" has, for "samples" and "held_out" faces, how far each is from the training face, or the mirror image of
    one, that is nearest to it (`nearest`). "ratio" is the median of the first over that of the second. A prior that has
    memorised its training faces draws pictures that are much nearer to them than faces that it has never seen. Pale
    pictures are near to all others, so "alike" has the same for pictures that were given the same brightness and
    contrast.

    Raises
    ------
    ValueError : no training pictures, or fewer held out than samples.
    """
    count = options.samples or 64
    if options.training is None:
        raise ValueError("--data-training is required: name CelebA's faces, on which the prior was trained")
    training, held_out = load_images(options.training, "faces")
    if count > len(held_out):
        raise ValueError(f"--samples must be at most {len(held_out)}, as many as were held out, got {count}")
    problem = prior.pose(SHAPES["faces"])
    cells = []
    for name in PRIORS if options.prior is None else [options.prior]:
        settings = runs.settings(problem, sampler_of(name), prior=name, samples=count)
        key = {
            "experiment": "memorisation",
            **settings.parameters,
            **weights(name),
            "training": options.training.name,
            "images": len(training),
        }
        cells.append(Cell(key, partial(measure, options.training, settings)))
    return Plan(cells)


def measure(data: Path, settings: Settings, watch: Watch) -> Row:
    """The measured part of a row; see `plan_memorisation`."""
    training, held_out = load_images(data, "faces")
    for drawn in watch(str(settings.prior), runs.solve(prior.pose(SHAPES["faces"]), settings)):
        samples = drawn.images
    assert samples is not None
    pictures = {"samples": samples.cpu().clamp(0, 1), "held_out": held_out[: len(samples)] / 255}
    return {**compare(pictures, training), "alike": compare(pictures, training, standardise)}


def compare(pictures: Mapping[str, Tensor], training: Tensor, change: Callable[[Tensor], Tensor] = torch.clone) -> Row:
    """The distances of samples and of held-out faces after a `change`, and the ratio of their medians."""
    distances = {name: [round(float(each), 5) for each in nearest(x, training, change)] for name, x in pictures.items()}
    return {"distances": distances, "ratio": round(median(distances["samples"]) / median(distances["held_out"]), 4)}


def nearest(images: Tensor, training: Tensor, change: Callable[[Tensor], Tensor] = torch.clone) -> Tensor:
    """The distance of images (n, C, H, W) in [0, 1] from the nearest of training images (m, C, H, W), uint8: (n,).

    It is the root mean square of the differences, after a `change` of both. Mirror images of the training images count
    as well.

    >>> nearest(torch.zeros(1, 1, 2, 2), torch.full((3, 1, 2, 2), 51, dtype=torch.uint8))
    tensor([0.2000])
    """
    both = change(torch.cat([images, images.flip(-1)])).flatten(1)
    parts = (torch.cdist(both, change(part / 255).flatten(1)).amin(1) for part in training.split(AT_ONCE))
    return torch.stack(list(parts)).amin(0).view(2, -1).amin(0) / math.sqrt(images[0].numel())


def standardise(images: Tensor) -> Tensor:
    """Images (n, C, H, W) of mean 0 and standard deviation 1, each over all of its numbers."""
    centred = images - images.mean((1, 2, 3), keepdim=True)
    return centred / centred.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
