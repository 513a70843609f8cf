"""A divider between two pictures that lie one over the other."""

from __future__ import annotations

from pages.ui.components import declare
from pages.ui.pixels import data_url

_COMPARE = declare.component("compare")


def pictures(before: bytes, after: bytes, *, before_label: str, after_label: str, aspect: float, key: str) -> None:
    """Show two pictures, one over the other. The visitor drags the divider or moves it with the arrow keys.

    Parameters
    ----------
    before, after : PNG files. The first is enlarged to the size of the second, and its pixels are shown as squares.
    before_label, after_label : what the pictures are. The labels stand below them and are their alternative texts.
    aspect : the pictures' width divided by their height.
    """
    data = {
        "before": data_url(before),
        "after": data_url(after),
        "before_label": before_label,
        "after_label": after_label,
        "aspect": aspect,
    }
    _COMPARE(data=data, key=key)
