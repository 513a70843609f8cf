"""Pictures and sentences on their way to the browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from html import escape

import numpy as np
import streamlit as st
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb

SHOWN = 480
"""The least longest side of a picture that is sent, in pixels: a smaller one is enlarged, its pixels as squares."""

COLOURS = "Viridis"
"""Of the standard deviation: even in lightness, and readable without colour vision."""


def show(picture: np.ndarray, *, alt: str, caption: str | None = None) -> None:
    """A picture that fills its place.

    It travels inside the page: as a file of its own, which Streamlit would make a JPEG, it could be gone by the time
    that the browser asks for it, when the next picture of a run has taken its place.
    """
    st.image(webp_url(picture), caption=caption, alt=alt, width="stretch")


def figure(picture: np.ndarray, *, alt: str, caption: str) -> None:
    """A picture that is there with the words around it.

    `st.image` waits for code that the browser fetches after the page, and that of the charts comes first.
    """
    # Decoded at once, so that the next picture of a run replaces this one without a blank between.
    height, width = picture.shape[:2]
    size = f'width="{width}" height="{height}"'
    image = f'<img src="{webp_url(picture)}" alt="{escape(alt)}" {size} decoding="sync">'
    st.html(f'<figure class="tile">{image}<figcaption>{escape(caption)}</figcaption></figure>')


@st.cache_data(max_entries=256, show_spinner=False)
def webp_url(pixels: np.ndarray) -> str:
    """A data URL in a third of a PNG file's size; exact where single pixels are to be seen."""
    buffer = io.BytesIO()
    picture = enlarged(pixels)
    picture.save(buffer, "WEBP", quality=95, method=1, lossless=picture.size != pixels.shape[1::-1])
    return data_url(buffer.getvalue(), "image/webp")


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@st.cache_data(max_entries=128, show_spinner=False)
def png(pixels: np.ndarray) -> bytes:
    """A PNG file to show."""
    return encode(enlarged(pixels))


def enlarged(pixels: np.ndarray) -> Image.Image:
    """Small pictures are enlarged without smoothing, because browsers smooth."""
    scale = -(-SHOWN // max(pixels.shape[:2])) if max(pixels.shape[:2]) < SHOWN / 2 else 1
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def blank(height: int, width: int) -> np.ndarray:
    """A faint tile for a picture that is not there yet, on any background."""
    return np.full((height, width, 4), (128, 128, 128, 32), np.uint8)


@lru_cache
def colours() -> np.ndarray:
    """256 colours, (256, 3) uint8."""
    return np.array([unlabel_rgb(colour) for colour in sample_colorscale(COLOURS, 256)]).round().astype(np.uint8)


def coloured(pixels: np.ndarray) -> np.ndarray:
    """Grey pixels (H, W) in the colours of the scale."""
    return colours()[pixels]


def gradient(least: str, most: str) -> str:
    """The scale as a bar, in HTML, with the values at its ends."""
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
    """An error's text as a sentence: a capital at the start, a full stop at the end."""
    text = str(error).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
