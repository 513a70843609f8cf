"""The page of benchmarks. Its rows are really measured, of tiny pictures with a prior that blurs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from invlib import examples, images
from invlib.experiments import figures, speed
from invlib.experiments.figures import EXPERIMENTS
from invlib.experiments.rows import Cell, Options, Row, run
from invlib.experiments.tables import TABLES, Case, table_cell
from invlib.metrics import psnr
from invlib.runs import Run, finish, solve
from pages.ui.benchmarks import plots as benchmark_plots
from pages.ui.benchmarks import rows as benchmark_rows
from pages.ui.benchmarks import run as benchmark_run
from pages.ui.benchmarks.run import Asked
from tests.pages.visitor import hold, text
from tests.patience import PATIENCE
from tests.test_tables import save_prior

ROOT = Path(__file__).parents[2]

SHOWN = {
    "super-resolution": ("table1",),
    "deblurring": ("table2",),
    "compressive-sensing": ("table3",),
    "convergence": ("convergence", "robustness"),
    "figure-1": ("figure1",),
    "denoising": ("denoisers",),
    "calibration": ("calibration",),
    "memorisation": ("memorisation",),
    "speed": ("speed",),
}
"""What can be looked at -> the experiments of which it is."""

Measure = Callable[..., list[Row]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results, empty at first, and quick priors."""
    monkeypatch.setenv("INVLIB_WEIGHTS", str(tmp_path / "weights"))
    for name in ("bf-unet-color", "bf-unet-gray", "bf-cnn-color"):
        save_prior(name)
    monkeypatch.setattr(figures, "FIGURE1_SIDE", 12)
    monkeypatch.setattr(speed, "cold_start", lambda path, prior: 4.2)
    monkeypatch.setattr(benchmark_rows, "FOLDER", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, example in (("baby", "astronaut"), ("butterfly", "coffee")):
        images.save_image(examples.example(example, side=24), tmp_path / "data/set5" / f"{name}.png")
        images.save_image(examples.example(example, channels=1, side=24), tmp_path / "data/set68" / f"{name}.png")
    return tmp_path / "data"


@pytest.fixture
def measure(data: Path) -> Measure:
    """Runs an experiment into the folder of results."""

    def rows(name: str, **options: object) -> list[Row]:
        return list(run(EXPERIMENTS[name](Options(data, **options)).cells, benchmark_rows.path(name)))

    return rows


def infos(page: AppTest) -> list[str]:
    return [str(info.value) for info in page.info]


def finished(asked: Asked) -> Run:
    """What comes of a measurement, without a page."""
    return finish(solve(asked.problem, asked.settings))


def run_here(page: AppTest) -> Run:
    page.button(key="run").click().run()
    job = page.session_state["submission measurement"].job
    assert job.wait(PATIENCE)
    assert job.error is None
    page.run()
    assert not page.exception
    return job.result


@pytest.mark.parametrize("show", SHOWN)
def test_without_results_a_sentence_says_how_to_measure_them(open_page: Callable[..., AppTest], show: str) -> None:
    page = open_page("benchmarks", show=show)
    command = r"`python -m invlib bench (\w+)(?: --data DIR)?(?: --data-training PATH)? --out (\S+)`"
    commands = [re.findall(command, info) for info in infos(page)]
    assert commands == [[(name, f"invlib/experiments/results/{name}.jsonl")] for name in SHOWN[show]]
    assert not page.error
    assert not page.dataframe


def test_every_experiment_is_shown_from_the_folder_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name for names in SHOWN.values() for name in names} == EXPERIMENTS.keys()
    monkeypatch.undo()
    assert benchmark_rows.path("table1") == ROOT / "invlib/experiments/results/table1.jsonl"


