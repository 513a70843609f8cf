"""`invlib restore`: degrade a picture and restore it, or restore a measured one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from invlib import images, runs
from invlib.cli import pictures
from invlib.cli.options import (
    Commands,
    Parser,
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
from invlib.problems import linear
from invlib.problems.spec import Problem
from invlib.runs import Settings
from invlib.solvers.methods import METHODS, TOLD_PRIOR


def add_to(commands: Commands) -> None:
    command = add(commands, "restore", run, "degrade a picture and restore it, or restore a measured one")
    command.add_argument("image", type=Path, nargs="?", metavar="IMAGE", help="a picture, or a folder of pictures")
    command.add_argument(
        "--measured",
        action="store_true",
        default=None,
        help="IMAGE is the measurement; there is nothing to score against",
    )
    command.add_argument("--task", choices=list(linear.TASKS))
    command.add_argument(
        "--bits", type=int, choices=(8, 16), default=8, help="of each number in the PNG files (default 8)"
    )
    add_problem(command)
    add_replay(command)
    add_out(command)


def add_problem(command: Parser) -> None:
    """The flags of a problem and of how it is solved."""
    command.add_argument(
        "--noise-level",
        type=float,
        metavar="SIGMA",
        help="standard deviation of white noise in the picture that is measured, where white is 1: it is added to a "
        "simulated picture (default 0), and known of one that is --measured (default: it is estimated)",
    )
    command.add_argument(
        "--estimate-noise", action="store_true", default=None, help="estimate the noise level instead of knowing it"
    )
    command.add_argument(
        "--prior", help="name, file, or hub:owner/repo/file@revision (default: the best for the picture)"
    )
    command.add_argument(
        "--method",
        "--sampler",
        choices=list(METHODS["restore"]),
        help="how to solve it (default: fast)",
    )
    add_sampling(command, "samples")
    add_knobs(command, knobs_of_tasks())
    add_knobs(command, knobs_of_methods())


def knobs_of_tasks() -> dict[str, Any]:
    return {name: task.knobs for name, task in linear.TASKS.items()}


def knobs_of_methods() -> dict[str, Any]:
    return {name: method.knobs for name, method in METHODS["restore"].items()}


def run(options: argparse.Namespace) -> Result:
    return pictures.run(options, "restore", pose, outcome)


def outcome(options: argparse.Namespace, solved: Solved) -> tuple[Result, dict[str, np.ndarray]]:
    """The samples, their average and standard deviation, in as many bits as the options say."""
    found = samples_by_name(solved.run, solved.stem)
    if options.bits == 16 and solved.exact is not None:
        sixteen = {f"{solved.stem}-{n}": images.to_uint16(each) for n, each in enumerate(solved.exact, start=1)}
        sixteen[f"{solved.stem}-mean"] = images.to_uint16(solved.exact.mean(0))
        found = {name: sixteen.get(name, picture) for name, picture in found.items()}
    return {}, found


def pose(options: argparse.Namespace, picture: Picture) -> tuple[Problem, Settings]:
    """The problem that the options pose with a picture, in the colours of its prior, and how to solve it."""
    if options.task is None:
        raise ValueError(f"--task is required: choose one of {', '.join(linear.TASKS)}")
    name, prior = options.method, None
    method = None if name is None else METHODS["restore"][name]
    if method is None or method.prior is not None:
        prior = options.prior or (TOLD_PRIOR if method is not None and method.told else None)
    if prior is not None:
        picture = in_colours_of(prior, picture)
    seed, samples = options.seed or 0, options.samples or 1
    problem = linear.pose(
        options.task,
        picture,
        given(options, every(knobs_of_tasks())),
        simulated=not getattr(options, "measured", None),
        noise_level=options.noise_level,
        estimate_noise=options.estimate_noise,
        seed=seed,
    )
    values = given(options, every(knobs_of_methods()))
    values.pop("seed", None)  # the run's
    return problem, runs.settings(problem, name, values, prior=prior, samples=samples, seed=seed)
