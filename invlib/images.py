"""Read pictures from files and uploads as float32 tensors (1, channels, height, width) in [0, 1], and write them.

`decoding` decodes the files, and holds every limit on their size and format. Other modules handle tensors only.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from invlib.decoding import MAX_BYTES, MIN_SIDE, SUFFIXES, Decoded, ImageError, Limits, check_size, decode, guarded


@dataclass(frozen=True)
class Picture:
    """A picture and where it comes from.

    Attributes
    ----------
    name : the name in the JSON of a run; that of an uploaded picture holds a fingerprint of the file.
    image : (1, C, H, W) in [0, 1].
    description : what the picture shows, in words.
    side : the longest side that an example was made with, in pixels; None for a visitor's own picture.
    note : what was assumed of the file, in a sentence; empty if nothing was.
    """

    name: str
    image: Tensor
    description: str
    side: int | None = None
    note: str = ""


# --- Reading ----------------------------------------------------------------------------------------------------------


def load_image(
    source: str | Path | bytes | BinaryIO,
    *,
    channels: int | None = None,
    min_side: int = MIN_SIDE,
    ground: float = 1.0,
) -> Tensor:
    """Read a picture from a path, bytes or a stream.

    The camera's orientation (EXIF) and an embedded colour profile (ICC) are applied; broken ones are ignored.
    Transparent pixels become white, because most pictures with transparency were drawn for a white page. Of an
    animation the first frame is read. 16-bit grey keeps its precision.

    Parameters
    ----------
    source : a path, the bytes of a file, or a binary stream, which is read from its start if it can be rewound.
    channels : 3 for colour, 1 for grey, None for what the file holds. A colour file of grey pixels counts as colour.
    min_side : the shortest side that is accepted, in pixels. A blur kernel may be smaller than a picture.
    ground : the brightness of what is transparent. That of a blur kernel is 0.

    Returns
    -------
    The picture, (1, channels, height, width), float32 in [0, 1].

    Raises
    ------
    ImageError : the file is missing, unreadable, damaged or not a picture, or it is larger than
        `decoding.MAX_BYTES` or `decoding.MAX_PIXELS`, or smaller than `min_side`.

    Examples
    --------
    >>> buffer = BytesIO()
    >>> Image.new("RGB", (12, 8), "red").save(buffer, "PNG")
    >>> load_image(buffer).shape
    torch.Size([1, 3, 8, 12])
    """
    return read_image(source, channels=channels, min_side=min_side, ground=ground)[0]


def read_image(
    source: str | Path | bytes | BinaryIO,
    *,
    channels: int | None = None,
    min_side: int = MIN_SIDE,
    ground: float = 1.0,
) -> tuple[Tensor, str]:
    """Read a picture as `load_image` does, and say in a sentence what was assumed of the file, if anything was."""
    decoded = _decode(source, min_side)
    return compose(decoded, channels=channels, ground=ground), decoded.note


def compose(decoded: Decoded, *, channels: int | None = None, ground: float = 1.0) -> Tensor:
    """Lay a decoded picture on a ground; the parameters and the result are those of `load_image`."""
    image = to_tensor(decoded.pixels)
    if decoded.alpha is not None:
        alpha = to_tensor(decoded.alpha)
        image = (alpha * image).add_((1 - alpha) * ground)
    return image if channels is None else to_channels(image, channels)


def load_picture(path: Path) -> Picture:
    """Read a picture from a file, with what was assumed of it; raises as `load_image` does."""
    image, note = read_image(path)
    return Picture(path.name, image, path.stem, note=note)


def load_strangers(content: bytes, name: str) -> Picture:
    """The picture in a stranger's file, decoded in a process of its own: see `decoding.guarded`, as to errors too."""
    with guarded(content) as decoded:
        return Picture(name, compose(decoded), Path(name).stem, note=decoded.note)


