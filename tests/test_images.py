"""Reading, resizing and writing pictures, with files made here."""

import base64
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from invlib import decoding, images
from invlib.cli.options import read_picture
from invlib.examples import EXAMPLE_SIDE, EXAMPLES, example
from invlib.images import (
    SUFFIXES,
    ImageError,
    Picture,
    centre_square,
    crop_to_multiple,
    decode_data_url,
    encode_data_url,
    fingerprint,
    fit,
    list_images,
    load_drawing,
    load_image,
    load_mask,
    quantise,
    read_image,
    save_image,
    to_channels,
    to_uint8,
)
from invlib.problems import linear, structured
from invlib.problems.spec import KERNEL, Knob

HEIGHT, WIDTH = 12, 16
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def colour() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH), np.uint8)


def encoded(pixels: np.ndarray | Image.Image, format: str = "PNG", **options: object) -> bytes:
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def tensor(pixels: np.ndarray, white: float = 255) -> Tensor:
    """(H, W) or (H, W, 3) -> (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(np.atleast_3d(pixels).astype(np.float32) / np.float32(white)).permute(2, 0, 1)[None]


# --- Reading ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_picture(colour: np.ndarray, tmp_path: Path) -> None:
    content = encoded(colour)
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    used_up = BytesIO(content)
    used_up.read()
    for source in (content, path, str(path), BytesIO(content), used_up):
        image = load_image(source)
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert torch.equal(image, tensor(colour))


def test_grey_stays_grey_and_colour_stays_colour(grey: np.ndarray) -> None:
    assert load_image(encoded(grey)).shape == (1, 1, HEIGHT, WIDTH)
    assert load_image(encoded(np.dstack([grey] * 3))).shape == (1, 3, HEIGHT, WIDTH)
    assert torch.equal(load_image(encoded(grey), channels=3), tensor(grey).repeat(1, 3, 1, 1))
    torch.testing.assert_close(load_image(encoded(np.dstack([grey] * 3)), channels=1), tensor(grey))


@pytest.mark.parametrize("format", sorted(set(SUFFIXES.values())))
def test_every_format_is_read(format: str) -> None:
    rows = np.linspace(40, 200, 64, dtype=np.uint8)
    smooth = np.dstack(np.broadcast_arrays(rows[:, None], rows[None, :], np.uint8(90)))
    image = load_image(encoded(smooth, format))
    assert image.shape == (1, 3, 64, 64)
    assert (image - tensor(smooth)).abs().mean() < 0.04


def test_orientation_is_that_of_the_camera(colour: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # The camera was held upright: rotate by 90° clockwise.
    image = load_image(encoded(colour, exif=exif))
    assert torch.equal(image, tensor(np.rot90(colour, -1).copy()))


def test_transparency_is_laid_on_white(colour: np.ndarray, grey: np.ndarray) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:4], alpha[4:8] = 0, 51
    expected = tensor(colour)
    expected[..., :4, :] = 1
    expected[..., 4:8, :] = 0.2 * expected[..., 4:8, :] + 0.8
    torch.testing.assert_close(load_image(encoded(np.dstack([colour, alpha]))), expected, atol=1 / 255, rtol=0)

    expected = tensor(grey)
    expected[..., :4, :] = 1
    expected[..., 4:8, :] = 0.2 * expected[..., 4:8, :] + 0.8
    image = load_image(encoded(np.dstack([grey, alpha])))
    torch.testing.assert_close(image, expected, atol=1 / 255, rtol=0)


def test_palette_with_a_transparent_colour() -> None:
    indices = np.zeros((HEIGHT, WIDTH), np.uint8)
    indices[:, WIDTH // 2 :] = 1
    picture = Image.fromarray(indices, "L")
    picture = picture.convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    opaque, transparent = load_image(encoded(picture)), load_image(encoded(picture, transparency=1))
    assert opaque[0, :, 0, 0].tolist() == transparent[0, :, 0, 0].tolist() == [1, 0, 0]
    assert opaque[0, :, 0, -1].tolist() == [0, 0, 1]
    assert transparent[0, :, 0, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize(("format", "order"), [("PNG", "<"), ("TIFF", "<"), ("TIFF", ">"), ("PPM", "<")])
def test_sixteen_bits_are_kept(format: str, order: str) -> None:
    pixels = np.linspace(0, 65535, HEIGHT * WIDTH).round().reshape(HEIGHT, WIDTH).astype(f"{order}u2")
    image = load_image(encoded(pixels, format))
    torch.testing.assert_close(image, tensor(pixels, 65535), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "peak", "white"),
    [
        (np.float32, 0.5, 1),
        (np.float32, 200, 255),
        (np.float32, 1e6, 1e6),
        (np.int32, 60000, 65535),
        (np.int32, 255, 255),
    ],
)
def test_numbers_of_unstated_range(dtype: type, peak: float, white: float) -> None:
    pixels = np.linspace(0, peak, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    torch.testing.assert_close(load_image(encoded(pixels, "TIFF")), tensor(pixels, white))


def test_bilevel_and_cmyk() -> None:
    stripes = np.zeros((HEIGHT, WIDTH), bool)
    stripes[::2] = True
    assert torch.equal(load_image(encoded(stripes)), tensor(stripes, 1))
    cyan = Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0))
    assert load_image(encoded(cyan, "TIFF"))[0, :, 0, 0].tolist() == [0, 1, 1]


def test_animation_gives_its_first_frame(grey: np.ndarray) -> None:
    first, second = Image.fromarray(grey), Image.fromarray(255 - grey)
    content = encoded(first, "GIF", save_all=True, append_images=[second])
    assert Image.open(BytesIO(content)).n_frames == 2
    torch.testing.assert_close(load_image(content, channels=1), tensor(grey))


def test_colour_profile_is_applied_and_a_broken_one_ignored(colour: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert torch.equal(load_image(encoded(colour, icc_profile=srgb)), tensor(colour))
    assert torch.equal(load_image(encoded(colour, icc_profile=b"not a profile")), tensor(colour))
    # Exchanging the tags of the profile's red and blue primaries exchanges the channels.
    swapped = srgb.replace(b"rXYZ", b"tmp!").replace(b"bXYZ", b"rXYZ").replace(b"tmp!", b"bXYZ")
    expected = tensor(colour[..., ::-1].copy())
    torch.testing.assert_close(load_image(encoded(colour, icc_profile=swapped)), expected, atol=2 / 255, rtol=0)


# --- Refusing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"hello, this is text", POSTSCRIPT])
def test_what_is_not_a_picture(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    for source in (path, content, BytesIO(content)):
        with pytest.raises(ImageError, match=r"(is empty|is not a picture that can be read): use "):
            load_image(source)
    with pytest.raises(ImageError, match=r"notes\.png"):
        load_image(path)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="does not exist"):
        load_image(tmp_path / "missing.png")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize("format", sorted(set(SUFFIXES.values())))
def test_damage_ends_in_one_kind_of_error(format: str, colour: np.ndarray) -> None:
    """A file that is cut at any length, or has bytes overwritten, loads or raises ImageError and nothing else."""
    content = encoded(colour, format)
    rng = np.random.default_rng(0)
    damaged = [content[:length] for length in range(0, len(content), max(1, len(content) // 40))]
    for _ in range(60):
        bytes_ = bytearray(content)
        for position in rng.integers(0, len(content), 4):
            bytes_[position] = rng.integers(256)
        damaged.append(bytes(bytes_))
    refused = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata.
        for file in damaged:
            try:
                image = load_image(file)
            except ImageError:
                refused += 1
            else:
                assert image.isfinite().all()
    assert refused >= 10


def test_truncated_picture(colour: np.ndarray) -> None:
    content = encoded(colour)
    with pytest.raises(ImageError, match="damaged"):
        load_image(content[: len(content) // 2])


@pytest.mark.parametrize("side", [7_000, 12_000, 30_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bombs_are_refused_by_their_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sides exceed our own limit, the one where Pillow warns, and the one where it raises."""
    header = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    header[18:26] = np.array([side, side], "<i4").tobytes()
    monkeypatch.setattr(decoding, "_pixels", lambda *arguments: pytest.fail("the pixels were decoded"))
    with pytest.raises(ImageError, match="40 million pixels"):
        load_image(bytes(header))


