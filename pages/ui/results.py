"""The closer look at a finished run: comparison, samples, spread, scores, trajectory and downloads."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import streamlit as st
import torch

from invlib.images import contact_sheet, to_uint8
from invlib.metrics import expected_spread_skill, farthest_first
from invlib.problems.structured import TASKS
from invlib.runs import Frame, Run
from invlib.solvers.methods import METHODS
from pages.ui import pixels, plots
from pages.ui.components import compare

FILMSTRIP = 8
"""The most pictures of a trajectory side by side."""


def show(run: Run, *, measured: str, by_difference: bool = False) -> None:
    """Show everything about a run. The parameters are as in `page.show`."""
    done = run.parameters
    method = METHODS[done["command"]][done["method"]]
    st.header("A closer look")
    words = [
        *([pixels.plain(done["picture"])] if "picture" in done else []),
        measured,
        *([pixels.plural(done["samples"], "sample")] if method.draws else []),
        f"{done['method']} sampler" if done["method"] in ("fast", "paper") else method.title,
        f"{pixels.plural(done['evaluations'], 'evaluation')} in {done['seconds']:.1f} s",
        *([f"noise estimated at {done['noise_estimate']:.3f}"] if "noise_estimate" in done else []),
        f"seed {done['seed']}",
        *([f"prior {done['prior']}"] if done["prior"] else []),
    ]
    st.caption(f"{'A saved run' if run.saved else 'Your run'}: {', '.join(words)}.")
    left, right = st.columns([3, 2], gap="large")
    with left:
        direct = run.measured is None and len(run.frames) == 1
        st.fragment(likelihoods if direct else trajectory if run.measured is None else comparison)(run)
    with right:
        scores(run)
        if run.noise_found is not None:
            noise(run)
        elif run.noise_map is not None:
            noise_level(run)
        downloads(run)
    if run.measured is not None:
        if method.draws or len(run.samples) > 1:
            gallery(run, order(run) if by_difference else range(len(run.samples)))
        if "each" in done and len(run.samples) > 1:
            curves(run)
        if len(run.frames) > 1:
            st.fragment(trajectory)(run)


def order(run: Run) -> list[int]:
    """The indices of the samples, the most typical first, then always the one that differs most from those before."""
    stack = torch.from_numpy(np.stack(run.samples)).float().div(255)
    return farthest_first(stack.flatten(1))


def comparison(run: Run) -> None:
    """Show before and after. As a fragment, it alone is drawn again when another picture is chosen."""
    assert run.measured is not None
    if len(run.samples) > 1:
        after = {"Average of the samples": run.mean}
        after |= {f"Sample {number}": sample for number, sample in enumerate(run.samples, start=1)}
    else:
        drawn = METHODS[run.parameters["command"]][run.parameters["method"]].draws
        after = {"Sample 1" if drawn and run.noise_found is None else "Restored": run.mean}
    if run.truth is not None:
        after["Original"] = run.truth
    chosen = st.selectbox("Compare what was measured with", list(after))
    before, aspect = pixels.png(run.measured), run.mean.shape[1] / run.mean.shape[0]
    labels = {"before_label": "Measured", "after_label": chosen}
    compare.pictures(before, pixels.png(after[chosen]), **labels, aspect=aspect, key="compare")


def scores(run: Run) -> None:
    """Show the scores if the truth is known, and what they mean."""
    done = run.parameters
    if run.measured is None:
        return
    if "input" not in done:
        st.markdown("The true picture is not known here, so nothing can be scored.")
        return
    given = done["input"]
    parts = [(done["result"], "", "Of the restored picture.")] if "result" in done else []
    if "mean" in done:
        several = [(done["mean"], ", average", "Of the samples' average.")] if len(run.samples) > 1 else []
        parts = [*several, (done["sample"], ", one sample", "Averaged over the samples.")]
    with st.grid(2, min_column_width=130, gap="small"):
        for name, unit, digits in (("psnr", "dB", 2), ("ssim", "", 3)):
            for part, of, about in parts:
                value = f"{part[name]:.{digits}f} {unit}".replace("inf", "∞").replace("nan", "–").rstrip()
                gain = part[name] - given[name]
                gained = f"{gain:+.{digits}f}" if math.isfinite(gain) else None  # between exact pictures is none
                st.metric(f"{name.upper()}{of}", value, gained, help=f"{about} Higher is better.")
    lines = [f"Gains are over the measured picture alone ({given['psnr']:.2f} dB, {given['ssim']:.3f})."]
    if math.isfinite(done.get("spread_skill") or math.nan):
        right = expected_spread_skill(len(run.samples), bool(done["settings"].get("antithetic")))
        lines.append(
            f"The samples spread {done['spread_skill']:.2f} times as far as their average is from the truth; "
            f"{right:.3g} would be a perfect account of what is not known."
        )
    if (cover := done.get("coverage")) is not None and math.isfinite(cover["measured"]):
        lines.append(
            f"The truth lies within two standard deviations of the average for {cover['measured']:.0%} of the numbers "
            f"that were not measured; {cover['expected']:.0%} would be right for so few samples."
        )
    st.caption(" ".join(lines))


def noise(run: Run) -> None:
    """Show the noise that was found, the noise that was there, and where the picture is wrong."""
    assert run.noise_found is not None
    several = len(run.samples) > 1 and run.parameters["method"] == "pair"
    with st.grid(2 if several else 3, min_column_width=90, gap="small") as grid:
        pixels.show(run.noise_found, caption="Noise found", alt="The noise that was found")
        if run.noise_true is not None:
            pixels.show(run.noise_true, caption="Noise put in", alt="The noise that was put in")
        if run.error is not None:
            with grid.cell():
                magnitudes(run.error, run.top, "Error", "the distance from the original")
        if several:
            with grid.cell():
                # The samples of picture and noise differ by the same amount, because their sum was measured.
                top = run.top * TASKS[run.parameters["task"]].factor
                magnitudes(run.std, top, "Standard deviation of the noise", "high where it is uncertain")
    st.caption(f"Noise of −{run.noise_top:.2g} is black, none is grey, and {run.noise_top:.2g} white.")


def noise_level(run: Run) -> None:
    """Show how strong the noise is from place to place, as a denoiser sees it, and where the answer is wrong."""
    assert run.noise_map is not None
    done = run.parameters
    with st.grid(2, min_column_width=130, gap="small") as grid:
        with grid.cell():
            magnitudes(run.noise_map, run.noise_top, "Noise level", "the strength of the noise from place to place")
        if run.error is not None:
            with grid.cell():
                magnitudes(run.error, run.top, "Error", "the distance from the original")
    known = f", and {done['noise_level']:g} was added" if done["simulated"] and not done["knobs"].get("gain") else ""
    grows = (
        f" The noise grows with brightness: its variance is {done['gain_estimate']:.4f} times the picture, and "
        f"{done['offset_estimate']:.4f} squared."
        if "gain_estimate" in done
        else ""
    )
    st.caption(
        f"The denoiser saw noise of {done['noise_estimate']:.4f} where the picture is smooth{known}. Texture that it "
        f"cannot tell from noise is bright in the map as well.{grows}"
    )


def gallery(run: Run, order: Sequence[int]) -> None:
    """Show the samples, their average, where they differ, and where the average is wrong."""
    st.subheader("Samples")
    words = ["Each agrees with what was measured; what they disagree about, the measurements do not say."]
    st.caption(" ".join([*words, *([run.parameters["band"]["meaning"]] if "band" in run.parameters else [])]))
    several = len(run.samples) > 1
    with st.grid(4, min_column_width=150, gap="small") as grid:
        for index in order:
            name = f"Sample {index + 1}"
            pixels.show(run.samples[index], caption=f"{name}{each(run, 'samples', index)}", alt=name)
        if several:
            pixels.show(run.mean, caption=f"Average{each(run, 'averages', -1)}", alt="The average of the samples")
            with grid.cell():
                magnitudes(run.std, run.top, "Standard deviation of the samples", "high along edges and in texture")
        if run.error is not None:
            with grid.cell():
                what = "Error of the average" if several else "Error"
                magnitudes(run.error, run.top, what, "the distance from the original")


def magnitudes(values: np.ndarray, top: float, what: str, where: str) -> None:
    """Show a map of magnitudes with its scale, on which the range of a picture is 1."""
    pixels.show(pixels.coloured(values), alt=f"{what}: {where}")
    st.html(pixels.gradient("0", f"{top:.3f} and above"))
    st.caption(what)


def each(run: Run, of: str, index: int) -> str:
    """The PSNR of a sample, or of the average of the first few, for a caption."""
    return f", {run.parameters['each'][f'psnr_{of}'][index]:.2f} dB" if "each" in run.parameters else ""


def curves(run: Run) -> None:
    """Show the scores of the samples and of their averages, and how honest the spread is."""
    st.subheader("Scores")
    st.caption("One sample looks sharper; the average of several is closer to the truth.")
    left, right, last = st.columns(3, gap="large")
    values, given = run.parameters["each"], run.parameters["input"]
    for column, name, unit in ((left, "psnr", "dB"), (right, "ssim", "")):
        samples, averages = values[f"{name}_samples"], values[f"{name}_averages"]
        figure = plots.score_curves(name.upper(), unit, samples, averages, given[name])
        alt = f"{name.upper()} of the average of the samples rises from {averages[0]:.3g} to {averages[-1]:.3g} {unit}"
        column.plotly_chart(figure, key=f"scores {name}", config=plots.CONFIG, alt=alt.rstrip())
    if "calibration" in run.parameters and math.isfinite(run.parameters["coverage"]["measured"]):
        figure, cover = plots.calibration(**run.parameters["calibration"]), run.parameters["coverage"]
        alt = f"Of the numbers, {cover['measured']:.0%} are in the band that should hold {cover['expected']:.0%}"
        last.plotly_chart(figure, key="calibration", config=plots.CONFIG, alt=alt)


def likelihoods(run: Run) -> None:
    """Show the samples that came in one evaluation, the likeliest first where the prior is a flow, which knows."""
    bits, interpolate = run.parameters.get("bits_per_dim"), run.parameters["knobs"]["interpolate"]
    st.subheader("How likely each sample is")
    if bits is None:
        st.caption("A generator cannot say, because it has no density. A flow can: choose one as the prior.")
        return
    st.caption(
        f"In bits for each of the {pixels.group(math.prod(run.parameters['image_shape']))} numbers of a picture: what "
        "the flow would need to store it. Fewer bits are likelier. Plain pictures are likelier than rich ones, and "
        "those of a low temperature likelier than real ones."
    )
    with st.grid(4, min_column_width=70, gap="small"):
        for index in range(len(bits)) if interpolate else np.argsort(bits):
            caption = f"{bits[index]:.2f} bits"
            pixels.show(run.samples[index], caption=caption, alt=f"Sample {index + 1}: {caption}")


def trajectory(run: Run) -> None:
    """Show the states of a run, with a slider. As a fragment, it alone is drawn again when the slider is moved."""
    frames = run.frames
    structured = run.noise_found is not None and "predicted" not in run.parameters["history"]
    st.subheader("How the picture formed" if structured else "How the first sample formed")
    left_words = "The noise that it leaves" if structured else "The noisy picture"
    right_words = "The picture" if structured else "What the denoiser makes of it"

    def caption_of(frame: Frame) -> str:
        return f"Step {frame.evaluations}" if structured else f"σ {frame.sigma:.2f}"

    with st.grid(FILMSTRIP, min_column_width=70, gap="xsmall"):
        for index in np.linspace(0, len(frames) - 1, min(FILMSTRIP, len(frames))).round().astype(int):
            caption = caption_of(frames[index])
            strip, alt = (frames[index].denoised, "The picture") if structured else (frames[index].noisy, left_words)
            pixels.show(strip, caption=caption, alt=f"{alt} at {caption}")
    frame = frames[-1]
    if len(frames) > 1:
        middle = -(-len(frames) // 2)  # where there is most to see
        about = "From the first step on the left to the last on the right."
        frame = frames[st.slider("Step", 1, len(frames), middle, help=about) - 1]
    level = "" if structured else f", noise level σ = {frame.sigma:.3f}"
    st.caption(f"Evaluation {frame.evaluations} of {frames[-1].evaluations}{level}.")
    pairs = (frame.noisy, left_words), (frame.denoised, right_words)
    for column, (picture, words) in zip(st.columns(2, gap="medium"), pairs, strict=True):
        with column:
            pixels.show(picture, caption=words, alt=words)


def downloads(run: Run) -> None:
    """Offer files, each of which is made when the visitor asks for it."""
    offer = partial(offer_download, f"{run.parameters['task']}-{run.parameters['samples']}-samples")
    st.markdown("**Downloads**")
    with st.grid(2, min_column_width=130, gap="small"):
        # Pictures that have nothing in common have no average.
        picture = run.mean if run.measured is not None else sheet(run.samples)
        offer("Picture", ".png", "image/png", lambda: plain_png(picture))
        offer("All samples", ".zip", "application/zip", lambda: archive(run))
        if len(run.frames) > 1 or run.parameters["knobs"].get("interpolate"):
            offer("Animation", ".webp", "image/webp", lambda: animation(run))
        offer("Settings", ".json", "application/json", lambda: as_json(run).encode())


def offer_download(name: str, label: str, suffix: str, kind: str, make: Callable[[], bytes]) -> None:
    """Show a button for the file `name` + `suffix` of the MIME type `kind`, whose content `make` returns."""
    options = {"icon": ":material/download:", "on_click": "ignore", "width": "stretch"}
    st.download_button(label, make, file_name=f"{name}{suffix}", mime=kind, **options)


def plain_png(picture: np.ndarray) -> bytes:
    return pixels.encode(pixels.Image.fromarray(picture))


def sheet(samples: Sequence[np.ndarray]) -> np.ndarray:
    """The samples in a grid on white."""
    stack = torch.from_numpy(np.stack(samples)).float().div(255)
    return to_uint8(contact_sheet(stack.unsqueeze(1) if stack.ndim == 3 else stack.movedim(-1, 1)))


def animation(run: Run) -> bytes:
    """An animated WebP file of the first sample coming out of the noise, or of an interpolation there and back."""
    if run.parameters["knobs"].get("interpolate"):
        frames = [*run.samples, *reversed(run.samples[:-1])]
    elif run.noise_found is not None:
        frames = [*(frame.denoised for frame in run.frames), run.mean]
    else:
        frames = [*(frame.noisy for frame in run.frames), run.frames[-1].denoised]
    return pixels.webp_animation(frames)


def as_json(run: Run) -> str:
    return json.dumps(run.to_json(), indent=1)


def archive(run: Run) -> bytes:
    """A ZIP file of every picture of a run and of its JSON."""
    pictures = {f"sample-{number}": sample for number, sample in enumerate(run.samples, start=1)}
    if run.measured is not None:
        pictures |= {"mean": run.mean, "std": run.std}
    if run.noise is not None:
        pictures["noise"] = run.noise
    # `picture` is what the command line takes to repeat the run.
    others = {"picture": run.picture, "measured": run.measured, "original": run.truth, "error": run.error}
    pictures |= {name: picture for name, picture in others.items() if picture is not None}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, picture in pictures.items():
            file.writestr(f"{name}.png", plain_png(picture))
        file.writestr("run.json", as_json(run))
    return buffer.getvalue()
