"""Declares a Streamlit component from the three files that hold its HTML, CSS and JavaScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st


def component(name: str) -> Callable[..., Any]:
    """Read ``name.html``, ``name.css`` and ``name.js`` beside this file, and return what mounts them on a page."""
    # Streamlit takes paths from installed packages only, so it gets the text.
    files = (Path(__file__).with_name(f"{name}.{suffix}") for suffix in ("html", "css", "js"))
    html, css, js = (file.read_text("utf-8") for file in files)
    return st.components.v2.component(name, html=html, css=css, js=js)
