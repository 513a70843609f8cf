"""Training images, which are kept in memory as bytes and cropped on the device that trains."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PHOTOGRAPH_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}

TRAINING_DIGITS = "train-images-idx3-ubyte.gz"
"""MNIST's name for the images of its training split."""


def list_photographs(folder: Path) -> list[Path]:
    """The pictures under a folder, at any depth, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTOGRAPH_SUFFIXES)


def read_photographs(folder: Path, channels: int) -> list[Tensor]:
    """Read every picture under `folder`, in the order of the paths: uint8, (channels, height, width)."""
    return [picture for (picture,) in read_sizes(folder, channels, (1.0,))]


REDUCED = (1.0, 0.7, 0.5)
"""The sizes of photographs that are also used reduced, as fractions of their own."""

FINE = 10.0
"""The mean step of a JPEG's quantisation, in grey levels, above which its compression shows. Quality 90 has 11.5."""


def read_sizes(folder: Path, channels: int, sizes: Sequence[float]) -> list[list[Tensor]]:
    """Read every picture under `folder`, in the order of the paths, in each of the `sizes`.

    The sizes are fractions of a picture's own. If there are several, a JPEG whose compression shows is only used
    reduced, because a prior would learn its artefacts. ValueError is raised if there are no pictures.
    """

    def read(path: Path) -> list[Tensor]:
        with Image.open(path) as opened:
            steps = getattr(opened, "quantization", None)
            compressed = steps is not None and np.mean(steps[0]) > FINE
            picture = opened.convert("L" if channels == 1 else "RGB")
        chosen = [size for size in sizes if size < 1 or len(sizes) == 1 or not compressed]
        sides = [tuple(max(1, round(side * size)) for side in picture.size) for size in chosen]
        return [as_bytes(picture.resize((width, height), Image.Resampling.BICUBIC)) for width, height in sides]

    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(read, list_photographs(folder)))
    if not pictures:
        raise ValueError(f"no pictures in {folder}; give a folder of photographs (JPEG or PNG)")
    return pictures


def as_bytes(picture: Image.Image) -> Tensor:
    """The pixels of a grey or colour picture: uint8, (channels, height, width)."""
    pixels = torch.from_numpy(np.array(picture))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()


def read_idx(path: Path) -> Tensor:
    """Read the images of an MNIST `idx3-ubyte.gz` file: uint8, (count, 1, 28, 28). ValueError if it is no such file."""
    with gzip.open(path) as stream:
        content = stream.read()
    magic, count, height, width = np.frombuffer(content, ">i4", 4)
    if magic != 2051:
        raise ValueError(f"{path} is not an idx file of images")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=16).reshape(count, 1, height, width).copy())


FACE_BOX = (4.5 / 89, 18 / 109, 84.5 / 89, 98 / 109)
"""Where the face is in an aligned picture of CelebA: left, top, right and bottom, as fractions of its sides."""


