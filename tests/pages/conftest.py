"""Pages without a browser. Runs are of tiny pictures, with the project's own priors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from invlib import decoding, pace, runs
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]

components = cache(manifest_scanner.scan_component_manifests)


@pytest.fixture(autouse=True)
def _pictures_are_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start a process for each takes longer than most tests. `test_decoding` and the browser's tests do."""
    monkeypatch.setattr(decoding, "_decode_apart", lambda *given: decoding.decode(given[0], "The picture", given[1]))


@pytest.fixture(autouse=True)
def _nothing_is_known_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no page refuses what was slow in an earlier test."""
    monkeypatch.setattr(runs, "PACE", pace.Pace())


@pytest.fixture(autouse=True)
def _packages_are_searched_for_components_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamlit reads the metadata of every package for each app under test."""
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", components)


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """Opens the app, or one of its pages by the name of its file, at an address."""

    def visit(name: str = "", **address: str) -> AppTest:
        page = AppTest.from_file(ROOT / (f"pages/{name}.py" if name else "app.py"), default_timeout=PATIENCE)
        page.query_params.update(address)
        page.run()
        assert not page.exception
        return page

    return visit
