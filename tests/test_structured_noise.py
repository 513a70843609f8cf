"""The comparison of methods against structured noise."""

from __future__ import annotations

import gzip
import json
import struct
import sys

import numpy as np
import pytest
import torch

from invlib import examples, images
from invlib.cli import main
from invlib.experiments import report, rows, structured_noise
from invlib.experiments.structured_noise import DIGITS_FILE
from invlib.metrics import psnr_all_channels, ssim
from invlib.problems.structured import IMAGE_SHAPES, TASKS, MeasurementModel
from invlib.solvers.inversion import collect
from invlib.solvers.methods import METHODS, suiting
from tests.small_priors import use_small_priors


def load_truths(task, folder, count):
    return structured_noise.load_truths(task, folder, count)[1]


def measured(*arguments, watch=rows.unwatched, **options):
    return [cell.key | cell.measure(watch) for cell in structured_noise.structured_noise(*arguments, **options)]


@pytest.fixture(autouse=True)
def priors(tmp_path, monkeypatch):
    use_small_priors(tmp_path / "weights", monkeypatch)


@pytest.fixture
def folder(tmp_path):
    for name in ("coffee", "astronaut", "chelsea"):
        images.save_image(examples.example(name, side=80), tmp_path / "faces" / f"{name}.png")
    return tmp_path / "faces"


@pytest.fixture
def mnist(tmp_path):
    """Ten pictures of one grey each, in MNIST's format."""
    grey = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8) * 25
    (tmp_path / "mnist").mkdir()
    content = struct.pack(">iiii", 2051, 10, 28, 28) + grey.tobytes()
    (tmp_path / "mnist" / DIGITS_FILE).write_bytes(gzip.compress(content))
    return tmp_path / "mnist"


def test_truths_are_the_first_pictures_by_name_in_the_prior_s_shape(folder):
    assert structured_noise.load_truths("sinusoidal", folder, 2)[0] == ["astronaut", "chelsea"]
    truths = load_truths("sinusoidal", folder, 2)
    assert truths.shape == (2, 3, 64, 64)
    for name, truth in zip(("astronaut", "chelsea"), truths, strict=True):
        expected = images.centre_square(examples.example(name, side=80), 64)
        assert float((truth - expected).abs().max()) <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(truths * 255, (truths * 255).round(), rtol=0, atol=1e-4)
    assert len(load_truths("sinusoidal", folder, 20)) == 3


def test_a_picture_of_the_prior_s_shape_is_taken_as_it_is(tmp_path):
    x = images.quantise(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    images.save_image(x, tmp_path / "exact" / "x.png")
    assert torch.equal(load_truths("radial", tmp_path / "exact", 1), x)


def test_digits_are_of_the_test_split(mnist, folder):
    truths = load_truths("one-bit", mnist, 4)
    assert truths.shape == (4, 1, 28, 28)
    torch.testing.assert_close(truths[:, 0, 0, 0], torch.arange(4) * 25 / 255)
    with pytest.raises(ValueError, match=f"faces has no {DIGITS_FILE}: name the folder"):
        load_truths("one-bit", folder, 4)


def test_a_row_is_what_a_method_reaches_on_average(folder):
    """With the same noise, whatever the batches; every figure computed by hand."""
    truths = load_truths("sinusoidal", folder, 3)
    model = TASKS["sinusoidal"].build({"c": 0.2}, 4)
    y = model.measure(truths, 4)
    expected = collect(METHODS["remove-noise"]["tv"].minimise(model, None, y, 4)).image.clamp(0, 1)
    for batch in (2, 5):
        (row,) = measured("sinusoidal", truths, ["tv"], knobs=[{"c": 0.2}], seed=4, batch=batch)
        assert (row["task"], row["method"], row["knobs"], row["settings"]) == ("sinusoidal", "tv", {"c": 0.2}, {})
        assert row["images"] == 3
        psnr = psnr_all_channels(expected, truths)
        assert row["result"]["psnr"] == pytest.approx(float(psnr.mean()), abs=1e-3)
        assert row["result"]["psnr_std"] == pytest.approx(float(psnr.std()), abs=1e-3)
        assert row["result"]["ssim"] == pytest.approx(float(ssim(expected, truths).mean()), abs=1e-3)
        assert row["input"]["psnr"] == pytest.approx(float(psnr_all_channels(y.clamp(0, 1), truths).mean()), abs=1e-3)
        assert row["seconds"] > 0


def test_rows_are_every_method_with_its_settings_at_every_knob(folder):
    truths = load_truths("radial", folder, 1)
    made = measured(
        "radial", truths, ["map", "asim", "tv"],
        knobs=[{"c": 0.1}, {"c": 0.2}],
        settings={"smoothing": [0.1, 1.0], "gamma": [2.0], "steps": [1, 2]},
    )  # fmt: skip
    found = [(row["knobs"]["c"], row["method"], *row["settings"].values()) for row in made]
    expected = [
        *(("map", smoothing, steps) for smoothing in (0.1, 1.0) for steps in (1, 2)),
        ("asim", 2.0, 1),
        ("asim", 2.0, 2),
        ("tv",),
    ]
    assert found == [(c, *rest) for c in (0.1, 0.2) for rest in expected]
    assert made[0]["input"]["psnr"] > made[-1]["input"]["psnr"] + 3, "twice the noise"
    assert all(row["result"]["psnr_std"] == 0 for row in made), "of a single picture"


def test_batches_are_watched_and_their_skipped_steps_counted(mnist):
    truths = load_truths("one-bit", mnist, 3)
    seen = []

    def watch(about, iterates):
        for iterate in iterates:
            seen.append((iterate.step, len(iterate.image)))
            yield iterate

    (row,) = measured(
        "one-bit", truths, ["map-z"], knobs=[{"count": 50}], settings={"steps": [2]}, batch=2, watch=watch
    )
    assert seen == [(1, 2), (2, 2), (1, 1), (2, 1)]
    assert row["skipped"] == 0
    assert row["knobs"] == {"count": 50, "c": 0.1}


def test_a_method_whose_package_is_missing_has_a_row_that_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    missing, done = measured("sinusoidal", load_truths("sinusoidal", folder, 1), ["bm3d", "tv"])
    assert "pip install bm3d" in missing["missing"]
    assert "result" not in missing
    assert done["result"]["psnr"] > 20


def test_without_a_prior_half_a_picture_is_brightened_again():
    model = MeasurementModel((3, 64, 64), lambda x: 0.5 * x, TASKS["radial"].build({"c": 0.001}).noise, factor=0.5)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.baseline(model.measure(x)), x, rtol=0, atol=0.02)


