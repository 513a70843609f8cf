"""`python -m invlib`: sample, restore, remove-noise, train, bench, weights.

Progress goes to standard error. With --json standard output is exactly one JSON object. A bad argument or picture ends
with exit status 2 and one sentence.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from invlib import examples, images, runtime
from invlib.experiments import rows as results
from invlib.experiments.denoising import average, denoising
from invlib.experiments.figures import EXPERIMENTS
from invlib.experiments.structured_noise import (
    build_problem,
    load_truths,
    prepare,
    structured_noise,
    without_prior,
)
from invlib.experiments.tables import METHODS, TABLES, Options
from invlib.metrics import psnr_all_channels, ssim
from invlib.priors import checkpoints
from invlib.priors.denoisers import ARCHITECTURES, Denoiser
from invlib.problems import structured as removal
from invlib.problems.linear import SAMPLING_BETA, TASKS, decode_knobs, default_prior, encode_knobs, json_value
from invlib.problems.operators import Blur, LinearOperator
from invlib.scores import Scores, score, summarise
from invlib.solvers import ascent
from invlib.solvers.ascent import Restoration, Schedule, State
from invlib.solvers.inversion import Iterate

Item = TypeVar("Item")
Result = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = build_parser().parse_args(arguments)
    try:
        runtime.set_threads()
        result = options.command(options)
    except (ValueError, OSError, MemoryError, ImportError, checkpoints.CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not runtime.is_out_of_memory(error):
            raise
        print("error: not enough memory: use a smaller picture or fewer samples", file=sys.stderr)
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
    if options.replay is None:
        complete(options, prior="bf-unet-color", size=(128, 128), count=1, seed=0)
    else:
        replay(options, sampling_run)
    prior = checkpoints.load(options.prior)
    shape = (prior.channels, *options.size) if options.replay is None else options.image_shape
    arguments = {
        **ASCENT_DEFAULTS,
        "beta": SAMPLING_BETA.get(options.prior, 0.5),
        **given(options, (*ASCENT, "interpolate")),
    }
    states = ascent.ascend(prior, shape=shape, count=options.count, seed=options.seed, **arguments)
    result = ascent.collect(show_progress(states))
    files = save_pictures(result, options.out, "sample")
    if options.count > 1:
        sheet = options.out / "sheet.png"
        images.save_image(images.contact_sheet(result.samples), sheet)
        files.append(str(sheet))
    return {
        "task": SAMPLING,
        "prior": options.prior,
        **describe_run(result, options),
        **arguments,
        "image_shape": list(shape),
        "files": files,
    }


def restore(options: argparse.Namespace) -> Result:
    if options.replay is not None:
        replay(options, restoration_run)
        complete(options, **NOISELESS)
    elif options.image is None:
        raise ValueError("IMAGE is required: name a picture, or a run's JSON with --replay")
    elif options.task is None:
        raise ValueError(f"--task is required: choose one of {', '.join(TASKS)}")
    else:
        complete_problem(options)
    picture, origin = open_picture(options)
    name, prior, picture = choose_prior(picture, options)
    if not options.measured:
        picture = images.crop_to_multiple(picture, block_side(options))
    fingerprint = images.fingerprint(picture)
    if options.replay is not None and fingerprint != options.fingerprint:
        raise ValueError(
            f"{origin['picture']} is not the picture of the run in {options.replay}: name that one as IMAGE "
            "(the ZIP of a run holds it as picture.png)"
        )
    pose = from_measured_picture if options.measured else degrade
    operator, measurements, truth = pose(picture, options)
    noise = measurement_noise(prior, operator, measurements, options)
    result, scores = solve(prior, operator, measurements, truth, noise, options)
    return {
        "task": options.task,
        **encode_knobs(options.knobs),
        "noise_level": options.noise_level,
        "estimate_noise": options.estimate_noise,
        **({"noise_estimate": round(noise, 5)} if options.estimate_noise else {}),
        **origin,
        "fingerprint": fingerprint,
        "simulated": truth is not None,
        "prior": name,
        "sampler": options.sampler,
        **describe_run(result, options),
        **sampler_arguments(options, operator),
        "image_shape": list(operator.image_shape),
        "measured": operator.measured,
        **({"dropped": operator.dropped} if isinstance(operator, Blur) else {}),
        **(summarise([scores]) if scores else {}),
        "files": save_pictures(result, options.out, Path(origin["picture"]).stem),
    }


def remove_noise(options: argparse.Namespace) -> Result:
    task = noise_task(options)
    knobs = {**removal.TASKS[task].knobs, **given_noise_knobs(options, task, ("c", "count"))}
    check_methods([options.method], task)
    settings = removal.settings(task, options.method, given_settings(options, [options.method]))
    picture = images.load_image(options.image)
    x = prepare(picture, removal.IMAGE_SHAPES[removal.TASKS[task].kind])
    problem, y = noisy_problem(task, knobs, x, options)
    noisy, unrestored = problem.view(y), without_prior(problem, y)

    method = removal.METHODS[options.method]
    iterates = method.run(problem, removal.load_prior(task, options.method), y, options.seed, **settings)
    history: dict[str, list[float]] = {name: [] for name in HISTORY}
    started = time.perf_counter()
    for iterate in show_steps(iterates):
        for name, numbers in history.items():
            numbers.append(round(float(getattr(iterate, name)), 5))
    seconds = time.perf_counter() - started
    if not math.isfinite(history["objective"][-1]):
        raise ValueError(
            f"the objective of {options.method} is not finite at the start: choose settings nearer to the defaults"
        )

    restored = iterate.image.clamp(0, 1)
    noise = y - problem.forward(restored).cpu()
    pictures = {"restored": restored, "noisy": noisy}
    if noise.shape == x.shape:
        pictures["noise"] = 0.5 + noise / 2
    return {
        "task": task,
        "knobs": {"strokes": Path(options.noise).name} if task == SCRIBBLE else knobs,
        "method": options.method,
        "settings": settings,
        "seed": options.seed,
        "prior": f"{method.prior}-{removal.TASKS[task].kind}" if method.prior else None,
        "picture": options.image.name,
        "picture_shape": list(picture.shape[1:]),
        "image_shape": list(x.shape[1:]),
        "resized": picture.shape[-2:] != x.shape[-2:],
        "fingerprint": images.fingerprint(x),
        "simulated": not options.measured,
        "evaluations": iterate.evaluations,
        "seconds": round(seconds, 2),
        "skipped": iterate.skipped,
        "outcome": iterate.outcome,
        **({} if options.measured else score_removal(unrestored, restored.cpu(), x)),
        "history": history,
        "files": write_pictures({f"{options.image.stem}-{name}": each for name, each in pictures.items()}, options.out),
    }


def bench_restoration(options: argparse.Namespace) -> Result:
    complete_problem(options)
    results: list[Restoration] = []
    rows: list[Scores] = []
    for path in count_progress(images.list_images(options.data), "picture"):
        name, prior, picture = choose_prior(images.load_image(path), options)
        picture = images.crop_to_multiple(picture, block_side(options))
        operator, measurements, truth = degrade(picture, options)
        noise = measurement_noise(prior, operator, measurements, options)
        result, scores = solve(prior, operator, measurements, truth, noise, options)
        assert scores is not None  # a degraded picture has a truth
        results.append(result)
        rows.append(scores)
    return {
        "task": options.task,
        "prior": name,
        "sampler": options.sampler,
        "samples": options.samples,
        "seed": options.seed,
        "noise_level": options.noise_level,
        "estimate_noise": options.estimate_noise,
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


def bench_structured_noise(options: argparse.Namespace) -> Result:
    task = removal.TASKS[options.task]
    methods = options.methods or task.methods
    check_methods(methods, options.task)
    settings = given_settings(options, methods)
    knobs: dict[str, Sequence[float]] = given_noise_knobs(options, options.task, ("c",))
    if options.sweep and task.swept is not None:
        name, values = task.swept
        if name in knobs:
            raise ValueError(f"{flag(name)} and --sweep exclude one another for {options.task}: give one of them")
        knobs[name] = values
    truths = load_truths(options.task, options.data, options.count)
    rows = []
    for row in structured_noise(
        options.task,
        truths,
        methods,
        knobs=(dict(zip(knobs, point, strict=True)) for point in itertools.product(*knobs.values())),
        settings=settings,
        seed=options.seed,
        batch=options.batch,
        watch=show_steps,
    ):
        say(readable_row(row))
        rows.append(row)
    return {"task": options.task, "images": len(truths), "seed": options.seed, "rows": rows}


def bench_experiment(options: argparse.Namespace) -> Result:
    chosen = {name: value for name, value in vars(options).items() if name in EXPERIMENT_OPTIONS and value is not None}
    plan = EXPERIMENTS[options.experiment](Options(**chosen))
    for sentence in plan.left_out:
        say(sentence)
    rows: list[Result] = []
    for number, cell in enumerate(plan.cells, start=1):
        say(f"row {number} of {len(plan.cells)}: {readable_key(cell.key)}")
        rows += results.run([cell], options.out, show_count)
        say(readable_row(rows[-1]))
    return {"experiment": options.experiment, "file": str(options.out), "left_out": plan.left_out, "rows": rows}


def train_denoiser(options: argparse.Namespace) -> Result:
    from invlib.training.denoiser import Recipe, train, trained_network
    from invlib.training.run import describe_recipe

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
        uniform=options.uniform,
        blocks=tuple(options.blocks) if options.blocks else None,
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


def train_flow(options: argparse.Namespace) -> Result:
    from invlib.training.flow import Recipe, train, trained_flow
    from invlib.training.run import describe_recipe

    recipe = Recipe(
        kind=options.kind,
        logit=options.logit,
        dequantisation=options.dequantisation,
        noise=options.noise,
        blocks=options.blocks,
        optimizer=options.optimizer,
        **optimisation(options),
    )
    state_file = options.out.with_suffix(".state")
    for progress in train(recipe, options.data, state_file):
        if progress.bits is not None or progress.step % 20 == 0:
            held_out = f"  held out: {progress.bits:.3f}" if progress.bits is not None else ""
            say(
                f"step {progress.step}/{progress.steps}  {progress.loss:.3f} bits per dimension  "
                f"{progress.seconds:.0f} s{skipped_steps(progress.skipped)}{held_out}"
            )
    flow, seconds = trained_flow(state_file)
    sha256 = checkpoints.save(
        flow,
        options.out,
        recipe=describe_recipe(recipe, seconds),
        data=options.describe_data or options.data.name,
        quality={"validation_bits_per_dim": progress.bits},
    )
    return {
        "file": str(options.out),
        "sha256": sha256,
        "seconds": round(seconds),
        "validation_bits_per_dim": progress.bits,
    }


def train_gan(options: argparse.Namespace) -> Result:
    from invlib.training.gan import Recipe, train, trained_generator
    from invlib.training.run import describe_recipe

    recipe = Recipe(kind=options.kind, **optimisation(options))
    state_file = options.out.with_suffix(".state")
    for progress in train(recipe, options.data, state_file):
        if progress.step in (1, progress.steps) or progress.step % 20 == 0:
            say(
                f"step {progress.step}/{progress.steps}  generator {progress.generator_loss:.3f}  discriminator "
                f"{progress.discriminator_loss:.3f}  {progress.seconds:.0f} s{skipped_steps(progress.skipped)}"
            )
    net, seconds = trained_generator(state_file)
    sha256 = checkpoints.save(
        net,
        options.out,
        recipe=describe_recipe(recipe, seconds),
        data=options.describe_data or options.data.name,
        quality={},
    )
    return {"file": str(options.out), "sha256": sha256, "seconds": round(seconds)}


def optimisation(options: argparse.Namespace) -> dict[str, Any]:
    """The part of a recipe that `train flow` and `train gan` share."""
    names = ("steps", "batch", "learning_rate", "warmup", "ema", "seed")
    return {name: getattr(options, name) for name in names}


def skipped_steps(count: int) -> str:
    return f"  {count} skipped, not finite" if count else ""


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
    prior: Denoiser,
    operator: LinearOperator,
    measurements: Tensor,
    truth: Tensor | None,
    noise: float,
    options: argparse.Namespace,
) -> tuple[Restoration, Scores | None]:
    """Run the sampler that the options ask for, and score the result if the truth is known."""
    sampler = ascent.SAMPLERS[options.sampler]
    arguments = sampler_arguments(options, operator)
    settings = {"schedule": Schedule(**arguments)} if options.sampler == "fast" else arguments
    states = sampler(prior, operator, measurements, count=options.samples, seed=options.seed, noise=noise, **settings)
    result = ascent.collect(show_progress(states))
    antithetic = bool(arguments.get("antithetic"))
    scores = None if truth is None else score(result, operator, measurements, truth, antithetic=antithetic)
    return result, scores


def measurement_noise(
    prior: Denoiser, operator: LinearOperator, measurements: Tensor, options: argparse.Namespace
) -> float:
    """The standard deviation of the noise in the measurements: the given one, or an estimate."""
    if not options.estimate_noise:
        level: float = options.noise_level
        return level
    return ascent.estimate_noise(prior, operator, measurements, seed=options.seed)


Kinds = dict[str, type | tuple[type, ...]]
"""Names -> kinds of values, as `json_value` calls them."""

SCHEDULE: Kinds = {name: type(default) for name, default in asdict(Schedule()).items()}
ASCENT: Kinds = {"h0": float, "beta": float, "sigma_0": float, "sigma_L": float, "max_evaluations": int}
ASCENT_DEFAULTS = {name: signature(ascent.ascend).parameters[name].default for name in ASCENT}


def given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options of these names that were given."""
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def complete(options: argparse.Namespace, **values: Any) -> None:
    """Give these values to the options that were not given.

    They are no defaults of the parser, so that `replay` can tell what was given.
    """
    for name, value in values.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


