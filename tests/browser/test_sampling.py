"""The page that samples a prior alone in a real browser: a run, an interpolation, the comparison of β."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.visitor import download, examine, press_run, shoot, stop, turn, wait_until_complete

pytestmark = pytest.mark.browser

FINISHED = re.compile("Your run: converged to σ ≤ 0.01")


def test_samples_form_one_beside_the_other(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("sampling?kind=digits&size=56&samples=2&seed=1&h0=0.01&beta=0.01")
    page.get_by_text("Press Run").wait_for()
    press_run(page)
    page.get_by_text(re.compile(r"Evaluation \d+, σ = 0.[1-9]")).wait_for()
    for number in (1, 2):
        page.get_by_alt_text(f"A picture drawn from the prior: Sample {number} of 2").wait_for()
    shoot(page, screenshots, "sampling-during")
    stop(page)
    page.get_by_text("Stopped after").wait_for()
    page.get_by_role("button", name="Run", exact=True).wait_for()


def test_an_interpolation_can_be_taken_home_as_an_animation(
    open_page: Callable[..., Any], screenshots: Path | None
) -> None:
    page = open_page("sampling?kind=digits&mode=interpolate&samples=5&h0=0.1&beta=0.2", width=390)
    page.get_by_text("Press Run").wait_for()
    press_run(page)
    page.get_by_text(FINISHED).wait_for()
    page.get_by_text("Your run: 28×28 pixels, 5 samples, paper sampler").wait_for()
    for place in ("Sample 1", "25% of the way", "50% of the way", "75% of the way", "Sample 2"):
        page.get_by_text(place, exact=True).wait_for()
    wait_until_complete(page)
    shoot(page, screenshots, "sampling-interpolated", whole=True)
    assert Image.open(download(page, "Animation")).n_frames == 9


def test_a_flow_draws_before_the_browser_has_the_code_of_the_sliders(
    chromium: Any, open_page: Callable[..., Any], screenshots: Path | None
) -> None:
    held: list[Any] = []
    code = re.compile(r"/Slider[^/]*\.js")
    chromium.route(code, lambda route: held.append(route))
    page = open_page("sampling?kind=faces&prior=realnvp-faces&samples=12")
    page.get_by_text("Your run: drawn in one evaluation").wait_for()
    page.get_by_text("How likely each sample is").wait_for()
    assert held
    for route in held:
        route.continue_()
    chromium.unroute(code)
    expect(page.get_by_role("slider", name="Samples")).to_have_value("12")
    examine(page, screenshots, "sampling-flow")


def test_the_same_noise_under_different_betas(open_page: Callable[..., Any], screenshots: Path | None) -> None:
    page = open_page("sampling?kind=digits&h0=0.01", scheme="dark")
    wait_until_complete(page)
    button = page.get_by_role("button", name="Compare", exact=True)
    button.click()
    page.get_by_text(re.compile(r"β = [\d.]+, evaluation \d+")).wait_for()
    stop(page)
    button.wait_for()  # it stands where Stop stood
    turn(page, "First step h₀", "End")
    button.click()
    # Captions of two moments of the run were seen side by side, with 69 and with 80 evaluations.
    expect(page.get_by_text(re.compile(r"β = 0.05: \d+ evaluations"))).to_have_count(1)
    page.get_by_alt_text("A sample with β = 1").wait_for()
    wait_until_complete(page)
    shoot(page, screenshots, "sampling-betas", whole=True)
