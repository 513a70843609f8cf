"""The pictures that come with the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from skimage import data
from torch import Tensor

from invlib.images import MIN_SIDE, ImageError, fit, quantise, to_channels, to_tensor


@dataclass(frozen=True)
class Example:
    """A square cut from a picture that scikit-image carries.

    Attributes
    ----------
    read : returns the picture, (height, width) or (height, width, 3), uint8.
    box : top, left and side of the square, in pixels.
    description : what is to be seen, in words.
    """

    read: Callable[[], np.ndarray]
    box: tuple[int, int, int]
    description: str


EXAMPLES = {
    "astronaut": Example(data.astronaut, (0, 86, 256), "a smiling astronaut in her space suit"),
    "chelsea": Example(data.chelsea, (10, 90, 270), "the face of a tabby cat"),
    "coffee": Example(data.coffee, (0, 110, 380), "an espresso in a white cup on a red saucer"),
    "rocket": Example(data.rocket, (80, 160, 340), "a rocket on its launch pad at dusk"),
    "motorcycle": Example(lambda: data.stereo_motorcycle()[0], (120, 220, 380), "a red motorcycle in a garage"),
    "camera": Example(data.camera, (30, 80, 300), "a photographer behind his camera, in grey"),
    "coins": Example(data.coins, (0, 100, 256), "rows of ancient coins, in grey"),
    "brick": Example(data.brick, (0, 0, 512), "a pavement of bricks, in grey"),
}
"""Names -> pictures that come with the library. Only those inside scikit-image's wheel: nothing is downloaded."""

EXAMPLE_SIDE = 256
"""The side of an example, in pixels, unless a smaller one is asked for."""


def example(name: str, *, channels: int | None = None, side: int = EXAMPLE_SIDE) -> Tensor:
    """An example picture: (1, channels, side, side), float32 in [0, 1], of 8-bit levels.

    Parameters
    ----------
    name : one of `EXAMPLES`.
    channels : 3 for colour, 1 for grey, None for the picture's own.
    side : from `MIN_SIDE` to `EXAMPLE_SIDE` pixels.

    Raises
    ------
    ImageError : unknown name, or a side out of range.
    """
    if name not in EXAMPLES:
        raise ImageError(f"there is no example called {name!r}: choose one of {', '.join(EXAMPLES)}")
    if not MIN_SIDE <= side <= EXAMPLE_SIDE:
        raise ImageError(f"side must be from {MIN_SIDE} to {EXAMPLE_SIDE} pixels, got {side}")
    chosen = EXAMPLES[name]
    top, left, square = chosen.box
    image = fit(to_tensor(chosen.read()[top : top + square, left : left + square]), side)
    return quantise(image if channels is None else to_channels(image, channels))
