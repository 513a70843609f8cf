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
