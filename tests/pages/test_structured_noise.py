"""The page for structured noise without a browser. Runs are of a few steps, with the project's own flows."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from invlib import images
from invlib.metrics import psnr_all_channels
from invlib.problems import structured as removal
from invlib.problems.structured import METHODS, TASKS
from pages.ui import draw, methods, noise_knobs, pixels, removal_examples, removal_results, subjects
from pages.ui.removals import Case, Removal, Settings, attempt, frame_steps, levels
from tests.pages.visitor import PATIENCE, png, run_to_the_end, submission, text, upload

PAGE = "structured_noise"


def tensor(picture: np.ndarray) -> torch.Tensor:
    image = torch.from_numpy(picture.astype(np.float32)) / 255
    return image[None, None] if image.ndim == 2 else image.permute(2, 0, 1)[None]


# --- The first visit, and settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", TASKS)
def test_each_noise_opens_with_a_saved_run(open_page: Callable[..., AppTest], noise: str) -> None:
    page = open_page(PAGE, noise=noise)
    assert "A saved run: " in text(page)
    assert page.progress[0].value == 100
    assert "Press Run" not in page.progress[0].text, "the page's defaults are those of the saved run"
    assert "dB before anything is done" in text(page)
    assert not page.error
    knobs = page.query_params.keys() - {"noise", "picture", "seed", "method", "beta", "steps", "gamma", "lam"}
    assert knobs == TASKS[noise].knobs.keys()


@pytest.mark.parametrize("noise", TASKS)
def test_a_saved_run_is_small_and_the_one_of_its_figures(noise: str) -> None:
    folder = removal_examples.FOLDER / noise
    assert sum(file.stat().st_size for file in folder.iterdir()) < 120_000
    run = removal_examples.load(noise)
    assert run.answers(removal_examples.case(noise))
    assert run.used(removal_examples.settings(noise))
    result = run.parameters["result"]["psnr"]
    assert float(psnr_all_channels(tensor(run.restored), tensor(run.truth))) == pytest.approx(result, abs=0.1)
    assert result > run.parameters["input"]["psnr"] + 3, "noise was removed"
    assert len(run.frames) == len(frame_steps(run.parameters["evaluations"]))


def test_an_address_repeats_its_settings(open_page: Callable[..., AppTest]) -> None:
    settings = {
        "noise": "compressive-sensing",
        "picture": "cartoon",
        "count": "500",
        "c": "0.2",
        "seed": "3",
        "method": "map-z",
        "beta": "5.0",
        "steps": "10",
        "gamma": "0.5",
        "lam": "0.1",
    }
    page = open_page(PAGE, **settings)
    assert page.query_params == settings
    assert "12 288 numbers, only 500 random sums" in text(page)


def test_a_wrong_address_opens_the_page_with_its_defaults(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, noise="hum", picture="nobody", c="nan", beta="-1", steps="ten", method="magic")
    defaults = removal.settings("sinusoidal", "map")
    assert page.query_params["noise"] == "sinusoidal"
    assert page.query_params["picture"] == "astronaut"
    assert page.query_params["c"] == str(TASKS["sinusoidal"].knobs["c"])
    assert float(page.query_params["beta"]) == defaults["smoothing"]
    assert int(page.query_params["steps"]) == defaults["steps"]


def test_another_noise_has_its_own_defaults(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, c="0.4", beta="5")
    page.selectbox(key="noise").set_value("compressive-sensing").run()
    assert not page.exception
    assert page.query_params["c"] == str(TASKS["compressive-sensing"].knobs["c"])
    assert float(page.query_params["beta"]) == removal.settings("compressive-sensing", "map")["smoothing"]
    page.selectbox(key="noise").set_value("one-bit").run()
    assert page.query_params["picture"] == "digit-1", "there are no faces for this prior"


def test_the_papers_settings_are_one_click_away(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, c="0.4", beta="5")
    next(button for button in page.button if button.label == "Paper's defaults").click().run()
    paper = removal.settings("sinusoidal", "map-z")
    address = page.query_params
    assert (address["method"], address["c"]) == ("map-z", "0.1")
    assert (float(address["beta"]), int(address["steps"])) == (paper["smoothing"], paper["steps"])
    next(button for button in page.button if button.label == "Our defaults").click().run()
    ours = removal.settings("sinusoidal", "map")
    assert page.query_params["method"] == "map"
    assert (float(page.query_params["beta"]), int(page.query_params["steps"])) == (ours["smoothing"], ours["steps"])


def test_every_knob_of_every_task_has_a_slider() -> None:
    assert {task: set(sliders) for task, sliders in noise_knobs.SLIDERS.items()} == {
        name: set(task.knobs) for name, task in TASKS.items()
    }


# --- Pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", subjects.SUBJECTS)
def test_pictures_are_as_the_priors_know_them(kind: str) -> None:
    shape = subjects.IMAGE_SHAPES[kind]
    pictures = [subjects.subject(kind, name) for name in subjects.SUBJECTS[kind]]
    for picture in pictures:
        assert tuple(picture.image.shape) == (1, *shape)
        assert torch.equal(images.load_image(images.encode_png(picture.image)), picture.image), "8-bit levels"
    assert len({images.fingerprint(picture.image) for picture in pictures}) == len(pictures)


def test_what_is_drawn_from_the_prior_says_so() -> None:
    for offered in subjects.SUBJECTS.values():
        for name, subject in offered.items():
            assert ("drawn from the prior" in subject.title) == name.startswith(("face-", "digit-"))


@pytest.mark.parametrize(("noise", "size"), [("radial", "64×64,"), ("one-bit", "28×28, in grey,")])
def test_an_own_picture_is_cropped_and_the_page_says_so(
    open_page: Callable[..., AppTest], noise: str, size: str
) -> None:
    page = open_page(PAGE, noise=noise)
    upload(page, png(90, 120))
    assert not page.exception
    assert f"Your picture has 120×90 pixels; the square in its middle was reduced to {size}" in text(page)


# --- Runs -------------------------------------------------------------------------------------------------------------

QUICK = {
    "radial": {"c": "0.4", "steps": "20"},
    "digits": {"count": "9", "steps": "20"},
    "one-bit": {"count": "3000", "steps": "80"},
}
"""What a few steps can do something about."""


@pytest.mark.parametrize("noise", QUICK)
def test_a_run_to_its_end(open_page: Callable[..., AppTest], noise: str) -> None:
    page = open_page(PAGE, noise=noise, seed="4", **QUICK[noise])
    steps = int(QUICK[noise]["steps"])
    run: Removal = run_to_the_end(page, f"structured-noise {noise}")
    assert f"Your run: finished its {steps} steps" in page.progress[0].text
    done = run.parameters
    assert done["result"]["psnr"] > done["input"]["psnr"]
    psnr = float(psnr_all_channels(tensor(run.restored), tensor(run.truth)))
    assert psnr == pytest.approx(done["result"]["psnr"], abs=0.1)
    assert {len(values) for name, values in done["history"].items() if name != "truth"} == {steps}
    assert len(done["history"]["truth"]["noise_log_prob"]) == len(run.frames) == len(frame_steps(steps))
    objective = np.array(done["history"]["noise_log_prob"]) + done["settings"]["smoothing"] * np.array(
        done["history"]["signal_log_prob"]
    )
    assert np.allclose(-objective, done["history"]["objective"], rtol=1e-3, atol=1)
    assert json.loads(json.dumps(done)) == done


def test_the_same_seed_gives_the_same_answer(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, noise="one-bit", seed="4", steps="10")
    once, again = (run_to_the_end(page, "structured-noise one-bit").restored for _ in range(2))
    assert np.array_equal(once, again)


def test_the_noise_found_and_the_picture_make_up_what_was_measured() -> None:
    run = removal_examples.load("sinusoidal")
    noise = (tensor(run.noise) - 0.5) * 2 * run.posed.top
    weak = (noise.abs() < 0.9 * run.posed.top) & (tensor(run.posed.view) > 0) & (tensor(run.posed.view) < 1)
    difference = (tensor(run.restored) + noise - tensor(run.posed.view))[weak]
    assert float(difference.abs().max()) < 3 / 255, "rounding to 8 bits aside"


def test_a_scribble_is_drawn_and_taken_off(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, noise="scribble", steps="20")
    content = png(64, 64)
    upload(page, content)
    assert "Nothing is drawn yet" in text(page)
    assert page.button(key="run").disabled
    picture = images.to_uint8(images.load_image(content))
    stroke = [{"points": [[8, 32], [56, 32]], "brush": 4}]
    page.session_state[draw.state_key("scribble", pixels.png(picture), width=64, height=64)] = {"strokes": stroke}
    page.run()
    run: Removal = run_to_the_end(page, "structured-noise scribble")
    pen = draw.rasterise(stroke, 64, 64)
    assert (run.posed.view[pen] == [255, 45, 135]).all()
    assert np.array_equal(run.posed.view[~pen], run.truth[~pen])
    # A smooth picture under a thin stroke is found again, with faces as the only model of pictures.
    assert run.parameters["result"]["psnr"] > run.parameters["input"]["psnr"] + 1


def test_a_run_can_be_stopped(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, steps="400")
    page.button(key="run").click().run()
    job = submission(page, "structured-noise sinusoidal").job
    next(button for button in page.button if button.label == "Stop").click().run()
    assert job.wait(PATIENCE)
    page.run()
    assert job.status == "cancelled"
    assert "Stopped after" in page.progress[0].text
    assert "A saved run" in text(page)


def test_another_page_keeps_its_own_run(open_page: Callable[..., AppTest]) -> None:
    """Compressive sensing is a task of two pages."""
    page = open_page()
    page.query_params.clear()
    page.switch_page("pages/structured_noise.py").run()
    page.selectbox(key="noise").set_value("compressive-sensing").run()
    page.query_params.clear()
    page.switch_page("pages/compressive_sensing.py").run()
    assert not page.exception
    assert "4 915 of 49 152 numbers kept" in text(page)


def test_numbers_of_the_same_strength_stand_below_one_another() -> None:
    wave = torch.arange(2500)[None] % 16 / 16
    picture = levels(wave, 1.0)
    assert picture.shape == (53, 48)
    assert (picture[:-1] == picture[0]).all()
    assert picture[-1, -1] == 128, "grey where there are no more"


def test_downloads_hold_the_run() -> None:
    run = removal_examples.load("scribble")
    with zipfile.ZipFile(io.BytesIO(removal_results.archive(run))) as file:
        assert set(file.namelist()) == {"original.png", "measured.png", "restored.png", "noise.png", "run.json"}
        assert json.loads(file.read("run.json")) == run.parameters
    assert np.array_equal(images.to_uint8(images.load_image(removal_results.plain_png(run.restored))), run.restored)


# --- Several methods --------------------------------------------------------------------------------------------------


def settings(noise: str, method: str) -> Settings:
    given = {"steps": 2} if "steps" in METHODS[method].settings else {}
    return Settings(method, removal.settings(noise, method, given))


@pytest.mark.parametrize("noise", ["sinusoidal", "compressive-sensing", "one-bit"])
def test_every_method_that_is_offered_runs(noise: str) -> None:
    kind = TASKS[noise].kind
    picture = subjects.subject(kind, next(iter(subjects.SUBJECTS[kind])))
    case = Case(noise, picture, {**TASKS[noise].knobs, **({"count": 500} if "count" in TASKS[noise].knobs else {})}, 0)
    for method in methods.available(TASKS[noise].methods):
        *_, last = attempt(case, settings(noise, method))
        assert last.outcome is not None
        assert last.outcome.picture.shape == images.to_uint8(picture.image).shape
        assert math.isfinite(last.outcome.psnr)


def test_methods_stand_side_by_side(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, steps="10")
    pills = page.get_by_key("methods sinusoidal")
    assert ("bm3d" in pills.options or "BM3D" in pills.options) == (find_spec("bm3d") is not None)
    pills.set_value(["map", "tv"])
    page.run()
    page.button(key="compare methods").click().run()
    job = page.session_state["methods of structured-noise sinusoidal"].job
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    assert [outcome.method for outcome in job.result.outcomes] == ["map", "tv"]
    run: Removal = run_to_the_end(page, "structured-noise sinusoidal")
    assert np.array_equal(job.result.outcomes[0].picture, run.restored), "the settings are those of the run"
    page.select_slider(key="c").set_value(0.2).run()
    assert "These are of other settings" in text(page)


def test_a_sweep_to_its_end(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, noise="radial", steps="10")
    page.get_by_key("swept radial").set_value(["tv"])
    page.run()
    page.button(key="start sweep structured-noise radial").click().run()
    job = page.session_state["sweep structured-noise radial"]
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    knob, values = TASKS["radial"].swept
    points = job.result.points
    assert knob == "c"
    assert tuple(point.x for point in points) == values
    assert list(points[0].scores) == [METHODS["map"].title, METHODS["tv"].title, methods.INPUT]
    noisy = [point.scores[methods.INPUT] for point in points]
    assert noisy == sorted(noisy, reverse=True), "more noise is worse"


def test_a_scribble_is_not_swept(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, noise="scribble")
    assert not any(heading.value == "A sweep" for heading in page.subheader)
