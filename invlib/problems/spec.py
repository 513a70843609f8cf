"""What every problem has: `Knob`, what a person may set; `Task`, a kind of problem; `Problem`, one of a kind.

Command-line flags, sliders on pages, the address of a page, the keys of a run's JSON and the help texts are all made
from knobs, so that a new one is written in one place.
"""

from __future__ import annotations

import json
import math
import reprlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from invlib import images
from invlib.checks import check_seed
from invlib.images import Picture

ImageShape = Sequence[int]
"""(channels, height, width)."""

MASK, KERNEL, DRAWING = "mask", "kernel", "drawing"
"""Kinds of pictures: (H, W) bool, True where kept; (H, W), a blur; (4, H, W), strokes in red, green, blue and alpha."""

LONGEST_NAME = 500
"""How many characters the name of something may have in JSON, so that messages can say it."""

Kind = type | tuple[type, ...] | str
"""The kind of a value: int, float, bool or str; a tuple of one of them for as many values; a kind of picture."""


@dataclass(frozen=True)
class Knob:
    """Something that a person may set.

    Attributes
    ----------
    name : the keyword argument that it becomes, the key in JSON and, with hyphens, the command-line flag.
    kind : of its value, see `Kind`.
    about : what it does, in a sentence or two.
    label : its name on a page; `name` if empty.
    default : the value where none is given; None where something else decides.
    values : what a page's slider offers. Any other value of the kind is accepted elsewhere.
    unit : how a page writes the values: "" plainly, "%" in per cent, "pixels", ...
    advanced : whether a page folds it away.
    shown : whether a page offers it at all.
    alias : its name on the command line and in the address, where `name` is another.
    above, least, most : the range of a number, of which `above` is not part.
    metavar : what the command line's help calls the value.

    Examples
    --------
    >>> factor = Knob("factor", int, "How many times wider and higher the result is.", default=4)
    >>> factor.flag, factor.check(8)
    ('--factor', 8)
    >>> factor.check("eight")
    Traceback (most recent call last):
        ...
    ValueError: "factor" must be a whole number, got 'eight'
    """

    name: str
    kind: Kind
    about: str
    label: str = ""
    default: Any = None
    values: Sequence[Any] = ()
    unit: str = ""
    advanced: bool = False
    shown: bool = True
    alias: str = ""
    above: float = -math.inf
    least: float = -math.inf
    most: float = math.inf
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """What it is called on the command line."""
        return flag(self.alias or self.name)

    @property
    def flags(self) -> list[str]:
        """Every name that the command line knows it by, the usual one first."""
        return list(dict.fromkeys([self.flag, flag(self.name)]))

    @property
    def key(self) -> str:
        """What the address of a page calls it."""
        return self.alias or self.name

    @property
    def expected(self) -> str:
        """What values it takes, in words: a whole number of at least 1."""
        words = [f"above {self.above:g}"] if math.isfinite(self.above) else []
        words += [f"of at least {self.least:g}"] if math.isfinite(self.least) else []
        words += [f"at most {self.most:g}"] if math.isfinite(self.most) else []
        return " ".join([describe(self.kind), " and ".join(words)]).strip()

    def check(self, value: Any) -> Any:
        """The value, as one of this knob's kind.

        Raises
        ------
        ValueError : the value is of another kind, or out of range.
        """
        value = check_kind(value, self.name, self.kind)
        if self.kind in (int, float) and self.bounded and not self.admits(value):
            raise ValueError(f'"{self.name}" must be {self.expected}, got {value}')
        return value

    @property
    def bounded(self) -> bool:
        """Whether it has a range."""
        return any(map(math.isfinite, (self.above, self.least, self.most)))

    def admits(self, value: float) -> bool:
        """Whether a number is finite and in its range."""
        return math.isfinite(value) and self.above < value and self.least <= value <= self.most

    def encode(self, value: Any) -> Any:
        """A value as JSON: numbers, lists of numbers, and pictures as data URLs of PNG files.

        A mask takes 1 bit for each pixel, a kernel 8. A kernel loses its scale (see `kernel_levels`).
        """
        if isinstance(value, tuple):
            return list(value)
        if not isinstance(value, Tensor):
            return value
        if self.kind == MASK:
            return images.encode_data_url(value.cpu().numpy())
        return images.encode_data_url(kernel_levels(value).byte().numpy() if self.kind == KERNEL else rgba(value))

    def decode(self, value: Any) -> Any:
        """The value that a JSON value stands for: the inverse of `encode`.

        Raises
        ------
        ValueError : the JSON value is of another kind, or not a picture where it should be one.
        """
        if not isinstance(self.kind, str):
            return self.check(value)
        url = check_kind(value, self.name, str)
        try:
            if self.kind == DRAWING:
                return images.load_drawing(images.decode_data_url(url))
            picture = images.load_image(images.decode_data_url(url), channels=1, min_side=1)[0, 0]
        except images.ImageError as error:
            raise images.ImageError(f'"{self.name}": {error}') from error
        return picture if self.kind == KERNEL else picture > 0.5


