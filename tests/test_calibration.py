"""Bands about the average: right for exact samples, fitted for others, and claimed only where they were measured."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import torch
from scipy.stats import t as student

from invlib import examples, images, runs, scores
from invlib.cli import main
from invlib.experiments import calibration, report
from invlib.experiments.rows import Options, read
from invlib.images import Picture
from invlib.metrics import deviations, expected_half_width, half_width
from invlib.priors import checkpoints
from invlib.problems import linear
from invlib.problems.operators import BlockAverage
from tests.test_samplers import GaussianPrior, with_noise
from tests.test_tables import save_prior


def exact(count: int, spread: float, antithetic: bool, seed: int, repeats: int = 500):
    """Samples of the exact posterior of a Gaussian prior and as many truths, the samples' spread times `spread`."""
    prior, operator = GaussianPrior(8, dimension=30), BlockAverage((1, 8, 8), 4)
    measurements = with_noise(operator.measure(prior.draw()), 0.1)
    mean, covariance = prior.posterior(operator, measurements, 0.1)
    white = torch.randn(repeats, count + 1, len(mean), generator=torch.Generator().manual_seed(seed))
    if antithetic:
        white[:, 1:count:2] = -white[:, 0:count:2]
    white[:, :count] *= spread
    draws = (mean + white @ torch.linalg.cholesky(covariance).T) @ prior.basis.T
    return [(each[:count], each[count:]) for each in draws.view(repeats, count + 1, 1, 8, 8)]


@pytest.mark.parametrize("spread", [1.0, 0.5])
@pytest.mark.parametrize(("count", "antithetic"), [(3, False), (8, False), (4, True), (8, True)])
def test_the_factor_of_exact_samples_is_1_and_of_narrow_ones_makes_up_for_it(count, antithetic, spread):
    fitted, others = (exact(count, spread, antithetic, seed) for seed in (0, 1))
    width = half_width(deviations(*each) for each in fitted)
    right = expected_half_width(count, antithetic=antithetic)
    if not antithetic:
        assert right == pytest.approx(math.sqrt(1 + 1 / count) * student.ppf(0.95, count - 1))
        # The average of samples that spread too little errs too little as well.
        right *= math.sqrt((1 + spread**2 / count) / (1 + 1 / count)) / spread
    else:
        right /= spread
    assert width == pytest.approx(right, rel=0.05)
    inside = [scores.inside(*each, width) for each in others]
    assert sum(inside) / len(inside) == pytest.approx(0.9, abs=0.01)


