"""A row of a table, measured on this machine with a picture that comes with the app, on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import streamlit as st
from torch import Tensor

from invlib import examples, images, runtime
from invlib.experiments.rows import Row
from invlib.experiments.tables import ASCENT, BASELINES, METHODS, Problem, compare, default_schedule, device_of, middle
from invlib.jobs import Job, Status
from invlib.problems.linear import default_prior
from invlib.scores import score, summarise
from invlib.solvers.ascent import SAMPLERS, collect
from pages.ui import benchmark_table, knobs, methods, pixels, runs, stage
from pages.ui.benchmark_rows import SETS, TITLES, Line, of_method, pictures
from pages.ui.runs import Picture, Settings, Tile, load_prior


@dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes
    ----------
    picture : a name in `examples.EXAMPLES`.
    method : a name in `tables.METHODS`.
    samples : of a sampler.
    """

    problem: Problem
    picture: str
    method: str
    samples: int

    @cached_property
    def posed(self) -> runs.Problem:
        """The problem with an example in place of a picture of the set, in its colours and with its crop."""
        image = examples.example(self.picture, channels=self.problem.channels)
        if self.problem.crop is not None:
            image = middle(image, self.problem.crop)
        picture = Picture(self.picture, image, examples.EXAMPLES[self.picture].description)
        return runs.simulate(self.problem.task, picture, **self.problem.knobs)


@dataclass(frozen=True)
class Measured:
    """How far a measurement is.

    Attributes
    ----------
    progress : from 0 to 1.
    remaining : seconds to go, estimated; None before the first step.
    row : its scores, in the end.
    picture : the estimate as it stands, uint8; None before the first step.
    """

    progress: float = 0.0
    remaining: float | None = None
    row: Row = field(default_factory=dict)
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class Measurement:
    """A job, and what it was asked to do; the knobs may have moved on since."""

    job: Job[Measured, Measured]
    asked: Asked


Steps = Generator[Measured, None, Measured]
"""How far it is after every step, and in the end the row, as in `tables.plan_table`."""


def underway(progress: float, started: float, estimate: Tensor) -> Measured:
    """How far a measurement is that started at a time of `time.perf_counter`."""
    remaining = (time.perf_counter() - started) * (1 - progress) / progress
    return Measured(progress, remaining, picture=images.to_uint8(estimate))


def sample(asked: Asked) -> Steps:
    """Measure a sampler, with the settings that it has in the tables."""
    posed = asked.posed
    assert posed.operator is not None
    assert posed.measurements is not None
    assert posed.truth is not None
    arguments = default_schedule(asked.problem) if asked.method == "fast" else ASCENT
    settings = Settings(default_prior(asked.problem.channels), asked.method, asked.samples, 0, arguments)
    denoiser = load_prior(settings.prior)
    started = time.perf_counter()
    for state in settings.states(denoiser, posed):
        yield underway(settings.progress(state), started, state.denoised.mean(0))
    row: Row = {"samples": asked.samples, "evaluations": state.evaluations, "seconds": time.perf_counter() - started}
    result = collect([state])
    scores = score(result, posed.operator, posed.measurements, posed.truth, antithetic=settings.antithetic)
    return Measured(1.0, 0.0, row | summarise([scores]), images.to_uint8(result.mean))


def restore(asked: Asked) -> Steps:
    """Measure a method that gives one estimate."""
    posed = asked.posed
    assert posed.operator is not None
    assert posed.measurements is not None
    assert posed.truth is not None
    baseline = BASELINES[asked.method]
    settings, device = baseline.settings, runtime.default_device()
    if baseline.denoises:
        settings["denoiser"] = load_prior(default_prior(asked.problem.channels))
        device = device_of(settings["denoiser"])
    operator, measurements = runtime.on(posed.operator, device), posed.measurements.to(device)
    started = time.perf_counter()
    for step, estimate in enumerate(baseline.restore(operator, measurements, **settings), start=1):
        yield underway(step / settings.get("steps", 1), started, estimate)
    estimate = estimate.cpu()  # waits for the device
    row: Row = {"evaluations": step if baseline.denoises else None, "seconds": time.perf_counter() - started}
    row["result"] = {name: float(value) for name, value in compare(estimate, posed.truth).items()}
    return Measured(1.0, 0.0, row, images.to_uint8(estimate))