def rgba(drawing: Tensor) -> Any:
    """A drawing (4, H, W) in [0, 1] as 8-bit numbers, (H, W, 4)."""
    return drawing.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()


def flag(name: str) -> str:
    """What an argument is called on the command line."""
    return f"--{name.replace('_', '-')}"


def knob(default: Any, about: str, **details: Any) -> Any:
    """A field of a dataclass of settings that is a knob as well; see `knobs_of`."""
    return field(default=default, metadata={"about": about, **details})


def knobs_of(settings: type) -> tuple[Knob, ...]:
    """The knobs of a dataclass whose fields were made by `knob`.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Settings:
    ...     h0: float = knob(0.01, "The first step size.")
    >>> [(each.name, each.kind, each.default) for each in knobs_of(Settings)]
    [('h0', <class 'float'>, 0.01)]
    """
    return tuple(
        Knob(each.name, type(each.default), default=each.default, **each.metadata)
        for each in fields(settings)
        if each.default is not MISSING and each.metadata
    )


@dataclass(frozen=True, kw_only=True)
class Task:
    """A kind of problem.

    Attributes
    ----------
    knobs : what a person sets of it.
    exclusive : knobs each of which is a problem of its own, so that at most one of them is given.
    """

    knobs: tuple[Knob, ...] = ()
    exclusive: tuple[str, ...] = ()

    def complete(self, given: Mapping[str, Any], name: str) -> dict[str, Any]:
        """The given values, with the defaults of the knobs that are missing.

        Raises
        ------
        ValueError : a value without a knob, or of another kind than its knob; `name` says whose knobs they are.
        """
        known = {each.name: each for each in self.knobs}
        for each in given:
            if each not in known:
                has = ", ".join(other.flag for other in self.knobs) or "none"
                raise ValueError(f"{flag(each)} does not belong to {name}, which has {has}")
        values = {each: known[each].check(value) for each, value in given.items()}
        chosen = any(each in values for each in self.exclusive)
        left = [each for each in self.knobs if not (chosen and each.name in self.exclusive)]
        values = {each.name: each.default for each in left if each.default is not None} | values
        return {each: values[each] for each in known if each in values}


@dataclass(frozen=True, eq=False, kw_only=True)
class Problem(ABC):
    """What was measured of a picture, and with what noise. Two problems are equal if their parameters are.

    Attributes
    ----------
    task : the name of its kind.
    image_shape : (C, H, W) of the answer.
    knobs : the values of the task's knobs.
    picture : the one that was measured, or that holds the measurements; None if nothing was measured.
    simulated : whether `picture` is the true one, so that an answer can be scored.
    seed : of everything that was drawn at random to make the measurements.
    command : the command that poses such problems; no two tasks of a command have the same name.
    metrics : names -> scores of images (n, C, H, W) against the truth (1, C, H, W).
    """

    task: str
    image_shape: tuple[int, int, int]
    knobs: dict[str, Any] = field(default_factory=dict)
    picture: Picture | None = None
    simulated: bool = True
    seed: int = 0

    command: ClassVar[str]
    metrics: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {}

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    @abstractmethod
    def kind(self) -> Task:
        """The kind of problem that it is."""

    @property
    def measured(self) -> int:
        """How many numbers were measured."""
        return 0

    @property
    def truth(self) -> Tensor | None:
        """The true picture (1, C, H, W), where it is known."""
        return self.picture.image if self.picture is not None and self.simulated else None

    def view(self) -> Tensor | None:
        """What was measured, as a picture (1, C, H, W) of any range; None if nothing was."""
        return None

    def baseline(self) -> Tensor:
        """The picture (1, C, H, W) that the measurements give without a prior: what an answer must surpass."""
        raise ValueError(f"nothing was measured of {self.task}")

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """The problem's part of a run's JSON."""
        values = {each.name: each.encode(self.knobs[each.name]) for each in self.kind.knobs if each.name in self.knobs}
        parameters: dict[str, Any] = {
            "command": self.command,
            "task": self.task,
            "knobs": values,
            "image_shape": [*self.image_shape],
        }
        if self.picture is not None:
            side = {} if self.picture.side is None else {"side": self.picture.side}
            parameters |= {
                "picture": self.picture.name,
                **side,
                "fingerprint": images.fingerprint(self.picture.image),
                "simulated": self.simulated,
                "measured": self.measured,
            }
        return parameters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problem) and self.parameters == other.parameters

    def __hash__(self) -> int:
        return hash(json.dumps(self.parameters))


