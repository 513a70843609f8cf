"""The app in a frame of another site, which is how a Space shows it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from websockets import Origin
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from invlib import examples, images
from tests.browser.visitor import press_run

QUICK = "evaluations=2&samples=2"


@pytest.fixture
def other_site(app: str, tmp_path: Path) -> Iterator[str]:
    """A page of localhost with the app, which is at 127.0.0.1, in a frame: to a browser these are two sites."""
    frame = f'<iframe src="{app}/super_resolution?{QUICK}" width="1200" height="780" allow="camera; clipboard-read">'
    (tmp_path / "index.html").write_text(f"<!doctype html><title>A Space</title>{frame}</iframe>")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *arguments: None})
    server = ThreadingHTTPServer(("localhost", 0), partial(quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/index.html"
    server.shutdown()


def test_a_picture_is_uploaded_and_restored_in_a_frame_of_another_site(chromium: Any, other_site: str) -> None:
    page = chromium.new_page()
    page.goto(other_site)
    frame = page.frame_locator("iframe")
    frame.get_by_text("Use a picture of your own").click()
    file = images.encode_png(images.to_uint8(examples.example("coffee", side=64)))
    frame.locator("input[type=file]").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": file})
    frame.get_by_text("Your picture").first.wait_for()
    press_run(frame)
    frame.get_by_alt_text("Restored:", exact=False).first.wait_for()
    assert frame.get_by_test_id("stException").count() == 0
    page.close()


def test_a_websocket_of_another_site_is_refused(app: str) -> None:
    address = app.replace("http", "ws") + "/_stcore/stream"
    with connect(address, origin=Origin(app)):
        pass
    with pytest.raises(InvalidStatus):
        connect(address, origin=Origin("https://elsewhere.example"))
