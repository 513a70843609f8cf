"""The wheel, installed in an empty environment outside the clone.

`make wheel-check` runs the slow tests here; `make test` leaves them out. On Linux PyPI's build of PyTorch brings
gigabytes of CUDA along, unless PIP_EXTRA_INDEX_URL is https://download.pytorch.org/whl/cpu.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from invlib import examples, images

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, ROOT, folder=folder)
    return next(folder.glob("invlib-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder / "bin/pip", "install", "--quiet", wheel, folder=folder)
    return folder / "bin"


@pytest.mark.wheel
def test_the_wheel_carries_weights_data_and_licence_and_no_page(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for file in [
        *(ROOT / "weights").iterdir(),
        *(ROOT / "invlib").rglob("*.jsonl"),
        *(ROOT / "invlib").rglob("*.toml"),
    ]:
        path = file.relative_to(ROOT)
        assert str(path if path.parts[0] == "invlib" else Path("invlib", path)) in names
    assert any(re.fullmatch(r"invlib-.*\.dist-info/licenses/LICENSE", name) for name in names)
    assert not [name for name in names if name.startswith(("pages", "tests"))]


@pytest.mark.wheel
def test_an_installed_wheel_restores_a_picture_with_the_weights_it_carries(installed: Path, tmp_path: Path) -> None:
    images.save_image(examples.example("coffee", side=96), tmp_path / "photo.png")
    printed = run(
        installed / "invlib",
        "restore",
        "photo.png",
        "--task",
        "super-resolution",
        "--json",
        folder=tmp_path,
        PYTHONPATH="",
    )
    result = json.loads(printed)
    assert result["mean"]["psnr"] > result["input"]["psnr"] + 1
    assert all((tmp_path / file).is_file() for file in result["files"])
    verified = json.loads(run(installed / "invlib", "weights", "verify", "--json", folder=tmp_path, PYTHONPATH=""))
    assert len(verified) == len(list((ROOT / "weights").glob("*.safetensors")))
    assert set(verified.values()) == {"ok"}
    where = run(installed / "python", "-c", "import invlib; print(invlib.__file__)", folder=tmp_path, PYTHONPATH="")
    assert str(installed.parent) in where, "not the clone's"


def test_the_pinned_requirements_are_the_projects_dependencies() -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[\w-]+", each)[0] for each in requirements if each and not each.startswith(("#", "-r"))}

    extras = PROJECT["optional-dependencies"]
    for file, wanted in [
        ("requirements.txt", PROJECT["dependencies"] + extras["app"]),
        ("requirements-dev.txt", extras["dev"]),
    ]:
        assert names((ROOT / file).read_text(encoding="utf-8").splitlines()) == names(wanted)
