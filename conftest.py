"""Doctests run in a folder of their own, which holds a picture photo.jpg."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore = [] if find_spec("ray") else ["invlib/ray_engine.py"]


@pytest.fixture(autouse=True)
def _a_folder_with_a_photo(request: pytest.FixtureRequest) -> None:
    if not isinstance(request.node, pytest.DoctestItem):
        return
    from invlib import examples, images

    folder: Path = request.getfixturevalue("tmp_path")
    request.getfixturevalue("monkeypatch").chdir(folder)
    images.save_image(examples.example("coffee", side=64), folder / "photo.jpg")
