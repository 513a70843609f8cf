"""The saved runs that pages open with."""

from __future__ import annotations

import pytest
import torch

from pages.ui import saved


@pytest.mark.parametrize("task", saved.EXAMPLES)
def test_a_saved_run_is_small_and_complete(task: str) -> None:
    folder = saved.FOLDER / task
    assert sum(file.stat().st_size for file in folder.iterdir()) < 450_000
    run = saved.load(task)
    assert run.answers(saved.problem(task))
    assert run.used(saved.chosen(task))
    assert run.truth is not None
    side = saved.EXAMPLES[task].side
    pictures = [run.truth, run.mean, *run.samples]
    assert {picture.shape for picture in pictures} == {(side, side, 3)}
    # What is kept is compressed, which costs more where there is less to lose, but it is the run of the figures.
    mean, truth = (torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 for picture in (run.mean, run.truth))
    scores = run.parameters.get("mean") or run.parameters["result"]
    measure = saved.problem(task).metrics["psnr"]
    assert float(measure(mean, truth)) == pytest.approx(scores["psnr"], abs=0.6)
