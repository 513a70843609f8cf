"""The library as a Gradio Space: a tab for each problem, with widgets made from its knobs, and a GPU if one is lent."""

from __future__ import annotations

import html
import inspect
import json
import math
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

try:
    from spaces import GPU as on_gpu  # before PyTorch, whose CUDA it prepares
except ImportError:  # not a Space
    on_gpu = partial  # which calls the function as it is

import gradio as gr

from invlib import examples, images, runs
from invlib.cli import options, remove_noise, talk
from invlib.priors.checkpoints import CheckpointError, registry
from invlib.priors.denoisers import Denoiser
from invlib.problems import prior, structured
from invlib.problems.spec import Knob, Problem
from invlib.solvers.methods import FAMILIES, METHODS, STROKES_PRIOR, load_prior, sampler_of, suiting

TITLE = "The prior hidden inside a denoiser"
LONGEST, SIDE = 512, 128  # the longest side of a picture, and the side of a denoiser's samples, in pixels

PICTURE = Knob("picture", "upload", "Clean, unless it is what was measured.", "Picture")
MEASURED = Knob("measured", bool, "The picture is what was measured; there is no truth to compare with.", "Measured")
LEVEL = "Of white noise that is added: none, or 0.1 in denoising. If the picture is measured, the level is estimated."
NOISE = Knob("noise_level", float, LEVEL, "Noise level", values=(0.0, 0.01, 0.02, 0.05, 0.1, 0.2))
ESTIMATE = Knob("estimate_noise", bool, "The noise level is not told, but estimated.", "Estimate", advanced=True)
SIZE = Knob("side", int, f"In pixels: {SIDE}, or what a flow has.", "Side", values=(28, 56, 64, 96, 128, 192, 256))
SAMPLES = Knob("samples", int, "How many answers are drawn. Time grows with their number.", "Samples", 1, (1, 8))
SEED = Knob("seed", int, "Another seed gives other answers.", "Seed", 0, advanced=True)


def knobs_of(command: str, task: str) -> list[Knob]:
    """What is set of a problem, advanced knobs last. Where a knob has no default, its widget starts empty."""
    kind, named = runs.TASKS[command][task], suiting(command, task).items()
    methods = {name: each for name, each in named if each.installed and not each.slow}
    knobs = [replace(each, default=None) if each.name in kind.exclusive else each for each in kind.knobs if each.shown]
    if command == "sample":
        knobs += [SIZE]
    else:
        knobs = [PICTURE, *knobs, MEASURED, *([NOISE, ESTIMATE] if command != "remove-noise" else [])]
        titles = [(each.title, name) for name, each in methods.items()]
        knobs += [Knob("method", str, "By default what suits the picture.", "Method", None, titles, advanced=True)]
    priors = [(each.title, name) for name, each in registry().items() if name != STROKES_PRIOR]
    settings = {each.name: each for method in methods.values() for each in method.knobs if each.shown}
    knobs += [Knob("prior", str, "By default what suits the picture.", "Prior", None, priors, advanced=True)]
    knobs += [SAMPLES, *(replace(each, default=None, advanced=True) for each in settings.values()), SEED]
    return sorted(knobs, key=lambda each: each.advanced)


def widget(knob: Knob) -> Any:
    """The widget of a knob."""
    value = "" if knob.default is None else knob.default
    about = {"value": value, "label": knob.label or knob.name, "info": knob.about}
    if isinstance(knob.kind, str):
        image = gr.Image(label=f"{about['label']}: {knob.about}", type="filepath", image_mode=None, height=250)
        image.preprocess = lambda payload: payload.path if payload else None  # a broken file is refused in words
        return image
    if knob.kind is bool:
        return gr.Checkbox(**about | {"value": bool(value)})
    if isinstance(knob.kind, tuple) or (knob.default is None and not knob.values):
        return gr.Textbox(placeholder=knob.metavar, **about)
    if knob.kind is str or knob.default is None:
        return gr.Dropdown([("default", "")] * (knob.default is None) + [*knob.values], **about)
    about |= {"precision": 0 if knob.kind is int else None}
    if not knob.values:
        return gr.Number(**about)
    step = 1 if knob.kind is int else 10 ** math.floor(math.log10(min(filter(None, knob.values))))
    return gr.Slider(min(knob.values), max(knob.values), step=step, **about)


