"""`invlib train`: train a denoiser, a flow, a GAN or a VAE."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import torch

from invlib.cli.options import Commands, Parser, add, add_group, parse_count, parse_seed
from invlib.cli.talk import Result, check_out, say
from invlib.priors import checkpoints
from invlib.priors.denoisers import ARCHITECTURES
from invlib.problems.spec import flag
from invlib.training import denoiser, flow, gan, processes, vae
from invlib.training.run import Optimisation, Progress, describe_recipe, trained

Recipe = TypeVar("Recipe", bound=Optimisation)

OPTIMISATION: dict[str, dict[str, Any]] = {
    "steps": {"type": parse_count},
    "batch": {"type": parse_count, "help": "pictures or crops per step, of all processes (default %(default)s)"},
    "learning_rate": {"type": float, "help": "at its peak (default %(default)s)"},
    "warmup": {"type": parse_count, "help": "steps in which the learning rate rises (default %(default)s)"},
    "decay": {"type": int, "help": "steps at the end in which it falls; 0: a cosine over all steps (default)"},
    "ema": {"type": float, "help": "decay of the average of the weights (default %(default)s)"},
    "seed": {"type": parse_seed},
}
OPTIMIZER = {"choices": ("adamw", "muon")}


def add_to(commands: Commands) -> None:
    trainings = add_group(commands, "train", "train a prior")
    command = add(trainings, "denoiser", train_denoiser, "train a blind denoiser; run again to go on after a stop")
    add_files(command, help="folder of photographs, of MNIST's idx files, or zip of CelebA's faces")
    uniform = "of the noise levels, uniform from 0 to the highest; the others are log-uniform (default %(default)s)"
    blocks = "BFUNet: residual blocks at each scale, finest first (default 2 2 2)"
    add_recipe(
        command,
        denoiser.Recipe,
        architecture={"choices": list(ARCHITECTURES)},
        channels={"type": int, "choices": (1, 3)},
        crop={"type": int, "help": "side of a crop in pixels (default %(default)s)"},
        reduced={"action": "store_true", "help": "train on reduced photographs as well; on compressed ones only so"},
        optimizer=OPTIMIZER,
        uniform={"type": float, "metavar": "SHARE", "help": uniform},
        sigma_min={"type": float, "help": "the lowest noise level that is log-uniform (default %(default)s)"},
        sigma_max={"type": float, "help": "the highest noise level (default %(default)s)"},
        blocks={"type": int, "nargs": "+", "help": blocks},
        width={"type": int, "nargs": "+", "help": "BFUNet: channels at each scale (default 64 128 256)"},
        told={"action": "store_true", "help": "BFUNet: tell the network what was measured, by random measurements"},
        strokes={"action": "store_true", "help": "the noise is strokes of a pen over the pictures, not white"},
        folded={"action": "store_true", "help": "end a run of BFCNN: --start from its folded checkpoint"},
    )
    start = "start from this checkpoint (colour or grey) instead of random weights"
    # Under torchrun, --start would be taken for an abbreviation of an option of its own.
    command.add_argument("--start", "--start-from", metavar="PRIOR", help=start)
    compiled = "fuse with torch.compile: needs a C++ compiler, twice as fast for BFCNN"
    command.add_argument("--compile", action="store_true", help=compiled)
    minutes = "end after this time in all instead of --steps; the learning rate falls from start to end"
    command.add_argument("--minutes", type=float, help=minutes)
    every = "steps between measurements of the PSNR (default %(default)s)"
    command.add_argument("--validate-every", type=parse_count, default=500, help=every)

    kind = {"choices": ("faces", "mnist"), "required": True, "help": "64×64 colour, or 28×28 grey"}
    data = "aligned pictures of CelebA, or the folder of MNIST's idx files"
    bins = "noise that fills the bins of quantised pictures; normal suits digits (default %(default)s)"
    command = add(trainings, "flow", train_flow, "train a normalizing flow; run again to go on after a stop")
    add_files(command, metavar="FOLDER_OR_ZIP", help=data)
    add_recipe(
        command,
        flow.Recipe,
        kind=kind,
        logit={"action": "store_true", "help": "for digits as signals, which are black or white"},
        dequantisation={"choices": ("uniform", "normal"), "help": bins},
        noise={"type": float, "help": "standard deviation of white noise added to the pictures (default %(default)s)"},
        blocks={"type": int, "help": "residual blocks of a coupling network (default %(default)s)"},
        optimizer=OPTIMIZER,
        steps={"required": True},
    )
    command = add(trainings, "gan", train_gan, "train a generator; run again to go on after a stop")
    add_files(command, metavar="FOLDER_OR_ZIP", help=data)
    add_recipe(command, gan.Recipe, kind=kind, steps={"required": True})
    command = add(trainings, "vae", train_vae, "train the generator of a VAE; run again to go on after a stop")
    add_files(command, metavar="FOLDER", help="folder of MNIST's idx files")
    code = {"type": parse_count, "help": "how many numbers a code has (default %(default)s)"}
    digits = {"choices": list(vae.WIDTHS), "help": "28×28 grey (default %(default)s)"}
    add_recipe(command, vae.Recipe, kind=digits, latent_dim=code, steps={"required": True})


def add_files(command: Parser, **data: str) -> None:
    command.add_argument("--data", type=Path, required=True, **data)
    out = "checkpoint to write; FILE.state beside it resumes the run"
    command.add_argument("--out", type=Path, required=True, help=out)
    about = "what the data are, for the checkpoint (default: the folder's name)"
    command.add_argument("--describe-data", metavar="TEXT", help=about)


def add_recipe(command: Parser, recipe: type[Optimisation], **flags: dict[str, Any]) -> None:
    """Flags for the fields of a recipe: the given ones, and those of `OPTIMISATION`."""
    for name in flags | OPTIMISATION:
        settings = OPTIMISATION.get(name, {}) | flags.get(name, {})
        command.add_argument(flag(name), default=getattr(recipe, name), **settings)


def read_recipe(options: argparse.Namespace, recipe: type[Recipe]) -> Recipe:
    given: Any = {name: value for name, value in vars(options).items() if name in recipe.__dataclass_fields__}
    return recipe(**given)


def train_denoiser(options: argparse.Namespace) -> Result | None:
    for name in ("blocks", "width"):
        setattr(options, name, (given := getattr(options, name)) and tuple(given))
    recipe = read_recipe(options, denoiser.Recipe)
    source = checkpoints.load(options.start, device="cpu", dtype=torch.float32) if options.start else None
    steps = denoiser.train(
        recipe,
        options.data,
        state_file(options),
        source=source,
        compiled=options.compile,
        validate_every=options.validate_every,
        minutes=options.minutes,
    )
    return finish(options, recipe, steps, sigma=f"0 to {recipe.sigma_max:g}")


def train_flow(options: argparse.Namespace) -> Result | None:
    recipe = read_recipe(options, flow.Recipe)
    return finish(options, recipe, flow.train(recipe, options.data, state_file(options)))


def train_gan(options: argparse.Namespace) -> Result | None:
    recipe = read_recipe(options, gan.Recipe)
    return finish(options, recipe, gan.train(recipe, options.data, state_file(options)))


def train_vae(options: argparse.Namespace) -> Result | None:
    recipe = read_recipe(options, vae.Recipe)
    return finish(options, recipe, vae.train(recipe, options.data, state_file(options)))


def state_file(options: argparse.Namespace) -> Path:
    """The file beside --out that resumes the training; ValueError if one of the two cannot be written."""
    path: Path = options.out
    check_out(path)
    check_out(path.with_suffix(".state"))
    return path.with_suffix(".state")


def finish(
    options: argparse.Namespace, recipe: Optimisation, steps: Iterable[Progress], sigma: str | None = None
) -> Result | None:
    """Train to the end, with the other processes of torchrun if it started some.

    Only the first process writes the checkpoint, whenever the state is saved, and says every 20 steps where the
    training is. The others return None.
    """
    with processes.joined():
        if processes.rank() == 0:
            return follow(options, recipe, steps, sigma)
        for _ in steps:
            pass
        return None


def follow(options: argparse.Namespace, recipe: Optimisation, steps: Iterable[Progress], sigma: str | None) -> Result:
    """Train to the end, say every 20 steps where the training is, and write the checkpoint whenever it is saved."""
    quality: dict[str, Any] = {}
    for progress in steps:
        quality |= progress.quality or {}
        if progress.step == 1 or progress.step % 20 == 0 or progress.quality is not None:
            figures = [f"{name} {value:.5g}" for name, value in progress.losses.items()]
            figures += [f"{progress.skipped} skipped, not finite"] if progress.skipped else []
            figures += [f"{name} {value}" for name, value in (progress.quality or {}).items()]
            say("  ".join([f"step {progress.step}/{progress.steps}", f"{progress.seconds:.0f} s", *figures]))
        if progress.saved:
            save(options, recipe, quality, sigma)
    sha256, seconds = save(options, recipe, quality, sigma)
    return {"file": str(options.out), "sha256": sha256, "seconds": round(seconds), **quality}


def save(
    options: argparse.Namespace, recipe: Optimisation, quality: dict[str, Any], sigma: str | None
) -> tuple[str, float]:
    """Write the checkpoint of a training's state, and return its hash and how many seconds the training took."""
    net, seconds, kept = trained(type(recipe), state_file(options))
    about = describe_recipe(kept, seconds, getattr(options, "start", None))
    data = options.describe_data or options.data.name
    return checkpoints.save(net, options.out, recipe=about, data=data, sigma=sigma, quality=quality), seconds
