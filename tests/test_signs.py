"""Digits from signs: the estimate is the stated maximum, and samples beat what the signs say without a prior."""

from __future__ import annotations

import json

import pytest
import torch

from invlib import examples, runs
from invlib.cli import main
from invlib.metrics import psnr_all_channels
from invlib.priors import checkpoints
from invlib.priors.denoisers import BFCNN
from invlib.problems import structured
from invlib.problems.structured import ONE_BIT, TASKS
from invlib.solvers.signs import SOFTNESS, SignPosterior, brightened


def measured(count: int, seed: int = 0):
    """A model of `count` signs, a digit (1, 1, 28, 28) and its measurements."""
    model = TASKS[ONE_BIT].build(TASKS[ONE_BIT].complete({"count": count}, ONE_BIT), seed)
    x = examples.subject(structured.DIGITS, "digit-1").image
    return model, x, model.measure(x, seed)


def test_the_estimate_is_the_most_likely_image_near_the_denoisers():
    model, x, y = measured(300)
    sigma, posterior = 0.2, SignPosterior(BFCNN(1, depth=2, width=4).eval(), model, y)
    x_hat = x + 0.1 * torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = posterior.likeliest(x_hat, sigma).requires_grad_()
    likelihood = model.forward.log_prob(model.noise, y, found, SOFTNESS * sigma)
    (slope,) = torch.autograd.grad(likelihood.sum(), found)
    # Where the objective is greatest, the likelihood pulls as much one way as the prior does the other.
    balance = slope - (found - x_hat).detach() / sigma**2
    assert float(balance.norm()) < 0.01 * float(slope.norm())
    before = model.forward.log_prob(model.noise, y, x_hat, SOFTNESS * sigma)
    assert bool((likelihood > before).all())


def test_a_sample_does_not_depend_on_those_that_run_beside_it():
    model, x, y = measured(300)
    posterior = SignPosterior(BFCNN(1, depth=2, width=4).eval(), model, y)
    x_hat = x + 0.1 * torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([posterior.likeliest(one, 0.1) for one in x_hat.split(1)])
    torch.testing.assert_close(posterior.likeliest(x_hat, 0.1), alone, atol=1e-3, rtol=0)


def test_the_brightest_pixels_become_white():
    x = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 5.0]).view(2, 1, 1, 1)
    scaled = brightened(x)
    top = scaled.flatten(1).topk(10).values.mean(1)
    torch.testing.assert_close(top, torch.ones(2))
    torch.testing.assert_close(scaled[0] / scaled[0].max(), x[0] / x[0].max())
    torch.testing.assert_close(brightened(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, 4, 4))


SHIPPED = checkpoints.weights_folder()


@pytest.mark.skipif(not (SHIPPED / "bf-cnn-mnist.safetensors").is_file(), reason="the prior is not there")
def test_samples_from_signs_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    problem = structured.pose(ONE_BIT, examples.subject(structured.DIGITS, "digit-1"), {"count": 800})
    settings = runs.settings(problem, "pair", {"evaluations": 12}, samples=2)
    assert settings.prior == "bf-cnn-mnist"
    run = runs.finish(runs.solve(problem, settings))
    truth = problem.truth
    found = torch.from_numpy(run.mean).float()[None, None] / 255
    assert float(psnr_all_channels(found, truth)) > float(psnr_all_channels(problem.baseline(), truth)) + 8

    (tmp_path / "run.json").write_text(json.dumps(run.to_json()))
    assert main(["remove-noise", "--replay", "run.json", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["mean"]["psnr"] == pytest.approx(run.parameters["mean"]["psnr"], abs=0.05)
