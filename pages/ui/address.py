"""Settings in the page's address, so that a link repeats a run.

Streamlit's own `bind` writes what a widget displays ("8×"); the address should hold what the command line takes ("8").
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

import streamlit as st

Value = TypeVar("Value", str, int, float)


def remember(key: str, default: Value, allowed: Collection[Value] | Callable[[Value], bool]) -> None:
    """Give the widget `key` its first value: the address's if it is allowed, else the default.

    Parameters
    ----------
    allowed : the values, or a predicate. A value that is allowed no more, because another setting changed, becomes the
        default.
    """
    check = allowed if callable(allowed) else allowed.__contains__
    if key in st.session_state and check(st.session_state[key]):
        return
    st.session_state[key] = default
    if key in st.query_params:
        try:
            value = type(default)(st.query_params[key])
        except ValueError:
            return  # A link that was typed wrongly opens the page with its defaults.
        if check(value):
            st.session_state[key] = value


def write(**settings: str | int | float) -> None:
    """Make the address hold exactly these settings."""
    address = {key: str(value) for key, value in settings.items()}
    if st.query_params.to_dict() != address:
        st.query_params.from_dict(address)
