"""The other problems' pages: what is measured, to the end, and back."""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from invlib import runs
from invlib.images import Picture
from invlib.problems import operators
from pages.ui import pixels, saved, series
from pages.ui.components import draw
from tests.pages.visitor import png, run_to_the_end, submission, text, upload
from tests.patience import PATIENCE

CASES = {
    "low-pass": ("deblurring", "deblurring", {"keep": "0.2"}),
    "gaussian": ("deblurring", "deblurring", {"blur": "gaussian", "gaussian": "1.5", "circular": "True"}),
    "motion": ("deblurring", "deblurring", {"blur": "motion", "length": "5", "angle": "45", "circular": "True"}),
    "drawn": ("deblurring", "deblurring", {"blur": "drawn", "circular": "True"}),
    "block": ("inpainting", "inpainting", {"missing": "block", "size": "0.25", "left": "0", "top": "100"}),
    "pixels": ("inpainting", "random-pixels", {"missing": "pixels", "keep": "0.4"}),
    "structured": ("compressive_sensing", "compressive-sensing", {"keep": "0.25"}),
    "dense": ("compressive_sensing", "compressive-sensing", {"basis": "dense", "keep": "0.1"}),
}


@pytest.mark.parametrize(("name", "task", "address"), CASES.values(), ids=CASES)
def test_a_run_agrees_with_what_was_measured(
    open_page: Callable[..., AppTest], name: str, task: str, address: dict[str, str]
) -> None:
    basis = operators.DenseRows((3, 32, 40), 0.1)  # The page need not wait for it.
    page = open_page(name, samples="2", evaluations="4", **address)
    upload(page, png(32, 40))
    assert basis.measurement_shape == (384,)
    assert address.items() <= page.query_params.items()
    run = run_to_the_end(page, task)
    done = run.parameters
    kept = f"{done['measured']:,}".replace(",", " ")
    assert f"{kept} of 3 840 numbers kept" in text(page)
    # The JSON alone says what was measured: the same operator, of the picture in it.
    assert run.picture is not None
    picture = Picture(done["picture"], torch.from_numpy(run.picture).permute(2, 0, 1)[None] / 255, "")
    problem, _ = runs.read(done, picture)
    assert problem.parameters == {name: done[name] for name in problem.parameters}
    operator, measurements = problem.operator, problem.measurements
    for sample in run.samples:
        difference = operator.measure(torch.from_numpy(sample).permute(2, 0, 1)[None] / 255) - measurements
        assert float(difference.square().mean().sqrt()) < 2 / 255, "rounding to 8 bits and clipping aside"
    assert done["mean"]["psnr"] > done["input"]["psnr"]