NOISELESS = {"noise_level": 0.0, "estimate_noise": False}
"""What is known of the noise in the measurements, unless something is said."""


def complete_problem(options: argparse.Namespace) -> None:
    """The same for the options of a problem; the knobs of its task become `options.knobs`."""
    complete(options, sampler="fast", samples=1, seed=0, **NOISELESS)
    options.knobs = given_knobs(options)


def given_knobs(options: argparse.Namespace) -> dict[str, Any]:
    """The task's knobs; one of another task is refused rather than ignored."""
    task = TASKS[options.task]
    knobs = given(options, dict.fromkeys(knob for each in TASKS.values() for knob in each.knobs))
    for knob in knobs:
        if knob not in task.knobs:
            raise ValueError(
                f"{flag(knob)} does not belong to {options.task}, which has {', '.join(map(flag, task.knobs))}"
            )
    if "mask" in knobs:
        knobs["mask"] = images.load_image(knobs["mask"], channels=1)[0, 0] > 0.5
    if "kernel" in knobs:
        knobs["kernel"] = images.load_image(knobs["kernel"], channels=1, min_side=1)[0, 0]
    return task.complete(knobs)


def sampler_arguments(options: argparse.Namespace, operator: LinearOperator) -> dict[str, Any]:
    """All of the sampler's arguments; an option of the other sampler is refused rather than ignored."""
    names, others = (ASCENT, SCHEDULE) if options.sampler == "paper" else (SCHEDULE, ASCENT)
    for name in given(options, others):
        if name not in names:
            raise ValueError(f"{flag(name)} does not belong to the {options.sampler} sampler")
    ours = asdict(ascent.default_schedule(operator, options.samples))
    return {**(ASCENT_DEFAULTS if options.sampler == "paper" else ours), **given(options, names)}


