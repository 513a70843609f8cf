"""Flags: those that are made from knobs, those that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from invlib import images, runs
from invlib.checks import SEEDS, check_seed
from invlib.cli.talk import say, tell
from invlib.images import Picture
from invlib.priors.denoisers import Denoiser
from invlib.problems.spec import KERNEL, MASK, Knob, Problem, flag
from invlib.runs import Settings
from invlib.solvers.methods import load_prior

Item = TypeVar("Item")
Commands = Any
"""The object that `add_subparsers` returns; its type is private to argparse."""


class Parser(argparse.ArgumentParser):
    """Refuses arguments with one sentence, without the usage that scrolls it away."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")

    def print_help(self, file: Any = None) -> None:
        tell(self.format_help().rstrip())


def add(commands: Commands, name: str, run: Callable[[argparse.Namespace], Any], about: str) -> Parser:
    """A command, with the flag that all have."""
    command: Parser = commands.add_parser(name, help=about, description=about)
    command.set_defaults(command=run)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    return command


def add_group(commands: Commands, name: str, about: str) -> Commands:
    """A command that has commands."""
    return commands.add_parser(name, help=about, description=about).add_subparsers(required=True, metavar="COMMAND")


# Flags from knobs


def add_knobs(command: Parser, owners: Mapping[str, Iterable[Knob]], *, lists: bool = False) -> None:
    """A flag for each knob, named once however many have it.

    Parameters
    ----------
    command : to which they are added.
    owners : the name of a task or a method -> its knobs.
    lists : whether several values may be given, with commas between them.
    """
    found: dict[str, list[tuple[str, Knob]]] = {}
    for owner, knobs in owners.items():
        for knob in knobs:
            if flag(knob.name) not in command._option_string_actions:
                found.setdefault(knob.name, []).append((owner, knob))
    for pairs in found.values():
        first = pairs[0][1]
        abouts = dict.fromkeys(knob.about for _, knob in pairs if knob.about)
        words = [f"{', '.join(owner for owner, knob in pairs if knob.about == about)}: {about}" for about in abouts]
        text = " ".join(words or [", ".join(owner for owner, _ in pairs)]).replace("%", "%%")
        if first.kind is bool:
            action = argparse.BooleanOptionalAction
            command.add_argument(*first.flags, dest=first.name, action=action, default=None, help=text)
        else:
            parse = parse_list(parser_of(first)) if lists else parser_of(first)
            metavar = f"{first.name.upper()},..." if lists else first.metavar
            command.add_argument(*first.flags, dest=first.name, type=parse, metavar=metavar, help=text)


def parser_of(knob: Knob) -> Callable[[str], Any]:
    """How the value of a knob is read: a number in its range, several with commas between, or the path of a picture."""

    def several(text: str) -> tuple[Any, ...]:
        assert isinstance(knob.kind, tuple)
        try:
            return tuple(kind(part) for kind, part in zip(knob.kind, text.split(","), strict=True))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"expected {knob.metavar}, got {text!r}") from error

    def number(text: str) -> Any:
        assert isinstance(knob.kind, type)
        value = knob.kind(text)
        if knob.bounded and not knob.admits(value):
            raise argparse.ArgumentTypeError(f"expected {knob.expected}")
        return value

    if isinstance(knob.kind, str):
        return Path
    return several if isinstance(knob.kind, tuple) else number


def given(options: argparse.Namespace, knobs: Iterable[Knob]) -> dict[str, Any]:
    """The values of the knobs whose flags were given, pictures read from their files."""
    names = {knob.name: knob for knob in knobs}
    values = {name: getattr(options, name, None) for name in names}
    return {name: read_picture(names[name], value) for name, value in values.items() if value is not None}


def read_picture(knob: Knob, value: Any) -> Any:
    """The picture of a knob that takes one; any other value as it is."""
    if knob.kind == MASK:
        return images.load_mask(value)
    if knob.kind == KERNEL:
        return images.load_image(value, channels=1, min_side=1, ground=0.0)[0, 0]
    return value


def load_picture(path: Path) -> Picture:
    """A picture from a file; what was assumed of the file is said."""
    picture = images.load_picture(path)
    if picture.note:
        say(picture.note)
    return picture


def every(owners: Mapping[str, Iterable[Knob]]) -> list[Knob]:
    """The knobs of several tasks or methods, each name once."""
    return list({knob.name: knob for knobs in owners.values() for knob in knobs}.values())


# Flags that several commands have


def add_out(command: Parser) -> None:
    command.add_argument("--out", type=Path, default=Path("out"), help="folder for the pictures (default: out)")


def add_replay(command: Parser) -> None:
    command.add_argument(
        "--replay", type=Path, metavar="JSON", help="repeat the run that a page or --json described in this file"
    )


def add_sampling(command: Parser, many: str) -> None:
    """How many samples, under a name that the command chooses, and their seed."""
    command.add_argument(f"--{many}", type=parse_count, help="how many answers to draw (default 1)")
    command.add_argument("--seed", type=parse_seed, help="another seed gives other answers (default 0)")


def read_run(options: argparse.Namespace, command: str) -> Any:
    """The JSON of the run to replay. Flags that were given besides are refused, as they would be ignored.

    Raises
    ------
    ValueError : another flag was given, the file cannot be read, or it holds no run of the command.
    """
    for name, value in vars(options).items():
        if name not in {"command", "replay", "image", "out", "json", "bits"} and value is not None:
            raise ValueError(f"{flag(name)} does not go with --replay, which takes everything from the run's JSON")
    try:
        run = json.loads(options.replay.read_bytes())  # UTF-8, 16 or 32, with or without a byte-order mark
    except OSError as error:
        raise ValueError(f"{options.replay} cannot be opened ({error.strerror}): name the JSON of a run") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{options.replay} is not JSON: name the JSON of a run") from error
    with replaying(options.replay):
        its = runs.command_of(run)
        if its != command:
            raise ValueError(f"it is a run of `{its}`: use `{its} --replay`")
    return run


@contextmanager
def replaying(path: Path) -> Iterator[None]:
    """Name the file in the sentence of an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path} cannot be replayed: {error}") from error


def in_colours_of(prior: str, picture: Picture) -> Picture:
    """A picture with as many channels as a denoiser is for."""
    denoiser = load_prior(prior, Denoiser)
    if denoiser.takes(picture.image.shape[1]):
        return picture
    return replace(picture, image=images.to_channels(picture.image, denoiser.channels))


def problem_of(
    options: argparse.Namespace, command: str, pose: Callable[[argparse.Namespace, Picture], tuple[Problem, Settings]]
) -> tuple[Picture | None, Problem, Settings]:
    """The picture that the options name, the problem that they pose with it, or that of a run, and how to solve it.

    Raises
    ------
    ValueError : there is no picture, or as in `read_run` and `runs.read`.
    """
    picture = None
    if options.image is not None:
        picture = load_picture(options.image)
    if options.replay is not None:
        record = read_run(options, command)
        with replaying(options.replay):
            return picture, *runs.read(record, picture)
    if picture is None:
        raise ValueError("IMAGE is required: name a picture, or a run's JSON with --replay")
    return picture, *pose(options, picture)


# Values


def parse_count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("expected a whole number of at least 1")
    return int(text)


def parse_seed(text: str) -> int:
    try:
        return check_seed(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0 and at most {SEEDS - 1}") from error


def parse_list(parse: Callable[[str], Item]) -> Callable[[str], list[Item]]:
    """A parser of several values, with commas between them."""

    def numbers(text: str) -> list[Item]:
        return [parse(part) for part in text.split(",")]

    return numbers
