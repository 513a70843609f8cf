"""The recipes for flows, GANs and VAEs, and the images they train on."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from invlib import runtime
from invlib.cli import main
from invlib.priors import checkpoints
from invlib.priors.flows import Flow, RealNVP
from invlib.priors.gans import Generator
from invlib.training import flow, gan, vae
from invlib.training.data import Images, dequantisation_entropy, dequantise, load_images, read_faces
from invlib.training.run import trained
from tests import small_trainings

FLOW = flow.Recipe(kind="mnist", blocks=1, steps=6, batch=4, warmup=2)
GAN = gan.Recipe(kind="mnist", steps=6, batch=4, warmup=2)
VAE = vae.Recipe(steps=40, batch=16, warmup=2, ema=0.9, learning_rate=5e-3)


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    monkeypatch.setitem(flow.WIDTHS, "mnist", (16, 16))
    monkeypatch.setitem(flow.WIDTHS, "faces", (8, 8))
    monkeypatch.setitem(gan.WIDTHS, "mnist", (16, 8))
    monkeypatch.setitem(vae.WIDTHS, "mnist", (16, 8))


@pytest.fixture
def digits(tmp_path):
    return small_trainings.write_digits(tmp_path / "mnist", every=48)


@pytest.fixture
def faces(tmp_path):
    """Pictures of CelebA's size, whose colour is their number, in the reverse order of their names."""
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in reversed(range(40)):
            file = io.BytesIO()
            Image.new("RGB", (89, 109), (number, 2 * number, 255)).save(file, "PNG")
            archive.writestr(f"celeba/{number:06}.png", file.getvalue())
    return path


def test_training_lowers_bits_per_dimension(digits, tmp_path):
    recipe = replace(FLOW, steps=30, batch=8, warmup=5, learning_rate=3e-3)
    first, *_, last = flow.train(recipe, digits, tmp_path / "run.state")
    assert last.quality is not None
    # Eight bits is what white noise needs; the new flow only knows mean and deviation.
    assert last.losses["bits per dimension"] < first.losses["bits per dimension"] - 0.5
    assert last.quality["validation_bits_per_dim"] < first.losses["bits per dimension"] - 0.5
    assert last.skipped == 0
    net, *_ = trained(flow.Recipe, tmp_path / "run.state")
    _, validation = load_images(digits, "mnist")
    device = runtime.default_device()  # which draws the noise of the validation
    assert flow.validate(net.to(device), validation.to(device), FLOW) == pytest.approx(last.quality, abs=1e-3)


@pytest.mark.usefixtures("repeatable")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_stopped_flow_goes_on_to_the_same_weights(digits, tmp_path, optimizer):
    recipe = replace(FLOW, optimizer=optimizer)
    whole = [step.losses["bits per dimension"] for step in flow.train(recipe, digits, tmp_path / "whole.state")]
    stopped = tmp_path / "stopped.state"
    first = [
        step.losses["bits per dimension"]
        for step in itertools.islice(flow.train(recipe, digits, stopped, save_every=0.0), 3)
    ]
    rest = [step.losses["bits per dimension"] for step in flow.train(recipe, digits, stopped)]
    assert first + rest == pytest.approx(whole, rel=1e-4)
    expected, resumed = (trained(flow.Recipe, tmp_path / f"{name}.state")[0] for name in ("whole", "stopped"))
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], tensor, rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="another recipe"):
        next(flow.train(replace(recipe, seed=1), digits, stopped))


def test_a_gradient_that_is_not_finite_changes_nothing(digits, tmp_path, monkeypatch):
    log_prob = RealNVP.log_prob
    calls = itertools.count()
    monkeypatch.setattr(RealNVP, "log_prob", lambda self, x: log_prob(self, x) * (np.nan if next(calls) == 1 else 1))
    steps = list(flow.train(replace(FLOW, steps=3), digits, tmp_path / "run.state"))
    assert [step.skipped for step in steps] == [0, 1, 1]
    assert steps[-1].quality is not None
    assert np.isfinite(steps[-1].quality["validation_bits_per_dim"])


