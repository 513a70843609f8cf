"""`invlib remove-noise`: add structured noise to a picture and remove it, or remove it from a noisy picture."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invlib import images, runs
from invlib.cli import pictures
from invlib.cli.options import (
    Commands,
    add,
    add_knobs,
    add_out,
    add_replay,
    add_sampling,
    every,
    given,
)
from invlib.cli.pictures import Solved
from invlib.cli.talk import Result, samples_by_name
from invlib.images import Picture
from invlib.problems import structured
from invlib.problems.spec import DRAWING
from invlib.problems.structured import DRAWN, SCRIBBLE, STROKES, TASKS, StructuredProblem
from invlib.runs import Settings
from invlib.solvers.methods import FAMILIES, METHODS

NOISES = tuple(name for name in TASKS if name not in DRAWN)
"""The tasks whose noise can be drawn at random."""


def add_to(commands: Commands) -> None:
    command = add(commands, "remove-noise", run, "add structured noise to a picture and remove it")
    command.add_argument(
        "image",
        type=Path,
        nargs="?",
        metavar="IMAGE",
        help="a picture or a folder of pictures, of any size; for flows and GANs the middle square is resized to "
        "64×64, in colour, for one-bit to 28×28",
    )
    command.add_argument(
        "--noise",
        metavar="NOISE",
        help=f"{', '.join(NOISES)}, or a picture of strokes, black or transparent where there are none",
    )
    command.add_argument(
        "--find",
        action="store_true",
        default=None,
        help="do not tell where the strokes are; with --measured, IMAGE has strokes, and there is no --noise",
    )
    methods = "default: map for pictures of 64×64 in colour and for sums of pixels, else pair; bm3d needs its package"
    command.add_argument("--method", choices=list(METHODS["remove-noise"]), help=methods)
    command.add_argument(
        "--prior", help="name, file, or hub:owner/repo/file@revision; for mle and bora on digits also vae-mnist"
    )
    command.add_argument(
        "--measured",
        action="store_true",
        default=None,
        help="IMAGE has the noise or the strokes already; there is nothing to score against",
    )
    add_sampling(command, "samples")
    add_knobs(command, knobs_of_tasks())
    add_knobs(command, knobs_of_methods())
    add_replay(command)
    add_out(command)


def knobs_of_tasks() -> dict[str, Any]:
    """The knobs that have flags; a drawing is named by --noise."""
    return {name: [knob for knob in task.knobs if knob.kind != DRAWING] for name, task in TASKS.items()}


def knobs_of_methods() -> dict[str, Any]:
    return {name: method.knobs for name, method in METHODS["remove-noise"].items()}


def run(options: argparse.Namespace) -> Result:
    return pictures.run(options, "remove-noise", pose, outcome, "restored")


def outcome(options: argparse.Namespace, solved: Solved) -> tuple[Result, dict[str, np.ndarray]]:
    """The size of the picture that was read, and the pictures of the result."""
    assert isinstance(solved.problem, StructuredProblem)
    assert solved.problem.picture is not None
    shape = {}
    if solved.picture is not None:
        read, used = solved.picture.image.shape, solved.problem.picture.image.shape
        shape = {"picture_shape": list(read[1:]), "resized": read[-2:] != used[-2:]}
    return shape, pictures_of(solved.run, solved.problem, solved.stem)


def pose(options: argparse.Namespace, picture: Picture) -> tuple[StructuredProblem, Settings]:
    """The problem that the options pose with a picture, and how to solve it."""
    task, knobs = options.noise, given(options, every(knobs_of_tasks()))
    drawn = options.noise not in NOISES
    if drawn:
        task = STROKES if options.find else SCRIBBLE
        found = options.noise is None and options.find and options.measured
        if not found and (options.noise is None or not Path(options.noise).is_file()):
            raise ValueError(f"--noise must be {', '.join(NOISES)} or a picture of strokes, got {options.noise!r}")
    elif options.find:
        raise ValueError(f"--find is for strokes: leave it out for {options.noise}")
    kind, method, image = TASKS[task], options.method, picture.image
    # Flows and GANs are for pictures of one size, to which others are reduced if such a method is asked for.
    if kind.sensing or (method and METHODS["remove-noise"][method].prior in FAMILIES):
        image = structured.prepare(image, kind.pictures)
    if drawn and options.noise is not None:
        knobs["strokes"] = read_strokes(Path(options.noise), image.shape[-2:])
    seed = options.seed or 0
    chosen = Picture(picture.name, image, picture.description)
    problem = structured.pose(task, chosen, knobs, simulated=not options.measured, seed=seed)
    values = given(options, every(knobs_of_methods()))
    samples = options.samples or 1
    if options.prior and method and METHODS["remove-noise"][method].prior is None:
        raise ValueError(f"{method} has no prior: leave out --prior")
    return problem, runs.settings(problem, method, values, prior=options.prior, samples=samples, seed=seed)


def read_strokes(path: Path, size: Sequence[int]) -> Tensor:
    """A drawing for a picture of a size (height, width): (4, height, width).

    A drawing of another size is resized if the picture is square, or else refused. Its colours are weighed with how
    opaque they are, as they are mixed.
    """
    drawing = images.load_drawing(path)[None]
    if not drawing[:, 3].any():
        raise ValueError(f"{path} is black all over: draw strokes on it, in any colour but black")
    height, width = size
    if drawing.shape[-2:] == (height, width):
        return drawing[0]
    if height != width:
        raise ValueError(
            f"{path} has {drawing.shape[-1]}×{drawing.shape[-2]} pixels and the picture {width}×{height}: draw the "
            "strokes on a copy of the picture"
        )
    side = height
    opacity = images.centre_square(drawing[:, 3:], side)
    mixed = images.centre_square(drawing[:, :3] * drawing[:, 3:], side)
    colours = (mixed / opacity.clamp(min=1e-6)).clamp(0, 1)
    return torch.cat([colours, opacity], 1)[0]


def pictures_of(done: runs.Run, problem: StructuredProblem, stem: str) -> dict[str, np.ndarray]:
    """The restored picture, the noisy one and, where the measurements are a picture, the noise that was found.

    Of the noise black is -1, grey is none, and white is 1.
    """
    assert done.measured is not None
    found = {f"{stem}-restored": done.mean, f"{stem}-noisy": done.measured}
    if not problem.kind.sensing:
        model, y = problem.build()
        restored = images.to_tensor(done.mean)
        found[f"{stem}-noise"] = images.to_uint8(0.5 + (y - model.forward(restored)) / 2)
    return found | (samples_by_name(done, stem) if len(done.samples) > 1 else {})
