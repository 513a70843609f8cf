"""What a visitor does on a page, without a browser."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from invlib.runs import Recorder, Run
from invlib.solvers.methods import Estimate
from pages.ui.live import Submission
from tests.patience import PATIENCE


def png(height: int, width: int, grey: bool = False) -> bytes:
    """A smooth picture of any size, without black or white, so that answers are hardly clipped."""
    down, right = 0.3 + 0.4 * np.mgrid[0:height, 0:width] / max(height, width)
    pixels = np.stack([down, right, 0.5 + 0 * down], -1)
    buffer = io.BytesIO()
    Image.fromarray((255 * (down if grey else pixels)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(page: AppTest, content: bytes, name: str = "mine.png") -> AppTest:
    page.file_uploader(key="upload").upload(name, content)
    return page.run()


def hold(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let runs wait at their first step for the event: on a GPU one may have ended before a visitor stops it."""
    add, stopped = Recorder.add, threading.Event()

    def held(recorder: Recorder, estimate: Estimate) -> None:
        assert stopped.wait(PATIENCE)
        add(recorder, estimate)

    monkeypatch.setattr(Recorder, "add", held)
    return stopped


def text(page: AppTest) -> str:
    parts = [*page.markdown, *page.caption, *page.error]
    return "\n".join(str(part.value) for part in parts)


def submission(page: AppTest, task: str) -> Submission:
    return page.session_state[f"submission {task}"]


def run_to_the_end(page: AppTest, task: str) -> Run:
    page.button(key="run").click().run()
    job = submission(page, task).job
    assert job.wait(PATIENCE)
    assert job.error is None
    page.run()
    assert not page.exception
    return page.session_state[f"run {task}"]
