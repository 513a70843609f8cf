"""A board on which the visitor draws over a picture with the mouse, a finger, a pen or the keyboard."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

from pages.ui.components import declare
from pages.ui.pixels import data_url, png

MAX_POINTS = 20_000
"""The most points that the strokes of a drawing may have together. They suffice for some hundred strokes."""

FINE = 4
"""How many times finer than the picture strokes are drawn. A pixel counts as painted if at least half of it is."""


class Stroke(TypedDict):
    """One sweep of a round brush along straight lines between points."""

    points: list[list[float]]  # pairs (x, y) in pixels; (0, 0) is the upper left corner of the picture
    brush: float  # its diameter in pixels
    erase: NotRequired[bool]  # whether it takes away what earlier strokes painted


_BOARD = declare.component("board")


def over(
    picture: np.ndarray,
    *,
    key: str,
    label: str,
    brush: int,
    colour: str = "var(--st-primary-color)",
    initial: Sequence[Stroke] = (),
) -> np.ndarray:
    """Let the visitor draw over a picture.

    A drawing belongs to the picture under it and to the strokes that it started from. When either changes, the drawing
    starts anew.

    Parameters
    ----------
    picture : shown under the drawing; in 8 bits, (height, width) or (height, width, 3).
    label : a sentence that says what to draw. A screen reader calls the board by it.
    brush : the brush's diameter at first, in pixels. The visitor can change it, up to `widest_brush`.
    colour : the colour of the paint, in CSS.
    initial : the strokes that the drawing starts from.

    Returns
    -------
    A bool array (height, width) that is true where the visitor painted.
    """
    background, (height, width) = png(picture), picture.shape[:2]
    name = state_key(key, background, width=width, height=height, initial=initial)
    drawn = st.session_state.get(name, {}).get("strokes", initial)
    data = {
        "background": data_url(background),
        "width": width,
        "height": height,
        "label": label,
        "brush": brush,
        "colour": colour,
        "strokes": drawn,
        "max_points": MAX_POINTS,
        "widest_brush": widest_brush(width, height),
    }
    board = _BOARD(data=data, key=name, default={"strokes": list(initial)}, on_strokes_change=lambda: None)
    try:
        return rasterise(board.strokes, width, height)
    except ValueError:
        st.error("The drawing could not be read: clear it and draw it again.")
        return np.zeros((height, width), bool)


def state_key(key: str, background: bytes, *, width: int, height: int, initial: Sequence[Stroke] = ()) -> str:
    """Return the key under which the session state holds a drawing, as ``{"strokes": [...]}``."""
    start = json.dumps([width, height, list(initial)]).encode()
    return f"{key} {hashlib.sha256(background + start).hexdigest()[:12]}"


def widest_brush(width: int, height: int) -> int:
    """Return the diameter in pixels of the widest brush for a picture: a quarter of its longer side."""
    return max(1, max(width, height) // 4)


def rasterise(strokes: Sequence[Stroke], width: int, height: int) -> np.ndarray:
    """Return which pixels the strokes paint.

    >>> rasterise([{"points": [[1, 1], [3, 1]], "brush": 2}], width=8, height=2).astype(int)
    array([[1, 1, 1, 1, 0, 0, 0, 0],
           [1, 1, 1, 1, 0, 0, 0, 0]])

    Parameters
    ----------
    strokes : strokes that have at most `MAX_POINTS` points together. No brush may be wider than `widest_brush`, and no
        point may lie further outside the picture than its stroke's brush is wide.
    width, height : the size of the picture, in pixels.

    Returns
    -------
    A bool array (height, width) that is true where at least half of the pixel is painted.

    Raises
    ------
    ValueError : the strokes break one of these rules.
    """
    sheet = Image.new("L", (FINE * width, FINE * height))
    pen = ImageDraw.Draw(sheet)
    for points, brush, erase in validate(strokes, width, height):
        ink = 0 if erase else 255
        # In Pillow whole numbers are the centres of pixels; here they are corners. Pillow's lines have no round ends.
        corners = [(x, y) for x, y in FINE * points - 0.5]
        pen.line(corners, ink, round(FINE * brush))
        for corner in corners:
            pen.circle(corner, (FINE * brush - 1) / 2, ink)
    return np.asarray(sheet.reduce(FINE)) >= 128


def validate(strokes: object, width: int, height: int) -> list[tuple[np.ndarray, float, bool]]:
    """Return each stroke's points, as an array (count, 2), its brush and whether it erases.

    Strokes come from a browser, which can send anything, so whatever is not a drawing raises ValueError.
    """
    try:
        drawn = [
            (np.asarray(stroke["points"], float), float(stroke["brush"]), bool(stroke.get("erase")))
            for stroke in strokes  # type: ignore[attr-defined]
        ]
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError("strokes must be a list of strokes, each with its points and its brush") from error
    if not all(points.shape[1:] == (2,) for points, _, _ in drawn):
        raise ValueError("strokes must have points that are pairs (x, y), and each at least one")
    if sum(len(points) for points, _, _ in drawn) > MAX_POINTS:
        raise ValueError(f"strokes must have at most {MAX_POINTS} points together")
    widest = widest_brush(width, height)
    if not all(0 < brush <= widest for _, brush, _ in drawn):
        raise ValueError(f"strokes must have brushes wider than 0 and no wider than {widest} pixels")
    if not all(((points >= -brush) & (points <= [width + brush, height + brush])).all() for points, brush, _ in drawn):
        raise ValueError("strokes must not leave the picture by more than their brush is wide")
    return drawn
