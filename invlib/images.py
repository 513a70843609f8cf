"""Read pictures from files and uploads as float32 tensors (1, channels, height, width) in [0, 1], and write them.

Every limit on the size and format of a picture is here. Other modules of the library handle tensors only.
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
"""The largest file that is read, in bytes."""

MAX_PIXELS = 40_000_000
"""The largest picture that is decoded. As a colour tensor it takes half a gigabyte."""

MIN_SIDE = 8
"""The shortest side of a picture, in pixels: SSIM needs a window of 7×7, the coarsest block average a block of 8×8."""

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
"""The file suffixes that are read and written, and the names that Pillow gives their formats.

The list is closed because Pillow hands some other formats to outside programs, such as PostScript to Ghostscript, and
no upload should reach those.
"""


class ImageError(ValueError):
    """Raised for a picture that cannot be used, with one sentence that says what is wrong and what to do."""


@dataclass(frozen=True)
class Picture:
    """A picture and where it comes from.

    Attributes
    ----------
    name : the name in the JSON of a run; that of an uploaded picture holds a fingerprint of the file.
    image : (1, C, H, W) in [0, 1].
    description : what the picture shows, in words.
    side : the longest side that an example was made with, in pixels; None for a visitor's own picture.
    """

    name: str
    image: Tensor
    description: str
    side: int | None = None


# --- Reading ----------------------------------------------------------------------------------------------------------


def load_image(
    source: str | Path | bytes | BinaryIO, *, channels: int | None = None, min_side: int = MIN_SIDE
) -> Tensor:
    """Read a picture from a path, bytes or a stream.

    The camera's orientation (EXIF) and an embedded colour profile (ICC) are applied. Transparent pixels become white,
    because most pictures with transparency were drawn for a white page. Of an animation the first frame is read.
    16-bit grey keeps its precision.

    Parameters
    ----------
    source : a path, the bytes of a file, or a binary stream, which is read from its start if it can be rewound.
    channels : 3 for colour, 1 for grey, None for what the file holds. A colour file of grey pixels counts as colour.
    min_side : the shortest side that is accepted, in pixels. A blur kernel may be smaller than a picture.

    Returns
    -------
    The picture, (1, channels, height, width), float32 in [0, 1].

    Raises
    ------
    ImageError : the file is missing, unreadable, damaged or not a picture, or it is larger than `MAX_BYTES` or
        `MAX_PIXELS`, or smaller than `min_side`.

    Examples
    --------
    >>> buffer = BytesIO()
    >>> Image.new("RGB", (12, 8), "red").save(buffer, "PNG")
    >>> load_image(buffer).shape
    torch.Size([1, 3, 8, 12])
    """
    name, content = _read(source)
    try:
        picture = Image.open(BytesIO(content), formats=sorted(set(SUFFIXES.values())))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    # Pillow's decoders raise nearly anything on a damaged file: SyntaxError, struct.error, KeyError, OverflowError...
    except Exception as error:
        raise ImageError(f"{name} is not a picture that can be read: use a PNG, JPEG, WebP or TIFF file") from error

    # The header tells the size, so a picture that is too large is refused before its pixels are decoded.
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
    """Decode a picture of any mode to (height, width) or (height, width, 3), uint8 or float32 in [0, 1]."""
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
    """Scale the values of a 32-bit file, which does not say which is white: the least usual white that none exceeds."""
    white = next((white for white in (1, 255, 65535) if values.max() <= white), values.max())
    return (values.astype(np.float64) / white).clip(0, 1).astype(np.float32)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Convert pixels (H, W) or (H, W, 3), uint8 or float32 in [0, 1], to a float32 image (1, C, H, W) in [0, 1].

    >>> to_tensor(np.array([[0, 51, 255]], np.uint8))
    tensor([[[[0.0000, 0.2000, 1.0000]]]])
    """
    image = torch.from_numpy(pixels.reshape(1, *pixels.shape[:2], -1)).permute(0, 3, 1, 2).contiguous()
    return image if image.is_floating_point() else image.float().div_(255)


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture from the colour space of its ICC profile to sRGB, the one of screens."""
    try:
        embedded = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return picture  # A picture is not refused because its profile is broken or meant for another mode.
    return picture if converted is None else converted


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


PNG_URL = "data:image/png;base64,"
"""The start of the data URL of a PNG file (RFC 2397)."""


def encode_data_url(pixels: np.ndarray) -> str:
    """Encode pixels (H, W) or (H, W, 4) as the data URL of a PNG file, without loss: 1 bit of bool, 8 of uint8.

    >>> load_image(decode_data_url(encode_data_url(np.array([[True, False]]))), min_side=1)
    tensor([[[[1., 0.]]]])
    """
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return PNG_URL + base64.b64encode(buffer.getvalue()).decode()


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


def load_drawing(source: str | Path | bytes | BinaryIO) -> Tensor:
    """Read a drawing: strokes on a transparent ground, or on a black one.

    Returns
    -------
    (4, height, width), float32 in [0, 1]: red, green, blue, and how opaque the strokes are.

    Raises
    ------
    ImageError : as in `load_image`.
    """
    colours = load_image(source, channels=3, min_side=1)[0]
    with Image.open(BytesIO(_read(source)[1])) as picture:
        if picture.has_transparency_data and picture.size == (colours.shape[2], colours.shape[1]):
            rgba = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1).float() / 255
            if bool((rgba[3] < 1).any()):
                return rgba
    return torch.cat([colours, (colours.amax(0, keepdim=True) > BLACK).float()])