@pytest.mark.parametrize("task", ["compressive-sensing", "one-bit"])
def test_measurements_without_a_prior_are_a_picture(task):
    shape = IMAGE_SHAPES[TASKS[task].pictures]
    model = TASKS[task].build({"count": 100, "c": 0.1}, 0)
    seen = model.baseline(model.measure(torch.rand(2, *shape)))
    assert seen.shape == (2, *shape)
    assert 0 <= float(seen.min()) < float(seen.max()) <= 1


# The command


def bench(capsys, *arguments) -> tuple[dict, str]:
    assert main(["bench", "structured-noise", *map(str, arguments), "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_bench_runs_lists_of_settings_and_prints_rows_as_they_come(capsys, folder):
    result, said = bench(
        capsys, "--task", "sinusoidal", "--data", folder, "--count", 2, "--methods", "map,asim,tv",
        "--beta", "0.05,5", "--gamma", "1,10", "--steps", 2, "--c", "0.1,0.3", "--batch", 2,
    )  # fmt: skip
    assert (result["task"], result["images"], result["seed"]) == ("sinusoidal", 2, 0)
    assert [(row["knobs"]["c"], row["method"], *row["settings"].values()) for row in result["rows"]] == [
        (c, *rest)
        for c in (0.1, 0.3)
        for rest in (("map", 0.05, 2), ("map", 5, 2), ("asim", 1, 2), ("asim", 10, 2), ("tv",))
    ]
    assert len([line for line in said.splitlines() if " dB " in line]) == 10


def test_bench_sweeps_the_knob_of_a_task_with_all_of_its_methods(capsys, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    result, said = bench(capsys, "--task", "radial", "--data", folder, "--count", 1, "--steps", 1, "--sweep")
    assert [(row["knobs"]["c"], row["method"]) for row in result["rows"]] == [
        (c, method) for c in TASKS["radial"].swept[1] for method in suiting("remove-noise", "radial")
    ]
    assert "pip install bm3d" in said
    assert main(["bench", "structured-noise", "--task", "radial", "--data", str(folder), "--methods", "tv"]) == 0
    assert "tv  c 0.1  " in capsys.readouterr().out


def test_rows_are_kept_and_not_measured_again_and_become_tables(capsys, folder, mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    kept = ("--out", tmp_path / "structured-noise.jsonl", "--methods")
    faces = ("--task", "radial", "--data", folder, "--count", 2, *kept, "tv,asim", "--steps", 1)
    first, _ = bench(capsys, *faces)
    again, said = bench(capsys, *faces)
    assert (again, len(again["rows"])) == (first, 2)
    assert "objective" not in said
    assert again["rows"][0]["pictures"] == ["astronaut", "chelsea"]
    bench(capsys, "--task", "sinusoidal", "--examples", "coffee,cat", *kept, "tv")
    prior = ("--prior", "vae-mnist", "--steps", 1)
    digits, _ = bench(capsys, "--task", "one-bit", "--data", mnist, "--count", 1, *kept, "bora", *prior)
    assert digits["rows"][0]["prior"] == "vae-mnist"
    sets, examples_ = report.against_noise().split("\n\n")
    assert sets.splitlines()[0] == "| problem | pictures | measured | Asim | Bora, VAE | total variation |"
    asim = again["rows"][1]["result"]["psnr"]
    assert f"| radial, c = 0.1 | 2, faces | {again['rows'][0]['input']['psnr']:.1f} | {asim:.1f} |  |" in sets
    assert [line.split(" | ")[1] for line in examples_.splitlines()[2:]] == ["coffee", "cat"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prior", "vae-mnist", "--methods", "bora"], "draws pictures of 28×28 pixels in grey only"),
        (["--prior", "vae-mnist", "--methods", "map"], "vae-mnist is a Generator, not a Flow"),
        (["--methods", "map,magic"], "magic is not for sinusoidal: choose from map, pair"),
        (["--methods", "lasso"], "lasso is not for sinusoidal"),
        (["--methods", "tv,map", "--gamma", "1"], "--gamma does not belong to tv, map, which has --beta, --steps"),
        (["--c", "0.1", "--sweep"], "--c and --sweep exclude one another"),
        (["--data", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bench_refuses_with_a_sentence(capsys, folder, arguments, said):
    assert main(["bench", "structured-noise", "--task", "sinusoidal", "--data", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0
