"""The training recipe: it learns, resumes, and starts from other networks."""

from __future__ import annotations

import gzip
import io
import itertools
import math
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from invlib import images
from invlib.priors.denoisers import ARCHITECTURES, BFCNN, BFDenseNet, BFRecurrentCNN, BFUNet
from invlib.problems.operators import BlockAverage
from invlib.training import measurements
from invlib.training.data import Crops, load_training_set, read_idx
from invlib.training.denoiser import GROUP, Recipe, draw_sigmas, noisy_batch, told_noise, train, warm_start
from invlib.training.muon import orthogonalise
from invlib.training.run import describe_recipe, learning_rate, trained

RECIPE = Recipe(architecture="BFCNN", channels=1, steps=6, batch=2, crop=16, warmup=2)


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "photographs"
    for index, picture in enumerate((data.camera(), data.coins(), data.brick())):
        pixels = torch.from_numpy(picture[:96, :80] / 255).float()[None]
        images.save_image(pixels, folder / f"{index}.png")
    return folder


SMALL = {
    "BFCNN": lambda channels, **options: BFCNN(channels, depth=4, width=16, **options),
    "BFUNet": lambda channels, blocks=1, told=False: BFUNet(channels, (16, 32), blocks, told),
    "BFRecurrentCNN": lambda channels: BFRecurrentCNN(channels, width=16, blocks=1, passes=3),
    "BFDenseNet": lambda channels: BFDenseNet(channels, width=16, growth=16, layers=2, blocks=2),
}


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """A run of the published size takes a minute a step; these tests are about the loop."""
    monkeypatch.setattr("invlib.training.denoiser.ARCHITECTURES", SMALL)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_learns_to_denoise(photographs, tmp_path, architecture, optimizer):
    recipe = replace(RECIPE, architecture=architecture, optimizer=optimizer, steps=100, batch=8, warmup=10)
    *_, last = train(recipe, photographs, tmp_path / "run.state")
    # With noise σ the noisy picture itself has a PSNR of -20 log10 σ.
    assert last.quality is not None
    assert last.quality["validation_psnr"]["0.4"] > 7.96 + 4
    assert last.quality["validation_psnr"]["0.2"] > 13.98 + 2


@pytest.mark.usefixtures("repeatable")
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(photographs, tmp_path):
    for optimizer in ("adamw", "muon"):
        recipe = replace(RECIPE, optimizer=optimizer)
        whole = [step.losses["loss"] for step in train(recipe, photographs, tmp_path / f"{optimizer}-whole.state")]
        stopped = tmp_path / f"{optimizer}-stopped.state"
        first = [
            step.losses["loss"] for step in itertools.islice(train(recipe, photographs, stopped, save_every=0.0), 3)
        ]
        rest = [step.losses["loss"] for step in train(recipe, photographs, stopped)]
        assert first + rest == pytest.approx(whole, rel=1e-4)
        expected, *_ = trained(Recipe, tmp_path / f"{optimizer}-whole.state")
        resumed, *_ = trained(Recipe, stopped)
        y = torch.rand(1, 1, 16, 16)
        torch.testing.assert_close(resumed(y), expected(y), rtol=1e-3, atol=1e-6)