def flag(name: str) -> str:
    """What an option is called on the command line."""
    return f"--{name.replace('_', '-')}"


def open_picture(options: argparse.Namespace) -> tuple[Tensor, Result]:
    """The picture to restore, and where it is from: a file or, of a run that is replayed, an example."""
    if options.image is not None:
        return images.load_image(options.image), {"picture": options.image.name}
    if options.side is None:
        raise ValueError(f"the run in {options.replay} is not of an example but of {options.picture}: name it as IMAGE")
    picture = examples.example(options.picture, side=options.side)
    return picture, {"picture": options.picture, "side": options.side}


def choose_prior(picture: Tensor, options: argparse.Namespace) -> tuple[str, Denoiser, Tensor]:
    """The name of the prior for a picture, the prior, and the picture in its colours."""
    name = options.prior or default_prior(picture.shape[1])
    prior = checkpoints.load(name)
    return name, prior, images.to_channels(picture, prior.channels)


Problem = tuple[LinearOperator, Tensor, Tensor | None]
"""An operator, what it measured, and the truth if it is known."""


def degrade(picture: Tensor, options: argparse.Namespace) -> Problem:
    """Measure a clean picture, whose sides are multiples of the factor if there is one; perhaps with noise."""
    level = options.noise_level
    if not 0 <= level <= 10:
        raise ValueError(f"--noise-level must be from 0 to 10, in units of the measurements, got {level}")
    operator = TASKS[options.task].operator(picture.shape[1:], **options.knobs)
    measurements = operator.measure(picture)
    noise = torch.randn(measurements.shape, generator=torch.Generator().manual_seed(options.seed))
    return operator, measurements + level * noise, picture


