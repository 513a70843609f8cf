"""What holds on every page: the first visit, looks, accessibility."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import violations, wait_until_complete, wait_until_idle

pytestmark = pytest.mark.browser

PAGES = {
    "": "12 288 of 196 608 numbers kept",
    "deblurring": "19 683 of 196 608 numbers kept",
    "inpainting": "69 747 of 76 800 numbers kept",
    "compressive_sensing": "4 915 of 49 152 numbers kept",
    "structured_noise": "The noise rises and falls from row to row.",
    "sampling": "Each starts from noise of its own.",
}
"""Pages by their addresses, the first being that of super-resolution, and something that is said on each."""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "examined"), [(1280, "light"), (390, "dark")])
def test_the_first_visit(
    open_page: Callable[..., Any], screenshots: Path, name: str, width: int, examined: str
) -> None:
    page = open_page(name, width=width)
    wait_until_complete(page)
    page.get_by_text(PAGES[name]).wait_for()
    page.get_by_text("A saved run:").first.wait_for()
    page.get_by_role("button", name="Run", exact=True).wait_for()
    assert page.evaluate("[...document.images].filter(image => !image.alt).length") == 0
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0, "the page is wider than the window"
    # A screenshot of a page in an inner scroller needs a window as high as the page.
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": width, "height": height})
    for scheme, dark in (("light", False), ("dark", True)):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "dark => (getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
            ".match(/\\d+/)[0] < 128) === dark",
            arg=dark,
        )
        wait_until_complete(page)
        wait_until_idle(page)
        page.screenshot(path=screenshots / f"{name or 'super_resolution'}-{width}-{scheme}.png")
        if scheme == examined:
            assert violations(page) == []
    page.get_by_text("What is happening here").click()
    page.get_by_text("Start from ").first.wait_for()
    page.screenshot(path=screenshots / f"{name or 'super_resolution'}-{width}-explained.png")


def test_a_link_to_a_page_is_the_first_thing_that_a_server_is_asked_for(chromium: Any, unvisited_app: str) -> None:
    """Streamlit would show the page without its frame: files in pages/ are pages of their own to it until then."""
    page = chromium.new_page()
    page.goto(f"{unvisited_app}/deblurring?samples=2")
    wait_until_complete(page)
    assert page.get_by_role("link", name="Super-resolution").is_visible()
    assert page.get_by_test_id("stSidebar").count() == 0
    assert "samples=2" in page.url
    page.close()
