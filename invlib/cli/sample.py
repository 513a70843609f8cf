"""`invlib sample`: draw pictures from a prior."""

from __future__ import annotations

import argparse

import numpy as np
import torch

from invlib import images, runs
from invlib.cli.options import (
    Commands,
    add,
    add_knobs,
    add_out,
    add_replay,
    add_sampling,
    every,
    given,
    read_run,
    replaying,
)
from invlib.cli.talk import Result, check_out, samples_by_name, watch, write_pictures
from invlib.priors.denoisers import Denoiser
from invlib.problems import prior
from invlib.solvers.methods import METHODS, SIDES, load_prior, sampler_of

KNOBS = {name: method.knobs for name, method in METHODS["sample"].items()}
OWNERS = {"sampling": prior.TASKS[prior.SAMPLING].knobs, **KNOBS}


def add_to(commands: Commands) -> None:
    command = add(commands, "sample", run, "draw pictures from a prior")
    command.add_argument(
        "--prior",
        help="name, file, or hub:owner/repo/file@revision (default: bf-unet-color). A denoiser draws by the method "
        "`paper`, a flow by `flow`, and the generator of a GAN or a VAE by `gan`.",
    )
    reverse = "of a denoiser; `reverse` suits one that was trained with so much noise that nothing is seen (--sigma-0)"
    command.add_argument("--method", choices=("paper", "reverse"), help=reverse)
    command.add_argument(
        "--size",
        type=parse_size,
        help="side in pixels, or HEIGHTxWIDTH (default 128, or that of the faces or digits that the prior draws)",
    )
    add_sampling(command, "count")
    add_knobs(command, OWNERS)
    add_replay(command)
    add_out(command)


def run(options: argparse.Namespace) -> Result:
    if options.replay is not None:
        record = read_run(options, "sample")
        with replaying(options.replay):
            problem, settings = runs.read(record)
    else:
        name = options.prior or "bf-unet-color"
        method = options.method or sampler_of(name)
        network = load_prior(name, METHODS["sample"][method].prior or Denoiser)
        side = SIDES.get(name, 128)
        whole = (network.channels, side, side) if isinstance(network, Denoiser) else network.image_shape
        problem = prior.pose((whole[0], *(options.size or whole[1:])), **given(options, OWNERS["sampling"]))
        settings = runs.settings(
            problem, method, given(options, every(KNOBS)), prior=name, samples=options.count or 1,
            seed=options.seed or 0,
        )  # fmt: skip
    check_out(options.out / "sample-1.png")
    done = watch(runs.solve(problem, settings))
    pictures = samples_by_name(done, "sample")
    if len(done.samples) > 1:
        pictures["sheet"] = sheet(done.samples)
    return {**done.parameters, **write_pictures(pictures, options.out)}


def sheet(samples: list[np.ndarray]) -> np.ndarray:
    """Pictures in a grid on white."""
    stack = torch.from_numpy(np.stack(samples)).float().div(255)
    return images.to_uint8(images.contact_sheet(stack.unsqueeze(1) if stack.ndim == 3 else stack.movedim(-1, 1)))


def parse_size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise argparse.ArgumentTypeError("expected SIDE or HEIGHTxWIDTH in pixels")
    return sides[0], sides[-1]
