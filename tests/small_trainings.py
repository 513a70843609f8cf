"""What tests of trainings share. As a program, it runs commands of `invlib` and keeps the losses of every step.

test_torchrun.py starts it in two processes: `torchrun -m tests.small_trainings COMMANDS.json`.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from skimage import data

from invlib import runtime
from invlib.cli import main, train
from invlib.priors.denoisers import ARCHITECTURES, BFCNN
from invlib.training import denoiser, flow, processes
from invlib.training.run import Progress


@contextmanager
def on_the_cpu_in_float32() -> Iterator[None]:
    """Train on the CPU, as a machine may have fewer GPUs than there are processes, and in float32.

    In bfloat16, the gradients of a half of the batch are rounded otherwise than those of the whole.
    """
    with (
        mock.patch.object(runtime, "default_device", return_value=torch.device("cpu")),
        mock.patch.object(runtime, "fast_dtype", return_value=torch.float32),
    ):
        yield


def run(commands: Iterable[list[str]]) -> list[list[float]]:
    """Run commands that train small networks in float32, and return the losses of each."""
    finish, losses = train.finish, list[list[float]]()

    def recorded(steps: Iterable[Progress]) -> Iterator[Progress]:
        losses.append([])
        for progress in steps:
            losses[-1].extend(progress.losses.values())
            yield progress

    def finish_recorded(options: Any, recipe: Any, steps: Iterable[Progress], **others: Any) -> Any:
        return finish(options, recipe, recorded(steps), **others)

    small = {**ARCHITECTURES, "BFCNN": lambda channels, **options: BFCNN(channels, depth=4, width=16, **options)}
    with (
        on_the_cpu_in_float32(),
        processes.joined(),
        mock.patch.object(train, "finish", finish_recorded),
        mock.patch.object(denoiser, "ARCHITECTURES", small),
        mock.patch.dict(flow.WIDTHS, mnist=(16, 16)),
    ):
        for command in commands:
            assert main(command) == 0
    return losses


def write_digits(folder: Path, every: int) -> Path:
    """Write every so many patches of a photograph, of each row and column, in MNIST's format into a new folder."""
    patches = np.lib.stride_tricks.sliding_window_view(data.camera(), (28, 28))[::every, ::every].reshape(-1, 28, 28)
    header = struct.pack(">iiii", 2051, len(patches), 28, 28)
    folder.mkdir()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + patches.tobytes(), 1))
    return folder


if __name__ == "__main__":
    file = Path(sys.argv[1])
    found = run(json.loads(file.read_text(encoding="utf-8")))
    threads = [name.read_text() for name in Path("/proc/self/task").glob("*/comm")]
    assert not any("gloo" in name for name in threads), "a thread that is left can abort the process as it exits"
    file.with_name(f"losses-{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")
