"""Pictures in files and uploads <-> float32 tensors (1, channels, height, width) in [0, 1].

Every limit on size and format lives here, and so do the example pictures.
"""

from __future__ import annotations

import base64
import hashlib
import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor
from torch.nn import functional as F

MAX_BYTES = 50_000_000
"""The largest file that is read."""

MAX_PIXELS = 40_000_000
"""The largest picture that is decoded; it takes half a gigabyte as a colour tensor."""

MIN_SIDE = 8
"""The shortest side of a picture, in pixels: one cell of the coarsest block average, one window of SSIM."""

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jp2": "JPEG2000",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
"""File suffixes -> the formats that are read and written, by Pillow's names.

A closed list, because Pillow hands some other formats to outside programs (PostScript to Ghostscript), which no upload
should reach.
"""


class ImageError(ValueError):
    """A picture that cannot be used. The message is one sentence that says what is wrong and what to do."""


@dataclass(frozen=True)
class Picture:
    """A picture, and where it is from.

    Attributes
    ----------
    name : what the run's JSON calls it; an uploaded picture's holds a fingerprint of the file.
    image : (1, C, H, W) in [0, 1].
    description : what is to be seen, in words.
    side : the longest side that an example was made with; None for a visitor's own picture.
    """

    name: str
    image: Tensor
    description: str
    side: int | None = None


# --- Reading ----------------------------------------------------------------------------------------------------------


def load_image(
    source: str | Path | bytes | BinaryIO, *, channels: int | None = None, min_side: int = MIN_SIDE
) -> Tensor:
    """Read a picture.

    The camera's orientation (EXIF) and an embedded colour profile (ICC) are applied. Transparent pixels are laid on
    white, as on the page that most pictures with transparency were drawn for. An animation gives its first frame.
    16-bit grey keeps its precision.

    Parameters
    ----------
    source : a path, the bytes of a file, or a binary stream, which is read from its start if it can be rewound.
    channels : 3 for colour, 1 for grey, None for what the file holds (colour even if each of its pixels is grey).
    min_side : the shortest side that is accepted, in pixels; a blur kernel may be smaller than a picture.

    Returns
    -------
    (1, channels, height, width), float32 in [0, 1].

    Raises
    ------
    ImageError : missing or unreadable file, not a picture, damaged, or beyond `MAX_BYTES`, `MAX_PIXELS` or `min_side`.
    """
    name, content = _read(source)
    try:
        picture = Image.open(BytesIO(content), formats=sorted(set(SUFFIXES.values())))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    # Damaged files make Pillow's decoders raise nearly anything: SyntaxError, struct.error, KeyError, OverflowError...
    except Exception as error:
        raise ImageError(f"{name} is not a picture that can be read: use a PNG, JPEG, WebP or TIFF file") from error

    # The size is known from the header: refuse before the pixels are decoded.
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(name)
    if min(picture.size) < min_side:
        size = f"{picture.width}×{picture.height}"
        raise ImageError(f"{name} is {size} pixels: use a picture with sides of {min_side} pixels or more")

    try:
        image = to_tensor(_pixels(ImageOps.exif_transpose(picture)))
    except Exception as error:
        raise ImageError(f"{name} is damaged and cannot be decoded: save it again, or use another picture") from error
    if not image.sum().isfinite():
        raise ImageError(f"{name} has pixels that are not finite numbers: replace them, or use another picture")
    return image if channels is None else to_channels(image, channels)


def list_images(folder: str | Path) -> list[Path]:
    """The picture files in a folder (not in its subfolders), sorted by name.

    Raises
    ------
    ImageError : not a folder, or no file in it has one of `SUFFIXES`.
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
    """What to call the picture in a message, and its bytes."""
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
        name = str(getattr(source, "name", "The picture"))
        if source.seekable():
            source.seek(0)
        content = source.read(MAX_BYTES + 1)
    if not content:
        raise ImageError(f"{name} is empty: use another picture")
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES // 10**6} MB: use a smaller file")
    return name, content


def _too_large(name: str) -> ImageError:
    return ImageError(f"{name} has more than {MAX_PIXELS // 10**6} million pixels: reduce it first")


def _pixels(picture: Image.Image) -> np.ndarray:
    """The pixels of a picture in any mode: (height, width) or (height, width, 3), uint8 or float32 in [0, 1]."""
    if picture.mode.startswith("I;16"):
        return np.array(picture, np.float32) / 65535
    if picture.mode in {"I", "F"}:
        return _scale(np.array(picture))
    grey = picture.mode in {"1", "L", "LA", "La"}
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    if profile:
        picture = _to_srgb(picture, profile)
    return np.array(picture.convert("L" if grey else "RGB"))


def _scale(values: np.ndarray) -> np.ndarray:
    """32-bit integer and float files do not say which value is white: take the smallest usual one that none exceeds."""
    white = next((white for white in (1, 255, 65535) if values.max() <= white), values.max())
    return (values.astype(np.float64) / white).clip(0, 1).astype(np.float32)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(height, width) or (height, width, 3), uint8 or float32 in [0, 1] -> (1, C, height, width), float32 in [0, 1]."""
    image = torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1)).permute(0, 3, 1, 2).contiguous()
    return image if image.is_floating_point() else image.float().div_(255)


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """A picture converted from the colour space of its ICC profile to that of screens."""
    try:
        embedded = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture  # A profile that is broken, or not for this mode, is no reason to refuse the picture.
    return picture if converted is None else converted


