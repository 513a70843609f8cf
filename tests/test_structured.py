"""The tables of problems with structured noise, and of methods against it."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from torch import Tensor

from invlib.experiments.structured_noise import build_problem
from invlib.problems import structured as removal
from invlib.problems.noise import PastedDigits
from invlib.problems.structured import IMAGE_SHAPES, METHODS, TASKS, Problem
from invlib.solvers import inversion
from invlib.solvers.inversion import collect
from tests.small_priors import use_small_priors

SHAPE = (3, 64, 64)
COUNTS = {"compressive-sensing": 60, "one-bit": 60, "digits": 2}
"""Of measurements or digits, in place of the defaults."""


@pytest.fixture(autouse=True)
def priors(tmp_path, monkeypatch):
    use_small_priors(tmp_path / "weights", monkeypatch)


def problem(task: str, seed: int = 0) -> Problem:
    if task == "scribble":
        strokes = torch.zeros(1, 64, 64, dtype=torch.bool)
        strokes[..., 20:24, 10:50] = True
        return removal.scribble(SHAPE, strokes=strokes)
    knobs = {**TASKS[task].knobs, **({"count": COUNTS[task]} if task in COUNTS else {})}
    return build_problem(task, knobs, seed)


def pictures(task: str, count: int = 2) -> Tensor:
    shape = IMAGE_SHAPES[TASKS[task].kind]
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


# Tables


@pytest.mark.parametrize("task", TASKS)
def test_a_task_names_methods_that_exist_and_settings_that_they_have(task):
    assert TASKS[task].methods[0] == "map"
    assert set(TASKS[task].methods) <= set(METHODS)
    for method, settings in TASKS[task].settings.items():
        assert method in TASKS[task].methods
        assert set(settings) <= set(METHODS[method].settings)


@pytest.mark.parametrize("task", TASKS)
def test_the_knobs_of_a_task_are_those_that_build_its_problem(task):
    known = set(signature(TASKS[task].build).parameters) - {"shape", "seed", "strokes"}
    assert set(TASKS[task].knobs) == known
    if TASKS[task].swept:
        knob, values = TASKS[task].swept
        assert {type(value) for value in values} == {type(TASKS[task].knobs[knob])}
        assert list(values) == sorted(values)


@pytest.mark.parametrize("name", METHODS)
def test_the_settings_of_a_method_are_arguments_of_it(name):
    functions = {
        "map": inversion.map_x,
        "map-z": inversion.map_z,
        "mle": inversion.mle,
        "asim": inversion.asim,
        "bora": inversion.bora,
    }
    assert set(METHODS[name].settings) <= set(signature(functions.get(name, METHODS[name].run)).parameters)


def test_settings_are_the_given_ones_else_the_task_s_else_the_method_s():
    assert removal.settings("compressive-sensing", "asim") == {"gamma": 10.0, "steps": 300}
    assert removal.settings("compressive-sensing", "asim", {"gamma": 3.0}) == {"gamma": 3.0, "steps": 300}
    assert removal.settings("sinusoidal", "mle") == METHODS["mle"].settings
    with pytest.raises(ValueError, match="gamma does not belong to map, which has smoothing, steps"):
        removal.settings("sinusoidal", "map", {"gamma": 1.0})
    with pytest.raises(ValueError, match="steps does not belong to tv, which has no settings"):
        removal.settings("sinusoidal", "tv", {"steps": 1})
    assert removal.settings("one-bit", "map")["smoothing"] < METHODS["map"].settings["smoothing"]


@pytest.mark.parametrize("task", TASKS)
def test_priors_have_the_kind_of_the_task_s_pictures(task):
    shape = IMAGE_SHAPES[TASKS[task].kind]
    for method in TASKS[task].methods:
        prior = removal.load_prior(task, method)
        assert (prior is None) == (METHODS[method].prior is None)
        assert prior is None or prior.image_shape == shape


# Problems


@pytest.mark.parametrize("task", TASKS)
def test_a_problem_measures_what_it_says(task):
    posed, x = problem(task), pictures(task)
    y = posed.measure(x)
    expected = (COUNTS[task],) if posed.factor is None else posed.image_shape
    assert y.shape == (2, *expected)
    assert posed.view(y).shape == x.shape
    assert posed.noise.log_prob(y - posed.forward(x)).isfinite().all()
    if posed.factor is not None:
        torch.testing.assert_close(posed.forward(x), posed.factor * x)
        torch.testing.assert_close(posed.view(y), y)
    doubled = posed.forward(2 * x)
    assert torch.allclose(doubled, 2 * posed.forward(x), atol=1e-4) == posed.linear


@pytest.mark.parametrize("task", TASKS)
def test_noise_is_seeded_and_each_picture_has_its_own(task):
    posed, x = problem(task), pictures(task, 1).expand(3, -1, -1, -1)
    y = posed.measure(x, seed=4)
    torch.testing.assert_close(posed.measure(x, seed=4), y, rtol=0, atol=0)
    torch.testing.assert_close(posed.measure(x[:2], seed=4), y[:2], rtol=0, atol=1e-5)
    assert not torch.allclose(posed.measure(x, seed=5), y)
    assert not torch.allclose(y[0], y[1])


@pytest.mark.parametrize("task", ["digits", "compressive-sensing", "one-bit"])
def test_what_a_problem_draws_is_seeded(task):
    x = pictures(task)
    first, same, other = (problem(task, seed).measure(x, seed=7) for seed in (1, 1, 2))
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("task", ["sinusoidal", "radial", "compressive-sensing", "one-bit", "scribble"])
def test_the_level_of_gaussian_noise_is_its_root_mean_square(task):
    posed = problem(task)
    shape = posed.forward(torch.zeros(1, *posed.image_shape)).shape[1:]
    known = float(posed.noise.std.expand(shape).square().mean().sqrt())
    # Of 16 draws of a few entries that are much stronger than the others.
    assert posed.level() == pytest.approx(known, rel=0.1)


def test_the_digits_of_a_problem():
    posed = problem("digits")
    assert isinstance(posed.noise, PastedDigits)
    assert (posed.factor, posed.image_shape, len(posed.noise.places)) == (0.5, SHAPE, 2)
    delta = posed.measure(pictures("digits", 1)) - 0.5 * pictures("digits", 1)
    elsewhere = posed.noise.elsewhere
    assert float(delta[0][elsewhere].std()) == pytest.approx(0.01, rel=0.05)
    digits = delta[0][~elsewhere]
    assert 0 <= float(digits.min()) <= float(digits.max()) <= 1


# Methods


@pytest.mark.parametrize("task", ["sinusoidal", "one-bit"])
def test_methods_hand_the_problem_and_the_settings_on(task):
    posed = problem(task)
    y = posed.measure(pictures(task))
    flow, gan = removal.load_prior(task, "map"), removal.load_prior(task, "mle")
    parts, f = (posed.noise, y, posed.forward), posed.forward
    expected = {
        "map": inversion.map_x(flow, *parts, smoothing=0.7, steps=3)
        if posed.linear
        else inversion.map_z(flow, *parts, smoothing=0.7, steps=3, learning_rate=0.05, floor=(1.0, 0.003)),
        "map-z": inversion.map_z(flow, *parts, smoothing=0.7, steps=3),
        "mle": inversion.mle(gan, *parts, steps=3, floor=(0.3, 0.1)),
        "asim": inversion.asim(flow, y, f, gamma=3.0, steps=3),
        "bora": inversion.bora(gan, y, f, lam=0.5, steps=3),
    }
    given = {"smoothing": 0.7, "steps": 3, "gamma": 3.0, "lam": 0.5}
    for method, iterates in expected.items():
        settings = {name: given[name] for name in METHODS[method].settings}
        prior = gan if METHODS[method].prior == "dcgan" else flow
        result = collect(METHODS[method].run(posed, prior, y, 0, **settings))
        direct = collect(iterates)
        torch.testing.assert_close(result.image, direct.image, rtol=0, atol=1e-6)
        torch.testing.assert_close(result.objective, direct.objective)


@pytest.mark.parametrize(("method", "settings"), [("tv", {}), ("lasso", {"lam": 0.1})])
def test_what_needs_no_prior_ends_in_one_iterate(method, settings):
    posed, x = problem("sinusoidal"), torch.full((2, *SHAPE), 0.4)
    y = posed.measure(x)
    (result,) = METHODS[method].run(posed, None, y, 0, **settings)
    assert (result.outcome, result.evaluations, result.image.shape) == ("finished", 0, x.shape)
    torch.testing.assert_close(result.noise_log_prob, posed.noise.log_prob(y - result.image))
    assert float((result.image - x).std()) < 0.5 * float((y - x).std())


def test_total_variation_works_on_the_picture_before_it_was_scaled():
    """½ x + δ is denoised as x + 2δ, so that the result has the brightness of x."""
    x = torch.full((1, *SHAPE), 0.8)
    halved = Problem(SHAPE, lambda x: 0.5 * x, problem("sinusoidal").noise, factor=0.5)
    (result,) = METHODS["tv"].run(halved, None, halved.measure(x), 0)
    assert float(result.image.mean()) == pytest.approx(0.8, abs=0.01)


def test_methods_refuse_problems_that_they_cannot_solve():
    sensing, signs = problem("compressive-sensing"), problem("one-bit")
    for method in ("bm3d", "tv"):
        with pytest.raises(ValueError, match=f"{method} removes noise from pictures, and these measurements are none"):
            next(METHODS[method].run(sensing, None, sensing.measure(pictures("compressive-sensing")), 0))
    with pytest.raises(ValueError, match="lasso needs linear measurements"):
        next(METHODS["lasso"].run(signs, None, signs.measure(pictures("one-bit")), 0))
