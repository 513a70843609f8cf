"""The frame of a page."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator


def heading(title: str, lead: str) -> None:
    """The page's title, and what it is about in a sentence or two."""
    # The accent is light on the dark theme, and Streamlit writes on it in white whatever it is.
    st.html("<style>.st-key-run button { color: Canvas }</style>")
    st.title(title)
    st.markdown(lead)


def columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The knobs, and the stage beside them; one above the other on a telephone."""
    knobs, stage = st.columns([2, 5], gap="large")
    return knobs, stage
