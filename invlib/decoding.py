"""Decode pictures into arrays, with limits on their size, and in a process of its own if they are a stranger's.

This module imports neither torch nor the rest of the library: it is run as a program too, which must start fast.
"""

from __future__ import annotations

import json
import logging
import math
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile

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


PHOTOMETRIC, ORIENTATION, SMALLEST, LARGEST = 262, 274, 340, 341
"""Tags of TIFF files. The values of the last two are those that stand for black and for white."""


@dataclass(frozen=True)
class Limits:
    """What is decoded, and what it may take.

    Attributes
    ----------
    size : of the file, in bytes.
    pixels : of the picture.
    min_side : the shortest side that is accepted, in pixels.
    formats : the names that Pillow gives them.
    cpu : whole seconds of a processor; for `guarded` alone, as are those that follow.
    seconds : by the clock, of which half may pass in waiting for other pictures. Visitors wait for 10 at most, and it
        takes a moment to send a file and to end a process.
    memory : bytes of address space, of which the interpreter and its libraries take 0.2 GB.
    """

    size: int = MAX_BYTES
    pixels: int = MAX_PIXELS
    min_side: int = MIN_SIDE
    formats: tuple[str, ...] = tuple(sorted(set(SUFFIXES.values())))
    cpu: int = 5
    seconds: float = 9.0
    memory: int = 1_000_000_000

    @property
    def suffixes(self) -> list[str]:
        """How the names of such files may end."""
        return [suffix for suffix, format in SUFFIXES.items() if format in self.formats]


STRANGERS = Limits(
    size=20_000_000,
    pixels=24_000_000,
    formats=tuple(sorted({"PNG", "JPEG", "WEBP", "AVIF", "TIFF", "HEIF"} & {*SUFFIXES.values()})),
)
"""What pages take: the formats of cameras and of drawing programs."""


