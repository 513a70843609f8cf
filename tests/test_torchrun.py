"""Two processes of `torchrun` train as one does: the same losses, and the same weights in the end."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from skimage import data

from invlib import images
from invlib.cli.main import build_parser
from invlib.cli.train import read_recipe
from invlib.priors.denoisers import BFUNet
from invlib.training import gan, processes
from invlib.training.denoiser import Recipe, train
from invlib.training.run import Training, begin
from tests import small_trainings
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[1]

TOLD = (
    "denoiser --told --channels 1 --width 16 32 --blocks 1 1 --optimizer muon --steps 6 --batch 8 --crop 16 --warmup 2"
)
TRAININGS = {
    "told": TOLD,
    "scales": "denoiser --architecture BFCNN --channels 1 --steps 6 --batch 4 --crop 16 --warmup 2 --validate-every 3",
    "flow": "flow --kind mnist --blocks 1 --steps 3 --batch 4 --learning-rate 1e-4",
    "resumed": TOLD,
}


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    for index, picture in enumerate((data.camera(), data.coins(), data.brick())):
        images.save_image(torch.from_numpy(picture[:48, :40] / 255).float()[None], folder / f"{index}.png")
    return folder


@pytest.fixture
def digits(tmp_path):
    return small_trainings.write_digits(tmp_path / "mnist", every=90)


def torchrun(commands: list[list[str]], folder: Path) -> tuple[list[list[list[float]]], list[str]]:
    """Run the commands in two processes. Return the losses in each process, and the lines on standard output."""
    (folder / "commands.json").write_text(json.dumps(commands), encoding="utf-8")
    words = ["--standalone", "--nproc-per-node", "2", "-m", "tests.small_trainings"]
    program = [sys.executable, "-m", "torch.distributed.run", *words, str(folder / "commands.json")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = [json.loads((folder / f"losses-{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]
    return found, done.stdout.splitlines()


def test_two_processes_train_as_one_does(photographs, digits, tmp_path):
    def commands(folder: Path) -> list[list[str]]:
        sources = {name: digits if name == "flow" else photographs for name in TRAININGS}
        return [
            f"train {flags} --json --data {sources[name]} --out {folder / name}.safetensors".split()
            for name, flags in TRAININGS.items()
        ]

    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    one_process = small_trainings.run(commands(one)[:-1])
    # The last training is begun by one process, which stops after three steps.
    recipe = read_recipe(build_parser().parse_args(commands(two)[-1]), Recipe)
    with small_trainings.on_the_cpu_in_float32():
        list(itertools.islice(train(recipe, photographs, two / "resumed.state", save_every=0.0), 3))

    in_time = "train denoiser --json --channels 1 --width 16 --blocks 1 --batch 2 --crop 8 --minutes 0.02"
    files = f"--data {photographs} --out {two}/timed.safetensors"
    (first, second), printed = torchrun([*commands(two), f"{in_time} {files}".split()], two)

    assert first == second, "all processes know the mean losses, and agree on when time is over"
    *losses, resumed, timed = first
    for name, expected, found in zip(TRAININGS, one_process, losses, strict=False):
        assert found == pytest.approx(expected, rel=1e-5), name
    assert resumed == pytest.approx(one_process[0][3:], rel=1e-5)
    assert len(timed) >= 3
    assert len([json.loads(line) for line in printed]) == len(first), "only the first process tells results"

    shutil.copy(one / "told.state", one / "resumed.state")
    for name in TRAININGS:
        states = [load_file(folder / f"{name}.state") for folder in (one, two)]
        for key, tensor in states[0].items():
            torch.testing.assert_close(states[1][key], tensor, rtol=1e-4, atol=1e-6, msg=f"{key} of {name}")


def test_a_batch_that_processes_cannot_share_evenly_is_refused(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    begin(Recipe(batch=6))
    with pytest.raises(ValueError, match="multiple of 3"):
        begin(Recipe(batch=8))
    with pytest.raises(ValueError, match="multiple of 12"):
        next(train(Recipe(batch=6, told=True), photographs, tmp_path / "run.state"))


def test_a_process_that_sees_another_state_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "of_first", lambda value: 3)
    nets = [BFUNet(1, (8, 8), 1) for _ in range(2)]
    with pytest.raises(ValueError, match="not the same for all"):
        Training(Recipe(), tmp_path / "run.state", 60.0, *nets)


def test_batch_normalisation_is_refused_in_several_processes(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "of_first", lambda value: value)
    with pytest.raises(ValueError, match="without torchrun"):
        next(gan.train(gan.Recipe(kind="mnist", steps=2, batch=4), digits, tmp_path / "run.state"))