def test_limits(colour: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="20×7 pixels"):
        load_image(encoded(np.zeros((7, 20), np.uint8)))
    content = encoded(colour)
    monkeypatch.setattr(images, "MAX_BYTES", len(content))
    load_image(content)
    monkeypatch.setattr(images, "MAX_BYTES", len(content) - 1)
    for source in (content, BytesIO(content)):
        with pytest.raises(ImageError, match="larger than"):
            load_image(source)


def test_a_kernel_may_be_smaller_than_a_picture() -> None:
    content = encoded(np.full((1, 3), 9, np.uint8))
    assert load_image(content, min_side=1).shape == (1, 1, 1, 3)
    with pytest.raises(ImageError, match="sides of 2 pixels"):
        load_image(content, min_side=2)


def test_pixels_that_are_not_numbers() -> None:
    pixels = np.full((HEIGHT, WIDTH), 0.5, np.float32)
    pixels[3, 4] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        load_image(encoded(pixels, "TIFF"))


# --- Pictures like those that people bring ----------------------------------------------------------------------------

CASES = Path(__file__).parent / "cases"
RAMP = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)


def tiff(values: np.ndarray, photometric: str = "minisblack", **options: object) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, values, photometric=photometric, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("values", "expected", "says"),
    [
        ((RAMP * 1.0001).astype(np.float32), RAMP, ""),
        ((RAMP * 255.4).astype(np.float32), RAMP * 255.4 / 255, "255 as white"),
        ((RAMP * 300).astype(np.float32), RAMP * 300 / 4095, "4095 as white"),
        ((RAMP * 1.5 - 0.2).astype(np.float32), RAMP * 1.5 - 0.2, "1 as white"),
        ((RAMP * 7).astype(np.float32), RAMP, "7 as white"),
        ((RAMP * 2 - 1).astype(np.float32), RAMP, "-1 was taken as black"),
        ((RAMP * 1e6).astype(np.float32), RAMP, "1e"),
        (RAMP * 1.0001, RAMP, ""),
        (RAMP.astype(np.float16), RAMP, ""),
        ((RAMP * 65535).astype(np.int32), RAMP, "65535 as white"),
        ((RAMP * 65600).astype(np.int32), RAMP * 65600 / 65535, "65535 as white"),
        ((RAMP * (2**32 - 1)).astype(np.uint32), RAMP, "as white"),
        ((RAMP * (2**32 - 1)).astype(">u4"), RAMP, "as white"),
        ((RAMP * 3e9).astype(np.uint32), RAMP * 3e9 / 2**32, "as white"),
        ((RAMP * 65535 - 32768).round().astype(np.int16), RAMP, "-32768 was taken as black"),
        ((RAMP * 32767).round().astype(np.int16), RAMP, "32767 as white"),
        ((RAMP * 4000 - 1000).round().astype(np.int16), RAMP, "-1000 was taken as black and 3000"),
        ((RAMP * 255 - 128).round().astype(np.int8), RAMP, "-128 was taken as black"),
        ((RAMP * 65535).round().astype(np.uint16), RAMP, ""),
        ((RAMP * 4095).round().astype(np.uint16), RAMP, "12 bits"),
        ((RAMP * 4096).round().astype(np.uint16), RAMP * 4096 / 65535, ""),
    ],
)
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_numbers_of_every_type_and_scale(values: np.ndarray, expected: np.ndarray, says: str, photometric: str) -> None:
    order = ">" if values.dtype.byteorder == ">" else "<"
    image, note = read_image(tiff(values, photometric, byteorder=order))
    expected = expected.clip(0, 1)
    expected = 1 - expected if photometric == "miniswhite" else expected
    tolerance = 1 / 255 if values.dtype.itemsize == 1 else 5e-4
    torch.testing.assert_close(image, tensor(expected, 1), atol=tolerance, rtol=0)
    assert says in note
    assert bool(says) == bool(note)


