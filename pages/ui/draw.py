"""Drawing over a picture with the mouse, a finger, a pen or the keyboard: a hole, a blur kernel, a scribble."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np
import streamlit as st
from PIL import Image, ImageDraw

from pages.ui.pixels import data_url

MAX_POINTS = 20_000
"""The most points that all strokes of a drawing may have together: some hundred strokes across a picture."""

FINE = 4
"""Strokes are drawn so many times finer than the picture, and a pixel counts as painted if half of it is."""


class Stroke(TypedDict):
    """One sweep of a round brush along straight lines between points.

    points : pairs (x, y) in picture pixels; (0, 0) is the upper left corner of the upper left pixel.
    brush : the brush's diameter in picture pixels.
    erase : the stroke takes away what earlier ones painted.
    """

    points: list[list[float]]
    brush: float
    erase: NotRequired[bool]


_BOARD = st.components.v2.component(
    "board",
    html="""
<div class="board">
  <p id="label"></p>
  <div class="sheet" role="application" tabindex="0" aria-labelledby="label" aria-describedby="hint">
    <svg aria-hidden="true">
      <mask id="painted"></mask>
      <pattern id="paint" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
        <rect class="ink" width="100%" height="100%"/><rect class="stripe" height="100%"/>
      </pattern>
      <image width="100%" height="100%" preserveAspectRatio="none"/>
      <rect width="100%" height="100%" fill="url(#paint)" mask="url(#painted)"/>
      <circle class="cursor"/>
    </svg>
    <p id="hint">Arrow keys move the brush, with Shift further. Space puts it down and lifts it. Ctrl+Z undoes.</p>
  </div>
  <div class="tools">
    <label>Brush <input type="range" min="1"></label>
    <div class="buttons">
      <button type="button" name="erase" aria-pressed="false">Eraser</button>
      <button type="button" name="undo">Undo</button>
      <button type="button" name="redo">Redo</button>
      <button type="button" name="clear">Clear</button>
    </div>
  </div>
  <p role="status"></p>
</div>
""",
    css="""
.board { font: 0.875rem var(--st-font); color: var(--st-text-color); }
p { margin: 0; }
#label { margin-bottom: 0.25rem; }
.sheet { position: relative; line-height: 0; border-radius: var(--st-base-radius); overflow: hidden;
  box-shadow: 0 0 0 1px var(--st-border-color); touch-action: none; user-select: none; cursor: crosshair; }
