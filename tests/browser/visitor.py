"""What the tests of every page look for."""

from __future__ import annotations

import re
from typing import Any

from axe_playwright_python.sync_playwright import Axe


def wait_until_complete(page: Any) -> None:
    """Until the page has come to its end and everything on it is drawn."""
    page.get_by_role("heading", name=re.compile("How the (first sample|picture) formed")).wait_for()
    # Streamlit shows grey bars until the code of an element has arrived; there is nothing to check in them.
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")
    page.wait_for_function(
        "document.images.length >= 6 && [...document.images].every(image => image.complete && image.naturalWidth)"
    )


def press_run(page: Any) -> None:
    page.get_by_role("button", name="Run", exact=True).click()


def wait_until_idle(page: Any) -> None:
    """Until the server has run the page's script to its end, so that nothing moves any more."""
    page.wait_for_function(
        "document.querySelector('[data-testid=stApp]').getAttribute('data-test-script-state') === 'notRunning'"
    )


def violations(page: Any) -> list[tuple[str, str]]:
    """Rules of accessibility that the page breaks, each with the first element that does."""
    return [(found["id"], found["nodes"][0]["html"]) for found in Axe().run(page).response["violations"]]


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
