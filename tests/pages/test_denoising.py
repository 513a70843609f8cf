"""The denoising page: noise that is added, a picture of one's own, samples, and methods side by side."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from pages.ui import results
from tests.pages.visitor import png, run_to_the_end, submission, text, upload
from tests.patience import PATIENCE


def noisy(level: float) -> bytes:
    """A smooth picture of one's own with white noise."""
    pixels = np.asarray(Image.open(io.BytesIO(png(48, 64)))) / 255
    pixels = pixels + level * np.random.default_rng(0).standard_normal(pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray((255 * pixels.clip(0, 1)).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_first_visit_shows_a_saved_run(open_page: Callable[..., AppTest]) -> None:
    page = open_page("denoising")
    assert "20.8 dB with the noise." in text(page)
    assert "Its noise was estimated at 0.099" in page.progress[0].text
    assert page.progress[0].value == 100
    assert "Press Run" not in page.progress[0].text
    assert "JPEG" in text(page)
    assert not page.error


@pytest.mark.parametrize(
    "address", [{"noise": "0.2"}, {"noise": "0.1", "method": "fast", "samples": "2"}, {"gain": "0.02"}]
)
def test_added_noise_is_taken_off_and_scored(open_page: Callable[..., AppTest], address: dict[str, str]) -> None:
    page = open_page("denoising", seed="3", **address)
    upload(page, png(40, 48))
    assert address.items() <= page.query_params.items()
    done = run_to_the_end(page, "denoising").parameters
    assert done["noise_level"] == float(address.get("noise", 0.1))
    assert done["knobs"] == {"gain": float(address.get("gain", 0))}
    answer = done["mean"] if "method" in address else done["result"]
    assert answer["psnr"] > done["input"]["psnr"] + 5
    assert "gain" in address or done["noise_estimate"] == pytest.approx(done["noise_level"], rel=0.1)
    assert "was added" in text(page) or "gain" in address


def test_a_noisy_picture_of_ones_own(open_page: Callable[..., AppTest]) -> None:
    page = open_page("denoising", mode="clean")
    assert "bring a noisy picture" in text(page), "an example is clean"
    upload(page, noisy(0.1))
    run = run_to_the_end(page, "denoising")
    assert not run.parameters["simulated"]
    assert run.parameters["noise_estimate"] == pytest.approx(0.1, rel=0.1)
    assert "nothing can be scored" in text(page)
    assert run.noise_map is not None
    assert run.noise_map.shape == (48, 64)
    assert b"noise.png" in results.archive(run)


@pytest.mark.parametrize("mode", ["add", "clean"])
def test_methods_are_compared(open_page: Callable[..., AppTest], mode: str) -> None:
    page = open_page("denoising", mode=mode)
    upload(page, png(40, 48) if mode == "add" else noisy(0.05))
    run_to_the_end(page, "denoising")
    page.pills(key="methods denoising").set_value(["blind", "tv"]).run()
    page.button(key="start methods of denoising").click().run()
    job = submission(page, "methods of denoising").job
    assert job.wait(PATIENCE)
    assert job.error is None
    blind, flat = (run.parameters for run in job.result.runs)
    assert (blind["method"], flat["method"], flat["evaluations"]) == ("blind", "tv", 0)
    if mode == "add":
        assert min(each["result"]["psnr"] for each in (blind, flat)) > flat["input"]["psnr"] + 5
    else:
        assert flat["noise_estimate"] == blind["noise_estimate"]
    page.run()
    assert not page.exception
