"""`invlib restore`: degrade a picture and restore it, or restore a measured one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from invlib import images, runs
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
    problem_of,
)
from invlib.cli.talk import Result, check_out, samples_by_name, watch_images, write_pictures
from invlib.images import Picture
from invlib.problems import linear
from invlib.problems.spec import Problem
from invlib.runs import Settings
from invlib.solvers.methods import METHODS, default_prior


def add_to(commands: Commands) -> None:
    command = add(commands, "restore", run, "degrade a picture and restore it, or restore a measured one")
    command.add_argument("image", type=Path, nargs="?", metavar="IMAGE")
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
        "--method", "--sampler", choices=list(METHODS["restore"]), help="how to solve it (default: fast)"
    )
    add_sampling(command, "samples")
    add_knobs(command, knobs_of_tasks())
    add_knobs(command, knobs_of_methods())


def knobs_of_tasks() -> dict[str, Any]:
    return {name: task.knobs for name, task in linear.TASKS.items()}


def knobs_of_methods() -> dict[str, Any]:
    return {name: method.knobs for name, method in METHODS["restore"].items()}


def run(options: argparse.Namespace) -> Result:
    _, problem, settings = problem_of(options, "restore", pose)
    assert problem.picture is not None
    stem = Path(problem.picture.name).stem
    check_out(options.out / f"{stem}-1.png")
    done, exact = watch_images(runs.solve(problem, settings))
    pictures = samples_by_name(done, stem)
    if options.bits == 16 and exact is not None:
        sixteen = {f"{stem}-{number}": images.to_uint16(each) for number, each in enumerate(exact, start=1)}
        sixteen[f"{stem}-mean"] = images.to_uint16(exact.mean(0))
        pictures = {name: sixteen.get(name, picture) for name, picture in pictures.items()}
    return {**done.parameters, **write_pictures(pictures, options.out)}


def pose(options: argparse.Namespace, picture: Picture) -> tuple[Problem, Settings]:
    """The problem that the options pose with a picture, in the colours of its prior, and how to solve it."""
    if options.task is None:
        raise ValueError(f"--task is required: choose one of {', '.join(linear.TASKS)}")
    name = options.method or "fast"
    method, prior = METHODS["restore"][name], None
    if method.prior is not None:
        prior = options.prior or default_prior(picture.image.shape[1])
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
