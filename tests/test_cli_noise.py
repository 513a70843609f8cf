"""`remove-noise` on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from invlib import examples, images
from invlib.cli import main
from invlib.cli.remove_noise import NOISES
from invlib.metrics import psnr_all_channels
from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.problems.structured import TASKS
from invlib.solvers import methods
from invlib.solvers.methods import FAMILIES, suiting
from tests.small_priors import use_small_priors

METHODS = methods.METHODS["remove-noise"]
SHIPPED = checkpoints.weights_folder()


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use_small_priors(tmp_path / "weights", monkeypatch)


@pytest.fixture
def picture():
    images.save_image(images.centre_square(examples.example("astronaut"), 64), "astronaut.png")
    return "astronaut.png"


@pytest.fixture
def scribble():
    """A pink line and a faint blue one on black."""
    drawing = torch.zeros(3, 64, 64)
    drawing[:, 30:34, 8:56] = torch.tensor([1.0, 0.2, 0.6])[:, None, None]
    drawing[2, 10:50, 40:43] = 0.2
    images.save_image(drawing, "scribble.png")
    return "scribble.png"


def run(capsys, *arguments) -> dict:
    assert main(["remove-noise", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments) -> str:
    try:
        status = main(["remove-noise", *map(str, arguments)])
    except SystemExit as error:
        status = error.code
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.count("error:") == 1
    assert captured.err.strip().count("\n") == 0, "one sentence"
    return captured.err


KEYS = {
    "command", "task", "knobs", "method", "settings", "samples", "seed", "prior", "picture", "picture_shape",
    "image_shape", "resized", "fingerprint", "simulated", "measured", "evaluations", "seconds", "skipped", "outcome",
    "history", "files",
}  # fmt: skip
SCORES = {"input", "result"}

FEW = {"digits": ("--count", 2), "compressive-sensing": ("--count", 100), "one-bit": ("--count", 100)}


@pytest.mark.parametrize(
    ("noise", "method"),
    [
        (noise, method)
        for noise in (*NOISES, "scribble.png")
        for method in suiting("remove-noise", noise.replace(".png", ""))
        if method != "pair"
    ],
)
def test_every_noise_with_every_method(capsys, picture, scribble, noise, method):
    if method == "bm3d":
        pytest.importorskip("bm3d")
    steps = ("--steps", 2) if "steps" in {knob.name for knob in METHODS[method].knobs} else ()
    row = run(capsys, picture, "--noise", noise, "--method", method, *steps, *FEW.get(noise, ()))
    assert set(row) == KEYS | SCORES
    task = TASKS.get(noise, TASKS["scribble"])
    shape = [1, 28, 28] if task.pictures == "mnist" else [3, 64, 64]
    assert (row["image_shape"], row["resized"], row["simulated"]) == (shape, shape[1] == 28, True)
    assert (row["method"], row["evaluations"], row["skipped"]) == (method, 2 if steps else 0, 0)
    prior = METHODS[method].prior
    assert row["prior"] == (f"{FAMILIES[prior]}-{task.pictures}" if prior else None)
    truth = row["history"].pop("truth")
    assert {len(numbers) for numbers in row["history"].values()} == {2 if steps else 1}
    assert set(row["history"]) == {"evaluations", "objective", "noise_log_prob", "signal_log_prob", "floor"}
    assert set(truth) == ({"signal_log_prob", "steps", "noise_log_prob"} if row["prior"] and prior == Flow else set())
    assert set(row["input"]) == set(row["result"]) == {"psnr", "ssim"}
    names = ["restored", "noisy"] + ([] if noise in ("compressive-sensing", "one-bit") else ["noise"])
    assert row["files"] == [f"out/astronaut-{name}.png" for name in names]
    assert [list(images.load_image(file).shape[1:]) for file in row["files"]] == [shape] * len(names)


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 40, 52), (3, 72, 61)])
@pytest.mark.parametrize("noise", ["sinusoidal", "radial", "digits", "scribble.png", "found", "measured"])
def test_two_denoisers_take_pictures_of_any_size(capsys, noise, shape):
    images.save_image(images.quantise(torch.rand(1, *shape)), "any.png")
    strokes = torch.zeros(1, 3, *shape[1:])
    strokes[:, 0, 10:14, 8:30] = 1
    images.save_image(strokes, "strokes.png")
    given = {
        "scribble.png": ["--noise", "strokes.png"],
        "found": ["--noise", "strokes.png", "--find"],
        "measured": ["--find", "--measured"],
        "digits": ["--noise", "digits", "--count", 1],
    }.get(noise, ["--noise", noise])
    row = run(capsys, "any.png", *given, "--method", "pair", "--samples", 2, "--evaluations", 6)
    assert (row["image_shape"], row["resized"], row["samples"]) == ([*shape], False, 2)
    assert row["prior"] == ("bf-unet-color" if shape[0] == 3 else "bf-unet-gray")
    assert row["task"] == {"scribble.png": "scribble", "found": "strokes", "measured": "strokes"}.get(noise, noise)
    assert ("mean" in row) == ("spread_skill" in row) == (noise != "measured")
    assert row["evaluations"] <= 6
    assert row["history"]["evaluations"] == sorted(set(row["history"]["evaluations"]))
    assert [list(images.load_image(file).shape[1:]) for file in row["files"][:3]] == [[*shape]] * 3


def test_the_strength_of_stripes_is_estimated(capsys, picture):
    """A white prior takes a part of it for the picture, so what is estimated is only of the right size."""
    noise = ("--noise", "sinusoidal", "--c", 0.2, "--estimate-c")
    row = run(capsys, picture, *noise, "--method", "pair", "--evaluations", 4)
    assert row["knobs"] == {"c": 0.2, "estimate_c": True}
    assert 0.02 < row["c_estimate"] < 0.4
    assert "tv has to be told how strong the noise is" in refused(capsys, picture, *noise, "--method", "tv")


def test_the_default_for_other_pictures_than_small_ones_is_two_denoisers(capsys):
    images.save_image(torch.rand(1, 3, 40, 40), "other.png")
    row = run(capsys, "other.png", "--noise", "radial", "--evaluations", 4)
    assert (row["method"], row["image_shape"]) == ("pair", [3, 40, 40])
    sentence = refused(capsys, "other.png", "--noise", "radial", "--find")
    assert "--find is for strokes" in sentence
    images.save_image(torch.ones(1, 1, 30, 40), "strokes.png")
    images.save_image(torch.rand(1, 3, 40, 52), "wide.png")
    assert "draw the strokes on a copy" in refused(capsys, "wide.png", "--noise", "strokes.png")


def test_several_samples_are_written_and_scored(capsys, picture):
    row = run(capsys, picture, "--noise", "radial", "--method", "mle", "--steps", 2, "--samples", 3)
    assert set(row) == KEYS | {"input", "sample", "mean", "coverage", "spread_skill", "calibration", "each"}
    assert row["samples"] == 3
    names = ["restored", "noisy", "noise", "1", "2", "3", "mean", "std"]
    assert row["files"] == [f"out/astronaut-{name}.png" for name in names]
    assert "map gives one answer" in refused(capsys, picture, "--noise", "radial", "--samples", 2)


def test_the_settings_are_the_task_s_unless_given(capsys, picture):
    row = run(capsys, picture, "--noise", "sinusoidal", "--method", "asim", "--gamma", 3, "--steps", 1)
    assert (row["task"], row["knobs"], row["settings"]) == ("sinusoidal", {"c": 0.1}, {"gamma": 3, "steps": 1})
    row = run(capsys, picture, "--noise", "radial", "--method", "map-z", "--steps", 1, "--c", 0.3)
    assert (row["knobs"], row["settings"]) == ({"c": 0.3}, {"smoothing": 0.5, "steps": 1})
    row = run(capsys, picture, "--noise", "radial", "--steps", 1, "--beta", 0)
    assert (row["method"], row["settings"]["smoothing"]) == ("map", 0)


def test_scores_are_those_of_the_files(capsys, picture):
    row = run(capsys, picture, "--noise", "sinusoidal", "--method", "tv", "--c", 0.3)
    truth, restored, noisy = (images.load_image(file) for file in (picture, *row["files"][:2]))
    assert row["result"]["psnr"] == pytest.approx(float(psnr_all_channels(restored, truth)), abs=0.05)
    assert row["input"]["psnr"] == pytest.approx(float(psnr_all_channels(noisy, truth)), abs=0.05)
    assert row["result"]["psnr"] > row["input"]["psnr"]
    assert row["fingerprint"] == images.fingerprint(truth)
    noise = images.load_image(row["files"][2])
    kept = (noisy > 0) & (noisy < 1)
    torch.testing.assert_close(2 * noise[kept] - 1, (noisy - restored)[kept], rtol=0, atol=3 / 255)


def test_a_seed_repeats_a_run_and_another_does_not(capsys, picture):
    def files(seed: int, out: str) -> list[bytes]:
        row = run(capsys, picture, "--noise", "digits", "--count", 2, "--steps", 2, "--seed", seed, "--out", out)
        assert row["seed"] == seed
        return [Path(file).read_bytes() for file in row["files"]]

    first, again, other = files(3, "first"), files(3, "again"), files(4, "other")
    assert first == again
    assert first[1] != other[1]


def test_the_middle_of_a_picture_of_any_size_is_taken(capsys):
    wide = torch.zeros(1, 1, 90, 150)
    wide[..., 30:120] = images.centre_square(examples.example("camera"), 90)
    images.save_image(wide, "wide.png")
    row = run(capsys, "wide.png", "--noise", "radial", "--c", 0.001, "--method", "asim", "--steps", 1)
    assert (row["picture_shape"], row["image_shape"], row["resized"]) == ([1, 90, 150], [3, 64, 64], True)
    expected = images.centre_square(images.load_image("wide.png", channels=3)[..., 30:120], 64)
    assert float((images.load_image(row["files"][1]) - expected).abs().max()) < 3 / 255


def test_strokes_are_pasted_over_the_picture(capsys, picture, scribble):
    row = run(capsys, picture, "--noise", scribble, "--steps", 2)
    assert (row["task"], list(row["knobs"])) == ("scribble", ["strokes"])
    strokes = images.load_drawing(images.decode_data_url(row["knobs"]["strokes"]))
    assert torch.equal(strokes, images.load_drawing(scribble))
    truth, drawing, noisy = (images.load_image(file) for file in (picture, scribble, row["files"][1]))
    pen = (drawing > 0).any(1, keepdim=True)
    torch.testing.assert_close(noisy, torch.where(pen, drawing, truth), rtol=0, atol=1e-6)


def test_a_measured_picture_keeps_what_no_stroke_hides(capsys, picture, scribble):
    """As the untrained prior is white, the strokes turn grey, and only they."""
    drawing, truth = images.load_image(scribble), images.load_image(picture)
    pen = (drawing > 0).any(1, keepdim=True).expand_as(truth)
    noisy = torch.where(pen, drawing, truth)
    images.save_image(noisy, "drawn.png")
    row = run(capsys, "drawn.png", "--noise", scribble, "--measured", "--method", "map-z", "--beta", 5, "--steps", 100)
    assert set(row) == KEYS
    assert row["simulated"] is False
    assert Path(row["files"][1]).read_bytes() == Path("drawn.png").read_bytes()
    restored = images.load_image(row["files"][0])
    torch.testing.assert_close(restored[~pen], truth[~pen], rtol=0, atol=0.02)
    expected = (noisy + 5 * 0.5) / (1 + 5)
    torch.testing.assert_close(restored[pen], expected[pen], rtol=0, atol=0.02)


def test_strokes_of_another_size_hide_every_pixel_that_they_touch(capsys, picture):
    drawing = torch.zeros(3, 256, 256)
    drawing[0, 101:127] = 1
    images.save_image(drawing, "large.png")
    row = run(capsys, picture, "--noise", "large.png", "--steps", 1)
    truth, noisy = images.load_image(picture), images.load_image(row["files"][1])
    red = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
    torch.testing.assert_close(noisy[0, :, 27:30], red.expand(3, 3, 64), rtol=0, atol=0)
    changed = (noisy != truth).any(1)[0].any(1).nonzero().flatten().tolist()
    assert changed == list(range(25, 32))
    assert torch.equal(noisy[..., 34:, :], truth[..., 34:, :])


@pytest.mark.parametrize("noise", ["sinusoidal", "radial"])
def test_a_measured_picture_is_taken_as_it_is(capsys, picture, noise):
    row = run(capsys, picture, "--noise", noise, "--measured", "--method", "tv", "--c", 0.2)
    assert "result" not in row
    assert Path(row["files"][1]).read_bytes() == Path(picture).read_bytes()


def test_progress_and_a_result_for_people(capsys, picture):
    assert main(["remove-noise", picture, "--noise", "radial", "--steps", "3"]) == 0
    captured = capsys.readouterr()
    assert "step 3  objective " in captured.err
    assert "finished its 3 steps" in captured.err
    assert "psnr: " in captured.out
    assert "history" not in captured.out


def test_a_missing_package_is_a_sentence(capsys, picture, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    assert "pip install bm3d" in refused(capsys, picture, "--noise", "sinusoidal", "--method", "bm3d")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--noise", "nonsense"], "--noise must be sinusoidal, radial, digits, compressive-sensing, one-bit or a pict"),
        (["--noise", "scribble"], "or a picture of strokes, got 'scribble'"),
        (["--noise", "text.png"], "not a picture"),
        (["--noise", "black.png"], "black.png is black all over"),
        ([], "--noise"),
        (["--noise", "sinusoidal", "--method", "magic"], "--method"),
        (["--noise", "sinusoidal", "--method", "lasso"], "lasso is not for sinusoidal: choose from map"),
        (["--noise", "one-bit", "--method", "lasso"], "lasso is not for one-bit"),
        (["--noise", "compressive-sensing", "--method", "tv"], "tv is not for compressive-sensing"),
        (["--noise", "sinusoidal", "--gamma", "1"], "--gamma does not belong to map, which has --beta, --steps"),
        (["--noise", "sinusoidal", "--method", "mle", "--beta", "1"], "--beta does not belong to mle"),
        (["--noise", "sinusoidal", "--method", "tv", "--steps", "1"], "to tv, which has no settings"),
        (["--noise", "sinusoidal", "--count", "2"], "--count does not belong to sinusoidal, which has --c"),
        (["--noise", "digits", "--c", "0.1"], "--c does not belong to digits, which has --count"),
        (["--noise", "scribble.png", "--c", "0.1"], "--c does not belong to scribble"),
        (["--noise", "digits", "--count", "100"], "count must be from 1 to the 12 digits that fit"),
        (["--noise", "compressive-sensing", "--count", "1000000"], "count must be from 1 to 10922"),
        (["--noise", "sinusoidal", "--c", "nan"], "--c: expected a number above 0 and at most 1"),
        (["--noise", "sinusoidal", "--c", "0"], "--c"),
        (["--noise", "sinusoidal", "--c", "2"], "--c"),
        (["--noise", "sinusoidal", "--beta", "nan"], "--smoothing: expected a number of at least 0"),
        (["--noise", "sinusoidal", "--beta", "inf"], "--beta"),
        (["--noise", "sinusoidal", "--beta", "-1"], "--beta"),
        (["--noise", "sinusoidal", "--beta", "1e38"], "the objective is not finite at the start"),
        (["--noise", "sinusoidal", "--steps", "0"], "--steps: expected a whole number of at least 1"),
        (["--noise", "sinusoidal", "--seed", "-1"], "--seed: expected a whole number of at least 0"),
        (["--noise", "sinusoidal", "--prior", "realnvp-mnist"], "draws pictures of 28×28 pixels in grey only"),
        (["--noise", "one-bit", "--prior", "vae-mnist"], "vae-mnist is a Generator, not a Flow"),
        (["--noise", "sinusoidal", "--method", "tv", "--prior", "vae-mnist"], "tv has no prior: leave out --prior"),
        (["--noise", "digits", "--measured"], "--measured does not go with digits"),
        (["--noise", "one-bit", "--measured"], "--measured takes a picture, and the measurements of one-bit are none"),
        (["--noise", "compressive-sensing", "--measured"], "--measured takes a picture"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(capsys, picture, scribble, arguments, said):
    Path("text.png").write_text("not a picture")
    images.save_image(torch.zeros(3, 64, 64), "black.png")
    assert said in refused(capsys, picture, *arguments)


def test_a_picture_that_is_missing_is_refused(capsys):
    assert "nowhere.png does not exist" in refused(capsys, "nowhere.png", "--noise", "radial")


@pytest.mark.skipif(not (SHIPPED / "realnvp-faces.safetensors").is_file(), reason="the prior is not there")
def test_the_shipped_prior_removes_noise(capsys, picture, monkeypatch):
    monkeypatch.setenv("INVLIB_WEIGHTS", str(SHIPPED))
    row = run(capsys, picture, "--noise", "radial", "--steps", 20)
    assert row["result"]["psnr"] > row["input"]["psnr"] + 1
