"""The plane in the explanations of the pages."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from pages.ui import plane
from tests.pages.visitor import text


@pytest.mark.parametrize(("name", "line"), [("sampling", False), ("super_resolution", True)])
def test_the_plane_is_drawn_when_the_explanation_is_opened(
    open_page: Callable[..., AppTest], name: str, line: bool
) -> None:
    page = open_page(name)
    sliders = {slider.key for slider in page.slider}
    assert "plane share" not in sliders, "nothing is computed before"
    page.session_state["explained"] = True
    page.run()
    assert not page.exception
    assert ("plane angle" in {slider.key for slider in page.slider}) == line
    assert "At σ = 0.00" in text(page)
    page.slider(key="plane x").set_value(0.7)
    page.slider(key="plane share").set_value(0)
    page.run()
    assert not page.exception
    assert "At σ = 0.29 " in text(page)
    assert page.slider(key="plane x").value == 0.7


def test_a_click_moves_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def click(*points: dict[str, float]) -> None:
        state[plane.CHART] = SimpleNamespace(selection=SimpleNamespace(points=list(points)))
        plane.start_there()

    state: dict[str, object] = {}
    monkeypatch.setattr(plane.st, "session_state", state)
    click({"x": 0.318, "y": 1.01})
    click()
    assert (state["plane x"], state["plane y"]) == (0.32, 1.0)
