"""Samples of flows and GANs, which turn noise into a picture in one evaluation."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from invlib import cli, runs
from invlib.priors import checkpoints
from invlib.priors.flows import Flow, bits_per_dim
from invlib.problems import prior
from invlib.solvers import methods
from invlib.solvers.methods import METHODS, Estimate, sampler_of

DIGITS = (1, 28, 28)
PRIORS = {"flow": "realnvp-mnist", "gan": "dcgan-mnist"}


@cache
def load(method: str) -> Any:
    """The prior of a method on the CPU, because a GPU's convolutions keep 10 bits of a number in float32."""
    return checkpoints.load(PRIORS[method], METHODS["sample"][method].prior or Flow, device="cpu")


def draw(method: str, count: int = 4, seed: int = 0, temperature: float = 1.0, interpolate: bool = False) -> Estimate:
    """The estimate before it is rounded to 8 bits."""
    problem = prior.pose(DIGITS, interpolate=interpolate)
    (estimate,) = METHODS["sample"][method].run(problem, load(method), {"temperature": temperature}, count, seed)
    return estimate


def encode(images: Tensor) -> Tensor:
    with torch.no_grad():
        z: Tensor = load("flow").encode(images)[0]
    return z


@pytest.mark.parametrize("method", PRIORS)
def test_a_sample_depends_on_the_seed_and_its_number_only(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two, other = draw(method, 2).images, draw(method, 2, seed=1).images
    monkeypatch.setattr(methods, "AT_ONCE", 2)
    five = draw(method, 5).images
    torch.testing.assert_close(five[:2], two, rtol=0, atol=1e-4)
    every = torch.cat([five, other]).flatten(1)
    assert float(torch.cdist(every, every).fill_diagonal_(torch.inf).min()) > 0.5, "no two are alike"


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_temperature_is_the_standard_deviation_of_a_flows_noise(temperature: float) -> None:
    z = encode(draw("flow", temperature=temperature).images)
    torch.testing.assert_close(z.std(1), torch.full((4,), temperature), rtol=0.1, atol=1e-3)


def test_bits_are_those_of_the_flows_density() -> None:
    estimate = draw("flow", temperature=0.8)
    with torch.no_grad():
        log_prob = load("flow").log_prob(estimate.images)
    expected = bits_per_dim(log_prob, 28 * 28, bits=8)
    torch.testing.assert_close(torch.tensor(estimate.found["bits_per_dim"]), expected, rtol=0, atol=1e-3)
    assert draw("gan").found == {}, "it has no density"


@pytest.mark.parametrize("method", PRIORS)
def test_the_way_from_one_sample_to_another_begins_and_ends_with_them(method: str) -> None:
    way, ends = draw(method, 5, interpolate=True).images, draw(method, 2).images
    torch.testing.assert_close(way[[0, -1]], ends, rtol=0, atol=1e-4)
    assert all(float((image - end).abs().mean()) > 0.02 for image in way[1:-1] for end in ends)
    if method == "flow":
        torch.testing.assert_close(encode(way).std(1), torch.ones(5), rtol=0.1, atol=0)
    with pytest.raises(ValueError, match="at least 2"):
        draw(method, 1, interpolate=True)


def test_a_method_has_the_shipped_prior_of_its_size() -> None:
    for shape, pictures in (((3, 64, 64), "faces"), (DIGITS, "mnist")):
        chosen = [runs.settings(prior.pose(shape), method).prior for method in PRIORS]
        assert chosen == [f"realnvp-{pictures}", f"dcgan-{pictures}"]
        assert [sampler_of(str(name)) for name in chosen] == list(PRIORS)
    assert sampler_of("bf-cnn-mnist") == "paper"
    with pytest.raises(ValueError, match="no shipped realnvp is for pictures of 64×64 pixels in grey"):
        runs.settings(prior.pose((1, 64, 64)), "flow")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sample(capsys: Any, *arguments: str) -> dict[str, Any]:
    assert cli.main(["sample", *arguments, "--json"]) == 0
    row: dict[str, Any] = json.loads(capsys.readouterr().out)
    return row


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("extra", [(), ("--interpolate",), ("--temperature", "0.7")])
@pytest.mark.parametrize("method", PRIORS)
def test_the_command_line_draws_and_replays_to_the_byte(method: str, extra: tuple[str, ...], capsys: Any) -> None:
    first = sample(capsys, "--prior", PRIORS[method], "--count", "2", "--seed", "3", *extra, "--out", "first")
    assert (first["method"], first["image_shape"], first["evaluations"]) == (method, list(DIGITS), 1)
    assert first["settings"] == {"temperature": 0.7 if "0.7" in extra else 1.0}
    assert len(first.get("bits_per_dim", [])) == (2 if method == "flow" else 0)
    Path("run.json").write_text(json.dumps(first))
    again = sample(capsys, "--replay", "run.json", "--out", "again")
    assert {**again, "seconds": 0, "files": []} == {**first, "seconds": 0, "files": []}
    assert all(
        Path(one).read_bytes() == Path(other).read_bytes()
        for one, other in zip(first["files"], again["files"], strict=True)
    )


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--prior realnvp-mnist --size 32", "draws pictures of 28×28 pixels in grey only: ask for that size"),
        ("--prior dcgan-mnist --size 28x56", "not for 56×28 pixels in grey"),
        ("--prior realnvp-mnist --beta 0.1", "--beta does not belong to flow, which has --temperature"),
        ("--prior bf-cnn-mnist --temperature 0.7", "--temperature does not belong to paper"),
        ("--prior dcgan-mnist --interpolate", "count must be at least 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(arguments: str, said: str, capsys: Any) -> None:
    assert cli.main(["sample", *arguments.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_shape": [1, 56, 56]}, "draws pictures of 28×28 pixels in grey only"),
        ({"settings": {}}, '"temperature" is missing'),
        ({"settings": {"temperature": -1.0}}, "of at least 0 and at most 2"),
        ({"prior": "dcgan-mnist"}, "dcgan-mnist is a Generator, not a Flow"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_a_sentence(change: dict[str, Any], said: str, capsys: Any) -> None:
    problem = prior.pose(DIGITS)
    Path("run.json").write_text(
        json.dumps({**problem.parameters, **runs.settings(problem, "flow").parameters, **change})
    )
    assert cli.main(["sample", "--replay", "run.json"]) == 2
    assert said in capsys.readouterr().err
