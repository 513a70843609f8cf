"""Widgets for knobs: those of a problem, of a method, and the few that every page has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from invlib import runs
from invlib.checks import SEEDS
from invlib.examples import EXAMPLES
from invlib.priors import checkpoints
from invlib.problems.spec import Knob, Problem
from invlib.runs import Settings
from invlib.solvers.methods import STROKES_PRIOR, Method, default_prior, find, methods_for
from pages.ui import address
from pages.ui.address import Value


def one_of(
    show: Callable[..., Any],
    label: str,
    key: str,
    options: Mapping[Value, str],
    help: str,
    default: Value | None = None,
    **details: Any,
) -> Value:
    """Offer options (value -> title) by the widget `show`. The first is the default if none is named."""
    address.remember(key, next(iter(options)) if default is None else default, options)
    chosen: Value = show(label, list(options), key=key, format_func=options.__getitem__, help=help, **details)
    return chosen


def choice(label: str, key: str, options: Mapping[Value, str], *, help: str, **details: Any) -> Value:
    """Offer a few options side by side."""
    return one_of(st.segmented_control, label, key, options, help, required=True, width="stretch", **details)


def selection(label: str, key: str, options: Mapping[Value, str], help: str, **details: Any) -> Value:
    """Offer options whose titles are too long to stand side by side."""
    return one_of(st.selectbox, label, key, options, help, **details)


def level(label: str, key: str, options: Sequence[float], default: float, help: str, unit: str = "") -> float:
    """Offer a few numbers on a slider, in the unit of a `Knob`."""
    return widget(Knob(key, type(default), help, label, default, options, unit))


def percent(value: float) -> str:
    return f"{100 * value:g} %"


# Knobs


def widget(knob: Knob, default: Any = None, values: Sequence[Any] | None = None) -> Any:
    """Show the widget of a knob that is a number, a boolean or a word, and return its value.

    `default` and `values` replace the knob's own.
    """
    default, values = knob.default if default is None else default, knob.values if values is None else values
    label = knob.label or knob.name
    if knob.kind is bool:
        address.remember(knob.key, default, (True, False))
        return st.toggle(label, key=knob.key, help=knob.about)
    if isinstance(values, range):
        address.remember(knob.key, default, values)
        return st.slider(
            label, values[0], values[-1], step=values.step, key=knob.key, persist_state="page", help=knob.about
        )
    assert isinstance(knob.kind, type)
    if knob.kind is str:
        return selection(
            label, knob.key, {value: str(value).capitalize() for value in values}, knob.about, default=default
        )
    # A slider takes 5 and 5.0 for different options.
    options = sorted({knob.kind(value) for value in (*values, default)})
    if knob.unit == "×":
        return choice(label, knob.key, {value: f"{value:g}×" for value in options}, default=default, help=knob.about)
    address.remember(knob.key, knob.kind(default), options)
    words = percent if knob.unit == "%" else "{:g}".format
    return st.select_slider(label, options, key=knob.key, format_func=words, help=knob.about, persist_state="page")


def remembered(knob: Knob) -> Any:
    """The value of a knob whose widget comes later on the page, for what stands before it."""
    address.remember(knob.key, knob.default, knob.values)
    return st.session_state[knob.key]


def of_task(knobs: Iterable[Knob]) -> dict[str, Any]:
    """Show the widgets of a task's knobs, for those that have one, and return the values by the knobs' names."""
    return {knob.name: widget(knob) for knob in knobs if isinstance(knob.kind, type) and knob.default is not None}


NOISE = "The standard deviation of white noise in the picture that is measured, where black is 0 and white is 1."


def noise(*, simulated: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Let the visitor add noise to what is measured, or say how noisy an own picture is, which is else estimated.

    Return the settings for the address, and the arguments of `linear.pose`.
    """
    levels = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
    if simulated:
        added = level("Noise", "noise", levels, 0.0, f"{NOISE} It is added.")
        return {"noise": added}, {"noise_level": added}
    titles = {"estimated": "Estimated", **{f"{value:g}": f"{value:g}" for value in levels}}
    chosen = selection("Noise in your picture", "level", titles, f"{NOISE} Files of cameras and JPEGs have some.")
    return {"level": chosen}, {"noise_level": None if chosen == "estimated" else float(chosen)}


def of_method(method: Method, ours: Mapping[str, Any], *, advanced: bool) -> dict[str, Any]:
    """Show the widgets of a method's knobs that are in view, or folded away if `advanced`, and return the values."""
    return {
        knob.name: widget(knob, ours[knob.name]) for knob in method.knobs if knob.shown and knob.advanced == advanced
    }


