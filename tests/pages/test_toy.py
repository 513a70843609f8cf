"""A problem that is one operator class and one entry has a page of its own, made of words only."""

from __future__ import annotations

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from invlib import runs
from invlib.images import Picture, to_tensor
from invlib.problems import linear
from tests.pages.visitor import png, run_to_the_end, text, upload
from tests.patience import PATIENCE
from tests.toy import TOY


def script() -> None:
    # Streamlit runs these lines alone, without this file's imports.
    from pages.ui import page

    page.show(
        "Every n-th row",
        "Some rows of a picture are measured.",
        page.linear_problem("toy", words="They are whole rows."),
        page.fold("$M$ puts the rows back."),
        measured=lambda run: f"every {run.parameters['knobs']['stride']} rows",
    )


def test_a_new_problem_has_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(linear.TASKS, "toy", TOY)
    page = AppTest.from_function(script, default_timeout=PATIENCE)
    page.query_params.update({"stride": "4", "samples": "2", "evaluations": "6"})
    page.run()
    assert not page.exception
    assert page.select_slider(key="stride").value == 4
    assert "Press Run." in page.progress[0].text, "there is no saved run"
    upload(page, png(24, 32))
    assert "576 of 2 304 numbers kept.** They are whole rows." in text(page)
    run = run_to_the_end(page, "toy")
    assert page.query_params["stride"] == "4"
    assert "every 4 rows, 2 samples" in text(page)
    assert run.parameters["knobs"] == {"stride": 4}
    assert np.array_equal(run.samples[0][::4], run.picture[::4]), "what was measured stays"
    problem, settings = runs.read(run.parameters, Picture(run.parameters["picture"], to_tensor(run.picture), ""))
    again = runs.finish(runs.solve(problem, settings))
    assert all(np.array_equal(one, other) for one, other in zip(again.samples, run.samples, strict=True))
