"""A run's JSON repeats the run: of every problem of both papers, from a page's way and from the command line's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from invlib import Posterior, examples, images, runs
from invlib.cli import main
from invlib.images import Picture
from invlib.priors.denoisers import BFCNN
from invlib.problems import linear, prior, structured
from invlib.problems.forward import SignMeasurements
from invlib.problems.noise import Gaussian, scatter
from invlib.problems.operators import BlockAverage, DenseRows, Mask, StructuredRows
from invlib.problems.spec import Problem
from invlib.solvers.baselines import red
from invlib.solvers.deep_baselines import deep_image_prior
from invlib.solvers.samplers import sample_fast
from invlib.solvers.schedules import Schedule
from tests.small_priors import use_small_priors
from tests.toy import TOY

FEW = {"evaluations": 4}
STROKES = torch.zeros(4, 64, 64)
STROKES[:, 20:24, 8:56] = torch.tensor([1.0, 0.2, 0.6, 1.0]).view(4, 1, 1)

LINEAR: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "factor": ("super-resolution", {"factor": 2}, {}),
    "low-pass": ("deblurring", {"keep": 0.3}, {}),
    "motion": ("deblurring", {"motion": (5.0, 30.0)}, {"noise_level": 0.05}),
    "kernel": ("deblurring", {"kernel": torch.rand(3, 3, generator=torch.Generator().manual_seed(0))}, {}),
    "box": ("inpainting", {"box": (3, 4, 8, 9)}, {}),
    "mask": ("inpainting", {"mask": torch.eye(32) < 1}, {"simulated": False}),
    "pixels": ("random-pixels", {"keep": 0.3}, {}),
    "sums": ("compressive-sensing", {"keep": 0.2, "dense": True}, {}),
}
STRUCTURED: dict[str, dict[str, Any]] = {
    "sinusoidal": {"c": 0.2},
    "radial": {},
    "digits": {"count": 2},
    "scribble": {"strokes": STROKES},
    "compressive-sensing": {"count": 100},
    "one-bit": {"count": 100},
}


@pytest.fixture
def small_priors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_priors(tmp_path / "weights", monkeypatch)


def solved(problem: Problem, **settings: Any) -> runs.Run:
    return runs.finish(runs.solve(problem, runs.settings(problem, **settings)))


def check_that_it_repeats(run: runs.Run, problem: Problem) -> None:
    """By the JSON alone, as it comes from a file; the picture is an example's."""
    again, settings = runs.read(json.loads(json.dumps(run.to_json())))
    assert again == problem
    repeated = runs.finish(runs.solve(again, settings))
    assert all(np.array_equal(one, other) for one, other in zip(repeated.samples, run.samples, strict=True))
    changing = {"seconds"}
    known, found = (
        {name: value for name, value in each.parameters.items() if name not in changing} for each in (run, repeated)
    )
    assert found == known


@pytest.mark.parametrize("name", LINEAR)
def test_linear_problems(name: str) -> None:
    task, knobs, how = LINEAR[name]
    problem = linear.pose(task, examples.picture("camera", side=32), knobs, **how)
    run = solved(problem, given=FEW, samples=2, seed=problem.seed)
    assert not np.array_equal(*run.samples)
    assert ("mean" in run.parameters) == problem.simulated
    check_that_it_repeats(run, problem)


@pytest.mark.parametrize("method", ["paper", "least-squares", "tv", "red"])
def test_every_method_for_linear_problems(method: str) -> None:
    problem = linear.pose("super-resolution", examples.picture("camera", side=16))
    few = {"paper": {"h0": 0.5, "beta": 0.5}, "tv": {"steps": 5}, "red": {"steps": 3}}.get(method, {})
    run = solved(problem, method=method, given=few)
    assert run.parameters["method"] == method
    assert ("result" in run.parameters) == (method != "paper")
    check_that_it_repeats(run, problem)


@pytest.mark.parametrize("task", STRUCTURED)
def test_structured_noise(small_priors: None, task: str) -> None:
    kind = structured.TASKS[task].pictures
    name = "astronaut" if kind == structured.FACES else next(iter(examples.SUBJECTS[kind]))
    problem = structured.pose(task, examples.subject(kind, name), STRUCTURED[task], seed=3)
    run = solved(problem, given={"steps": 3})
    assert run.noise_found is not None
    assert len(run.parameters["history"]["objective"]) == 3
    check_that_it_repeats(run, problem)


def test_samples_of_a_prior() -> None:
    problem = prior.pose((1, 16, 16), interpolate=True)
    run = solved(problem, given={"h0": 0.5, "sigma_L": 0.1}, prior="bf-cnn-mnist", samples=3, seed=2)
    check_that_it_repeats(run, problem)


def test_one_seed_belongs_to_a_run() -> None:
    problem = linear.pose("inpainting", examples.picture("camera", side=16), noise_level=0.1, seed=4)
    assert runs.settings(problem).seed == 4
    with pytest.raises(ValueError, match="a run has one seed"):
        runs.settings(problem, seed=5)


def test_a_method_that_does_not_suit_is_named() -> None:
    problem = linear.pose("inpainting", examples.picture("camera", side=16))
    with pytest.raises(ValueError, match="map is not for inpainting: choose from fast"):
        runs.settings(problem, "map")
    with pytest.raises(ValueError, match="tv gives one answer"):
        runs.settings(problem, "tv", samples=2)


