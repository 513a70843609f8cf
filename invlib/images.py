"""Read pictures from files and uploads as float32 tensors (1, channels, height, width) in [0, 1], and write them.

Every limit on the size and format of a picture is here. Other modules of the library handle tensors only.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageFile
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
    ".jfif": "JPEG",
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

HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""What the first box of a HEIC file calls its kind; such files need the extra `heic`."""

try:
    import pillow_heif

    pillow_heif.register_heif_opener()
    SUFFIXES |= {".heic": "HEIF", ".heif": "HEIF"}
except ImportError:
    pass


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
    ImageError : the file is missing, unreadable, damaged or not a picture, or it is larger than `MAX_BYTES` or
        `MAX_PIXELS`, or smaller than `min_side`.

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
    image = decoded.image
    if decoded.alpha is not None:
        image = decoded.alpha * image + (1 - decoded.alpha) * ground
    return image if channels is None else to_channels(image, channels), decoded.note


def load_picture(path: Path) -> Picture:
    """Read a picture from a file, with what was assumed of it; raises as `load_image` does."""
    image, note = read_image(path)
    return Picture(path.name, image, path.stem, note=note)


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
    if not content:
        raise ImageError(f"{name} is empty: use another picture")
    if len(content) > MAX_BYTES:
        raise ImageError(f"{name} is larger than {MAX_BYTES // 10**6} MB: use a smaller file")
    return name, content


def _name(source: object) -> str:
    """The name that messages give a picture."""
    return str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "The picture"))


def _too_large(name: str) -> ImageError:
    return ImageError(f"{name} has more than {MAX_PIXELS // 10**6} million pixels: reduce it first")


# --- Decoding ---------------------------------------------------------------------------------------------------------

PHOTOMETRIC, ORIENTATION, SMALLEST, LARGEST = 262, 274, 340, 341
"""Tags of TIFF files. The values of the last two are those that stand for black and for white."""


@dataclass(frozen=True)
class _Decoded:
    """A picture (1, C, H, W), its opacity (1, 1, H, W) if it is not all opaque, and what was assumed."""

    image: Tensor
    alpha: Tensor | None = None
    note: str = ""


def _decode(source: str | Path | bytes | BinaryIO, min_side: int) -> _Decoded:
    """Decode a picture, upright. Raises as `load_image` does."""
    name, content = _read(source)
    formats = sorted(set(SUFFIXES.values()))
    opened, failure = False, None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL", category=UserWarning)  # broken metadata
        for candidate in chain([content], _without_metadata(content)):
            try:
                picture = Image.open(BytesIO(candidate), formats=formats)
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise _too_large(name) from error
            # Pillow's decoders raise nearly anything on a damaged file: SyntaxError, struct.error, OverflowError...
            except Exception as error:
                failure = failure or error
                continue
            # The header tells the size, so a picture that is too large is refused before its pixels are decoded.
            _check_size(name, picture.width, picture.height, min_side)
            opened = True
            try:
                decoded = _pixels(picture, candidate, name)
            except ImageError:
                raise
            except Exception as error:
                failure = error
                continue
            break
        else:
            found = _scientific(content, name, min_side, opened)
            if found is None:
                what = f"{name} is not a picture that can be read: use a PNG, JPEG, WebP or TIFF file"
                if opened:
                    what = f"{name} is damaged and cannot be decoded: save it again, or use another picture"
                elif content[4:8] == b"ftyp" and content[8:12] in HEIC:
                    what = f"{name} is a HEIC picture: save it as JPEG, or install the package pillow-heif"
                raise ImageError(what) from failure
            decoded = found
    if not decoded.image.sum().isfinite():
        raise ImageError(f"{name} has pixels that are not finite numbers: replace them, or use another picture")
    return decoded


def _check_size(name: str, width: int, height: int, min_side: int) -> None:
    if width * height > MAX_PIXELS:
        raise _too_large(name)
    if min(width, height) < min_side:
        raise ImageError(f"{name} is {width}×{height} pixels: use a picture with sides of {min_side} pixels or more")