def test_the_largest_value_that_a_file_states_is_white() -> None:
    values = (RAMP * 900).round().astype(np.uint16)
    image, note = read_image(tiff(values, extratags=[(341, "H", 1, 1023, True)]))
    torch.testing.assert_close(image, tensor(values, 1023))
    assert not note
    image, note = read_image(tiff(values, extratags=[(341, "H", 1, 5, True)]))
    torch.testing.assert_close(image, tensor(values, 4095))
    assert "12 bits" in note


def test_cases_of_scale() -> None:
    camera = load_image(CASES / "camera.png")
    image = load_image(CASES / "float_lanczos.tif")
    assert (image - camera).abs().mean() < 0.05
    white8, white16 = load_image(CASES / "scan8_whiteiszero.tif"), load_image(CASES / "scan16_whiteiszero.tif")
    assert (white8 - white16).abs().max() < 2 / 255
    assert (white8 - camera).abs().mean() < (1 - white8 - camera).abs().mean()
    image, note = read_image(CASES / "microscope_12bit.tif")
    assert image.max() > 0.99
    assert "12 bits" in note


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_colours_of_many_bits(dtype: type, colour: np.ndarray) -> None:
    values = (colour / 255 * (65535 if dtype is np.uint16 else 1)).astype(dtype)
    torch.testing.assert_close(load_image(tiff(values, "rgb")), tensor(colour), atol=2e-5, rtol=0)
    planes = tiff(values.transpose(2, 0, 1).copy(), "rgb", planarconfig="separate")
    torch.testing.assert_close(load_image(planes), tensor(colour), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        (np.zeros((9, 9), np.complex64), {}, "complex64"),
        (np.zeros((9, 9, 5), np.uint16), {"planarconfig": "contig"}, "5 of type uint16 a pixel"),
        (np.zeros((9, 9)), {"compression": "zlib"}, "float64.*ADOBE_DEFLATE"),
    ],
)
def test_tiff_files_that_cannot_be_read_say_their_kind(values: np.ndarray, options: dict, kind: str) -> None:
    with pytest.raises(ImageError, match=f"TIFF file that cannot be read .*{kind}.*: save it as"):
        load_image(tiff(values, **options))