def list_images(folder: str | Path) -> list[Path]:
    """List the picture files in a folder (not in its subfolders), sorted by name.

    Raises
    ------
    ImageError : `folder` is not a folder or cannot be opened, or no file in it ends in one of `SUFFIXES`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder: name a folder of pictures")
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise ImageError(f"{folder} cannot be opened ({error.strerror}): check its permissions") from error
    pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise ImageError(f"{folder} holds no pictures: name a folder with files that end in {', '.join(SUFFIXES)}")
    return pictures


def _read(source: str | Path | bytes | BinaryIO) -> tuple[str, bytes]:
    """Read all bytes of a picture, and return them after the name that messages give the picture."""
    if isinstance(source, bytes):
        name, content = "The picture", source
    elif isinstance(source, str | Path):
        name, path = str(source), Path(source)
        if path.is_dir():
            raise ImageError(f"{path} is a folder: name a picture file")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError as error:
            raise ImageError(f"{path} does not exist: check the path") from error
        except OSError as error:
            raise ImageError(f"{path} cannot be opened ({error.strerror}): check its permissions") from error
    else:
        name = _name(source)
        if source.seekable():
            source.seek(0)
        content = source.read(MAX_BYTES + 1)
    check_size(content, name, MAX_BYTES)
    return name, content


def _decode(source: str | Path | bytes | BinaryIO, min_side: int) -> Decoded:
    """Decode a picture. Raises as `load_image` does."""
    name, content = _read(source)
    return decode(content, name, Limits(min_side=min_side))


def _name(source: object) -> str:
    """The name that messages give a picture."""
    return str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "The picture"))


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Convert pixels (H, W) or (H, W, 3), uint8 or float32 in [0, 1], to a float32 image (1, C, H, W) in [0, 1].

    >>> to_tensor(np.array([[0, 51, 255]], np.uint8))
    tensor([[[[0.0000, 0.2000, 1.0000]]]])
    """
    image = torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1)).permute(0, 3, 1, 2).contiguous()
    return image if image.is_floating_point() else image.float().div_(255)


# --- Shape and size ---------------------------------------------------------------------------------------------------


def to_channels(image: Tensor, channels: int) -> Tensor:
    """Convert images (batch, 1 or 3, height, width) to colour (3 `channels`) or grey (1, the luma of ITU-R BT.601).

    ValueError unless `channels` is 1 or 3.

    >>> green = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1)
    >>> to_channels(green, 1)
    tensor([[[[0.5870]]]])
    """
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    if image.shape[1] == channels:
        return image
    if channels == 3:
        return image.repeat(1, 3, 1, 1)
    red, green, blue = image.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def fit(image: Tensor, longest: int) -> Tensor:
    """Reduce images (batch, C, H, W) so that the longest side is at most `longest` pixels. They are never enlarged.

    >>> fit(torch.zeros(1, 3, 200, 300), 60).shape
    torch.Size([1, 3, 40, 60])
    """
    height, width = image.shape[-2:]
    scale = longest / max(height, width)
    return image if scale >= 1 else _resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Crop images (batch, C, H, W) at the bottom and the right to sides that are multiples of `multiple`.

    Raises
    ------
    ImageError : a side is shorter than `multiple`.
    """
    height, width = image.shape[-2:]
    if min(height, width) < multiple:
        raise ImageError(f"The picture is {width}×{height} pixels: use one with sides of {multiple} pixels or more")
    return image[..., : height - height % multiple, : width - width % multiple]


def centre_square(image: Tensor, side: int) -> Tensor:
    """Cut the largest square from the middle of images (batch, C, H, W), and resize it to (batch, C, side, side)."""
    height, width = image.shape[-2:]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    return _resize(image[..., top : top + square, left : left + square], side, side)


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    # Bicubic interpolation overshoots at edges, hence the clamp.
    return F.interpolate(image, (height, width), mode="bicubic", antialias=True).clamp(0, 1)


# --- Writing ----------------------------------------------------------------------------------------------------------


def to_uint8(image: Tensor) -> np.ndarray:
    """Convert one image (1, C, H, W) or (C, H, W) in [0, 1] to 8-bit numbers: (H, W, 3), or (H, W) if it is grey."""
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3:
        raise ValueError(f"expected one image (1, C, H, W) or (C, H, W), got {tuple(image.shape)}")
    pixels = image.detach().float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def quantise(image: Tensor) -> Tensor:
    """Round images in [0, 1] to the 256 levels of 8-bit files, so that writing and reading does not change them.

    >>> quantise(torch.tensor([-1.0, 0.2001, 0.5])).mul(255).tolist()
    [0.0, 51.0, 128.0]
    """
    return image.clamp(0, 1).mul(255).round().div(255)


def fingerprint(image: Tensor) -> str:
    """Return 16 hex digits that identify one image (1, C, H, W), from the SHA-256 of its shape and 8-bit pixels."""
    pixels = to_uint8(image)
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def contact_sheet(batch: Tensor, margin: int = 2) -> Tensor:
    """Place images (batch, C, H, W) on white in a grid that is about square: (1, C, height, width)."""
    count = len(batch)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    padded = F.pad(batch.cpu(), (0, margin, 0, margin), value=1.0)
    blank = torch.ones_like(padded[:1]).repeat(rows * columns - count, 1, 1, 1)
    grid = torch.cat([padded, blank]).unflatten(0, (rows, columns))
    sheet = grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return F.pad(sheet, (margin, 0, margin, 0), value=1.0)[None]


def to_uint16(image: Tensor) -> np.ndarray:
    """Convert one image (1, C, H, W) or (C, H, W) in [0, 1] to 16-bit numbers: (H, W, 3), or (H, W) if it is grey."""
    pixels = image.detach().double().clamp(0, 1).mul(65535).round().cpu().reshape(image.shape[-3:]).permute(1, 2, 0)
    return pixels.squeeze(2).numpy().astype(np.uint16)


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode pixels (H, W), (H, W, 3) or (H, W, 4) as a PNG file of 1 bit, 8 or 16, by their type.

    Pillow has no mode for colours of 16 bits, so these are written here.

    >>> load_image(encode_png(np.full((8, 8, 3), 51 * 257, np.uint16)))[0, :, 0, 0]
    tensor([0.2000, 0.2000, 0.2000])
    """
    if pixels.dtype != np.uint16 or pixels.ndim == 2:
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