def from_measured_picture(picture: Tensor, options: argparse.Namespace) -> Problem:
    """Take a picture as what was measured."""
    channels, height, width = picture.shape[1:]
    if options.task == "compressive-sensing":
        raise ValueError(
            "--measured takes a picture, and compressive measurements are none: leave it out to simulate them"
        )
    if options.task == "random-pixels":
        raise ValueError("with --measured the missing pixels must be known: use --task inpainting --mask FILE")
    if options.task == "inpainting" and not options.knobs:
        raise ValueError(
            "with --measured say what is missing: --mask FILE (black there) or --box top,left,height,width"
        )
    side = block_side(options)
    operator = TASKS[options.task].operator((channels, height * side, width * side), **options.knobs)
    return operator, operator.from_view(picture), None


def block_side(options: argparse.Namespace) -> int:
    """The side of the block of pixels that are measured as one: the factor of super-resolution, else 1."""
    side: int = options.knobs.get("factor", 1)
    if side < 1:
        raise ValueError(f"--factor must be at least 1, got {side}")
    return side


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
    return write_pictures(pictures, folder)


def write_pictures(pictures: Mapping[str, Tensor], folder: Path) -> list[str]:
    """Write pictures by name, and return their files."""
    files = []
    for name, image in pictures.items():
        path = folder / f"{name}.png"
        images.save_image(image, path)
        files.append(str(path))
    return files


# Structured noise

SCRIBBLE = "scribble"
"""The task whose noise is a picture of strokes."""

NOISES = tuple(name for name in removal.TASKS if name != SCRIBBLE)
"""The tasks whose noise can be drawn at random."""

SETTINGS = {"beta": "smoothing", "gamma": "gamma", "lam": "lam", "steps": "steps"}
"""Options -> settings of methods."""

HISTORY = ("objective", "noise_log_prob", "signal_log_prob", "floor")
"""What the JSON of a run tells of every step."""

BLACK = 0.05
"""Darker pixels of a picture of strokes are black: a JPEG's black is not quite."""


def noise_task(options: argparse.Namespace) -> str:
    """The task that --noise names; ValueError if it is no task and no file."""
    if options.noise not in NOISES:
        if not Path(options.noise).is_file():
            raise ValueError(f"--noise must be {', '.join(NOISES)} or a picture of strokes, got {options.noise!r}")
        return SCRIBBLE
    return str(options.noise)


def given_noise_knobs(options: argparse.Namespace, task: str, names: Sequence[str]) -> dict[str, Any]:
    """The knobs of these names that were given; one of another task is refused rather than ignored."""
    knobs = given(options, names)
    for knob in knobs:
        if knob not in removal.TASKS[task].knobs:
            own = [flag(name) for name in names if name in removal.TASKS[task].knobs]
            raise ValueError(f"{flag(knob)} does not belong to {task}{', which has ' if own else ''}{', '.join(own)}")
    return knobs


def given_settings(options: argparse.Namespace, methods: Sequence[str]) -> dict[str, Any]:
    """The settings that were given; one that none of the methods has is refused rather than ignored."""
    known = {name for method in methods for name in removal.METHODS[method].settings}
    own = [flag(option) for option, name in SETTINGS.items() if name in known]
    options_given = given(options, SETTINGS)
    for option in options_given:
        if SETTINGS[option] not in known:
            raise ValueError(
                f"{flag(option)} does not belong to {', '.join(methods)}, which has {', '.join(own) or 'no settings'}"
            )
    return {SETTINGS[option]: value for option, value in options_given.items()}


def check_methods(methods: Sequence[str], task: str) -> None:
    """Raise ValueError for a method that is not for the task."""
    for method in methods:
        if method not in removal.TASKS[task].methods:
            raise ValueError(f"{method} is not for {task}: choose from {', '.join(removal.TASKS[task].methods)}")


