"""Settings in the page's address, so that a link repeats a run, and kept while the visitor is on another page.

Streamlit's own `bind` writes what a widget displays ("8×"); the address should hold what the command line takes ("8").
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import streamlit as st

Value = TypeVar("Value", str, int, float)

FORMERLY = {"sampler": "method"}
"""Keys of links from before version 0.2 -> the keys of today."""


def enter(page: str) -> None:
    """Begin a page. When a visitor arrives, its widgets start from the address, or else from where they were left."""
    state = st.session_state
    if (left := state.get("page")) == page:
        state["drawn"] += 1
        return
    # Pages use the same keys; what the last one left behind are not this one's settings.
    for key in state.get(f"settings {left}", {}):
        state.pop(key, None)
    state["page"], state["defaults"], state["drawn"] = page, {}, 1
    asked = {FORMERLY.get(key, key): value for key, value in st.query_params.to_dict().items()}
    state["arriving"] = {**state.get(f"settings {page}", {}), **asked}


def remember(key: str, default: Value, allowed: Collection[Value] | Callable[[Value], bool]) -> None:
    """Give the widget `key` its first value: that of the address if it is allowed, else the default.

    Parameters
    ----------
    default : where the widget begins. If another setting changes the default, an untouched widget follows it.
    allowed : the allowed values, or a predicate. A value that another setting has ruled out becomes the default.
    """
    check = allowed if callable(allowed) else allowed.__contains__
    defaults: dict[str, Any] = st.session_state["defaults"]
    before, defaults[key] = defaults.get(key, default), default
    if key in st.session_state and check(value := st.session_state[key]) and not value == before != default:
        # Streamlit tells the browser a value once. If the page is drawn again before the code of the widget has arrived
        # there, the widget would show another value than it has.
        if st.session_state["drawn"] == 2:
            st.session_state[key] = value
        return
    st.session_state[key] = default
    arriving: dict[str, Any] = st.session_state["arriving"]
    if key in arriving:
        written = arriving.pop(key)
        try:
            value = written == str(True) if isinstance(default, bool) else type(default)(written)
        except ValueError:
            return  # A link that was typed wrongly opens the page with its defaults.
        if check(value):
            st.session_state[key] = value


def write(**settings: str | int | float) -> None:
    """Make the address hold exactly these settings."""
    st.session_state[f"settings {st.session_state['page']}"] = settings
    address = {key: str(value) for key, value in settings.items()}
    if st.query_params.to_dict() != address:
        st.query_params.from_dict(address)
