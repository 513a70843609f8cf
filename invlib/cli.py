"""`python -m invlib`: sample, restore, train, bench, weights.

Progress goes to standard error. With --json standard output is exactly one JSON object. A bad argument or picture ends
with exit status 2 and one sentence.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from invlib import ascent, checkpoints, images, runtime
from invlib.ascent import Restoration, State
from invlib.denoisers import ARCHITECTURES, Denoiser
from invlib.experiments.denoising import average, denoising
from invlib.experiments.restoration import Scores, score, summarise
from invlib.operators import Blur, LinearOperator
from invlib.tasks import SAMPLING_BETA, TASKS, default_prior

Item = TypeVar("Item")
Result = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        runtime.set_threads()
        result = options.command(options)
    except (ValueError, OSError, MemoryError, checkpoints.CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(result))
    else:
        print(readable(result))
    return 0


# Commands: options in, a JSON object out


def sample(options: argparse.Namespace) -> Result:
    prior = checkpoints.load(options.prior)
    height, width = options.size
    shape = (prior.channels, height, width)
    settings = {"beta": SAMPLING_BETA.get(options.prior, 0.5), **given(options, ASCENT)}
    states = ascent.ascend(prior, shape=shape, count=options.count, seed=options.seed, **settings)
    result = ascent.collect(show_progress(states))
    files = save_pictures(result, options.out, "sample")
    if options.count > 1:
        sheet = options.out / "sheet.png"
        images.save_image(images.contact_sheet(result.samples), sheet)
        files.append(str(sheet))
    return {
        "prior": options.prior,
        **describe_run(result, options),
        "image_shape": list(result.samples.shape[1:]),
        "files": files,
    }


def restore(options: argparse.Namespace) -> Result:
    name, prior, picture = open_picture(options.image, options)
    pose = from_measured_picture if options.measured else degrade
    operator, measurements, truth = pose(picture, options)
    result, scores = solve(prior, operator, measurements, truth, options)
    return {
        "task": options.task,
        "prior": name,
        "sampler": options.sampler,
        **describe_run(result, options),
        "image_shape": list(operator.image_shape),
        "measured": operator.measured,
        **({"dropped": operator.dropped} if isinstance(operator, Blur) else {}),
        **(summarise([scores]) if scores else {}),
        "files": save_pictures(result, options.out, options.image.stem),
    }


def bench_restoration(options: argparse.Namespace) -> Result:
    results: list[Restoration] = []
    rows: list[Scores] = []
    for path in count_progress(images.list_images(options.data), "picture"):
        name, prior, picture = open_picture(path, options)
        result, scores = solve(prior, *degrade(picture, options), options)
        assert scores is not None  # a degraded picture has a truth
        results.append(result)
        rows.append(scores)
    return {
        "task": options.task,
        "prior": name,
        "sampler": options.sampler,
        "samples": options.samples,
        "seed": options.seed,
        "images": len(rows),
        "evaluations": sum(result.evaluations for result in results) / len(results),
        "seconds": round(sum(result.seconds for result in results) / len(results), 2),
        **summarise(rows),
    }


def bench_denoising(options: argparse.Namespace) -> Result:
    prior = checkpoints.load(options.prior)
    total = len(images.list_images(options.data))
    rows = list(count_progress(denoising(prior, options.data, seed=options.seed), "picture", total))
    return {"prior": options.prior, "images": len(rows), "psnr": average(rows)}


def train_denoiser(options: argparse.Namespace) -> Result:
    from invlib.training.denoiser import Recipe, describe_recipe, train, trained_network

    recipe = Recipe(
        architecture=options.architecture,
        channels=options.channels,
        steps=options.steps,
        batch=options.batch,
        crop=options.crop,
        optimizer=options.optimizer,
        learning_rate=options.learning_rate,
        warmup=options.warmup,
        ema=options.ema,
        folded=options.folded,
        seed=options.seed,
    )
    state_file = options.out.with_suffix(".state")
    source = checkpoints.load(options.start, device="cpu", dtype=torch.float32) if options.start else None
    for progress in train(recipe, options.data, state_file, source=source, compiled=options.compile):
        if progress.psnr is not None or progress.step % 20 == 0:
            validation = "".join(f"  σ {sigma}: {value:.2f} dB" for sigma, value in (progress.psnr or {}).items())
            say(
                f"step {progress.step}/{progress.steps}  loss {progress.loss:.5f}  {progress.seconds:.0f} s{validation}"
            )
    net, seconds = trained_network(state_file)
    sha256 = checkpoints.save(
        net,
        options.out,
        recipe=describe_recipe(recipe, seconds, options.start),
        data=options.describe_data or options.data.name,
        sigma="0 to 1",
        quality={"validation_psnr": progress.psnr},
    )
    return {"file": str(options.out), "sha256": sha256, "seconds": round(seconds), "validation_psnr": progress.psnr}


def weights_list(options: argparse.Namespace) -> Result:
    rows = {}
    for name, entry in checkpoints.registry().items():
        known = checkpoints.describe(name)
        rows[name] = {
            "title": entry.title,
            "architecture": known.architecture,
            "parameters": known.parameters,
            "here": known.path is not None,
            **known.metadata,
        }
    return rows


def weights_verify(options: argparse.Namespace) -> Result:
    status = checkpoints.verify()
    bad = [name for name, state in status.items() if state != "ok"]
    if bad:
        raise checkpoints.CheckpointError("; ".join(f"{name} is {status[name]}" for name in bad))
    return dict(status)


def weights_pull(options: argparse.Namespace) -> Result:
    return {"file": str(checkpoints.pull(options.name))}


def weights_push(options: argparse.Namespace) -> Result:
    return {"revision": checkpoints.push(options.folder, options.repo, private=options.private)}


def weights_convert(options: argparse.Namespace) -> Result:
    return {"file": str(options.target), "sha256": checkpoints.convert(options.source, options.target)}


def weights_register(options: argparse.Namespace) -> Result:
    return {"sha256": checkpoints.register(options.name, options.file, options.title).sha256}


# What the commands share


def solve(
    prior: Denoiser, operator: LinearOperator, measurements: Tensor, truth: Tensor | None, options: argparse.Namespace
) -> tuple[Restoration, Scores | None]:
    """Run the sampler that the options ask for, and score the result if the truth is known."""
    sampler = ascent.SAMPLERS[options.sampler]
    settings = sampler_settings(options, operator)
    states = sampler(prior, operator, measurements, count=options.samples, seed=options.seed, **settings)
    result = ascent.collect(show_progress(states))
    return result, None if truth is None else score(result, operator, measurements, truth)


ASCENT = ("h0", "beta", "sigma_0", "sigma_L", "max_evaluations")
SCHEDULE = ("evaluations", "sigma_0", "sigma_L", "rho")


def given(options: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The options of these names that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def sampler_settings(options: argparse.Namespace, operator: LinearOperator) -> dict[str, Any]:
    """The sampler's arguments; an option of the other sampler is refused rather than ignored."""
    names, others = (ASCENT, SCHEDULE) if options.sampler == "paper" else (SCHEDULE, ASCENT)
    for name in given(options, others):
        if name not in names:
            raise ValueError(f"--{name.replace('_', '-')} does not belong to the {options.sampler} sampler")
    if options.sampler == "paper":
        return given(options, ASCENT)
    return {"schedule": replace(ascent.default_schedule(operator), **given(options, SCHEDULE))}