PNG_URL = "data:image/png;base64,"
"""The start of the data URL of a PNG file (RFC 2397)."""


def encode_data_url(pixels: np.ndarray) -> str:
    """Encode pixels (H, W) or (H, W, 4) as the data URL of a PNG file, without loss: 1 bit of bool, 8 of uint8.

    >>> load_image(decode_data_url(encode_data_url(np.array([[True, False]]))), min_side=1)
    tensor([[[[1., 0.]]]])
    """
    return PNG_URL + base64.b64encode(encode_png(pixels)).decode()


def decode_data_url(url: str) -> bytes:
    """The PNG file that such a data URL holds.

    Raises
    ------
    ImageError : it is not the data URL of a PNG file.
    """
    unreadable = f"The picture is not the data URL of a PNG file: it must be {PNG_URL} and the file in base64"
    if not url.startswith(PNG_URL):
        raise ImageError(unreadable)
    try:
        return base64.b64decode(url.removeprefix(PNG_URL), validate=True)
    except ValueError as error:
        raise ImageError(unreadable) from error


def save_image(image: Tensor, path: str | Path) -> None:
    """Write one image (1, C, H, W) or (C, H, W) in [0, 1] to a file, and create its folder if need be.

    The suffix decides the format (see `SUFFIXES`).

    Raises
    ------
    ImageError : the suffix is unknown, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> image = quantise(torch.rand(1, 3, 8, 12))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_image(image, Path(folder) / "picture.png")
    ...     torch.equal(load_image(Path(folder) / "picture.png"), image)
    True
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(f"{path} does not say which format to write: end it in {', '.join(SUFFIXES)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(image)).save(path, SUFFIXES[path.suffix.lower()], quality=95)
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error


# --- Drawings ---------------------------------------------------------------------------------------------------------

BLACK = 0.05
"""Darker pixels of a drawing on black are black: a JPEG's black is not quite."""

WHITE = 0.99
"""Pixels of a mask that are darker, compared with the brightest one, are missing."""


def load_drawing(source: str | Path | bytes | BinaryIO) -> Tensor:
    """Read a drawing: strokes on a transparent ground, or on a black one.

    Returns
    -------
    (4, height, width), float32 in [0, 1]: red, green, blue, and how opaque the strokes are.

    Raises
    ------
    ImageError : as in `load_image`.
    """
    decoded = _decode(source, 1)
    colours = to_channels(to_tensor(decoded.pixels), 3)[0]
    opacity = (
        to_tensor(decoded.alpha)[0]
        if decoded.alpha is not None and _varies(decoded.alpha)
        else (colours.amax(0, keepdim=True) > BLACK).float()
    )
    return torch.cat([colours, opacity])


def load_mask(source: str | Path | bytes | BinaryIO) -> Tensor:
    """Read a mask: black where pixels are missing, white where they are kept.

    Grey pixels are missing too, because what an anti-aliased mask touches is mixed with what it hides. Of a mask that
    is transparent in part, what was painted in one colour, white or any other, is missing. If what is opaque has
    several colours, it is a picture of which a part was erased, and what is transparent is missing.

    Returns
    -------
    (height, width), bool, True where a pixel is kept.

    Raises
    ------
    ImageError : it hides nothing or everything, or as in `load_image`.
    """
    decoded = _decode(source, 1)
    image = to_tensor(decoded.pixels)
    grey = to_channels(image, 1)[0, 0]
    if decoded.alpha is not None and _varies(decoded.alpha):
        alpha = to_tensor(decoded.alpha)[0, 0]
        painted = image[0][:, alpha == alpha.max()]
        grey = 1 - alpha if bool((painted.amax(1) - painted.amin(1) <= BLACK).all()) else alpha
    kept = grey > WHITE * grey.max()
    if kept.all():
        raise ImageError(f"{_name(source)} hides nothing: paint black what is missing of the picture")
    if not kept.any():
        raise ImageError(f"{_name(source)} hides the whole picture: paint white what is to be kept")
    return kept


def _varies(alpha: np.ndarray) -> bool:
    return bool(alpha.min() < alpha.max())