def noisy_problem(
    task: str, knobs: Mapping[str, float], x: Tensor, options: argparse.Namespace
) -> tuple[removal.Problem, Tensor]:
    """A problem and its measurements: of a clean picture, or with --measured the picture itself."""
    if task == SCRIBBLE:
        opacity, colours = read_strokes(Path(options.noise), x.shape[-1])
        problem = removal.TASKS[task].build(x.shape[1:], strokes=opacity[0] > 0)
        return problem, x if options.measured else images.quantise((1 - opacity) * x + colours)
    if options.measured and task == "digits":
        raise ValueError("--measured does not go with digits, whose places would have to be known: leave it out")
    problem = build_problem(task, knobs, options.seed)
    if options.measured and problem.factor is None:
        raise ValueError(f"--measured takes a picture, and the measurements of {task} are none: leave it out")
    return problem, x if options.measured else problem.measure(x, options.seed)


def read_strokes(path: Path, side: int) -> tuple[Tensor, Tensor]:
    """How opaque the strokes of a drawing on black are, (1, 1, side, side), and their colours times that."""
    drawing = images.load_image(path, channels=3)
    pen = (drawing.amax(1, keepdim=True) > BLACK).float()
    if not pen.any():
        raise ValueError(f"{path} is black all over: draw strokes on it, in any colour but black")
    return images.centre_square(pen, side), images.centre_square(pen * drawing, side)


def score_removal(unrestored: Tensor, restored: Tensor, truth: Tensor) -> Result:
    """PSNR over all channels, before and after, and SSIM."""
    return {
        "input": {"psnr": round(float(psnr_all_channels(unrestored, truth)), 4)},
        "result": {
            "psnr": round(float(psnr_all_channels(restored, truth)), 4),
            "ssim": round(float(ssim(restored, truth)), 4),
        },
    }


# Runs to repeat

SAMPLING = "sampling"
"""The task of a run of `sample`."""


def replay(options: argparse.Namespace, read: Callable[[Result], Result]) -> None:
    """Take the options from the JSON of a run; those that were given are refused, as they would be ignored."""
    for name, value in vars(options).items():
        if name not in {"command", "replay", "image", "out", "json"} and value is not None:
            raise ValueError(f"{flag(name)} does not go with --replay, which takes everything from the run's JSON")
    try:
        run = json.loads(options.replay.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{options.replay} cannot be opened ({error.strerror}): name the JSON of a run") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{options.replay} is not JSON: name the JSON of a run") from error
    try:
        if not isinstance(run, dict):
            raise ValueError("it is not a JSON object")
        vars(options).update(read(run))
    except ValueError as error:
        raise ValueError(f"{options.replay} cannot be replayed: {error}") from error


def sampling_run(run: Result) -> Result:
    """The options of `sample` that a run amounts to."""
    if run.get("task") != SAMPLING:
        raise ValueError("it is no run of `sample`: use `restore --replay`")
    kinds: Kinds = {"prior": str, "image_shape": (int, int, int), "seed": int, **ASCENT, "interpolate": bool}
    return {
        **values(run, kinds, optional=("max_evaluations", "interpolate")),
        "count": json_value(run, "samples", int),
    }


def restoration_run(run: Result) -> Result:
    """The options of `restore` that a run amounts to."""
    if run.get("task") == SAMPLING:
        raise ValueError("it is a run of `sample`: use `sample --replay`")
    task, sampler = json_value(run, "task", str), json_value(run, "sampler", str)
    if sampler not in ascent.SAMPLERS:
        raise ValueError(f"{sampler!r} is not a sampler: it must be one of {', '.join(ascent.SAMPLERS)}")
    kinds: Kinds = {"picture": str, "side": int, "fingerprint": str, "prior": str, "samples": int, "seed": int}
    kinds |= {"noise_level": float, "estimate_noise": bool}
    arguments = ASCENT if sampler == "paper" else SCHEDULE
    if sampler == "fast":
        # Those of runs from before there was a choice.
        before = {"correlation": 0.0, "antithetic": False, "derivative": 0.0, "common": 1.0, "extrapolation": 0.0}
        run = {**before, **run}
        if isinstance(run["derivative"], bool):  # whether every step took it
            run["derivative"] = 0.0 if run["derivative"] else run.get("sigma_0", 1.0)
    return {
        "task": task,
        "knobs": decode_knobs(task, run),
        "measured": not json_value(run, "simulated", bool),
        "sampler": sampler,
        "side": None,
        **values(run, kinds | arguments, optional=("side", "max_evaluations", *NOISELESS)),
    }


def values(run: Result, kinds: Kinds, optional: Sequence[str]) -> Result:
    """The values of several keys of a JSON object; ValueError if one is missing that is not optional."""
    return {name: json_value(run, name, kind) for name, kind in kinds.items() if name in run or name not in optional}


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


def show_steps(iterates: Iterable[Iterate]) -> Iterator[Iterate]:
    """Say every second where a minimisation is."""
    said = time.monotonic()
    for iterate in iterates:
        if time.monotonic() - said > 1 or iterate.outcome:
            objective = float(iterate.objective.mean())
            say(f"step {iterate.step}  objective {objective:.1f}  {iterate.outcome or ''}".rstrip())
            said = time.monotonic()
        yield iterate


def show_count(about: str, steps: Iterable[Item]) -> Iterator[Item]:
    """Say every second how many steps of something are done."""
    said = time.monotonic()
    for number, step in enumerate(steps, start=1):
        if time.monotonic() - said > 1:
            say(f"{about}  step {number}")
            said = time.monotonic()
        yield step


