"""The Gradio Space: every problem, called over HTTP as a program does it, gives the picture that its replay gives."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

gr = pytest.importorskip("gradio", reason="the extra gradio is not installed")
gradio_client = pytest.importorskip("gradio_client")

from invlib import examples, images, runs  # noqa: E402
from invlib.cli.main import main  # noqa: E402
from invlib.problems.linear import TASKS  # noqa: E402
from space import gradio_app  # noqa: E402
from tests.small_priors import use_small_priors  # noqa: E402
from tests.toy import TOY  # noqa: E402

PROBLEMS = [(command, task) for command, tasks in runs.TASKS.items() for task in tasks]

FEW: dict[str, dict[str, Any]] = {
    "restore": {"evaluations": 4, "samples": 2},
    "denoise": {"noise_level": 0.2},
    "remove-noise": {"steps": 10},
    "sample": {"prior": "realnvp-faces", "samples": 2},
    "remove-noise-digits": {"steps": 10, "count": 1},
    "remove-noise-strokes": {"evaluations": 6},
    "remove-noise-compressive-sensing": {"steps": 10, "count": 500},
    "remove-noise-one-bit": {"steps": 10, "count": 500},
}
"""Settings for a command or a problem that take little time."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of the page, which a thread of this process serves."""
    with pytest.MonkeyPatch.context() as patch:
        use_small_priors(tmp_path_factory.mktemp("weights"), patch)
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        page = gradio_app.build()
        page.launch(prevent_thread_lock=True, server_name="127.0.0.1", share=False, quiet=True)
        yield gradio_client.Client(page.local_url, verbose=False, ssl_verify=False)
        page.close()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Pictures that a visitor may bring."""
    mask, kernel = torch.ones(1, 48, 48), torch.zeros(1, 5, 5)
    mask[:, 10:20, 10:30], kernel[:, 2] = 0, 1
    strokes = torch.zeros(3, 48, 48)
    strokes[0, 20:22] = 1
    pictures = {
        "coffee": examples.example("coffee", side=48),
        "face": examples.example("astronaut", side=64),
        "mask": mask[None],
        "kernel": kernel[None],
        "strokes": strokes[None],
    }
    for name, picture in pictures.items():
        images.save_image(picture, tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    return {path.stem: path for path in tmp_path.iterdir()}


def call(client: Any, command: str, task: str, **given: Any) -> tuple[Any, ...]:
    """What a tab shows in the end: the slider, the picture, the gallery and the JSON; of samples the last two."""
    given = {
        name: gradio_client.handle_file(value) if isinstance(value, Path) else value for name, value in given.items()
    }
    found: tuple[Any, ...] = client.predict(**given, api_name=f"/{command}-{task}")
    return found


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture)


def check_replay(found: tuple[Any, ...], folder: Path) -> dict[str, Any]:
    """Compare what a tab shows with the files that the command line writes in a folder; return the run's JSON."""
    *before, gallery, text = found
    run = json.loads(text)
    command, count = run["command"], run["samples"]
    (folder / "run.json").write_text(text)
    shown = [pixels(each["image"]) for each in gallery]
    pictures = []
    if before:
        (_, after), picture = before
        pictures = [picture]
        shown.append(pixels(after))
    assert main([command, *pictures, "--replay", str(folder / "run.json"), "--out", str(folder)]) == 0
    stem = Path(*pictures).stem if pictures else "sample"
    names = [*range(1, count + 1), *(["mean", "std"] if count > 1 else [])]
    if command == "remove-noise" and count == 1:
        names = ["restored"]
    written = [pixels(folder / f"{stem}-{name}.png") for name in names]
    for one, other in zip(shown, written, strict=False):
        np.testing.assert_array_equal(one, other)
    if before:
        np.testing.assert_array_equal(shown[-1], written[-2 if count > 1 else 0])
    return dict(run)


@pytest.mark.parametrize(("command", "task"), PROBLEMS)
def test_every_problem_gives_the_picture_that_its_replay_gives(
    client: Any, files: dict[str, Path], tmp_path: Path, command: str, task: str
) -> None:
    picture = {"picture": files["face" if command == "remove-noise" else "coffee"]} if command != "sample" else {}
    run = check_replay(
        call(client, command, task, **{**picture, **FEW.get(f"{command}-{task}", FEW[command])}), tmp_path
    )
    assert (run["command"], run["task"]) == (command, task)