def test_a_state_file_of_another_recipe_is_refused(photographs, tmp_path):
    list(train(RECIPE, photographs, tmp_path / "run.state"))
    with pytest.raises(ValueError, match="another recipe"):
        list(train(replace(RECIPE, seed=1), photographs, tmp_path / "run.state"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_grey_starts_as_the_colour_network_on_grey_pictures(architecture):
    torch.manual_seed(0)
    colour, grey = SMALL[architecture](3).eval(), SMALL[architecture](1)
    y = torch.rand(2, 1, 16, 16)
    warm_start(grey, colour, y)
    grey.eval()
    expected = colour(y.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    torch.testing.assert_close(grey(y), expected, rtol=1e-3, atol=1e-7)


def test_colour_starts_as_the_grey_network_on_grey_pictures():
    torch.manual_seed(0)
    grey, colour = BFUNet(1, (16, 32), 1), BFUNet(3, (16, 32), 1)
    y = torch.rand(2, 1, 16, 16)
    warm_start(colour, grey, y)
    torch.testing.assert_close(colour(y.expand(-1, 3, -1, -1)), grey(y).expand(-1, 3, -1, -1), rtol=1e-3, atol=1e-7)


def test_a_recipe_says_how_many_blocks_a_unet_has():
    net = Recipe(channels=1, blocks=(3, 2)).build()
    assert [len(stage) for stage in (*net.enc, net.mid, *net.dec)] == [3, 2, 3]
    with pytest.raises(ValueError, match="BFUNet only"):
        replace(RECIPE, architecture="BFCNN", blocks=(3, 2)).build()


def test_a_unet_starts_as_one_of_fewer_blocks():
    torch.manual_seed(0)
    small, large = BFUNet(1, (16, 32), 1), BFUNet(1, (16, 32), (3, 2))
    y = torch.rand(2, 1, 16, 16)
    warm_start(large, small, y)
    torch.testing.assert_close(large(y), small(y), rtol=1e-3, atol=1e-7)
    with pytest.raises(ValueError, match="more layers"):
        warm_start(small, large, y)


def test_a_folded_network_starts_as_the_same_function():
    torch.manual_seed(0)
    folded = BFCNN(1, depth=5, width=8).eval().fold()
    net = BFCNN(1, depth=5, width=8)
    y = torch.rand(4, 1, 16, 16)
    warm_start(net, folded, y)
    torch.testing.assert_close(net.eval()(y), folded(y), rtol=1e-3, atol=1e-7)


def test_a_run_can_end_folded(photographs, tmp_path):
    begun = replace(RECIPE, optimizer="muon", steps=60, batch=8, warmup=10)
    *_, before = train(begun, photographs, tmp_path / "begun.state")
    source, *_ = trained(Recipe, tmp_path / "begun.state")
    ended = replace(begun, folded=True, learning_rate=1e-4, ema=0.9)
    first, *_, after = train(ended, photographs, tmp_path / "ended.state", source=source)
    assert first.losses["loss"] == pytest.approx(before.losses["loss"], rel=1.0), "it goes on from the folded network"
    assert before.quality is not None
    assert after.quality is not None
    assert after.quality["validation_psnr"]["0.1"] > before.quality["validation_psnr"]["0.1"]
    net, *_ = trained(Recipe, tmp_path / "ended.state")
    assert isinstance(net, BFCNN)
    assert net.folded


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_share_of_the_noise_levels_is_uniform_and_the_rest_log_uniform(share):
    sigmas = draw_sigmas(40_000, 0.005, share, torch.Generator().manual_seed(0)).flatten()
    uniform, log_uniform = sigmas.split([int(share * 40_000), 40_000 - int(share * 40_000)])
    for fractions in (uniform, log_uniform.log() / np.log(0.005)):
        assert 0 <= float(fractions.min()) < 0.001
        assert 0.999 < float(fractions.max()) <= 1
        assert float(fractions.mean()) == pytest.approx(0.5, abs=0.01)


def test_learning_rate_warms_up_and_falls_to_a_hundredth():
    recipe = Recipe(steps=1000, warmup=100, learning_rate=1.0)
    assert learning_rate(0, recipe) == pytest.approx(0.01)
    assert learning_rate(99, recipe) == pytest.approx(1.0, abs=0.03)
    assert learning_rate(500, recipe) == pytest.approx(0.505)
    assert learning_rate(1000, recipe) == pytest.approx(0.01)


def test_learning_rate_can_stay_and_fall_at_the_end():
    recipe = Recipe(steps=1000, warmup=100, learning_rate=1.0, decay=200)
    rates = [learning_rate(step, recipe) for step in (99, 500, 800, 900, 1000)]
    assert rates == pytest.approx([1.0, 1.0, 1.0, 0.5, 0.01])


def test_a_run_of_a_constant_rate_can_be_made_longer_or_shorter(photographs, tmp_path):
    state = tmp_path / "run.state"
    list(itertools.islice(train(replace(RECIPE, steps=20, decay=4), photographs, state, save_every=0.0), 3))
    *_, last = train(replace(RECIPE, steps=8, decay=5), photographs, state)
    assert last.step == 8
    with pytest.raises(ValueError, match="another recipe"):  # its rate has fallen already
        list(train(replace(RECIPE, steps=20, decay=4), photographs, state))


# What is measured of a crop

SHAPE = (3, 32, 32)


@pytest.mark.parametrize("kind", [kind for kind in measurements.KINDS if kind is not measurements.nothing])
def test_measurements_that_are_drawn_are_orthonormal_and_leave_something(kind):
    for seed in range(12):
        operator = kind(SHAPE, np.random.default_rng(seed))
        m = torch.randn(2, *operator.measurement_shape, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(operator.measure(operator.adjoint(m)), m, atol=2e-5, rtol=0)
        assert 0 < operator.measured < 0.97 * 3 * 32 * 32


def test_every_kind_of_measurement_is_drawn_as_often_as_it_should_be():
    random = np.random.default_rng(0)
    drawn = [type(measurements.draw_operator(SHAPE, random)).__name__ for _ in range(400)]
    for name, share in (("BlockAverage", 0.5), ("LowPass", 0.26), ("Blur", 0.12), ("NoneType", 0.02)):
        assert drawn.count(name) / 400 == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("level", [None, 0.05])
@pytest.mark.parametrize("kind", measurements.KINDS)
def test_noise_is_where_nothing_was_measured(kind, level):
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    operator = kind(SHAPE, np.random.default_rng(2))
    noisy = told_noise(x, torch.full((4, 1, 1, 1), 0.3), operator, level, torch.Generator().manual_seed(2))
    white = 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(noisy.y - noisy.noise, x, atol=1e-5, rtol=0)
    if operator is None:
        assert not noisy.measured.any()
        return
    torch.testing.assert_close(noisy.measured, operator.project(noisy.y), atol=1e-5, rtol=0)
    unmeasured = [y - operator.project(y) for y in (noisy.y, x + white)]
    torch.testing.assert_close(*unmeasured, atol=1e-4, rtol=0)
    in_measurements = operator.measure(noisy.noise)
    if level is None:
        assert float(in_measurements.abs().max()) < 1e-4
        assert noisy.exact == (operator,)
    else:
        assert noisy.exact == (None,)
        s = operator.noise_levels(level)
        expected = (1 / 0.3**2 + 1 / s**2).rsqrt()
        assert float((in_measurements / expected).square().mean()) == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("level", [None, 0.05])
def test_where_the_noise_is_infinite_only_the_measurements_are_left(level):
    x = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([math.inf, 0.3, math.inf, 0.3]).view(4, 1, 1, 1)
    operator = BlockAverage(SHAPE, 4)
    noisy = told_noise(x, sigma, operator, level, torch.Generator().manual_seed(2))
    torch.testing.assert_close(noisy.y - noisy.noise, x, atol=1e-5, rtol=0)
    unmeasured = (noisy.y - operator.project(noisy.y)).square().mean((1, 2, 3))
    assert float(unmeasured[::2].max()) < 1e-10
    assert float(unmeasured[1::2].min()) > 0.05
    noise = operator.measure(noisy.noise)[::2]
    expected = 0.0 if level is None else float(operator.noise_levels(level).square().mean())
    assert float(noise.square().mean()) == pytest.approx(expected, rel=0.3, abs=1e-10)
    assert bool(noisy.weight.isfinite().all())


def test_a_network_that_is_told_sees_measurements_alone_as_well(photographs):
    recipe = replace(RECIPE, told=True, batch=80, crop=24)
    pictures, _, augment = load_training_set(photographs, 3)
    noisy = noisy_batch(Crops(pictures, 24, augment, 0, torch.device("cpu")), recipe, 0)
    assert 0.55 < float(noisy.sigma.isinf().float().mean()) < 0.9
    assert bool(noisy.y.isfinite().all())


@pytest.mark.parametrize("level", [None, 0.05])
@pytest.mark.parametrize("kind", measurements.KINDS)
def test_grey_crops_have_grey_noise(kind, level):
    x = torch.rand(4, 1, 16, 24, generator=torch.Generator().manual_seed(0)).expand(4, 3, 16, 24)
    sigma = torch.tensor([math.inf, 0.3, 0.1, 0.3]).view(4, 1, 1, 1)
    operator = kind((3, 16, 24), np.random.default_rng(2))
    sigma = sigma if operator is not None else sigma.clamp_max(1)
    noisy = told_noise(x, sigma, operator, level, torch.Generator().manual_seed(2), grey=True)
    for part in (noisy.y, noisy.noise, noisy.measured):
        torch.testing.assert_close(part, part[:, :1].expand_as(part))
    torch.testing.assert_close(noisy.y - noisy.noise, x, atol=1e-5, rtol=0)


def test_some_groups_of_crops_are_grey():
    recipe = replace(RECIPE, told=True, batch=160, crop=24)
    astronaut = torch.from_numpy(data.astronaut()[:96, :80]).permute(2, 0, 1)
    noisy = noisy_batch(Crops([astronaut], 24, True, 0, torch.device("cpu")), recipe, 0)
    clean = noisy.y - noisy.noise
    grey = (clean - clean[:, :1]).abs().amax((1, 2, 3)) < 1e-5
    assert 0 < int(grey.sum()) < 80
    assert all(len(group.unique()) == 1 for group in grey.split(GROUP))


def test_a_loss_leaves_out_what_was_measured_exactly(photographs):
    recipe = replace(RECIPE, told=True, batch=40, crop=24)
    pictures, _, augment = load_training_set(photographs, 3)
    crops = Crops(pictures, 24, augment, 0, torch.device("cpu"))
    noisy = noisy_batch(crops, recipe, 0)
    assert 0 < sum(operator is not None for operator in noisy.exact) < len(noisy.exact)

    groups = zip(noisy.exact, torch.ones_like(noisy.y).split(GROUP), strict=True)
    wrong = [torch.zeros_like(ones) if operator is None else operator.project(ones) for operator, ones in groups]

    def wrong_where_measured(y, measured, sigma):
        return noisy.noise + torch.cat(wrong)

    assert float(noisy.loss(wrong_where_measured)) < 1e-9
    assert float(noisy.loss(lambda y, measured, sigma: noisy.noise + 1)) > 0.1


def test_a_run_of_a_given_time_ends_in_time_and_slows_down(photographs, tmp_path):
    recipe = replace(RECIPE, batch=1, crop=8, warmup=1)
    file = tmp_path / "run.state"
    # It is stopped twice, and goes on where it was: the time counts in all.
    for _ in range(2):
        next(train(recipe, photographs, file, minutes=0.1, validate_every=10**6, save_every=0.0))
    *_, last = train(recipe, photographs, file, minutes=0.1, validate_every=10**6)
    _, seconds, kept = trained(Recipe, file)
    assert last.saved
    assert last.quality is not None
    assert last.step == last.steps == kept.steps == kept.decay
    assert seconds > 6
    rates = [learning_rate(100, recipe, spent) / recipe.learning_rate for spent in (0, 0.25, 0.9, 1.1)]
    assert rates == pytest.approx([1, 0.75, 0.1, 0.01])


def test_a_network_that_is_told_learns_to_use_it(photographs, tmp_path):
    recipe = replace(RECIPE, architecture="BFUNet", told=True, optimizer="muon", steps=150, batch=8, crop=32, warmup=10)
    *_, last = train(recipe, photographs, tmp_path / "run.state")
    assert last.quality is not None
    # The second figure is for an iterate of σ 0.3, whose PSNR is 10.5 dB.
    assert last.quality["validation_told"]["blocks 4"][1] > 10.5 + 8
    net, *_ = trained(Recipe, tmp_path / "run.state")
    assert net.told


def test_a_network_that_is_told_starts_by_ignoring_it():
    torch.manual_seed(0)
    source, net = BFUNet(3, (16, 32), 1), BFUNet(1, (16, 32), 1, told=True)
    y = torch.rand(2, 1, 16, 16)
    warm_start(net, source, y)
    expected = source(y.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    torch.testing.assert_close(net(y, torch.rand(2, 1, 16, 16)), expected, rtol=1e-3, atol=1e-7)


def test_faces_are_mirrored_only_and_those_of_the_flows_held_out(tmp_path):
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(40):
            stream = io.BytesIO()
            Image.fromarray(np.full((109, 89, 3), index, np.uint8)).save(stream, "PNG")
            archive.writestr(f"{index:07}.png", stream.getvalue())
    training, validation, augment = load_training_set(path, 3)
    assert [int(face.max()) for face in validation] == [38, 39]
    assert (len(training), training[0].shape, augment) == (38, (3, 64, 64), "mirror")
    with pytest.raises(ValueError, match="in colour"):
        load_training_set(path, 1)
    ramp = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
    batch = Crops([ramp], 4, augment="mirror", seed=0, device=torch.device("cpu")).batch(0, 20)
    seen = {tuple(crop.mul(255).round().int().flatten().tolist()) for crop in batch}
    assert seen == {tuple(ramp.flatten().tolist()), tuple(ramp.flip(-1).flatten().tolist())}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalised_steps_have_singular_values_near_one(monkeypatch, dtype):
    monkeypatch.setattr("invlib.runtime.fast_dtype", lambda device: dtype)
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    assert float((orthogonalise(matrix) * (u @ vh)).sum() / 16) > 0.8, "the directions stay"


def test_crops_depend_on_seed_and_step_only_and_are_parts_of_the_pictures():
    picture = torch.arange(40 * 50, dtype=torch.int64).remainder(251).to(torch.uint8).view(1, 40, 50)
    crops = Crops([picture], 8, augment="none", seed=3, device=torch.device("cpu"))
    batch = crops.batch(7, 4)
    torch.testing.assert_close(batch, crops.batch(7, 4))
    assert not torch.equal(batch, crops.batch(8, 4))
    windows = picture.float().div(255).unfold(1, 8, 1).unfold(2, 8, 1).reshape(-1, 1, 8, 8)
    for crop in batch:
        assert bool((windows == crop).all((1, 2, 3)).any())


def test_validation_pictures_are_held_out(photographs):
    training, validation, augment = load_training_set(photographs, 1)
    assert (len(training), len(validation), augment) == (2, 1, "all")
    assert not any(torch.equal(validation[0], picture) for picture in training)


def test_compressed_photographs_are_used_only_reduced(tmp_path):
    picture = Image.fromarray(data.astronaut()[:96, :128])
    for index in range(3):
        picture.save(tmp_path / f"{index}.png")
        picture.save(tmp_path / f"{index}.jpg", quality=80)
    training, validation, _ = load_training_set(tmp_path, 3, reduced=True)
    assert [tuple(each.shape) for each in validation] == [(3, 96, 128)]
    sizes = [tuple(each.shape[1:]) for each in training]
    assert len(sizes) in (12, 13), "two JPEGs and three PNGs, or the reverse"
    assert sizes.count((67, 90)) == sizes.count((48, 64)) == 5
    plain, _, _ = load_training_set(tmp_path, 3)
    assert {tuple(each.shape) for each in plain} == {(3, 96, 128)}


def test_only_photographs_are_reduced(tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w"):
        pass
    with pytest.raises(ValueError, match="only photographs can be reduced"):
        load_training_set(tmp_path / "faces.zip", 3, reduced=True)


def test_idx_files_are_read_and_others_refused(tmp_path):
    digits = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">iiii", 2051, 2, 28, 28) + digits.tobytes()))
    torch.testing.assert_close(read_idx(path), torch.from_numpy(digits)[:, None])
    path.write_bytes(gzip.compress(struct.pack(">iiii", 2049, 2, 28, 28) + digits.tobytes()))
    with pytest.raises(ValueError, match="not an idx file"):
        read_idx(path)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        load_training_set(tmp_path, 3)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (None, "from scratch"),
        ("bf-unet-color", "from bf-unet-color"),
        ("/home/somebody/first.safetensors", "from first"),
        ("hub:owner/weights/net.safetensors@1", "from hub:owner/weights/net.safetensors@1"),
    ],
)
def test_a_recipe_names_no_folder(start, said):
    assert f"steps {said} in 2 min" in describe_recipe(RECIPE, 120, start)