# From the command line's JSON


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    row: dict[str, Any] = json.loads(capsys.readouterr().out)
    return row


def check_that_it_replays(capsys: pytest.CaptureFixture[str], name: str, *arguments: object) -> dict[str, Any]:
    """That --replay of the JSON writes the same bytes as the command with the arguments did."""
    first = command(capsys, name, *arguments, "--out", "first")
    Path("run.json").write_text(json.dumps(first), encoding="utf-8-sig")  # as some editors save it
    again = command(capsys, name, *arguments[:1], "--replay", "run.json", "--out", "again")
    assert len(first["files"]) == len(again["files"]) > 0
    for before, after in zip(first["files"], again["files"], strict=True):
        assert Path(before).read_bytes() == Path(after).read_bytes()
    return first


@pytest.mark.parametrize("noise", [*STRUCTURED, "measured", "measured scribble", "several", "pair", "found"])
def test_remove_noise_is_replayed_to_the_byte(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_priors: None, noise: str
) -> None:
    monkeypatch.chdir(tmp_path)
    images.save_image(examples.example("astronaut", side=80), "face.png")
    images.save_image(STROKES[:3] * STROKES[3:], "strokes.png")
    named = {"scribble": "strokes.png", "measured scribble": "strokes.png", "measured": "radial", "several": "one-bit"}
    named |= {"pair": "sinusoidal", "found": "strokes.png"}
    count = STRUCTURED.get(noise, {}).get("count", 100 if noise == "several" else None)
    # As a flow is asked for, the picture is reduced to its size.
    arguments = ["--noise", named.get(noise, noise), "--seed", 3, "--steps", 3, "--method", "map"]
    arguments += ["--count", count] if count else []
    arguments += ["--measured"] if noise.startswith("measured") else []
    arguments += ["--method", "mle", "--samples", 2] if noise == "several" else []
    if noise in ("pair", "found"):
        arguments = [*arguments[:4], "--method", "pair", "--evaluations", 6, "--samples", 2]
        arguments += ["--find"] if noise == "found" else []
    row = check_that_it_replays(capsys, "remove-noise", "face.png", *arguments)
    assert row["command"] == "remove-noise"
    assert row["samples"] == (2 if noise in ("several", "pair", "found") else 1)


# A problem that is new


def test_a_new_problem_is_one_operator_and_one_entry(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(linear.TASKS, "toy", TOY)
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    assert "--stride" in capsys.readouterr().out
    images.save_image(examples.example("camera", side=32), "camera.png")
    arguments = ("camera.png", "--task", "toy", "--stride", 2, "--evaluations", 4)
    row = check_that_it_replays(capsys, "restore", *arguments)
    assert (row["task"], row["knobs"], row["measured"]) == ("toy", {"stride": 2}, 512)
    assert row["mean"]["psnr"] > row["input"]["psnr"]
    before, after = images.load_image("camera.png"), images.load_image(row["files"][0])
    torch.testing.assert_close(after[..., ::2, :], before[..., ::2, :], atol=1.5 / 255, rtol=0)
    assert command(capsys, "restore", *arguments[:3])["knobs"] == {"stride": 3}
    assert main(["restore", "camera.png", "--task", "inpainting", "--stride", "2"]) == 2
    assert "--stride does not belong to inpainting" in capsys.readouterr().err


@pytest.mark.parametrize("seed", [-1, 2**53, 2**64, 2**200])
def test_one_bound_of_seeds_is_for_everything_that_draws(seed: int) -> None:
    picture, shape = examples.picture("camera", side=16), (1, 16, 16)
    operator, sums = BlockAverage(shape, 4), torch.zeros(1, 1, 4, 4)
    prior_of_nothing = BFCNN(1, depth=2, width=2)
    code = Gaussian(torch.ones(shape)).sample
    for draw in (
        lambda: linear.pose("super-resolution", picture, seed=seed),
        lambda: linear.pose("super-resolution", picture, noise_level=0.1, seed=seed),
        lambda: structured.pose("radial", examples.subject(structured.FACES, "astronaut"), seed=seed),
        lambda: runs.settings(linear.pose("inpainting", picture), seed=seed),
        lambda: next(sample_fast(Posterior(prior_of_nothing, operator, sums), Schedule(4), seed=seed)),
        lambda: Mask.random_pixels(shape, 0.5, seed),
        lambda: StructuredRows(shape, 0.5, seed),
        lambda: DenseRows(shape, 0.5, seed),
        lambda: SignMeasurements(shape, 4, seed),
        lambda: scatter((1, 64, 64), 1, seed=seed),
        lambda: code(1, shape, seed),
        lambda: next(deep_image_prior(operator, sums, seed=seed)),
        lambda: next(red(operator, sums, denoiser=prior_of_nothing, seed=seed)),
    ):
        with pytest.raises(ValueError, match=r"^seed must be a whole number from 0 to 9007199254740991, got"):
            draw()


def test_the_json_of_a_run_is_strict() -> None:
    problem = linear.pose("super-resolution", Picture("black", torch.zeros(1, 1, 16, 16), "black"), {"factor": 1})
    run = solved(problem, given=FEW, samples=2)
    assert run.parameters["mean"]["psnr"] == math.inf
    again = json.loads(json.dumps(run.to_json(), allow_nan=False))
    assert again["mean"]["psnr"] is None
    assert again["coverage"]["measured"] is None
    assert runs.read(again, problem.picture) == (problem, runs.settings(problem, given=FEW, samples=2))
