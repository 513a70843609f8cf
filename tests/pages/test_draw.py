"""Drawings as Python gets them. What the visitor's hand does to them in the browser is tested there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from pages.ui.components import draw
from pages.ui.components.draw import Stroke, rasterise
from pages.ui.pixels import png

WIDTH, HEIGHT = 60, 40
DOT: Stroke = {"points": [[20, 10]], "brush": 10}


def distance(points: list[list[float]]) -> np.ndarray:
    """From the centre of each pixel to the nearest point of a polyline."""
    down, right = np.mgrid[0.5:HEIGHT, 0.5:WIDTH]
    nearest = np.full((HEIGHT, WIDTH), np.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] or points, strict=False):
        along, across = x1 - x0, y1 - y0
        length = along**2 + across**2
        at = np.clip(((right - x0) * along + (down - y0) * across) / length, 0, 1) if length else 0.0
        nearest = np.minimum(nearest, np.hypot(right - x0 - at * along, down - y0 - at * across))
    return nearest


@pytest.mark.parametrize("brush", [2, 5.5, 15])
@pytest.mark.parametrize(
    "points",
    [
        [[30, 20]],
        [[12.3, 20.7]],
        [[10, 30], [50, 30]],
        [[10, 8.4], [50, 33.9], [52, 5]],
        [[20, 20], [30, 20], [20, 20]],
        [[-2, -1], [61, 41]],
    ],
)
def test_a_stroke_paints_what_is_nearer_than_half_the_brush(points: list[list[float]], brush: float) -> None:
    painted = rasterise([{"points": points, "brush": brush}], WIDTH, HEIGHT)
    beyond = distance(points) - brush / 2
    clear = abs(beyond) > 0.5  # A pixel at the edge of the stroke is a matter of rounding.
    assert painted.shape == (HEIGHT, WIDTH)
    assert painted.dtype == bool
    np.testing.assert_array_equal(painted[clear], beyond[clear] < 0)


def test_strokes_paint_and_erase_in_turn() -> None:
    across: Stroke = {"points": [[0, 20], [60, 20]], "brush": 10}
    gap: Stroke = {"points": [[30, 0], [30, 40]], "brush": 10, "erase": True}
    middle: Stroke = {"points": [[30, 20]], "brush": 4}
    painted = rasterise([across, gap, middle], WIDTH, HEIGHT)
    assert painted[20, [10, 30, 50]].all()
    assert not painted[20, [26, 34]].any()
    assert rasterise([gap, across], WIDTH, HEIGHT)[20].all()


def test_no_strokes_paint_nothing() -> None:
    assert not rasterise([], WIDTH, HEIGHT).any()


def stroke(points: object, brush: object = 10) -> dict[str, object]:
    return {"points": points, "brush": brush}


BROKEN: list[Any] = [
    None,
    5,
    "strokes",
    {"points": [[1, 1]]},
    [None],
    [{}],
    [stroke([])],
    [stroke([1, 2])],
    [stroke([[1, 2, 3]])],
    [stroke([[1, 2], [3]])],
    [stroke([["a", "b"]])],
    [stroke([[math.nan, 1]])],
    [stroke([[None, 1]])],
    [stroke([[1, math.inf]])],
    [stroke([[1, 10**400]])],
    [stroke([[1, HEIGHT + 11]])],
    [stroke([[-11, 1]])],
    [stroke([[1, 1]], 0)],
    [stroke([[1, 1]], math.nan)],
    [stroke([[1, 1]], "wide")],
    [stroke([[1, 1]], WIDTH / 4 + 1)],
    [stroke([[1, 1]] * (draw.MAX_POINTS // 2 + 1)), stroke([[1, 1]] * (draw.MAX_POINTS // 2))],
]


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_what_is_no_drawing_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"^strokes must"):
        rasterise(broken, WIDTH, HEIGHT)


def test_a_stroke_may_leave_the_picture_by_the_width_of_the_brush() -> None:
    assert not rasterise([{"points": [[WIDTH + 10, HEIGHT + 10]], "brush": 10}], WIDTH, HEIGHT).any()


def page() -> None:
    """A page of its own: `AppTest` runs the text of this function."""
    import numpy as np
    import streamlit as st

    from pages.ui.components import draw

    grey = st.slider("Grey", 0, 255, key="grey")
    picture = np.full((40, 60, 3), grey, np.uint8)
    initial: list[draw.Stroke] = [{"points": [[20, 10]], "brush": 10}]
    mask = draw.over(picture, key="hole", label="Paint.", brush=8, initial=initial)
    st.session_state["mask"] = mask
    st.write(f"{mask.sum()} painted")


@pytest.fixture
def opened() -> AppTest:
    opened = AppTest.from_function(page).run()
    assert not opened.exception
    return opened


def send(opened: AppTest, strokes: object, grey: int = 0) -> AppTest:
    """What the browser would have sent; in `AppTest` no component runs, but the session state is theirs to set."""
    background = png(np.full((HEIGHT, WIDTH, 3), grey, np.uint8))
    key = draw.state_key("hole", background, width=WIDTH, height=HEIGHT, initial=[DOT])
    opened.session_state[key] = {"strokes": strokes}
    opened.run()
    assert not opened.exception
    return opened


def test_a_drawing_begins_with_what_it_is_given(opened: AppTest) -> None:
    np.testing.assert_array_equal(opened.session_state["mask"], rasterise([DOT], WIDTH, HEIGHT))


def test_a_drawing_is_kept_until_the_picture_changes(opened: AppTest) -> None:
    drawn: list[Stroke] = [{"points": [[5, 5], [55, 35]], "brush": 6}]
    send(opened, drawn)
    np.testing.assert_array_equal(opened.session_state["mask"], rasterise(drawn, WIDTH, HEIGHT))
    opened.run()
    np.testing.assert_array_equal(opened.session_state["mask"], rasterise(drawn, WIDTH, HEIGHT))
    opened.slider(key="grey").set_value(9).run()
    np.testing.assert_array_equal(opened.session_state["mask"], rasterise([DOT], WIDTH, HEIGHT))
    opened.slider(key="grey").set_value(0).run()
    np.testing.assert_array_equal(opened.session_state["mask"], rasterise([DOT], WIDTH, HEIGHT))


def test_a_cleared_drawing_is_empty(opened: AppTest) -> None:
    assert not send(opened, []).session_state["mask"].any()


@pytest.mark.parametrize("broken", [None, [stroke([[1, math.nan]])], BROKEN[-1]], ids=["none", "nan", "too long"])
def test_a_broken_drawing_counts_as_none_and_the_page_says_so(opened: AppTest, broken: Any) -> None:
    send(opened, broken)
    assert not opened.session_state["mask"].any()
    assert [error.value for error in opened.error] == ["The drawing could not be read: clear it and draw it again."]
