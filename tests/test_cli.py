"""The command line: one JSON object on standard output, files, and sentences with exit status 2."""

from __future__ import annotations

import errno
import io
import json
import math
import os
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from invlib import Ascent, Schedule, examples, images, restore
from invlib.cli import main
from invlib.priors import checkpoints
from invlib.priors.denoisers import BFUNet
from invlib.priors.flows import Flow
from invlib.priors.gans import Generator
from invlib.problems.linear import TASKS
from invlib.problems.operators import BlockAverage, gaussian_kernel


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "coffee.png"
    images.save_image(examples.example("coffee", side=40), path)
    return path


@pytest.fixture
def grey_picture(tmp_path):
    path = tmp_path / "camera.png"
    images.save_image(examples.example("camera", side=40), path)
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
    keys = {"command", "task", "knobs", "prior", "method", "samples", "seed", "settings", "image_shape", "evaluations"}
    assert keys | {"seconds", "input", "sample", "mean", "spread_skill", "files"} <= set(row)
    assert (row["task"], row["prior"], row["samples"], row["evaluations"]) == (task, "bf-unet-color", 2, 12)
    assert row["mean"]["psnr"] > row["input"]["psnr"]
    assert row["mean"]["psnr"] > row["sample"]["psnr"]
    assert 0 < row["spread_skill"] < 3
    assert [images.load_image(file).shape for file in row["files"]] == [(1, 3, 40, 40)] * 3 + [(1, 1, 40, 40)]


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_in_and_out_with_what_was_assumed(capsys, tmp_path, channels):
    """12 bits in a 16-bit file: the pixels that are kept come out as they are, finer than 8 bits, and it is said."""
    ramp = np.linspace(0, 4095, 64 * 64 * channels).round().astype(np.uint16).reshape(64, 64, channels)
    tifffile.imwrite(tmp_path / "ramp.tif", ramp.squeeze(), photometric="rgb" if channels == 3 else "minisblack")
    arguments = ["--task", "inpainting", "--box", "20,20,9,9", "--samples", "2", "--evaluations", "4", "--bits", "16"]
    assert main(["restore", str(tmp_path / "ramp.tif"), *arguments, "--out", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert "as in files of 12 bits" in captured.err
    first, _, mean, _ = json.loads(captured.out)["files"]
    for file in (first, mean):
        assert Path(file).read_bytes()[24] == 16, "the depth in the header of a PNG file"
        with Image.open(file) as written:
            upper = np.asarray(written)[:16] / (65535 if channels == 1 else 255)
        tolerance = 1e-3 if channels == 1 else 1 / 255  # Pillow reads the upper 8 bits of colours
        np.testing.assert_allclose(upper, ramp.squeeze()[:16] / 4095, atol=tolerance)


def test_noise_in_the_measurements_is_added_and_allowed_for(capsys, picture, tmp_path):
    problem = ("restore", picture, "--task", "inpainting", "--samples", 2, "--evaluations", 8)
    noisy = ("--noise-level", 0.1)
    known, clean = run(capsys, *problem, *noisy, "--out", tmp_path / "known"), run(capsys, *problem)
    assert (known["noise_level"], known["estimate_noise"], clean["noise_level"]) == (0.1, False, 0.0)
    assert known["input"]["psnr"] < clean["input"]["psnr"]
    # The pixels outside the hole are denoised: 20 dB is what noise of .1 leaves.
    assert known["mean"]["psnr"] > 24
    unknown = run(capsys, *problem, *noisy, "--estimate-noise")
    assert unknown["noise_estimate"] == pytest.approx(0.1, rel=0.2)
    file = tmp_path / "run.json"
    file.write_text(json.dumps(known))
    again = run(capsys, "restore", picture, "--replay", file, "--out", tmp_path / "again")
    assert again["mean"] == known["mean"]
    assert main(["restore", str(picture), "--task", "inpainting", "--noise-level", "-1"]) == 2
    assert "--noise-level must be from 0 to 10" in capsys.readouterr().err


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
    row = run(capsys, "restore", picture, "--task", "deblurring", "--kernel", "kernel.png", "--circular")
    assert row["dropped"] > 0
    assert row["measured"] + row["dropped"] == 3 * 40 * 40
    assert row["mean"]["psnr"] > row["input"]["psnr"]


def test_grey_pictures_get_a_grey_prior(capsys, grey_picture):
    row = run(capsys, "restore", grey_picture, "--task", "deblurring", "--keep", 0.3, "--evaluations", 6)
    assert row["prior"] == "bf-unet-gray"
    assert row["image_shape"] == [1, 40, 40]


def test_a_prior_that_is_told_takes_grey_pictures_as_they_are(capsys, grey_picture):
    row = run(capsys, "restore", grey_picture, "--task", "super-resolution", "--method", "mean")
    assert (row["prior"], row["image_shape"]) == ("bf-told-color", [1, 40, 40])
    assert row["result"]["psnr"] > row["input"]["psnr"]


def test_unknown_noise_is_judged_by_a_prior_that_is_not_told(capsys, picture):
    problem = (
        "restore",
        picture,
        "--task",
        "super-resolution",
        "--factor",
        2,
        "--noise-level",
        0.1,
        "--estimate-noise",
    )
    estimates = [run(capsys, *problem, "--method", method)["noise_estimate"] for method in ("mean", "fast")]
    assert estimates[0] == estimates[1]


def test_the_paper_sampler_converges_under_its_predicted_curve(capsys):
    images.save_image(examples.example("camera", side=64), "large.png")  # on smaller pictures chance counts for more
    row = run(capsys, "restore", "large.png", "--task", "super-resolution", "--sampler", "paper", "--h0", 0.1)
    sigma, predicted = row["history"]["sigma"], row["history"]["predicted"]
    assert "converged" in row["outcome"]
    assert sigma[-1] <= 0.01
    assert all(measured <= expected for measured, expected in zip(sigma, predicted, strict=True))


def test_a_measured_low_resolution_picture_is_enlarged_and_not_scored(capsys, tmp_path):
    small = examples.example("coffee", side=32)
    images.save_image(small, tmp_path / "small.png")
    row = run(
        capsys, "restore", "small.png", "--measured", "--task", "super-resolution", "--factor", 2, "--evaluations", 8,
        "--downsampling", "box", "--noise-level", 0,
    )  # fmt: skip
    assert row["image_shape"] == [3, 64, 64]
    assert "mean" not in row
    enlarged = images.load_image(row["files"][0])
    averages = torch.nn.functional.avg_pool2d(enlarged, 2)
    assert float((averages - small).abs().mean()) < 0.01, "it averages to what was measured"


def test_a_measured_picture_with_a_hole_keeps_what_is_around(capsys, picture, tmp_path):
    mask = torch.ones(1, 1, 40, 40)
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


def test_sample_interpolates_between_two_samples(capsys, tmp_path):
    arguments = ("sample", "--prior", "bf-unet-gray", "--size", 16, "--h0", 0.3, "--seed", 5)
    path = run(capsys, *arguments, "--count", 3, "--interpolate", "--out", "path")
    assert path["knobs"] == {"interpolate": True}
    ends = run(capsys, *arguments, "--count", 2, "--out", "ends")
    assert ends["knobs"] == {"interpolate": False}
    first, between, last = (images.load_image(f"path/sample-{number}.png") for number in (1, 2, 3))
    for end, number in ((first, 1), (last, 2)):
        torch.testing.assert_close(end, images.load_image(f"ends/sample-{number}.png"), atol=0.03, rtol=0)
        assert float((between - end).abs().mean()) > 0.03
    assert "count must be at least 2" in refused(capsys, *arguments, "--interpolate")


def test_bench_averages_over_a_folder(capsys, tmp_path):
    for name in ("coffee", "chelsea"):
        images.save_image(examples.example(name, side=40), tmp_path / "data" / f"{name}.png")
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
        6,
    )
    singles = [
        run(capsys, "restore", f"data/{name}.png", "--task", "super-resolution", "--samples", 2, "--evaluations", 6)
        for name in ("coffee", "chelsea")
    ]
    assert row["images"] == 2
    for part in ("input", "sample", "mean"):
        expected = sum(single[part]["psnr"] for single in singles) / 2
        assert row[part]["psnr"] == pytest.approx(expected, abs=1e-3)
    assert row["spread_skill"] is not None


def test_bench_denoising_improves_on_the_noisy_picture(capsys, tmp_path):
    images.save_image(examples.example("camera", side=64), tmp_path / "data" / "camera.png")
    row = run(capsys, "bench", "denoising", "--data", "data", "--prior", "bf-unet-gray")
    assert list(row["psnr"]) == ["0.02", "0.05", "0.1", "0.2", "0.4", "0.8"]
    for sigma, psnr in row["psnr"].items():
        assert psnr > -20 * math.log10(float(sigma)) + 1


def test_train_writes_a_checkpoint_that_loads_and_goes_on_after_a_stop(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "invlib.training.denoiser.ARCHITECTURES", {"BFUNet": lambda channels: BFUNet(channels, (4, 8), 1)}
    )
    for name in ("camera", "coins"):
        images.save_image(examples.example(name, side=32), tmp_path / "data" / f"{name}.png")
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
        if row["architecture"] == "RealNVP":
            flow = checkpoints.load(name, kind=Flow)
            assert flow.log_prob(flow.sample(2)).isfinite().all()
        elif row["architecture"] == "Generator":
            generator = checkpoints.load(name, kind=Generator)
            assert generator.sample(2).shape == (2, *generator.image_shape)
        else:
            denoiser = checkpoints.load(name, device="cpu")
            assert denoiser(torch.zeros(1, denoiser.channels, 16, 16)).shape[-1] == 16
    assert set(run(capsys, "weights", "verify").values()) == {"ok"}


def test_without_json_the_result_is_for_people(capsys, picture):
    arguments = ["--task", "inpainting", "--mask", str(picture), "--evaluations", "4"]
    assert main(["restore", str(picture), *arguments]) == 0
    out = capsys.readouterr().out
    assert "psnr: " in out
    for unreadable in ("history", "base64", "{"):
        assert unreadable not in out


# Replay

FAST = ("--evaluations", 4, "--samples", 2)
PAPER = ("--sampler", "paper", "--h0", 0.3, "--beta", 0.2, "--sigma-0", 0.5, "--sigma-L", 0.05)


@pytest.fixture
def files(picture, tmp_path):
    """A mask; a kernel of few levels, so small that it is no picture; one of sixteen bits."""
    images.save_image((examples.example("camera", side=40) > 0.3).float(), tmp_path / "mask.png")
    Image.fromarray(np.array([[0, 7, 90], [1, 201, 30]], np.uint8)).save(tmp_path / "small.png")
    kernel = (gaussian_kernel(1.3) * 300_000).numpy().astype(np.uint16)
    Image.fromarray(kernel).save(tmp_path / "kernel.png")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--task", "super-resolution", "--factor", 3, *PAPER, "--seed", 5),
        ("--task", "super-resolution", "--factor", 2, "--measured", *FAST),
        ("--task", "deblurring", *FAST, "--sigma-0", 0.7, "--sigma-L", 0.03, "--rho", 2, "--seed", 9),
        ("--task", "deblurring", "--gaussian", 1.7, *PAPER, "--max-evaluations", 5),
        ("--task", "deblurring", "--motion", "7.5,-30", *FAST),
        ("--task", "deblurring", "--kernel", "small.png", *FAST),
        ("--task", "deblurring", "--kernel", "kernel.png", *FAST),
        ("--task", "deblurring", "--kernel", "kernel.png", "--measured", *FAST),
        ("--task", "inpainting", *FAST),
        ("--task", "inpainting", "--box", "3,4,30,20", *FAST),
        ("--task", "inpainting", "--mask", "mask.png", *FAST),
        ("--task", "inpainting", "--mask", "mask.png", "--measured", *PAPER),
        ("--task", "random-pixels", "--keep", 0.3, *FAST, "--prior", "bf-unet-gray"),
        ("--task", "compressive-sensing", "--keep", 0.2, "--dense", *FAST, "--prior", "bf-unet-gray"),
        ("--task", "compressive-sensing", *PAPER),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[1:4])),
)
def test_a_run_is_replayed_to_the_byte(capsys, picture, files, arguments):
    first = run(capsys, "restore", picture, *arguments, "--out", "first")
    Path("run.json").write_text(json.dumps(first))
    again = run(capsys, "restore", picture, "--replay", "run.json", "--out", "again")
    assert {**again, "seconds": 0, "files": []} == {**first, "seconds": 0, "files": []}
    pairs = list(zip(first["files"], again["files"], strict=True))
    assert pairs
    for before, after in pairs:
        assert Path(before).read_bytes() == Path(after).read_bytes()