def build_operator(shape: Sequence[int], options: argparse.Namespace) -> LinearOperator:
    """The measurement that the options describe; a knob of another task is refused rather than ignored."""
    task = TASKS[options.task]
    knobs = {
        knob: getattr(options, knob)
        for knob in ("factor", "keep", "box", "mask", "kernel")
        if getattr(options, knob) is not None
    }
    for knob in knobs:
        if knob not in task.knobs:
            raise ValueError(
                f"--{knob} does not belong to {options.task}, which has {', '.join('--' + name for name in task.knobs)}"
            )
    for knob in ("mask", "kernel"):
        if knob in knobs:
            picture = images.load_image(knobs[knob], channels=1)[0, 0]
            knobs[knob] = picture > 0.5 if knob == "mask" else picture
    return task.operator(shape, **{**task.defaults, **knobs})


def open_picture(path: Path, options: argparse.Namespace) -> tuple[str, Denoiser, Tensor]:
    """The name of the prior for a picture, the prior, and the picture in its colours."""
    picture = images.load_image(path)
    name = options.prior or default_prior(picture.shape[1])
    prior = checkpoints.load(name)
    return name, prior, images.to_channels(picture, prior.channels)


Problem = tuple[LinearOperator, Tensor, Tensor | None]
"""An operator, what it measured, and the truth if it is known."""


def degrade(picture: Tensor, options: argparse.Namespace) -> Problem:
    """Measure a clean picture, cropped to a multiple of the factor if there is one."""
    if options.task == "super-resolution":
        picture = images.crop_to_multiple(picture, block_side(options))
    operator = build_operator(picture.shape[1:], options)
    return operator, operator.measure(picture), picture


