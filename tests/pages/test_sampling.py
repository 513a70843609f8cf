"""The page that samples a prior alone. Runs are of digits, in a few large steps."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from invlib import cli
from invlib.runs import Run
from pages.ui import betas, results, sampling, saved
from tests.pages.visitor import hold, run_to_the_end, submission, text
from tests.patience import PATIENCE

QUICK = {"kind": "digits", "h0": "0.3", "beta": "0.2", "sigma_L": "0.05", "seed": "3"}


def close(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures are the same up to the rounding that depends on how many samples run together."""
    return np.abs(one.astype(int) - other.astype(int)).mean() < 2


def replayed(run: Run, folder: Path) -> list[np.ndarray]:
    """The samples that the command line draws from a run's JSON."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(run.parameters))
    assert cli.main(["sample", "--replay", str(folder / "run.json"), "--out", str(folder)]) == 0
    return [np.asarray(Image.open(folder / f"sample-{number + 1}.png")) for number in range(len(run.samples))]


def test_the_first_visit_shows_the_saved_run(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling")
    assert "A saved run: 64×64 pixels, 8 samples, paper sampler" in text(page)
    assert page.progress[0].value == 100
    assert "Press Run" not in page.progress[0].text, "the page's defaults are those of the saved run"
    assert not page.metric
    assert not page.error


def test_the_saved_run_is_small() -> None:
    folder = saved.FOLDER / "sampling"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 200_000
    run = saved.load("sampling")
    assert {picture.shape for picture in run.samples} == {(64, 64, 3)}
    assert run.frames[-1].evaluations == run.parameters["evaluations"]


def test_each_kind_has_its_priors_and_defaults(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling")
    seen = {}
    for kind in ("faces", "colour", "grey", "digits"):
        page.get_by_key("kind").set_value(kind)
        page.run()
        assert not page.exception
        address = page.query_params
        seen[kind] = (*(address[name] for name in ("prior", "size", "beta", "sigma_0")), page.slider(key="samples").max)
    assert seen == {
        "faces": ("bf-unet-faces", "64", "0.7", "8.0", 16),
        "colour": ("bf-cnn-color", "96", "0.5", "1.0", 8),
        "grey": ("bf-cnn-gray", "96", "0.5", "1.0", 8),
        "digits": ("bf-cnn-mnist", "28", "0.1", "1.0", 16),
    }


def test_a_prior_is_offered_for_the_pictures_that_it_draws() -> None:
    offered = {kind: list(sampling.priors(kind)) for kind in sampling.KINDS}
    assert offered["colour"][0] == "bf-cnn-color"
    assert offered["grey"][0] == "bf-cnn-gray"
    assert set(offered["grey"]) >= {"bf-unet-gray", "bf-recurrent-gray"}
    assert offered["faces"] == ["bf-unet-faces", "realnvp-faces", "dcgan-faces"]
    assert offered["digits"] == ["bf-cnn-mnist", "realnvp-mnist-noise", "realnvp-mnist", "dcgan-mnist", "vae-mnist"]
    assert sampling.KINDS["grey"].has("mine", {"channels": 1})
    assert sampling.priors("faces")["realnvp-faces"] == "Faces, 64×64: RealNVP"


def drawn_at_once(page: AppTest) -> Run:
    """The run that began by itself."""
    assert submission(page, "sampling").job.wait(PATIENCE)
    page.run()
    assert not page.exception
    assert "Your run: drawn in one evaluation" in page.progress[0].text
    return page.session_state["run sampling"]


@pytest.mark.parametrize(("name", "method", "temperature"), [("realnvp-mnist", "flow", 0.7), ("dcgan-mnist", "gan", 1)])
def test_a_flow_and_a_gan_draw_at_once(
    open_page: Callable[..., AppTest], tmp_path: Path, name: str, method: str, temperature: float
) -> None:
    page = open_page("sampling", kind="digits", prior=name)
    run = drawn_at_once(page)
    assert page.query_params == {
        "kind": "digits", "mode": "draw", "size": "28", "prior": name, "method": method, "samples": "8", "seed": "0",
        "temperature": str(float(temperature)),
    }  # fmt: skip
    assert ("bits for each of the 784 numbers" in text(page)) == (method == "flow")
    assert ("A generator cannot say" in text(page)) == (method == "gan")
    assert all(map(close, run.samples, replayed(run, tmp_path / "drawn")))

    page.select_slider(key="temperature").set_value(0.5).run()
    assert drawn_at_once(page).parameters["settings"] == {"temperature": 0.5}
    page.get_by_key("mode").set_value("interpolate")
    page.run()
    way = drawn_at_once(page)
    assert all(map(close, way.samples, replayed(way, tmp_path / "way")))
    assert Image.open(io.BytesIO(results.animation(way))).n_frames > 8, "there and back"


def test_a_visitor_comes_from_a_denoiser_to_a_flow_and_back(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling", kind="digits", size="56")
    page.selectbox(key="prior").set_value("realnvp-mnist").run()
    assert drawn_at_once(page).mean.shape == (28, 28)
    assert not [slider for slider in page.select_slider if slider.key == "size"], "it draws one size only"
    page.selectbox(key="prior").set_value("bf-cnn-mnist").run()
    assert page.query_params["method"] == "paper"
    assert "Press Run" in page.progress[0].text


def test_an_address_repeats_its_settings(open_page: Callable[..., AppTest]) -> None:
    settings = {
        "kind": "grey",
        "mode": "interpolate",
        "size": "128",
        "prior": "bf-unet-gray",
        "method": "paper",
        "samples": "6",
        "seed": "7",
        "h0": "0.3",
        "beta": "1.0",
        "sigma_0": "0.6",
        "sigma_L": "0.02",
        "power_law": "False",
    }
    page = open_page("sampling", **settings)
    assert page.query_params == settings
    assert "A saved run: 64×64 pixels" in text(page), "it stays in the closer look until there is another"
    assert "samples 1 and 2 of this seed" in text(page)
    assert "Press Run" in page.progress[0].text


def test_a_wrong_address_opens_the_page_with_its_defaults(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling", kind="digits", mode="interpolate", samples="1", size="96", prior="bf-cnn-gray", h0="7")
    address = page.query_params
    assert address["samples"] == "8", "the way from one sample to another has two ends"
    assert (address["size"], address["prior"], address["h0"]) == ("28", "bf-cnn-mnist", "0.02")


def test_the_papers_defaults_are_one_click_away(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling", **QUICK)
    next(button for button in page.button if button.label == "Paper's defaults").click().run()
    assert (page.query_params["h0"], page.query_params["beta"]) == ("0.01", "1.0")
    next(button for button in page.button if button.label == "Our defaults").click().run()
    assert (page.query_params["h0"], page.query_params["beta"]) == ("0.02", "0.1")


def test_a_run_is_repeated_by_its_json(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = run_to_the_end(open_page("sampling", samples="3", **QUICK), "sampling")
    assert run.parameters["outcome"].startswith("converged")
    assert {sample.shape for sample in run.samples} == {(28, 28)}
    assert not close(run.samples[0], run.samples[1])
    assert all(map(close, run.samples, replayed(run, tmp_path / "out")))


def test_an_interpolation_goes_from_sample_1_to_sample_2(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    page = open_page("sampling", samples="2", **QUICK)
    drawn = run_to_the_end(page, "sampling")
    page.get_by_key("mode").set_value("interpolate")
    page.run()
    assert "Press Run." in page.progress[0].text, "a run that drew samples is not shown as the way between two"
    page.slider(key="samples").set_value(4)
    way = run_to_the_end(page, "sampling")
    assert close(way.samples[0], drawn.samples[0])
    assert close(way.samples[-1], drawn.samples[1])
    assert not any(close(one, end) for one in way.samples[1:-1] for end in drawn.samples)
    assert all(map(close, way.samples, replayed(way, tmp_path / "out")))
    animation = Image.open(io.BytesIO(results.animation(way)))
    assert animation.n_frames == 7, "there and back"


def test_downloads_hold_no_average_of_pictures_that_have_nothing_in_common() -> None:
    run = saved.load("sampling")
    assert results.sheet(run.samples).shape == (3 * 66 + 2, 3 * 66 + 2, 3)
    with zipfile.ZipFile(io.BytesIO(results.archive(run))) as file:
        assert set(file.namelist()) == {*(f"sample-{number}.png" for number in range(1, 9)), "run.json"}


def test_a_start_below_the_end_is_refused_in_a_sentence(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling", **(QUICK | {"sigma_0": "0.1", "sigma_L": "0.1"}))
    assert [error.value for error in page.error] == ["Sigma_L (0.1) must be below sigma_0 (0.1)."]


def test_the_same_noise_under_different_betas(open_page: Callable[..., AppTest]) -> None:
    page = open_page("sampling", samples="1", **(QUICK | {"beta": "0.5"}))
    run = run_to_the_end(page, "sampling")
    page.button(key="start betas").click().run()
    job = page.session_state["submission betas"].job
    assert job.wait(PATIENCE)
    page.run()
    assert not page.exception
    climbs = [climb.parameters for climb in job.result.runs]
    assert tuple(climb["settings"]["beta"] for climb in climbs) == betas.BETAS
    assert len({climb["history"]["sigma"][0] for climb in climbs}) == 1, "they start from the same noise"
    counts = [climb["history"]["evaluations"][-1] for climb in climbs]
    assert counts == sorted(set(counts)), "the more noise is added, the longer it takes"
    assert np.array_equal(job.result.runs[1].samples[0], run.samples[0])
    assert climbs[1]["history"]["evaluations"] == run.parameters["history"]["evaluations"]
    assert "Seed 3, h₀ = 0.3, prior bf-cnn-mnist" in text(page)


def test_a_comparison_can_be_stopped(open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = hold(monkeypatch)
    page = open_page("sampling", kind="colour", size="128")
    page.button(key="start betas").click().run()
    job = page.session_state["submission betas"].job
    next(button for button in page.button if button.label == "Stop").click().run()
    stopped.set()
    assert job.wait(PATIENCE)
    page.run()
    assert job.status == "cancelled"
    assert not page.exception
    assert page.button(key="start betas")