def decode(knobs: Iterable[Knob], values: Mapping[str, Any], optional: Collection[str] = ()) -> dict[str, Any]:
    """The values that a JSON object has for knobs.

    Raises
    ------
    ValueError : a value is of another kind than its knob or has none, or one is missing that is not `optional`.
    """
    known = {each.name: each for each in knobs}
    for name in values:
        if name not in known:
            raise ValueError(f'"{name}" is not among {", ".join(known) or "the settings: there are none"}')
    for each in known.values():
        if each.default is not None and each.name not in (*values, *optional):
            raise ValueError(f'"{each.name}" is missing')
    return {name: known[name].decode(value) for name, value in values.items()}


KINDS = {int: "whole number", float: "number", bool: "boolean", str: "string", dict: "object"}


def check_kind(value: Any, name: str, kind: Kind) -> Any:
    """The value, if it is of a kind. For float a whole number will do, and becomes one; for int a boolean will not.

    Raises
    ------
    ValueError : the value is of another kind; the sentence names it `name`.
    """
    if isinstance(kind, str):
        fits = isinstance(value, Tensor)
    elif isinstance(kind, tuple):
        fits = isinstance(value, list | tuple) and len(value) == len(kind) and all(map(is_kind, value, kind))
        value = tuple(value) if fits else value
    else:
        fits = is_kind(value, kind)
        value = float(value) if fits and kind is float else value
    if not fits:
        digits = " of at most 53 bits" if type(value) is int and kind in (int, float) else ""
        raise ValueError(f'"{name}" must be {describe(kind)}{digits}, got {reprlib.repr(value)}')
    return value


def describe(kind: Kind) -> str:
    """A kind of values in words: a list of 2 numbers."""
    if isinstance(kind, str):
        return "a picture"
    if isinstance(kind, tuple):
        return f"a list of {len(kind)} {KINDS[kind[0]]}s"
    return f"a{'n' if kind is dict else ''} {KINDS[kind]}"


def is_kind(value: Any, kind: type) -> bool:
    """Whether a value is of a kind. This is not isinstance, for which True is a whole number.

    A whole number has at most 53 bits, the digits that JavaScript and float64 keep.
    """
    if type(value) is int:
        return kind in (int, float) and abs(value) <= 2**53
    return type(value) is kind


def member(mapping: Mapping[str, Any], name: str, kind: Kind) -> Any:
    """The value of a JSON object's key.

    Raises
    ------
    ValueError : there is no such key, its value is of another kind, or it is a string that is too long for a name.
    """
    if name not in mapping:
        raise ValueError(f'"{name}" is missing')
    value = check_kind(mapping[name], name, kind)
    if kind is str and len(value) > LONGEST_NAME:
        raise ValueError(f'"{name}" must have at most {LONGEST_NAME} characters, got {reprlib.repr(value)}')
    return value


def kernel_levels(kernel: Tensor) -> Tensor:
    """A blur kernel as an 8-bit grey picture holds it: whole numbers from 0 to 255 in its proportions, (height, width).

    A kernel that came from an 8-bit picture keeps its levels exactly, whatever its scale. Any other one is rounded, so
    that the problem uses just what its JSON says.

    Raises
    ------
    ValueError : not (height, width), numbers that are negative or not finite, or no positive one.
    """
    if kernel.ndim != 2 or not kernel.isfinite().all() or not (kernel >= 0).all() or not (kernel > 0).any():
        raise ValueError("kernel must be a grey picture (height, width): finite, nothing negative, not all black")
    proportions = kernel.cpu().double() / float(kernel.max())
    # A kernel in float32 is known to seven digits.
    exact = (
        white
        for white in range(255, 0, -1)
        if torch.allclose((white * proportions).round() / white, proportions, rtol=0, atol=5e-7)
    )
    return (next(exact, 255) * proportions).round()
