"""The pictures that come with the library: photographs, and small ones of the kinds that the flows know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

from invlib.images import MIN_SIDE, ImageError, Picture, fit, quantise, to_channels, to_tensor
from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.problems.structured import DIGITS, FACES, IMAGE_SHAPES, prepare

EXAMPLE_SIDE = 256
"""The largest side of an example, in pixels."""


@dataclass(frozen=True)
class Example:
    """A square cut from a picture that scikit-image carries.

    Attributes
    ----------
    read : returns the picture, (height, width) or (height, width, 3), uint8.
    box : top, left and side of the square, in pixels.
    description : what is to be seen, in words.
    side : that of the example in pixels, unless a smaller one is asked for.
    prior : the shipped denoiser that knows such pictures best; None for that of all photographs.
    """

    read: Callable[[], np.ndarray]
    box: tuple[int, int, int]
    description: str
    side: int = EXAMPLE_SIDE
    prior: str | None = None


FACE = (17, 136, 180)
"""The astronaut's face, with eyes and mouth where they are in the pictures of CelebA that priors learnt from."""


EXAMPLES = {
    "astronaut": Example(data.astronaut, (0, 86, 256), "a smiling astronaut in her space suit"),
    "chelsea": Example(data.chelsea, (10, 90, 270), "the face of a tabby cat"),
    "coffee": Example(data.coffee, (0, 110, 380), "an espresso in a white cup on a red saucer"),
    "rocket": Example(data.rocket, (80, 160, 340), "a rocket on its launch pad at dusk"),
    "motorcycle": Example(lambda: data.stereo_motorcycle()[0], (120, 220, 380), "a red motorcycle in a garage"),
    "face": Example(data.astronaut, FACE, "the face of a smiling astronaut", IMAGE_SHAPES[FACES][1], "bf-unet-faces"),
    "camera": Example(data.camera, (30, 80, 300), "a photographer behind his camera, in grey"),
    "coins": Example(data.coins, (0, 100, 256), "rows of ancient coins, in grey"),
    "brick": Example(data.brick, (0, 0, 512), "a pavement of bricks, in grey"),
}
"""Names -> pictures that come with the library. Only those inside scikit-image's wheel: nothing is downloaded."""


def example(name: str, *, channels: int | None = None, side: int | None = None) -> Tensor:
    """An example picture: (1, channels, side, side), float32 in [0, 1], of 8-bit levels.

    Parameters
    ----------
    name : one of `EXAMPLES`.
    channels : 3 for colour, 1 for grey, None for the picture's own.
    side : from `MIN_SIDE` pixels to the example's own side, which None stands for.

    Raises
    ------
    ImageError : unknown name, or a side out of range.
    """
    if name not in EXAMPLES:
        raise ImageError(f"there is no example called {name!r}: choose one of {', '.join(EXAMPLES)}")
    chosen = EXAMPLES[name]
    side = chosen.side if side is None else side
    if not MIN_SIDE <= side <= chosen.side:
        raise ImageError(f"side must be from {MIN_SIDE} to {chosen.side} pixels, got {side}")
    image = _square(name, side)
    return quantise(image if channels is None else to_channels(image, channels))


@lru_cache(32)
def _square(name: str, side: int) -> Tensor:
    """The chosen square of an example, kept, because it takes up to 50 ms to read."""
    top, left, square = EXAMPLES[name].box
    return fit(to_tensor(EXAMPLES[name].read()[top : top + square, left : left + square]), side)


def picture(name: str, *, channels: int | None = None, side: int | None = None) -> Picture:
    """The same with its name and description, as a problem takes it."""
    image = example(name, channels=channels, side=side)
    return Picture(name, image, EXAMPLES[name].description, image.shape[-1])


# --- Small pictures, for structured noise -----------------------------------------------------------------------------

TEMPERATURE = 0.7
"""Of the pictures that are drawn from a prior: below 1, they are more typical than varied."""


@dataclass(frozen=True)
class Subject:
    """A picture that is offered.

    Attributes
    ----------
    title : what it is called in the list.
    description : what is to be seen, in words.
    make : returns it, (1, C, H, W) in [0, 1].
    """

    title: str
    description: str
    make: Callable[[], Tensor]


