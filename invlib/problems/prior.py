"""The problem in which nothing was measured: samples are drawn from the prior alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from invlib.checks import check_shape
from invlib.problems.spec import ImageShape, Knob, Problem, Task

SAMPLING = "sampling"

TASKS: dict[str, Task] = {
    SAMPLING: Task(
        knobs=(Knob("interpolate", bool, "Whether to go from the seed's first sample to its second.", default=False),),
    )
}


@dataclass(frozen=True, eq=False, kw_only=True)
class PriorProblem(Problem):
    """Nothing is known of the picture but its shape."""

    command: ClassVar[str] = "sample"

    @property
    def kind(self) -> Task:
        return TASKS[self.task]


def pose(shape: ImageShape, *, interpolate: bool = False) -> PriorProblem:
    """Samples of `shape` (C, H, W), or the way from one sample to another; ValueError for any other shape."""
    return PriorProblem(task=SAMPLING, image_shape=check_shape(shape), knobs={"interpolate": interpolate})
