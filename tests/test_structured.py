"""The tables of problems with structured noise, and of methods against it."""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from torch import Tensor

from invlib import images
from invlib.images import Picture
from invlib.problems import structured
from invlib.problems.noise import PastedDigits
from invlib.problems.structured import DIGITS, FACES, IMAGE_SHAPES, TASKS, MeasurementModel
from invlib.solvers import inversion, methods
from invlib.solvers.inversion import collect
from invlib.solvers.methods import FAMILIES, suiting
from invlib.solvers.schedules import Schedule
from tests.small_priors import use_small_priors

SHAPE = (3, 64, 64)
METHODS = methods.METHODS["remove-noise"]
COUNTS = {"compressive-sensing": 60, "one-bit": 60, "digits": 2}
"""Of measurements or digits, in place of the defaults."""


@pytest.fixture(autouse=True)
def priors(tmp_path, monkeypatch):
    use_small_priors(tmp_path / "weights", monkeypatch)


def problem(task: str, seed: int = 0) -> MeasurementModel:
    given = {"count": COUNTS[task]} if task in COUNTS else {}
    if task in structured.DRAWN:
        strokes = torch.zeros(4, 64, 64)
        strokes[:, 20:24, 10:50] = 1
        given = {"strokes": strokes}
    return TASKS[task].build(TASKS[task].complete(given, task), seed)


def complete(task: str, method: str, given=None) -> dict:
    """The settings that a method has for a task."""
    return METHODS[method].complete(task, 1, given or {}, method)


def names(method: str) -> set[str]:
    """What the settings of a method are called."""
    return {knob.name for knob in METHODS[method].knobs}


def load_prior(task: str, method: str):
    kind = METHODS[method].prior
    if kind not in FAMILIES:
        return None if kind is None else methods.load_prior(methods.default_prior(3), kind)
    return methods.load_prior(f"{FAMILIES[kind]}-{TASKS[task].pictures}", kind)


def pictures(task: str, count: int = 2) -> Tensor:
    shape = IMAGE_SHAPES[TASKS[task].pictures]
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


# Tables


@pytest.mark.parametrize("task", TASKS)
def test_a_task_names_methods_that_exist_and_settings_that_they_have(task):
    assert TASKS[task].pictures in (FACES, DIGITS)
    suitable = suiting("remove-noise", task)
    assert next(iter(suitable)) == ("pair" if task == "strokes" else "map")
    for name, method in METHODS.items():
        assert set(method.tasks or TASKS) <= set(TASKS)
        assert set(method.defaults) <= set(method.tasks or TASKS)
        assert set(method.defaults.get(task, {})) <= names(name)
        assert (name in suitable) == (task != "strokes" if method.tasks is None else task in method.tasks)


def test_the_methods_of_a_task():
    common = ["map", "map-z", "mle", "asim", "bora"]
    special = {
        "compressive-sensing": ["map", "pair", *common[1:], "lasso"],
        "one-bit": ["map", "pair", *common[1:]],
        "strokes": ["pair"],
    }
    for task in TASKS:
        expected = special.get(task, ["map", "pair", *common[1:], "bm3d", "tv"])
        assert list(suiting("remove-noise", task)) == expected


@pytest.mark.parametrize("task", TASKS)
def test_the_knobs_of_a_task_are_those_that_build_its_problem(task):
    knobs = {knob.name: knob for knob in TASKS[task].knobs}
    assert set(knobs) == set(signature(TASKS[task].model).parameters) - {"shape", "seed"}
    for knob in knobs.values():
        assert knob.default is None or knob.default == knob.check(knob.default)
    if TASKS[task].swept:
        name, values = TASKS[task].swept
        assert {type(value) for value in values} == {knobs[name].kind}
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
    functions |= {"pair": Schedule, "lasso": methods.run_lasso, "tv": methods.run_tv, "bm3d": methods.run_bm3d}
    assert names(name) <= set(signature(functions[name]).parameters)


def test_settings_are_the_given_ones_else_the_task_s_else_the_method_s():
    assert complete("compressive-sensing", "asim") == {"gamma": 10.0, "steps": 300}
    assert complete("compressive-sensing", "asim", {"gamma": 3.0}) == {"gamma": 3.0, "steps": 300}
    assert complete("sinusoidal", "mle") == {knob.name: knob.default for knob in METHODS["mle"].knobs}
    with pytest.raises(ValueError, match="--gamma does not belong to map, which has --beta, --steps"):
        complete("sinusoidal", "map", {"gamma": 1.0})
    with pytest.raises(ValueError, match="--steps does not belong to tv, which has no settings"):
        complete("sinusoidal", "tv", {"steps": 1})
    assert complete("one-bit", "map")["smoothing"] < complete("sinusoidal", "map")["smoothing"]


@pytest.mark.parametrize(
    ("task", "method", "expected"),
    [
        ("sinusoidal", "map", {"smoothing": 0.5, "steps": 60}),
        ("radial", "map", {"smoothing": 0.5, "steps": 60}),
        ("digits", "map", {"smoothing": 0.5, "steps": 100}),
        ("scribble", "map", {"smoothing": 0.5, "steps": 120}),
        ("compressive-sensing", "map", {"smoothing": 0.5, "steps": 120}),
        ("one-bit", "map", {"smoothing": 0.05, "steps": 200}),
        ("radial", "map-z", {"smoothing": 0.5, "steps": 150}),
        ("compressive-sensing", "map-z", {"smoothing": 100.0, "steps": 300}),
        ("scribble", "asim", {"gamma": 0.0, "steps": 400}),
        ("digits", "bora", {"lam": 0.01, "steps": 1000}),
        ("compressive-sensing", "bora", {"lam": 0.001, "steps": 1000}),
        ("compressive-sensing", "lasso", {"lam": 0.01}),
        ("sinusoidal", "tv", {}),
    ],
)
def test_the_defaults_of_a_method_for_a_task(task, method, expected):
    assert complete(task, method) == expected


