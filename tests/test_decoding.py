"""Pictures of strangers: what takes too long or too much is refused in a sentence, and all else is as `load_image`."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from invlib import decoding, images
from invlib.decoding import STRANGERS, Decoded, ImageError, Limits, guarded
from tests import bombs

SMALL = bombs.png(9, 8, rows=b"".join(b"\0" + bytes(range(9)) for _ in range(8)))
DEEP = zlib.compress(bytes(50_000_000))
BRIEF = replace(STRANGERS, seconds=0.8)


def read(content: bytes, limits: Limits = STRANGERS) -> Decoded:
    with guarded(content, limits) as found:
        return found


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "limits"),
    [
        (lambda: bombs.empty_scans(7_000, 1_000), replace(STRANGERS, cpu=1, seconds=60)),
        (lambda: bombs.empty_segments(4_000_000), BRIEF),
        (lambda: bombs.png(8, 8, bombs.chunk(b"abCd", b"") * 1_500_000, rows=bytes(72)), BRIEF),
        (lambda: bombs.many_pages(100_000), BRIEF),
    ],
    ids=["JPEG of scans", "JPEG of segments", "PNG of chunks", "TIFF of pages"],
)
def test_what_takes_long_is_stopped_and_does_not_hurt_the_next(make: Callable[[], bytes], limits: Limits) -> None:
    if sys.platform == "win32" and limits is not BRIEF:
        pytest.skip("Windows has no limits")
    with pytest.raises(ImageError, match="too much time or memory to decode: save it again"):
        read(make(), limits)
    assert not decoding._TURN.locked()


@pytest.mark.parametrize(
    ("content", "limits", "message"),
    [
        (bombs.comment_lines(500_000), STRANGERS, "not a picture that can be read: use a PNG"),
        (bombs.empty_blocks(1_000_000), STRANGERS, "not a picture that can be read: use a PNG"),
        (bombs.png(30_000, 30_000), STRANGERS, "more than 24 million pixels"),
        (SMALL, replace(STRANGERS, size=len(SMALL) - 1), "larger than 0 MB"),
        (b"", STRANGERS, "is empty"),
    ],
    ids=["PPM of comments", "GIF of blocks", "huge PNG", "large file", "empty file"],
)
def test_what_is_refused(content: bytes, limits: Limits, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        read(content, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="has no limit of memory")
def test_memory_is_limited() -> None:
    content = bombs.encoded(np.full((3_000, 4_000, 4), 9, np.uint8), "PNG", compress_level=1)
    with pytest.raises(ImageError, match="memory"):
        read(content, replace(STRANGERS, memory=200_000_000))


def test_one_at_a_time() -> None:
    with guarded(SMALL), pytest.raises(ImageError, match="Other visitors' pictures"):
        read(SMALL, replace(STRANGERS, seconds=0.1))
    assert read(SMALL).pixels.shape == (8, 9), "the next one"


# --- What is taken ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_deep_metadata_are_ignored(kind: bytes) -> None:
    content = bombs.png(
        9, 8, bombs.chunk(kind, b"x\0" + b"\1\0\0\0" * (kind == b"iTXt") + b"\0" + DEEP), rows=bytes(80)
    )
    assert not read(content).pixels.any()


NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned a quarter clockwise


@pytest.mark.parametrize(
    ("pixels", "format", "options"),
    [
        (NOISE, "PNG", {}),
        (NOISE[..., 0] * np.uint16(257), "PNG", {}),
        (NOISE[..., :3], "JPEG", {"exif": EXIF}),
        (NOISE, "WEBP", {}),
        (NOISE[..., :3], "AVIF", {}),
        (NOISE[..., 0] / np.float32(300), "TIFF", {}),
        (NOISE[..., :3], "HEIF", {}),
    ],
    ids=["PNG", "PNG of 16 bits", "JPEG", "WebP", "AVIF", "TIFF of floats", "HEIC"],
)
def test_a_picture_is_what_load_image_reads(pixels: np.ndarray, format: str, options: dict[str, object]) -> None:
    if format not in STRANGERS.formats:
        pytest.skip("pillow-heif is not installed")
    content = bombs.encoded(pixels, format, **options)
    found = read(content)
    image, note = images.read_image(content)
    assert torch.equal(images.compose(found), image)
    assert found.note == note


def test_torch_is_not_loaded_to_decode() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-P", "-c", code, decoding.__file__], check=True)