def read_faces(path: Path, side: int = 64) -> Tensor:
    """Read the faces of CelebA in the order of their names: uint8, (count, 3, side, side).

    `path` is a zip file or a folder of the aligned pictures, 178×218 or reduced to 89×109, of which the square around
    the face is resized. ValueError is raised if there are no pictures, or one has other proportions.
    CelebA: Liu et al. 2015, "Deep learning face attributes in the wild", https://arxiv.org/abs/1411.7766.
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
    """Yield names and contents of the pictures in a zip file or a folder, in the order of their names."""
    if path.is_dir():
        yield from ((file.name, file.read_bytes()) for file in list_photographs(path))
        return
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is neither a folder nor a zip file; give CelebA's aligned pictures in one of them")
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if Path(name).suffix.lower() in PHOTOGRAPH_SUFFIXES:
                yield name, archive.read(name)


SHAPES = {"faces": (3, 64, 64), "mnist": (1, 28, 28)}
"""The shapes of the images that `load_images` reads, by their kind."""


def load_images(path: Path, kind: str) -> tuple[Tensor, Tensor]:
    """Read images of one size into memory: (training, validation), uint8, (count, C, H, W).

    `kind` is "faces", for a zip file or a folder of CelebA's aligned pictures, or "mnist", for the folder of its idx
    files. The last twentieth of the faces (500 of 10,000) and the last sixtieth of the digits (1,000 of 60,000) are
    kept for validation and never trained on. ValueError is raised if there are no such images, or too few.
    """
    if kind == "faces":
        images, held_out = read_faces(path), 1 / 20
    else:
        images, held_out = read_idx(path / TRAINING_DIGITS), 1 / 60
    count = max(1, round(len(images) * held_out))
    if len(images) <= count:
        raise ValueError(f"{path} has too few images to hold one out for validation; give at least two")
    return images[:-count], images[-count:]


Dequantisation = Literal["uniform", "normal"]
"""The distribution of the noise that fills the bins of quantised images; normal noise is centred in its bin."""

BIN_STD = 0.2
"""Standard deviation of the normal noise, in widths of a bin. The noise is truncated at the edges of the bin."""


def dequantise(
    images: Tensor, bits: int, generator: torch.Generator, distribution: Dequantisation = "uniform"
) -> Tensor:
    """Turn bytes into floats in [0, 1]: reduce them to `bits` bits, and spread them over their bins of width 2^-bits.

    >>> x = dequantise(torch.full((1, 1, 2, 2), 128, dtype=torch.uint8), 5, torch.Generator().manual_seed(0))
    >>> bool(((16 / 32 <= x) & (x <= 17 / 32)).all())
    True
    """
    noise = torch.rand(images.shape, generator=generator, device=images.device)
    if distribution == "normal":
        outside = torch.special.ndtr(torch.tensor(-0.5 / BIN_STD)).item()
        noise = 0.5 + BIN_STD * torch.special.ndtri(outside + (1 - 2 * outside) * noise)
    return ((images >> (8 - bits)) + noise) / 2**bits


def dequantisation_entropy(distribution: Dequantisation) -> float:
    """The entropy, in bits, of the noise in a bin of width 1: 0 if it is uniform, and negative otherwise."""
    if distribution == "uniform":
        return 0.0
    edge = 0.5 / BIN_STD
    inside = math.erf(edge / math.sqrt(2))
    density = math.exp(-(edge**2) / 2) / math.sqrt(2 * math.pi)
    return (math.log(BIN_STD * math.sqrt(2 * math.pi * math.e) * inside) - edge * density / inside) / math.log(2)


class Images:
    """Batches of `images` (count, C, H, W) that depend only on the seed and the step; `flip` mirrors them at random."""

    def __init__(self, images: Tensor, flip: bool, seed: int) -> None:
        self.images, self.flip, self.seed = images, flip, seed

    def batch(self, step: int, count: int) -> Tensor:
        """Return `count` images for training step `step`: (count, C, H, W), uint8."""
        random = np.random.default_rng((self.seed, step))
        images = self.images[random.integers(len(self.images), size=count)]
        if self.flip:
            mirrored = torch.from_numpy(random.random(count) < 0.5).to(images.device)
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
        return images


Augment = Literal["all", "mirror", "none"]


class Crops:
    """Batches of random crops, as floats in [0, 1], that depend only on the seed and the step.

    Parameters
    ----------
    pictures : uint8 tensors (channels, height, width). The chance of a picture is proportional to its area.
    size : side of the square crops, in pixels. Smaller pictures are left out; ValueError if no picture remains.
    augment : "all" flips and transposes at random, "mirror" only exchanges left and right, as suits faces, and "none"
        leaves the pictures as they are, as digits need.
    seed, device : seed of the stream of batches, and where the pictures are kept and cropped.
    """

    def __init__(self, pictures: list[Tensor], size: int, augment: Augment, seed: int, device: torch.device) -> None:
        pictures = [picture for picture in pictures if min(picture.shape[-2:]) >= size]
        if not pictures:
            raise ValueError(f"every training picture is smaller than the {size}×{size} crop; choose a smaller crop")
        self.shapes = np.array([picture.shape[-2:] for picture in pictures])
        areas = self.shapes.prod(1)
        # All pictures lie in one tensor (channels, pixels), so that a batch is one operation, whatever their sizes.
        self.pixels = torch.cat([picture.flatten(1) for picture in pictures], 1).to(device)
        self.starts, self.probabilities = np.cumsum(areas) - areas, areas / areas.sum()
        self.size, self.augment, self.seed, self.device = size, augment, seed, device

    def batch(self, step: int, count: int) -> Tensor:
        """Return `count` crops for training step `step`: (count, channels, size, size)."""
        random = np.random.default_rng((self.seed, step))
        chosen = random.choice(len(self.shapes), count, p=self.probabilities)
        top, left = random.integers(self.shapes[chosen].T - self.size + 1)
        width = self.shapes[chosen, 1]
        mirrored, flipped, transposed = random.random((3, count)) < 0.5
        if self.augment != "all":
            flipped = transposed = np.zeros(count, bool)
        if self.augment == "none":
            mirrored = flipped

        def column(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).view(-1, 1, 1).to(self.device)

        # The pixel of a crop that is `down` and `right` from its first one.
        side = torch.arange(self.size, device=self.device)
        down = torch.where(column(flipped), self.size - 1 - side, side).mT
        right = torch.where(column(mirrored), self.size - 1 - side, side)
        offset = down * column(width) + right
        offset = torch.where(column(transposed), offset.mT, offset)
        return self.pixels[:, column(self.starts[chosen] + top * width + left) + offset].transpose(0, 1).float() / 255


def load_training_set(data: Path, channels: int, reduced: bool = False) -> tuple[list[Tensor], list[Tensor], Augment]:
    """Split pictures into a training and a validation set.

    `data` is a folder of photographs at any depth, a folder of MNIST's idx files, or a zip file of CelebA's aligned
    faces. Two per cent of the pictures (at least one, at most 64) are kept for validation and never trained on. They
    are the same in every run, whatever its seed, so that a run that starts from the weights of another run is judged on
    pictures that neither has seen. Of faces, the flows' training set is taken (see `load_images`), and 64 of those that
    it leaves. With `reduced`, photographs for training also come in smaller sizes (see `read_sizes`).

    Returned are the training pictures, the validation pictures, and how pictures may be flipped. ValueError is raised
    for fewer than two pictures, if faces are not asked for in colour, or if other pictures than photographs are to be
    reduced.
    """
    augment: Augment = "all"
    faces_or_digits = zipfile.is_zipfile(data) or (data / TRAINING_DIGITS).exists()
    if reduced and faces_or_digits:
        raise ValueError(f"the pictures in {data} have one size: only photographs can be reduced")
    if zipfile.is_zipfile(data):
        if channels != 3:
            raise ValueError(f"the faces in {data} are in colour: train a network of 3 channels, not {channels}")
        faces, others = load_images(data, "faces")
        return list(faces), list(others[:64]), "mirror"
    if (idx := data / TRAINING_DIGITS).exists():
        pictures, augment = list(read_idx(idx)), "none"
    else:
        pictures = read_photographs(data, channels)
    sizes = read_sizes(data, channels, REDUCED) if reduced else [[picture] for picture in pictures]
    order = np.random.default_rng(0).permutation(len(pictures))
    held_out = min(64, max(1, len(pictures) // 50))
    if len(pictures) <= held_out:
        raise ValueError(f"{data} has too few pictures to hold one out for validation; give at least two")
    training = [picture for index in sorted(order[held_out:]) for picture in sizes[index]]
    return training, [pictures[index] for index in sorted(order[:held_out])], augment
