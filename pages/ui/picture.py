"""Picking a picture: an example, an upload, or the clipboard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import streamlit as st

from invlib import images
from pages.ui import address, components
from pages.ui.runs import Picture

OWN = "own"
"""The option that stands for the visitor's own picture, which an address cannot hold."""

LONGEST = 1024
"""The longest side of an own picture that is kept in memory, in pixels."""


@dataclass(frozen=True)
class Own:
    """A visitor's own picture, and the size that its file had."""

    picture: Picture
    width: int
    height: int


def pick(*, small: bool, longest: int) -> Picture:
    """Let the visitor pick a picture.

    Parameters
    ----------
    small : the picture is to be enlarged: examples are shown at a quarter of their size.
    longest : a larger picture is reduced to this longest side, in pixels, and the page says so.
    """
    own: Own | None = st.session_state.get("own_picture")
    options = [*images.EXAMPLES, *([OWN] if own else [])]
    address.remember("picture", options[0], options)
    chosen = st.selectbox(
        "Picture",
        options,
        key="picture",
        format_func=lambda name: "Your picture" if name == OWN else name.capitalize(),
        help="An example, or a picture of your own.",
    )
    with st.expander("Use a picture of your own", icon=":material/add_photo_alternate:", expanded=small):
        suffixes = [suffix.removeprefix(".") for suffix in images.SUFFIXES]
        st.file_uploader("Upload a picture", type=suffixes, key="upload", on_change=take_upload, max_upload_size=50)
        components.paste("paste", lambda content: take(content, "pasted picture"))
        st.caption("It stays in the memory of this page's server until you close the page.")
    if problem := st.session_state.get("picture_error"):
        st.error(problem, icon=":material/broken_image:")

    if chosen != OWN or own is None:
        image = images.example(chosen, side=images.EXAMPLE_SIDE // 4 if small else images.EXAMPLE_SIDE)
        return Picture(chosen, image, images.EXAMPLES[chosen].description)
    if max(own.width, own.height) <= longest:
        return own.picture
    image = images.fit(own.picture.image, longest)
    height, width = image.shape[-2:]
    st.caption(f"Your picture has {own.width}×{own.height} pixels; it was reduced to {width}×{height} {reason(small)}")
    return Picture(own.picture.name, image, own.picture.description)


def reason(small: bool) -> str:
    return "so that the result is not larger than this demo makes." if small else "to keep a run short."


def cropped(picture: Picture, multiple: int) -> Picture:
    """The picture with sides that are multiples of a number; up to one less is lost at the bottom and the right."""
    return replace(picture, image=images.crop_to_multiple(picture.image, multiple))


def take_upload() -> None:
    """The uploader's callback; an upload that was removed gives the examples back."""
    upload = st.session_state["upload"]
    if upload is not None:
        take(upload.getvalue(), upload.name)
    else:
        st.session_state["own_picture"] = st.session_state["picture_error"] = None


def take(content: bytes, name: str) -> None:
    """Make a file the visitor's own picture, or say why it cannot be."""
    try:
        image = images.load_image(content)
    except images.ImageError as error:
        st.session_state["picture_error"] = str(error)
        return
    height, width = image.shape[-2:]
    fingerprint = hashlib.sha256(content).hexdigest()[:12]
    picture = Picture(f"{name} (sha256 {fingerprint})", images.fit(image, LONGEST), name)
    st.session_state["own_picture"] = Own(picture, width, height)
    st.session_state["picture"] = OWN
    st.session_state["picture_error"] = None