@pytest.mark.parametrize(
    ("command", "task", "given"),
    [
        ("restore", "super-resolution", {"factor": 3, "measured": True, "downsampling": "bicubic"}),
        ("restore", "deblurring", {"motion": "5, 30", "noise_level": 0.02}),
        ("restore", "deblurring", {"kernel": "kernel", "circular": True, "method": "least-squares", "seed": 3}),
        ("restore", "inpainting", {"mask": "mask", "prior": "bf-unet-gray"}),
        ("denoise", "denoising", {"measured": True}),
        ("denoise", "denoising", {"gain": 0.02, "method": "anscombe", "estimate_noise": True}),
        ("remove-noise", "scribble", {"strokes": "strokes", "method": "pair", "evaluations": 6, "samples": 2}),
        ("remove-noise", "strokes", {"measured": True, "evaluations": 6}),
        ("remove-noise", "sinusoidal", {"c": 0.3, "method": "asim", "gamma": 1.0, "steps": 10}),
        ("sample", "sampling", {"prior": "dcgan-mnist", "interpolate": True, "samples": 3, "temperature": 0.5}),
    ],
)
def test_what_is_set_is_what_is_done(
    client: Any, files: dict[str, Path], tmp_path: Path, command: str, task: str, given: dict[str, Any]
) -> None:
    picture = {} if command == "sample" else {"picture": files["coffee"]}
    few = {"evaluations": 4} if command == "restore" and "method" not in given else {}
    uploads = {name: files.get(str(value), value) for name, value in given.items()}
    run = check_replay(call(client, command, task, **picture, **few, **uploads), tmp_path)
    told = {**run, **run["knobs"], **run["settings"], "measured": not run.get("simulated", True)}
    for name, value in given.items():
        if isinstance(value, str) and "," in value:
            assert told[name] == [float(part) for part in value.split(",")]
        elif name in files:
            assert told[name].startswith("data:image/png")
        elif value is not None:
            assert told[name] == value


@pytest.mark.parametrize(
    ("command", "task", "given", "sentence"),
    [
        ("restore", "deblurring", {"picture": None}, "there is no picture: upload one"),
        ("restore", "deblurring", {"picture": "text"}, "not a picture"),
        ("restore", "deblurring", {"keep": 0.1, "gaussian": 2}, "keep and gaussian exclude one another"),
        ("restore", "deblurring", {"motion": "far"}, "expected LENGTH,ANGLE, got .far."),
        ("restore", "inpainting", {"mask": "kernel"}, "make the mask as large"),
        ("restore", "super-resolution", {"h0": 0.5}, "--h0 does not belong to fast"),
        ("restore", "super-resolution", {"evaluations": 10**6}, "not in the list of choices"),
        ("restore", "super-resolution", {"method": "dip"}, "not in the list of choices"),
        ("restore", "super-resolution", {"prior": "bf-unet-color/../x"}, "not in the list of choices"),
        ("restore", "compressive-sensing", {"measured": True}, "leave it out"),
        ("denoise", "denoising", {"noise_level": 0}, "there is no noise"),
        ("remove-noise", "scribble", {"measured": True}, "needs its strokes"),
        ("sample", "sampling", {"prior": "realnvp-faces", "side": 128}, "ask for that size"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    client: Any, files: dict[str, Path], command: str, task: str, given: dict[str, Any], sentence: str
) -> None:
    picture = {} if command == "sample" else {"picture": files["coffee"]}
    uploads = {name: files.get(str(value), value) for name, value in given.items()}
    with pytest.raises(gradio_client.exceptions.AppError, match=sentence) as caught:
        call(client, command, task, **{**picture, **uploads})
    assert str(files["coffee"].parent) not in str(caught.value)


def test_every_knob_that_pages_show_has_a_widget(client: Any) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for command, task in PROBLEMS:
        names = {each["parameter_name"] for each in endpoints[f"/{command}-{task}"]["parameters"]}
        assert names >= {knob.name for knob in runs.TASKS[command][task].knobs if knob.shown}
        assert names >= {"samples", "seed", "prior"}
    assert len(endpoints) == len(PROBLEMS)


def test_a_problem_of_ones_own_gets_a_tab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "every-row", TOY)
    with gr.Blocks() as page:
        gradio_app.tab("restore", "every-row")
    assert any(isinstance(each, gr.Slider) and each.label == "Rows" for each in page.blocks.values())


def test_a_run_borrows_a_gpu_where_spaces_lend_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lent: list[str] = []
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda function: lent.append(function.__name__)))
    importlib.reload(gradio_app)
    assert lent == ["run"]
    monkeypatch.undo()
    importlib.reload(gradio_app)