def drawn(kind: str, seed: int) -> Tensor:
    """A picture from the prior itself, drawn on the CPU, so that a GPU does not change it."""
    return checkpoints.load(f"realnvp-{kind}", kind=Flow, device="cpu").sample(1, seed, TEMPERATURE)


def astronaut() -> Tensor:
    """Her face, as it was photographed."""
    top, left, side = FACE
    face = data.astronaut()[top : top + side, left : left + side]
    return torch.from_numpy(face).permute(2, 0, 1)[None] / 255


def cartoon() -> Tensor:
    """A face as a child would paint it: flat colours and black lines."""
    picture = Image.new("RGB", (512, 512), "#8fd3f4")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((-160, 400, 672, 900), fill="#7bc67e")  # a hill
    pen.ellipse((400, -60, 560, 100), fill="#ffe066")  # the sun
    pen.rounded_rectangle((150, 420, 362, 560), 60, fill="#e4572e", outline="#2b2d42", width=10)  # a shirt
    pen.ellipse((92, 60, 420, 420), fill="#5b3a29", outline="#2b2d42", width=10)  # hair
    for ear in (104, 368):
        pen.ellipse((ear, 235, ear + 40, 300), fill="#ffc9a3", outline="#2b2d42", width=8)
    pen.ellipse((120, 110, 392, 450), fill="#ffd9b8", outline="#2b2d42", width=10)
    pen.chord((112, 70, 400, 290), 180, 360, fill="#5b3a29", outline="#2b2d42", width=10)  # a fringe
    for eye in (172, 276):
        pen.ellipse((eye, 220, eye + 64, 296), fill="white", outline="#2b2d42", width=7)
        pen.ellipse((eye + 20, 242, eye + 50, 284), fill="#2b2d42")
        pen.ellipse((eye + 34, 248, eye + 44, 260), fill="white")
    for cheek in (142, 320):
        pen.ellipse((cheek, 308, cheek + 50, 344), fill="#ff9e9e")
    pen.arc((236, 280, 276, 326), 20, 160, fill="#c98a62", width=9)  # a nose
    pen.chord((196, 300, 316, 412), 10, 170, fill="#a4243b", outline="#2b2d42", width=8)  # a smile
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def from_prior(kind: str, *seeds: int) -> dict[str, Subject]:
    """Pictures that the prior draws with some seeds: those that came out well."""
    one = {FACES: "face", DIGITS: "digit"}[kind]
    return {
        f"{one}-{number}": Subject(
            f"{one.capitalize()} {number} (drawn from the prior)",
            f"a {one} that the prior made up",
            partial(drawn, kind, seed),
        )
        for number, seed in enumerate(seeds, start=1)
    }


SUBJECTS = {
    FACES: {
        "astronaut": Subject("Astronaut’s face", "the face of a smiling astronaut", astronaut),
        **from_prior(FACES, 5, 15, 2, 8),
        "cat": Subject("Cat", "the face of a tabby cat", lambda: example("chelsea")),
        "cartoon": Subject("Cartoon", "a drawing of a smiling child in the sun", cartoon),
        "coffee": Subject("Coffee", EXAMPLES["coffee"].description, lambda: example("coffee", channels=3)),
    },
    DIGITS: from_prior(DIGITS, 1, 11, 31, 16, 2, 9),
}
"""Kind of pictures -> names -> pictures, the default first."""


def subject(kind: str, name: str) -> Picture:
    """A small picture that is offered, of 8-bit levels and the size that the prior is for.

    Raises
    ------
    ImageError : unknown name.
    """
    if name not in SUBJECTS[kind]:
        raise ImageError(f"there is no example called {name!r}: choose one of {', '.join(SUBJECTS[kind])}")
    return _subject(kind, name, checkpoints.weights_folder())


@lru_cache
def _subject(kind: str, name: str, folder: Path) -> Picture:
    """The same, kept: pictures that a prior draws belong to the folder of its weights."""
    image = prepare(SUBJECTS[kind][name].make(), kind)
    return Picture(name, image, SUBJECTS[kind][name].description, image.shape[-1])
