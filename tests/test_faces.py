"""The shipped prior of faces: what it draws has the contrast and the layout of faces."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from invlib import runs
from invlib.cli import main
from invlib.examples import subject
from invlib.priors import checkpoints
from invlib.priors.flows import Flow
from invlib.problems import prior
from invlib.problems.structured import FACES
from invlib.solvers.methods import FACES_PRIOR

pytestmark = pytest.mark.skipif(
    not (checkpoints.weights_folder() / f"{FACES_PRIOR}.safetensors").is_file(), reason="the prior is not there"
)


def samples(name: str, count: int) -> Tensor:
    """Samples of a denoiser by Algorithm 1, (count, 3, 64, 64)."""
    problem = prior.pose((3, 64, 64))
    settings = runs.settings(problem, "paper", {"h0": 0.05, "sigma_L": 0.03}, prior=name, samples=count)
    for drawn in runs.solve(problem, settings):
        found = drawn.images
    assert found is not None
    return found.cpu().clamp(0, 1)


def likeness(images: Tensor, template: Tensor) -> Tensor:
    """The correlation of images (n, C, H, W) with one of them, (n,)."""
    images, template = (x - x.mean((1, 2, 3), keepdim=True) for x in (images, template))
    return torch.cosine_similarity(images.flatten(1), template.flatten(1))


def test_samples_have_the_layout_and_the_contrast_of_faces():
    faces = checkpoints.load("realnvp-faces", kind=Flow, device="cpu").sample(32, 0, 0.7)
    template = faces.mean(0, keepdim=True)  # a face in the middle, hair around it
    drawn = samples(FACES_PRIOR, 8)
    assert float(likeness(drawn.mean(0, keepdim=True), template)) > 0.6
    contrast = drawn.std((1, 2, 3))
    assert bool((contrast > 0.08).all())
    assert 0.13 < float(contrast.mean()) < 0.3

    others = samples("bf-unet-color", 4)
    assert float(likeness(others, template).mean()) < float(likeness(drawn, template).mean()) - 0.2


def test_it_takes_noise_off_a_face_better_than_the_prior_of_photographs():
    x = subject(FACES, "astronaut").image
    y = x + 0.6 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error = {}
    for name in (FACES_PRIOR, "bf-unet-color"):
        net = checkpoints.load(name, device="cpu")
        with torch.inference_mode():
            error[name] = float((y - net(y) - x).square().mean())
    assert error[FACES_PRIOR] < 0.95 * error["bf-unet-color"]


def test_the_command_line_draws_the_size_of_its_faces(tmp_path, capsys):
    assert main(["sample", "--prior", FACES_PRIOR, "--h0", "0.5", "--out", str(tmp_path), "--json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert (run["image_shape"], run["settings"]["sigma_0"], run["settings"]["beta"]) == ([3, 64, 64], 8.0, 0.7)
