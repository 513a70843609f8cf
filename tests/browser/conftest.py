"""The app in a browser: a server of its own, Debian's Chromium, and screenshots if somebody wants to look.

Where there is no Chromium these tests are skipped, unless REQUIRE_BROWSER=1. SCREENSHOTS names a folder for pictures.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]

GRACE = "1"
"""Seconds after which the server gives up the run of a visitor who has left; they are 10 where nobody says so."""


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that Playwright drives. It has a profile, so that code compiled for one page serves the next."""
    # The shell is Chromium without windows, and takes a fifth less of the processor's time.
    path = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser"))), None)
    if path is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but there is no Chromium: install chromium-headless-shell")
        pytest.skip("there is no Chromium: install chromium-headless-shell")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--use-fake-device-for-media-stream",  # a camera that shows a moving pattern
                "--use-fake-ui-for-media-stream",  # and a visitor who lets pages use it
            ],
            reduced_motion="reduce",  # without a graphics card, fading and sliding take the processor's time
        )
        browser.set_default_timeout(1000 * PATIENCE)
        yield browser
        browser.close()


@contextmanager
def serve(log: Path) -> Iterator[str]:
    """A server of the app, at the address that is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--server.headless", "true", "--server.port", str(port), "--server.address", "127.0.0.1"]
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "server.py", *options],
            cwd=ROOT,
            env={**os.environ, "INVLIB_GRACE": GRACE, "INVLIB_LONGEST": "1e9"},
            stdout=output,
            stderr=output,
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health"):
                break
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                server.kill()
                pytest.fail(f"the app did not start:\n{log.read_text()}")
            time.sleep(0.1)
    try:
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app, served for all tests."""
    with serve(tmp_path_factory.mktemp("server") / "log.txt") as address:
        yield address


@pytest.fixture
def unvisited_app(tmp_path: Path) -> Iterator[str]:
    """The address of the app, on a server of its own that nobody has asked for a page."""
    with serve(tmp_path / "log.txt") as address:
        yield address


@pytest.fixture
def other_site(app: str, tmp_path: Path) -> Iterator[str]:
    """A page of localhost with the app, which is at 127.0.0.1, in a frame: to a browser these are two sites.

    The frame may do what a Space's may.
    """
    address = f"{app}/super_resolution?evaluations=4&samples=2"
    sandbox = (
        "allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox allow-same-origin allow-scripts "
        "allow-downloads"
    )
    frame = f'<iframe src="{address}" width="1200" height="780" allow="camera; clipboard-read" sandbox="{sandbox}">'
    (tmp_path / "index.html").write_text(f"<!doctype html><title>A Space</title>{frame}</iframe>")
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *arguments: None})
    server = ThreadingHTTPServer(("localhost", 0), partial(quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/index.html"
    server.shutdown()


@pytest.fixture
def open_page(chromium: Any, app: str) -> Iterator[Callable[..., Any]]:
    """Opens a page of the app; the test fails if the browser's console shows an error or it asks another host.

    Tabs are left open for the next test: the app's code starts more than twice as fast in a tab that has run it before.
    To the server, each address that is opened is another visitor.
    """
    tabs, complaints = [], []

    def visit(path: str = "", *, width: int = 1280, scheme: str = "light") -> Any:
        page = chromium.pages[len(tabs)] if len(tabs) < len(chromium.pages) else chromium.new_page()
        tabs.append(page)
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.on("console", note_error)
        page.on("request", note_host)
        page.goto(f"{app}/{path}")
        return page

    def note_error(message: Any) -> None:
        # Opened at a page's address, Streamlit looks for its server below that address first, and does not find it.
        if message.type == "error" and "/_stcore/" not in message.location["url"]:
            complaints.append(f"{message.text} {message.location['url']}")

    def note_host(request: Any) -> None:
        if request.url.startswith("http") and not request.url.startswith(app):
            complaints.append(f"asked another host: {request.url}")

    yield visit
    for page in tabs:
        page.remove_listener("console", note_error)
        page.remove_listener("request", note_host)
        page.goto("about:blank")
    assert not complaints


@pytest.fixture(scope="session")
def screenshots() -> Path | None:
    """The folder for screenshots, if any: they are for people, take time, and no test depends on them."""
    folder = os.environ.get("SCREENSHOTS")
    return Path(folder) if folder else None
