"""Runs on the pages: to the end, stopped, in the middle of a reload, in two tabs, from a link, of a drawing."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from invlib import cli
from tests.browser.visitor import (
    download,
    draw_line,
    press_run,
    shoot,
    stop,
    turn,
    wait_until_complete,
    wait_until_idle,
)

pytestmark = pytest.mark.browser

QUICK = "samples=1&evaluations=6"
FINISHED = re.compile("Your run: finished its 6 evaluations")
LONG = "samples=1&evaluations=200"
"""A run that is still under way when a visitor presses something, and comes to the end of a step soon if stopped."""

UNDER_WAY = re.compile(r"Evaluation \d+ of 200")


def png(height: int, width: int) -> bytes:
    """A smooth picture."""
    down, right = 0.3 + 0.4 * np.mgrid[0:height, 0:width] / max(height, width)
    buffer = io.BytesIO()
    Image.fromarray((255 * np.stack([down, right, 0 * down + 0.5], -1)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(page: Any, content: bytes, name: str = "mine.png") -> None:
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": "image/png", "buffer": content})


def wait_for_the_end(page: Any) -> None:
    page.get_by_text(FINISHED).wait_for()
    page.get_by_alt_text("Restored:", exact=False).wait_for()
    assert page.get_by_test_id("stException").count() == 0


def test_a_run_to_its_end(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page(f"deblurring?blur=drawn&{QUICK}")
    page.get_by_text("Press Run").wait_for()
    press_run(page)
    wait_for_the_end(page)
    shoot(page, screenshots, "deblurring-drawn")


def test_a_knob_moved_during_a_run_does_not_end_it(open_page: Callable[..., Any]) -> None:
    page = open_page(f"inpainting?missing=pixels&{LONG}")
    press_run(page)
    page.get_by_text(UNDER_WAY).wait_for()
    page.get_by_role("slider", name="Pixels kept").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**keep=0.2**")
    before = int(re.search(r"Evaluation (\d+)", page.get_by_text(UNDER_WAY).inner_text())[1])  # type: ignore[index]
    page.wait_for_function(
        "before => Number(document.body.innerText.match(/Evaluation (\\d+) of 200/)?.[1]) > before + 1", arg=before
    )
    stop(page)
    page.get_by_text("Press Run").wait_for()  # the settings are others by now


def test_a_reload_in_the_middle_frees_the_worker(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page(f"inpainting?missing=pixels&keep=0.4&{LONG}")
    press_run(page)
    page.get_by_text(UNDER_WAY).wait_for()
    page.goto(page.url.replace("evaluations=200", "evaluations=6"))
    wait_until_complete(page)
    press_run(page)
    # The run of the session that is gone is given up after a moment's grace. It would take a minute or more.
    wait_for_the_end(page)
    shoot(page, screenshots, "inpainting-pixels")


def test_two_tabs_take_turns(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    first, second = open_page(f"inpainting?missing=block&{LONG}"), open_page(f"inpainting?missing=block&{QUICK}")
    press_run(first)
    first.get_by_text(UNDER_WAY).wait_for()
    shoot(first, screenshots, "inpainting-during")
    press_run(second)
    second.get_by_text(FINISHED).wait_for()
    first.get_by_text(UNDER_WAY).wait_for()
    stop(first)
    first.get_by_text("Stopped after").wait_for()
    first.get_by_role("button", name="Run", exact=True).wait_for()


def test_a_shared_link_repeats_a_run(open_page: Callable[..., Any]) -> None:
    page = open_page(f"inpainting?missing=block&left=20&{QUICK}")
    wait_until_complete(page)
    page.wait_for_url("**seed=0**")
    answers = []
    for _ in range(2):
        press_run(page)
        page.get_by_text(FINISHED).wait_for()
        answers.append(download(page, "Picture").read_bytes())
        page.goto(page.url)  # as another visitor
    assert answers[0] == answers[1]


def test_a_drawn_hole_is_filled_and_the_run_repeated_on_the_command_line(
    open_page: Callable[..., Any], screenshots: Path | None, tmp_path: Path
) -> None:
    """Remove an object from an own picture in two clicks and a stroke, then replay the run's JSON.

    A first file cannot be read, which the page says in a sentence, and its example is still there.
    """
    page = open_page(f"inpainting?{QUICK}")
    page.get_by_text("Use a picture of your own").click()
    upload(page, png(64, 64)[:100], "broken.png")
    page.get_by_test_id("stAlert").filter(has_text="picture").wait_for()
    page.get_by_text("69 747 of 76 800 numbers kept").wait_for()
    upload(page, png(64, 64))
    expect(page.get_by_role("combobox", name="Picture")).to_have_value("Your picture")
    page.get_by_role("radio", name="Remove an object").click()
    page.get_by_text("Nothing is painted over yet").wait_for()
    board = page.get_by_role("application", name="Paint over what is to go", exact=False)
    wait_until_idle(page)  # nothing moves any more
    draw_line(page, board, (0.2, 0.5), (0.8, 0.5))
    page.get_by_text("They are the pixels that were not painted over.").wait_for()
    press_run(page)
    page.get_by_text(FINISHED).wait_for()
    wait_until_idle(page)
    shoot(page, screenshots, "inpainting-removed")
    files = {label: download(page, label).read_bytes() for label in ("Picture", "Settings")}
    done = json.loads(files["Settings"])
    assert 0.5 < done["measured"] / (3 * 64 * 64) < 1
    (tmp_path / "run.json").write_bytes(files["Settings"])
    (tmp_path / "mine.png").write_bytes(png(64, 64))
    arguments = ["restore", tmp_path / "mine.png", "--replay", tmp_path / "run.json", "--out", tmp_path / "out"]
    assert cli.main([str(argument) for argument in arguments]) == 0
    again = np.asarray(Image.open(tmp_path / "out" / "mine-1.png")).astype(int)
    assert np.abs(again - np.asarray(Image.open(io.BytesIO(files["Picture"])))).max() <= 3


def test_a_sweep(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page(f"compressive_sensing?{LONG}")
    button = page.get_by_role("button", name="Draw the curve")
    button.click()
    page.get_by_text("Point 1 of 6").wait_for()
    stop(page)
    button.wait_for()  # it stands where Stop stood
    turn(page, "Evaluations", "Home")
    button.click()
    page.locator("[role=figure][aria-label*='dB at 50%']").wait_for()
    shoot(page, screenshots, "compressive_sensing-sweep", whole=True)