def test_a_picture_of_another_size_is_not_the_run_s(capsys, picture, files):
    row = run(capsys, "restore", picture, "--task", "inpainting", "--mask", "mask.png", *FAST)
    Path("run.json").write_text(json.dumps(row))
    images.save_image(examples.example("coffee", side=32), "small.png")
    assert "small.png is not the picture of the run" in refused(capsys, "restore", "small.png", "--replay", "run.json")


def example_run() -> dict:
    """A run of an example as a page writes it, cropped from 50 to 48 pixels."""
    x = images.crop_to_multiple(examples.example("coffee", side=50), 4)
    return {
        "command": "restore",
        "task": "super-resolution",
        "knobs": {"factor": 4, "downsampling": "box"},
        "image_shape": [3, 48, 48],
        "picture": "coffee",
        "side": 50,
        "fingerprint": images.fingerprint(x),
        "simulated": True,
        "noise_level": 0.0,
        "estimate_noise": False,
        "method": "fast",
        "prior": "bf-unet-color",
        "samples": 2,
        "seed": 1,
        "settings": {**asdict(Schedule(6, sigma_L=0.02, correlation=0.0, antithetic=False)), "sigma_0": 1},
        "each": {"psnr_samples": [1.0, 2.0]},
    }


def change_run(run: dict, change: dict) -> None:
    """Write run.json with other values at some places; None is for no value."""
    content = deepcopy(run)
    for place, value in change.items():
        *path, name = place.split(".")
        inner = content
        for each in path:
            inner = inner[each]
        inner[name] = value
        if value is None:
            del inner[name]
    Path("run.json").write_text(json.dumps(content))


