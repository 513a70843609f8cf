"""The app: `streamlit run app.py`. A page is one entry here."""

import os
from pathlib import Path

import streamlit as st

# Before PyTorch is loaded: threads that wait for one another should leave their core to whoever else wants it, the
# server or a browser on the same machine. A run beside a browser on two cores takes two thirds of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ICON = Path(__file__).parent / "pages/ui/icon.svg"
st.set_page_config(page_title="Inverse problems with a denoiser", page_icon=str(ICON), layout="wide")

PAGES = [
    st.Page(
        "pages/super_resolution.py",
        title="Super-resolution",
        icon=":material/zoom_in:",
        help="Enlarge a small picture: several answers that all shrink back to exactly what was measured.",
    ),
    st.Page(
        "pages/deblurring.py",
        title="Deblurring",
        icon=":material/blur_on:",
        help="Undo a blur: the frequencies that it removed, found again.",
    ),
    st.Page(
        "pages/inpainting.py",
        title="Inpainting",
        icon=":material/draw:",
        help="Fill holes, repair scratches, remove an object.",
    ),
    st.Page(
        "pages/compressive_sensing.py",
        title="Compressive sensing",
        icon=":material/grain:",
        help="A picture from a few random sums of all its pixels.",
    ),
    st.Page(
        "pages/structured_noise.py",
        title="Structured noise",
        icon=":material/waves:",
        help="Noise that has a shape of its own, taken off a face: stripes, pasted digits, a scribble.",
    ),
    st.Page(
        "pages/sampling.py",
        title="Sampling",
        icon=":material/casino:",
        help="Nothing measured: pictures that a denoiser draws from noise alone.",
    ),
    st.Page(
        "pages/benchmarks.py",
        title="Benchmarks",
        icon=":material/leaderboard:",
        help="The paper's tables and figures, measured again, beside its own figures and other methods.",
    ),
]

page = st.navigation(PAGES, position="top")
# On a wide window pictures would grow beyond its height.
with st.container(horizontal_alignment="center"), st.container(width=1120):
    page.run()
