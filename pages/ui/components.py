"""Two small components that Streamlit does not have. They run in the browser alone, with the theme's colours."""

from __future__ import annotations

import base64
from collections.abc import Callable

import streamlit as st

from pages.ui.pixels import data_url

_COMPARE = st.components.v2.component(
    "compare",
    html="""
<figure>
  <div class="pictures">
    <img class="after"><img class="before"><div class="edge"></div>
    <input type="range" min="0" max="100" value="50" step="0.5">
  </div>
  <figcaption><span class="before-label"></span><span class="after-label"></span></figcaption>
</figure>
""",
    css="""
figure { margin: 0; font-family: var(--st-font); color: var(--st-text-color); }
.pictures { position: relative; line-height: 0; border-radius: var(--st-base-radius); overflow: hidden; --at: 50%; }
.pictures:focus-within { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
img { width: 100%; user-select: none; }
.before { position: absolute; inset: 0; height: 100%; image-rendering: pixelated;
  clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.edge { position: absolute; inset: 0 auto 0 var(--at); width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 0 1px rgb(0 0 0 / 45%); pointer-events: none; }
.edge::after { content: "◂ ▸"; position: absolute; top: 50%; left: 50%; transform: translate(-50%, -50%);
  font: 13px/28px var(--st-font); width: 40px; text-align: center; white-space: nowrap; border-radius: 14px;
  background: #fff; color: #222; box-shadow: 0 0 0 1px rgb(0 0 0 / 45%); }
input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize;
  touch-action: pan-y; }
figcaption { display: flex; justify-content: space-between; gap: 1rem; margin-top: 0.5rem; font-size: 0.875rem;
  opacity: 0.8; }
""",
    js="""
export default function ({ data, parentElement }) {
  const find = selector => parentElement.querySelector(selector)
  for (const side of ["before", "after"]) {
    const image = find("." + side)
    if (image.src !== data[side]) image.src = data[side]
    image.alt = data[side + "_label"]
    find("." + side + "-label").textContent = data[side + "_label"]
  }
  find(".pictures").style.aspectRatio = data.aspect
  const slider = find("input")
  slider.ariaLabel = "Divide between " + data.before_label + " and " + data.after_label
  slider.oninput = () => find(".pictures").style.setProperty("--at", slider.value + "%")
}
""",
)


def compare(before: bytes, after: bytes, *, before_label: str, after_label: str, aspect: float, key: str) -> None:
    """Two pictures, one over the other, with a divider to drag or to move with the arrow keys.

    Parameters
    ----------
    before, after : PNG files. The first is enlarged to the size of the second, its pixels as squares.
    before_label, after_label : what they are, below and as alternative texts.
    aspect : width divided by height.
    """
    data = {
        "before": data_url(before),
        "after": data_url(after),
        "before_label": before_label,
        "after_label": after_label,
        "aspect": aspect,
    }
    _COMPARE(data=data, key=key)


_PASTE = st.components.v2.component(
    "paste",
    html="""
<button type="button">Paste a picture</button><span role="status"></span>
""",
    css="""
button { font: 0.875rem var(--st-font); padding: 0.4rem 0.8rem; cursor: pointer;
  color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
button:hover, button:focus-visible { border-color: var(--st-primary-color); outline: none; }
span { margin-left: 0.75rem; font: 0.875rem var(--st-font); color: var(--st-text-color); opacity: 0.8; }
""",
    js="""
export default function ({ parentElement, setTriggerValue }) {
  const status = parentElement.querySelector("span")
  const send = blob => {
    if (!blob) { status.textContent = "There is no picture on the clipboard."; return }
    status.textContent = ""
    const reader = new FileReader()
    reader.onload = () => setTriggerValue("picture", reader.result.split(",")[1])
    reader.readAsDataURL(blob)
  }
  const onpaste = event => {
    const item = [...event.clipboardData.items].find(item => item.type.startsWith("image/"))
    if (item) { event.preventDefault(); send(item.getAsFile()) }
  }
  parentElement.querySelector("button").onclick = async () => {
    try {
      const items = await navigator.clipboard.read()
      const item = items.find(item => item.types.some(type => type.startsWith("image/")))
      send(item && await item.getType(item.types.find(type => type.startsWith("image/"))))
    } catch {
      status.textContent = "The browser does not let a button read the clipboard: press Ctrl+V, or upload the picture."
    }
  }
  document.onpaste = onpaste
  return () => { if (document.onpaste === onpaste) document.onpaste = null }
}
""",
)


def paste(key: str, on_picture: Callable[[bytes], None]) -> None:
    """A button that takes a picture from the clipboard. Ctrl+V does the same, even where a closed fold hides it."""

    def decode() -> None:
        on_picture(base64.b64decode(st.session_state[key].picture))

    _PASTE(key=key, on_picture_change=decode)