def test_a_run_of_an_example_needs_no_picture(capsys):
    Path("run.json").write_text(json.dumps(example_run()))
    row = run(capsys, "restore", "--replay", "run.json")
    assert row["image_shape"] == [3, 48, 48]
    assert (row["picture"], row["side"]) == ("coffee", 50)
    x = images.crop_to_multiple(examples.example("coffee", side=50), 4)
    operator = BlockAverage(x.shape[1:], 4)
    expected = restore(
        checkpoints.load("bf-unet-color"), operator, operator.measure(x), count=2, seed=1,
        schedule=Schedule(6, sigma_L=0.02, correlation=0.0, antithetic=False),
    )  # fmt: skip
    assert torch.equal(images.load_image(row["files"][1]), images.quantise(expected.samples[1:].cpu()))

    images.save_image(examples.example("coffee", side=50), "saved.png")
    images.save_image(x, "cropped.png")
    for name in ("saved.png", "cropped.png"):
        same = run(capsys, "restore", name, "--replay", "run.json", "--out", "same")
        assert Path(same["files"][0]).read_bytes() == Path(row["files"][0]).read_bytes()
        assert "side" not in same
        assert same["picture"] == name

    images.save_image(examples.example("chelsea", side=50), "other.png")
    error = refused(capsys, "restore", "other.png", "--replay", "run.json")
    assert "other.png is not the picture of the run" in error
    assert "picture.png" in error


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": None}, '"task" is missing'),
        ({"task": "time-travel"}, "'time-travel' is not a task"),
        ({"command": "sample"}, "use `sample --replay`"),
        ({"command": "remove-noise"}, "use `remove-noise --replay`"),
        ({"command": None}, '"command" is missing'),
        ({"command": "bench"}, "'bench' is not a command that is repeated"),
        ({"task": ["deblurring"]}, '"task" must be a string'),
        ({"knobs": None}, '"knobs" is missing'),
        ({"knobs": [4]}, '"knobs" must be an object'),
        ({"knobs.factor": None}, '"factor" is missing'),
        ({"knobs.factor": 4.0}, '"factor" must be a whole number, got 4.0'),
        ({"knobs.factor": True}, '"factor" must be a whole number'),
        ({"knobs.factor": 0}, "factor must be at least 1"),
        ({"knobs.keep": 0.1}, '"keep" is not among factor'),
        ({"task": "inpainting", "knobs": {"box": [1, 2, 3]}}, '"box" must be a list of 4 whole numbers'),
        (
            {"task": "inpainting", "knobs": {"mask": "data:image/png;base64,AAAA"}},
            '"mask": The picture is not a picture',
        ),
        ({"task": "deblurring", "knobs": {"kernel": 3, "circular": False}}, '"kernel" must be a string'),
        ({"task": "compressive-sensing", "knobs": {"keep": 0.1, "dense": 1}}, '"dense" must be a boolean'),
        ({"noise_level": None}, '"noise_level" is missing'),
        ({"estimate_noise": 0}, '"estimate_noise" must be a boolean'),
        ({"seed": "1"}, '"seed" must be a whole number'),
        ({"seed": -1}, "seed must be a whole number from 0 to 9007199254740991"),
        ({"seed": 2**64}, '"seed" must be a whole number of at most 53 bits'),
        ({"samples": 0}, "samples must be a whole number from 1 to 4096, got 0"),
        ({"simulated": None}, '"simulated" is missing'),
        ({"fingerprint": None}, '"fingerprint" is missing'),
        ({"fingerprint": "0123456789abcdef"}, "coffee is not the picture of the run"),
        ({"picture": "dog"}, "no example called 'dog'"),
        ({"side": 100_000}, "side must be from"),
        ({"side": None}, "is not of an example but of coffee"),
        ({"prior": "nonsense"}, "nonsense"),
        ({"prior": None}, '"prior" is missing'),
        ({"method": "magic"}, "'magic' is not a method"),
        ({"method": "paper"}, '"evaluations" is not among h0'),
        ({"method": "paper", "settings": {}}, '"h0" is missing'),
        ({"settings": None}, '"settings" is missing'),
        ({"settings.rho": None}, '"rho" is missing'),
        ({"settings.sigma_0": 10**400}, '"sigma_0" must be a number'),
        ({"settings.sigma_0": math.nan}, "sigma_0 must be a positive number"),
    ],
)
def test_a_run_that_cannot_be_replayed_is_refused_with_a_sentence(capsys, change, said):
    change_run(example_run(), change)
    assert said in refused(capsys, "restore", "--replay", "run.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_run_is_replayed_in_any_encoding_of_json_and_from_version_0_1(capsys, encoding):
    first = example_run()
    old = {**first, **first["knobs"], **first["settings"], "sampler": "fast", "derivative": 0.2, "common": 1.0}
    for name in ("command", "knobs", "method", "settings", "derivative_above", "shared_above"):
        old.pop(name, None)
    Path("run.json").write_text("".join(json.dumps({**old, "samples": 1})), encoding=encoding)
    row = run(capsys, "restore", "--replay", "run.json")
    assert {name: row[name] for name in ("command", "method", "knobs", "samples", "seed")} == {
        "command": "restore", "method": "fast", "samples": 1, "seed": 1,
        "knobs": {"factor": 4, "downsampling": "box"},
    }  # fmt: skip
    assert row["settings"] == {**first["settings"], "derivative_above": 0.2}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[1]", b"null"])
@pytest.mark.parametrize("command", ["restore", "sample"])
def test_a_file_that_is_no_run_is_refused_with_a_sentence(capsys, command, content):
    Path("run.json").write_bytes(content)
    assert "JSON" in refused(capsys, command, "--replay", "run.json")
    assert "missing.json cannot be opened" in refused(capsys, command, "--replay", "missing.json")


@pytest.mark.parametrize(
    ("command", "option", "named"),
    [
        ("restore", ["--seed", 0], "--seed"),
        ("restore", ["--samples", 1], "--samples"),
        ("restore", ["--sampler", "fast"], "--method"),
        ("restore", ["--no-antithetic"], "--antithetic"),
        ("restore", ["--measured"], "--measured"),
        ("restore", ["--sigma-L", 0.01], "--sigma-L"),
        ("restore", ["--task", "deblurring"], "--task"),
        ("sample", ["--count", 1], "--count"),
        ("sample", ["--interpolate"], "--interpolate"),
    ],
)
def test_replay_takes_no_other_options(capsys, command, option, named):
    Path("run.json").write_text(json.dumps(example_run()))
    assert f"{named} does not go with --replay" in refused(capsys, command, "--replay", "run.json", *option)


@pytest.mark.parametrize("extra", [(), ("--interpolate",), ("--max-evaluations", 4)])
def test_samples_are_replayed_to_the_byte(capsys, extra):
    arguments = ("--prior", "bf-unet-gray", "--size", "16x12", "--count", 2, "--h0", 0.4, "--sigma-L", 0.05)
    first = run(capsys, "sample", *arguments, *extra, "--seed", 3, "--out", "first")
    assert (first["task"], first["settings"]["beta"], first["image_shape"]) == ("sampling", 0.5, [1, 16, 12])
    assert float(images.load_image(first["files"][0]).std()) > 0.01
    Path("run.json").write_text(json.dumps(first))
    again = run(capsys, "sample", "--replay", "run.json", "--out", "again")
    assert {**again, "seconds": 0, "files": []} == {**first, "seconds": 0, "files": []}
    for before, after in zip(first["files"], again["files"], strict=True):
        assert Path(before).read_bytes() == Path(after).read_bytes()


def test_samples_of_reverse_diffusion_are_replayed(capsys):
    arguments = ("--prior", "bf-cnn-mnist", "--size", 12, "--method", "reverse", "--evaluations", 3, "--sigma-0", 2)
    first = run(capsys, "sample", *arguments, "--count", 2, "--out", "first")
    assert (first["method"], first["evaluations"]) == ("reverse", 3)
    Path("run.json").write_text(json.dumps(first))
    run(capsys, "sample", "--replay", "run.json", "--out", "again")
    assert Path("again/sample-2.png").read_bytes() == Path("first/sample-2.png").read_bytes()
    assert "does not interpolate" in refused(capsys, "sample", *arguments, "--count", 2, "--interpolate")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"command": "restore"}, "use `restore --replay`"),
        ({"task": "deblurring"}, "'deblurring' is not a task: choose one of sampling"),
        ({"settings.h0": None}, '"h0" is missing'),
        ({"knobs.interpolate": "yes"}, '"interpolate" must be a boolean'),
        ({"knobs.interpolate": True, "samples": 1}, "count must be at least 2"),
        ({"image_shape": [16, 16]}, '"image_shape" must be a list of 3 whole numbers'),
        ({"image_shape": [1, 0, 16]}, "all at least 1"),
        ({"image_shape": [3, 16, 16]}, "images of 1 channels"),
    ],
)
def test_samples_that_cannot_be_replayed_are_refused_with_a_sentence(capsys, change, said):
    content = {
        "command": "sample", "task": "sampling", "knobs": {"interpolate": False}, "image_shape": [1, 16, 16],
        "method": "paper", "prior": "bf-cnn-mnist", "samples": 2, "seed": 0,
        "settings": asdict(Ascent(h0=0.5, beta=0.1, sigma_L=0.1)),
    }  # fmt: skip
    change_run(content, change)
    assert said in refused(capsys, "sample", "--replay", "run.json")