def work(asked: Asked) -> Callable[[Callable[[], bool]], Steps]:
    """The work of a job."""

    def run(cancelled: Callable[[], bool]) -> Steps:
        yield Measured()
        return (yield from (sample if asked.method in SAMPLERS else restore)(asked))

    return run


def show(problem: Problem, lines: Sequence[Line]) -> dict[str, str | int]:
    """What to measure, a button, and what came of it; the settings for the address.

    Parameters
    ----------
    lines : those of the problem's table.
    """
    st.header("Run it here")
    st.caption(
        "The pictures of the tables may not be passed on, so this takes one that comes with the app, and the scores "
        "are of that one. DIP and DeepRED, which take many minutes, are for the command line."
    )
    titles = {name: name.capitalize() for name in examples.EXAMPLES}
    with st.grid(3, min_column_width=220):
        method = knobs.selection("Method", "method", offered(problem), "With the settings that it has in the table.")
        picture = knobs.selection("Picture", "picture", titles, "One that comes with the app.")
        samples = knobs.samples(8) if method in SAMPLERS else 1
    settings: dict[str, str | int] = {"method": method, "picture": picture}
    if method in SAMPLERS:
        settings["samples"] = samples
    asked = Asked(problem, picture, method, samples)
    measurement: Measurement | None = st.session_state.get("measurement")
    job = None if measurement is None else measurement.job
    with st.container(width=240):
        started = stage.button("Run", job, work(asked), key="run", icon=":material/play_arrow:")
    if started is not None:
        st.session_state["measurement"] = Measurement(started, asked)
        st.rerun()
    active = measurement is not None and not measurement.job.ended
    if measurement is not None and (active or measurement.asked.problem == problem):
        st.fragment(follow, run_every=stage.POLL if active else None)(measurement, lines, active)
        if measurement.asked != asked:
            st.caption("This is of other settings than those above.")
    return settings


def offered(problem: Problem) -> dict[str, str]:
    """Titles of the methods that run in seconds or a few minutes, by name, the default first."""
    names = [name for name in TITLES if name in (problem.methods or METHODS)]
    names = [name for name in names if name in SAMPLERS or not BASELINES[name].deep]
    return {name: TITLES[name] for name in methods.available(names)}


def follow(measurement: Measurement, lines: Sequence[Line], active: bool) -> None:
    """One look at the measurement."""
    job, asked = measurement.job, measurement.asked
    if active and job.ended:
        st.rerun()
    title = TITLES[asked.method]
    measured = job.result or job.latest or Measured()
    if job.error is not None:
        st.error(pixels.sentence(job.error), icon=":material/error:")
    if job.status is Status.CANCELLED:
        st.caption(f"{title}: stopped.")
    if not job.ended:
        st.progress(job.progress, text=status(job, title))
    if measured.picture is None:
        return
    found = [replace(line, reported={}) for line in of_method(asked.problem, asked.method, measured.row, {})]
    here = [line for line in found if line.measured]
    caption = f"{here[0].label}, {here[0].measured['psnr']:.2f} dB" if here else title
    answer = Tile(measured.picture, caption, f"Restored: {asked.posed.description}")
    stage.show_tiles([*stage.posed(asked.posed), answer], asked.posed.image_shape)
    if here:
        compare_with(asked, here, lines)


def status(job: Job[Measured, Measured], title: str) -> str:
    """Where a measurement is, in a sentence."""
    if job.latest is None:
        return stage.waiting(job)
    if job.latest.remaining is None:
        return "Loading the prior."
    return f"{title}: {job.latest.progress:.0%}, about {job.latest.remaining:.0f} s left."


def compare_with(asked: Asked, here: Sequence[Line], lines: Sequence[Line]) -> None:
    """The scores of one picture here beside those of the table."""
    there = [line for line in lines if line.method == TITLES[asked.method] and line.measured]
    name, _ = SETS[asked.problem.pictures]
    where = [f"{asked.picture.capitalize()}, here" for _ in here]
    where += [f"{name}, {pictures(line.row)}" for line in there]
    benchmark_table.show_lines([*here, *there], "Scores here, and those of the table", where)
    st.caption(
        "It is another picture: how its PSNR compares with the table’s says nothing of the method. Compare methods on "
        "the same picture."
    )