def count_progress(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Say which of the items is being worked on."""
    total = total or len(items)  # type: ignore[arg-type]
    for number, item in enumerate(items, start=1):
        say(f"{what} {number} of {total}")
        yield item


def readable(result: Result, indent: str = "") -> str:
    """A JSON object for people: a key a line, objects indented; histories and encoded pictures are for programs."""
    lines = []
    for key, value in result.items():
        if key in {"history", "mask", "kernel"} or value == {}:
            continue
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", readable(value, indent + "  ")]
        elif key == "rows":
            lines += [f"{indent}{key}:", *(f"{indent}  {readable_row(row)}" for row in value)]
        elif isinstance(value, list) and key == "files":
            lines += [f"{indent}{key}:", *(f"{indent}  {item}" for item in value)]
        else:
            lines.append(f"{indent}{key}: {value}")
    return "\n".join(lines)


def readable_key(key: Result) -> str:
    """What a row of an experiment is of: its name, problem, method and the settings that vary."""
    settings = {name: key["settings"][name] for name in ("h0", "beta", "evaluations") if name in key["settings"]}
    crop = f"{key['crop']}×{key['crop']}" if key.get("crop") else None
    words = [key["experiment"], key.get("set"), crop, key.get("task"), pairs(key.get("knobs", {}))]
    return "  ".join(word for word in (*words, key.get("method", key["prior"]), pairs(settings)) if word)


def pairs(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name} {value}" for name, value in values.items())


def readable_row(row: Result) -> str:
    """A row of an experiment in a line."""
    if "ratios" in row:
        ratios = ", ".join(f"{name} {ratio:g}" for name, ratio in row["ratios"].items())
        return f"{readable_key(row)}  times the default's seconds: {ratios}  cold start {row['cold_start']} s"
    if "iterations" in row:
        done = [count for count in row["iterations"] if count is not None]
        return (
            f"{readable_key(row)}  {len(done)} of {row['samples']} converged, the last in {max(done, default=0)} steps"
        )
    if "psnr" in row:
        return f"{readable_key(row)}  images {row['images']}  PSNR in dB by σ: {pairs(row['psnr'])}"
    if "experiment" in row:
        scores = [f"{part} {row[part]['psnr']:.2f} dB" for part in ("result", "sample", "mean") if part in row]
        return f"{readable_key(row)}  images {row['images']}  {'  '.join(scores)}  {row['seconds']:.2f} s"
    chosen = " ".join(f"{name} {value:g}" for name, value in {**row["knobs"], **row["settings"]}.items())
    if "missing" in row:
        return f"{row['method']}  {chosen}  {row['missing']}"
    result = row["result"]
    return (
        f"{row['method']}  {chosen}  {row['input']['psnr']:.2f} -> {result['psnr']:.2f} ± {result['psnr_std']:.2f} dB  "
        f"SSIM {result['ssim']:.3f}  {row['seconds']:.2f} s"
    )


# The command line


class Parser(argparse.ArgumentParser):
    """Refuses arguments with one sentence, without the usage that scrolls it away."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m invlib",
        description="Image inverse problems, with the prior implicit in a denoiser or with normalizing flows.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = add(commands, "sample", sample, "draw pictures from a prior")
    command.add_argument("--prior", help="name, file, or hub:owner/repo/file@revision (default: bf-unet-color)")
    command.add_argument("--size", type=parse_size, help="side in pixels, or HEIGHTxWIDTH (default 128)")
    command.add_argument("--count", type=parse_count, help="how many (default 1)")
    command.add_argument(
        "--interpolate", action="store_true", default=None, help="go from the seed's first sample to its second"
    )
    add_ascent(command)
    add_replay(command)
    add_out(command)

    command = add(commands, "restore", restore, "degrade a picture and restore it, or restore a measured one")
    command.add_argument("image", type=Path, nargs="?", metavar="IMAGE")
    command.add_argument(
        "--measured",
        action="store_true",
        default=None,
        help="IMAGE is the measurement; there is nothing to score against",
    )
    command.add_argument("--task", choices=list(TASKS))
    add_problem(command)
    add_replay(command)
    add_out(command)

    command = add(commands, "remove-noise", remove_noise, "add structured noise to a picture and remove it")
    command.add_argument(
        "image",
        type=Path,
        metavar="IMAGE",
        help="its middle square is resized to 64×64, in colour; for one-bit to 28×28, in grey",
    )
    command.add_argument(
        "--noise",
        required=True,
        metavar="NOISE",
        help=f"{', '.join(NOISES)}, or a picture of strokes, black where there are none",
    )
    command.add_argument(
        "--method",
        choices=list(removal.METHODS),
        default="map",
        help="default: map; bm3d needs its package",
    )
    command.add_argument(
        "--measured",
        action="store_true",
        help="IMAGE has the noise or the strokes already; there is nothing to score against",
    )
    command.add_argument("--c", type=parse_rate, help="the largest standard deviation of the noise (default 0.1)")
    command.add_argument("--count", type=parse_count, help="how many digits, or measurements (default: the task's)")
    add_settings(command, parse_weight, parse_count)
    command.add_argument("--seed", type=parse_seed, default=0, help="of the noise (default 0)")
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
    command.add_argument(
        "--uniform",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the noise levels, uniform on [0, 1]; the others are log-uniform (default 0.5)",
    )
    command.add_argument(
        "--blocks", type=int, nargs="+", help="BFUNet: residual blocks at each scale, finest first (default 2 2 2)"
    )
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

    command = add(trainings, "flow", train_flow, "train a normalizing flow; run again to go on after a stop")
    add_images(command)
    command.add_argument("--logit", action="store_true", help="for digits as signals, which are black or white")
    command.add_argument(
        "--dequantisation",
        choices=["uniform", "normal"],
        default="uniform",
        help="noise that fills the bins of quantised pictures; normal suits digits (default uniform)",
    )
    command.add_argument(
        "--noise", type=float, default=0.0, help="standard deviation of white noise added to the pictures (default 0)"
    )
    command.add_argument("--blocks", type=int, default=2, help="residual blocks of a coupling network (default 2)")
    command.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    add_optimisation(command, learning_rate=1e-3, ema=0.999)
    command = add(trainings, "gan", train_gan, "train a generator; run again to go on after a stop")
    add_images(command)
    add_optimisation(command, learning_rate=4e-4, ema=0.998)

    benches = add_group(commands, "bench", "measure")
    command = add(benches, "denoising", bench_denoising, "PSNR against noise level")
    command.add_argument("--prior", required=True)
    command.add_argument("--data", type=Path, required=True, help="folder of pictures")
    command.add_argument("--seed", type=int, default=0)
    command = add(benches, "restoration", bench_restoration, "scores of a task, averaged over a folder")
    command.add_argument("--data", type=Path, required=True, help="folder of pictures")
    command.add_argument("--task", choices=list(TASKS), required=True)
    add_problem(command)

    command = add(
        benches,
        "structured-noise",
        bench_structured_noise,
        "compare methods on the pictures of a folder: PSNR over all channels, SSIM, seconds for each picture",
    )
    command.add_argument("--task", choices=NOISES, required=True)
    command.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of pictures; for one-bit, of MNIST's idx files (the test split)",
    )
    command.add_argument("--count", type=parse_count, default=20, help="how many pictures, in name order (default 20)")
    command.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        metavar="NAME,...",
        help=f"of {', '.join(removal.METHODS)} (default: the task's)",
    )
    command.add_argument(
        "--c", type=parse_list(parse_rate), metavar="C,...", help="the largest standard deviation of the noise"
    )
    add_settings(command, parse_list(parse_weight), parse_list(parse_count))
    command.add_argument("--sweep", action="store_true", help="a row for each value of the rate or count of the noise")
    command.add_argument("--batch", type=parse_count, default=5, help="pictures at once (default 5)")
    command.add_argument("--seed", type=parse_seed, default=0, help="of the noise (default 0)")

    for name in EXPERIMENTS:
        add_experiment(benches, name)

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