def test_a_table_has_what_was_measured_and_what_the_paper_reports(
    open_page: Callable[..., AppTest], measure: Measure
) -> None:
    fast, tv, *_ = measure("table1", samples=2, images=1, methods=["fast", "tv"])
    page = open_page("benchmarks")
    table = page.dataframe[0].value.set_index("method")
    assert table.index.tolist() == [
        "Ours, average of 2",
        "Ours, one sample",
        "Paper’s settings, average of 10",
        "Paper’s settings, one sample",
        "DeepRED",
        "DIP",
        "Total variation",
        "Least squares",
    ]
    average, sample = table.loc["Ours, average of 2"], table.loc["Ours, one sample"]
    assert (average["psnr"], average["ssim_paper"]) == (fast["mean"]["psnr"], fast["mean"]["ssim_paper"])
    assert (sample["psnr"], sample["psnr_std"]) == (fast["sample"]["psnr"], fast["sample"]["psnr_std"])
    assert (average["spread_skill"], average["seconds"]) == (fast["spread_skill"], fast["seconds"])
    assert average["covered"] == pytest.approx(100 * fast["coverage"]["measured"])
    assert (average["paper_psnr"], sample["paper_psnr"], sample["paper_ssim"]) == (31.20, 29.47, 0.894)
    assert (average["evaluations"], average["pictures"]) == (14, "1 of 5")
    assert table.loc["Total variation", "psnr"] == tv["result"]["psnr"]
    assert np.isnan(table.loc["Total variation", "psnr_std"]), "over pictures, which all methods share"
    assert np.isnan(table.loc["DIP", "psnr"])
    assert table.loc["DIP", "paper_psnr"] == 30.04
    shown = text(page)
    assert f"weights bf-unet-color (sha256 {fast['sha256'][:8]})" in shown
    assert fast["version"] in shown


def test_only_problems_with_results_are_offered_and_a_link_repeats_the_choice(
    open_page: Callable[..., AppTest], measure: Measure
) -> None:
    measure("table1", methods=["least-squares"])
    settings = {
        "show": "super-resolution",
        "problem": "set5-8",
        "score": "ssim_paper",
        "method": "tv",
        "picture": "coffee",
    }
    page = open_page("benchmarks", **settings)
    assert page.query_params == settings
    assert page.get_by_key("problem").options == ["Set5, 4:1", "Set5, 8:1"]
    assert "takes the range of a picture for 2" in text(page)
    page.get_by_key("show").set_value("deblurring")
    page.run()
    assert page.query_params["problem"] == "set5-0.1"


def test_methods_with_fewer_pictures_are_compared_on_those(measure: Measure) -> None:
    ours, *_ = measure("table1", samples=2, methods=["fast"])
    measure("table1", samples=2, images=1, methods=["tv", "paper"])
    found = {line.label: line for line in benchmark_rows.lines(TABLES["table1"][0], benchmark_rows.load("table1"))}
    (name,) = found["Total variation"].row["pictures"]
    assert found["Total variation"].same_pictures == ours["each"][name]["mean"]
    assert found["Paper’s settings, one sample"].same_pictures == ours["each"][name]["sample"]
    assert found["Ours, one sample"].same_pictures is None
    figure = benchmark_plots.scores(list(found.values()), "psnr", "dB")
    ticks = next(trace for trace in figure.data if trace.name == "ours on the same pictures")
    assert "Total variation,<br>1 of 5 pictures" in ticks.y
    assert "ours on the same pictures" not in [
        trace.name for trace in benchmark_plots.scores(list(found.values()), "ssim_paper", "SSIM").data
    ]


def test_the_latest_row_of_a_method_counts(data: Path, measure: Measure) -> None:
    measure("table1", images=1, methods=["tv"])
    last, *_ = measure("table1", methods=["tv"])
    lines = benchmark_rows.lines(TABLES["table1"][0], benchmark_rows.load("table1"))
    assert next(line.row["id"] for line in lines if line.method == "Total variation") == last["id"]


def test_what_only_the_paper_has_is_there_and_crops_have_nothing_of_it() -> None:
    whole, crops = TABLES["table3"][1], TABLES["table3"][3]
    reported = {line.method: line.reported["psnr"] for line in benchmark_rows.lines(whole, []) if line.reported}
    assert (reported["ISTA-Net"], reported["BNN"], reported["Total variation"]) == (25.23, 25.24, 22.49)
    assert benchmark_rows.lines(crops, []) == []


