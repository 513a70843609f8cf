"""The app in Firefox, whose engine is not that of the other tests' browser.

Where there is no Firefox these tests are skipped, unless REQUIRE_FIREFOX=1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from invlib import examples, images
from tests.browser.firefox import ARROW_RIGHT, Firefox, start

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    program = shutil.which("firefox-esr")  # other names may be of a snap, which cannot read the folders of tests
    if program is None:
        if os.environ.get("REQUIRE_FIREFOX") == "1":
            pytest.fail("REQUIRE_FIREFOX=1, but there is no Firefox: install firefox-esr")
        pytest.skip("there is no Firefox: install firefox-esr")
    with start(program, tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


@pytest.fixture
def visitor(firefox: Firefox) -> Iterator[Firefox]:
    """Somebody with Firefox; the test fails if the console shows an error in the end, or the page does."""
    yield firefox
    assert firefox.complaints() == []
    assert firefox.count("[data-testid=stException]") == 0


def test_a_picture_is_uploaded_and_restored_in_a_frame_of_another_site(
    visitor: Firefox, other_site: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.png"
    file.write_bytes(images.encode_png(images.to_uint8(examples.example("coffee", side=64))))
    visitor.open(other_site)
    visitor.enter_frame()
    visitor.click("//summary[contains(., 'Use a picture of your own')]")
    visitor.send_keys("//input[@type='file']", str(file))
    visitor.wait_for_text("Original, 64×64")
    visitor.click("//button[.//p = 'Run']")
    visitor.wait("document.querySelector('img[alt^=\"Restored:\"]')?.naturalWidth > 0")
    visitor.wait_for_text("Your run: finished its 4 evaluations")
    visitor.click("//summary[contains(., 'Advanced')]")
    visitor.send_keys("//input[@type='range'][@aria-label='Evaluations']", ARROW_RIGHT)
    visitor.wait("location.search.includes('evaluations=5')")


def test_nothing_is_wider_than_a_telephone(visitor: Firefox, app: str) -> None:
    visitor.open(f"{app}/inpainting", width=390)
    visitor.wait_for_text("69 747 of 76 800 numbers kept")
    visitor.wait("document.images.length >= 6 && [...document.images].every(image => image.naturalWidth)")
    for box in ("document.documentElement", "document.querySelector('[data-testid=stMain]')"):
        assert visitor.ask(f"return {box}.scrollWidth") <= 390