EXPERIMENT_OPTIONS = ("data", "prior", "samples", "images", "baseline_images", "methods")
"""Options of an experiment that are those of `Options`."""

ABOUT = {
    "denoisers": "PSNR of the shipped denoisers against the noise level",
    "figure1": "noise level against its prediction, and the steps that samples take to converge",
    "convergence": "PSNR against samples averaged, evaluations and seconds",
    "robustness": "PSNR of the paper's sampler over h0 and beta",
    "speed": "the paper's procedure against the default, at super-resolution 4:1 of one picture",
}


def add_experiment(benches: Commands, name: str) -> None:
    """A table or figure of the first paper. `--data` may be given to all, so that one command line does for all."""
    about = ABOUT.get(name, f"table {name[-1]} of Kadkhodaie & Simoncelli (2021), with other methods")
    command = add(benches, name, bench_experiment, f"{about}; run again to go on after a stop")
    command.set_defaults(experiment=name)
    needless = name == "figure1"
    command.add_argument(
        "--data",
        type=Path,
        required=not needless,
        help="not needed: it samples the prior alone" if needless else "folder that holds set5, set12, set14 or set68",
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path(f"{name}.jsonl"),
        metavar="FILE",
        help="JSON lines; rows that are there are not run again (default: %(default)s)",
    )
    command.add_argument("--prior", help="name, file, or hub:owner/repo/file@revision (default: that of the pictures)")
    if name != "speed":
        command.add_argument("--samples", type=parse_count, help="for each picture (default: the experiment's)")
    if name not in ("figure1", "speed"):
        command.add_argument("--images", type=parse_count, help="at most so many of each set, picked at random")
    if name in TABLES:
        command.add_argument("--baseline-images", type=parse_count, help="the same for dip and deepred (default 2)")
        command.add_argument(
            "--methods",
            type=lambda text: text.split(","),
            metavar="NAME,...",
            help=f"of {', '.join(METHODS)} (default: all; bm3d where its package is installed)",
        )


def add_images(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER_OR_ZIP",
        help="aligned pictures of CelebA, or the folder of MNIST's idx files",
    )
    command.add_argument("--kind", choices=("faces", "mnist"), required=True, help="64×64 colour, or 28×28 grey")
    command.add_argument(
        "--out", type=Path, required=True, help="checkpoint to write; FILE.state beside it resumes the run"
    )
    command.add_argument("--describe-data", metavar="TEXT", help="what the data are (default: the folder's name)")


