"""Picking a picture: an example, or one of the visitor's own from a file, the clipboard or the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st
from torch import Tensor

from invlib import decoding, examples, images
from invlib.images import Picture
from invlib.problems.structured import IMAGE_SHAPES, prepare
from pages.ui import crop, knobs
from pages.ui.components import paste

OWN = "own"
"""The option that stands for the visitor's own picture, which an address cannot hold."""

REDUCED, PART = "Whole picture, reduced", "A part at full size"


@dataclass(frozen=True)
class Own:
    """A visitor's own picture.

    Attributes
    ----------
    content : the bytes of the file, which take far less memory than the pixels.
    name : the name of the file, or where it came from.
    source : where it came from: "upload", "paste" or "camera".
    fingerprint : the first hex digits of the file's SHA-256.
    width, height : in pixels, upright.
    note : what was assumed of the file.
    """

    content: bytes
    name: str
    source: str
    fingerprint: str
    width: int
    height: int
    note: str = ""


def pick(
    *,
    longest: int,
    side: int = examples.EXAMPLE_SIDE,
    small: bool = False,
    channels: int | None = None,
    names: Sequence[str] | None = None,
) -> Picture:
    """Let the visitor pick a picture, whose numbers are 8-bit levels.

    All pages of a session share the visitor's own picture, and a page that is opened for the first time shows it.

    Parameters
    ----------
    longest : the longest side of an own picture, in pixels. If it is larger, the visitor chooses what to use of it.
    side : the largest side of the examples, in pixels.
    small : whether the picture is to be enlarged, so that most visitors will bring their own.
    channels : 3 for colour, 1 for grey, None for what the picture has.
    names : the examples that are offered, the default first. None offers all of them.

    Raises
    ------
    ImageError : the own picture is so narrow that too little is left when it is reduced.
    """
    chosen = choose({name: name.capitalize() for name in names or examples.EXAMPLES}, small=small)
    if isinstance(chosen, Own):
        return use(chosen, longest, small, channels)
    return examples.picture(chosen, channels=channels, side=min(side, examples.EXAMPLES[chosen].side))


def pick_small(kind: str) -> Picture:
    """Let the visitor pick one of `examples.SUBJECTS[kind]` or an own picture, in the size that the flow is for."""
    offered = examples.SUBJECTS[kind]
    chosen = choose({name: subject.title for name, subject in offered.items()}, small=False)
    if not isinstance(chosen, Own):
        return examples.subject(kind, chosen)
    channels, side, _ = IMAGE_SHAPES[kind]
    with decoding.guarded(chosen.content) as found:
        image = prepare(images.compose(found), kind)
    if image.shape[-2:] != (chosen.height, chosen.width):
        grey = ", in grey" if channels == 1 else ""
        st.caption(
            f"Your picture has {chosen.width}×{chosen.height} pixels; the square in its middle was reduced to "
            f"{side}×{side}{grey}, the size that the prior knows."
        )
    return Picture(f"{chosen.name} (sha256 {chosen.fingerprint})", image, chosen.name)


def choose(titles: Mapping[str, str], *, small: bool) -> str | Own:
    """Let the visitor choose the name of an example or bring a picture. The first example is the default."""
    own: Own | None = st.session_state.get("own_picture")
    offered = {**titles, OWN: "Your picture"} if own else titles
    default = OWN if own else None
    chosen = knobs.selection("Picture", "picture", offered, "An example, or a picture of your own.", default=default)
    bring(expanded=small)
    if chosen != OWN or own is None:
        return chosen
    if own.note:
        st.caption(own.note)
    return own


# A picture of one's own


def bring(*, expanded: bool) -> None:
    """Show the fold for a visitor's own picture. Ctrl+V works while it is closed, because the browser draws it then."""
    with st.expander("Use a picture of your own", icon=":material/add_photo_alternate:", expanded=expanded):
        most = decoding.STRANGERS.size
        st.file_uploader(
            "Upload a picture",
            [suffix.removeprefix(".") for suffix in decoding.STRANGERS.suffixes],
            key="upload",
            on_change=take_file,
            args=["upload"],
            max_upload_size=most // 10**6,
        )
        advice = f"The picture is larger than {most // 10**6} MB: save it as a JPEG file, and upload that."
        paste.button("paste", lambda content: take(content, "pasted picture", "paste"), most, lambda: refuse(advice))
        # The camera input asks for the camera as soon as it is there.
        if st.toggle("Use the camera", key="camera_on"):
            st.camera_input("Take a photo", key="camera", on_change=take_file, args=["camera"], resolution="720p")
        st.caption(
            "On a keyboard, Ctrl+V pastes at any time. Your picture stays in the memory of this page's server until "
            "you close the page."
        )
    # Another page's uploader does not hold the file that the error is about.
    if problem := st.session_state.get("picture_error", {}).get(st.session_state["page"]):
        st.error(problem, icon=":material/broken_image:")


