"""Inpainting: missing pixels, filled in such a way that the whole looks like a photograph."""

from dataclasses import replace
from typing import Any

import streamlit as st
import torch
from streamlit.delta_generator import DeltaGenerator

from invlib import images
from invlib.priors import checkpoints
from pages.ui import address, draw, knobs, layout, picture, pixels, results, saved, stage, theory
from pages.ui.runs import Picture, Problem, given, simulate

LONGEST = 384  # of a picture's sides, in pixels
KEEPS = [0.02, 0.05, 0.1, 0.2, 0.4]
Setting = dict[str, str | float]

WORDS = {
    "painted": "They are the pixels that were not painted over.",
    "block": "They are the pixels outside the block.",
    "pixels": "They are pixels at random places.",
}


def block(height: int, width: int) -> tuple[Setting, dict[str, Any]]:
    """Let the visitor place a missing block: the settings for the address, and the task's knobs."""
    percents = list(range(0, 101, 10))
    about = "The sides of the block, as a fraction of the picture's. In a larger hole there is more to be invented."
    size = knobs.fraction("Size of the block", "size", [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5], 0.2, about)
    left = knobs.level("From the left", "left", percents, 50, "Where the block is, in per cent.")
    top = knobs.level("From the top", "top", percents, 50, "Where the block is, in per cent.")
    high, wide = max(1, round(size * height)), max(1, round(size * width))
    box = (round((height - high) * top / 100), round((width - wide) * left / 100), high, wide)
    return {"size": size, "left": left, "top": top}, {"box": box}


def paint(chosen: Picture, board: DeltaGenerator, repair: bool) -> torch.Tensor:
    """Let the visitor paint over the picture: True where it was left alone."""
    height, width = chosen.image.shape[2:]
    example = repair and chosen.side == saved.EXAMPLES["inpainting"].side
    with board.container(width=440):
        painted = draw.strokes(
            pixels.png(images.to_uint8(chosen.image)),
            width=width,
            height=height,
            key="hole",
            label="Paint over what is damaged."
            if repair
            else "Paint over what is to go, and a little beyond its edge.",
            brush=max(3, width // 25),
            initial=saved.SCRIBBLE if example else (),
        )
    return torch.from_numpy(~painted)


def pose(chosen: Picture, mode: str, missing: str, board: DeltaGenerator) -> tuple[Setting, Problem]:
    """Let the visitor take pixels away: the settings for the address, and the problem."""
    if missing == "block":
        setting, box = block(*chosen.image.shape[2:])
        return setting, simulate("inpainting", chosen, **box)
    if missing == "pixels":
        about = "How many of the pixels are left. A tenth is enough for most of a picture."
        keep = knobs.fraction("Pixels kept", "keep", KEEPS, 0.1, about)
        return {"keep": keep}, simulate("random-pixels", chosen, keep=keep)
    mask = paint(chosen, board, mode == "repair")
    if mode == "repair":
        return {}, simulate("inpainting", chosen, mask=mask)
    return {}, given("inpainting", chosen, tuple(chosen.image.shape[1:]), mask=mask)


layout.heading(
    "Inpainting",
    "Scratches, holes, an object that is to go: a denoiser that has learnt what photographs look like fills in what is "
    "missing, and leaves every other pixel as it is.",
)
left, right = layout.columns()
try:
    with left:
        mode = knobs.choice(
            "What to do",
            "mode",
            {"repair": "Repair and score", "remove": "Remove an object"},
            help="Take pixels away and see how close the answer comes to them; or paint over something in a picture, "
            "and have it replaced by what could be behind it.",
        )
        chosen = picture.pick(
            longest=LONGEST, side=saved.EXAMPLES["inpainting"].side, names=saved.pictures("inpainting")
        )
        missing = "painted"
        if mode == "repair":
            missing = knobs.choice(
                "What is missing",
                "missing",
                {"painted": "Painted", "block": "Block", "pixels": "Pixels"},
                help="What you paint over, a block, or pixels at random places.",
            )
        setting, problem = pose(chosen, mode, missing, right)
        problem = replace(problem, words="Nothing is painted over yet." if problem.complete else WORDS[missing])
        settings = knobs.settings(problem)
        kind = {"missing": missing} if mode == "repair" else {}
        address.write(mode=mode, **kind, picture=st.session_state["picture"], **setting, **settings.parameters)
        stage.run_button(problem, settings, ready=not problem.complete)
    with right:
        run = stage.show(problem, settings, saved.load(problem.task))
        theory.fold("$M^\\mathsf{T}$ takes the pixels that are left, and $M$ puts them back in their places.")
    results.show(run, measured=f"{run.parameters['measured']:,} numbers left".replace(",", " "), by_difference=True)
except (images.ImageError, checkpoints.CheckpointError, ValueError) as error:
    st.error(pixels.sentence(error))
