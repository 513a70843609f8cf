"""What the tests of every page look for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe


def wait_until_complete(page: Any) -> None:
    """Until the page has come to its end and everything on it is drawn."""
    # The last heading: an answer in one evaluation has no states to show.
    page.get_by_role(
        "heading", name=re.compile("How the (first sample|picture) formed|Compare methods")
    ).first.wait_for()
    # Streamlit shows grey bars until the code of an element has arrived; there is nothing to check in them.
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.wait_for_function(
        "document.images.length >= 6 && [...document.images].every(image => image.complete && image.naturalWidth)"
    )


def press_run(page: Any) -> None:
    page.get_by_role("button", name="Run", exact=True).click()


def stop(page: Any) -> None:
    """Press Stop where work is under way. Streamlit has a button of that name above the page."""
    page.get_by_test_id("stMain").get_by_role("button", name="Stop", exact=True).click()


def turn(page: Any, slider: str, key: str) -> None:
    """Open the advanced settings and press a key on one of their sliders."""
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_role("slider", name=slider).focus()
    before = page.url
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before)
    wait_until_idle(page)


def wait_until_idle(page: Any) -> None:
    """Until the server has run the page's script to its end, so that nothing moves any more."""
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').getAttribute('data-test-script-state') === 'notRunning'"
    )


def download(page: Any, label: str) -> Path:
    """Press a button that downloads, and return the file, which has the name that the page gives it.

    Once the script has run to its end: while a run's last elements arrive, a click can miss.
    """
    wait_until_idle(page)
    with page.expect_download() as started:
        page.get_by_role("button", name=label, exact=True).click()
    path = Path(started.value.path())
    return path.rename(path.with_name(started.value.suggested_filename))


def violations(page: Any) -> list[tuple[str, str]]:
    """Rules of accessibility that the page breaks, each with the first element that does."""
    return [(found["id"], found["nodes"][0]["html"]) for found in Axe().run(page).response["violations"]]


def shoot(page: Any, folder: Path | None, name: str, whole: bool = False) -> None:
    """A screenshot, of the whole page if asked to, where there is a folder for them."""
    if folder is None:
        return
    if whole:
        show_all(page)
    page.screenshot(path=folder / f"{name}.png")


def show_all(page: Any) -> None:
    """Give the window the height of the page, which scrolls within it."""
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    wait_until_idle(page)


def examine(page: Any, folder: Path | None, name: str, schemes: Collection[str] = ("dark", "light")) -> None:
    """On a telephone in the dark and on a desktop in light: the page fits, and breaks no rule of accessibility.

    With a screenshot of each, and of the other two, where there is a folder for them.

    Parameters
    ----------
    schemes : those in which the rules are checked, which takes seconds.
    """
    for width, scheme, examined in looks(others=folder is not None):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(
            "dark => (getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
            ".match(/\\d+/)[0] < 128) === dark",
            arg=scheme == "dark",
        )
        show_all(page)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) <= 0, f"the page is wider than a window of {width} pixels"
        shoot(page, folder, f"{name}-{width}-{scheme}")
        if examined and scheme in schemes:
            assert violations(page) == []


def looks(others: bool) -> Iterator[tuple[int, str, bool]]:
    """Widths and colour schemes, and whether to examine them or, as `others`, only to look."""
    yield 390, "dark", True
    if others:
        yield 390, "light", False
        yield 1280, "dark", False
    yield 1280, "light", True


def draw_line(page: Any, board: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a straight stroke between two places on a drawing board, in fractions of its width and height.

    By `hover`, which waits until the board has stopped moving: what a busy machine loads late pushes it down the page.
    """
    box = board.bounding_box()
    places = [{"x": x * box["width"], "y": y * box["height"]} for x, y in (start, end)]
    board.hover(position=places[0])
    page.mouse.down()
    board.hover(position=places[1])
    page.mouse.up()
    page.get_by_role("status").get_by_text("1 stroke.").wait_for()