def test_a_stack_says_that_its_first_picture_was_read() -> None:
    stack = np.stack([RAMP * 255, RAMP * 0]).astype(np.uint8)
    image, note = read_image(tiff(stack))
    torch.testing.assert_close(image, tensor(stack[0]))
    assert "2 pictures" in note


def png_with(content: bytes, *chunks: tuple[bytes, bytes], crc: int | None = None) -> bytes:
    """A PNG file with chunks after its header."""
    new = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
        for kind, data in chunks
    )
    return content[:33] + new + content[33:]


def jpeg_with(content: bytes, marker: int, data: bytes) -> bytes:
    return content[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + content[2:]


def webp_with(content: bytes, flags: int, kind: bytes, data: bytes) -> bytes:
    """A WebP file of 16×12 pixels with a chunk of metadata."""
    header = struct.pack("<B3x", flags) + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    chunks = b"VP8X" + struct.pack("<I", 10) + header + content[12:] + kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


LONG = zlib.compress(bytes(2_000_000))


@pytest.mark.parametrize(
    ("format", "add"),
    [
        ("PNG", lambda content: png_with(content, (b"iCCP", b"large\0\0" + LONG))),
        ("PNG", lambda content: png_with(content, (b"iCCP", b"odd\0\7" + LONG))),
        ("PNG", lambda content: png_with(content, (b"iTXt", b"key\0\1\0\0\0" + LONG))),
        ("PNG", lambda content: png_with(content, *[(b"zTXt", b"key\0\0" + LONG)] * 40)),
        ("PNG", lambda content: png_with(content, (b"tEXt", b"key\0value"), crc=7)),
        ("PNG", lambda content: png_with(content, (b"eXIf", b"Exif\0\0II*\0garbage"))),
        ("PNG", lambda content: png_with(content, (b"pHYs", b"\0\0\1"))),
        ("PNG", lambda content: png_with(content, (b"gAMA", b""), (b"cHRM", b"\0"), (b"sRGB", b""), (b"tIME", b""))),
        ("JPEG", lambda content: jpeg_with(content, 0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff")),
        ("JPEG", lambda content: jpeg_with(content, 0xE1, b"Exif\0\0garbage")),
        ("JPEG", lambda content: jpeg_with(content, 0xE2, b"ICC_PROFILE\0")),
        ("JPEG", lambda content: jpeg_with(content, 0xE2, b"MPF\0garbage")),
        ("JPEG", lambda content: jpeg_with(content, 0xED, b"Photoshop 3.0\0" + b"8BIM\3\xed\0\0\0\0\0\xffxx")),
        ("JPEG", lambda content: jpeg_with(content, 0xE0, b"JFIF\0")),
        ("JPEG", lambda content: jpeg_with(content, 0xEE, b"Adobe")),
        ("WEBP", lambda content: webp_with(content, 0x08, b"EXIF", b"Exif\0\0garbage!")),
        ("WEBP", lambda content: webp_with(content, 0x20, b"ICCP", b"no")),
        ("WEBP", lambda content: webp_with(content, 0x04, b"XMP ", b"<" * 100_000)),
    ],
)
def test_odd_metadata_change_nothing(format: str, add: Callable[[bytes], bytes], colour: np.ndarray) -> None:
    content = encoded(colour, format, **({"lossless": True} if format == "WEBP" else {}))
    assert torch.equal(load_image(add(content)), load_image(content))


@pytest.mark.parametrize(
    "tag",
    [(34675, 7, 200_000, bytes(200_000)), (34665, "I", 1, 12345678), (700, 1, 3, b"<<<"), (33723, "I", 2, (1, 2))],
)
def test_odd_metadata_of_tiff_files(tag: tuple, colour: np.ndarray) -> None:
    content = tiff(colour, "rgb", extratags=[(*tag, True)])
    assert torch.equal(load_image(content), tensor(colour))


def test_cases_of_metadata() -> None:
    for name in ("png_iccp_2MB.png", "exif_garbage.png"):
        assert load_image(CASES / name).std() > 0.1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG"])
def test_every_orientation(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = np.outer(np.linspace(0, 255, HEIGHT), np.linspace(0.2, 1, WIDTH)).astype(np.uint8)
    content = encoded(smooth, format, exif=exif)
    with Image.open(BytesIO(content)) as picture:
        picture.load()
        expected = np.array(ImageOps.exif_transpose(picture))
    assert torch.equal(load_image(content), tensor(expected))


# --- Transparency -----------------------------------------------------------------------------------------------------


def test_an_opacity_of_zero_everywhere_says_nothing(colour: np.ndarray) -> None:
    content = encoded(np.dstack([colour, np.zeros((HEIGHT, WIDTH), np.uint8)]))
    assert torch.equal(load_image(content), tensor(colour))


@pytest.mark.parametrize("mode", ["grey", "colour"])
def test_a_transparent_colour_of_16_bits(mode: str) -> None:
    values = (RAMP * 65535).round().astype(np.uint16)
    values[:4] = 51 * 257
    if mode == "grey":
        content, colour = encoded(values), struct.pack(">H", 51 * 257)
    else:
        pixels = np.dstack([values] * 3)
        content, colour = images.encode_png(pixels), struct.pack(">HHH", *[51 * 257] * 3)
    image = load_image(png_with(content, (b"tRNS", colour)))
    assert image[..., :4, :].min() == 1
    torch.testing.assert_close(image[:, :1, 4:], tensor(values, 65535)[..., 4:, :], atol=1 / 255, rtol=0)


def test_a_kernel_lies_on_black() -> None:
    kernel = np.zeros((5, 5, 4), np.uint8)
    kernel[2, 1:4] = 255
    expected = tensor(kernel[..., 0])
    found = read_picture(Knob("kernel", KERNEL, ""), BytesIO(encoded(kernel)))
    assert torch.equal(found, expected[0, 0])


def test_strokes_as_a_paint_program_saves_them() -> None:
    drawings = [load_drawing(CASES / f"scribble_on_{ground}.png") for ground in ("transparent", "black")]
    for drawing in drawings:
        assert (drawing[3] > 0).float().mean() == pytest.approx(239 / 4096)
    assert torch.equal(drawings[0], drawings[1])
    opaque = np.dstack([to_uint8(drawings[1][:3]), np.full((64, 64), 255, np.uint8)])
    assert torch.equal(load_drawing(encoded(opaque)), drawings[1])
    strokes = {"strokes": load_drawing(CASES / "mask_all_white.png")}
    with pytest.raises(ValueError, match="the strokes hide the whole picture"):
        structured.pose("scribble", Picture("face", torch.zeros(1, 3, *strokes["strokes"].shape[1:]), ""), strokes)


@pytest.mark.parametrize("colour", [0, 255, "picture"])
def test_masks_by_their_opacity(colour: int | str) -> None:
    """What is painted on a transparent ground is missing, and so is what was erased of a picture."""
    pixels = np.full((HEIGHT, WIDTH, 4), 0 if colour == "picture" else colour, np.uint8)
    if colour == "picture":
        pixels[..., :3] = 9 * np.arange(WIDTH, dtype=np.uint8)[:, None]
    pixels[..., 3] = 0
    pixels[2:5, 3:9, 3] = 255
    inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    inside[2:5, 3:9] = True
    assert torch.equal(load_mask(encoded(pixels)), inside if colour == "picture" else ~inside)


def test_cases_of_masks() -> None:
    hole = load_mask(CASES / "mask_black_hole.png")
    assert (~hole).sum() == 576
    assert torch.equal(load_mask(CASES / "mask_white_on_transparent.png"), hole), "painted over"
    with pytest.raises(ImageError, match=r"mask_all_white\.png hides nothing"):
        load_mask(CASES / "mask_all_white.png")
    with pytest.raises(ImageError, match="hides the whole picture"):
        load_mask(encoded(np.zeros((9, 9), np.uint8)))


def test_an_anti_aliased_mask_hides_what_it_touches() -> None:
    """What it keeps of a watermarked picture is the picture without the watermark."""
    kept = load_mask(CASES / "watermark_mask_grey.png")
    marked, clean = load_image(CASES / "watermarked.png"), load_image(CASES / "coffee.png")
    assert 0.8 < kept.float().mean() < 0.95
    assert (marked - clean).abs()[..., kept].max() < 3 / 255
    assert torch.equal(load_mask(encoded(np.eye(9, dtype=np.uint8))), torch.eye(9) > 0)


def test_a_mask_of_another_size_is_refused_in_the_pictures_words() -> None:
    knobs = {"mask": torch.eye(32) > 0}
    with pytest.raises(ValueError, match="the mask is 32×32 pixels, the picture 96×64"):
        linear.pose("inpainting", Picture("grey", torch.zeros(1, 1, 64, 96), ""), knobs)


def test_heic_says_what_it_needs() -> None:
    if "HEIF" in SUFFIXES.values():
        pytest.skip("pillow-heif is installed")
    with pytest.raises(ImageError, match="pillow-heif"):
        load_image(b"\0\0\0\x18ftypheic" + bytes(100))


# --- Shape and size ---------------------------------------------------------------------------------------------------


def test_to_channels() -> None:
    image = torch.zeros(2, 3, 8, 8)
    image[:, 1] = 1
    grey = to_channels(image, 1)
    torch.testing.assert_close(grey, torch.full((2, 1, 8, 8), 0.587))
    assert torch.equal(to_channels(grey, 3), grey.repeat(1, 3, 1, 1))
    assert to_channels(image, 3) is image
    with pytest.raises(ValueError, match="channels must be 1 or 3, got 4"):
        to_channels(image, 4)


def test_fit_reduces_and_never_enlarges() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 40, 60, generator=generator).round()
    assert fit(image, 60) is image
    small = fit(image, 30)
    assert small.shape == (1, 3, 20, 30)
    assert small.min() >= 0
    assert small.max() <= 1
    assert small.mean() == pytest.approx(image.mean().item(), abs=0.02)
    assert fit(torch.zeros(1, 1, 8, 4000), 100).shape == (1, 1, 1, 100)


def test_fit_does_not_alias() -> None:
    """Stripes too fine for the smaller picture become grey."""
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    torch.testing.assert_close(fit(stripes, 20)[..., 2:-2], torch.full((1, 1, 20, 16), 0.5), atol=0.05, rtol=0)


def test_crop_to_multiple_keeps_the_top_left_corner() -> None:
    image = torch.rand(1, 3, 30, 41)
    assert torch.equal(crop_to_multiple(image, 8), image[..., :24, :40])
    assert torch.equal(crop_to_multiple(image, 1), image)
    with pytest.raises(ImageError, match="32 pixels or more"):
        crop_to_multiple(image, 32)


def test_centre_square() -> None:
    image = torch.rand(1, 3, 20, 31)
    torch.testing.assert_close(centre_square(image, 20), image[..., 5:25])
    assert centre_square(image, 64).shape == (1, 3, 64, 64)


# --- Writing ----------------------------------------------------------------------------------------------------------


def test_to_uint8_clips_and_rounds() -> None:
    values = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0]).view(1, 1, 1, -1)
    assert to_uint8(values).tolist() == [[0, 0, 0, 1, 255, 255, 255]]
    colour = torch.rand(3, 8, 10)
    assert to_uint8(colour).shape == (8, 10, 3)
    assert np.array_equal(to_uint8(colour), to_uint8(colour[None]))
    with pytest.raises(ValueError, match="expected one image"):
        to_uint8(torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip_is_exact(channels: int, colour: np.ndarray) -> None:
    image = tensor(colour)[:, :channels]
    assert torch.equal(load_image(encoded(to_uint8(image))), image)


def test_quantise_gives_what_a_png_file_holds() -> None:
    image = torch.linspace(-0.1, 1.1, 3 * 64).view(1, 3, 8, 8)
    assert torch.equal(quantise(image), load_image(encoded(to_uint8(image))))
    assert torch.equal(quantise(quantise(image)), quantise(image))


def test_fingerprint_tells_pixels_and_shapes_apart() -> None:
    image = quantise(torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0)))
    assert len(fingerprint(image)) == 16
    assert fingerprint(load_image(encoded(to_uint8(image)))) == fingerprint(image)
    changed = image.clone()
    changed[0, 2, 7, 11] = 1 - image[0, 2, 7, 11]
    grey = image[:, :1]
    different = [image, changed, grey, grey.mT, grey.reshape(1, 1, 4, 24), grey.repeat(1, 3, 1, 1)]
    assert len({fingerprint(each) for each in different}) == len(different)