# --- Shape and size ---------------------------------------------------------------------------------------------------


def to_channels(image: Tensor, channels: int) -> Tensor:
    """Make an image colour (3) or grey (1, the luma of ITU-R BT.601).

    Parameters
    ----------
    image : (batch, 1 or 3, height, width).
    channels : 1 or 3.
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
    """Reduce an image (batch, C, H, W) so that its longest side is at most `longest` pixels; it is never enlarged."""
    height, width = image.shape[-2:]
    scale = longest / max(height, width)
    return image if scale >= 1 else _resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def crop_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Crop an image (batch, C, H, W) at the bottom and the right to sides that are multiples of `multiple`.

    Raises
    ------
    ImageError : a side is shorter than `multiple`.
    """
    height, width = image.shape[-2:]
    if min(height, width) < multiple:
        raise ImageError(f"The picture is {width}×{height} pixels: use one with sides of {multiple} pixels or more")
    return image[..., : height - height % multiple, : width - width % multiple]


def centre_square(image: Tensor, side: int) -> Tensor:
    """The largest square in the middle of an image (batch, C, H, W), resized to (batch, C, side, side)."""
    height, width = image.shape[-2:]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    return _resize(image[..., top : top + square, left : left + square], side, side)


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    # Bicubic interpolation overshoots at edges.
    return F.interpolate(image, (height, width), mode="bicubic", antialias=True).clamp(0, 1)


# --- Writing ----------------------------------------------------------------------------------------------------------


def to_uint8(image: Tensor) -> np.ndarray:
    """One image (1, C, H, W) or (C, H, W) in [0, 1] as 8-bit numbers: (H, W, 3), or (H, W) if it is grey."""
    if image.ndim == 4 and len(image) == 1:
        image = image[0]
    if image.ndim != 3:
        raise ValueError(f"expected one image (1, C, H, W) or (C, H, W), got {tuple(image.shape)}")
    pixels = image.detach().float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def quantise(image: Tensor) -> Tensor:
    """Images in [0, 1] rounded to the 256 levels that 8-bit files hold, so that writing and reading changes nothing."""
    return image.clamp(0, 1).mul(255).round().div(255)


def fingerprint(image: Tensor) -> str:
    """What tells one image (1, C, H, W) from another: 16 hex digits of the SHA-256 of its shape and 8-bit pixels."""
    pixels = to_uint8(image)
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:16]


def contact_sheet(batch: Tensor, margin: int = 2) -> Tensor:
    """Images (batch, C, H, W) side by side on white, in a grid that is about square: (1, C, height, width)."""
    count = len(batch)
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    padded = F.pad(batch.cpu(), (0, margin, 0, margin), value=1.0)
    blank = torch.ones_like(padded[:1]).repeat(rows * columns - count, 1, 1, 1)
    grid = torch.cat([padded, blank]).unflatten(0, (rows, columns))
    sheet = grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return F.pad(sheet, (margin, 0, margin, 0), value=1.0)[None]


def encode_png(image: Tensor) -> bytes:
    """One image (1, C, H, W) or (C, H, W) in [0, 1] as the bytes of a PNG file."""
    buffer = BytesIO()
    Image.fromarray(to_uint8(image)).save(buffer, "PNG")
    return buffer.getvalue()


PNG_URL = "data:image/png;base64,"
"""How a data URL (RFC 2397) of a PNG file starts."""


def encode_data_url(pixels: np.ndarray) -> str:
    """Grey pixels (H, W) as the data URL of a PNG file, exactly: 1 bit of bool, 8 of uint8, 16 of uint16."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return PNG_URL + base64.b64encode(buffer.getvalue()).decode()


def decode_data_url(url: str) -> Tensor:
    """The grey picture that such a data URL holds, of any size: (1, 1, H, W), float32 in [0, 1].

    Raises
    ------
    ImageError : not the data URL of a PNG file, or the file is not a picture that `load_image` reads.
    """
    unreadable = f"The picture is not the data URL of a PNG file: it must be {PNG_URL} and the file in base64"
    if not url.startswith(PNG_URL):
        raise ImageError(unreadable)
    try:
        content = base64.b64decode(url.removeprefix(PNG_URL), validate=True)
    except ValueError as error:
        raise ImageError(unreadable) from error
    return load_image(content, channels=1, min_side=1)


def save_image(image: Tensor, path: str | Path) -> None:
    """Write one image (1, C, H, W) or (C, H, W) in [0, 1] to a file, creating its folder.

    The suffix decides the format (see `SUFFIXES`).

    Raises
    ------
    ImageError : unknown suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ImageError(f"{path} does not say which format to write: end it in {', '.join(SUFFIXES)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(image)).save(path, SUFFIXES[path.suffix.lower()], quality=95)
    except OSError as error:
        raise ImageError(f"{path} cannot be written ({error.strerror or error}): choose another place") from error