@pytest.mark.usefixtures("repeatable")
def test_a_stopped_gan_goes_on_to_the_same_weights(digits, tmp_path):
    whole = list(gan.train(GAN, digits, tmp_path / "whole.state"))
    stopped = tmp_path / "stopped.state"
    first = list(itertools.islice(gan.train(GAN, digits, stopped, save_every=0.0), 3))
    rest = list(gan.train(GAN, digits, stopped))
    for name in ("generator", "discriminator"):
        expected = [step.losses[name] for step in whole]
        assert [step.losses[name] for step in first + rest] == pytest.approx(expected, rel=1e-3)
    nets = [trained(gan.Recipe, tmp_path / f"{name}.state")[0] for name in ("whole", "stopped")]
    torch.testing.assert_close(nets[0].sample(2), nets[1].sample(2), rtol=1e-3, atol=1e-3)


def test_a_gan_moves_towards_the_images(digits, tmp_path):
    """Grey at first, it learns at least the mean of the patches."""
    recipe = replace(GAN, steps=60, batch=16, ema=0.9, learning_rate=2e-3)
    list(gan.train(recipe, digits, tmp_path / "run.state"))
    training, _ = load_images(digits, "mnist")
    before, (after, *_) = recipe.build().eval(), trained(gan.Recipe, tmp_path / "run.state")
    spread = [float(net.sample(64).mean((1, 2, 3)).std()) for net in (before, after)]
    assert spread[1] > 2 * spread[0], "patches differ in their mean"
    assert float(after.sample(64).mean()) == pytest.approx(float(training.float().mean() / 255), abs=0.2)


def test_a_vae_learns_to_rebuild_images_and_its_decoder_is_kept(digits, tmp_path):
    first, *_, last = vae.train(VAE, digits, tmp_path / "run.state")
    assert last.quality is not None
    assert last.losses["nats"] < first.losses["nats"] - 8
    assert last.quality["validation_nats"] < first.losses["nats"] - 4
    net, *_ = trained(vae.Recipe, tmp_path / "run.state")
    assert type(net) is Generator, "the encoder has done its work"
    (again,) = vae.train(VAE, digits, tmp_path / "run.state")
    assert again.quality == pytest.approx(last.quality, abs=0.02)


def test_the_bound_of_a_vae_is_what_its_code_and_its_picture_miss(digits):
    net, x = VAE.build().eval(), load_images(digits, "mnist")[0][:3].float() / 255
    with torch.no_grad():
        mean, log_std = net.encode(x)
        made = torch.distributions.Bernoulli(net.decoder(mean), validate_args=False).log_prob(x).sum((1, 2, 3))
        codes = torch.distributions.Normal(mean, log_std.exp())
        far = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(net.bound(x, torch.zeros(3, VAE.latent_dim)), far - made)


def test_faces_come_in_the_order_of_their_names_and_the_last_are_held_out(faces):
    training, validation = load_images(faces, "faces")
    assert training.shape == (38, 3, 64, 64)
    assert training.dtype == torch.uint8
    assert [int(face[0, 0, 0]) for face in torch.cat([training, validation])] == list(range(40))
    assert [int(face[1, 5, 5]) for face in validation] == [76, 78]


def test_the_face_box_is_the_same_at_both_sizes_of_celeba(tmp_path):
    """White inside the box, at both sizes."""
    for scale in (1, 2):
        picture = np.zeros((109 * scale, 89 * scale, 3), np.uint8)
        picture[18 * scale : 98 * scale, 5 * scale : 84 * scale] = 255
        folder = tmp_path / str(scale)
        folder.mkdir()
        Image.fromarray(picture).save(folder / "face.png")
        (face,) = read_faces(folder)
        assert bool((face[:, 1:-1, 1:-1] == 255).all())
        assert int(face.min()) > 100, "the edge is blurred, but not missed by a pixel"


