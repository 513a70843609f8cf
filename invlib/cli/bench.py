"""`invlib bench`: measure, over folders of pictures, and the papers' tables and figures."""

from __future__ import annotations

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from invlib import engines, images, runs, scores
from invlib.cli import remove_noise, restore
from invlib.cli.options import Commands, add, add_group, add_knobs, every, given, load_picture, parse_count, parse_seed
from invlib.cli.talk import (
    Item,
    Result,
    check_out,
    count_progress,
    every_second,
    readable_key,
    readable_row,
    say,
    show_count,
    watch,
)
from invlib.examples import SUBJECTS, subject
from invlib.experiments import rows as results
from invlib.experiments.denoising import average, denoising
from invlib.experiments.figures import EXPERIMENTS
from invlib.experiments.rows import Cell, Options, Row, Step, Watch
from invlib.experiments.structured_noise import load_truths, structured_noise
from invlib.experiments.tables import TABLES
from invlib.priors import checkpoints
from invlib.problems import linear, structured
from invlib.problems.spec import flag
from invlib.solvers.inversion import Iterate
from invlib.solvers.methods import METHODS, suiting


def add_to(commands: Commands) -> None:
    benches = add_group(commands, "bench", "measure")
    command = add(benches, "denoising", bench_denoising, "PSNR against noise level")
    command.add_argument("--prior", required=True)
    command.add_argument("--data", type=Path, required=True, help="folder of pictures")
    command.add_argument("--seed", type=parse_seed, default=0)
    command = add(benches, "restoration", bench_restoration, "scores of a task, averaged over a folder")
    command.add_argument("--data", type=Path, required=True, help="folder of pictures")
    command.add_argument("--task", choices=list(linear.TASKS), required=True)
    restore.add_problem(command)

    command = add(
        benches,
        "structured-noise",
        bench_structured_noise,
        "compare methods on the pictures of a folder: PSNR over all channels, SSIM, seconds for each picture",
    )
    command.add_argument("--task", choices=list(structured.TASKS), required=True)
    source = command.add_mutually_exclusive_group(required=True)
    about = "folder of pictures; for one-bit, of MNIST's idx files (the test split)"
    source.add_argument("--data", type=Path, help=about)
    source.add_argument(
        "--examples",
        type=lambda text: text.split(","),
        metavar="NAME,...",
        help=f"pictures that come with the library: of {', '.join(SUBJECTS[structured.FACES])}, or digit-1 and so on",
    )
    command.add_argument("--count", type=parse_count, default=20, help="how many pictures, in name order (default 20)")
    command.add_argument(
        "--methods",
        type=lambda text: text.split(","),
        metavar="NAME,...",
        help=f"of {', '.join(METHODS['remove-noise'])} (default: the task's)",
    )
    # The count of noise is swept, not given: --count is that of the pictures.
    add_knobs(command, remove_noise.knobs_of_tasks(), lists=True)
    add_knobs(command, remove_noise.knobs_of_methods(), lists=True)
    command.add_argument("--sweep", action="store_true", help="a row for each value of the rate or count of the noise")
    command.add_argument("--whole", action="store_true", help="keep the size of the pictures, instead of 64×64")
    command.add_argument("--samples", type=parse_count, default=8, help="of methods that draw them (default 8)")
    command.add_argument("--batch", type=parse_count, default=5, help="pictures at once (default 5)")
    command.add_argument("--seed", type=parse_seed, default=0, help="of the noise (default 0)")
    command.add_argument("--prior", help="of all methods that have one, for instance vae-mnist (default: the shipped)")
    kept = "JSON lines to which the rows are added; rows that are there are not run again"
    command.add_argument("--out", type=Path, metavar="FILE", help=kept)

    for name in EXPERIMENTS:
        add_experiment(benches, name)


