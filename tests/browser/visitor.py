"""What the tests of every page look for."""

from __future__ import annotations

import re
from typing import Any


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