def take_file(source: str) -> None:
    """Take what the uploader or the camera holds. If its file was removed, forget the picture, or the file's error."""
    file = st.session_state[source]
    own: Own | None = st.session_state.get("own_picture")
    if file is not None:
        take(file.getvalue(), "photo" if source == "camera" else file.name, source)
    elif st.session_state.get("picture_error"):
        st.session_state["picture_error"] = {}
    elif own is not None and own.source == source:
        st.session_state["own_picture"] = None


def take(content: bytes, name: str, source: str) -> None:
    """Make a file the visitor's own picture, or remember why that is impossible."""
    try:
        with decoding.guarded(content) as found:
            (height, width), note = found.pixels.shape[:2], found.note
    except images.ImageError as error:
        refuse(str(error))
        return
    fingerprint = hashlib.sha256(content).hexdigest()[:12]
    st.session_state["own_picture"] = Own(content, name, source, fingerprint, width, height, note)
    st.session_state["picture"] = OWN
    st.session_state["own_left"] = st.session_state["own_top"] = 50
    st.session_state["picture_error"] = {}


def refuse(problem: str) -> None:
    """Remember why a picture was not taken."""
    st.session_state["picture_error"] = {st.session_state["page"]: problem}


def use(own: Own, longest: int, small: bool, channels: int | None) -> Picture:
    """Let the visitor choose what to use of a picture that is too large."""
    name = f"{own.name} (sha256 {own.fingerprint})"
    if max(own.width, own.height) <= longest:
        return Picture(name, decoded(own, longest, channels), own.name)
    choice = st.radio(
        "What to use of it",
        [REDUCED, PART],
        key="own_use",
        persist_state="session",
        help="Reduced, it keeps the whole scene and loses fine detail. A part keeps its pixels as they are.",
    )
    corner = place(own, longest) if choice == PART else None
    image = decoded(own, longest, channels, corner)
    height, width = image.shape[-2:]
    taken = f"it was reduced to {width}×{height}" if corner is None else f"a part of {width}×{height} was taken"
    reason = "so that the result is not larger than this demo makes" if small else "to keep a run short"
    st.caption(f"Your picture has {own.width}×{own.height} pixels; {taken} {reason}.")
    if min(height, width) < images.MIN_SIDE:
        raise images.ImageError(
            f"Your picture is too narrow to be reduced to {width}×{height} pixels: choose a part at full size, or use "
            f"a picture that keeps sides of {images.MIN_SIDE} pixels or more"
        )
    if corner is not None:
        left, top = corner
        name = f"{own.name} (sha256 {own.fingerprint}, {width}×{height} from column {left} and row {top})"
    return Picture(name, image, own.name)


def place(own: Own, longest: int) -> tuple[int, int]:
    """Let the visitor place a part with sides of at most `longest` pixels. Return its left column and its top row."""

    def start(label: str, key: str, room: int) -> int:
        if room <= 0:
            return 0
        return round(room * st.slider(label, 0, 100, key=key, format="%d %%", persist_state="session") / 100)

    left = start("From the left", "own_left", own.width - longest)
    top = start("From the top", "own_top", own.height - longest)
    crop.show(decoded(own, crop.THUMBNAIL, None), (own.width, own.height), (left, top), longest)
    return left, top


@st.cache_data(scope="session", max_entries=4, show_spinner=False, hash_funcs={Own: lambda own: own.fingerprint})
def decoded(own: Own, longest: int, channels: int | None, corner: tuple[int, int] | None = None) -> Tensor:
    """The picture reduced to `longest` pixels, or its part from a corner on: (1, C, H, W), in 8-bit levels."""
    with decoding.guarded(own.content) as found:
        image = images.compose(found, channels=channels)
        if corner is not None:
            left, top = corner
            image = image[..., top : top + longest, left : left + longest]
        return images.quantise(images.fit(image, longest))