def test_too_large_a_picture_is_refused_with_a_sentence(capsys):
    assert "not enough memory" in refused(capsys, "sample", "--size", 1_000_000)


# Bad arguments


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
        (["coffee.png", "--task", "inpainting", "--box", "0,0,9,9", "--mask", "coffee.png"], "exclude one another"),
        (["coffee.png", "--task", "deblurring", "--keep", "0.3", "--gaussian", "2"], "exclude one another"),
        (["coffee.png", "--task", "deblurring", "--gaussian", "40"], "gaussian must be"),
        (["coffee.png", "--task", "super-resolution", "--dense"], "--dense"),
        (["coffee.png", "--task", "super-resolution", "--h0", "0.1"], "--h0"),
        (["coffee.png", "--task", "super-resolution", "--sampler", "paper", "--beta", "nan"], "beta"),
        (["coffee.png", "--task", "super-resolution", "--evaluations", "0"], "evaluations"),
        (["coffee.png", "--task", "super-resolution", "--prior", "nonsense"], "nonsense"),
        (["coffee.png", "--task", "compressive-sensing", "--measured"], "--measured"),
        (["coffee.png", "--task", "inpainting", "--measured"], "--mask"),
        (["text.png", "--task", "super-resolution"], "not a picture"),
        (["coffee.png"], "--task is required"),
        (["--task", "super-resolution"], "IMAGE is required"),
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
        (
            ["--task", "super-resolution", "--seed", "-1"],
            "--seed: expected a whole number of at least 0 and at most 9007199254740991",
        ),
        (
            ["--task", "super-resolution", "--seed", str(2**64)],
            "--seed: expected a whole number of at least 0 and at most",
        ),
        (
            ["--task", "super-resolution", "--seed", "9" * 5000],
            "--seed: expected a whole number of at least 0 and at most",
        ),
        (["--task", "inpainting", "--box", "1,2,3"], "--box"),
        (["--task", "deblurring", "--motion", "9"], "--motion: expected LENGTH,ANGLE"),
        (["--task", "deblurring", "--motion", "far,3"], "--motion: expected LENGTH,ANGLE, got 'far,3'"),
    ],
)
def test_arguments_that_cannot_be_parsed_exit_with_2_and_one_sentence(capsys, arguments, said):
    with pytest.raises(SystemExit) as exit_status:
        main(["restore", "x.png", *arguments])
    assert exit_status.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0


