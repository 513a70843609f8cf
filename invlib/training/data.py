"""Training images, kept in memory as bytes and cropped on the device that trains."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

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


FACE_BOX = (4.5 / 89, 18 / 109, 84.5 / 89, 98 / 109)
"""The face in an aligned picture of CelebA: left, top, right, bottom, as fractions of its sides."""


def read_faces(path: Path, side: int = 64) -> Tensor:
    """The faces of CelebA in the order of their names: uint8, (count, 3, side, side).

    Parameters
    ----------
    path : a zip file or a folder of the aligned pictures, 178×218 or reduced to 89×109.
    side : what the square around the face is resized to.

    Raises
    ------
    ValueError : if there are no pictures, or one has other proportions than CelebA's.
    """
    faces = []
    for name, content in read_members(path):
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
            if abs(width / height - 89 / 109) > 0.01:
                raise ValueError(f"{name} in {path} is {width}×{height}; give the aligned pictures of CelebA, 89×109")
            left, top, right, bottom = FACE_BOX
            box = (left * width, top * height, right * width, bottom * height)
            face = picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box)
        faces.append(torch.from_numpy(np.array(face)).permute(2, 0, 1))
    if not faces:
        raise ValueError(f"no pictures in {path}; give a zip file or a folder of CelebA's aligned pictures")
    return torch.stack(faces)


def read_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the pictures in a zip file or a folder, in the order of their names."""
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.suffix.lower() in PHOTOGRAPH_SUFFIXES):
            yield file.name, file.read_bytes()
        return
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither a folder nor a zip file; give CelebA's aligned pictures in one of them")
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if Path(name).suffix.lower() in PHOTOGRAPH_SUFFIXES:
                yield name, archive.read(name)


def load_images(path: Path, kind: str) -> tuple[Tensor, Tensor]:
    """Images of one size, all in memory: (training, validation), uint8, (count, C, H, W).

    The last twentieth of the faces, 500 of 10 000, and the last sixtieth of the digits, 1000 of 60 000, are kept for
    validation and never trained on.

    Parameters
    ----------
    path : for "faces" a zip file or a folder of CelebA's aligned pictures; for "mnist" the folder of its idx files.
    kind : "faces" or "mnist".
    """
    if kind == "faces":
        images, held_out = read_faces(path), 1 / 20
    else:
        images, held_out = read_idx(path / "train-images-idx3-ubyte.gz"), 1 / 60
    count = max(1, round(len(images) * held_out))
    if len(images) <= count:
        raise ValueError(f"{path} has too few images to hold one out for validation; give at least two")
    return images[:-count], images[-count:]


Dequantisation = Literal["uniform", "normal"]
"""How the noise that fills the bins of quantised images is distributed: evenly, or normally about their middles."""

BIN_STD = 0.2
"""Standard deviation of the normal noise, in bins; it is cut off at their edges."""


def dequantise(
    images: Tensor, bits: int, generator: torch.Generator, distribution: Dequantisation = "uniform"
) -> Tensor:
    """Bytes as floats in [0, 1]: reduced to `bits` bits, then spread over their bins of width 2^-bits."""
    noise = torch.rand(images.shape, generator=generator, device=images.device)
    if distribution == "normal":
        outside = torch.special.ndtr(torch.tensor(-0.5 / BIN_STD)).item()
        noise = 0.5 + BIN_STD * torch.special.ndtri(outside + (1 - 2 * outside) * noise)
    return ((images >> (8 - bits)) + noise) / 2**bits


def dequantisation_entropy(distribution: Dequantisation) -> float:
    """Entropy in bits of the noise in one bin of width 1: 0 if it is uniform, else negative."""
    if distribution == "uniform":
        return 0.0
    edge = 0.5 / BIN_STD
    inside = math.erf(edge / math.sqrt(2))
    density = math.exp(-(edge**2) / 2) / math.sqrt(2 * math.pi)
    return (math.log(BIN_STD * math.sqrt(2 * math.pi * math.e) * inside) - edge * density / inside) / math.log(2)


class Images:
    """Batches of whole images, uint8, that depend on the seed and the step only.

    Parameters
    ----------
    images : (count, C, H, W), uint8.
    flip : mirror left and right at random (not for digits).
    seed : the stream of batches.
    """

    def __init__(self, images: Tensor, flip: bool, seed: int) -> None:
        self.images, self.flip, self.seed = images, flip, seed

    def batch(self, step: int, count: int) -> Tensor:
        """`count` images for training step `step`: (count, C, H, W), uint8."""
        random = np.random.default_rng((self.seed, step))
        images = self.images[random.integers(len(self.images), size=count)]
        if self.flip:
            mirrored = torch.from_numpy(random.random(count) < 0.5).to(images.device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        return images


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
