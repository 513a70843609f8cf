"""The frame of every page: its title, its style and its two columns."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import streamlit as st
from streamlit import runtime as server
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.pages_manager import PagesManager

from pages.ui import address, uploads

STYLE = f"<i></i><style>{Path(__file__).with_name('style.css').read_text('utf-8')}</style>"
"""The style, and an element that shows nothing: a style alone reaches the browser when the page's script has ended."""

APP = Path(__file__).parents[2] / "app.py"


def heading(title: str, lead: str) -> None:
    """Show the page's title and `lead`, a sentence or two that say what the page is about."""
    uploads.keep_few()
    if PagesManager.uses_pages_directory:
        # Until a server has called `st.navigation` once, Streamlit runs files in pages/ without app.py. A first visitor
        # who follows a link to a page would then see the page without its navigation.
        runpy.run_path(str(APP))
        st.stop()
    address.enter(title)
    st.html(STYLE)
    st.title(title)
    st.markdown(lead)
    breathe(0.12)


def columns() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Return the column of the knobs and, right of it, the stage. On a telephone the stage is above the knobs."""
    with st.container(key="page"):  # style.css puts the columns in order by this key
        knobs, stage = st.columns([2, 5], gap="large")
    return knobs, stage


def breathe(seconds: float) -> None:
    """Pause while a session's first page is built, so that the browser shows what it has got before it is sent more.

    The browser asks for the code of each kind of element when it meets the first one, and a busy server answers slowly.
    The code of the charts then keeps the browser busy for longer than everything else. With these pauses the first
    picture appears after 1 s, without them after 2.5 s.
    """
    if server.exists() and "arrived" not in st.session_state:
        time.sleep(seconds)
