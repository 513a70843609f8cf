"""Scores in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from pages.ui import benchmark_rows
from pages.ui.benchmark_rows import Line

COLUMNS = {
    "method": st.column_config.TextColumn("Method", pinned=True),
    "psnr": st.column_config.NumberColumn("PSNR, dB", format="%.2f"),
    "psnr_std": st.column_config.NumberColumn("±", format="%.2f", help="Standard deviation over samples, dB."),
    "ssim_paper": st.column_config.NumberColumn(
        "SSIM, paper’s", format="%.3f", help="By the paper’s convention: the range of a picture is taken for 2."
    ),
    "ssim": st.column_config.NumberColumn("SSIM", format="%.3f", help="With the true range of a picture, 1."),
    "paper_psnr": st.column_config.NumberColumn("Paper: PSNR", format="%.2f", help="What the paper reports, dB."),
    "paper_ssim": st.column_config.NumberColumn(
        "Paper: SSIM", format="%.3f", help="What the paper reports, by its own convention."
    ),
    "spread_skill": st.column_config.NumberColumn(
        "Spread / skill",
        format="%.2f",
        help="How far samples spread, against how far their average is from the truth. 1 is right, and 1.13 for our "
        "pairs of opposite noise; below, they are too alike.",
    ),
    "covered": st.column_config.NumberColumn(
        "Covered",
        format="%.0f %%",
        help="Of the numbers that were not measured, how many lie within two standard deviations of the average. For "
        "eight samples 91 % is right.",
    ),
    "evaluations": st.column_config.NumberColumn("Evaluations", format="%.0f", help="Of the denoiser, a sample."),
    "seconds": st.column_config.NumberColumn("Seconds", format="%.2f", help="For a picture, all samples together."),
    "same_pictures": st.column_config.NumberColumn(
        "Ours, same", format="%.2f", help="Our PSNR on the same pictures, dB."
    ),
    "pictures": st.column_config.TextColumn("Pictures", help="How many of the set."),
}


def show_lines(lines: Sequence[Line], alt: str, where: Sequence[str] = ()) -> None:
    """Lines as a table, without the columns that are empty.

    Parameters
    ----------
    alt : what the table is.
    where : on what each was measured, if not on pictures of the set.
    """
    columns: dict[str, list[Any]] = {
        "method": [line.label for line in lines],
        "pictures": list(where) or [benchmark_rows.pictures(line.row) for line in lines],
        **{name: [line.measured.get(name) for line in lines] for name in ("psnr", "psnr_std", "ssim_paper", "ssim")},
    }
    columns["psnr_std"] = [line.measured.get("psnr_std") if line.single else None for line in lines]
    columns |= {
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
    """Per cent of the numbers within two standard deviations; None where samples do not say."""
    coverage = line.row.get("coverage")
    return None if coverage is None else 100 * coverage["measured"]


def show(columns: Mapping[str, Sequence[Any]], alt: str) -> None:
    st.dataframe(columns, column_config=COLUMNS, hide_index=True, placeholder="", height="content", alt=alt)