.sheet:focus { outline: none; }
.sheet:focus-visible, button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
svg { width: 100%; }
mask { fill: none; stroke-linecap: round; stroke-linejoin: round; }
.ink { fill: var(--colour); opacity: 0.7; }
.stripe { fill: #fff; opacity: 0.25; }
.cursor { visibility: hidden; fill: none; stroke: #fff; stroke-width: 1.5px; vector-effect: non-scaling-stroke;
  filter: drop-shadow(0 0 1px #000) drop-shadow(0 0 1px #000); }
.sheet:focus-visible .cursor, .board:has(input:is(:active, :focus-visible)) .cursor { visibility: visible; }
@media (hover: hover) { .sheet:hover .cursor { visibility: visible; } }
#hint { position: absolute; padding: 0.4rem 0.6rem; line-height: 1.4; color: #fff;
  background: rgb(0 0 0 / 75%); pointer-events: none; visibility: hidden; }
.sheet:focus-visible #hint { visibility: visible; }
.tools { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 1rem; margin-top: 0.5rem; }
label { display: flex; flex: 1 1 10rem; align-items: center; gap: 0.6rem; }
input { flex: 1; min-width: 0; height: 2.25rem; margin: 0; accent-color: var(--st-primary-color); }
.buttons { display: flex; flex-wrap: wrap; gap: 0.5rem; }
button { font: inherit; padding: 0 0.75rem; height: 2.25rem; cursor: pointer; color: inherit;
  background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); }
button:hover:enabled { border-color: var(--st-primary-color); }
button:disabled { opacity: 0.4; cursor: default; }
button[aria-pressed=true] { color: var(--st-background-color); background: var(--st-primary-color);
  border-color: var(--st-primary-color); }
[role=status] { min-height: 1.4em; margin-top: 0.25rem; opacity: 0.8; }
""",
    js="""
export default function ({ data, parentElement, setStateValue }) {
  const find = selector => parentElement.querySelector(selector)
  const { width, height } = data
  const sheet = find(".sheet"), svg = find("svg"), brush = find("input"), eraser = find("[name=erase]")

  // The drawing lives here. Python gives what it starts from, and is told of it whenever it has changed; what comes
  // back from there is never newer, so a rerun cannot take away a stroke that is being drawn.
  const board = find(".board")
  if (!board.drawing) {
    board.drawing = { strokes: data.strokes, past: [], future: [], stroke: null, at: [width / 2, height / 2] }
    brush.max = data.widest_brush
    brush.value = data.brush
  }
  const drawing = board.drawing

  find("#label").textContent = data.label
  board.style.setProperty("--colour", data.colour)
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`)
  const image = find("image")
  if (image.getAttribute("href") !== data.background) image.setAttribute("href", data.background)
  const pitch = Math.max(width, height) / 40
  for (const side of ["width", "height"]) find("pattern").setAttribute(side, pitch)
  find(".stripe").setAttribute("width", pitch / 2)

  const element = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name)
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value)
    return made
  }
  // The first point twice, or a stroke of one point would not be seen.
  const line = ({ points, brush, erase }) => element("polyline", {
    points: [points[0], ...points].join(" "), "stroke-width": brush, stroke: erase ? "#000" : "#fff",
  })
  const say = sentence => { find("[role=status]").textContent = sentence }

  function show() {
    const { strokes, stroke, past, future } = drawing
    find("mask").replaceChildren(...strokes.map(line), ...(stroke?.points.length ? [line(stroke)] : []))
    find("[name=undo]").disabled = !past.length
    find("[name=redo]").disabled = !future.length
    find("[name=clear]").disabled = !strokes.length
  }

  function aim(at) {
    drawing.at = at
    const cursor = find(".cursor")
    cursor.setAttribute("cx", at[0])
    cursor.setAttribute("cy", at[1])
    cursor.setAttribute("r", brush.value / 2)
    find("#hint").style.inset = at[1] > height / 2 ? "0 0 auto 0" : "auto 0 0 0"  // not over the cursor
  }

  function replace(strokes) {
    drawing.strokes = strokes
    show()
    say(strokes.length === 1 ? "1 stroke." : `${strokes.length} strokes.`)
    setStateValue("strokes", strokes)
  }

  function change(strokes) {
    drawing.past.push(drawing.strokes)
    drawing.future = []
    replace(strokes)
  }

  function travel(from, to) {
    end()
    if (!from.length) return
    to.push(drawing.strokes)
    replace(from.pop())
  }

  // A stroke may leave the picture, but not by more than the brush: it would only paint beyond the edge.
  const round = value => Math.round(10 * value) / 10
  const within = (value, size, margin) => round(Math.min(size + margin, Math.max(-margin, value)))

  function begin(point) {
    drawing.stroke = { points: [], brush: +brush.value, erase: eraser.ariaPressed === "true" }
    extend(point)
    show()
  }

  function extend([x, y]) {
    const { strokes, stroke } = drawing
    const point = [within(x, width, stroke.brush), within(y, height, stroke.brush)]
    const last = stroke.points.at(-1)
    if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) < Math.max(0.5, stroke.brush / 10)) return
    const count = strokes.reduce((sum, { points }) => sum + points.length, stroke.points.length)
    if (count < data.max_points) stroke.points.push(point)
    else say("The drawing is full: undo a stroke, or clear it.")
  }

  function end() {
    const { stroke, strokes } = drawing
    drawing.stroke = null
    if (stroke?.points.length) change([...strokes, stroke])
  }

  function press() {
    if (drawing.stroke) return end()
    begin(drawing.at)
    say("The brush is down.")
  }

  const locate = ({ clientX, clientY }) => {
    const box = svg.getBoundingClientRect()
    return [(clientX - box.left) / box.width * width, (clientY - box.top) / box.height * height]
  }
  sheet.onpointerdown = event => {
    if (!event.isPrimary || event.button !== 0) return
    sheet.setPointerCapture(event.pointerId)
    end()
    aim(locate(event))
    begin(drawing.at)
  }
  sheet.onpointermove = event => {
    if (!event.isPrimary) return
    aim(locate(event))
    if (!drawing.stroke || !sheet.hasPointerCapture(event.pointerId)) return
    const between = event.getCoalescedEvents?.() ?? []
    for (const moved of between.length ? between : [event]) extend(locate(moved))
    show()
  }
  sheet.onlostpointercapture = end

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }
  sheet.onkeydown = event => {
    const arrow = arrows[event.key]
    const command = event.ctrlKey || event.metaKey
    if (arrow) {
      const step = Math.max(1, brush.value / 4) * (event.shiftKey ? 4 : 1)
      const move = axis => Math.min([width, height][axis], Math.max(0, drawing.at[axis] + step * arrow[axis]))
      aim([move(0), move(1)])
      if (drawing.stroke) {
        extend(drawing.at)
        show()
      }
    } else if (event.key === " ") {
      if (!event.repeat) press()
    } else if (command && event.key.toLowerCase() === "z") {
      if (event.shiftKey) travel(drawing.future, drawing.past)
      else travel(drawing.past, drawing.future)
    } else return
    event.preventDefault()
  }
  sheet.onblur = end

  brush.oninput = () => aim(drawing.at)
  eraser.onclick = () => { eraser.ariaPressed = eraser.ariaPressed !== "true" }
  find("[name=undo]").onclick = () => travel(drawing.past, drawing.future)
  find("[name=redo]").onclick = () => travel(drawing.future, drawing.past)
  find("[name=clear]").onclick = () => change([])
  show()
  aim(drawing.at)
}
""",
)


def strokes(
    background: bytes,
    *,
    width: int,
    height: int,
    key: str,
    label: str,
    brush: int,
    colour: str = "var(--st-primary-color)",
    initial: Sequence[Stroke] = (),
) -> np.ndarray:
    """Let the visitor draw over a picture.

    A drawing belongs to the picture under it, and to what it started from: when either changes, it starts anew.

    Parameters
    ----------
    background : a PNG file, shown under the drawing.
    width, height : of the picture and of the result, in pixels.
    label : what to draw, and on what, in a sentence; it also names the drawing to a screen reader.
    brush : the brush's diameter at first, in pixels; the visitor can change it, up to `widest_brush`.
    colour : of the paint, in CSS.
    initial : what the drawing starts from.

    Returns
    -------
    (height, width) bool, true where the visitor painted.
    """
    name = state_key(key, background, width=width, height=height, initial=initial)
    drawn = st.session_state.get(name, {}).get("strokes", initial)
    data = {
        "background": data_url(background),
        "width": width,
        "height": height,
        "label": label,
        "brush": brush,
        "colour": colour,
        "strokes": drawn,
        "max_points": MAX_POINTS,
        "widest_brush": widest_brush(width, height),
    }
    board = _BOARD(data=data, key=name, default={"strokes": list(initial)}, on_strokes_change=lambda: None)
    try:
        return rasterise(board.strokes, width, height)
    except ValueError:
        st.error("The drawing could not be read: clear it and draw it again.")
        return np.zeros((height, width), bool)


def state_key(key: str, background: bytes, *, width: int, height: int, initial: Sequence[Stroke] = ()) -> str:
    """The key under which the session state holds a drawing, as ``{"strokes": [...]}``."""
    start = json.dumps([width, height, list(initial)]).encode()
    return f"{key} {hashlib.sha256(background + start).hexdigest()[:12]}"


def widest_brush(width: int, height: int) -> int:
    """The diameter of the widest brush for a picture, in pixels: a quarter of its longest side."""
    return max(1, max(width, height) // 4)


def rasterise(strokes: Sequence[Stroke], width: int, height: int) -> np.ndarray:
    """The pixels that strokes paint.

    Parameters
    ----------
    strokes : at most `MAX_POINTS` points together, none further outside the picture than its brush is wide, and no
        brush wider than `widest_brush`.
    width, height : of the picture, in pixels.

    Returns
    -------
    (height, width) bool, true where at least half of a pixel is painted.

    Raises
    ------
    ValueError
        If the strokes are not such a drawing.
    """
    sheet = Image.new("L", (FINE * width, FINE * height))
    pen = ImageDraw.Draw(sheet)
    for points, brush, erase in validate(strokes, width, height):
        ink = 0 if erase else 255
        # Pillow's whole numbers are the centres of pixels, ours their corners; and its lines have no round ends.
        corners = [(x, y) for x, y in FINE * points - 0.5]
        pen.line(corners, ink, round(FINE * brush))
        for corner in corners:
            pen.circle(corner, (FINE * brush - 1) / 2, ink)
    return np.asarray(sheet.reduce(FINE)) >= 128


def validate(strokes: object, width: int, height: int) -> list[tuple[np.ndarray, float, bool]]:
    """Points (count, 2), brush and whether it erases, of each stroke; ValueError if that is not what they are.

    They come from a browser, where anyone can write anything.
    """
    try:
        drawn = [
            (np.asarray(stroke["points"], float), float(stroke["brush"]), bool(stroke.get("erase")))
            for stroke in strokes  # type: ignore[attr-defined]
        ]
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError("strokes must be a list of strokes, each with its points and its brush") from error
    if not all(points.shape[1:] == (2,) for points, _, _ in drawn):
        raise ValueError("strokes must have points that are pairs (x, y), and each at least one")
    if sum(len(points) for points, _, _ in drawn) > MAX_POINTS:
        raise ValueError(f"strokes must have at most {MAX_POINTS} points together")
    widest = widest_brush(width, height)
    if not all(0 < brush <= widest for _, brush, _ in drawn):
        raise ValueError(f"strokes must have brushes wider than 0 and no wider than {widest} pixels")
    if not all(((points >= -brush) & (points <= [width + brush, height + brush])).all() for points, brush, _ in drawn):
        raise ValueError("strokes must not leave the picture by more than their brush is wide")
    return drawn
