"""Picking a picture: an example, or one of the visitor's own from a file, the clipboard or the camera."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import streamlit as st
from torch import Tensor

from invlib import examples, images
from invlib.experiments.structured_noise import prepare
from invlib.problems.structured import IMAGE_SHAPES
from pages.ui import address, components
from pages.ui.runs import Picture
from pages.ui.subjects import SUBJECTS, subject

OWN = "own"
"""The option that stands for the visitor's own picture, which an address cannot hold."""

REDUCED, PART = "Whole picture, reduced", "A part at full size"


@dataclass(frozen=True)
class Own:
    """A visitor's own picture.

    Attributes
    ----------
    content : the file as it came, which takes far less memory than its pixels.
    name : what the visitor calls it.
    source : where it came from: "upload", "paste" or "camera".
    fingerprint : the first hex digits of the file's SHA-256.
    width, height : in pixels, upright.
    """

    content: bytes
    name: str
    source: str
    fingerprint: str
    width: int
    height: int


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


def pick(
    *,
    longest: int,
    side: int = examples.EXAMPLE_SIDE,
    small: bool = False,
    channels: int | None = None,
    names: Sequence[str] | None = None,
) -> Picture:
    """Let the visitor pick a picture, of 8-bit levels.

    All pages of a session share the visitor's own picture, and one that is opened for the first time shows it.

    Parameters
    ----------
    longest : the longest side of an own picture, in pixels; of a larger one the visitor chooses what to use.
    side : of the examples, in pixels.
    small : the picture is to be enlarged, so that most visitors will bring their own.
    channels : 3 for colour, 1 for grey, None for what the picture has.
    names : the examples that are offered, the default first; None is all of them.

    Raises
    ------
    ImageError : the own picture is so narrow that too little is left when it is reduced.
    """
    chosen = choose({name: name.capitalize() for name in names or examples.EXAMPLES}, small=small)
    if isinstance(chosen, Own):
        return use(chosen, longest, small, channels)
    image = examples.example(chosen, channels=channels, side=side)
    return Picture(chosen, image, examples.EXAMPLES[chosen].description, side)


def pick_small(kind: str) -> Picture:
    """Let the visitor pick a picture of the size that a flow is for: one of `subjects.SUBJECTS`, or an own one.

    Parameters
    ----------
    kind : of the pictures, as in `invlib.problems.structured`.
    """
    offered = SUBJECTS[kind]
    chosen = choose({name: subject.title for name, subject in offered.items()}, small=False)
    if not isinstance(chosen, Own):
        return subject(kind, chosen)
    channels, side, _ = shape = IMAGE_SHAPES[kind]
    image = prepare(images.load_image(chosen.content), shape)
    if image.shape[-2:] != (chosen.height, chosen.width):
        grey = ", in grey" if channels == 1 else ""
        st.caption(
            f"Your picture has {chosen.width}×{chosen.height} pixels; the square in its middle was reduced to "
            f"{side}×{side}{grey}, the size that the prior knows."
        )
    return Picture(f"{chosen.name} (sha256 {chosen.fingerprint})", image, chosen.name)


def choose(titles: Mapping[str, str], *, small: bool) -> str | Own:
    """Let the visitor choose the name of an example, the first being the default, or bring a picture."""
    own: Own | None = st.session_state.get("own_picture")
    names = [*titles, OWN] if own else list(titles)
    address.remember("picture", OWN if own else names[0], names)
    chosen = st.selectbox(
        "Picture",
        names,
        key="picture",
        format_func=lambda name: "Your picture" if name == OWN else titles[name],
        help="An example, or a picture of your own.",
    )
    bring(expanded=small)
    return own if chosen == OWN and own is not None else chosen


def cropped(picture: Picture, multiple: int) -> Picture:
    """The picture with sides that are multiples of a number; up to one less is lost at the bottom and the right."""
    return replace(picture, image=images.crop_to_multiple(picture.image, multiple))


# --- A picture of one's own -------------------------------------------------------------------------------------------


def bring(*, expanded: bool) -> None:
    """The fold that takes a visitor's own picture in. The browser draws it when it is closed too, so Ctrl+V works."""
    with st.expander("Use a picture of your own", icon=":material/add_photo_alternate:", expanded=expanded):
        suffixes = [suffix.removeprefix(".") for suffix in images.SUFFIXES]
        limit = images.MAX_BYTES // 10**6
        st.file_uploader(
            "Upload a picture", suffixes, key="upload", on_change=take_file, args=["upload"], max_upload_size=limit
        )
        components.paste("paste", lambda content: take(content, "pasted picture", "paste"))
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
    """The callback of the uploader and the camera. What is removed there is forgotten, and an error with its file."""
    file = st.session_state[source]
    own: Own | None = st.session_state.get("own_picture")
    if file is not None:
        take(file.getvalue(), "photo" if source == "camera" else file.name, source)
    elif st.session_state.get("picture_error"):
        st.session_state["picture_error"] = {}
    elif own is not None and own.source == source:
        st.session_state["own_picture"] = None


def take(content: bytes, name: str, source: str) -> None:
    """Make a file the visitor's own picture, or say why it cannot be."""
    try:
        height, width = images.load_image(content).shape[-2:]
    except images.ImageError as error:
        st.session_state["picture_error"] = {st.session_state["page"]: str(error)}
        return
    fingerprint = hashlib.sha256(content).hexdigest()[:12]
    st.session_state["own_picture"] = Own(content, name, source, fingerprint, width, height)
    st.session_state["picture"] = OWN
    st.session_state["own_left"] = st.session_state["own_top"] = 50
    st.session_state["picture_error"] = {}


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
    box = place(own, longest) if choice == PART else None
    image = decoded(own, longest, channels, box)
    height, width = image.shape[-2:]
    taken = f"it was reduced to {width}×{height}" if box is None else f"a part of {width}×{height} was taken"
    reason = "so that the result is not larger than this demo makes" if small else "to keep a run short"
    st.caption(f"Your picture has {own.width}×{own.height} pixels; {taken} {reason}.")
    if min(height, width) < images.MIN_SIDE:
        raise images.ImageError(
            f"Your picture is too narrow to be reduced to {width}×{height} pixels: choose a part at full size, or use "
            f"a picture that keeps sides of {images.MIN_SIDE} pixels or more"
        )
    if box is not None:
        name = f"{own.name} (sha256 {own.fingerprint}, {width}×{height} from column {box.left} and row {box.top})"
    return Picture(name, image, own.name)


def place(own: Own, longest: int) -> Box:
    """Let the visitor choose a part with sides of at most `longest` pixels."""
    width, height = min(own.width, longest), min(own.height, longest)

    def start(label: str, key: str, room: int) -> int:
        if not room:
            return 0
        return round(room * st.slider(label, 0, 100, key=key, format="%d %%", persist_state="session") / 100)

    left = start("From the left", "own_left", own.width - width)
    top = start("From the top", "own_top", own.height - height)
    return Box(left, top, width, height)


@st.cache_data(scope="session", max_entries=4, show_spinner=False, hash_funcs={Own: lambda own: own.fingerprint})
def decoded(own: Own, longest: int, channels: int | None, box: Box | None = None) -> Tensor:
    """A part of a picture, or the whole, reduced to `longest` pixels if it is larger: (1, C, H, W), 8-bit levels."""
    image = images.load_image(own.content, channels=channels)
    if box is not None:
        image = image[..., box.top : box.top + box.height, box.left : box.left + box.width]
    return images.quantise(images.fit(image, longest))
