"""Picking a picture, on a page that does nothing else. What the clipboard sends, only a browser can show."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.testing.v1 import AppTest

from invlib import examples, images
from invlib.images import Picture
from pages.ui import crop, uploads
from pages.ui.picture import PART, REDUCED
from tests.patience import PATIENCE


def script(pasted: bytes | None = None, **arguments: object) -> None:
    # Streamlit runs these lines alone, without this file's imports.
    import streamlit as st

    from invlib import images
    from pages.ui import address, picture

    address.enter(st.session_state.get("visited", "first"))
    if pasted is not None:
        st.button("Paste", key="pasting", on_click=picture.take, args=[pasted, "pasted picture", "paste"])
    try:
        st.session_state["picked"] = picture.pick(**{"longest": 64, **arguments})
    except images.ImageError as error:
        st.error(str(error))
    address.write(picture=st.session_state["picture"])


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    def visit(**arguments: Any) -> AppTest:
        page = AppTest.from_function(script, default_timeout=PATIENCE, kwargs=arguments).run()
        assert not page.exception
        return page

    return visit


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Pixels of which no two neighbours are alike, so that a shift by one shows."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return pixels if channels > 1 else pixels[..., 0]


def file(pixels: np.ndarray | Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def upload(page: AppTest, content: bytes, name: str = "mine.png") -> AppTest:
    page.file_uploader(key="upload").set_value((name, content, "image/png")).run()
    assert not page.exception
    return page


def picked(page: AppTest) -> Picture:
    return page.session_state["picked"]


def pixels(page: AppTest) -> np.ndarray:
    return images.to_uint8(picked(page).image)


def captions(page: AppTest) -> str:
    return "\n".join(caption.value for caption in page.caption)


# --- Examples ---------------------------------------------------------------------------------------------------------


def test_examples_are_offered_in_the_order_that_is_asked_for(open_page: Callable[..., AppTest]) -> None:
    page = open_page(names=["coins", "chelsea"], side=32, channels=1)
    select = page.selectbox(key="picture")
    assert select.options == ["Coins", "Chelsea"]
    select.set_value("chelsea").run()
    example = picked(page)
    assert (example.name, example.side) == ("chelsea", 32)
    assert torch.equal(example.image, examples.example("chelsea", channels=1, side=32))
    assert not page.radio


def test_all_examples_are_offered_by_default(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    assert page.selectbox(key="picture").options == [name.capitalize() for name in examples.EXAMPLES]
    assert picked(page).image.shape == (1, 3, examples.EXAMPLE_SIDE, examples.EXAMPLE_SIDE)


def test_an_address_cannot_hold_a_picture_of_ones_own() -> None:
    page = AppTest.from_function(script)
    page.query_params["picture"] = "own"
    page.run()
    assert page.selectbox(key="picture").value == "astronaut"


# --- Files ------------------------------------------------------------------------------------------------------------


def test_the_orientation_is_that_of_the_camera(open_page: Callable[..., AppTest]) -> None:
    upright = noise(40, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    page = upload(open_page(), file(np.rot90(upright), exif=exif))
    assert np.array_equal(pixels(page), upright)
    page = upload(open_page(longest=20), file(np.rot90(upright), exif=exif))
    assert "Your picture has 24×40 pixels; it was reduced to 12×20" in captions(page)


def clear() -> Image.Image:
    return Image.fromarray(np.full((16, 16, 4), (200, 0, 0, 0), np.uint8))


def animation() -> bytes:
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ((200, 40, 80), (0, 0, 0)))
    return file(first, "WEBP", save_all=True, append_images=[second], lossless=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (file(clear()), [200, 0, 0]),
        (file(np.full((16, 16), 51400, np.uint16)), [200]),
        (file(Image.new("RGB", (16, 16), (200, 40, 80)).quantize()), [200, 40, 80]),
        (file(Image.new("CMYK", (16, 16), (55, 0, 0, 0)), "TIFF"), [200, 255, 255]),
        (animation(), [200, 40, 80]),
    ],
    ids=["transparent all over", "16 bits", "palette", "CMYK", "animated"],
)
def test_every_kind_of_picture(open_page: Callable[..., AppTest], content: bytes, expected: list[int]) -> None:
    page = upload(open_page(), content)
    assert not page.error
    assert picked(page).image.shape == (1, len(expected), 16, 16)
    assert np.array_equal(np.unique(pixels(page).reshape(256, -1), axis=0), [expected])


@pytest.mark.parametrize("channels", [1, 3, None])
@pytest.mark.parametrize("size", [(50, 60), (90, 120)], ids=["as it is", "reduced"])
def test_a_written_picture_is_what_was_picked(
    open_page: Callable[..., AppTest], size: tuple[int, int], channels: int | None
) -> None:
    image = picked(upload(open_page(channels=channels), file(noise(*size)))).image
    assert image.shape[1] == (channels or 3)
    assert torch.equal(images.quantise(image), image)


def test_a_picture_is_named_by_its_file(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), file(noise(16, 16)))
    first = picked(page)
    assert first.name.startswith("mine.png (sha256 ")
    assert (first.description, first.side) == ("mine.png", None)
    upload(page, file(noise(16, 17)))
    assert picked(page).name != first.name


# --- Large pictures ---------------------------------------------------------------------------------------------------


def test_the_whole_picture_is_reduced_unless_a_part_is_asked_for(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), file(noise(90, 120)))
    assert page.radio(key="own_use").options == [REDUCED, PART]
    assert "Your picture has 120×90 pixels; it was reduced to 64×48 to keep a run short." in captions(page)
    assert picked(page).image.shape == (1, 3, 48, 64)
    assert not page.slider


def test_a_part_keeps_its_pixels(open_page: Callable[..., AppTest]) -> None:
    whole = noise(90, 120)
    page = upload(open_page(), file(whole))
    page.radio(key="own_use").set_value(PART).run()
    assert "a part of 64×64 was taken to keep a run short." in captions(page)
    assert np.array_equal(pixels(page), whole[13:77, 28:92]), "the middle"
    middle = picked(page).name
    assert middle.endswith(", 64×64 from column 28 and row 13)")
    page.slider(key="own_left").set_value(100)
    page.slider(key="own_top").set_value(0).run()
    assert np.array_equal(pixels(page), whole[:64, -64:]), "the corner"
    assert picked(page).name != middle
    upload(page, file(whole[::-1].copy()))
    assert np.array_equal(pixels(page), whole[::-1][13:77, 28:92]), "the middle of the next picture"


def test_a_part_is_cut_only_where_the_picture_is_too_long(open_page: Callable[..., AppTest]) -> None:
    whole = noise(20, 100)
    page = upload(open_page(), file(whole))
    page.radio(key="own_use").set_value(PART).run()
    assert [slider.label for slider in page.slider] == ["From the left"]
    page.slider(key="own_left").set_value(25).run()
    assert np.array_equal(pixels(page), whole[:, 9:73])


def test_the_part_is_shown_in_a_frame_on_the_whole_picture(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), file(noise(90, 120)))
    assert not page.get("html")
    page.radio(key="own_use").set_value(PART).run()
    assert "a frame around the part that is used" in page.get("html")[0].proto.body
    whole = torch.ones(1, 1, 60, 120)
    shown = crop.framed(whole, (240, 120), (120, 0), 60)
    assert shown.shape == (60, 120, 3)
    assert (shown[2:28, 62:88] == 255).all(), "inside"
    assert (shown[:, :60] == 85).all(), "outside"
    assert (shown[0, 60:90] == (255, 176, 0)).all(), "the frame"


def test_a_picture_that_becomes_too_narrow_can_be_cut(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), file(noise(10, 200)))
    assert len(page.error) == 1
    assert "too narrow to be reduced to 64×3 pixels: choose a part at full size" in page.error[0].value
    page.radio(key="own_use").set_value(PART).run()
    assert not page.error
    assert picked(page).image.shape == (1, 3, 10, 64)


def test_the_storage_keeps_the_last_uploads_of_each_session() -> None:
    storage = uploads.FewUploads("/upload")
    names = [str(number) for number in range(uploads.KEPT + 2)]
    for session, name in [("first", "0"), *(("second", name) for name in names)]:
        storage.add_file(session, UploadedFileRec(name, name, "image/png", b"1234"))
    assert [each.file_id for each in storage.get_files("second", names)] == names[2:]
    assert storage.get_files("first", ["0"])
    assert storage._total_bytes == 4 * (uploads.KEPT + 1)


# --- Coming and going -------------------------------------------------------------------------------------------------


def test_an_error_leaves_the_picture_before_it(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), file(noise(16, 16)))
    before = picked(page).name
    upload(page, b"not a picture")
    assert ["not a picture that can be read" in error.value for error in page.error] == [True]
    assert picked(page).name == before
    page.file_uploader(key="upload").clear().run()
    assert not page.error
    assert picked(page).name == before


def test_an_error_stays_on_its_page(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), b"not a picture")
    assert page.error
    page.session_state["visited"] = "second"
    assert not page.run().error


def test_a_picture_that_is_removed_is_forgotten(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(), file(noise(16, 16)))
    page.file_uploader(key="upload").clear().run()
    assert page.session_state["own_picture"] is None
    assert picked(page).name == "astronaut"
    assert "Your picture" not in page.selectbox(key="picture").options


def test_removing_a_file_does_not_forget_what_was_pasted_since(open_page: Callable[..., AppTest]) -> None:
    page = upload(open_page(pasted=file(noise(16, 20))), file(noise(16, 16)))
    page.button(key="pasting").click().run()
    assert picked(page).image.shape == (1, 3, 16, 20)
    page.file_uploader(key="upload").clear().run()
    assert picked(page).image.shape == (1, 3, 16, 20)


def test_the_camera_starts_when_it_is_asked_to(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    assert not page.camera_input
    page.toggle(key="camera_on").set_value(True).run()
    photo = file(noise(48, 64), "JPEG")
    page.camera_input(key="camera").upload("camera_input_1.jpg", photo).run()
    assert torch.equal(picked(page).image, images.load_image(photo))
    assert picked(page).name.startswith("photo (sha256 ")
    page.camera_input(key="camera").clear().run()
    assert picked(page).name == "astronaut"


def test_pages_share_the_visitors_picture_and_not_the_example(open_page: Callable[..., AppTest]) -> None:
    def visit(name: str) -> str:
        page.query_params.clear()  # as a link of the navigation does
        page.session_state["visited"] = name
        page.run()
        return picked(page).name

    page = open_page()
    page.selectbox(key="picture").set_value("coffee").run()
    assert visit("second") == "astronaut"
    upload(page, file(noise(16, 16)))
    assert visit("first") == "coffee"
    assert visit("second").startswith("mine.png")
    assert visit("third").startswith("mine.png"), "a page that was not seen before"