def pose(command: str, task: str, given: dict[str, Any]) -> tuple[Problem, runs.Settings]:
    """The problem that values of knobs pose, and how to solve it; ValueError as on the command line."""
    kind, methods, seed = runs.TASKS[command][task], METHODS[command], given.pop("seed", 0)
    knobs = {each.name: given.pop(each.name) for each in kind.knobs if each.name in given}
    name, network, samples = (given.pop(each, None) for each in ("method", "prior", "samples"))
    if command == "sample":
        name = sampler_of(network := network or "bf-unet-color")
        loaded, side = load_prior(network, methods[name].prior or Denoiser), given.pop("side", None)
        whole = (loaded.channels, SIDE, SIDE) if isinstance(loaded, Denoiser) else loaded.image_shape
        problem: Problem = prior.pose((whole[0], side or whole[1], side or whole[2]), **knobs)
    else:
        simulated, noise = not given.pop("measured"), {}
        if "picture" not in given:
            raise ValueError("there is no picture: upload one, or choose one of the examples")
        picture = images.load_strangers((path := given.pop("picture")).read_bytes(), path.name)
        enlarged = 1 if simulated else knobs.get(getattr(kind, "scale", ""), 1)
        image = images.fit(picture.image, LONGEST // enlarged)
        reduced = f"The picture was reduced to {image.shape[3]}×{image.shape[2]} pixels."
        for note in [picture.note] * bool(picture.note) + [reduced] * (image.shape != picture.image.shape):
            gr.Info(html.escape(note))
        if command != "remove-noise":
            image = options.in_colours_of(network, replace(picture, image=image)).image if network else image
            level = 0.1 if command == "denoise" and simulated and not knobs["gain"] else None
            noise = {"noise_level": given.pop("noise_level", level), "estimate_noise": given.pop(ESTIMATE.name) or None}
        elif kind.sensing or (name and methods[name].prior in FAMILIES):
            image = structured.prepare(image, kind.pictures)
        if task in structured.DRAWN and ("strokes" in knobs or simulated):
            drawn, size = knobs.get("strokes"), image.shape[2:]
            knobs["strokes"] = remove_noise.read_strokes(drawn, size) if drawn else structured.draw_scribble(size, seed)
        picture = replace(picture, image=images.quantise(image))  # as picture.png has it
        problem = runs.POSE[command](task, picture, knobs, simulated=simulated, seed=seed, **noise)
    return problem, runs.settings(problem, name, given, prior=network, samples=samples, seed=seed)


@lru_cache
def files_of(kind: str) -> list[str]:
    """The files of the library's pictures of a kind: photographs, or those that a kind of flow knows."""
    folder, small = Path(tempfile.mkdtemp()), examples.SUBJECTS.get(kind)
    pictures = [examples.subject(kind, name) for name in small or ()] or [*map(examples.picture, examples.EXAMPLES)]
    for each in pictures:
        images.save_image(each.image, folder / f"{each.name}.png")
    return [str(folder / f"{each.name}.png") for each in pictures]


def states(problem: Problem, settings: runs.Settings) -> Iterator[Any]:
    """The states of a run, and in the end the run."""
    yield (yield from runs.solve(problem, settings))


@on_gpu
def run(command: str, task: str, given: dict[str, Any]) -> Iterator[Any]:
    """Solve the problem of a tab's values. What it yields before the end is nothing new, but lets it be stopped."""
    try:
        progress, known = given.pop("progress"), {each.name: each for each in knobs_of(command, task)}
        filled = [(known[name], value) for name, value in given.items() if value not in (None, "")]
        given = {knob.name: options.read_picture(knob, options.parser_of(knob)(value)) for knob, value in filled}
        problem, settings = pose(command, task, given)
        for state, due in talk.every_second(states(problem, settings)):
            if due and isinstance(state, runs.Forming):
                progress(state.progress, desc=talk.where(state))
                yield gr.skip()
    except (ValueError, ArgumentTypeError, OSError, MemoryError, CheckpointError) as error:
        raise gr.Error(html.escape(str(error), quote=False), print_exception=False) from error
    shown = [(sample, f"Sample {number}") for number, sample in enumerate(state.samples, start=1)]
    shown += [(state.mean, "Average"), (state.std, "Standard deviation")] if len(shown) > 1 else []
    shown += [] if state.noise is None else [(state.noise, "Noise that was found")]
    before = [] if problem.picture is None else [(images.to_uint8(problem.baseline()), state.mean), state.picture]
    yield [*before, shown, json.dumps(state.to_json(), allow_nan=False)]


def tab(command: str, task: str) -> None:
    """The widgets of a problem, and what *Run* does."""
    kind, knobs, measuring = runs.TASKS[command][task], knobs_of(command, task), command != "sample"
    with gr.Row():
        with gr.Column():
            inputs = [widget(knobs[0])]
            if measuring:
                files = files_of(kind.pictures) if isinstance(kind, structured.StructuredTask) else []
                files = [*files, *([] if files and kind.sensing else files_of("photographs"))]
                gr.Examples(files, inputs[0], examples_per_page=20, api_visibility="private")
            if kind.exclusive:
                gr.Markdown(f"Give at most one of: {', '.join(kind.exclusive)}.")
            inputs += [widget(each) for each in knobs[1:] if not each.advanced]
            with gr.Accordion("Advanced", open=False):
                inputs += [widget(each) for each in knobs[1:] if each.advanced]
            start, stop = gr.Button("Run", variant="primary"), gr.Button("Stop")
        with gr.Column():
            about = f"The run, for invlib {command} {'picture.png ' * measuring}--replay run.json"
            outputs = [gr.ImageSlider(label="Before and after", format="png", interactive=False)] * measuring
            outputs += [gr.Image(label="picture.png", format="png", interactive=False)] * measuring
            outputs += [gr.Gallery(label="Results", format="png", interactive=False)]
            outputs += [gr.Code(label=about, language="json", max_lines=12, interactive=False)]

    def call(*values: Any) -> Iterator[Any]:
        yield from run(command, task, dict(zip(defaults, values, strict=True)))

    # Gradio takes the names and the defaults of its API from the signature.
    defaults = {each.name: shown.value for each, shown in zip(knobs, inputs, strict=True)} | {"progress": gr.Progress()}
    named = partial(inspect.Parameter, kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    call.__signature__ = inspect.Signature([named(name, default=value) for name, value in defaults.items()])
    stop.click(None, cancels=start.click(call, inputs, outputs, api_name=f"{command}-{task}", concurrency_id="worker"))


def build() -> gr.Blocks:
    """The page, with a tab for each command that poses problems, and in it one for each of its problems."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gr.Markdown(f"# {TITLE}")
        for command, tasks in runs.TASKS.items():
            with gr.Tab(command.replace("-", " ").capitalize()):
                for task, kind in tasks.items():
                    with gr.Tab(getattr(kind, "title", task.replace("-", " ").capitalize())):
                        tab(command, task)
    return page


if __name__ == "__main__":
    build().launch()