def test_problems_have_names_of_their_own() -> None:
    for problems in TABLES.values():
        for name in (benchmark_rows.slug, benchmark_rows.title):
            assert len({name(problem) for problem in problems}) == len(problems)


def test_error_bars_are_over_samples(measure: Measure) -> None:
    row, *_ = measure("table1", samples=3, methods=["fast", "least-squares"])
    lines = benchmark_rows.lines(TABLES["table1"][0], benchmark_rows.load("table1"))
    ours, others, paper = benchmark_plots.scores(lines, "psnr", "dB").data
    assert list(ours.error_x.array) == [None, row["sample"]["psnr_std"]]
    assert set(others.error_x.array) == {None}
    assert dict(zip(paper.y, paper.error_x.array, strict=True))["Ours,<br>one sample, 2 of 5 pictures"] == 0.09


def test_a_file_that_was_cut_off_is_shown_as_far_as_it_is(open_page: Callable[..., AppTest], measure: Measure) -> None:
    measure("table1", methods=["least-squares"])
    path = benchmark_rows.path("table1")
    path.write_bytes(path.read_bytes()[:-40])
    page = open_page("benchmarks")
    assert page.get_by_key("problem").options == ["Set5, 4:1"]
    assert len(page.dataframe[0].value) > 1


def test_a_file_of_something_else_is_refused_in_a_sentence(open_page: Callable[..., AppTest], folder: Path) -> None:
    folder.mkdir()
    (folder / "table1.jsonl").write_text("nothing of the kind\n")
    page = open_page("benchmarks")
    (error,) = page.error
    assert "holds something else than the rows of experiments" in error.value


def test_convergence_and_robustness(open_page: Callable[..., AppTest], data: Path) -> None:
    options = Options(data, samples=2, images=1)
    cells = EXPERIMENTS["convergence"](options).cells
    rows = list(run([*cells[:3], cells[5]], benchmark_rows.path("convergence")))
    # h₀ of .1 and .3, without the last β.
    cells = EXPERIMENTS["robustness"](options).cells[10:19]
    grid = list(run(cells, benchmark_rows.path("robustness")))
    page = open_page("benchmarks", show="convergence")
    assert not infos(page)
    assert page.get_by_key("problem").options == ["Set5, 4:1"]
    curves = benchmark_plots.averages({str(number): row for number, row in enumerate(rows)}).data
    assert [list(curve.x) for curve in curves] == [[1, 2]] * 4
    assert list(curves[0].y) == list(rows[0]["averages"].values())
    average, sample, published, _ = benchmark_plots.costs(rows, "evaluations", "evaluations").data
    assert list(average.x) == [4, 10, 20]
    assert list(sample.y) == [row["sample"]["psnr"] for row in rows[:3]]
    assert list(published.y) == [rows[3]["mean"]["psnr"]]
    (heat,) = benchmark_plots.robustness(grid).data
    assert (heat.y, heat.x) == (("0.1", "0.3"), ("0.01", "0.03", "0.1", "0.3", "1"))
    assert heat.z[0][0] == grid[0]["mean"]["psnr"]
    assert heat.z[1][4] is None, "not measured yet"


@pytest.mark.parametrize("values", [[0.0], [0.0004, 0.02], [3.0, 90.0], [2.0]])
def test_ticks_lie_around_what_is_shown(values: list[float]) -> None:
    """Also where a run is so fast that its rounded time is zero."""
    found = benchmark_plots.ticks(values)
    if max(values) > 0:
        assert found[0] <= min(values)
        assert found[-1] >= max(values)
        assert all(later / step < 2.6 for step, later in itertools.pairwise(found))


