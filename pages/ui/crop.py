"""Showing which part of a picture is worked on."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from invlib.images import to_channels, to_uint8
from pages.ui import pixels

THUMBNAIL = 240
"""The longest side of the thumbnail, in pixels."""


def framed(thumbnail: Tensor, size: tuple[int, int], corner: tuple[int, int], side: int) -> np.ndarray:
    """A thumbnail (1, C, h, w) in 8 bits, (h, w, 3), that is dimmed outside a part of the picture, with a frame on it.

    Parameters
    ----------
    thumbnail : the whole picture, reduced.
    size : width and height of the picture, in pixels.
    corner : left column and top row of the part.
    side : its longest side; it ends where the picture does.
    """
    picture = to_uint8(to_channels(thumbnail, 3))
    height, width = picture.shape[:2]

    def places(start: int, whole: int, shown: int) -> tuple[int, int]:
        first = min(start * shown // whole, shown - 1)
        return first, max(first + 1, min(shown, -(-(start + side) * shown // whole)))

    (left, right), (top, bottom) = places(corner[0], size[0], width), places(corner[1], size[1], height)
    result = picture // 3
    result[top:bottom, left:right] = (255, 176, 0)
    inner = slice(top + 2, bottom - 2), slice(left + 2, right - 2)
    result[inner] = picture[inner]
    return result


def show(thumbnail: Tensor, size: tuple[int, int], corner: tuple[int, int], side: int) -> None:
    """Show where the part lies; parameters are as in `framed`."""
    pixels.figure(
        framed(thumbnail, size, corner, side),
        alt="Your picture with a frame around the part that is used",
        caption="The part that is used",
    )
