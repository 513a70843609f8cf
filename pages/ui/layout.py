"""The frame of a page."""

from __future__ import annotations

import runpy
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager

from pages.ui import address

APP = Path(__file__).parents[2] / "app.py"


def heading(title: str, lead: str) -> None:
    """The page's title, and what it is about in a sentence or two."""
    if PagesManager.uses_pages_directory:
        # Until `st.navigation` was called once in a server, Streamlit runs files in pages/ by themselves: the first
        # visitor, with a link to a page, would see it without its frame.
        runpy.run_path(str(APP))
        st.stop()
    address.enter(title)
    # The accent is light on the dark theme, and Streamlit writes on it in white whatever it is.
    st.html("<style>[data-testid=stBaseButton-primary] { color: Canvas }</style>")
    st.title(title)
    st.markdown(lead)


def columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The knobs, and the stage beside them; one above the other on a telephone."""
    knobs, stage = st.columns([2, 5], gap="large")
    return knobs, stage