@pytest.mark.parametrize(("dtype", "white", "mode"), [(bool, 1, "1"), (np.uint8, 255, "L")])
def test_a_data_url_holds_grey_pixels_exactly(dtype: type, white: int, mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, white + 1, (5, 3)).astype(dtype)
    url = encode_data_url(pixels)
    assert Image.open(BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))).mode == mode
    assert torch.equal(load_image(decode_data_url(url), min_side=1), tensor(pixels, white))


def test_a_data_url_holds_a_drawing_exactly() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 4)).astype(np.uint8)
    drawing = load_drawing(decode_data_url(encode_data_url(pixels)))
    assert torch.equal(drawing, tensor(pixels)[0])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.org/mask.png", "not the data URL of a PNG"),
        ("data:image/png;base64,????", "not the data URL of a PNG"),
        ("data:image/png;base64,é", "not the data URL of a PNG"),
        ("data:image/png;base64,AAAA", "not a picture"),
        ("data:image/png;base64,", "empty"),
    ],
)
def test_data_urls_that_hold_no_picture(url: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(decode_data_url(url), min_side=1)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG", ".Jpg"])
def test_every_suffix_is_written_and_read(suffix: str, tmp_path: Path) -> None:
    image = example("coffee", side=64)
    path = tmp_path / "new" / "folder" / f"coffee{suffix}"
    save_image(image, path)
    assert Image.open(BytesIO(path.read_bytes())).format == SUFFIXES[suffix.lower()]
    assert (load_image(path) - image).abs().mean() < 0.03
    save_image(image[:, :1], path)
    assert load_image(path, channels=1).shape == (1, 1, 64, 64)


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    for name in ("picture", "picture.docx"):
        with pytest.raises(ImageError, match=r"end it in \.png"):
            save_image(torch.zeros(1, 1, 8, 8), tmp_path / name)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageError, match="cannot be written"):
        save_image(torch.zeros(1, 1, 8, 8), tmp_path / "file" / "picture.png")


def test_list_images(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no pictures"):
        list_images(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt", "._a.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]
    for path in (tmp_path / "a.png", tmp_path / "missing"):
        with pytest.raises(ImageError, match="is not a folder"):
            list_images(path)


# --- Examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    image = example(name)
    side = 64 if name == "face" else EXAMPLE_SIDE
    assert image.shape[1:] in {(1, side, side), (3, side, side)}
    assert image.dtype == torch.float32
    assert 0 <= image.min() < 0.3
    assert 0.7 < image.max() <= 1
    assert torch.equal(quantise(image), image)
    for channels in (1, 3):
        small = example(name, channels=channels, side=64)
        assert small.shape == (1, channels, 64, 64)
        assert torch.equal(quantise(small), small), "a PNG file holds it exactly"


def test_examples_are_colour_and_grey() -> None:
    channels = [example(name).shape[1] for name in EXAMPLES]
    assert channels.count(3) >= 4
    assert channels.count(1) >= 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: example("dog"), "no example called 'dog': choose one of astronaut"),
        (lambda: example("coffee", side=512), "side must be from 8 to 256"),
    ],
)
def test_examples_that_do_not_exist(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        call()
