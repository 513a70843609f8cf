"""A button that takes a picture from the clipboard."""

from __future__ import annotations

import base64
from collections.abc import Callable

import streamlit as st

from pages.ui.components import declare

_PASTE = declare.component("paste")


def button(key: str, on_picture: Callable[[bytes], None], most: int, too_large: Callable[[], None]) -> None:
    """Show the button. Ctrl+V does the same, even while the button is hidden in a closed fold.

    Parameters
    ----------
    on_picture : called with the picture's file when the visitor has pasted one, before the page runs again.
    most : the size of the largest file that is sent, in bytes.
    too_large : called when the visitor has pasted a larger one.
    """

    def decode() -> None:
        on_picture(base64.b64decode(st.session_state[key].picture))

    _PASTE(key=key, data={"most": most}, on_picture_change=decode, on_too_large_change=too_large)
