"""The tables and figures of the first paper, with a prior that blurs: small, untrained and known."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from invlib import engines, examples, images, restore
from invlib.cli import main
from invlib.experiments import figures
from invlib.experiments.figures import EXPERIMENTS
from invlib.experiments.rows import Options, run
from invlib.experiments.speed import AsPublished
from invlib.experiments.tables import TABLES, choose, middle, plan_table
from invlib.metrics import psnr, spread_skill, ssim, ssim_paper
from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN, BFUNet
from invlib.problems.operators import BlockAverage
from invlib.solvers.schedules import predicted_sigmas

NAMES = ("baby", "butterfly", "head")

QUICK = "fast,least-squares,tv,red"


def save_told() -> None:
    """A small network that is told what was measured, and takes the iterate for noise."""
    net = BFUNet(3, (4, 8), 1, told=True)
    nn.init.zeros_(net.head.weight)
    path = checkpoints.weights_folder() / "bf-told-color.safetensors"
    checkpoints.save(net, path, recipe="none", data="none", quality={})
    checkpoints.register("bf-told-color", path, "told")


def save_prior(name: str, strength: float = 1.0) -> None:
    """A network whose noise estimate is the image less its blur, times `strength`: relu(u) - relu(-u) = u."""
    channels = 1 if name.endswith("gray") else 3
    net = BFCNN(channels, depth=2, width=2 * channels, folded=True)
    detail = -torch.full((3, 3), 1 / 9)
    detail[1, 1] += 1
    first, last = (layer.weight.data.zero_() for layer in net.conv_layers)
    for channel in range(channels):
        for place, sign in ((2 * channel, 1), (2 * channel + 1, -1)):
            first[place, channel] = sign * strength * detail
            last[channel, place, 1, 1] = sign
    path = checkpoints.weights_folder() / f"{name}.safetensors"
    checkpoints.save(net, path, recipe="none", data="none", quality={})
    checkpoints.register(name, path, name)


@pytest.fixture(autouse=True)
def priors(tmp_path, monkeypatch):
    monkeypatch.setenv("INVLIB_WEIGHTS", str(tmp_path / "weights"))
    for name in ("bf-unet-color", "bf-unet-gray", "bf-cnn-color"):
        save_prior(name)
    save_told()
    monkeypatch.setattr(figures, "FIGURE1_SIDE", 12)


@pytest.fixture
def data(tmp_path):
    for name, example in zip(NAMES, ("astronaut", "chelsea", "coffee"), strict=True):
        images.save_image(examples.example(example, side=26), tmp_path / "data" / "set5" / f"{name}.png")
        images.save_image(examples.example(example, channels=1, side=26), tmp_path / "data" / "set68" / f"{name}.png")
    return tmp_path / "data"


def only_row(plan, path, **wanted):
    """The row of the one cell whose key holds `wanted`, or of the first of them."""
    cell = next(cell for cell in plan.cells if wanted.items() <= cell.key.items())
    (row,) = run([cell], path)
    return row


def truths(data, factor):
    paths = sorted((data / "set5").iterdir())
    return [images.crop_to_multiple(images.load_image(path), factor) for path in paths]


def test_least_squares_is_scored_by_hand(data, tmp_path):
    row = only_row(plan_table("table1", Options(data)), tmp_path / "rows", method="least-squares")
    found = []
    for x in truths(data, 4):
        operator = BlockAverage(x.shape[1:], 4)
        found.append((operator.project(x).clamp(0, 1), x))
    for name, metric in (("psnr", psnr), ("ssim", ssim), ("ssim_paper", ssim_paper)):
        values = torch.cat([metric(estimate, x) for estimate, x in found])
        assert row["result"][name] == pytest.approx(float(values.mean()), abs=1e-3)
        assert row["result"][f"{name}_std"] == pytest.approx(float(values.std()), abs=1e-3)
    assert (row["set"], row["images"], row["pictures"]) == ("set5", 3, list(NAMES))
    assert (row["task"], row["knobs"], row["crop"]) == ("super-resolution", {"factor": 4}, None)
    assert row["each"]["head"]["result"] == pytest.approx(float(psnr(*found[2])), abs=1e-3)
    assert row["paper"] == {"method": "least-squares", "result": {"psnr": 26.35, "ssim_paper": 0.826}}
    assert (row["prior"], row["sha256"], row["evaluations"]) == (None, None, None)


def test_samples_and_their_average_are_scored_by_hand(data, tmp_path):
    row = only_row(plan_table("table1", Options(data, samples=3)), tmp_path / "rows", method="fast")
    prior = checkpoints.load("bf-unet-color")
    each, means, spreads, pairs = [], [], [], []
    for x in truths(data, 4):
        operator = BlockAverage(x.shape[1:], 4)
        result = restore(prior, operator, operator.measure(x), count=3)
        samples = result.samples.clamp(0, 1)
        each.append(psnr(samples, x))
        means.append(float(psnr(result.mean.clamp(0, 1), x)))
        pairs.append(float(psnr(result.samples[:2].mean(0, keepdim=True).clamp(0, 1), x)))
        spreads.append(spread_skill(samples, x))
    assert row["sample"]["psnr"] == pytest.approx(sum(float(e.mean()) for e in each) / 3, abs=1e-3)
    assert row["sample"]["psnr_std"] == pytest.approx(sum(float(e.std()) for e in each) / 3, abs=1e-3)
    assert row["mean"]["psnr"] == pytest.approx(sum(means) / 3, abs=1e-3)
    assert list(row["averages"]) == ["1", "2", "3"]
    assert row["averages"]["2"] == pytest.approx(sum(pairs) / 3, abs=1e-3)
    assert row["averages"]["3"] == pytest.approx(row["mean"]["psnr"], abs=1e-3)
    assert min(spreads) <= row["spread_skill"] <= max(spreads)
    assert (row["samples"], row["evaluations"], row["unfinished"]) == (3, result.evaluations, 0)
    assert row["paper"]["sample"] == {"psnr": 29.47, "ssim_paper": 0.894, "psnr_std": 0.09}
    assert row["paper"]["mean"] == {"psnr": 31.2, "ssim_paper": 0.913}
    assert row["prior"] == "bf-unet-color"


def test_red_counts_the_evaluations_of_its_prior_for_each_picture(data, tmp_path):
    row = only_row(plan_table("table2", Options(data)), tmp_path / "rows", method="red")
    assert row["evaluations"] == row["settings"]["steps"] == 100
    assert row["paper"] == {}


def test_rows_of_a_prior_are_measured_again_when_its_weights_change(data):
    before = [cell for cell in plan_table("table1", Options(data)).cells if cell.key["knobs"]["factor"] == 4]
    save_prior("bf-unet-color", strength=0.5)
    after = [cell for cell in plan_table("table1", Options(data)).cells if cell.key["knobs"]["factor"] == 4]
    changed = {cell.key["method"] for cell, other in zip(before, after, strict=True) if cell.id != other.id}
    assert changed == {"fast", "paper", "red", "deepred"}


def test_slow_methods_have_fewer_pictures_and_they_are_among_the_others(data):
    for number in range(4, 30):
        images.save_image(torch.rand(1, 1, 8, 8), data / "set68" / f"{number:02}.png")
    plan = plan_table("table3", Options(data, methods=["fast", "paper", "tv", "dip"]))
    cells = [cell.key for cell in plan.cells if cell.key["knobs"] == {"keep": 0.1}]
    assert [(key["method"], key["images"]) for key in cells] == [("fast", 29), ("paper", 10), ("tv", 29), ("dip", 2)]
    for larger, smaller in ((cells[0], cells[1]), (cells[1], cells[3])):
        assert set(smaller["pictures"]) < set(larger["pictures"])
        assert smaller["pictures"] == sorted(smaller["pictures"])
    limited = plan_table("table3", Options(data, images=5, baseline_images=1, methods=["fast", "dip"]))
    assert {(cell.key["method"], cell.key["images"]) for cell in limited.cells} == {("fast", 5), ("dip", 1)}
    problem = TABLES["table3"][0]
    assert choose(problem, Options(data), 3) == choose(problem, Options(data), 3, None)


def test_the_dense_basis_and_the_fast_one_agree_on_crops(data, tmp_path):
    rows = [
        only_row(plan_table("table3", Options(data)), tmp_path / "rows", method="fast", crop=128, knobs=knobs)
        for knobs in ({"keep": 0.1, "dense": False}, {"keep": 0.1, "dense": True})
    ]
    assert rows[0]["pictures"] == rows[1]["pictures"]
    assert rows[0]["mean"] != rows[1]["mean"]
    assert abs(rows[0]["mean"]["psnr"] - rows[1]["mean"]["psnr"]) < 1.5


def test_a_crop_is_the_middle():
    x = torch.arange(20.0).view(1, 1, 4, 5)
    assert middle(x, 2).flatten().tolist() == [6, 7, 11, 12]
    assert torch.equal(middle(x, 9), x)


def test_a_published_denoiser_is_the_same_function_unfolded_in_float32():
    # On the CPU, because a GPU's convolutions keep 10 bits of a number in float32.
    fast = checkpoints.load("bf-cnn-color", device="cpu", dtype=torch.float32)
    published = AsPublished("bf-cnn-color").to("cpu")
    y = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(published(y), fast(y))
    assert not published.net.folded
    assert next(published.parameters()).dtype == torch.float32
    averages = F.avg_pool2d(y, 3, stride=1)
    # A checkpoint holds 16-bit numbers.
    torch.testing.assert_close(published(y)[..., 1:-1, 1:-1], y[..., 1:-1, 1:-1] - averages, atol=2e-3, rtol=0)


ARGUMENTS = {
    "table1": ("--samples", 2, "--images", 1, "--methods", f"paper,{QUICK}"),
    "table2": ("--samples", 2, "--images", 1, "--methods", QUICK),
    "table3": ("--samples", 2, "--images", 1, "--methods", QUICK),
    "denoisers": (),
    "figure1": ("--samples", 3),
    "convergence": ("--samples", 2, "--images", 1),
    "robustness": ("--samples", 1, "--images", 1),
}

ROWS = {"table1": 10, "table2": 8, "table3": 16, "denoisers": 2, "figure1": 6, "convergence": 17, "robustness": 20}


@pytest.mark.parametrize("name", ROWS)
def test_an_experiment_ends_in_one_object_and_a_file_of_rows(capsys, data, tmp_path, name):
    arguments = ["bench", name, "--data", data, "--out", tmp_path / "rows.jsonl", *ARGUMENTS[name], "--json"]
    assert main([str(argument) for argument in arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["experiment"] == name
    assert len(result["rows"]) == ROWS[name]
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result["rows"]
    for row in result["rows"]:
        assert row.keys() >= {"experiment", "id", "settings", "prior", "sha256", "date", "machine", "version"}

    assert main([str(argument) for argument in arguments]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == result["rows"], (
        "nothing is measured again, dates are the same"
    )


@pytest.mark.parametrize("name", ROWS)
def test_cells_can_be_sent_to_a_worker(data, name):
    cells = EXPERIMENTS[name](Options(data)).cells
    assert [pickle.loads(pickle.dumps(cell)).key for cell in cells] == [cell.key for cell in cells]


def test_every_experiment_is_tested():
    assert EXPERIMENTS.keys() == {*ROWS, "speed", "calibration", "memorisation"}


def test_figure_1_follows_the_prediction(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "figure1", "--samples", "4", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len((tmp_path / "figure1.jsonl").read_text().splitlines()) == len(rows)
    grid = [(row["settings"]["h0"], row["settings"]["beta"]) for row in rows]
    assert grid == [(h0, beta) for h0 in figures.FIGURE1_H0S for beta in (1.0, 0.5, 0.1)]
    for row in rows:
        h0, beta = row["settings"]["h0"], row["settings"]["beta"]
        expected = [level for level, _ in zip(predicted_sigmas(h0, beta, 1.0), row["sigma"], strict=False)]
        assert row["predicted"] == pytest.approx(expected, abs=1e-5)
        assert len(row["iterations"]) == 4
        assert row["iterations"][0] == len(row["sigma"])
        assert row["sigma"][-1] <= 0.01 < row["sigma"][-2]
    assert sum(rows[0]["iterations"]) < sum(rows[2]["iterations"]), "more noise takes longer"


def test_speed_compares_in_one_row(capsys, data, tmp_path, monkeypatch):
    monkeypatch.setenv(engines.ENGINE, "an engine that there is not, so that nothing may ask for it")
    assert main(["bench", "speed", "--data", str(data), "--out", str(tmp_path / "rows"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert json.loads((tmp_path / "rows").read_text()) == row
    runs = row["runs"]
    assert [run["samples"] for run in runs.values()] == [1, 1, 8, 1, 1]
    assert runs["ten evaluations"]["evaluations"] == 10 < runs["default"]["evaluations"] == 13
    paper = runs["paper, its network"]
    assert paper["evaluations"] > 50
    assert row["ratios"]["paper, its network"] == pytest.approx(paper["seconds"] / runs["default"]["seconds"], abs=0.06)
    assert all(math.isfinite(run["psnr"]) for run in runs.values())
    assert row["cold_start"] > 0
    assert row["network"]["prior"] == "bf-cnn-color"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("table3", "--data", "."), ". has no folder set68: name the folder that holds it"),
        (("table1", "--data", "."), ". has no folder set5 or set14: name the folder that holds it"),
        (("table1", "--data", "data", "--methods", "tv,magic"), "'magic' is not a method of the tables: choose from"),
        (("table1", "--data", "data", "--prior", "bf-unet-gray"), "compared in 3: choose another prior"),
        (("speed", "--data", "odd"), "odd/set5 has no picture butterfly: copy it there"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(capsys, data, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    images.save_image(torch.zeros(1, 3, 8, 8), "odd/set5/woman.png")
    assert main(["bench", *arguments, "--out", "rows.jsonl"]) == 2
    assert sentence in capsys.readouterr().err


def test_sets_that_are_not_there_are_left_out_and_named(capsys, data, tmp_path):
    plan = plan_table("table1", Options(data, methods=["tv"]))
    assert {cell.key["set"] for cell in plan.cells} == {"set5"}
    assert plan.left_out == [f"{data} has no folder set14, so its rows are left out"]
