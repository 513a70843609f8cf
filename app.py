"""The app: `streamlit run app.py`. A page is one entry here."""

from pathlib import Path

import streamlit as st

ICON = Path(__file__).parent / "pages/ui/icon.svg"
st.set_page_config(page_title="Inverse problems with a denoiser", page_icon=str(ICON), layout="wide")

PAGES = [
    st.Page(
        "pages/super_resolution.py",
        title="Super-resolution",
        icon=":material/zoom_in:",
        help="Enlarge a small picture: several answers that all shrink back to exactly what was measured.",
    ),
]

page = st.navigation(PAGES, position="top")
# On a wide window pictures would grow beyond its height.
with st.container(horizontal_alignment="center"), st.container(width=1120):
    page.run()