def from_measured_picture(picture: Tensor, options: argparse.Namespace) -> Problem:
    """Take a picture as what was measured."""
    channels, height, width = picture.shape[1:]
    if options.task == "compressive-sensing":
        raise ValueError(
            "--measured takes a picture, and compressive measurements are none: leave it out to simulate them"
        )
    if options.task == "random-pixels":
        raise ValueError("with --measured the missing pixels must be known: use --task inpainting --mask FILE")
    if options.task == "inpainting" and options.mask is None and options.box is None:
        raise ValueError(
            "with --measured say what is missing: --mask FILE (black there) or --box top,left,height,width"
        )
    factor = block_side(options) if options.task == "super-resolution" else 1
    operator = build_operator((channels, height * factor, width * factor), options)
    return operator, operator.from_view(picture), None


def block_side(options: argparse.Namespace) -> int:
    factor: int = TASKS["super-resolution"].defaults["factor"] if options.factor is None else options.factor
    if factor < 1:
        raise ValueError(f"--factor must be at least 1, got {factor}")
    return factor


def describe_run(result: Restoration, options: argparse.Namespace) -> Result:
    """The part of a run's JSON that every command has."""
    return {
        "samples": len(result.samples),
        "seed": options.seed,
        "evaluations": result.evaluations,
        "seconds": round(result.seconds, 2),
        "outcome": result.outcome,
        "history": {
            "sigma": [round(step.sigma, 5) for step in result.history],
            "predicted": [round(step.predicted, 5) for step in result.history],
        },
    }


def save_pictures(result: Restoration, folder: Path, stem: str) -> list[str]:
    """Write every sample and, of several, their average and standard deviation (over channels, its maximum white)."""
    pictures = {f"{stem}-{index}": image[None] for index, image in enumerate(result.samples, start=1)}
    if len(result.samples) > 1:
        spread = result.std.mean(1, keepdim=True)
        pictures |= {f"{stem}-mean": result.mean, f"{stem}-std": spread / spread.max().clamp(min=1e-6)}
    files = []
    for name, image in pictures.items():
        path = folder / f"{name}.png"
        images.save_image(image, path)
        files.append(str(path))
    return files


# Talking to a person


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show_progress(states: Iterable[State]) -> Iterator[State]:
    """Say every second where a sampler is."""
    said = time.monotonic()
    for state in states:
        if time.monotonic() - said > 1 or state.outcome:
            say(f"evaluation {state.evaluations}  σ {float(state.sigma.mean()):.4f}  {state.outcome or ''}".rstrip())
            said = time.monotonic()
        yield state


def count_progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Say which of the items is being worked on."""
    total = total or len(items)  # type: ignore[arg-type]
    for number, item in enumerate(items, start=1):
        say(f"{what} {number} of {total}")
        yield item


def readable(result: Result, indent: str = "") -> str:
    """A JSON object for people: a key a line, objects indented; a run's history is for programs."""
    lines = []
    for key, value in result.items():
        if isinstance(value, dict) and key != "history":
            lines += [f"{indent}{key}:", readable(value, indent + "  ")]
        elif isinstance(value, list) and key == "files":
            lines += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        elif key != "history":
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


# The command line


