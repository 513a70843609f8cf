"""Small pictures to put noise on: some like those that the priors learnt from, and others. No Streamlit here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

from invlib import examples
from invlib.experiments.structured_noise import prepare
from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.problems.structured import DIGITS, FACES, IMAGE_SHAPES
from pages.ui.runs import Picture

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
    """A picture from the prior itself."""
    return checkpoints.load(f"realnvp-{kind}", kind=Flow).sample(1, seed, TEMPERATURE).cpu()


def astronaut() -> Tensor:
    """Her face, with eyes and mouth where they are in the pictures of CelebA that the prior learnt from."""
    top, left, side = 17, 136, 180
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
        "cat": Subject("Cat", "the face of a tabby cat", lambda: examples.example("chelsea")),
        "cartoon": Subject("Cartoon", "a drawing of a smiling child in the sun", cartoon),
        "coffee": Subject(
            "Coffee", examples.EXAMPLES["coffee"].description, lambda: examples.example("coffee", channels=3)
        ),
    },
    DIGITS: from_prior(DIGITS, 1, 11, 31, 16, 2, 9),
}
"""Kind of pictures -> names -> pictures, the default first."""


@lru_cache
def subject(kind: str, name: str) -> Picture:
    """A picture that is offered, of 8-bit levels and the size that the prior is for."""
    chosen = SUBJECTS[kind][name]
    return Picture(name, prepare(chosen.make(), IMAGE_SHAPES[kind]), chosen.description)
