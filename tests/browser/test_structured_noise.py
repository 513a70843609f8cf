"""The page for structured noise in a real browser: a run, a scribble, methods side by side, a sweep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import (
    download,
    draw_line,
    press_run,
    shoot,
    stop,
    wait_until_complete,
    wait_until_idle,
)

pytestmark = pytest.mark.browser

FINISHED = re.compile("Your run: finished its 10 steps")


def test_a_run_forms_and_can_be_stopped(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("structured_noise?noise=radial&steps=400")
    wait_until_complete(page)
    press_run(page)
    page.get_by_text(re.compile(r"Step \d+ of 400, about \d+ s left")).wait_for()
    page.get_by_alt_text("Restored: the face of a smiling astronaut").wait_for()
    shoot(page, screenshots, "structured-noise-during")
    stop(page)
    page.get_by_text("Stopped after").wait_for()
    page.get_by_role("button", name="Run", exact=True).wait_for()


def test_a_scribble_is_drawn_and_taken_off(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("structured_noise?noise=scribble&picture=cartoon&steps=10", width=390)
    wait_until_complete(page)
    board = page.get_by_role("application", name="Scribble on the picture.")
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_text("Nothing is drawn yet.").wait_for()
    wait_until_idle(page)
    draw_line(page, board, (0.2, 0.3), (0.8, 0.6))
    page.get_by_text("The noise model knows where the pen was").wait_for()
    press_run(page)
    page.get_by_text(FINISHED).wait_for()
    done = json.loads(download(page, "Settings").read_bytes())
    assert done["picture"] == "cartoon"
    assert done["knobs"]["strokes"].startswith("data:image/png")
    wait_until_complete(page)
    shoot(page, screenshots, "structured-noise-scribble", whole=True)


def test_methods_side_by_side(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("structured_noise?steps=10&c=0.2", scheme="dark")
    wait_until_complete(page)
    for name in ("MLE with a GAN", "Bora et al."):
        page.get_by_role("button", name=name, exact=True).click()  # they take their time
    button = page.get_by_role("button", name="Compare", exact=True)
    button.click()
    for title in ("MAP", "Total variation"):
        page.get_by_text(re.compile(rf"^{title}: [\d.]+ dB, [\d.]+ s$")).wait_for()
    button.wait_for()  # it stands where Stop stood
    wait_until_complete(page)
    shoot(page, screenshots, "structured-noise-compared", whole=True)
