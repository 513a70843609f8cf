"""The closer look at a finished run: compare, samples, spread, scores, trajectory, downloads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable

import numpy as np
import streamlit as st

from pages.ui import components, pixels, plots
from pages.ui.runs import Run


def show(run: Run, *, measured: str) -> None:
    """Show everything about a run.

    Parameters
    ----------
    measured : what was measured, in a word or two: "4×".
    """
    done = run.parameters
    st.header("A closer look")
    whose = "A saved run" if run.saved else "Your run"
    words = [
        done["picture"],
        measured,
        plural(done["samples"], "sample"),
        f"{done['sampler']} sampler",
        f"{plural(done['evaluations'], 'evaluation')} in {done['seconds']:.1f} s",
        f"seed {done['seed']}",
        f"prior {done['prior']}",
    ]
    st.caption(f"{whose}: {', '.join(words)}.")
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.fragment(comparison)(run)
    with right:
        scores(run)
        downloads(run)
    gallery(run)
    if "each" in run.parameters and len(run.samples) > 1:
        curves(run)
    st.fragment(trajectory)(run)


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def comparison(run: Run) -> None:
    """Before and after. A fragment: choosing another picture draws this part alone."""
    after = {f"Sample {number}": sample for number, sample in enumerate(run.samples, start=1)}
    if len(run.samples) > 1:
        after = {"Average of the samples": run.mean, **after}
    if run.truth is not None:
        after["Original"] = run.truth
    chosen = st.selectbox("Compare what was measured with", list(after))
    height, width = run.mean.shape[:2]
    components.compare(
        pixels.png(run.measured),
        pixels.png(after[chosen]),
        before_label="Measured",
        after_label=chosen,
        aspect=width / height,
        key="compare",
    )


def scores(run: Run) -> None:
    """The figures, if the truth is known."""
    if "mean" not in run.parameters:
        st.markdown("The true picture is not known here, so nothing can be scored.")
        return
    given, sample, mean = (run.parameters[part] for part in ("input", "sample", "mean"))
    with st.grid(2, min_column_width=130, gap="small"):
        several = len(run.samples) > 1
        if several:
            metric("PSNR, average", mean["psnr"], given["psnr"], "dB", 2, "Of the samples' average.")
        metric("PSNR, one sample", sample["psnr"], given["psnr"], "dB", 2, "Averaged over the samples.")
        if several:
            metric("SSIM, average", mean["ssim"], given["ssim"], "", 3, "Of the samples' average.")
        metric("SSIM, one sample", sample["ssim"], given["ssim"], "", 3, "Averaged over the samples.")
    lines = [f"Gains are over the measured picture alone ({given['psnr']:.2f} dB, {given['ssim']:.3f})."]
    if run.parameters.get("spread_skill") is not None:
        lines.append(
            f"The samples spread {run.parameters['spread_skill']:.2f} times as far as their average is from the truth; "
            "1 would be a perfect account of what is not known."
        )
    st.caption(" ".join(lines))


def metric(label: str, value: float, baseline: float, unit: str, digits: int, about: str) -> None:
    st.metric(
        label,
        f"{value:.{digits}f} {unit}".rstrip(),
        f"{value - baseline:+.{digits}f}",
        help=f"{about} Higher is better.",
    )


def gallery(run: Run) -> None:
    """The samples, their average, and where they differ."""
    st.subheader("Samples")
    st.caption("Each agrees with what was measured; what they disagree about, the measurements do not say.")
    with st.grid(3, min_column_width=150, gap="small") as grid:
        for number, sample in enumerate(run.samples, start=1):
            caption = f"Sample {number}{each(run, 'samples', number)}"
            st.image(pixels.png(sample), caption=caption, alt=f"Sample {number}", width="stretch")
        if len(run.samples) > 1:
            caption = f"Average{each(run, 'averages', len(run.samples))}"
            st.image(pixels.png(run.mean), caption=caption, alt="The average of the samples", width="stretch")
            with grid.cell():
                alt = "Standard deviation over the samples: high along edges and in texture"
                st.image(pixels.png(pixels.coloured(run.std)), alt=alt, width="stretch")
                st.html(pixels.gradient("0", f"{run.std_top:.3f} and above"))
                st.caption("Standard deviation; a picture's range is 1")


def each(run: Run, of: str, number: int) -> str:
    """The score of a sample, or of the average of the first few, for a caption."""
    return f", {run.parameters['each'][f'psnr_{of}'][number - 1]:.2f} dB" if "each" in run.parameters else ""


def curves(run: Run) -> None:
    st.subheader("Scores")
    st.caption("One sample looks sharper; the average of several is closer to the truth.")
    left, right = st.columns(2, gap="large")
    values, given = run.parameters["each"], run.parameters["input"]
    for column, name, unit in ((left, "psnr", "dB"), (right, "ssim", "")):
        samples, averages = values[f"{name}_samples"], values[f"{name}_averages"]
        figure = plots.score_curves(name.upper(), unit, samples, averages, given[name])
        alt = f"{name.upper()} of the average of the samples rises from {averages[0]:.3g} to {averages[-1]:.3g} {unit}"
        column.plotly_chart(figure, key=f"scores {name}", config=plots.CONFIG, alt=alt.rstrip())


def trajectory(run: Run) -> None:
    """The run on a scrubber. A fragment: moving it draws this part alone."""
    st.subheader("How the first sample formed")
    frames = run.frames
    middle = -(-len(frames) // 2)  # where there is most to see
    position = st.slider("Step", 1, len(frames), middle, help="From noise on the left to the sample on the right.")
    frame = frames[position - 1]
    st.caption(f"Evaluation {frame.evaluations} of {frames[-1].evaluations}, noise level σ = {frame.sigma:.3f}.")
    left, right = st.columns(2, gap="medium")
    left.image(pixels.png(frame.noisy), caption="The noisy picture", alt="The noisy picture", width="stretch")
    alt = "What the denoiser makes of it"
    right.image(pixels.png(frame.denoised), caption="What the denoiser makes of it", alt=alt, width="stretch")


def downloads(run: Run) -> None:
    """Files are made when they are asked for."""
    name = f"{run.parameters['task']}-{run.parameters['samples']}-samples"

    def offer(label: str, suffix: str, kind: str, make: Callable[[], bytes]) -> None:
        st.download_button(
            label,
            make,
            file_name=f"{name}{suffix}",
            mime=kind,
            icon=":material/download:",
            on_click="ignore",
            width="stretch",
        )

    st.markdown("**Downloads**")
    with st.grid(2, min_column_width=130, gap="small"):
        offer("Picture", ".png", "image/png", lambda: plain_png(run.mean))
        offer("All samples", ".zip", "application/zip", lambda: archive(run))
        offer("Animation", ".webp", "image/webp", lambda: animation(run))
        offer("Settings", ".json", "application/json", lambda: json.dumps(run.parameters, indent=1).encode())


def plain_png(picture: np.ndarray) -> bytes:
    return pixels.encode(pixels.Image.fromarray(picture))


def animation(run: Run) -> bytes:
    """The first sample coming out of the noise, as an animated WebP file."""
    return pixels.webp_animation([*(frame.noisy for frame in run.frames), run.frames[-1].denoised])


def archive(run: Run) -> bytes:
    """Every picture of a run and its JSON, in a ZIP file."""
    pictures = {f"sample-{number}": sample for number, sample in enumerate(run.samples, start=1)}
    pictures |= {"mean": run.mean, "std": run.std, "measured": run.measured}
    if run.truth is not None:
        pictures["original"] = run.truth
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, picture in pictures.items():
            file.writestr(f"{name}.png", plain_png(picture))
        file.writestr("run.json", json.dumps(run.parameters, indent=1))
    return buffer.getvalue()
