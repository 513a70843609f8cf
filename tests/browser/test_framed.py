"""The app in a frame of another site, which is how a Space shows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from websockets import Origin
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from invlib import examples, images
from tests.browser.visitor import press_run

pytestmark = pytest.mark.browser


@pytest.fixture
def outside(chromium: Any, other_site: str) -> Iterator[Any]:
    """The page of the other site."""
    page = chromium.new_page()
    page.goto(other_site)
    yield page
    page.close()
    chromium.clear_permissions()


@pytest.fixture
def frame(outside: Any) -> Iterator[Any]:
    """The app in the frame, where the fold for a picture of one's own is open."""
    frame = outside.frame_locator("iframe")
    frame.get_by_text("Use a picture of your own").click()
    yield frame
    assert frame.get_by_test_id("stException").count() == 0


def allow(page: Any, *permissions: str) -> None:
    """Let the site of a page do these things, and what is in its frames if the frames may, but nothing else."""
    page.context.grant_permissions(permissions, origin=page.url.removesuffix("/index.html"))


def copy(page: Any, width: int, height: int) -> None:
    """Put a picture on the clipboard, elsewhere than in the app."""
    page.evaluate(
        """async ([width, height]) => {
          const canvas = new OffscreenCanvas(width, height)
          canvas.getContext("2d").fillRect(0, 0, width, height / 2)
          const blob = await canvas.convertToBlob({ type: "image/png" })
          await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })])
        }""",
        [width, height],
    )


def test_a_picture_is_uploaded_and_restored(frame: Any) -> None:
    file = images.encode_png(images.to_uint8(examples.example("coffee", side=64)))
    frame.locator("input[type=file]").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": file})
    frame.get_by_text("Original, 64×64").wait_for()
    press_run(frame)
    frame.get_by_alt_text("Restored:", exact=False).first.wait_for()


def test_a_picture_is_pasted_or_a_photo_taken(outside: Any, frame: Any) -> None:
    """Pasted by Ctrl+V in any case, and by the button where the visitor lets the site read the clipboard."""
    allow(outside, "clipboard-write")
    copy(outside, 64, 48)
    button = frame.get_by_role("button", name="Paste a picture")
    button.click()
    frame.get_by_text("The browser does not let a button read the clipboard: press Ctrl+V").wait_for()
    button.press("Control+v")
    frame.get_by_text("Original, 64×48").wait_for()

    allow(outside, "clipboard-write", "clipboard-read")
    copy(outside, 48, 64)
    button.click()
    frame.get_by_text("Original, 48×64").wait_for()

    frame.get_by_text("Use the camera").click()
    frame.get_by_role("button", name="Take Photo").click()
    frame.get_by_text("Your picture has 1280×720 pixels").wait_for()


def test_a_websocket_of_another_site_is_refused(app: str) -> None:
    address = app.replace("http", "ws") + "/_stcore/stream"
    with connect(address, origin=Origin(app)):
        pass
    with pytest.raises(InvalidStatus):
        connect(address, origin=Origin("https://elsewhere.example"))