def test_pictures_that_are_not_celeba_are_refused(tmp_path):
    (tmp_path / "faces").mkdir()
    with pytest.raises(ValueError, match="no pictures"):
        read_faces(tmp_path / "faces")
    Image.new("RGB", (64, 64)).save(tmp_path / "faces" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png .*64×64"):
        read_faces(tmp_path / "faces")
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        read_faces(tmp_path / "faces" / "a.png")


def test_dequantised_images_fill_the_bins_of_their_bits():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(50, 1, 1, 1)
    x = dequantise(images, 5, torch.Generator().manual_seed(0))
    torch.testing.assert_close((32 * x).floor(), (images // 8).float())
    fractions = (32 * x).frac()
    assert 0 <= float(fractions.min()) < 0.01
    assert 0.99 < float(fractions.max()) <= 1
    assert float(fractions.mean()) == pytest.approx(0.5, abs=0.01)


def test_normal_noise_fills_the_bins_and_has_the_entropy_it_is_said_to_have():
    images = torch.full((200, 1, 32, 32), 96, dtype=torch.uint8)
    fractions = (32 * dequantise(images, 5, torch.Generator().manual_seed(0), "normal")).sub(12)
    assert float(fractions.min()) >= 0
    assert float(fractions.max()) <= 1
    density, _ = torch.histogram(fractions.flatten(), 100, range=(0, 1), density=True)
    entropy = -float((density * density.clamp(min=1e-9).log2()).mean())
    assert dequantisation_entropy("normal") == pytest.approx(entropy, abs=0.01)
    assert dequantisation_entropy("uniform") == 0


def test_white_noise_is_added_to_the_images_that_a_flow_models():
    images = torch.full((50, 1, 28, 28), 128, dtype=torch.uint8)
    recipe = replace(FLOW, noise=0.05)
    x = flow.continuous(images, recipe, torch.Generator().manual_seed(0))
    assert float(x.std()) == pytest.approx(0.05, rel=0.02)
    assert float(x.mean()) == pytest.approx(128.5 / 256, abs=2e-3)


def test_batches_depend_on_seed_and_step_and_half_of_them_are_mirrored():
    ramp = torch.arange(8, dtype=torch.uint8).expand(5, 1, 8, 8)
    images = Images(ramp, flip=True, seed=2)
    torch.testing.assert_close(images.batch(3, 200), images.batch(3, 200))
    mirrored = [int(image[0, 0, 0]) == 7 for image in images.batch(3, 200)]
    assert 70 < sum(mirrored) < 130
    assert not torch.equal(images.batch(3, 200), images.batch(4, 200))
    assert not any(int(image[0, 0, 0]) for image in Images(ramp, flip=False, seed=2).batch(3, 200))


def run(capsys, *arguments):
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_commands_write_checkpoints_that_say_how_they_were_made(capsys, digits, faces, tmp_path):
    out = tmp_path / "flow.safetensors"
    shared = ("--steps", 2, "--batch", 2, "--warmup", 1)
    row = run(capsys, "train", "flow", "--data", faces, "--kind", "faces", "--out", out, *shared)
    net = checkpoints.load(out, Flow, device="cpu")
    assert net.sample(1).shape == (1, 3, 64, 64)
    about = checkpoints.describe(out).metadata
    assert about["quality"] == {"validation_bits_per_dim": row["validation_bits_per_dim"]}
    assert "2 steps from scratch" in about["recipe"]
    assert about["data"] == "faces.zip"
    out = tmp_path / "digits.safetensors"
    run(capsys, "train", "flow", "--data", digits, "--kind", "mnist", "--logit", "--out", out, *shared)
    assert checkpoints.describe(out).arguments["logit"] is True
    for recipe in ("gan", "vae"):
        out = tmp_path / f"{recipe}.safetensors"
        run(capsys, "train", recipe, "--data", digits, "--kind", "mnist", "--out", out, *shared)
        assert checkpoints.load(out, Generator, device="cpu").sample(1).shape == (1, 1, 28, 28)
