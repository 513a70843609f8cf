"""The frame of a page."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import streamlit as st
from streamlit import runtime as server
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager

from pages.ui import address

STYLE = """<style>
/* The accent is light on the dark theme, and Streamlit writes on it in white whatever it is. */
[data-testid=stBaseButton-primary] { color: Canvas }
.tile { margin: 0 0 0.5rem }
.tile img { display: block; width: 100%; height: auto; border-radius: 6px }
.tile figcaption { margin-top: 0.5rem; font-size: 0.875rem; line-height: 1.4; text-align: center; opacity: 0.7 }
</style>"""

APP = Path(__file__).parents[2] / "app.py"


def heading(title: str, lead: str) -> None:
    """The page's title, and what it is about in a sentence or two."""
    if PagesManager.uses_pages_directory:
        # Until `st.navigation` was called once in a server, Streamlit runs files in pages/ by themselves: the first
        # visitor, with a link to a page, would see it without its frame.
        runpy.run_path(str(APP))
        st.stop()
    address.enter(title)
    st.html(STYLE)
    st.title(title)
    st.markdown(lead)
    breathe(0.12)


def columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """The knobs, and the stage beside them; one above the other on a telephone."""
    knobs, stage = st.columns([2, 5], gap="large")
    return knobs, stage


def breathe(seconds: float) -> None:
    """On a session's arrival, stop for a moment, so that its browser shows what it has got before it is sent more.

    It asks for the code of each kind of element when it meets the first, which a busy server is slow to answer; and the
    code of the charts, once there, keeps the browser busy for longer than everything else. A first picture takes 1 s
    with these pauses and 2.5 s without.
    """
    if server.exists() and "arrived" not in st.session_state:
        time.sleep(seconds)