def test_figure_1(open_page: Callable[..., AppTest], measure: Measure) -> None:
    rows = measure("figure1", samples=3)
    page = open_page("benchmarks", show="figure-1")
    assert "Every dot is one of 18 samples; all converged." in text(page)
    lost = [{**rows[0], "iterations": [None, *rows[0]["iterations"][1:]]}, *rows[1:]]
    boxes = benchmark_plots.iterations(lost).data
    assert [len(box.x) for box in boxes] == [8, 9]
    assert list(boxes[1].x[:3]) == rows[3]["iterations"]


def test_speed(open_page: Callable[..., AppTest], measure: Measure) -> None:
    (row,) = measure("speed")
    page = open_page("benchmarks", show="speed")
    assert [metric.value for metric in page.metric] == [
        f"{row['ratios']['paper, its network']:.0f}×",
        f"{row['ratios']['eight samples']:.1f}×",
        "4.2 s",
    ]
    assert page.dataframe[0].value["seconds"].tolist() == [
        row["runs"][name]["seconds"]
        for name in ("paper, its network", "paper, default network", *list(row["runs"])[:3])
    ]


def test_calibration(open_page: Callable[..., AppTest]) -> None:
    of = {name: {"measured": 0.8, "expected": 1.0} for name in ("spread_skill", "coverage", "band")}
    key = {"experiment": "calibration", "task": "deblurring", "knobs": {"gaussian": 2.0}, "samples": 2}
    measured = {
        "factors": {"2": 1.5},
        "sets": {name: {"images": 5, "crop": None, **of} for name in ("set5", "faces64")},
    }
    key |= {"prior": "bf-unet-color", "sha256": "0" * 64}
    list(run([Cell(key, lambda watch: measured)], benchmark_rows.path("calibration")))
    table = open_page("benchmarks", show="calibration").dataframe[0].value.set_index("problem")
    assert list(table.index) == ["Gaussian blur, 2 pixels, Set5", "Gaussian blur, 2 pixels, Faces64"]
    assert table["ratio"].tolist() == [0.8, 0.8]
    assert (table["factor"].tolist(), table["band"].tolist()) == ([1.5, 1.5], [80.0, 80.0])


def test_memorisation(open_page: Callable[..., AppTest]) -> None:
    key = {"experiment": "memorisation", "method": "paper", "samples": 3, "images": 9500}
    key |= {"prior": "bf-unet-faces", "sha256": "0" * 64}
    measured = {"distances": {"samples": [0.1, 0.2, 0.4], "held_out": [0.1, 0.25, 0.3]}, "ratio": 0.8}
    measured["alike"] = {"distances": {}, "ratio": 1.1}
    list(run([Cell(key, lambda watch: measured)], benchmark_rows.path("memorisation")))
    [row] = open_page("benchmarks", show="memorisation").dataframe[0].value.to_dict("records")
    assert (row["drawn"], row["unseen"], row["nearness"], row["alike"]) == (0.2, 0.25, 0.8, 1.1)


def test_denoising_has_a_curve_for_each_prior(open_page: Callable[..., AppTest]) -> None:
    key = {"experiment": "denoisers", "set": "set12", "prior": "bf-unet-gray", "sha256": "0" * 64}
    list(run([Cell(key, lambda watch: {"psnr": {"0.1": 30.5, "0.2": 27.5}})], benchmark_rows.path("denoisers")))
    page = open_page("benchmarks", show="denoising")
    assert len(page.get("plotly_chart")) == 1
    assert "weights bf-unet-gray (sha256 00000000)" in text(page)


SMALL = (
    Case("set5", "super-resolution", {"factor": 4}, crop=32),
    Case("set68", "compressive-sensing", {"keep": 0.25, "dense": True}, crop=32),
)


