"""Inpainting: fills missing pixels in such a way that the whole looks like a photograph."""

from typing import Any

import torch
from streamlit.delta_generator import DeltaGenerator

from invlib import images
from invlib.images import Picture
from invlib.problems import linear
from invlib.problems.linear import LinearProblem
from pages.ui import knobs, page, picture, saved
from pages.ui.components import draw
from pages.ui.pixels import group
from pages.ui.stage import Request

LONGEST = 384  # of a picture's sides, in pixels
Setting = dict[str, str | float]

WORDS = {
    "painted": "They are the pixels that were not painted over.",
    "block": "They are the pixels outside the block.",
    "pixels": "They are pixels at random places.",
}


def block(height: int, width: int) -> tuple[Setting, dict[str, Any]]:
    """Let the visitor place a missing block. Return the settings for the address, and the values of the knobs."""
    percents = list(range(0, 101, 10))
    about = "The sides of the block, as a fraction of the picture's. In a larger hole there is more to be invented."
    size = knobs.level("Size of the block", "size", [0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5], 0.2, about, unit="%")
    left = knobs.level("From the left", "left", percents, 50, "Where the block is, in per cent.")
    top = knobs.level("From the top", "top", percents, 50, "Where the block is, in per cent.")
    high, wide = max(1, round(size * height)), max(1, round(size * width))
    box = (round((height - high) * top / 100), round((width - wide) * left / 100), high, wide)
    return {"size": size, "left": left, "top": top}, {"box": box}


def paint(chosen: Picture, board: DeltaGenerator, repair: bool) -> torch.Tensor:
    """Let the visitor paint over the picture. Return a mask (H, W) that is True where it was left alone."""
    label = "Paint over what is damaged." if repair else "Paint over what is to go, and a little beyond its edge."
    example = repair and chosen.side == saved.EXAMPLES["inpainting"].side
    initial = saved.SCRIBBLES["inpainting"] if example else ()
    with board.container(width=440):
        brush = max(3, chosen.image.shape[3] // 25)
        painted = draw.over(images.to_uint8(chosen.image), key="hole", label=label, brush=brush, initial=initial)
    return torch.from_numpy(~painted)


def pose(chosen: Picture, mode: str, missing: str, board: DeltaGenerator) -> tuple[Setting, LinearProblem]:
    """Let the visitor take pixels away. Return the settings for the address, and the problem."""
    if missing == "block":
        setting, box = block(*chosen.image.shape[2:])
        return setting, linear.pose("inpainting", chosen, box)
    if missing == "pixels":
        (knob,) = linear.TASKS["random-pixels"].knobs
        keep = knobs.widget(knob)
        return {"keep": keep}, linear.pose("random-pixels", chosen, {"keep": keep})
    mask = paint(chosen, board, mode == "repair")
    return {}, linear.pose("inpainting", chosen, {"mask": mask}, simulated=mode == "repair")


def ask(board: DeltaGenerator) -> page.Asked:
    mode = knobs.choice(
        "What to do",
        "mode",
        {"repair": "Repair and score", "remove": "Remove an object"},
        help="Take pixels away and see how close the answer comes to them; or paint over something in a picture, "
        "and have it replaced by what could be behind it.",
    )
    side = saved.EXAMPLES["inpainting"].side
    chosen = picture.pick(longest=LONGEST, side=side, names=saved.pictures("inpainting"))
    missing, kind = "painted", {}
    if mode == "repair":
        missing = knobs.choice(
            "What is missing",
            "missing",
            {"painted": "Painted", "block": "Block", "pixels": "Pixels"},
            help="What you paint over, a block, or pixels at random places.",
        )
        kind = {"missing": missing}
    setting, problem = pose(chosen, mode, missing, board)
    words = "Nothing is painted over yet." if problem.complete else WORDS[missing]
    return Request(problem, knobs.settings(problem), words), {"mode": mode, **kind, **setting}, not problem.complete


page.show(
    "Inpainting",
    "Scratches, holes, an object that is to go: a denoiser that has learnt what photographs look like fills in what is "
    "missing, and leaves every other pixel as it is.",
    ask,
    page.fold("$M^\\mathsf{T}$ takes the pixels that are left, and $M$ puts them back in their places."),
    measured=lambda run: f"{group(run.parameters['measured'])} numbers left",
    by_difference=True,
)
