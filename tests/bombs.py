"""Small files that take long to decode, or much memory: pictures that strangers may send."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def encoded(pixels: np.ndarray | Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, *chunks: bytes, rows: bytes = b"") -> bytes:
    """A PNG file of grey pixels, with further chunks before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def empty_scans(count: int, side: int) -> bytes:
    """A progressive JPEG file whose first scan is followed by many that hold next to nothing."""
    content = encoded(np.zeros((side, side), np.uint8), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * count + content[-2:]


def comment_lines(count: int) -> bytes:
    return b"P3\n" + b"#\n" * count + b"8 8 255\n" + b"1 " * 192


def empty_segments(count: int) -> bytes:
    content = encoded(np.zeros((8, 8), np.uint8), "JPEG")
    return content[:2] + b"\xff\xe5\0\2" * count + content[2:]


def empty_blocks(count: int) -> bytes:
    """A GIF file with many extensions that hold nothing."""
    content = encoded(np.zeros((8, 8), np.uint8), "GIF")
    start = content.index(b"\x2c\0\0\0\0")
    return content[:start] + b"\x21\xfe\0" * count + content[start:]


def many_pages(count: int) -> bytes:
    """A TIFF file that says to hold many pictures, all in the same place of the file."""
    content = encoded(np.zeros((8, 8), np.uint8), "TIFF")
    (at,) = struct.unpack_from("<I", content, 4)
    entries = struct.unpack_from("<H", content, at)[0]
    page = content[at : at + 2 + 12 * entries]
    start = len(content)
    nexts = [start + (number + 1) * (len(page) + 4) for number in range(count - 1)] + [0]
    pages = b"".join(page + struct.pack("<I", after) for after in nexts)
    return content[:4] + struct.pack("<I", start) + content[8:] + pages
