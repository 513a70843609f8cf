"""The documents: every block of code runs, every link leads somewhere, and generated tables are up to date.

Networks are untrained and tiny, except those of the README's Python, so that this takes seconds. Commands that measure
or train for minutes, or talk to the Hub, are parsed but not run.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from invlib import examples, images
from invlib.cli.main import build_parser, main
from invlib.experiments import report
from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN
from invlib.problems import linear
from tests.small_priors import use_small_priors

ROOT = Path(__file__).parents[1]

RUNNABLE = (
    "README.md",
    "docs/cli.md",
    "docs/how-it-works.md",
    "docs/your-own.md",
    "docs/hosting.md",
    "CONTRIBUTING.md",
)
DOCUMENTS = (*RUNNABLE, "docs/results.md", "CHANGELOG.md", "weights/MODEL_CARD.md", "invlib/training/README.md")

PARSED_ONLY = ("bench", "train", "weights pull", "weights push", "weights convert", "weights register")
"""Commands that take minutes, or need a server."""

PROGRAMS = ("docker", "hf", ".venv/bin/python -m pytest")
"""Other people's programs, which documents may show."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The blocks of code of a document in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", read(name), re.DOTALL | re.MULTILINE)


def commands(name: str) -> list[str]:
    return [line for block in blocks(name, "sh") for line in block.splitlines() if line.strip()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the pictures that the documents name."""
    coffee, face = examples.example("coffee", side=40), examples.example("astronaut", side=64)
    strokes = torch.zeros(3, 64, 64)
    strokes[:, 20:24, 10:50] = 1
    kernel = torch.zeros(1, 5, 5)
    kernel[:, 2] = 1
    pictures = {
        "photo.jpg": coffee,
        "photos/photo.jpg": coffee,
        "face.png": face,
        "noisy.jpg": coffee,
        "small.png": examples.example("coffee", side=32),
        "mask.png": 1 - strokes[None, :1, :40, :40],
        "scratched.png": coffee,
        "blur.png": kernel[None],
        "scribble.png": strokes[None],
        "drawn.png": torch.maximum(face, strokes),
    }
    for name, picture in pictures.items():
        images.save_image(picture, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_priors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Priors of the shipped names that take no time. These denoisers find no noise, so that a descent ends at once."""
    use_small_priors(folder, monkeypatch)
    for name, channels in {"bf-unet-color": 3, "bf-unet-gray": 1, "bf-unet-faces": 3, "bf-cnn-mnist": 1}.items():
        network = BFCNN(channels, depth=3, width=4)
        last = network.conv_layers[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        checkpoints.save(network, folder / f"{name}.safetensors", recipe="none", data="none", quality={})
        checkpoints.register(name, folder / f"{name}.safetensors", name)


@pytest.fixture(autouse=True)
def tasks() -> Iterator[None]:
    """Problems that a document adds are gone afterwards."""
    before = dict(linear.TASKS)
    yield
    linear.TASKS.clear()
    linear.TASKS.update(before)


def run_python(name: str) -> None:
    """Run all Python blocks of a document, one after the other, as one program."""
    names: dict[str, object] = {"__name__": name}
    for block in blocks(name, "python"):
        line = read(name).split(block)[0].count("\n")  # so that a traceback names the document's line
        exec(compile("\n" * line + block, ROOT / name, "exec"), names)


@pytest.mark.usefixtures("folder")
def test_the_python_of_the_readme_runs_with_the_shipped_weights() -> None:
    assert len(blocks("README.md", "python")) == 1
    run_python("README.md")
    assert Path("mean.png").is_file()


@pytest.mark.usefixtures("small_priors")
@pytest.mark.parametrize("name", [name for name in RUNNABLE if name != "README.md" and blocks(name, "python")])
def test_the_python_of_a_document_runs(name: str) -> None:
    run_python(name)


@pytest.mark.usefixtures("small_priors")
@pytest.mark.parametrize(("name", "command"), [(name, command) for name in RUNNABLE for command in commands(name)])
def test_every_command_of_a_document_works(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = words = shlex.split(command, comments=True)
    if program == "torchrun":
        program, *arguments = words[words.index("-m") + 1 :]
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", read("Makefile"), re.MULTILINE)
    elif program == "invlib":
        run_invlib(arguments, capsys)
    else:
        assert " ".join(words).startswith(PROGRAMS)


def run_invlib(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command line of `invlib`, of which the end may be `> FILE`."""
    if " ".join(arguments).startswith(PARSED_ONLY):
        build_parser().parse_args(arguments)
        return
    if "--replay" in arguments:
        record = ["restore", "photo.jpg", "--task", "super-resolution", "--samples", "2", "--json"]
        run_invlib([*record, ">", "run.json"], capsys)
    arguments, target = (arguments[:-2], arguments[-1]) if ">" in arguments else (arguments, None)
    if arguments[0] == "remove-noise" and not {"--steps", "tv"} & {*arguments}:
        few = "--evaluations" if {"--find", "photo.jpg"} & {*arguments} else "--steps"
        arguments = [*arguments, few, "2"]  # there are hundreds by default
    assert main(arguments) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    if target is not None:
        Path(target).write_text(printed, encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", read(name)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_readme_is_short() -> None:
    assert len(read("README.md").split()) < 800


def test_the_tables_of_the_results_are_those_of_the_committed_rows() -> None:
    text = read("docs/results.md")
    assert report.update(text) == text, "run `make results`"


def test_the_table_of_the_readme_agrees_with_the_committed_rows() -> None:
    rows = [row for number in (1, 2) for row in report.read(report.RESULTS / f"table{number}.jsonl")]
    lines = {
        line.split(" | ")[0].lstrip("| "): line for line in read("README.md").splitlines() if line.startswith("| ")
    }
    for name, line in list(lines.items())[1:]:
        of_problem = {row["method"]: row for row in rows if report.problem(row) == f"{name}, Set5"}
        fast = of_problem["fast"]
        shown = [of_problem["least-squares"]["result"], of_problem["tv"]["result"], fast["mean"], fast["paper"]["mean"]]
        evaluations = f"{fast['evaluations']:.0f} ({of_problem['paper']['evaluations']:.0f})"
        assert line.split(" | ")[1:] == [*(f"{each['psnr']:.2f}" for each in shown), f"{evaluations} |"]


def test_the_changelog_has_the_version_of_the_package() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert f"\n## {version}\n" in read("CHANGELOG.md")


def test_every_environment_variable_of_ours_is_described() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "invlib").rglob("*.py"))
    for name in set(re.findall(r"\bINVLIB_[A-Z_]+\b", code)):
        assert f"`{name}`" in read("docs/hosting.md")
    assert os.environ.get("INVLIB_WEIGHTS") is None