def add_optimisation(command: argparse.ArgumentParser, learning_rate: float, ema: float) -> None:
    command.add_argument("--steps", type=parse_count, required=True)
    command.add_argument("--batch", type=parse_count, default=32, help="images per step (default 32)")
    command.add_argument("--learning-rate", type=float, default=learning_rate)
    command.add_argument("--warmup", type=parse_count, default=200, help="steps in which the learning rate rises")
    command.add_argument("--ema", type=float, default=ema, help="decay of the average of the weights")
    command.add_argument("--seed", type=int, default=0)


def add_problem(command: argparse.ArgumentParser) -> None:
    command.add_argument("--factor", type=int, help="super-resolution: side of the blocks (default 4)")
    command.add_argument(
        "--keep", type=float, help="fraction of coefficients, pixels or measurements kept (default 0.1)"
    )
    command.add_argument("--box", type=parse_box, metavar="TOP,LEFT,HEIGHT,WIDTH", help="inpainting: the missing block")
    command.add_argument("--mask", type=Path, help="inpainting: a picture, black where pixels are missing")
    command.add_argument("--gaussian", type=float, metavar="SIGMA", help="deblurring: a Gaussian blur, in pixels")
    command.add_argument(
        "--motion",
        type=parse_motion,
        metavar="LENGTH,ANGLE",
        help="deblurring: a straight motion, in pixels and in degrees from the horizontal",
    )
    command.add_argument("--kernel", type=Path, help="deblurring: a picture of the blur kernel")
    command.add_argument(
        "--dense", action="store_true", default=None, help="compressive-sensing: Gaussian vectors; small pictures only"
    )
    command.add_argument(
        "--noise-level",
        type=float,
        metavar="SIGMA",
        help="standard deviation of white noise in the measurements, in their units (default 0)",
    )
    command.add_argument(
        "--estimate-noise", action="store_true", default=None, help="estimate the noise level instead of knowing it"
    )
    command.add_argument(
        "--prior", help="name, file, or hub:owner/repo/file@revision (default: the best for the picture)"
    )
    command.add_argument("--samples", type=parse_count, help="how many answers to draw (default 1)")
    command.add_argument("--sampler", choices=list(ascent.SAMPLERS), help="default: fast")
    command.add_argument("--evaluations", type=int, help="fast: of the denoiser (default: the task's)")
    command.add_argument(
        "--derivative",
        type=float,
        help="fast: level of noise above which a step corrects also what was not measured, for a second evaluation "
        "(default: the task's)",
    )
    command.add_argument("--rho", type=float, help="fast: σ^(1/rho) falls linearly")
    command.add_argument(
        "--correlation",
        type=float,
        help="fast: of a step's noise with that before it, 0 to .5, which spreads samples (default: the task's)",
    )
    command.add_argument(
        "--extrapolation",
        type=float,
        help="fast: part of an estimate's last change that is added to it, 0 to 1 (default: the task's)",
    )
    command.add_argument(
        "--common",
        type=float,
        help="fast: level of noise above which all samples share their steps (default: the task's)",
    )
    command.add_argument(
        "--antithetic",
        action=argparse.BooleanOptionalAction,
        help="fast: pairs of samples with opposite noise, so that their average needs fewer (default: yes)",
    )
    add_ascent(command)


def add_settings(command: argparse.ArgumentParser, weight: Callable[[str], Any], count: Callable[[str], Any]) -> None:
    """Settings of the methods against structured noise; their defaults belong to the method and the task."""
    command.add_argument("--beta", type=weight, help="map, map-z: trust in the prior")
    command.add_argument("--gamma", type=weight, help="asim: weight of ‖z‖")
    command.add_argument("--lam", type=weight, help="bora: weight of ‖z‖²; lasso: weight of the sparsity")
    command.add_argument("--steps", type=count, help="of the descent, one evaluation of the prior each")


def add_ascent(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, help="another one gives other answers (default 0)")
    command.add_argument("--sigma-0", type=float, help="noise level of the start (default 1)")
    command.add_argument("--sigma-L", type=float, help="noise level of the end (default 0.01)")
    command.add_argument("--h0", type=float, help="paper: first step size (default 0.01)")
    command.add_argument(
        "--beta", type=float, help="paper: 1 injects no noise, less injects more (default 0.01; `sample`: by prior)"
    )
    command.add_argument("--max-evaluations", type=int, help="paper: give up after so many")


def add_replay(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--replay", type=Path, metavar="JSON", help="repeat the run that a page or --json described in this file"
    )


def add_out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures (default: out)")


def parse_count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("expected a whole number of at least 1")
    return int(text)


def parse_seed(text: str) -> int:
    if not 0 <= int(text) < 2**63:
        raise argparse.ArgumentTypeError("expected a whole number of at least 0")
    return int(text)


def parse_rate(text: str) -> float:
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError("expected a number above 0 and at most 1, the range of a picture")
    return float(text)


def parse_weight(text: str) -> float:
    if not 0 <= float(text) < math.inf:
        raise argparse.ArgumentTypeError("expected a number of at least 0")
    return float(text)


def parse_list(parse: Callable[[str], Item]) -> Callable[[str], list[Item]]:
    """A parser of several values, with commas between them."""

    def numbers(text: str) -> list[Item]:
        return [parse(part) for part in text.split(",")]

    return numbers


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


def parse_motion(text: str) -> tuple[float, float]:
    numbers = [float(number) for number in text.split(",")]
    if len(numbers) != 2:
        raise argparse.ArgumentTypeError("expected LENGTH,ANGLE in pixels and degrees")
    length, angle = numbers
    return length, angle