@pytest.mark.parametrize("task", TASKS)
def test_priors_have_the_kind_of_the_task_s_pictures(task):
    shape = IMAGE_SHAPES[TASKS[task].pictures]
    for method in suiting("remove-noise", task):
        prior = load_prior(task, method)
        assert (prior is None) == (METHODS[method].prior is None)
        assert METHODS[method].prior not in FAMILIES or prior.image_shape == shape


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
    flow, gan = load_prior(task, "map"), load_prior(task, "mle")
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
        settings = {name: given[name] for name in names(method)}
        prior = gan if FAMILIES[METHODS[method].prior] == "dcgan" else flow
        result = collect(METHODS[method].minimise(posed, prior, y, 0, **settings))
        direct = collect(iterates)
        torch.testing.assert_close(result.image, direct.image, rtol=0, atol=1e-6)
        torch.testing.assert_close(result.objective, direct.objective)


@pytest.mark.parametrize(("method", "settings"), [("tv", {}), ("lasso", {"lam": 0.1})])
def test_what_needs_no_prior_ends_in_one_iterate(method, settings):
    posed, x = problem("sinusoidal"), torch.full((2, *SHAPE), 0.4)
    y = posed.measure(x)
    (result,) = METHODS[method].minimise(posed, None, y, 0, **settings)
    assert (result.outcome, result.evaluations, result.image.shape) == ("finished", 0, x.shape)
    torch.testing.assert_close(result.noise_log_prob, posed.noise.log_prob(y - result.image))
    assert float((result.image - x).std()) < 0.5 * float((y - x).std())


def test_total_variation_works_on_the_picture_before_it_was_scaled():
    """½ x + δ is denoised as x + 2δ, so that the result has the brightness of x."""
    x = torch.full((1, *SHAPE), 0.8)
    halved = MeasurementModel(SHAPE, lambda x: 0.5 * x, problem("sinusoidal").noise, factor=0.5)
    (result,) = METHODS["tv"].minimise(halved, None, halved.measure(x), 0)
    assert float(result.image.mean()) == pytest.approx(0.8, abs=0.01)


def test_methods_refuse_problems_that_they_cannot_solve():
    sensing, signs = problem("compressive-sensing"), problem("one-bit")
    for method in ("bm3d", "tv"):
        with pytest.raises(ValueError, match=f"{method} removes noise from pictures, and these measurements are none"):
            next(METHODS[method].minimise(sensing, None, sensing.measure(pictures("compressive-sensing")), 0))
    with pytest.raises(ValueError, match="lasso needs linear measurements"):
        next(METHODS["lasso"].minimise(signs, None, signs.measure(pictures("one-bit")), 0))


# Problems by name


def picture(task: str) -> Picture:
    return Picture("noise", images.quantise(pictures(task, 1)), "nothing but noise", None)


def test_a_problem_is_posed_with_its_defaults_and_a_seed():
    posed = structured.pose("digits", picture("digits"), {"count": 2}, seed=3)
    assert (posed.knobs, posed.seed, posed.measured, posed.image_shape) == ({"count": 2}, 3, 3 * 64 * 64, SHAPE)
    model, y = posed.build()
    torch.testing.assert_close(y, model.measure(posed.truth, 3), rtol=0, atol=0)
    assert structured.pose("radial", picture("radial")).knobs == {"c": 0.1}
    assert structured.pose("one-bit", picture("one-bit"), {"count": 60}).measured == 60


def test_problems_are_equal_if_their_parameters_are():
    one, same, other = (structured.pose("radial", picture("radial"), seed=seed) for seed in (0, 0, 1))
    assert one == same != other
    assert hash(one) == hash(same)


def test_a_noisy_picture_has_no_truth():
    posed = structured.pose("radial", picture("radial"), simulated=False)
    assert posed.truth is None
    assert torch.equal(posed.build()[1], posed.picture.image)
    assert posed.posed.delta is None


def test_strokes_are_kept_in_8_bits_and_are_to_be_there():
    strokes = torch.full((4, 64, 64), 0.5011)
    strokes[3, 0] = 0
    posed = structured.pose("scribble", picture("scribble"), {"strokes": strokes})
    assert posed.ready
    assert torch.equal(posed.knobs["strokes"], images.quantise(strokes))
    assert not structured.pose("scribble", picture("scribble"), {"strokes": torch.zeros(4, 64, 64)}).ready
    with pytest.raises(ValueError, match="scribble needs its strokes: give a drawing of them"):
        structured.pose("scribble", picture("scribble"))


@pytest.mark.parametrize(
    ("task", "knobs", "simulated", "said"),
    [
        ("magic", {}, True, "'magic' is not a task: choose one of sinusoidal"),
        ("sinusoidal", {"count": 2}, True, "--count does not belong to sinusoidal, which has --c"),
        ("sinusoidal", {"c": 2.0}, True, '"c" must be a number above 0 and at most 1, got 2'),
        ("digits", {}, False, "does not go with digits"),
        ("one-bit", {}, False, "the measurements of one-bit are none"),
    ],
)
def test_problems_that_cannot_be_posed(task, knobs, simulated, said):
    with pytest.raises(ValueError, match=said):
        structured.pose(task, picture("radial"), knobs, simulated=simulated)