class Parser(argparse.ArgumentParser):
    """Refuses arguments with one sentence, without the usage that scrolls it away."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m invlib", description="Image inverse problems with the prior implicit in a denoiser."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = add(commands, "sample", sample, "draw pictures from a prior")
    command.add_argument("--prior", default="bf-unet-color", help="name, file, or hub:owner/repo/file@revision")
    command.add_argument(
        "--size", type=parse_size, default=(128, 128), help="side in pixels, or HEIGHTxWIDTH (default 128)"
    )
    command.add_argument("--count", type=parse_count, default=1, help="how many")
    add_ascent(command)
    add_out(command)

    command = add(commands, "restore", restore, "degrade a picture and restore it, or restore a measured one")
    command.add_argument("image", type=Path, metavar="IMAGE")
    command.add_argument(
        "--measured", action="store_true", help="IMAGE is the measurement; there is nothing to score against"
    )
    add_problem(command)
    add_out(command)

    trainings = add_group(commands, "train", "train a prior")
    command = add(trainings, "denoiser", train_denoiser, "train a blind denoiser; run again to go on after a stop")
    command.add_argument("--data", type=Path, required=True, help="folder of photographs, or of MNIST's idx files")
    command.add_argument(
        "--out", type=Path, required=True, help="checkpoint to write; FILE.state beside it resumes the run"
    )
    command.add_argument("--architecture", choices=list(ARCHITECTURES), default="BFUNet")
    command.add_argument("--channels", type=int, choices=(1, 3), default=3)
    command.add_argument("--steps", type=int, default=7600)
    command.add_argument("--batch", type=int, default=32, help="crops per step")
    command.add_argument("--crop", type=int, default=64, help="side of a crop in pixels")
    command.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    command.add_argument("--learning-rate", type=float, default=1e-3)
    command.add_argument("--warmup", type=int, default=200, help="steps in which the learning rate rises")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--ema", type=float, default=0.998, help="decay of the average of the weights")
    command.add_argument("--folded", action="store_true", help="end a run of BFCNN: --start from its folded checkpoint")
    command.add_argument(
        "--start", metavar="PRIOR", help="start from this checkpoint (colour or grey) instead of random weights"
    )
    command.add_argument(
        "--compile", action="store_true", help="fuse with torch.compile: needs a C++ compiler, twice as fast for BFCNN"
    )
    command.add_argument(
        "--describe-data", metavar="TEXT", help="what the data are, for the checkpoint (default: the folder's name)"
    )

    benches = add_group(commands, "bench", "measure")
    command = add(benches, "denoising", bench_denoising, "PSNR against noise level")
    command.add_argument("--prior", required=True)
    command.add_argument("--data", type=Path, required=True, help="folder of pictures")
    command.add_argument("--seed", type=int, default=0)
    command = add(benches, "restoration", bench_restoration, "scores of a task, averaged over a folder")
    command.add_argument("--data", type=Path, required=True, help="folder of pictures")
    add_problem(command)

    weights = add_group(commands, "weights", "list, check and exchange checkpoints")
    add(weights, "list", weights_list, "what is registered")
    add(weights, "verify", weights_verify, "compare every file with its sha256")
    command = add(weights, "pull", weights_pull, "download a registered checkpoint into weights/")
    command.add_argument("name")
    command = add(weights, "push", weights_push, "upload a folder of checkpoints to a repository of yours")
    command.add_argument("folder", type=Path)
    command.add_argument("repo", metavar="OWNER/REPO")
    command.add_argument("--private", action="store_true")
    command = add(weights, "convert", weights_convert, "fold the authors' BF-CNN state dict into a checkpoint")
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    command = add(weights, "register", weights_register, "add a checkpoint in weights/ to the registry, or update it")
    command.add_argument("name")
    command.add_argument("file", type=Path)
    command.add_argument("--title", required=True, help="a phrase that says what it is")
    return parser


Commands = Any
"""The object that `add_subparsers` returns; its type is private to argparse."""


def add(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], Result], about: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(command=run)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def add_group(commands: Commands, name: str, about: str) -> Commands:
    return commands.add_parser(name, help=about, description=about).add_subparsers(required=True, metavar="COMMAND")


def add_problem(command: argparse.ArgumentParser) -> None:
    command.add_argument("--task", choices=list(TASKS), required=True)
    command.add_argument("--factor", type=int, help="super-resolution: side of the blocks (default 4)")
    command.add_argument(
        "--keep", type=float, help="fraction of coefficients, pixels or measurements kept (default 0.1)"
    )
    command.add_argument("--box", type=parse_box, metavar="TOP,LEFT,HEIGHT,WIDTH", help="inpainting: the missing block")
    command.add_argument("--mask", type=Path, help="inpainting: a picture, black where pixels are missing")
    command.add_argument("--kernel", type=Path, help="deblurring: a picture of the blur kernel, instead of --keep")
    command.add_argument(
        "--prior", help="name, file, or hub:owner/repo/file@revision (default: the best for the picture)"
    )
    command.add_argument("--samples", type=parse_count, default=1, help="how many answers to draw")
    command.add_argument("--sampler", choices=list(ascent.SAMPLERS), default="fast")
    command.add_argument("--evaluations", type=int, help="fast: denoiser calls per sample (default: the task's)")
    command.add_argument("--rho", type=float, help="fast: σ^(1/rho) falls linearly")
    add_ascent(command)


def add_ascent(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--sigma-0", type=float, help="noise level of the start (default 1)")
    command.add_argument("--sigma-L", type=float, help="noise level of the end (default 0.01)")
    command.add_argument("--h0", type=float, help="paper: first step size (default 0.01)")
    command.add_argument(
        "--beta", type=float, help="paper: 1 injects no noise, less injects more (default 0.01; `sample`: by prior)"
    )
    command.add_argument("--max-evaluations", type=int, help="paper: give up after so many")


def add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures (default: out)")


def parse_count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("expected a whole number of at least 1")
    return int(text)


def parse_size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) > 2 or min(sides) < 1:
        raise argparse.ArgumentTypeError("expected SIDE or HEIGHTxWIDTH in pixels")
    return sides[0], sides[-1]


def parse_box(text: str) -> tuple[int, int, int, int]:
    numbers = [int(number) for number in text.split(",")]
    if len(numbers) != 4:
        raise argparse.ArgumentTypeError("expected TOP,LEFT,HEIGHT,WIDTH in pixels")
    top, left, height, width = numbers
    return top, left, height, width