def test_what_is_known_is_left_out_and_a_shared_mistake_is_infinitely_far():
    samples = torch.tensor([0.0, 0.2]).view(2, 1, 1, 1).repeat(1, 1, 1, 4)
    samples[..., :2] = 0.5
    found = deviations(samples, torch.tensor([[[[0.5, 0.6, 0.1, 0.2]]]]))
    assert found.tolist() == pytest.approx([math.inf, 0, 1 / math.sqrt(2)])
    assert half_width([found], 0.6) == pytest.approx(1 / math.sqrt(2))
    assert half_width([found, torch.zeros(6).double()]) == math.inf
    assert math.isnan(half_width([found[:0]]))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Pictures in colour, one of which training holds out, two problems and a prior that blurs."""
    monkeypatch.setenv("INVLIB_WEIGHTS", str(tmp_path / "weights"))
    save_prior("bf-unet-color")
    for number, name in enumerate(("astronaut", "chelsea", "coffee")):
        for folder in ("faces64", "training"):
            images.save_image(examples.example(name, side=24), tmp_path / folder / f"{number}.png")
    problems = (("super-resolution", {"factor": 4}), ("super-resolution", {"factor": 8}))
    monkeypatch.setattr(calibration, "PROBLEMS", problems)
    monkeypatch.setattr(scores, "CALIBRATION", tmp_path / "calibration.jsonl")
    return tmp_path


def calibrate(data):
    """The rows of the command line."""
    flags = {"data": data, "data-training": data / "training", "samples": 4, "images": 2, "out": scores.CALIBRATION}
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    assert main(["bench", "calibration", *words]) == 0
    return read(scores.CALIBRATION)


def solved(samples=4, knobs={"factor": 4}, noise=None, truth=True, **given):  # noqa: B006 - not changed
    picture = Picture("a cat", examples.example("chelsea", side=16), "a cat")
    problem = linear.pose("super-resolution", picture, knobs, noise_level=noise, simulated=truth)
    return runs.finish(runs.solve(problem, runs.settings(problem, given=given, samples=samples))).parameters


def test_cells_can_be_sent_to_a_worker(data):
    cells = calibration.plan_calibration(Options(data, training=data / "training")).cells
    assert [pickle.loads(pickle.dumps(cell)).key for cell in cells] == [cell.key for cell in cells]


def test_a_band_is_fitted_to_held_out_pictures_and_tested_on_others(data):
    row, other = calibrate(data)
    assert (row["task"], row["images"], row["sets"]["faces64"]["images"]) == ("super-resolution", 1, 2)
    assert list(row["factors"]) == ["2", "3", "4"]
    (square,) = calibration.load_training_set(data / "training", 3)[1]
    problem = linear.pose("super-resolution", Picture("held out", square[None] / 255, ""), {"factor": 4})
    *_, last = runs.solve(problem, runs.settings(problem, samples=4))
    found = deviations(last.images.clamp(0, 1), problem.truth)
    width = row["factors"]["4"] * expected_half_width(4, antithetic=True)
    assert (found <= 1.001 * width).double().mean() >= 0.9 >= (found < 0.999 * width).double().mean()
    hand = half_width([deviations(last.images[:2].clamp(0, 1), problem.truth)])
    assert row["factors"]["2"] == pytest.approx(hand / expected_half_width(2, antithetic=True), rel=1e-3)
    for name, of in row["sets"]["faces64"].items():
        assert name in ("images", "crop") or of.keys() == {"measured", "expected"}
    head, _, *lines = report.honesty([row, other, row]).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("| super-resolution 4:1, Faces64 | `bf-unet-color` | 2 |")
    assert head.count("|") == lines[0].count("|") == lines[1].count("|")
    assert "no rows" in report.honesty([])


def test_a_run_has_a_band_where_it_was_measured_and_nowhere_else(data):
    assert "band" not in solved()
    row, _ = calibrate(data)
    run = solved()
    band = run["band"]
    assert (band["nominal"], band["pictures"], band["factor"]) == (0.9, 1, row["factors"]["4"])
    assert band["half_width"] == pytest.approx(band["factor"] * expected_half_width(4, antithetic=True), abs=1e-3)
    assert 0 < band["measured"] <= 1
    assert band["meaning"].endswith(f"In this picture, {100 * band['measured']:.0f}.")
    again = runs.settings(runs.read(run, Picture("a cat", examples.example("chelsea", side=16), ""))[0], samples=4)
    assert again.parameters.items() <= run.items()
    assert "band" in solved(samples=2)
    for other in ({"samples": 1}, {"samples": 5}, {"knobs": {"factor": 2}}, {"noise": 0.1}, {"evaluations": 9}):
        assert "band" not in solved(**other), other
    assert "band" not in solved(truth=False), "the noise of a picture that was measured is estimated"
    save_prior("bf-unet-color", strength=0.5)
    runs.load_sized.__globals__["_load_prior"].cache_clear()
    assert "band" not in solved(), "another prior's factors"


def test_without_the_truth_the_band_is_the_same_and_nothing_is_measured(data, tmp_path, capsys):
    row, _ = calibrate(data)
    images.save_image(examples.example("coffee", side=12), tmp_path / "small.png")
    arguments = ("restore", str(tmp_path / "small.png"), "--task", "super-resolution", "--measured", "--noise-level")
    assert main([*arguments, "0", "--samples", "4", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"factor: {row['factors']['4']}" in said
    assert "measured on 1 held-out pictures" in said
    assert "In this picture" not in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"training": None}, "--data-training is required"),
        ({"samples": 1}, "--samples must be at least 2"),
        ({"data": "nowhere"}, "nowhere has no folder set5 or set68 or faces64"),
        ({"training": "nowhere"}, "no pictures in nowhere"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(data, options, sentence):
    given = {"data": data, "training": data / "training", **options}
    given = {name: type(data)(value) if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(ValueError, match=sentence):
        calibration.plan_calibration(Options(**given))


def test_pictures_of_other_colours_than_the_prior_are_left_out(data):
    images.save_image(examples.example("coffee", channels=1, side=24), data / "set68" / "1.png")
    plan = calibration.plan_calibration(Options(data, "bf-unet-color", training=data / "training"))
    assert [list(cell.key["pictures"]) for cell in plan.cells] == [["faces64"]] * 2
    assert "bf-unet-color is for other colours than pictures of 1 channels, which are left out" in plan.left_out
    assert json.dumps(plan.cells[0].key)
    assert plan.cells[0].key["sha256"] == checkpoints.registry()["bf-unet-color"].sha256
