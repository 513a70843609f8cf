"""The closer look at a finished run on the page for structured noise: compare, scores, how it formed, downloads."""

from __future__ import annotations

import io
import json
import zipfile
from functools import partial

import streamlit as st

from invlib.problems.structured import METHODS, TASKS
from pages.ui import components, pixels
from pages.ui.removals import Removal, frame_steps
from pages.ui.results import metric, offer_download, plain_png
from pages.ui.runs import distance, quantised


def show(run: Removal) -> None:
    """Show everything about a run."""
    done = run.parameters
    st.header("A closer look")
    whose = "A saved run" if run.saved else "Your run"
    knobs = [f"{name} = {value:g}" for name, value in done["knobs"].items() if name != "strokes"]
    words = [
        done["picture"],
        TASKS[done["task"]].title.lower(),
        *knobs,
        METHODS[done["method"]].title,
        f"β = {done['settings']['smoothing']:g}",
        f"{done['evaluations']} steps in {done['seconds']:.1f} s",
        f"seed {done['seed']}",
        f"prior {done['prior']}",
    ]
    st.caption(f"{whose}: {', '.join(words)}.")
    left, right = st.columns([4, 5], gap="large")
    with left:
        st.fragment(comparison)(run)
    with right:
        scores(run)
        noise(run)
        downloads(run)
    st.subheader("How the picture formed")
    with st.grid(len(run.frames), min_column_width=70, gap="xsmall"):
        for step, frame in zip(frame_steps(done["evaluations"]), run.frames, strict=True):
            pixels.show(frame, caption=f"Step {step}", alt=f"The picture at step {step}")


def scores(run: Removal) -> None:
    """The figures."""
    before, after = run.parameters["input"], run.parameters["result"]
    with st.grid(2, min_column_width=130, gap="small"):
        about = f"Over all pixels and colours. The gain is over what was measured, {before['psnr']:.2f} dB."
        metric("PSNR", after["psnr"], before["psnr"], "dB", 2, about)
        metric("SSIM", after["ssim"], before["ssim"], "", 3, "Structural similarity; 1 is the original.")


def comparison(run: Removal) -> None:
    """Before and after. A fragment: choosing another picture draws this part alone."""
    after = {"Restored": run.restored, "Original": run.truth}
    chosen = st.selectbox("Compare what was measured with", list(after))
    height, width = run.truth.shape[:2]
    components.compare(
        pixels.png(run.posed.view),
        pixels.png(after[chosen]),
        before_label="Measured",
        after_label=chosen,
        aspect=width / height,
        key="compare",
    )


def noise(run: Removal) -> None:
    """The noise that was found, the one that was there, and where the picture is wrong."""
    error = distance(run.restored, run.truth)
    top = max(0.05, float(error.max()))
    with st.grid(3, min_column_width=90, gap="small"):
        pixels.show(run.noise, caption="Noise found", alt="The noise that was found")
        pixels.show(run.posed.noise, caption="Noise put in", alt="The noise that was put in")
        pixels.show(pixels.coloured(quantised(error, top)), caption="Error", alt="The distance from the original")
    st.caption(
        f"Noise of −{run.posed.top:.2g} is black, none is grey, and {run.posed.top:.2g} white. The error is the "
        f"distance of the restored picture from the original, from 0 (dark) to {top:.2f} (bright)."
    )


def downloads(run: Removal) -> None:
    """Files are made when they are asked for."""
    offer = partial(offer_download, f"{run.parameters['task']}-removed")
    st.markdown("**Downloads**")
    with st.grid(2, min_column_width=130, gap="small"):
        offer("Picture", ".png", "image/png", lambda: plain_png(run.restored))
        offer("All pictures", ".zip", "application/zip", lambda: archive(run))
        offer("Settings", ".json", "application/json", lambda: json.dumps(run.parameters, indent=1).encode())


def archive(run: Removal) -> bytes:
    """Every picture of a run and its JSON, in a ZIP file."""
    pictures = {"original": run.truth, "measured": run.posed.view, "restored": run.restored, "noise": run.noise}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, picture in pictures.items():
            file.writestr(f"{name}.png", plain_png(picture))
        file.writestr("run.json", json.dumps(run.parameters, indent=1))
    return buffer.getvalue()
