"""The page of benchmarks in a real browser: each of its views, and a row that is run here."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser.visitor import examine, press_run, shoot, violations, wait_until_idle

pytestmark = pytest.mark.browser


def settle(page: Any) -> None:
    """Until the page is there to its end."""
    page.get_by_role("heading", name="Benchmarks").wait_for()
    wait_until_idle(page)
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0")


def test_every_view(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("benchmarks", width=390, scheme="dark")
    settle(page)
    names = page.get_by_test_id("stButtonGroup").first.get_by_role("radio").all_inner_texts()
    assert names == [
        "Super-resolution",
        "Deblurring",
        "Compressive sensing",
        "Convergence",
        "Figure 1",
        "Denoising",
        "Calibration",
        "Memorisation",
        "Speed",
    ]
    for number, name in enumerate(names):
        page.get_by_role("radio", name=name, exact=True).click()
        slug = name.lower().replace(" ", "-")
        page.wait_for_url(re.compile(f"show={slug}"))
        settle(page)
        # Tables and plots alternate between the two looks, so that every kind of view is checked in both.
        examine(page, screenshots, f"benchmarks-{slug}", ["dark", "light"][number % 2 :][:1])


def test_a_row_is_run_here(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("benchmarks?show=compressive-sensing&problem=set68-0.1-crop&picture=coffee&samples=2", width=390)
    settle(page)
    press_run(page)
    page.get_by_text(re.compile(r"Ours: \d+%, about \d+ s left")).wait_for()
    page.get_by_text(re.compile(r"Ours, average of 2, [\d.]+ dB")).wait_for()
    page.get_by_text("It is another picture").wait_for()
    page.get_by_alt_text("Restored: an espresso in a white cup on a red saucer").wait_for()
    settle(page)
    shoot(page, screenshots, "benchmarks-run", whole=True)
    assert violations(page) == []
