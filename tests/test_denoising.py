"""Denoising: the noise level, camera noise and its transform, methods, the command and its replay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from invlib import examples, images, runs
from invlib.cli.main import main
from invlib.images import Picture
from invlib.priors import checkpoints
from invlib.priors.denoisers import Denoiser
from invlib.problems import denoising
from invlib.problems.denoising import DENOISING, add_noise
from invlib.problems.operators import Identity
from invlib.solvers import baselines
from invlib.solvers.denoising import denoise_stabilised, fit_noise, stabilise, unbiased_inverse
from invlib.solvers.methods import METHODS, default_schedule, load_prior, methods_for, run_blind
from invlib.solvers.noise_level import NoiseSeen, see_noise
from invlib.solvers.posterior import Posterior
from invlib.solvers.restoration import restore
from tests.conftest import SubspacePrior


class Gaussian(Denoiser):
    """The exact denoiser of x ~ N(0, 1) with white noise of a known level."""

    def __init__(self, level: float, channels: int = 1) -> None:
        super().__init__(channels)
        self.level = level

    def estimate_noise(self, y: Tensor) -> Tensor:
        return y * self.level**2 / (1 + self.level**2)


def white(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def posed(image: Tensor, gain: float = 0.0, **how: Any) -> denoising.DenoisingProblem:
    return denoising.pose(DENOISING, Picture("a picture", image, "a picture"), {"gain": gain}, **how)


# What a denoiser sees


@pytest.mark.parametrize("level", [0.02, 0.1, 0.4, 2.0])
def test_the_level_allows_for_the_noise_that_an_exact_denoiser_keeps(level: float) -> None:
    x = white(1, 1, 96, 96)
    seen = see_noise(Gaussian(level), x + level * white(1, 1, 96, 96, seed=1))
    assert seen.kept == pytest.approx(1 / (1 + level**2), abs=1e-4)
    # Where the picture is noise itself, its smoothest blocks have the least noise by chance.
    # A response that keeps nearly all of the noise tells nothing of it: the correction ends at 0.01.
    assert seen.level == pytest.approx(level if level > 0.1 else level * math.sqrt(level**2 / 0.01), rel=0.1)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.4])
def test_the_level_of_noise_on_a_subspace(subspace: SubspacePrior, level: float) -> None:
    seen = see_noise(subspace, subspace.draw(1) + level * white(1, 1, 32, 32))
    assert seen.level == pytest.approx(level, rel=0.06)
    assert torch.allclose(seen.clean + seen.taken, subspace.draw(1) + level * white(1, 1, 32, 32), atol=1e-6)
    assert float(seen.map(31).square().mean().sqrt()) == pytest.approx(seen.level, rel=0.1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0.02, 0.05, 0.1])
def test_frames_and_cut_off_noise_do_not_lower_the_level(channels: int, level: float) -> None:
    x = examples.picture("astronaut", side=128, channels=channels).image.clone()
    x[..., :40] = 1.0  # white paper, whose noise is cut off above
    y = (x + level * white(*x.shape)).clamp(0, 1)
    y[..., :30, :] = 0.7  # a frame
    seen = see_noise(load_prior("bf-unet-gray" if channels == 1 else "bf-unet-color", Denoiser), y)
    assert seen.level == pytest.approx(level, rel=0.15)


def test_pictures_without_noise() -> None:
    prior = checkpoints.load("bf-unet-gray", dtype=torch.float32)  # bfloat16 rounds a picture of 0.5
    for plain in (torch.zeros(1, 1, 32, 40), torch.full((1, 1, 9, 8), 0.5)):
        seen = see_noise(prior, plain)
        assert seen.level < 0.01
        assert seen.map().shape == (1, 1, *plain.shape[-2:])


# Noise that grows with brightness


def test_the_noise_of_a_camera() -> None:
    x = torch.full((1, 1, 300, 300), 0.4)
    y = add_noise(x, 0.02, 0.05, seed=1)
    assert float(y.mean()) == pytest.approx(0.4, abs=0.002)
    assert float(y.var()) == pytest.approx(0.05 * 0.4 + 0.02**2, rel=0.02)
    assert torch.equal(y, add_noise(x, 0.02, 0.05, seed=1))


@pytest.mark.parametrize(("gain", "offset"), [(0.02, 0.01), (0.2, 0.0), (0.5, 0.3), (0.001, 0.02)])
def test_the_inverse_of_the_transform_is_unbiased(gain: float, offset: float) -> None:
    x = torch.tensor([0.02, 0.1, 0.3, 1.0]).view(-1, 1, 1, 1).expand(-1, 1, 700, 700)
    transformed = stabilise(add_noise(x, offset, gain, seed=0), gain, offset)
    found = unbiased_inverse(transformed.mean((1, 2, 3)), gain, offset)
    noise = (gain * x[:, 0, 0, 0] + offset**2).sqrt()
    assert torch.all((found - x[:, 0, 0, 0]).abs() < 5 * noise / 700)
    if gain < 0.1:
        assert torch.allclose(transformed[1:].std((1, 2, 3)), torch.tensor(1.0), atol=0.06)


def test_a_perfect_denoiser_of_stabilised_noise_gives_the_picture() -> None:
    x = torch.full((1, 1, 400, 400), 0.3)
    y = add_noise(x, 0.01, 0.1, seed=0)
    mean = denoise_stabilised(lambda y: y.mean((2, 3), keepdim=True), y, 0.1, 0.01)
    assert float(mean) == pytest.approx(0.3, abs=0.002)
    assert torch.equal(denoise_stabilised(lambda y: 2 * y, y, 0.0, 0.01), 2 * y), "no gain, no transform"
    with pytest.raises(ValueError, match="gain"):
        stabilise(y, 0.0, 0.1)


@pytest.mark.parametrize(("gain", "offset"), [(0.02, 0.01), (0.0, 0.1), (0.01, 0.0), (0.005, 0.05)])
def test_gain_and_offset_are_estimated(gain: float, offset: float) -> None:
    x = torch.linspace(0.05, 0.95, 256).expand(1, 1, 256, 256)
    y = add_noise(x, offset, gain, seed=0)
    seen = NoiseSeen(x, y - x, 0.0, 0.0)
    found = fit_noise(seen)
    brightness = np.array([0.1, 0.5, 0.9])
    variance = found[0] * brightness + found[1] ** 2
    assert variance == pytest.approx(gain * brightness + offset**2, rel=0.15)
    known, rest = fit_noise(seen, gain)
    assert known == gain
    assert rest == pytest.approx(offset, abs=0.01)


# Methods


def test_samples_have_the_posterior_of_a_gaussian_prior() -> None:
    """Given y = x + s n with x ~ N(0, 1), x has the mean y / (1 + s²) and the variance s² / (1 + s²)."""

    class Blind(Denoiser):
        def estimate_noise(self, y: Tensor) -> Tensor:
            variance = y.square().mean((1, 2, 3), keepdim=True)
            return y * ((variance - 1).clamp_min(0) / variance)

    s = 0.5
    y = white(1, 1, 64, 64) + s * white(1, 1, 64, 64, seed=1)
    schedule = default_schedule(Identity((1, 64, 64)), 16)
    result = restore(Blind(1), Identity((1, 64, 64)), y, count=16, noise=s, schedule=schedule)
    assert float((result.mean - y / (1 + s**2)).square().mean().sqrt()) < 0.15
    assert float(result.std.square().mean()) == pytest.approx(s**2 / (1 + s**2), rel=0.35)
    levels = s * (1 + torch.linspace(-0.5, 0.5, 64)).expand(1, 64, 64)
    Posterior(Blind(1), Identity((1, 64, 64)), y, levels)  # one for each pixel


@pytest.mark.parametrize("noise", [{"noise_level": 0.1}, {"noise_level": 0.01, "gain": 0.02}])
@pytest.mark.parametrize("method", [name for name, method in METHODS["denoise"].items() if method.installed])
def test_every_method_takes_the_noise_off_and_repeats(method: str, noise: dict[str, float]) -> None:
    picture = examples.picture("camera", side=48)
    gain, few = noise.get("gain", 0.0), {"paper": {"h0": 0.3, "beta": 0.3}, "fast": {"evaluations": 8}}
    problem = denoising.pose(DENOISING, picture, {"gain": gain}, noise_level=noise["noise_level"], seed=2)
    chosen = METHODS["denoise"][method]
    settings = runs.settings(problem, method, few.get(method, {}), samples=2 if chosen.draws else 1)
    run = runs.finish(runs.solve(problem, settings))
    done = run.parameters
    assert (done.get("mean") or done["result"])["psnr"] > done["input"]["psnr"] + 2.5
    assert (run.noise_map is not None) == ("noise_estimate" in done)
    again, how = runs.read(json.loads(json.dumps(run.to_json())))
    assert (again, how) == (problem, settings)
    repeated = runs.finish(runs.solve(again, how))
    assert all(np.array_equal(one, other) for one, other in zip(repeated.samples, run.samples, strict=True))


def test_noise_that_is_not_told_is_estimated() -> None:
    x = examples.picture("camera", side=96).image
    given = posed(add_noise(x, 0.1, 0.0, 0), simulated=False)
    assert given.estimate_noise
    for method in ("blind", "fast", "tv", "anscombe"):
        run = runs.finish(runs.solve(given, runs.settings(given, method)))
        assert run.parameters["noise_estimate"] == pytest.approx(0.1, rel=0.1)
        assert run.truth is None
    chelsea = examples.picture("chelsea", channels=1, side=256).image
    camera = posed(add_noise(chelsea, 0.01, 0.05, 0), simulated=False)
    run = runs.finish(runs.solve(camera, runs.settings(camera, "anscombe")))
    assert run.parameters["gain_estimate"] == pytest.approx(0.05, rel=0.3)


def test_one_evaluation_is_the_default_and_the_answer() -> None:
    calls: list[int] = []

    class Counting(Gaussian):
        def estimate_noise(self, y: Tensor) -> Tensor:
            calls.append(len(y))
            return super().estimate_noise(y)

    problem = posed(white(1, 1, 16, 16), noise_level=0.5)
    assert next(iter(methods_for(problem))) == "blind"
    (estimate,) = run_blind(problem, Counting(0.5), {}, 1, 0)
    assert (estimate.evaluations, len(calls)) == (1, 2)
    assert torch.allclose(estimate.images, problem.measurements / 1.25, atol=1e-6)


def test_wavelets_flatten_noise() -> None:
    pytest.importorskip("pywt")
    for channels in (1, 3):
        y = 0.5 + 0.1 * white(2, channels, 32, 32)
        assert float(baselines.wavelets(y, 0.1).std()) < 0.03


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "there is no noise"),
        ({"noise_level": 0.0, "simulated": False}, "there is no noise"),
        ({"noise_level": -0.1}, "--noise-level must be from 0 to 10"),
        ({"noise_level": math.nan}, "--noise-level must be from 0 to 10"),
        ({"gain": 1.5}, '"gain" must be a number of at least 0'),
    ],
)
def test_what_cannot_be_posed(how: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        posed(torch.full((1, 1, 16, 16), 0.5), **how)


# The command


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    images.save_image(examples.picture("chelsea", side=64).image, "photo.png")
    return Path("photo.png")


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["denoise", *map(str, arguments), "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_noise_is_added_and_taken_off(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = command(capsys, photo, "--noise-level", 0.1, "--out", "out")
    assert done["result"]["psnr"] > done["input"]["psnr"] + 5
    assert (done["simulated"], done["noise_level"], done["evaluations"]) == (True, 0.1, 1)
    assert done["noise_estimate"] == pytest.approx(0.1, rel=0.1)
    assert [Path(file).name for file in done["files"]] == ["photo-1.png", "photo-noisy.png", "photo-noise.png"]


def test_a_noisy_picture_is_cleaned_and_repeated(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy = add_noise(images.load_image(photo), 0.1, 0.0, 0)
    images.save_image(noisy, "noisy.png")
    done = command(capsys, "noisy.png")
    assert not done["simulated"]
    assert done["estimate_noise"]
    assert done["noise_estimate"] == pytest.approx(0.1, rel=0.1)
    assert "result" not in done
    told = command(capsys, "noisy.png", "--measured", "--noise-level", 0.1, "--method", "fast", "--samples", 2)
    assert (told["simulated"], told["estimate_noise"], told["noise_level"]) == (False, False, 0.1)
    Path("run.json").write_text(json.dumps(told))
    again = command(capsys, "noisy.png", "--replay", "run.json")
    assert {**told, "seconds": 0} == {**again, "seconds": 0}


def test_the_noise_of_a_camera_is_added(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = command(capsys, photo, "--gain", 0.02, "--method", "anscombe")
    assert done["knobs"] == {"gain": 0.02}
    assert done["simulated"]
    assert "gain_estimate" not in done


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "IMAGE is required"),
        (["photo.png", "--noise-level", "-1"], "--noise-level must be from 0 to 10"),
        (["photo.png", "--noise-level", "0"], "there is no noise"),
        (["photo.png", "--noise-level", "0.1", "--samples", "2"], "blind gives one answer"),
        (["photo.png", "--noise-level", "0.1", "--h0", "0.1"], "--h0 does not belong to blind"),
        (["photo.png", "--replay", "restored.json"], "use `restore --replay`"),
    ],
)
def test_what_is_refused(photo: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("restored.json").write_text('{"command": "restore"}')
    assert main(["denoise", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
