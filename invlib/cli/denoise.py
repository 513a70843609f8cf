"""`invlib denoise`: take the noise off a picture, or add noise to a clean one, take it off and score the result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from invlib import runs
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
    in_colours_of,
)
from invlib.cli.pictures import Solved
from invlib.cli.talk import Result, samples_by_name
from invlib.images import Picture
from invlib.problems import denoising
from invlib.problems.denoising import DENOISING, DenoisingProblem
from invlib.runs import Settings
from invlib.solvers.methods import METHODS, default_prior


def add_to(commands: Commands) -> None:
    command = add(commands, "denoise", run, "take the noise off a picture")
    command.add_argument(
        "image", type=Path, nargs="?", metavar="IMAGE", help="a picture or a folder; noisy, unless noise is to be added"
    )
    command.add_argument(
        "--noise-level",
        type=float,
        metavar="SIGMA",
        help="standard deviation of white noise, where white is 1: it is added to IMAGE and the result scored; with "
        "--measured it is that of the noise in IMAGE (default: it is estimated)",
    )
    command.add_argument(
        "--measured",
        action="store_true",
        default=None,
        help="IMAGE is noisy already, also where --noise-level or --gain are given; there is nothing to score against",
    )
    command.add_argument(
        "--estimate-noise",
        action="store_true",
        default=None,
        help="estimate noise that was added instead of knowing it",
    )
    command.add_argument(
        "--prior", help="name, file, or hub:owner/repo/file@revision (default: the best for the picture)"
    )
    command.add_argument(
        "--method", choices=list(METHODS["denoise"]), help="default: blind; bm3d and wavelets need their packages"
    )
    add_sampling(command, "samples")
    add_knobs(command, {name: task.knobs for name, task in denoising.TASKS.items()})
    add_knobs(command, knobs_of_methods())
    add_replay(command)
    add_out(command)


def knobs_of_methods() -> dict[str, Any]:
    return {name: method.knobs for name, method in METHODS["denoise"].items()}


def run(options: argparse.Namespace) -> Result:
    return pictures.run(options, "denoise", pose, outcome)


def outcome(options: argparse.Namespace, solved: Solved) -> tuple[Result, dict[str, np.ndarray]]:
    """The samples, the noisy picture if the noise was added, and the map of the noise level."""
    found = samples_by_name(solved.run, solved.stem)
    if solved.problem.simulated and solved.run.measured is not None:
        found[f"{solved.stem}-noisy"] = solved.run.measured
    if solved.run.noise_map is not None:
        found[f"{solved.stem}-noise"] = solved.run.noise_map
    return {}, found


def pose(options: argparse.Namespace, picture: Picture) -> tuple[DenoisingProblem, Settings]:
    """The problem that the options pose with a picture, in the colours of its prior, and how to solve it."""
    name = options.method or next(iter(METHODS["denoise"]))
    prior = options.prior or default_prior(picture.image.shape[1])
    picture = in_colours_of(prior, picture)
    knobs = given(options, denoising.TASKS[DENOISING].knobs)
    seed = options.seed or 0
    problem = denoising.pose(
        DENOISING,
        picture,
        knobs,
        simulated=not options.measured and (options.noise_level is not None or bool(knobs)),
        noise_level=options.noise_level,
        estimate_noise=options.estimate_noise,
        seed=seed,
    )
    values = given(options, every(knobs_of_methods()))
    return problem, runs.settings(problem, name, values, prior=prior, samples=options.samples or 1, seed=seed)
