"""The super-resolution page in a real browser."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from invlib.decoding import STRANGERS
from tests.browser.visitor import download, press_run, shoot, wait_until_complete

pytestmark = pytest.mark.browser

QUICK = "?samples=2&evaluations=4"


def move_the_divider(page: Any) -> None:
    """With the arrow keys."""
    divider = page.get_by_role("slider", name="Divide between Measured and Average of the samples")
    divider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert divider.input_value() == "55"
    assert "55%" in divider.evaluate("slider => slider.parentElement.style.getPropertyValue('--at')")


def test_a_run_to_its_end(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page(QUICK)
    wait_until_complete(page)
    move_the_divider(page)
    page.get_by_text("Press Run").wait_for()  # the settings are not those of the saved run
    press_run(page)
    page.get_by_text("Average of 2 samples, PSNR").wait_for()
    page.get_by_text("Your run: astronaut, 4×, 2 samples, fast sampler, 4 evaluations").wait_for()
    shoot(page, screenshots, "super-resolution-after")

    suffixes = {"Picture": ".png", "All samples": ".zip", "Animation": ".webp", "Settings": ".json"}
    for label, suffix in suffixes.items():
        file = download(page, label)
        assert file.suffix == suffix
        content = file.read_bytes()
        if suffix == ".json":
            assert json.loads(content)["samples"] == 2
        else:
            assert len(content) > 1000


def test_a_picture_can_be_pasted(open_page: Callable[..., Any]) -> None:
    """At the page's other address, besides that of the app."""
    page = open_page("super_resolution?mode=enlarge&factor=2")
    page.get_by_role("button", name="Paste a picture").wait_for()
    assert "factor=2" in page.url
    assert page.get_by_text("Page not found").count() == 0
    wait_until_complete(page)
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), 128, np.uint8)).save(buffer, "PNG")
    paste = """([content, size]) => {
      const bytes = new Uint8Array(size)
      bytes.set(Uint8Array.from(atob(content), letter => letter.charCodeAt(0)))
      const data = new DataTransfer()
      data.items.add(new File([bytes], "clipboard.png", { type: "image/png" }))
      document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }))
    }"""
    page.evaluate(paste, [base64.b64encode(buffer.getvalue()).decode(), len(buffer.getvalue())])
    page.get_by_text("1 800 of 7 200 numbers kept").wait_for()
    page.evaluate(paste, ["", STRANGERS.size])
    page.get_by_text("not a picture that can be read").wait_for()
    page.evaluate(paste, ["", STRANGERS.size + 1])
    page.get_by_text("The picture is larger than 20 MB").wait_for()
