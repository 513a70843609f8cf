"""Who a visitor is, what a run will take, and how its wait is told."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from invlib import pace, runs
from invlib.jobs import LONGEST
from pages.ui import live, pixels
from tests.pages.visitor import text


@pytest.mark.parametrize(
    ("forwarded", "address", "visitor"),
    [
        ("203.0.113.7, 10.0.0.1", "10.0.0.1", "203.0.113.7"),
        (" 2001:db8::1 ", None, "2001:db8::1"),
        (None, "198.51.100.2", "198.51.100.2"),
        ("", None, "this tab"),
        (None, None, "this tab"),
    ],
)
def test_a_visitor_is_known_by_address_and_else_by_session(
    forwarded: str | None, address: str | None, visitor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    monkeypatch.setattr(live.st, "context", SimpleNamespace(headers=headers, ip_address=address))
    monkeypatch.setattr(live.server, "exists", lambda: True)
    monkeypatch.setattr(live, "session", lambda: "this tab")
    assert live.visitor() == visitor


@pytest.mark.parametrize(
    ("position", "delay", "words"),
    [
        (0, 0.0, "Starting."),
        (1, 12.3, "Waiting: about 12 seconds."),
        (1, 0.2, "Waiting: about 1 second."),
        (1, None, "Waiting: 1 run is ahead."),
        (3, None, "Waiting: 3 runs are ahead."),
    ],
)
def test_a_wait_is_told_in_seconds_where_it_is_known(position: int, delay: float | None, words: str) -> None:
    assert live.waiting(SimpleNamespace(position=position, delay=delay)) == words  # type: ignore[arg-type]


def test_a_run_that_would_take_too_long_is_refused_in_a_sentence(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PACE", slow := pace.Pace())
    slow.learn("bf-unet-color", 1, 2**20, 2**20 * 1e-3)  # 1 ms for each pixel
    page = open_page("inpainting", samples="1", evaluations="6")
    takes = 6 * 160**2 * 1e-3
    assert takes > LONGEST
    assert f"A run takes about {pixels.plural(round(takes), 'second')} here." in text(page)
    page.button(key="run").click().run()
    assert not page.exception
    assert "This would take about 2.6 minutes here, and a run may take 2: lower the number of" in page.error[0].value
    assert "submission inpainting" not in page.session_state


def test_a_run_teaches_how_long_the_next_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "PACE", pace.Pace())
    picture = runs.Picture("camera", runs.examples.example("camera", side=128), "a photographer", side=128)
    problem = runs.pose("super-resolution", picture, {"factor": 4})
    settings = runs.settings(problem, "fast", {"evaluations": 4})
    first = runs.seconds_of(problem, settings)
    run = runs.finish(runs.solve(problem, settings))
    learnt = runs.seconds_of(problem, settings)
    assert first != learnt
    assert learnt == pytest.approx(run.parameters["seconds"], abs=0.01)
    assert runs.seconds_of(problem, runs.settings(problem, "least-squares")) is None