def bench_restoration(options: argparse.Namespace) -> Result:
    paths = images.list_images(options.data)
    done: list[runs.Run] = []
    failed: dict[Path, Exception] = {}
    for path in count_progress(paths, "picture", len(paths)):
        try:
            problem, settings = restore.pose(options, load_picture(path))
            done.append(watch(runs.solve(problem, settings)))
        except (ValueError, MemoryError) as error:
            failed[path] = error
    if not done:
        raise min(failed.values(), key=lambda error: isinstance(error, images.ImageError))  # a bad setting first
    left_out = [f"{path.name} is left out: {error}" for path, error in failed.items()]
    for sentence in left_out:
        say(sentence)
    found = [run.scores for run in done if run.scores is not None]
    draws = METHODS["restore"][settings.method].draws
    return {
        "task": options.task,
        **settings.parameters,
        "noise_level": options.noise_level or 0.0,
        "estimate_noise": bool(options.estimate_noise),
        "images": len(done),
        "left_out": left_out,
        "evaluations": sum(run.parameters["evaluations"] for run in done) / len(done),
        "seconds": round(sum(run.parameters["seconds"] for run in done) / len(done), 4),
        **(scores.summarise(found) if draws else scores.summarise_estimate(found)),
    }


def bench_denoising(options: argparse.Namespace) -> Result:
    prior = checkpoints.load(options.prior)
    paths, left_out = results.readable_images(options.data)
    for sentence in left_out:
        say(sentence)
    rows = list(count_progress(denoising(prior, options.data, seed=options.seed), "picture", len(paths)))
    return {"prior": options.prior, "images": len(rows), "left_out": left_out, "psnr": average(rows)}


def bench_structured_noise(options: argparse.Namespace) -> Result:
    task = structured.TASKS[options.task]
    suitable = suiting("remove-noise", options.task)
    methods = options.methods or list(suitable)
    for method in methods:
        if method not in suitable:
            raise ValueError(f"{method} is not for {options.task}: choose from {', '.join(suitable)}")
    settings = given(options, every(remove_noise.knobs_of_methods()))
    # A setting that none of them has is refused.
    union = replace(suitable[methods[0]], knobs=tuple(every({name: suitable[name].knobs for name in methods})))
    union.complete(options.task, 1, {name: values[0] for name, values in settings.items()}, ", ".join(methods))
    knobs: dict[str, Sequence[float]] = {"c": options.c} if options.c else {}
    if options.sweep and task.swept is not None:
        name, values = task.swept
        if name in knobs:
            raise ValueError(f"{flag(name)} and --sweep exclude one another for {options.task}: give one of them")
        knobs[name] = values
    task.complete({name: values[0] for name, values in knobs.items()}, options.task)
    truths: torch.Tensor | list[torch.Tensor]
    if options.examples is not None:
        names, left_out = options.examples, []
        truths = torch.cat([subject(task.pictures, name).image for name in names])
    else:
        digits = task.pictures == structured.DIGITS  # in a single file
        left_out = [] if digits else results.readable_images(options.data, options.count)[1]
        names, truths = load_truths(options.task, options.data, options.count, whole=options.whole)
    about: dict[str, object] = {}
    if options.out is not None:
        check_out(options.out)
        missing = [method for method in methods if not suitable[method].installed]
        left_out += [f"the package of {method} is not installed, so its rows are left out" for method in missing]
        methods = [method for method in methods if method not in missing]
        pictures = "examples" if options.data is None else options.data.resolve().name
        about = {"experiment": "structured-noise", "set": pictures, "pictures": names}
    for sentence in left_out:
        say(sentence)
    cells = structured_noise(
        options.task,
        truths,
        methods,
        knobs=(dict(zip(knobs, point, strict=True)) for point in itertools.product(*knobs.values())),
        settings=settings,
        prior=options.prior,
        seed=options.seed,
        batch=options.batch,
        samples=options.samples,
        about=about,
    )
    rows: dict[int, Result] = {}
    for number, row in measure_cells(cells, options.out, show_steps):
        rows[number] = row
        say(readable_row(row))
    return {
        "task": options.task,
        "images": len(truths),
        "left_out": left_out,
        "seed": options.seed,
        "rows": in_order(rows),
    }


def bench_experiment(options: argparse.Namespace) -> Result:
    chosen = {name: value for name, value in vars(options).items() if name in EXPERIMENT_OPTIONS and value is not None}
    plan = EXPERIMENTS[options.experiment](Options(**chosen))
    for sentence in plan.left_out:
        say(sentence)
    check_out(options.out)

    def said(cells: Iterable[Cell]) -> Iterator[Cell]:
        for number, cell in enumerate(cells, start=1):
            say(f"row {number} of {len(plan.cells)}: {readable_key(cell.key)}")
            yield cell

    rows: dict[int, Result] = {}
    done = {"experiment": options.experiment, "file": str(options.out), "left_out": plan.left_out}
    try:
        for number, row in measure_cells(said(plan.cells), options.out, show_count, timed=plan.timed):
            rows[number] = row
            say(readable_row(row))
    except results.NotKept as error:
        return {**done, "rows": [*in_order(rows), error.row], "error": str(error)}
    return {**done, "rows": in_order(rows)}


