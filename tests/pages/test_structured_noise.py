"""The page for structured noise without a browser. Runs are of a few steps, with the project's own flows."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from invlib import cli, examples, images, runs
from invlib.metrics import psnr_all_channels
from invlib.problems import structured
from invlib.problems.structured import IMAGE_SHAPES, TASKS
from invlib.runs import Run, Settings, finish, frame_steps, noise_levels, solve
from invlib.solvers.methods import METHODS, suiting
from pages.ui import comparison, pixels, results, saved, series
from pages.ui.components import draw
from tests.pages.visitor import hold, png, run_to_the_end, submission, text, upload
from tests.patience import PATIENCE

PAGE = "structured_noise"
WAYS = METHODS["remove-noise"]


def defaults_of(task: str, method: str) -> dict[str, float]:
    return WAYS[method].complete(task, 1, {}, method)


def knobs_of(task: str) -> dict[str, float]:
    """The knobs of a task that have a slider, with their defaults."""
    return {knob.name: knob.default for knob in TASKS[task].knobs if knob.default is not None}


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
    knobs = page.query_params.keys() - {"noise", "size", "picture", "seed", "method", "gamma", "lam", "samples"}
    knobs -= {knob.key for knob in WAYS[page.query_params["method"]].knobs}
    assert knobs == knobs_of(noise).keys()


@pytest.mark.parametrize("noise", TASKS)
def test_a_saved_run_is_small_and_the_one_of_its_figures(noise: str) -> None:
    folder = saved.folder_of(f"structured-noise {noise}")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 120_000
    run = saved.load(f"structured-noise {noise}")
    assert run.answers(saved.problem(f"structured-noise {noise}"))
    assert run.used(saved.chosen(f"structured-noise {noise}"))
    result = (run.parameters.get("result") or run.parameters["mean"])["psnr"]
    assert float(psnr_all_channels(tensor(run.mean), tensor(run.truth))) == pytest.approx(result, abs=0.1)
    assert result > run.parameters["input"]["psnr"] + 3, "noise was removed"
    if "objective" in run.parameters["history"]:
        assert len(run.frames) == len(frame_steps(len(run.parameters["history"]["objective"])))
    assert run.frames[-1].evaluations == run.parameters["evaluations"]


def test_two_denoisers_take_a_photograph(open_page: Callable[..., AppTest]) -> None:
    """Flows do not, so they are not offered there."""
    page = open_page(PAGE, noise="sinusoidal", size="photograph", picture="camera", samples="2", evaluations="4")
    bm3d = ["BM3D"] if find_spec("bm3d") else []
    assert page.selectbox(key="method").options == ["Implicit priors", *bm3d, "Total variation"]
    run = run_to_the_end(page, "structured-noise sinusoidal")
    assert run.parameters["image_shape"] == [1, 256, 256]
    assert run.parameters["method"] == "pair"
    assert len(run.samples) == 2
    assert "Standard deviation of the noise" in text(page)
    page.button_group(key="size").set_value("small").run()
    assert "MAP" in page.selectbox(key="method").options
    assert page.query_params["method"] == "map"


def test_a_scribble_at_an_unknown_place_is_found(open_page: Callable[..., AppTest]) -> None:
    run = run_to_the_end(open_page(PAGE, noise="strokes", samples="2", evaluations="20"), "structured-noise strokes")
    assert run.parameters["mean"]["psnr"] > run.parameters["input"]["psnr"] + 4


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
    defaults = defaults_of("sinusoidal", "map")
    assert page.query_params["noise"] == "sinusoidal"
    assert page.query_params["picture"] == "astronaut"
    assert page.query_params["c"] == str(knobs_of("sinusoidal")["c"])
    assert float(page.query_params["beta"]) == defaults["smoothing"]
    assert int(page.query_params["steps"]) == defaults["steps"]


def test_another_noise_has_its_own_defaults(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, c="0.4", beta="5")
    page.selectbox(key="noise").set_value("compressive-sensing").run()
    assert not page.exception
    assert page.query_params["c"] == str(knobs_of("compressive-sensing")["c"])
    assert float(page.query_params["beta"]) == defaults_of("compressive-sensing", "map")["smoothing"]
    page.selectbox(key="noise").set_value("one-bit").run()
    assert page.query_params["picture"] == "digit-1", "there are no faces for this prior"


def test_the_papers_settings_are_one_click_away(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, c="0.4", beta="5")
    next(button for button in page.button if button.label == "Paper's defaults").click().run()
    paper = defaults_of("sinusoidal", "map-z")
    address = page.query_params
    assert (address["method"], address["c"]) == ("map-z", "0.1")
    assert (float(address["beta"]), int(address["steps"])) == (paper["smoothing"], paper["steps"])
    next(button for button in page.button if button.label == "Our defaults").click().run()
    ours = defaults_of("sinusoidal", "map")
    assert page.query_params["method"] == "map"
    assert (float(page.query_params["beta"]), int(page.query_params["steps"])) == (ours["smoothing"], ours["steps"])


@pytest.mark.parametrize("noise", TASKS)
def test_every_knob_of_every_task_has_a_slider(open_page: Callable[..., AppTest], noise: str) -> None:
    page = open_page(PAGE, noise=noise)
    assert knobs_of(noise).keys() <= {slider.key for slider in page.select_slider}


@pytest.mark.parametrize("method", suiting("remove-noise", "one-bit"))
def test_every_method_has_its_own_knobs(open_page: Callable[..., AppTest], method: str) -> None:
    page = open_page(PAGE, noise="one-bit", method=method)
    assert not page.exception
    assert page.query_params["method"] == method
    sliders = {slider.key for slider in (*page.select_slider, *page.slider)}
    assert {knob.key for knob in WAYS[method].knobs if knob.shown} <= sliders
    assert ("samples" in page.query_params) == WAYS[method].draws


# --- Pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", examples.SUBJECTS)
def test_pictures_are_as_the_priors_know_them(kind: str) -> None:
    shape = IMAGE_SHAPES[kind]
    pictures = [examples.subject(kind, name) for name in examples.SUBJECTS[kind]]
    for picture in pictures:
        assert tuple(picture.image.shape) == (1, *shape)
        assert torch.equal(images.quantise(picture.image), picture.image), "8-bit levels"
    assert len({images.fingerprint(picture.image) for picture in pictures}) == len(pictures)


def test_what_is_drawn_from_the_prior_says_so() -> None:
    for offered in examples.SUBJECTS.values():
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
    "digits": {"count": "9", "steps": "10"},
    "one-bit": {"count": "3000", "steps": "40"},
}
"""What a few steps can do something about."""


@pytest.mark.parametrize("noise", QUICK)
def test_a_run_to_its_end(open_page: Callable[..., AppTest], noise: str) -> None:
    page = open_page(PAGE, noise=noise, seed="4", **QUICK[noise])
    steps = int(QUICK[noise]["steps"])
    run: Run = run_to_the_end(page, f"structured-noise {noise}")
    assert f"Your run: finished its {steps} steps" in page.progress[0].text
    done = run.parameters
    assert done["result"]["psnr"] > done["input"]["psnr"]
    psnr = float(psnr_all_channels(tensor(run.mean), tensor(run.truth)))
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
    once, again = (run_to_the_end(page, "structured-noise one-bit").mean for _ in range(2))
    assert np.array_equal(once, again)


def test_the_noise_found_and_the_picture_make_up_what_was_measured() -> None:
    run = saved.load("structured-noise sinusoidal")
    noise = (tensor(run.noise_found) - 0.5) * 2 * run.noise_top
    weak = (noise.abs() < 0.9 * run.noise_top) & (tensor(run.measured) > 0) & (tensor(run.measured) < 1)
    difference = (tensor(run.mean) + noise - tensor(run.measured))[weak]
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
    run: Run = run_to_the_end(page, "structured-noise scribble")
    pen = draw.rasterise(stroke, 64, 64)
    assert (run.measured[pen] == [255, 45, 135]).all()
    assert np.array_equal(run.measured[~pen], run.truth[~pen])
    # A smooth picture under a thin stroke is found again, with faces as the only model of pictures.
    assert run.parameters["result"]["psnr"] > run.parameters["input"]["psnr"] + 1


def test_a_run_can_be_stopped(open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = hold(monkeypatch)
    page = open_page(PAGE, steps="400")
    page.button(key="run").click().run()
    job = submission(page, "structured-noise sinusoidal").job
    next(button for button in page.button if button.label == "Stop").click().run()
    stopped.set()
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
    picture = noise_levels(wave, 1.0)
    assert picture.shape == (53, 48)
    assert (picture[:-1] == picture[0]).all()
    assert picture[-1, -1] == 128, "grey where there are no more"


def test_downloads_hold_the_run() -> None:
    run = saved.load("structured-noise scribble")
    with zipfile.ZipFile(io.BytesIO(results.archive(run))) as file:
        names = {"picture", "original", "measured", "sample-1", "mean", "std", "error", "noise"}
        assert set(file.namelist()) == {*(f"{name}.png" for name in names), "run.json"}
        assert json.loads(file.read("run.json")) == run.parameters
    picture = Image.open(io.BytesIO(results.plain_png(run.mean)))
    assert np.array_equal(np.asarray(picture), run.mean)
    animation = Image.open(io.BytesIO(results.animation(run)))
    assert animation.n_frames == len(run.frames) + 1


def test_a_method_that_draws_gives_several_samples(open_page: Callable[..., AppTest]) -> None:
    """The descents of a GAN start at codes of their own, so that their answers differ."""
    page = open_page(PAGE, noise="one-bit", method="mle", samples="3", steps="10", count="500")
    run = run_to_the_end(page, "structured-noise one-bit")
    assert len(run.samples) == 3
    assert not np.array_equal(run.samples[0], run.samples[1])
    assert run.parameters["spread_skill"] is not None
    assert run.std.any()
    alone = open_page(PAGE, noise="one-bit", method="mle", samples="1", steps="10", count="500")
    assert np.array_equal(run_to_the_end(alone, "structured-noise one-bit").samples[0], run.samples[0])


@pytest.mark.parametrize(("noise", "method"), [("radial", "mle"), ("scribble", "map")])
def test_a_run_of_the_page_is_replayed_by_the_command_line(
    open_page: Callable[..., AppTest], tmp_path: Path, noise: str, method: str
) -> None:
    page = open_page(PAGE, noise=noise, method=method, samples="1", steps="10")
    run = run_to_the_end(page, f"structured-noise {noise}")
    (tmp_path / "run.json").write_text(json.dumps(run.parameters))
    assert cli.main(["remove-noise", "--replay", str(tmp_path / "run.json"), "--out", str(tmp_path)]) == 0
    again = np.asarray(Image.open(tmp_path / "astronaut-restored.png"))
    assert np.array_equal(again, run.mean)


# --- Several methods --------------------------------------------------------------------------------------------------


def settings(problem: structured.StructuredProblem, method: str) -> Settings:
    few = {"steps": 2} if any(knob.name == "steps" for knob in WAYS[method].knobs) else {}
    return runs.settings(problem, method, few)


@pytest.mark.parametrize("noise", ["sinusoidal", "compressive-sensing", "one-bit"])
def test_every_method_that_is_offered_runs(noise: str) -> None:
    kind = TASKS[noise].pictures
    picture = examples.subject(kind, next(iter(examples.SUBJECTS[kind])))
    problem = structured.pose(noise, picture, {"count": 100} if "count" in knobs_of(noise) else {})
    for method in comparison.offered(noise):
        run = finish(solve(problem, settings(problem, method)))
        assert run.mean.shape == images.to_uint8(picture.image).shape
        assert math.isfinite(series.psnr_of(run))


def test_methods_stand_side_by_side(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, method="mle", samples="1", steps="10")
    pills = page.get_by_key("methods sinusoidal")
    assert ("bm3d" in pills.options or "BM3D" in pills.options) == (find_spec("bm3d") is not None)
    pills.set_value(["mle", "tv"])
    page.run()
    page.button(key="start methods of structured-noise sinusoidal").click().run()
    job = page.session_state["submission methods of structured-noise sinusoidal"].job
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    assert [each.parameters["method"] for each in job.result.runs] == ["mle", "tv"]
    run: Run = run_to_the_end(page, "structured-noise sinusoidal")
    assert np.array_equal(job.result.runs[0].mean, run.mean), "the settings are those of the run"
    page.select_slider(key="c").set_value(0.2).run()
    assert "These are of other settings" in text(page)


def test_a_sweep_to_its_end(open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    knob, values = "c", (0.05, 0.3)  # two are enough for a curve, and quicker than the five that there are
    assert TASKS["radial"].swept is not None
    assert set(values) < set(TASKS["radial"].swept[1])
    monkeypatch.setitem(TASKS, "radial", replace(TASKS["radial"], swept=(knob, values)))
    page = open_page(PAGE, noise="radial", steps="10")
    page.get_by_key("swept radial").set_value(["tv"])
    page.run()
    page.button(key="start sweep structured-noise radial").click().run()
    job = page.session_state["submission sweep structured-noise radial"].job
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    names = WAYS["map"].title, WAYS["tv"].title
    points = series.Sweep("", "", values, names, comparison.INPUT).points(job.result.runs)
    assert [run.parameters["knobs"][knob] for run in job.result.runs] == [x for x in values for _ in names]
    assert tuple(x for x, _ in points) == values
    assert list(points[0][1]) == [*names, comparison.INPUT]
    noisy = [scores[comparison.INPUT] for _, scores in points]
    assert noisy == sorted(noisy, reverse=True), "more noise is worse"


def test_a_scribble_is_not_swept(open_page: Callable[..., AppTest]) -> None:
    page = open_page(PAGE, noise="scribble")
    assert not any(heading.value == "A sweep" for heading in page.subheader)
