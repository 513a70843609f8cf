export default function ({ data, parentElement, setTriggerValue }) {
  const status = parentElement.querySelector("span")
  const send = blob => {
    if (!blob) { status.textContent = "There is no picture on the clipboard."; return }
    status.textContent = ""
    if (blob.size > data.most) { setTriggerValue("too_large", true); return }
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
