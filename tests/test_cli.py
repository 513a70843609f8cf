"""The command line: one JSON object on standard output, files, and sentences with exit status 2."""

from __future__ import annotations

import json
import math

import pytest
import torch

from invlib import checkpoints, images
from invlib.cli import main
from invlib.denoisers import BFUNet
from invlib.operators import gaussian_kernel
from invlib.tasks import TASKS


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "coffee.png"
    images.save_image(images.example("coffee", side=64), path)
    return path


@pytest.fixture
def grey_picture(tmp_path):
    path = tmp_path / "camera.png"
    images.save_image(images.example("camera", side=64), path)
    return path


def run(capsys, *arguments) -> dict:
    assert main([str(argument) for argument in (*arguments, "--json")]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out)


def refused(capsys, *arguments) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error:") == 1
    assert captured.err.strip().count("\n") == 0, "one sentence"
    return captured.err


@pytest.mark.parametrize("task", TASKS)
def test_restore_scores_every_task_above_least_squares(capsys, picture, tmp_path, task):
    row = run(
        capsys, "restore", picture, "--task", task, "--samples", 2, "--evaluations", 12, "--out", tmp_path / "out"
    )
    keys = {"task", "prior", "sampler", "samples", "seed", "image_shape", "evaluations", "seconds", "input", "sample"}
    assert keys | {"mean", "spread_skill", "files"} <= set(row)
    assert (row["task"], row["prior"], row["samples"], row["evaluations"]) == (task, "bf-unet-color", 2, 12)
    assert row["mean"]["psnr"] > row["input"]["psnr"]
    assert row["mean"]["psnr"] > row["sample"]["psnr"]
    assert 0 < row["spread_skill"] < 3
    assert [images.load_image(file).shape for file in row["files"]] == [(1, 3, 64, 64)] * 2 + [
        (1, 3, 64, 64),
        (1, 1, 64, 64),
    ]


def test_a_seed_repeats_a_run_and_another_does_not(capsys, picture):
    arguments = ("restore", picture, "--task", "super-resolution", "--evaluations", 4)
    first, again = run(capsys, *arguments, "--seed", 5), run(capsys, *arguments, "--seed", 5)
    other = run(capsys, *arguments, "--seed", 6)
    assert first["sample"] == again["sample"] != other["sample"]
    assert first["spread_skill"] is None
    assert first["sample"]["psnr_std"] == 0


def test_a_blur_reports_the_numbers_that_it_dropped(capsys, picture, tmp_path):
    kernel = gaussian_kernel(1.5)
    images.save_image((kernel / kernel.max())[None], tmp_path / "kernel.png")
    row = run(capsys, "restore", picture, "--task", "deblurring", "--kernel", "kernel.png", "--evaluations", 8)
    assert row["dropped"] > 0
    assert row["measured"] + row["dropped"] == 3 * 64 * 64
    assert row["mean"]["psnr"] > row["input"]["psnr"]


def test_grey_pictures_get_a_grey_prior(capsys, grey_picture):
    row = run(capsys, "restore", grey_picture, "--task", "deblurring", "--keep", 0.3, "--evaluations", 6)
    assert row["prior"] == "bf-unet-gray"
    assert row["image_shape"] == [1, 64, 64]


def test_the_paper_sampler_converges_under_its_predicted_curve(capsys, grey_picture):
    row = run(capsys, "restore", grey_picture, "--task", "super-resolution", "--sampler", "paper")
    sigma, predicted = row["history"]["sigma"], row["history"]["predicted"]
    assert "converged" in row["outcome"]
    assert sigma[-1] <= 0.01
    assert all(measured <= expected for measured, expected in zip(sigma, predicted, strict=True))


def test_a_measured_low_resolution_picture_is_enlarged_and_not_scored(capsys, tmp_path):
    small = images.example("coffee", side=32)
    images.save_image(small, tmp_path / "small.png")
    row = run(
        capsys, "restore", "small.png", "--measured", "--task", "super-resolution", "--factor", 2, "--evaluations", 8
    )
    assert row["image_shape"] == [3, 64, 64]
    assert "mean" not in row
    enlarged = images.load_image(row["files"][0])
    averages = torch.nn.functional.avg_pool2d(enlarged, 2)
    assert float((averages - small).abs().mean()) < 0.01, "it averages to what was measured"


def test_a_measured_picture_with_a_hole_keeps_what_is_around(capsys, picture, tmp_path):
    mask = torch.ones(1, 1, 64, 64)
    mask[..., 20:36, 10:30] = 0
    images.save_image(mask, tmp_path / "mask.png")
    row = run(
        capsys, "restore", picture, "--measured", "--task", "inpainting", "--mask", "mask.png", "--evaluations", 6
    )
    before, after = images.load_image(picture), images.load_image(row["files"][0])
    around = mask.bool().expand_as(before)
    torch.testing.assert_close(after[around], before[around], atol=1.5 / 255, rtol=0)
    assert row["measured"] == int(around.sum())


def test_sample_draws_pictures_and_a_sheet(capsys, tmp_path):
    row = run(
        capsys, "sample", "--prior", "bf-unet-gray", "--size", "16x24", "--count", 3,
        "--h0", 0.3, "--out", tmp_path / "out",
    )  # fmt: skip
    assert row["image_shape"] == [1, 16, 24]
    assert images.load_image(tmp_path / "out" / "sample-3.png").shape == (1, 1, 16, 24)
    assert images.load_image(tmp_path / "out" / "sheet.png").shape == (1, 1, 2 * 18 + 2, 2 * 26 + 2)


