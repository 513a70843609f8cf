"""Training images, kept in memory as bytes and cropped on the device that trains."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PHOTOGRAPH_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}


def read_photographs(folder: Path, channels: int) -> list[Tensor]:
    """Every picture under `folder`, in the order of its path: uint8, (channels, height, width)."""
    mode = {1: "L", 3: "RGB"}[channels]
    pictures = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOGRAPH_SUFFIXES):
        with Image.open(path) as picture:
            pixels = torch.from_numpy(np.array(picture.convert(mode)))
        pictures.append(pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous())
    if not pictures:
        raise ValueError(f"no pictures in {folder}; give a folder of photographs (JPEG or PNG)")
    return pictures


def read_idx(path: Path) -> Tensor:
    """The images of an MNIST `idx3-ubyte.gz` file: uint8, (count, 1, 28, 28)."""
    with gzip.open(path) as stream:
        content = stream.read()
    magic, count, height, width = np.frombuffer(content, ">i4", 4)
    if magic != 2051:
        raise ValueError(f"{path} is not an idx file of images")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(count, 1, height, width).copy())


class Crops:
    """Random crops of a set of pictures: batches of float images in [0, 1] that depend on the seed and the step only.

    Parameters
    ----------
    pictures : uint8 tensors (channels, height, width); each is picked in proportion to its area.
    size : side of the square crops; a smaller picture is left out.
    augment : flip and transpose at random (not for digits, whose orientation has a meaning).
    seed : the stream of batches.
    """

    def __init__(self, pictures: list[Tensor], size: int, augment: bool, seed: int, device: torch.device) -> None:
        self.pictures = [picture.to(device) for picture in pictures if min(picture.shape[-2:]) >= size]
        if not self.pictures:
            raise ValueError(f"every training picture is smaller than the {size}×{size} crop; choose a smaller crop")
        areas = np.array([picture[0].numel() for picture in self.pictures], float)
        self.probabilities = areas / areas.sum()
        self.size, self.augment, self.seed, self.device = size, augment, seed, device

    def batch(self, step: int, count: int) -> Tensor:
        """`count` crops for training step `step`: (count, channels, size, size)."""
        random = np.random.default_rng((self.seed, step))
        crops = []
        for index in random.choice(len(self.pictures), count, p=self.probabilities):
            picture = self.pictures[index]
            top = random.integers(picture.shape[-2] - self.size + 1)
            left = random.integers(picture.shape[-1] - self.size + 1)
            crop = picture[:, top : top + self.size, left : left + self.size]
            if self.augment:
                flips = [axis for axis in (-2, -1) if random.random() < 0.5]
                crop = crop.flip(flips)
                crop = crop.transpose(-2, -1) if random.random() < 0.5 else crop
            crops.append(crop)
        return torch.stack(crops).float() / 255


def load_training_set(folder: Path, channels: int) -> tuple[list[Tensor], list[Tensor], bool]:
    """Split the pictures of a folder into training and validation sets.

    `folder` holds photographs at any depth, or MNIST's idx files. Two per cent of the pictures (at least one, at most
    64) are kept for validation and never trained on: the same ones in every run, whatever its seed, so that a run that
    starts from another one's weights is judged on pictures that neither has seen.

    Returns
    -------
    (training pictures, validation pictures, whether flips make sense)
    """
    idx = folder / "train-images-idx3-ubyte.gz"
    pictures = list(read_idx(idx)) if idx.exists() else read_photographs(folder, channels)
    order = np.random.default_rng(0).permutation(len(pictures))
    held_out = min(64, max(1, len(pictures) // 50))
    if len(pictures) <= held_out:
        raise ValueError(f"{folder} has too few pictures to hold one out for validation; give at least two")
    training = [pictures[index] for index in sorted(order[held_out:])]
    return training, [pictures[index] for index in sorted(order[:held_out])], not idx.exists()
