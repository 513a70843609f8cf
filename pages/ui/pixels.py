"""Pictures and sentences on their way to the browser."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

import numpy as np
import streamlit as st
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb


@dataclass(frozen=True)
class Tile:
    """A picture to show, in 8 bits. None stands for a blank of the answer's size."""

    picture: np.ndarray | None
    caption: str
    alt: str


def show_tiles(tiles: Sequence[Tile], image_shape: Sequence[int]) -> None:
    """Show pictures in one row if there are four or less, and in pairs on a telephone."""
    with st.grid(min(4, len(tiles)), min_column_width=140, gap="small"):
        for tile in tiles:
            picture = blank(*image_shape[1:]) if tile.picture is None else tile.picture
            figure(picture, caption=tile.caption, alt=tile.alt)


SHOWN = 480
"""The longest side that a picture is enlarged to before it is sent, in pixels, if it has less than half of that."""

COLOURS = "Viridis"
"""The colour scale of magnitudes, which is even in lightness and can be read without colour vision."""


def show(picture: np.ndarray, *, alt: str, caption: str | None = None) -> None:
    """Show a picture that fills its place."""
    # It travels inside the page. Streamlit would make a JPEG file of it, which could be gone by the time that the
    # browser asks for it, when the next picture of a run has taken its place.
    st.image(webp_url(picture), caption=caption, alt=alt, width="stretch")


def figure(picture: np.ndarray, *, alt: str, caption: str) -> None:
    """Show a picture at the same time as the words around it.

    `st.image` waits for code that the browser fetches after the page, and after the code of the charts.
    """
    # With decoding="sync", the next picture of a run replaces this one without a blank between.
    height, width = picture.shape[:2]
    size = f'width="{width}" height="{height}"'
    image = f'<img src="{webp_url(picture)}" alt="{escape(alt)}" {size} decoding="sync">'
    st.html(f'<figure class="tile">{image}<figcaption>{escape(caption)}</figcaption></figure>')


@st.cache_data(max_entries=256, show_spinner=False)
def webp_url(pixels: np.ndarray) -> str:
    """A picture as the data URL of a WebP file, lossless if it is enlarged: smaller than a PNG file, and made faster.

    Higher methods save a third of an enlarged picture, and take twenty times as long (80 ms for one of 512×512).
    """
    buffer = io.BytesIO()
    picture = enlarged(pixels)
    picture.save(buffer, "WEBP", quality=95, method=0, lossless=picture.size != pixels.shape[1::-1])
    return data_url(buffer.getvalue(), "image/webp")


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@st.cache_data(max_entries=128, show_spinner=False)
def png(pixels: np.ndarray) -> bytes:
    """A picture as a PNG file, enlarged if it is small."""
    return encode(enlarged(pixels))


def enlarged(pixels: np.ndarray) -> Image.Image:
    """A picture that is enlarged without smoothing if it is small, because browsers would smooth it."""
    scale = -(-SHOWN // max(pixels.shape[:2])) if max(pixels.shape[:2]) < SHOWN / 2 else 1
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def blank(height: int, width: int) -> np.ndarray:
    """A faint tile in place of a picture that is not there yet."""
    return np.full((height, width, 4), (128, 128, 128, 32), np.uint8)


@lru_cache
def colours(scale: str) -> np.ndarray:
    """The 256 colours of a scale, (256, 3) uint8."""
    return np.array([unlabel_rgb(colour) for colour in sample_colorscale(scale, 256)]).round().astype(np.uint8)


def coloured(pixels: np.ndarray, scale: str = COLOURS) -> np.ndarray:
    """The colours of grey pixels (...) on a scale, (..., 3)."""
    return colours(scale)[pixels]


def gradient(least: str, most: str) -> str:
    """The scale of `coloured` as a bar in HTML, with the values at its ends."""
    stops = ", ".join(sample_colorscale(COLOURS, 9))
    return (
        f'<div style="height: 0.6rem; border-radius: 0.2rem; background: linear-gradient(to right, {stops})"></div>'
        '<div style="display: flex; justify-content: space-between; font-size: 0.875rem; opacity: 0.8">'
        f"<span>{least}</span><span>{most}</span></div>"
    )


def webp_animation(frames: Sequence[np.ndarray]) -> bytes:
    """An animated WebP file that rests on its last frame."""
    first, *others = (Image.fromarray(frame) for frame in frames)
    buffer = io.BytesIO()
    durations = [120] * len(others) + [2000]
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=80)
    return buffer.getvalue()


def sentence(error: object) -> str:
    """An error's text as a sentence, with a capital at the start and a full stop at the end."""
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


def plain(text: str) -> str:
    r"""Any text, such as the name of a visitor's file, as Markdown that shows it as it is.

    >>> print(plain("![me](http://site)"))
    \!\[me\]\(http\:\/\/site\)
    """
    return re.sub(r"([!-/:-@[-`{-~])", r"\\\1", " ".join(text.split()))


def group(number: int) -> str:
    """12288 -> "12 288"."""
    return f"{number:,}".replace(",", " ")


def plural(count: int, noun: str) -> str:
    """1, "run" -> "1 run"; 2, "run" -> "2 runs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