def test_bench_averages_over_a_folder(capsys, tmp_path):
    for name in ("coffee", "chelsea"):
        images.save_image(images.example(name, side=40), tmp_path / "data" / f"{name}.png")
    row = run(
        capsys,
        "bench",
        "restoration",
        "--task",
        "super-resolution",
        "--data",
        "data",
        "--samples",
        2,
        "--evaluations",
        5,
    )
    singles = [
        run(capsys, "restore", f"data/{name}.png", "--task", "super-resolution", "--samples", 2, "--evaluations", 5)
        for name in ("coffee", "chelsea")
    ]
    assert row["images"] == 2
    for part in ("input", "sample", "mean"):
        expected = sum(single[part]["psnr"] for single in singles) / 2
        assert row[part]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert row["spread_skill"] is not None


def test_bench_denoising_improves_on_the_noisy_picture(capsys, tmp_path):
    images.save_image(images.example("camera", side=64), tmp_path / "data" / "camera.png")
    row = run(capsys, "bench", "denoising", "--data", "data", "--prior", "bf-unet-gray")
    assert list(row["psnr"]) == ["0.02", "0.05", "0.1", "0.2", "0.4", "0.8"]
    for sigma, psnr in row["psnr"].items():
        assert psnr > -20 * math.log10(float(sigma)) + 1


def test_train_writes_a_checkpoint_that_loads_and_goes_on_after_a_stop(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "invlib.training.denoiser.ARCHITECTURES", {"BFUNet": lambda channels: BFUNet(channels, (4, 8), 1)}
    )
    for name in ("camera", "coins"):
        images.save_image(images.example(name, side=32), tmp_path / "data" / f"{name}.png")
    arguments = (
        "train",
        "denoiser",
        "--data",
        "data",
        "--channels",
        1,
        "--batch",
        2,
        "--crop",
        16,
        "--out",
        "net.safetensors",
    )
    row = run(capsys, *arguments, "--steps", 4)
    net = checkpoints.load("net.safetensors")
    assert net.channels == 1
    about = checkpoints.describe("net.safetensors").metadata
    assert "4 steps from scratch" in about["recipe"]
    assert about["quality"]["validation_psnr"] == row["validation_psnr"]
    assert run(capsys, *arguments, "--steps", 4)["sha256"] == row["sha256"], "nothing was left to do"
    assert "another recipe" in refused(capsys, *arguments, "--steps", 5)


def test_weights_list_and_verify_what_is_shipped(capsys):
    rows = run(capsys, "weights", "list")
    assert {"bf-unet-color", "bf-unet-gray"} <= set(rows)
    for name, row in rows.items():
        assert row["here"], name
        assert row["recipe"], name
        assert row["data"], name
        assert checkpoints.load(name)(torch.zeros(1, checkpoints.load(name).channels, 16, 16)).shape[-1] == 16
    assert set(run(capsys, "weights", "verify").values()) == {"ok"}


def test_without_json_the_result_is_for_people(capsys, picture):
    assert main(["restore", str(picture), "--task", "super-resolution", "--evaluations", "3"]) == 0
    out = capsys.readouterr().out
    assert "psnr: " in out
    assert "history" not in out
    assert "{" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.png", "--task", "super-resolution"], "does not exist"),
        (["coffee.png", "--task", "super-resolution", "--factor", "0"], "factor"),
        (["coffee.png", "--task", "super-resolution", "--factor", "100"], "100"),
        (["coffee.png", "--task", "super-resolution", "--keep", "0.5"], "--keep"),
        (["coffee.png", "--task", "deblurring", "--keep", "nan"], "keep"),
        (["coffee.png", "--task", "compressive-sensing", "--keep", "7"], "keep"),
        (["coffee.png", "--task", "inpainting", "--box", "0,0,640,10"], "box"),
        (["coffee.png", "--task", "super-resolution", "--h0", "0.1"], "--h0"),
        (["coffee.png", "--task", "super-resolution", "--sampler", "paper", "--beta", "nan"], "beta"),
        (["coffee.png", "--task", "super-resolution", "--evaluations", "0"], "evaluations"),
        (["coffee.png", "--task", "super-resolution", "--seed", "-1"], "seed"),
        (["coffee.png", "--task", "super-resolution", "--prior", "nonsense"], "nonsense"),
        (["coffee.png", "--task", "compressive-sensing", "--measured"], "--measured"),
        (["coffee.png", "--task", "inpainting", "--measured"], "--mask"),
        (["text.png", "--task", "super-resolution"], "not a picture"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(capsys, picture, tmp_path, arguments, said):
    (tmp_path / "text.png").write_text("not a picture")
    assert said in refused(capsys, "restore", *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "time-travel"], "--task"),
        (["--task", "super-resolution", "--samples", "0"], "--samples"),
        (["--task", "super-resolution", "--samples", "many"], "--samples"),
        (["--task", "inpainting", "--box", "1,2,3"], "--box"),
        ([], "--task"),
    ],
)
def test_arguments_that_cannot_be_parsed_exit_with_2_and_one_sentence(capsys, arguments, said):
    with pytest.raises(SystemExit) as exit_status:
        main(["restore", "x.png", *arguments])
    assert exit_status.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0