def _without_metadata(content: bytes) -> Iterator[bytes]:
    """The file without metadata that a decoder may stumble over: once with those that change pixels, once without."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        needed = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
        for chosen in (needed | {b"iCCP", b"eXIf"}, needed):
            yield content[:8] + b"".join(
                content[start:end]
                for start, end in _spans(content, 8, ">", 12)
                if content[start + 4 : start + 8] in chosen
            )
    elif content.startswith(b"\xff\xd8"):
        # A JPEG is a list of segments up to the first scan. APP0 and APP14 say how colours are coded.
        for spared in ((0xE0, 0xEE), ()):
            start, kept = 2, content[:2]
            while start + 4 <= len(content) and content[start] == 0xFF and content[start + 1] != 0xDA:
                marker, end = content[start + 1], start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
                if marker in spared or marker not in (0xFE, *range(0xE0, 0xF0)):
                    kept += content[start:end]
                start = end
            yield kept + content[start:]
    elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        chunks = b""
        for start, end in _spans(content, 12, "<", 8):
            kind, body = content[start : start + 4], content[start:end]
            if kind == b"VP8X" and len(body) > 8:  # says which metadata there are
                body = body[:8] + bytes([body[8] & ~0x2C]) + body[9:]
            chunks += b"" if kind in (b"ICCP", b"EXIF", b"XMP ") else body
        yield b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def _spans(content: bytes, start: int, order: str, overhead: int) -> Iterator[tuple[int, int]]:
    """Where the chunks of a PNG or WebP file begin and end."""
    while start + 8 <= len(content):
        at = start if order == ">" else start + 4
        length = struct.unpack_from(f"{order}I", content, at)[0]
        end = start + overhead + length + (length % 2 if order == "<" else 0)
        yield start, end
        start = end


def _pixels(picture: Image.Image, content: bytes, name: str) -> _Decoded:
    """Decode a picture of any mode."""
    tags = getattr(picture, "tag_v2", {})
    bits, signed = max(tags.get(258, (8,))), tags.get(339, (1,))[0] == 2
    profile = picture.info.get("icc_profile")
    coding = str(picture.tile[0][3]) if isinstance(picture, ImageFile.ImageFile) and picture.tile else ""
    deep = picture.mode in {"RGB", "RGBA", "RGBX", "LA"} and (bits == 16 or ";16" in coding)
    planes = deep and tags.get(284) == 2  # which Pillow reads as if they had 8 bits
    if tags and deep and (planes or not profile):
        found = _scientific(content, name, 1, not planes)
        if found is not None:
            return found
    picture.load()
    note = ""
    if deep:
        note = f"{name} has 16 bits for each colour, of which the upper 8 were read"
    if picture.format == "TIFF" and (pages := getattr(picture, "n_frames", 1)) > 1:
        note = f"{name} holds {pages} pictures, of which the first was read"
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # A picture is not refused because its EXIF is broken.
        orientation = 1
    transparent = picture.info.get("transparency")
    if picture.mode.startswith("I;16") or picture.mode in {"I", "F"} or (picture.mode == "L" and signed):
        values = np.array(picture)
        if picture.mode != "F" and signed and bits < 32:
            values = values.astype(np.int16 if bits == 16 else np.int8)
        elif picture.mode == "I" and tags and not signed:
            values = values.view(np.uint32)
        elif picture.mode == "I" and picture.format == "PPM":  # Pillow scaled it
            tags = {LARGEST: 65535}
        alpha = None if transparent is None else (values != transparent).astype(np.float32)
        image, assumed = _scale(values, tags, name)
        return _upright(image, alpha, orientation, assumed or note)
    grey = picture.mode in {"1", "L", "LA", "La"}
    alpha = None
    if picture.has_transparency_data:
        if deep and isinstance(transparent, tuple):  # of 16 bits; Pillow has kept the upper 8 of the colours
            picture.info["transparency"] = tuple(value >> 8 for value in transparent)
        rgba = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        alpha = np.array(rgba)[..., 3]
        picture = rgba.convert("RGB")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    if profile:
        picture = _to_srgb(picture, profile)
    return _upright(np.array(picture.convert("L" if grey else "RGB")), alpha, orientation, note)


def _upright(pixels: np.ndarray, alpha: np.ndarray | None, orientation: int, note: str) -> _Decoded:
    """Turn pixels (H, W) or (H, W, 3) and their opacity (H, W), uint8 or float32, as EXIF says."""

    def turn(array: np.ndarray) -> Tensor:
        array = array.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else array
        array = array[::-1] if orientation in (3, 4, 7, 8) else array
        return to_tensor(np.ascontiguousarray(array[:, ::-1] if orientation in (2, 3, 6, 7) else array))

    if alpha is None or not alpha.any():  # A picture that is transparent all over has a meaningless opacity.
        return _Decoded(turn(pixels), None, note)
    opacity = turn(alpha)
    return _Decoded(turn(pixels), opacity if bool((opacity < 1).any()) else None, note)


def _scale(values: np.ndarray, tags: Mapping[int, Any], name: str) -> tuple[np.ndarray, str]:
    """Scale numbers of any type to [0, 1], float32, and say what was assumed of black and white if the file does not.

    White is the least usual one that the numbers do not exceed, or by so little that it is an overshoot of a filter,
    and of which they are not so small a part that the picture would be black.
    """
    low, high = float(values.min()), float(values.max())
    whole = None if values.dtype.kind == "f" else np.iinfo(values.dtype)
    top = math.inf if whole is None else float(whole.max)
    stated = _number(tags.get(LARGEST))
    black, assumed = 0.0, True
    if stated is not None and stated > 0 and 0 < high <= 1.1 * stated:
        white, assumed = stated, False
        smallest = _number(tags.get(SMALLEST))
        black = smallest if smallest is not None and smallest < 0 else 0.0
    elif values.dtype == np.uint8:
        white, assumed = 255.0, False
    elif values.dtype == np.uint16:
        assumed = 0 < high <= 4095
        white = 4095.0 if assumed else 65535.0
    else:
        usual = (1.0, 255.0, 4095.0, 65535.0, top)
        white = next((each for each in usual if each <= top and _fits(high, each)), high)
        assumed = white != 1 or high > 1.1
        if low < -white * (0.5 if whole is None else 0.1):
            assumed = True
            if whole is None and max(-low, high) <= 1.1:
                black, white = -1.0, 1.0
            elif whole is not None and high - low > top:
                black, white = float(whole.min), top
            else:
                black, white = low, high
        elif low < -0.1 * white:
            assumed = True
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = ((values.astype(np.float64) - black) / ((white - black) or 1.0)).clip(0, 1).astype(np.float32)
    if _number(tags.get(PHOTOMETRIC)) == 0:
        scaled = 1 - scaled
    bits = ", as in files of 12 bits" if white == 4095 else ""
    note = f"{name} holds numbers from {low:g} to {high:g}: {black:g} was taken as black and {white:g} as white{bits}"
    return scaled, note if assumed else ""


def _fits(high: float, white: float) -> bool:
    """Whether the largest number of a picture suits a white. Noise may carry it far above a white of 1."""
    return high <= 2 if white == 1 else white / 16 < high <= 1.1 * white


def _number(value: Any) -> float | None:
    """The number that a tag of a TIFF file holds, or the largest of several."""
    try:
        return float(max(value)) if isinstance(value, tuple | list) else float(value)
    except (TypeError, ValueError):
        return None


def _scientific(content: bytes, name: str, min_side: int, readable: bool) -> _Decoded | None:
    """Decode a TIFF file of a kind that Pillow does not read; None if it is no TIFF file.

    Only those without compression are decoded, as a small one could fill the memory otherwise. ImageError says of any
    other which kind it is, unless Pillow can read it.
    """
    if content[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    import tifffile  # is slow to import and seldom needed

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # which says on standard error what a damaged file lacks

    try:
        with tifffile.TiffFile(BytesIO(content)) as file:
            page = file.pages[0]
            assert isinstance(page, tifffile.TiffPage)
            axes, dtype = page.axes, page.dtype
            tags = {
                code: page.tags[code].value
                for code in (PHOTOMETRIC, ORIENTATION, SMALLEST, LARGEST)
                if code in page.tags
            }
            samples, photometric = page.samplesperpixel, int(page.photometric)
            plain = (
                page.compression == 1
                and axes in ("YX", "YXS", "SYX")
                and dtype is not None
                and dtype.kind in "iuf"
                and photometric in ((2,) if samples >= 3 else (0, 1))
                and samples <= 4
            )
            coding = tifffile.PHOTOMETRIC(photometric).name, tifffile.COMPRESSION(page.compression).name
            kind = f"{samples} of type {dtype} a pixel, {coding[0]}, compression {coding[1]}, axes {axes}"
            _check_size(name, page.imagewidth, page.imagelength, min_side)
            values = page.asarray() if plain else None
    except ImageError:
        raise
    except Exception:
        return None
    if values is None:
        if readable:
            return None
        raise ImageError(f"{name} is a TIFF file that cannot be read ({kind}): save it as 8- or 16-bit grey or RGB")
    if axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    alpha = None
    if samples in (2, 4):
        full = np.iinfo(values.dtype).max if values.dtype.kind != "f" else 1
        alpha = (values[..., -1] / full).clip(0, 1).astype(np.float32)
        values = values[..., : samples - 1]
    image, note = _scale(values, tags, name)
    return _upright(image, alpha, int(_number(tags.get(ORIENTATION)) or 1), note)


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
    except Exception:
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
    colours = to_channels(decoded.image, 3)[0]
    opacity = (
        decoded.alpha[0]
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
    grey = to_channels(decoded.image, 1)[0, 0]
    if decoded.alpha is not None and _varies(decoded.alpha):
        alpha = decoded.alpha[0, 0]
        painted = decoded.image[0][:, alpha == alpha.max()]
        grey = 1 - alpha if bool((painted.amax(1) - painted.amin(1) <= BLACK).all()) else alpha
    kept = grey > WHITE * grey.max()
    if kept.all():
        raise ImageError(f"{_name(source)} hides nothing: paint black what is missing of the picture")
    if not kept.any():
        raise ImageError(f"{_name(source)} hides the whole picture: paint white what is to be kept")
    return kept


def _varies(alpha: Tensor) -> bool:
    return bool(alpha.min() < alpha.max())