def presets(paper: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Show a button for each of two sets of settings, which map the keys of widgets to values."""
    with st.container(horizontal=True):
        st.button("Paper's defaults", on_click=st.session_state.update, args=[dict(paper)])
        st.button("Our defaults", on_click=st.session_state.update, args=[dict(ours)])


def keyed(method: str, values: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    """A method and its settings, by the keys of their widgets."""
    knobs = {knob.name: knob for knob in find(problem, method).knobs if knob.shown}
    return {"method": method, **{knobs[name].key: value for name, value in values.items() if name in knobs}}


SAMPLERS = {"fast": "Fast", "mean": "Instant", "paper": "Paper's"}
"""Titles of the ways to solve a linear problem."""

ABOUT_SAMPLERS = (
    "Fast: a fixed number of denoising steps, seconds for a small picture. Paper's: the published stochastic ascent, "
    "which takes several times as many steps for pictures of the same quality."
)

ABOUT_INSTANT = (
    "Instant: one step of a denoiser that is told what was measured. It finds the mean of all answers, a little less "
    "well than the average of a few samples does."
)


def ways_for(problem: Problem) -> dict[str, str]:
    """Names -> titles of the ways to solve a linear problem, our default first."""
    suitable = methods_for(problem)
    return {name: title for name, title in SAMPLERS.items() if name in suitable}


def settings(
    problem: Problem,
    ways: Mapping[str, str] | None = None,
    help: str | None = None,
    advanced: Iterable[Knob] = (),
) -> Settings:
    """Let the visitor choose how to solve a problem. Only the samples and the method are in view.

    Parameters
    ----------
    problem : what is to be solved.
    ways : method -> title, our default first and the paper's last; those of `ways_for` if None.
    help : what the methods are.
    advanced : knobs of the problem that are folded away with the settings; see `remembered`.
    """
    if ways is None:
        ways = ways_for(problem)
        help = f"{ABOUT_SAMPLERS} {ABOUT_INSTANT}" if "mean" in ways else ABOUT_SAMPLERS
    first, paper = next(iter(ways)), list(ways)[-1]
    address.remember("method", first, ways)  # its widget comes second
    count = samples(4) if find(problem, st.session_state["method"]).draws else 1
    name = choice(
        "Sampler" if first in SAMPLERS else "Method",
        "method",
        ways,
        help=help or "",
        on_change=lambda: forget("sigma_0", "sigma_L"),
    )
    method = find(problem, name)
    ours = {each: dict(find(problem, each).complete(problem, count, {}, each)) for each in ways}
    chosen = of_method(method, ours[name], advanced=False)
    with st.expander("Advanced", icon=":material/tune:"):
        presets(keyed(paper, ours[paper], problem), keyed(first, ours[first], problem))
        for knob in advanced:
            widget(knob)
        chosen |= of_method(method, ours[name], advanced=True)
        network = prior(priors_for(problem, method))
        return runs.settings(problem, name, chosen, prior=network, samples=count, seed=seed())


def in_address(problem: Problem, chosen: Settings) -> dict[str, Any]:
    """The settings for the page's address, by the keys of their widgets."""
    drawn = {"samples": chosen.samples} if find(problem, chosen.method).draws else {}
    network = {"prior": chosen.prior} if problem.command != "remove-noise" and chosen.prior else {}
    return {**keyed(chosen.method, chosen.values, problem), **network, **drawn, "seed": chosen.seed}


def forget(*keys: str) -> None:
    """Let widgets start again from their defaults, which are about to change."""
    for key in keys:
        st.session_state.pop(key, None)


# What every page has

SAMPLES = (
    "How many answers to draw. They differ where the picture leaves room for guessing, and their average is smoother "
    "and closer to the truth than any of them. Time grows with their number."
)


def samples(default: int, most: int = 8, *, least: int = 1, help: str = SAMPLES) -> int:
    """Let the visitor choose how many answers to draw."""
    address.remember("samples", default, range(least, most + 1))
    return st.slider("Samples", least, most, key="samples", help=help)


SEED = "Where the noise starts from: another seed gives other answers, the same seed the same ones."


def remember_seed() -> int:
    """The seed, for what stands before its widget."""
    address.remember("seed", 0, lambda seed: 0 <= seed < SEEDS)
    return int(st.session_state["seed"])


def seed(help: str = SEED) -> int:
    remember_seed()
    return st.number_input("Seed", 0, SEEDS - 1, key="seed", help=help)


DENOISER = (
    "The denoiser that knows what pictures look like. Grey pictures get one that was trained on grey ones, if there is "
    "one."
)


def prior(titles: Mapping[str, str], help: str = DENOISER) -> str:
    """Let the visitor choose a prior. `titles` maps names to titles, the default first."""
    if not titles:
        raise checkpoints.CheckpointError("there is no prior for such pictures: restore the folder weights/")
    return selection("Prior", "prior", titles, help)


def priors_for(problem: Problem, method: Method) -> dict[str, str]:
    """Names -> titles of the priors for a method and the picture of a problem, the one that knows it best first."""
    titles, best = priors(problem.image_shape[0], method.told), best_prior(problem)
    return {name: titles[name] for name in sorted(titles, key=lambda name: name != best)}


def best_prior(problem: Problem) -> str | None:
    """The prior that knows best what a problem's picture shows; None if it is that of all photographs."""
    picture = problem.picture
    return EXAMPLES[picture.name].prior if picture is not None and picture.name in EXAMPLES else None


@st.cache_data
def priors(channels: int, told: bool = False) -> dict[str, str]:
    """Names -> titles of the registered priors for pictures with that many channels, that of photographs first.

    With `told`, they are those that are told what was measured, which take grey pictures as well if they are for
    colour, and the others without.
    """
    suitable = (channels, 3) if told else (channels,)
    titles = {
        name: entry.title
        for name, entry in checkpoints.registry().items()
        if name != STROKES_PRIOR and checkpoints.describe(name).arguments.get("channels") in suitable
        if bool(checkpoints.describe(name).arguments.get("told")) == told
    }
    return {name: titles[name] for name in sorted(titles, key=lambda name: name != default_prior(channels))}
