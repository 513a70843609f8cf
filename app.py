"""The pages of the app, each with one entry in `PAGES`. `server.py` serves them: `streamlit run server.py`."""

from pathlib import Path

import pandas  # noqa: F401  # before any page, as another visitor's chart would find it half imported
import streamlit as st

ICON = Path(__file__).parent / "pages/ui/icon.svg"
st.set_page_config(page_title="Inverse problems with a denoiser", page_icon=str(ICON), layout="wide")

HOME = "super_resolution"
PAGES = {
    "denoising": ("Denoising", "auto_fix_high", "Take the noise off a picture, and see how strong it was."),
    HOME: (
        "Super-resolution",
        "zoom_in",
        "Enlarge a small picture: several answers that all shrink back to exactly what was measured.",
    ),
    "deblurring": ("Deblurring", "blur_on", "Undo a blur: the frequencies that it removed, found again."),
    "inpainting": ("Inpainting", "draw", "Fill holes, repair scratches, remove an object."),
    "compressive_sensing": ("Compressive sensing", "grain", "A picture from a few random sums of all its pixels."),
    "structured_noise": (
        "Structured noise",
        "waves",
        "Noise that has a shape of its own, taken off a face: stripes, pasted digits, a scribble.",
    ),
    "sampling": (
        "Sampling",
        "casino",
        "Nothing measured: pictures that a denoiser, flow or GAN draws from noise alone.",
    ),
    "benchmarks": (
        "Benchmarks",
        "leaderboard",
        "The paper's tables and figures, measured again, beside its own figures and other methods.",
    ),
}
"""A file in pages/ -> the page's title, its icon and what it is about."""

# The default page is at the root, whatever its path is. Old links have the address that its file would give it.
pages = [st.Page(f"pages/{HOME}.py", title=PAGES[HOME][0], url_path=HOME, visibility="hidden")]
for name, (title, icon, about) in PAGES.items():
    home = {"url_path": "home", "default": True} if name == HOME else {}
    pages.append(st.Page(f"pages/{name}.py", title=title, icon=f":material/{icon}:", help=about, **home))

page = st.navigation(pages, position="top")
# On a wide window pictures would grow beyond its height.
with st.container(horizontal_alignment="center"), st.container(width=1120):
    page.run()
