export default function ({ data, parentElement, setStateValue }) {
  const find = selector => parentElement.querySelector(selector)
  const { width, height } = data
  const sheet = find(".sheet"), svg = find("svg"), brush = find("input"), eraser = find("[name=erase]")

  // The drawing lives in the browser. Python gives the strokes that it starts from and is told of every change. What
  // Python has is never newer, so the browser reads it once, and a rerun cannot take away a stroke in progress.
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
  // The first point stands twice, because a polyline of a single point is not drawn.
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
    find("#hint").style.inset = at[1] > height / 2 ? "0 0 auto 0" : "auto 0 0 0"  // away from the cursor
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

  // A stroke may leave the picture by no more than the brush's width. Further out it would not touch the picture.
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