# Among other programs

ENLARGE = ("--task", "super-resolution", "--evaluations", 4)


def strictly(text: str) -> dict:
    """A JSON object without Infinity and NaN, which other programs do not read."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("sides", "arguments", "nothing"),
    [
        ((32, 32), (*ENLARGE, "--factor", 1, "--samples", 2), ("mean.psnr", "coverage.measured", "spread_skill")),
        ((32, 32), ("--task", "random-pixels", "--keep", 1, *ENLARGE[2:]), ("input.psnr", "mean.psnr")),
        ((32, 32), ("--task", "random-pixels", "--keep", 1, "--method", "tv"), ("result.psnr",)),
        ((8, 9), (*ENLARGE, "--factor", 3), ("input.ssim", "mean.ssim")),
        ((8, 9), (*ENLARGE, "--factor", 5, "--samples", 2), ("sample.ssim_paper", "mean.ssim")),
    ],
)
def test_scores_that_are_no_numbers_are_null(capsys, sides, arguments, nothing):
    images.save_image(torch.zeros(1, 1, *sides), "data/black.png")
    for command in (["restore", "data/black.png"], ["bench", "restoration", "--data", "data"]):
        assert main([*command, *map(str, arguments), "--json"]) == 0
        row = strictly(capsys.readouterr().out)
        for place in nothing:
            value = row
            for name in place.split("."):
                value = value[name]
            assert value is None, place


def test_output_that_lacks_letters_is_escaped(monkeypatch):
    images.save_image(examples.example("camera", side=16), "σ×.png")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert main(["restore", "σ×.png", *map(str, ENLARGE)]) == 0
    assert rb"picture: \u03c3\xd7.png" in printed.getvalue()
    with pytest.raises(SystemExit, match="0"):
        main(["restore", "--help"])


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("arguments", [("weights", "list"), ("restore", "coffee.png", *ENLARGE, "--json")])
def test_a_reader_that_has_left_is_no_error(capsys, picture, monkeypatch, stream, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(f"sys.{stream}", pipe)
        assert main([*map(str, arguments)]) == 0
    monkeypatch.undo()
    captured = capsys.readouterr()
    assert "error" not in captured.out + captured.err
    assert (captured.out == "") == (stream == "stdout"), "the other stream says what it always says"


def test_progress_never_goes_to_standard_output(capsys, picture, monkeypatch):
    monkeypatch.setattr("sys.stderr", None)  # what Python makes of a closed one
    assert run(capsys, "restore", picture, *ENLARGE)["evaluations"] == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_result_that_cannot_be_printed_is_not_lost(capsys, monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(["weights", "verify"]) == 2
    error = capsys.readouterr().err
    assert "bf-unet-color: ok" in error
    assert error.strip().splitlines()[-1].startswith("error: standard output cannot be written (No space left")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("file", "file is not a folder"),
        ("file/below", "file/below is not a folder"),
        ("/dev/null", "/dev/null is not a folder"),
        ("taken", "is not a file"),
        ("l" * 300, "cannot be written (File name too long)"),
    ],
)
@pytest.mark.parametrize("command", ["restore", "sample", "remove-noise"])
def test_a_place_that_cannot_be_written_is_found_before_the_work(capsys, picture, monkeypatch, command, out, said):
    Path("file").write_text("")
    for name in ("coffee-1", "coffee-restored", "sample-1"):
        Path("taken", f"{name}.png").mkdir(parents=True)
    monkeypatch.setattr("invlib.runs.solve", lambda problem, settings: pytest.fail("it worked in vain"))
    arguments = {"restore": [picture, *ENLARGE], "sample": [], "remove-noise": [picture, "--noise", "radial"]}
    assert said in refused(capsys, command, *arguments[command], "--out", out)


def test_the_other_outs_are_checked_as_well(capsys, tmp_path):
    images.save_image(examples.example("camera", side=32), tmp_path / "data" / "set5" / "camera.png")
    Path("file").write_text("")
    for out in ("file/net.safetensors", "data"):
        said = refused(capsys, "train", "denoiser", "--data", "data/set5", "--out", out, "--steps", 1)
        assert "name another place with --out" in said
        assert main(["bench", "table1", "--data", "data", "--methods", "tv", "--out", out]) == 2
        error = capsys.readouterr().err
        assert "name another place with --out" in error
        assert "row 1" not in error


def test_folders_of_an_out_are_made(capsys, picture):
    assert Path(run(capsys, "restore", picture, *ENLARGE, "--out", "a/b/c")["files"][0]).parent == Path("a/b/c")


def test_scores_outlive_pictures_that_cannot_be_written(capsys, picture):
    Path("out", "coffee-mean.png").mkdir(parents=True)
    assert main(["restore", str(picture), *map(str, ENLARGE), "--samples", "2", "--json"]) == 2
    captured = capsys.readouterr()
    row = strictly(captured.out)
    assert row["mean"]["psnr"] > row["input"]["psnr"]
    assert row["files"] == ["out/coffee-1.png", "out/coffee-2.png"]
    assert captured.err.strip().splitlines()[-1] == f"error: {row['error']}"
    assert row["error"].startswith("out/coffee-mean.png cannot be written")


def test_a_row_outlives_a_full_disk(capsys, tmp_path, monkeypatch):
    images.save_image(examples.example("coffee", side=32), tmp_path / "data" / "set5" / "coffee.png")

    def full(row, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("invlib.experiments.rows.append", full)
    assert main(["bench", "table1", "--data", "data", "--methods", "least-squares", "--json"]) == 2
    captured = capsys.readouterr()
    row = strictly(captured.out)
    assert [each["method"] for each in row["rows"]] == ["least-squares"]
    assert "table1.jsonl cannot be written (No space left on device)" in row["error"]
    assert row["error"] in captured.err


@pytest.fixture
def flawed(tmp_path):
    """Two pictures, one that is none, and one that was cut off."""
    for name in ("chelsea", "coffee"):
        images.save_image(examples.example(name, side=40), tmp_path / "flawed" / f"{name}.png")
    Path("flawed", "broken.png").write_text("not a picture")
    Path("flawed", "short.png").write_bytes(Path("flawed", "coffee.png").read_bytes()[:700])


@pytest.mark.parametrize(
    "arguments",
    [
        ("denoising", "--prior", "bf-unet-gray"),
        ("restoration", *ENLARGE),
        ("structured-noise", "--task", "radial", "--methods", "tv"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_broken_file_of_a_folder_is_reported_and_the_rest_goes_on(capsys, flawed, arguments):
    name, *others = map(str, arguments)
    assert main(["bench", name, "--data", "flawed", *others, "--json"]) == 0
    captured = capsys.readouterr()
    row = strictly(captured.out)
    assert row["images"] == 2
    assert len(row["left_out"]) == 2
    for sentence, file in zip(row["left_out"], ("broken.png", "short.png"), strict=True):
        assert file in sentence
        assert sentence in captured.err
    for good in ("chelsea", "coffee"):
        Path("flawed", f"{good}.png").unlink()
    assert main(["bench", name, "--data", "flawed", *others]) == 2
    assert "error: " in capsys.readouterr().err


def test_a_picture_that_a_task_cannot_have_is_left_out(capsys, flawed):
    images.save_image(examples.example("camera", side=16), "flawed/a.png")
    arguments = ("bench", "restoration", "--data", "flawed", "--task", "inpainting", "--evaluations", 4)
    row = run(capsys, *arguments, "--box", "2,2,20,20")
    assert row["images"] == 2
    assert "a.png is left out: box" in row["left_out"][0]
    assert main([*map(str, arguments), "--box", "0,0,99,99"]) == 2
    assert "error: box" in capsys.readouterr().err, "not that of the broken file"


FOLDERS = {
    "restore": ("--task", "super-resolution", "--evaluations", 2),
    "denoise": ("--noise-level", 0.2),
    "remove-noise": ("--noise", "radial", "--method", "tv"),
}


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_goes_on_where_it_was_stopped(capsys, flawed, command):
    arguments = [command, "flawed", *FOLDERS[command], "--out", "done"]
    first = run(capsys, *arguments)
    assert (first["images"], first["skipped"]) == (2, 0)
    assert [sentence.split()[0] for sentence in first["left_out"]] == ["broken.png", "short.png"]
    assert first["files"]
    assert all(Path(file).is_file() for file in first["files"])
    single = run(capsys, command, "flawed/coffee.png", *FOLDERS[command], "--out", "alone")
    for file in single["files"]:
        assert (Path("done") / Path(file).name).read_bytes() == Path(file).read_bytes()
    # A picture lost, another one changed, a record cut off, other settings: each is done again, and nothing else is.
    assert run(capsys, *arguments)["skipped"] == 2
    Path(next(file for file in first["files"] if "coffee" in file)).unlink()
    assert run(capsys, *arguments)["skipped"] == 1
    images.save_image(examples.example("rocket", side=40), "flawed/coffee.png")
    again = run(capsys, *arguments)
    assert again["skipped"] == 1
    Path("done/chelsea.json").write_bytes(Path("done/chelsea.json").read_bytes()[:200])
    assert run(capsys, *arguments)["skipped"] == 1
    assert {**run(capsys, *arguments), "skipped": 0, "seconds": 0} == {**again, "skipped": 0, "seconds": 0}
    assert run(capsys, *arguments, "--seed", 1)["skipped"] == 0


def test_a_folder_averages_scores_and_its_records_replay(capsys, flawed):
    row = run(capsys, "restore", "flawed", *FOLDERS["restore"], "--bits", 16, "--out", "done")
    records = [strictly(Path(f"done/{name}.json").read_text()) for name in ("chelsea", "coffee")]
    for part in ("input", "sample", "mean"):
        assert row[part]["psnr"] == pytest.approx(sum(each[part]["psnr"] for each in records) / 2, abs=1e-4)
    again = run(capsys, "restore", "flawed/coffee.png", "--replay", "done/coffee.json", "--bits", 16, "--out", "again")
    assert Path(again["files"][0]).read_bytes() == Path("done/coffee-1.png").read_bytes()
    assert run(capsys, "restore", "flawed", *FOLDERS["restore"], "--out", "done")["skipped"] == 0, "of other bits"


def test_a_score_that_is_infinite_for_one_picture_is_null_for_the_folder(capsys, tmp_path):
    images.save_image(torch.zeros(1, 3, 16, 16), tmp_path / "some" / "black.png")
    images.save_image(examples.example("coffee", side=16), tmp_path / "some" / "coffee.png")
    row = run(capsys, "restore", "some", *FOLDERS["restore"])
    assert row["input"]["psnr"] is None
    assert row["images"] == 2


def test_pictures_of_one_name_in_a_folder_keep_files_of_their_own(capsys, tmp_path):
    for name in ("a.png", "A.jpg", "a.png.bmp"):
        images.save_image(examples.example("coffee", side=16), tmp_path / "some" / name)
    files = run(capsys, "denoise", "some")["files"]
    assert len({file.casefold() for file in files}) == len(files) == 6
    assert {Path(file).name for file in files} >= {"a.png-1.png", "A.jpg-1.png", "a.png.bmp-1.png"}


def test_what_does_not_go_with_a_folder_is_refused(capsys, flawed):
    assert "name another folder with --out" in refused(capsys, "denoise", "flawed", "--out", "flawed")
    Path("run.json").write_text("{}")
    assert "--replay is for one picture" in refused(capsys, "denoise", "flawed", "--replay", "run.json")
    Path("empty").mkdir()
    assert "holds no pictures" in refused(capsys, "denoise", "empty")
    assert main(["restore", "flawed", "--task", "inpainting", "--box", "0,0,99,99"]) == 2
    assert "error: box" in capsys.readouterr().err, "not that of a broken file"


def test_a_full_disk_ends_the_work_on_a_folder_with_what_was_done(capsys, flawed, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert main(["denoise", "flawed", "--json"]) == 2
    row = strictly(capsys.readouterr().out)
    assert "No space left on device" in row["error"]
    assert row["images"] == 1
    assert Path(row["files"][0]).is_file()
