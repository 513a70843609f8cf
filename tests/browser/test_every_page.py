"""What holds on every page: the first visit, looks, accessibility."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import examine, shoot, wait_until_complete

pytestmark = pytest.mark.browser

PAGES = {
    "": "12 288 of 196 608 numbers kept",
    "denoising": "20.8 dB with the noise.",
    "deblurring": "19 683 of 196 608 numbers kept",
    "inpainting": "69 747 of 76 800 numbers kept",
    "compressive_sensing": "4 915 of 49 152 numbers kept",
    "structured_noise": "The noise rises and falls from row to row.",
    "sampling": "Each starts from noise of its own.",
}
"""Pages by their addresses, the first being that of super-resolution, and something that is said on each."""


@pytest.mark.parametrize("name", PAGES)
def test_the_first_visit(open_page: Callable[..., Any], screenshots: Path | None, name: str) -> None:
    page = open_page(name, width=390, scheme="dark")
    wait_until_complete(page)
    page.get_by_text("A saved run:").first.wait_for()
    stage, knobs = page.get_by_text(PAGES[name]), page.get_by_role("button", name="Run", exact=True)
    stage.wait_for()
    knobs.wait_for()
    assert stage.bounding_box()["y"] < knobs.bounding_box()["y"], "on a telephone the picture comes before the knobs"
    assert page.evaluate("[...document.images].filter(image => !image.alt).length") == 0
    examine(page, screenshots, name or "super_resolution")
    page.get_by_text("What is happening here").click()
    page.get_by_text("Source: ").first.wait_for()
    if not name:  # the other explanations are made of the same
        examine(page, None, name)
    if name == "sampling":
        click_on_the_plane(page)
    shoot(page, screenshots, f"{name or 'super_resolution'}-explained")


def click_on_the_plane(page: Any) -> None:
    """Start the ascent of the explanation elsewhere: at the end of an arrow, which are 0.08 apart and begin at 0.02."""
    page.get_by_label(re.compile(r"A plane with a spiral\. The path leads from \(0\.10, 0\.90\)")).wait_for()
    plane = page.locator(".st-key-plane .nsewdrag")
    box = plane.bounding_box()  # from -0.05 to 1.05
    plane.click(position={"x": (0.74 + 0.05) / 1.1 * box["width"], "y": (1.05 - 0.26) / 1.1 * box["height"]})
    page.get_by_label(re.compile(r"from \(0\.74, 0\.26\)")).wait_for()


def test_a_link_to_a_page_is_the_first_thing_that_a_server_is_asked_for(chromium: Any, unvisited_app: str) -> None:
    """Streamlit would show the page without its frame: files in pages/ are pages of their own to it until then."""
    page = chromium.new_page()
    page.goto(f"{unvisited_app}/deblurring?samples=2")
    wait_until_complete(page)
    assert page.get_by_role("link", name="Super-resolution").is_visible()
    assert page.get_by_test_id("stSidebar").count() == 0
    assert "samples=2" in page.url
    page.close()
