"""The closer look at a finished run: compare, samples, spread, scores, trajectory, downloads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import streamlit as st
import torch

from invlib.images import contact_sheet, to_uint8
from invlib.metrics import expected_spread_skill, farthest_first
from pages.ui import components, pixels, plots
from pages.ui.runs import Run

FILMSTRIP = 8
"""The most pictures of a trajectory side by side."""


def show(run: Run, *, measured: str, by_difference: bool = False) -> None:
    """Show everything about a run.

    Parameters
    ----------
    measured : what was measured, in a word or two: "4×".
    by_difference : whether the samples are shown most typical first, and then each as far as can be from those before.
    """
    done = run.parameters
    st.header("A closer look")
    whose = "A saved run" if run.saved else "Your run"
    words = [
        *([done["picture"]] if "picture" in done else []),
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
        if run.measured is not None:
            st.fragment(comparison)(run, run.measured)
        else:
            st.fragment(trajectory)(run)
    with right:
        scores(run)
        downloads(run)
    if run.measured is not None:
        gallery(run, order(run) if by_difference else range(len(run.samples)))
        if "each" in done and len(run.samples) > 1:
            curves(run)
        st.fragment(trajectory)(run)


def order(run: Run) -> list[int]:
    """The samples most typical first, and then each as far as can be from those before."""
    stack = torch.from_numpy(np.stack(run.samples)).float().div(255)
    return farthest_first(stack.flatten(1))


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def comparison(run: Run, measured: np.ndarray) -> None:
    """Before and after. A fragment: choosing another picture draws this part alone."""
    after = {f"Sample {number}": sample for number, sample in enumerate(run.samples, start=1)}
    if len(run.samples) > 1:
        after = {"Average of the samples": run.mean, **after}
    if run.truth is not None:
        after["Original"] = run.truth
    chosen = st.selectbox("Compare what was measured with", list(after))
    height, width = run.mean.shape[:2]
    components.compare(
        pixels.png(measured),
        pixels.png(after[chosen]),
        before_label="Measured",
        after_label=chosen,
        aspect=width / height,
        key="compare",
    )


def scores(run: Run) -> None:
    """The figures, if the truth is known."""
    if run.measured is None:
        return
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
        right = expected_spread_skill(len(run.samples), bool(run.parameters.get("antithetic")))
        lines.append(
            f"The samples spread {run.parameters['spread_skill']:.2f} times as far as their average is from the truth; "
            f"{right:.3g} would be a perfect account of what is not known."
        )
    if run.parameters.get("coverage") is not None:
        cover = run.parameters["coverage"]
        lines.append(
            f"The truth lies within two standard deviations of the average for {cover['measured']:.0%} of the numbers "
            f"that were not measured; {cover['expected']:.0%} would be right for so few samples."
        )
    st.caption(" ".join(lines))


def metric(label: str, value: float, baseline: float, unit: str, digits: int, about: str) -> None:
    st.metric(
        label,
        f"{value:.{digits}f} {unit}".rstrip(),
        f"{value - baseline:+.{digits}f}",
        help=f"{about} Higher is better.",
    )


def gallery(run: Run, order: Sequence[int]) -> None:
    """The samples, their average, where they differ, and where they are wrong."""
    st.subheader("Samples")
    st.caption("Each agrees with what was measured; what they disagree about, the measurements do not say.")
    several = len(run.samples) > 1
    with st.grid(4, min_column_width=150, gap="small") as grid:
        for index in order:
            number = index + 1
            caption = f"Sample {number}{each(run, 'samples', number)}"
            pixels.show(run.samples[index], caption=caption, alt=f"Sample {number}")
        if several:
            caption = f"Average{each(run, 'averages', len(run.samples))}"
            pixels.show(run.mean, caption=caption, alt="The average of the samples")
            with grid.cell():
                magnitudes(run.std, run.top, "Standard deviation of the samples", "high along edges and in texture")
        if run.error is not None:
            with grid.cell():
                what = "Error of the average" if several else "Error"
                magnitudes(run.error, run.top, what, "the distance from the original")


def magnitudes(values: np.ndarray, top: float, what: str, where: str) -> None:
    """A map of magnitudes with its scale; the range of a picture is 1."""
    pixels.show(pixels.coloured(values), alt=f"{what}: {where}")
    st.html(pixels.gradient("0", f"{top:.3f} and above"))
    st.caption(what)


def each(run: Run, of: str, number: int) -> str:
    """The score of a sample, or of the average of the first few, for a caption."""
    return f", {run.parameters['each'][f'psnr_{of}'][number - 1]:.2f} dB" if "each" in run.parameters else ""


def curves(run: Run) -> None:
    st.subheader("Scores")
    st.caption("One sample looks sharper; the average of several is closer to the truth.")
    left, right, last = st.columns(3, gap="large")
    values, given = run.parameters["each"], run.parameters["input"]
    for column, name, unit in ((left, "psnr", "dB"), (right, "ssim", "")):
        samples, averages = values[f"{name}_samples"], values[f"{name}_averages"]
        figure = plots.score_curves(name.upper(), unit, samples, averages, given[name])
        alt = f"{name.upper()} of the average of the samples rises from {averages[0]:.3g} to {averages[-1]:.3g} {unit}"
        column.plotly_chart(figure, key=f"scores {name}", config=plots.CONFIG, alt=alt.rstrip())
    if "calibration" in run.parameters:
        figure, cover = plots.calibration(**run.parameters["calibration"]), run.parameters["coverage"]
        alt = f"Of the numbers, {cover['measured']:.0%} are in the band that should hold {cover['expected']:.0%}"
        last.plotly_chart(figure, key="calibration", config=plots.CONFIG, alt=alt)


def trajectory(run: Run) -> None:
    """The run on a scrubber. A fragment: moving it draws this part alone."""
    st.subheader("How the first sample formed")
    frames = run.frames
    with st.grid(FILMSTRIP, min_column_width=70, gap="xsmall"):
        for index in np.linspace(0, len(frames) - 1, min(FILMSTRIP, len(frames))).round().astype(int):
            caption = f"σ {frames[index].sigma:.2f}"
            alt = f"The noisy picture at {caption}"
            pixels.show(frames[index].noisy, caption=caption, alt=alt)
    middle = -(-len(frames) // 2)  # where there is most to see
    position = st.slider("Step", 1, len(frames), middle, help="From noise on the left to the sample on the right.")
    frame = frames[position - 1]
    st.caption(f"Evaluation {frame.evaluations} of {frames[-1].evaluations}, noise level σ = {frame.sigma:.3f}.")
    left, right = st.columns(2, gap="medium")
    with left:
        pixels.show(frame.noisy, caption="The noisy picture", alt="The noisy picture")
    alt = "What the denoiser makes of it"
    with right:
        pixels.show(frame.denoised, caption="What the denoiser makes of it", alt=alt)


def downloads(run: Run) -> None:
    """Files are made when they are asked for."""
    offer = partial(offer_download, f"{run.parameters['task']}-{run.parameters['samples']}-samples")
    st.markdown("**Downloads**")
    with st.grid(2, min_column_width=130, gap="small"):
        # Pictures that have nothing in common have no average.
        picture = run.mean if run.measured is not None else sheet(run.samples)
        offer("Picture", ".png", "image/png", lambda: plain_png(picture))
        offer("All samples", ".zip", "application/zip", lambda: archive(run))
        offer("Animation", ".webp", "image/webp", lambda: animation(run))
        offer("Settings", ".json", "application/json", lambda: json.dumps(run.parameters, indent=1).encode())


def offer_download(name: str, label: str, suffix: str, kind: str, make: Callable[[], bytes]) -> None:
    """A button for a file, `name` and `suffix`, of a MIME type."""
    st.download_button(
        label,
        make,
        file_name=f"{name}{suffix}",
        mime=kind,
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )


def plain_png(picture: np.ndarray) -> bytes:
    return pixels.encode(pixels.Image.fromarray(picture))


def sheet(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in a grid on white."""
    stack = torch.from_numpy(np.stack(samples)).float().div(255)
    return to_uint8(contact_sheet(stack.unsqueeze(1) if stack.ndim == 3 else stack.movedim(-1, 1)))


def animation(run: Run) -> bytes:
    """The first sample coming out of the noise, or the way from one to another and back, as an animated WebP file."""
    if run.parameters.get("interpolate"):
        return pixels.webp_animation([*run.samples, *reversed(run.samples[:-1])])
    return pixels.webp_animation([*(frame.noisy for frame in run.frames), run.frames[-1].denoised])


def archive(run: Run) -> bytes:
    """Every picture of a run and its JSON, in a ZIP file."""
    pictures = {f"sample-{number}": sample for number, sample in enumerate(run.samples, start=1)}
    if run.measured is not None:
        pictures |= {"mean": run.mean, "std": run.std}
    # `picture` is what the command line takes to repeat the run.
    others = {"picture": run.picture, "measured": run.measured, "original": run.truth, "error": run.error}
    pictures |= {name: picture for name, picture in others.items() if picture is not None}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, picture in pictures.items():
            file.writestr(f"{name}.png", plain_png(picture))
        file.writestr("run.json", json.dumps(run.parameters, indent=1))
    return buffer.getvalue()