def test_a_dense_basis_is_made_in_the_queue(open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it waits for its turn like all other work, while the page says what it waits for."""
    makers, orthonormalise, may_go_on = [], operators.orthonormalise, threading.Event()

    def slow(matrix: torch.Tensor) -> torch.Tensor:
        makers.append(threading.current_thread().name)
        may_go_on.wait(PATIENCE)
        return orthonormalise(matrix)

    monkeypatch.setattr(operators, "orthonormalise", slow)
    page = open_page("compressive_sensing", basis="dense", keep="0.02")
    assert "The random weights are being made orthonormal" in text(page)
    assert not page.button
    job = submission(page, "basis").job
    may_go_on.set()
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    assert "246 of 12 288 numbers kept" in text(page)
    assert makers == ["invlib-jobs"]


@pytest.mark.parametrize("mode", ["blur", "sharpen"])
def test_a_blur_reaches_beyond_the_frame(open_page: Callable[..., AppTest], mode: str) -> None:
    page = open_page("deblurring", mode=mode, blur="motion", length="5", angle="0", samples="1", evaluations="4")
    upload(page, png(40, 48))
    run = run_to_the_end(page, "deblurring")
    assert run.measured is not None
    assert run.mean.shape == run.measured.shape == ((40, 48, 3) if mode == "sharpen" else (36, 44, 3))
    assert ("noise_estimate" in run.parameters) == (run.truth is None) == (mode == "sharpen")
    assert "Each is an average over the shape of the blur" in text(page)
    assert ("noise estimated at" in text(page)) == (mode == "sharpen")


def test_an_untouched_setting_follows_its_default(open_page: Callable[..., AppTest]) -> None:
    page = open_page("inpainting", missing="pixels", keep="0.1")
    assert page.query_params["correlation"] == "0.5"
    page.session_state["missing"] = "block"
    assert page.run().query_params["correlation"] == "0.25", "the default for a hole"
    page.select_slider(key="correlation").set_value(0.3).run()
    page.session_state["missing"] = "pixels"
    assert page.run().query_params["correlation"] == "0.3", "a choice is kept"


@pytest.mark.parametrize("name", ["deblurring", "inpainting", "compressive_sensing"])
def test_the_first_visit_shows_a_saved_run(open_page: Callable[..., AppTest], name: str) -> None:
    page = open_page(name)
    assert "A saved run: " in text(page)
    assert page.progress[0].value == 100
    assert "Press Run" not in page.progress[0].text
    assert not page.error


def test_what_is_painted_is_missing(open_page: Callable[..., AppTest]) -> None:
    page = open_page("inpainting", samples="1", evaluations="4")
    assert "69 747 of 76 800 numbers kept" in text(page), "the scribble of the example"
    content = png(32, 32)
    upload(page, content)
    assert "3 072 of 3 072 numbers kept" in text(page), "nothing is painted on the visitor's own picture yet"
    stroke = [{"points": [[4, 16], [28, 16]], "brush": 6}]
    picture = np.asarray(Image.open(io.BytesIO(content)))
    page.session_state[draw.state_key("hole", pixels.png(picture), width=32, height=32)] = {"strokes": stroke}
    page.run()
    painted = int(draw.rasterise(stroke, 32, 32).sum())
    assert painted > 100
    assert f"{3072 - 3 * painted:,}".replace(",", " ") + " of 3 072 numbers kept" in text(page)
    run = run_to_the_end(page, "inpainting")
    assert np.array_equal(run.samples[0][:8], run.picture[:8]), "what was not painted stays"


def test_an_object_is_removed_without_scores(open_page: Callable[..., AppTest]) -> None:
    page = open_page("inpainting", mode="remove", samples="1", evaluations="4")
    assert page.button(key="run").disabled, "nothing is painted yet"
    assert "Nothing is painted over yet" in text(page)


def test_a_sweep_to_its_end(open_page: Callable[..., AppTest]) -> None:
    page = open_page("compressive_sensing", samples="1", evaluations="4")
    upload(page, png(24, 24))
    assert "This takes about 1 second here." in text(page)
    page.button(key="start sweep compressive-sensing").click().run()
    job = page.session_state["submission sweep compressive-sensing"].job
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    keeps = [0.02, 0.04, 0.1, 0.15, 0.25, 0.5]
    points = series.Sweep("", "", keeps).points(job.result.runs)
    assert [x for x, _ in points] == keeps
    assert points[-1][1][series.ANSWER] > points[0][1][series.ANSWER]
    assert all(math.isfinite(scores[series.BASELINE]) for _, scores in points)


def test_a_page_keeps_its_settings_while_another_is_open(open_page: Callable[..., AppTest]) -> None:
    page = open_page()
    page.get_by_key("factor").set_value(8)
    page.slider(key="samples").set_value(2)
    page.run()
    page.query_params.clear()  # as a click on the other page's name does
    page.switch_page("pages/deblurring.py").run()
    assert page.slider(key="samples").value == 4
    assert page.query_params["picture"] == saved.EXAMPLES["deblurring"].picture
    page.query_params.clear()
    page.switch_page("pages/super_resolution.py").run()
    assert page.get_by_key("factor").value == 8
    assert page.slider(key="samples").value == 2
    assert not page.exception


def test_a_change_starts_a_run_if_asked_to(open_page: Callable[..., AppTest]) -> None:
    page = open_page("deblurring", samples="1", evaluations="4")
    upload(page, png(24, 24))
    page.toggle(key="live").set_value(True).run()
    first = submission(page, "deblurring").job
    assert first.wait(PATIENCE)
    page.run()
    assert submission(page, "deblurring").job is first, "nothing has changed"
    page.select_slider(key="keep").set_value(0.4).run()
    second = submission(page, "deblurring").job
    assert second is not first
    assert second.wait(PATIENCE)
    assert second.result.parameters["knobs"]["keep"] == 0.4