@dataclass(frozen=True)
class Decoded:
    """A picture that is upright.

    Attributes
    ----------
    pixels : (H, W) or (H, W, 3), uint8, or float32 in [0, 1].
    alpha : how opaque each is, (H, W), of either type; None if all are.
    note : what was assumed of the file, in a sentence; empty if nothing was.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    note: str = ""


def check_size(content: bytes, name: str, most: int) -> None:
    """Raise ImageError if a file is empty or has more than `most` bytes. `name` is what the message calls it."""
    if not content:
        raise ImageError(f"{name} is empty: use another picture")
    if len(content) > most:
        raise ImageError(f"{name} is larger than {most // 10**6} MB: use a smaller file")


def decode(content: bytes, name: str, limits: Limits) -> Decoded:
    """Decode a picture. `name` is what messages call it.

    Raises
    ------
    ImageError : it is damaged, not a picture, or not within the limits, of which `size` has been checked.
    """
    opened, failure = False, None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL", category=UserWarning)  # broken metadata
        for candidate in chain([content], _without_metadata(content)):
            try:
                picture = Image.open(BytesIO(candidate), formats=limits.formats)
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise _too_large(name, limits) from error
            # Pillow's decoders raise nearly anything on a damaged file: SyntaxError, struct.error, OverflowError...
            except Exception as error:
                failure = failure or error
                continue
            # The header tells the size, so a picture that is too large is refused before its pixels are decoded.
            _check_sides(name, picture.width, picture.height, limits)
            opened = True
            try:
                decoded = _pixels(picture, candidate, name, limits)
            except ImageError:
                raise
            except MemoryError as error:
                raise ImageError(f"{name} takes more memory than there is: reduce it first") from error
            except Exception as error:
                failure = error
                continue
            break
        else:
            found = _scientific(content, name, limits, opened)
            if found is None:
                what = f"{name} is not a picture that can be read: use a PNG, JPEG, WebP or TIFF file"
                if opened:
                    what = f"{name} is damaged and cannot be decoded: save it again, or use another picture"
                elif content[4:8] == b"ftyp" and content[8:12] in HEIC:
                    what = f"{name} is a HEIC picture: save it as JPEG, or install the package pillow-heif"
                raise ImageError(what) from failure
            decoded = found
    if not np.isfinite(decoded.pixels).all():
        raise ImageError(f"{name} has pixels that are not finite numbers: replace them, or use another picture")
    return decoded


def _too_large(name: str, limits: Limits) -> ImageError:
    return ImageError(f"{name} has more than {limits.pixels // 10**6} million pixels: reduce it first")


def _check_sides(name: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise _too_large(name, limits)
    if min(width, height) < limits.min_side:
        raise ImageError(
            f"{name} is {width}×{height} pixels: use a picture with sides of {limits.min_side} pixels or more"
        )


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


def _pixels(picture: Image.Image, content: bytes, name: str, limits: Limits) -> Decoded:
    """Decode a picture of any mode."""
    tags = getattr(picture, "tag_v2", {})
    bits, signed = max(tags.get(258, (8,))), tags.get(339, (1,))[0] == 2
    profile = picture.info.get("icc_profile")
    coding = str(picture.tile[0][3]) if isinstance(picture, ImageFile.ImageFile) and picture.tile else ""
    deep = picture.mode in {"RGB", "RGBA", "RGBX", "LA"} and (bits == 16 or ";16" in coding)
    planes = deep and tags.get(284) == 2  # which Pillow reads as if they had 8 bits
    if tags and deep and (planes or not profile):
        found = _scientific(content, name, limits, not planes)
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
        alpha = np.array(rgba.getchannel("A"))
        picture = rgba.convert("RGB")
    elif picture.mode == "P":
        picture = picture.convert("RGB")
    if profile:
        picture = _to_srgb(picture, profile)
    return _upright(np.array(picture.convert("L" if grey else "RGB")), alpha, orientation, note)


def _upright(pixels: np.ndarray, alpha: np.ndarray | None, orientation: int, note: str) -> Decoded:
    """Turn pixels (H, W) or (H, W, 3) and their opacity (H, W), uint8 or float32, as EXIF says."""

    def turn(array: np.ndarray) -> np.ndarray:
        array = array.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else array
        array = array[::-1] if orientation in (3, 4, 7, 8) else array
        return np.ascontiguousarray(array[:, ::-1] if orientation in (2, 3, 6, 7) else array)

    # A picture that is transparent all over has a meaningless opacity.
    if alpha is None or not alpha.any() or alpha.min() >= (255 if alpha.dtype == np.uint8 else 1):
        return Decoded(turn(pixels), None, note)
    return Decoded(turn(pixels), turn(alpha), note)


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


def _scientific(content: bytes, name: str, limits: Limits, readable: bool) -> Decoded | None:
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
            _check_sides(name, page.imagewidth, page.imagelength, limits)
            values = page.asarray() if plain else None
    except ImageError:
        raise
    except Exception:
        return None  # Whatever a damaged file makes tifffile raise: Pillow may still read it, or says that nobody can.
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


def _to_srgb(picture: Image.Image, profile: bytes) -> Image.Image:
    """Convert a picture from the colour space of its ICC profile to sRGB, the one of screens."""
    try:
        embedded = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(picture, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except Exception:
        return picture  # A picture is not refused because its profile is broken or meant for another mode.
    return picture if converted is None else converted


# --- Strangers' files -------------------------------------------------------------------------------------------------

_TURN = threading.Lock()


@contextmanager
def guarded(content: bytes, limits: Limits = STRANGERS) -> Iterator[Decoded]:
    """Decode a stranger's picture in a process of its own, which ends when it exceeds a limit.

    Windows knows no limits of processor time and memory, but the process is ended by the clock there too. Only one
    picture is worked on at a time, until the `with` block ends: reduce a large one inside of it.

    Raises
    ------
    ImageError : as `decode` does; the file is too large, takes too much time or memory, or others take too long.

    Examples
    --------
    >>> file = BytesIO()
    >>> Image.new("L", (9, 8), 255).save(file, "PNG")
    >>> with guarded(file.getvalue()) as decoded:
    ...     decoded.pixels.shape
    (8, 9)
    """
    end = time.monotonic() + limits.seconds
    check_size(content, "The picture", limits.size)
    if not _TURN.acquire(timeout=limits.seconds / 2):
        raise ImageError("Other visitors' pictures are being read at the moment: try again in a few seconds")
    try:
        yield _decode_apart(content, limits, end - time.monotonic())
    finally:
        _TURN.release()


def _decode_apart(content: bytes, limits: Limits, seconds: float) -> Decoded:
    """Decode a picture by running this file, which answers a line of JSON and the bytes of the arrays."""
    with _scratch() as given, _scratch() as made:
        given.write(content)
        given.seek(0)
        try:
            subprocess.run(
                # -P keeps this folder's modules from hiding others.
                [sys.executable, "-P", __file__, json.dumps(asdict(limits))],
                stdin=given,
                stdout=made,
                stderr=subprocess.PIPE,
                # Each thread of a library would take address space.
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
                timeout=seconds,
                check=True,
            )
            made.seek(0)
            answer = json.loads(made.readline())
        except (subprocess.SubprocessError, ValueError) as error:
            logging.getLogger(__name__).info("A picture was not decoded: %s, %r", error, getattr(error, "stderr", None))
            raise ImageError(
                "The picture takes too much time or memory to decode: save it again as a plain PNG or JPEG file, or "
                "use another picture"
            ) from error
        if "error" in answer:
            raise ImageError(answer["error"])
        arrays = [np.fromfile(made, kind, math.prod(shape)).reshape(shape) for kind, shape in answer["arrays"]]
    return Decoded(arrays[0], arrays[1] if len(arrays) > 1 else None, answer["note"])


def _scratch() -> BinaryIO:
    """A file that is in memory if the system can do that, and gone when it is closed.

    Of a pipe, Python would read a hundred megabytes in three thousand pieces, and wait for other threads at each.
    """
    return open(os.memfd_create("picture"), "w+b") if sys.platform == "linux" else tempfile.TemporaryFile()


def _main() -> None:
    """Decode the picture on standard input for `_decode_apart`."""
    limits = Limits(**json.loads(sys.argv[1]))
    with suppress(ImportError, OSError, ValueError):  # Windows has no limits, macOS none of address space
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu, limits.cpu))
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    answer: dict[str, Any] = {}
    arrays: list[np.ndarray] = []
    try:
        decoded = decode(sys.stdin.buffer.read(), "The picture", limits)
        arrays = [decoded.pixels] if decoded.alpha is None else [decoded.pixels, decoded.alpha]
        answer = {"note": decoded.note, "arrays": [(array.dtype.name, array.shape) for array in arrays]}
    except ImageError as error:
        answer = {"error": str(error)}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    for array in arrays:
        sys.stdout.buffer.write(array.data)


if __name__ == "__main__":
    _main()