@pytest.mark.parametrize(
    ("problem", "method"),
    [*((SMALL[0], method) for method in ("fast", "paper", "least-squares", "tv", "red")), (SMALL[1], "fast")],
)
def test_a_row_that_is_run_here_is_the_command_lines_on_the_same_picture(
    tmp_path: Path, problem: Case, method: str
) -> None:
    image = examples.example("astronaut", channels=problem.channels)
    images.save_image(image, tmp_path / "here" / problem.pictures / "astronaut.png")
    cell = table_cell("table1", problem, method, Options(tmp_path / "here", samples=2))
    (row,) = run([cell], tmp_path / "rows")
    measured = finished(Asked(problem, "astronaut", method, 2 if method in ("fast", "paper") else 1))
    if row["evaluations"] is not None:
        assert measured.parameters["evaluations"] == row["evaluations"]
    parts = ("sample", "mean") if method in ("fast", "paper") else ("result",)
    for part in parts:
        for metric in ("psnr", "ssim", "ssim_paper"):
            assert measured.parameters[part][metric] == pytest.approx(row[part][metric], abs=1e-3)
    if method in ("fast", "paper"):
        assert measured.parameters["spread_skill"] == pytest.approx(row["spread_skill"], abs=1e-3)
        assert measured.parameters["sample"]["psnr_std"] == pytest.approx(row["sample"]["psnr_std"], abs=1e-3)


def test_a_row_run_here_is_beside_that_of_the_table(open_page: Callable[..., AppTest], measure: Measure) -> None:
    row, *_ = measure("table1", methods=["least-squares"])
    page = open_page("benchmarks", method="least-squares", picture="chelsea")
    run_here(page)
    truth = examples.example("chelsea")
    expected = float(psnr(TABLES["table1"][0].operator(truth.shape[1:]).project(truth), truth))
    table = page.dataframe[1].value
    assert table["psnr"].tolist() == pytest.approx([expected, row["result"]["psnr"]], abs=1e-3)
    assert table["pictures"].tolist() == ["Chelsea, here", "Set5, 2 of 5"]
    assert "It is another picture" in text(page)
    page.get_by_key("picture").set_value("coffee")
    page.run()
    assert "This is of other settings than those above." in text(page)
    page.get_by_key("problem").set_value("set5-8")
    page.run()
    assert len(page.dataframe) == 1, "the measurement was of another problem"


def test_a_row_can_be_run_here_without_results(open_page: Callable[..., AppTest]) -> None:
    page = open_page("benchmarks", show="compressive-sensing", problem="set68-0.1", samples="2")
    measured = run_here(page)
    assert measured.mean.shape == (256, 256)
    assert page.dataframe[0].value["method"].tolist() == ["Ours, average of 2", "Ours, one sample"]


def test_a_measurement_can_be_stopped(open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = hold(monkeypatch)
    page = open_page("benchmarks", method="paper")
    page.button(key="run").click().run()
    job = page.session_state["submission measurement"].job
    next(button for button in page.button if button.label == "Stop").click().run()
    stopped.set()
    assert job.wait(PATIENCE)
    page.run()
    assert job.status == "cancelled"
    assert "Paper’s settings: stopped." in text(page)
    assert page.button(key="run")


def test_methods_that_take_a_quarter_of_an_hour_are_not_offered() -> None:
    assert list(benchmark_run.quick(TABLES["table1"][0]))[:4] == ["fast", "mean", "reverse", "paper"]
    assert not {"dip", "deepred"} & benchmark_run.quick(TABLES["table1"][0]).keys()
    assert list(benchmark_run.quick(TABLES["table3"][3])) == ["fast", "least-squares"]


def test_an_answer_of_one_evaluation_is_ours() -> None:
    row = {"result": {"psnr": 30.0}, "pictures": []}
    ours, other = (benchmark_rows.of_method(SMALL[0], name, row, {})[0].ours for name in ("mean", "tv"))
    assert ours
    assert not other


def test_one_sample_is_one_line(open_page: Callable[..., AppTest]) -> None:
    measured = finished(Asked(replace(SMALL[0], paper={}), "rocket", "fast", 1))
    (line,) = benchmark_rows.of_method(SMALL[0], "fast", measured.parameters, {})
    assert line.label == "Ours, one sample"
    assert not line.single
