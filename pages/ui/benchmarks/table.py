"""Scores in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from pages.ui.benchmarks import rows
from pages.ui.benchmarks.rows import Line

Text, Number = st.column_config.TextColumn, st.column_config.NumberColumn

COLUMNS = {
    "method": Text("Method", pinned=True),
    "psnr": Number("PSNR, dB", format="%.2f"),
    "psnr_std": Number("±", format="%.2f", help="Standard deviation over samples, dB."),
    "ssim_paper": Number(
        "SSIM, paper’s", format="%.3f", help="By the paper’s convention: the range of a picture is taken for 2."
    ),
    "ssim": Number("SSIM", format="%.3f", help="With the true range of a picture, 1."),
    "paper_psnr": Number("Paper: PSNR", format="%.2f", help="What the paper reports, dB."),
    "paper_ssim": Number("Paper: SSIM", format="%.3f", help="What the paper reports, by its own convention."),
    "spread_skill": Number(
        "Spread / skill",
        format="%.2f",
        help="How far samples spread, against how far their average is from the truth. 1 is right, and 1.13 for our "
        "pairs of opposite noise; below, they are too alike.",
    ),
    "covered": Number(
        "Covered",
        format="%.0f %%",
        help="Of the numbers that were not measured, how many lie within two standard deviations of the average. For "
        "eight samples 91 % is right.",
    ),
    "problem": Text("Problem", pinned=True),
    "prior": Text("Prior"),
    "ratio": Number("Spread / right", format="%.2f", help="Spread / skill, over what is right for so many samples."),
    "samples": Number("Samples", format="%.0f"),
    "faces": Number("Training faces", format="%.0f"),
    "drawn": Number("Samples’ distance", format="%.3f", help="From the nearest training face, the median."),
    "unseen": Number("Held-out faces’ distance", format="%.3f", help="The same for faces that were held out."),
    "nearness": Number("Ratio", format="%.2f", help="Of the two. Far below 1, samples would be copies."),
    "alike": Number("Ratio, equal contrast", format="%.2f", help="The same at equal brightness and contrast."),
    "right": Number("Should be", format="%.0f %%", help="The same for samples of the posterior."),
    "factor": Number("Factor", format="%.2f", help="By which the samples’ standard deviation is to be multiplied."),
    "band": Number("In the 90 % band", format="%.0f %%", help="On pictures that the factor was not fitted to."),
    "evaluations": Number("Evaluations", format="%.0f", help="Of the denoiser, a sample."),
    "seconds": Number("Seconds", format="%.2f", help="For a picture, all samples together."),
    "same_pictures": Number("Ours, same", format="%.2f", help="Our PSNR on the same pictures, dB."),
    "pictures": Text("Pictures", help="How many of the set."),
}


def show_lines(lines: Sequence[Line], alt: str, where: Sequence[str] = ()) -> None:
    """Show lines as a table without empty columns.

    `where` says on what each line was measured, if that is not pictures of the set.
    """
    columns: dict[str, list[Any]] = {
        "method": [line.label for line in lines],
        "pictures": list(where) or [rows.pictures(line.row) for line in lines],
        "psnr": [line.measured.get("psnr") for line in lines],
        "psnr_std": [line.measured.get("psnr_std") if line.single else None for line in lines],
        "ssim_paper": [line.measured.get("ssim_paper") for line in lines],
        "ssim": [line.measured.get("ssim") for line in lines],
        "paper_psnr": [line.reported.get("psnr") for line in lines],
        "paper_ssim": [line.reported.get("ssim_paper") for line in lines],
        "spread_skill": [None if line.single else line.row.get("spread_skill") for line in lines],
        "covered": [None if line.single else covered(line) for line in lines],
        "evaluations": [line.row.get("evaluations") for line in lines],
        "seconds": [None if line.single else line.row.get("seconds") for line in lines],
        "same_pictures": [line.same_pictures for line in lines],
    }
    show({name: column for name, column in columns.items() if any(cell is not None for cell in column)}, alt)


def covered(line: Line) -> float | None:
    """The per cent of the numbers that lie within two standard deviations, or None if the row has no coverage."""
    coverage = line.row.get("coverage")
    return None if coverage is None else 100 * coverage["measured"]


def show(columns: Mapping[str, Sequence[Any]], alt: str) -> None:
    st.dataframe(columns, column_config=COLUMNS, hide_index=True, placeholder="", height="content", alt=alt)
