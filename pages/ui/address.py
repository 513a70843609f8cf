"""Settings in the page's address, so that a link repeats a run, and kept while the visitor is on another page.

Streamlit's own `bind` writes what a widget displays ("8×"); the address should hold what the command line takes ("8").
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import streamlit as st

Value = TypeVar("Value", str, int, float)


def enter(page: str) -> None:
    """Begin a page. On arrival its widgets start from the address, or else from where the visitor left them."""
    state = st.session_state
    if (left := state.get("page")) == page:
        return
    # Pages use the same keys; what the last one left behind are not this one's settings.
    for key in state.get(f"settings {left}", {}):
        state.pop(key, None)
    state["page"], state["defaults"] = page, {}
    state["arriving"] = {**state.get(f"settings {page}", {}), **st.query_params.to_dict()}


def remember(key: str, default: Value, allowed: Collection[Value] | Callable[[Value], bool]) -> None:
    """Give the widget `key` its first value: the one to arrive with if it is allowed, else the default.

    Parameters
    ----------
    default : where the widget begins. When another setting changes it, a value that was left at it follows.
    allowed : the values, or a predicate. A value that is allowed no more, because another setting changed, becomes the
        default.
    """
    check = allowed if callable(allowed) else allowed.__contains__
    defaults: dict[str, Any] = st.session_state["defaults"]
    before, defaults[key] = defaults.get(key, default), default
    if key in st.session_state and check(value := st.session_state[key]) and not value == before != default:
        return
    st.session_state[key] = default
    arriving: dict[str, Any] = st.session_state["arriving"]
    if key in arriving:
        try:
            value = type(default)(arriving.pop(key))
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
