"""Super-resolution without a browser, and what all pages share."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from invlib import images
from invlib.runs import FRAMES
from pages.ui import results, saved
from tests.pages.visitor import hold, png, run_to_the_end, submission, text, upload
from tests.patience import PATIENCE

TASK = "super-resolution"


def test_the_first_visit_shows_the_saved_run(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    assert "12 288 of 196 608 numbers kept" in text(page)
    assert "A saved run: astronaut, 4×, 4 samples, fast sampler, 14 evaluations" in text(page)
    assert {metric.label for metric in page.metric} >= {"PSNR, average", "SSIM, one sample"}
    assert page.progress[0].value == 100
    assert not page.error


def test_the_style_is_on_the_page_before_anything_else(open_page: Callable[..., AppTest]) -> None:
    """Streamlit would hold back a style alone until the script has ended, and show pictures without it for seconds."""
    assert "<style>" in open_page("super_resolution").main[0].proto.body


def test_the_factor_changes_what_is_measured(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    page.get_by_key("factor").set_value(8)
    page.run()
    assert "3 072 of 196 608 numbers kept" in text(page)
    assert "Press Run" in page.progress[0].text
    assert page.query_params["factor"] == "8"
    page.get_by_key("factor").set_value(3)
    page.run()
    assert "21 675 of 195 075 numbers kept" in text(page), "256 is not a multiple of 3, so 255 pixels are used"


def test_an_address_repeats_its_settings(open_page: Callable[..., AppTest]) -> None:
    settings = {
        "mode": "enlarge",
        "factor": "2",
        "downsampling": "lanczos",
        "level": "0.02",
        "picture": "camera",
        "prior": "bf-unet-gray",
        "method": "paper",
        "samples": "2",
        "seed": "7",
        "h0": "0.3",
        "beta": "0.1",
        "sigma_0": "0.6",
        "sigma_L": "0.02",
        "power_law": "False",
    }
    page = open_page(**settings)
    assert page.query_params == settings
    assert page.get_by_key("factor").value == 2
    assert page.get_by_key("h0").value == 0.3
    assert page.number_input(key="seed").value == 7


def test_a_link_from_before_names_the_sampler(open_page: Callable[..., AppTest]) -> None:
    assert open_page(sampler="paper", h0="0.3").query_params["method"] == "paper"


def test_a_wrong_address_opens_the_page_with_its_defaults(open_page: Callable[..., AppTest]) -> None:
    page = open_page(factor="5", samples="many", picture="nothing", seed="-1", prior="bf-unet-gray")
    assert page.get_by_key("factor").value == 4
    assert page.slider(key="samples").value == 4
    assert page.query_params["picture"] == "astronaut"
    assert page.query_params["seed"] == "0"
    assert page.query_params["prior"] == "bf-unet-color", "a grey prior cannot serve a colour picture"


def test_the_mean_of_all_answers_is_there_at_once(open_page: Callable[..., AppTest]) -> None:
    page = open_page(method="mean")
    assert "samples" not in page.query_params
    run = run_to_the_end(page, "super-resolution")
    assert (run.parameters["evaluations"], run.parameters["prior"]) == (1, "bf-told-color")
    assert run.parameters["result"]["psnr"] > run.parameters["input"]["psnr"]


def test_the_mean_of_all_answers_is_offered_where_there_is_a_prior_for_it(open_page: Callable[..., AppTest]) -> None:
    assert open_page(method="mean", downsampling="nearest").query_params["method"] == "fast", "pixels were skipped"
    for picture in ("camera", "face"):
        address = open_page(method="mean", picture=picture).query_params
        assert (address["method"], address["prior"]) == ("mean", "bf-told-color")


def test_a_page_takes_the_seeds_that_the_command_line_takes(open_page: Callable[..., AppTest]) -> None:
    assert open_page(seed=str(2**53 - 1)).query_params["seed"] == str(2**53 - 1)
    assert open_page(seed=str(2**53)).query_params["seed"] == "0"


def test_defaults_are_one_click_away(open_page: Callable[..., AppTest]) -> None:
    page = open_page(method="fast", evaluations="6")
    buttons = {button.label: button for button in page.button}
    buttons["Paper's defaults"].click().run()
    address = page.query_params
    assert (address["method"], address["h0"], address["beta"]) == ("paper", "0.01", "0.01")
    buttons = {button.label: button for button in page.button}
    buttons["Our defaults"].click().run()
    assert (page.query_params["method"], page.query_params["evaluations"]) == ("fast", "14")
    assert "h0" not in page.query_params


def test_a_sample_that_stands_alone_takes_no_correlation(open_page: Callable[..., AppTest]) -> None:
    page = open_page("compressive_sensing")
    assert page.query_params["correlation"] == "0.5"
    page.slider(key="samples").set_value(1).run()
    assert page.query_params["correlation"] == "0.0"
    page.slider(key="samples").set_value(3).run()
    assert page.query_params["correlation"] == "0.5"
    page.select_slider(key="correlation").set_value(0.3).run()
    page.slider(key="samples").set_value(8).run()
    assert page.query_params["correlation"] == "0.3", "a choice is kept"


def test_a_run_is_scored_and_can_be_repeated(open_page: Callable[..., AppTest]) -> None:
    page = open_page(samples="2", evaluations="12", seed="5")
    upload(page, png(24, 32), "![me](http://site).png")
    assert "144 of 2 304 numbers kept" in text(page)
    run = run_to_the_end(page, TASK)
    assert r"Your run: \!\[me\]\(http\:\/\/site\)\.png" in text(page), "a name is no Markdown"
    assert run.mean.shape == (24, 32, 3)
    assert len(run.samples) == 2
    assert not np.array_equal(*run.samples)
    done = run.parameters
    assert done["evaluations"] == 12
    assert done["mean"]["psnr"] > done["input"]["psnr"], "a smooth picture gains by restoration"
    assert done["each"]["psnr_averages"][1] == pytest.approx(done["mean"]["psnr"], abs=1e-3)
    assert len(done["each"]["ssim_samples"]) == 2
    again = run_to_the_end(page, TASK)
    assert all(np.array_equal(one, other) for one, other in zip(run.samples, again.samples, strict=True))
    assert done.keys() >= {"task", "knobs", "prior", "method", "samples", "seed", "image_shape", "spread_skill"}


def test_the_samples_shrink_to_what_was_measured(open_page: Callable[..., AppTest]) -> None:
    page = open_page(mode="enlarge", samples="1", evaluations="4", downsampling="box", level="0")
    upload(page, png(9, 12))
    assert "324 of 5 184 numbers kept" in text(page)
    run = run_to_the_end(page, TASK)
    assert run.truth is None
    assert "mean" not in run.parameters
    assert "nothing can be scored" in text(page)
    assert run.mean.shape == (36, 48, 3)
    shrunk = run.mean.reshape(9, 4, 12, 4, 3).mean((1, 3))
    assert np.abs(shrunk - run.measured).max() < 2, "rounding to 8 bits and clipping aside"


def test_the_papers_sampler_keeps_few_frames(open_page: Callable[..., AppTest]) -> None:
    page = open_page(method="paper", samples="1", h0="0.05", beta="0.1")
    upload(page, png(16, 16))
    run = run_to_the_end(page, TASK)
    assert run.parameters["outcome"].startswith("converged")
    assert run.parameters["evaluations"] > FRAMES
    assert FRAMES / 2 <= len(run.frames) <= FRAMES
    steps = [frame.evaluations for frame in run.frames]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == run.parameters["evaluations"]


def test_a_grey_picture_gets_the_grey_prior(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    upload(page, png(40, 40, grey=True))
    assert page.selectbox(key="prior").value == "bf-unet-gray"
    assert "100 of 1 600 numbers kept" in text(page)


def test_a_large_picture_is_reduced_and_the_page_says_so(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    upload(page, png(300, 1200))
    assert "Your picture has 1200×300 pixels; it was reduced to 512×128" in text(page)
    page.get_by_key("mode").set_value("enlarge")
    page.run()
    assert "it was reduced to 192×48" in text(page)
    assert not page.exception


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"not a picture", "not a picture that can be read"), (b"", "is empty"), (png(4, 4), "8 pixels or more")],
    ids=["text", "empty", "tiny"],
)
def test_a_bad_upload_ends_in_a_sentence(open_page: Callable[..., AppTest], content: bytes, sentence: str) -> None:
    page = open_page()
    upload(page, content)
    assert not page.exception
    assert [sentence in error.value for error in page.error] == [True]
    assert "12 288 of 196 608 numbers kept" in text(page), "the example is still there"


def test_a_picture_too_narrow_for_the_factor_ends_in_a_sentence(open_page: Callable[..., AppTest]) -> None:
    page = open_page(factor="8")
    upload(page, png(8, 1000))
    assert not page.exception
    assert "sides of 8 pixels or more" in page.error[0].value


def test_a_run_can_be_stopped(open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = hold(monkeypatch)
    page = open_page(samples="1", evaluations="100", factor="4")
    page.button(key="run").click().run()
    job = submission(page, TASK).job
    stop = next(button for button in page.button if button.label == "Stop")
    stop.click().run()
    stopped.set()
    assert job.wait(PATIENCE)
    page.run()
    assert job.status == "cancelled"
    assert "Stopped after" in page.progress[0].text
    assert "A saved run" in text(page)


def test_downloads_hold_the_run() -> None:
    run = saved.load("super-resolution")
    picture = images.load_image(results.plain_png(run.mean))
    assert np.array_equal(images.to_uint8(picture), run.mean)
    animation = Image.open(io.BytesIO(results.animation(run)))
    assert animation.n_frames == len(run.frames) + 1
    with zipfile.ZipFile(io.BytesIO(results.archive(run))) as file:
        names, parameters = set(file.namelist()), json.loads(file.read("run.json"))
    assert names >= {"sample-1.png", "sample-4.png", "mean.png", "original.png", "measured.png", "run.json"}
    assert parameters == run.parameters


def test_a_band_is_stated_above_the_standard_deviation() -> None:
    def page() -> None:
        from dataclasses import replace

        from pages.ui import results, saved

        run = saved.load("super-resolution")
        for more in ({}, {"band": {"meaning": "In 90 of 100 pixels."}}):
            results.gallery(replace(run, parameters={**run.parameters, **more}), range(1))

    at = AppTest.from_function(page).run()
    assert not at.exception
    assert [each.value.endswith("In 90 of 100 pixels.") for each in at.caption if "disagree" in each.value] == [
        False,
        True,
    ]


def test_downloads_and_scores_of_an_exact_answer() -> None:
    """PSNR is infinite, and no pixel is left to cover: JSON has null for both, and the page has no gain."""

    def page() -> None:
        from dataclasses import replace
        from math import inf, nan

        from pages.ui import results, saved

        run = saved.load("super-resolution")
        exact = {part: {"psnr": inf, "ssim": 1.0} for part in ("input", "sample", "mean")}
        found = {"coverage": {"measured": nan, "expected": 0.9}, "spread_skill": nan}
        results.scores(replace(run, parameters={**run.parameters, **exact, **found}))

    at = AppTest.from_function(page).run()
    assert not at.exception
    assert [(each.value, each.delta) for each in at.metric][:2] == [("∞ dB", ""), ("∞ dB", "")]
    assert "nan" not in at.caption[-1].value

    run = saved.load("super-resolution")
    run = replace(run, parameters={**run.parameters, "mean": {"psnr": math.inf}, "spread_skill": math.nan})
    with zipfile.ZipFile(io.BytesIO(results.archive(run))) as file:
        for text in (file.read("run.json").decode(), results.as_json(run)):
            assert json.loads(text)["mean"] == {"psnr": None}
            assert json.loads(text)["spread_skill"] is None