def measure_cells(
    cells: Iterable[Cell], out: Path | None, watch: Watch, *, timed: bool = False
) -> Iterator[tuple[int, Row]]:
    """Measure cells where the environment says, and give their numbers and rows as they come.

    Parameters
    ----------
    cells : each is taken when it is its turn.
    out : the file that keeps the rows; None for none.
    watch : of what is measured in this process. Elsewhere, every second is said at which step a cell is.
    timed : see `rows.Plan`. Such cells are measured in this process, one after another.
    """
    if not timed and not isinstance(engine := engines.engine(), engines.Here):
        yield from results.spread(cells, out, engine, say_every_second())
        return
    for number, cell in enumerate(cells, start=1):
        if out is None:
            yield number, results.bare_row(cell, watch)
        else:
            yield from ((number, row) for row in results.run([cell], out, watch))


def say_every_second() -> Callable[[int, Step], None]:
    """Make a function that says, every second for each cell, at which step it is."""
    said: dict[int, float] = defaultdict(time.monotonic)

    def tell(number: int, step: Step) -> None:
        if time.monotonic() - said[number] > 1 and step.number:
            said[number] = time.monotonic()
            say(f"row {number}: {step.about}  step {step.number}")

    return tell


def in_order(rows: Mapping[int, Row]) -> list[Row]:
    """Rows by their numbers."""
    return [rows[number] for number in sorted(rows)]


EXPERIMENT_OPTIONS = ("data", "prior", "samples", "images", "baseline_images", "methods", "training")
"""Options of an experiment that are those of `Options`."""

ABOUT = {
    "denoisers": "PSNR of the shipped denoisers against the noise level",
    "figure1": "noise level against its prediction, and the steps that samples take to converge",
    "convergence": "PSNR against samples averaged, evaluations and seconds",
    "robustness": "PSNR of the paper's sampler over h0 and beta",
    "calibration": "how honest the spread of samples is, and by how much to widen it so that a band covers nine tenths",
    "memorisation": "how near to their training faces the samples of priors are, beside faces that were held out",
    "speed": "the paper's procedure against the default, at super-resolution 4:1 of one picture",
}


def add_experiment(benches: Commands, name: str) -> None:
    """A table or figure of the first paper. `--data` may be given to all, so that one command line does for all."""
    about = ABOUT.get(name, f"table {name[-1]} of Kadkhodaie & Simoncelli (2021), with other methods")
    command = add(benches, name, bench_experiment, f"{about}; run again to go on after a stop")
    command.set_defaults(experiment=name)
    needless = {
        "figure1": "not needed: it samples the prior alone",
        "memorisation": "not needed: the faces that were held out are used",
    }
    command.add_argument(
        "--data",
        type=Path,
        required=name not in needless,
        help=needless.get(name, "folder that holds set5, set68 and so on"),
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
    if name not in ("figure1", "memorisation", "speed"):
        command.add_argument("--images", type=parse_count, help="at most so many of each set, picked at random")
    if name in ("calibration", "memorisation"):
        command.add_argument(
            "--data-training",
            type=Path,
            required=True,
            dest="training",
            metavar="PATH",
            help="what the prior was trained on, as `train --data` took it: the pictures that it held out are used",
        )
    if name in TABLES:
        command.add_argument("--baseline-images", type=parse_count, help="the same for dip and deepred (default 2)")
        command.add_argument(
            "--methods",
            type=lambda text: text.split(","),
            metavar="NAME,...",
            help=f"of {', '.join(METHODS['restore'])} (default: all; bm3d where its package is installed)",
        )


def show_steps(about: str, steps: Iterable[Item]) -> Iterator[Item]:
    """Say every second where a minimisation is, and how it ended."""
    for iterate, due in every_second(steps):
        assert isinstance(iterate, Iterate)
        if due or iterate.outcome:
            objective = float(iterate.objective.mean())
            say(f"{about}  step {iterate.step}  objective {objective:.1f}  {iterate.outcome or ''}".rstrip())
        yield iterate
