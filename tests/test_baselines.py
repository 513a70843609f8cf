"""The baselines against closed forms and optimality conditions; BM3D itself only where its package is installed."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn
from torch import Tensor

from invlib.examples import example
from invlib.metrics import psnr_all_channels
from invlib.problems.operators import Mask, StructuredRows
from invlib.solvers.baselines import bm3d, dct_matrix, lasso_dct, soft_threshold, total_variation

SHAPE = (3, 10, 8)


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_matrix(m: int, seed: int = 0) -> Tensor:
    """A Gaussian matrix (m, size of an image of `SHAPE`) with entries of variance 1/m."""
    return noise((m, math.prod(SHAPE)), seed) / math.sqrt(m)


def dct(image: Tensor) -> Tensor:
    return torch.from_numpy(dctn(image.numpy(), axes=(-2, -1), norm="ortho"))


def noisy_face(sigma: float) -> tuple[Tensor, Tensor]:
    clean = example("astronaut", side=32)
    return clean, clean + sigma * noise(tuple(clean.shape)).float()


# --- LASSO ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_the_dct_is_the_orthonormal_one(size: int) -> None:
    identity = np.eye(size)
    np.testing.assert_allclose(dct_matrix(size).numpy(), dctn(identity, axes=(0,), norm="ortho"), atol=1e-14)


def test_lasso_soft_thresholds_what_an_orthonormal_matrix_measured() -> None:
    operator = StructuredRows(SHAPE, keep=1)
    x = noise((2, *SHAPE))
    y = operator.measure(x)
    solution = lasso_dct(operator.measure, y, SHAPE, lam=0.5, tolerance=1e-9)
    torch.testing.assert_close(dct(solution), soft_threshold(dct(x), 0.5), atol=1e-6, rtol=0)
    assert (dct(x).abs() < 0.5).any()
    assert (dct(x) < -0.5).any()


def test_soft_threshold() -> None:
    c = torch.tensor([-3.0, -1.0, -0.5, 0.0, 0.5, 2.0])
    assert soft_threshold(c, 1.0).tolist() == [-2.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("m", "scale", "lam"), [(60, 1.0, 0.01), (150, 30.0, 1.0), (400, 0.1, 0.003)])
def test_lasso_meets_the_optimality_conditions(m: int, scale: float, lam: float) -> None:
    """Karush-Kuhn-Tucker conditions: Φ Aᵀ (A x − y) is -lam · sign(c) if c is not zero, and within ±lam if it is."""
    matrix = scale * gaussian_matrix(m)
    y = noise((1, *SHAPE), seed=1).flatten(1) @ matrix.T
    x = lasso_dct(lambda x: x.flatten(1) @ matrix.T, y, SHAPE, lam, tolerance=1e-9, max_iterations=20_000)

    c = dct(x)
    gradient = dct(((x.flatten(1) @ matrix.T - y) @ matrix).view(1, *SHAPE))
    active = c.abs() > 1e-10
    assert 0 < active.sum() < active.numel()
    torch.testing.assert_close(gradient[active], -lam * c[active].sign(), atol=1e-3 * lam, rtol=0)
    assert gradient[~active].abs().max() <= lam * (1 + 1e-3)


def test_lasso_recovers_a_sparse_image_from_few_measurements() -> None:
    generator = np.random.default_rng(0)
    c = np.zeros(SHAPE)
    c.flat[generator.choice(c.size, 10, replace=False)] = generator.choice([-1, 1], 10) * generator.uniform(1, 2, 10)
    x = torch.from_numpy(idctn(c, axes=(-2, -1), norm="ortho"))[None]
    matrix = gaussian_matrix(c.size // 3)

    def measure(x: Tensor) -> Tensor:
        return x.flatten(1) @ matrix.T

    solution = lasso_dct(measure, measure(x), SHAPE, lam=1e-3, tolerance=1e-7)
    least_squares = (torch.linalg.pinv(matrix) @ measure(x)[0]).view_as(x)
    assert (solution - x).norm() < 0.01 * x.norm()
    assert (least_squares - x).norm() > 0.5 * x.norm()


def test_lasso_treats_the_images_of_a_batch_alike() -> None:
    operator = Mask.random_pixels(SHAPE, keep=0.5)
    y = operator.measure(noise((2, *SHAPE)).float())
    together = lasso_dct(operator.measure, y, SHAPE, lam=0.1, tolerance=1e-6)
    alone = lasso_dct(operator.measure, y[1:], SHAPE, lam=0.1, tolerance=1e-6)
    assert together.dtype == torch.float32
    assert together.shape == (2, *SHAPE)
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=0)


def test_lasso_of_nothing_is_black() -> None:
    operator = Mask.random_pixels(SHAPE, keep=0.5)
    y = torch.zeros(1, *operator.measurement_shape)
    assert not lasso_dct(operator.measure, y, SHAPE).any()


def test_lasso_says_what_is_wrong() -> None:
    matrix = gaussian_matrix(20).float()
    y = torch.ones(1, 20)

    def measure(x: Tensor) -> Tensor:
        return x.flatten(1) @ matrix.T

    with pytest.raises(ValueError, match="lam must be a positive number"):
        lasso_dct(measure, y, SHAPE, lam=0)
    with pytest.raises(ValueError, match=r"y must have the shape that measure gives, \(1, 20\), got \(1, 1\)"):
        lasso_dct(measure, y[:, :1], SHAPE)
    with pytest.raises(ValueError, match="measure must be linear, and it does not map zero to zero"):
        lasso_dct(lambda x: measure(x) + 1, y, SHAPE)
    with pytest.raises(ValueError, match="measure must be linear, and its derivative is zero"):
        lasso_dct(lambda x: measure(x).sign(), y, SHAPE)
    with pytest.raises(ValueError, match="the measurements hold numbers that are not finite"):
        lasso_dct(measure, y * math.nan, SHAPE)


# --- Total variation --------------------------------------------------------------------------------------------------


def test_total_variation_leaves_constant_images_alone() -> None:
    flat = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(2, 3, 6, 9)
    torch.testing.assert_close(total_variation(flat, 0.3), flat)


def test_total_variation_lowers_a_step_by_the_closed_form() -> None:
    """In each channel, each plateau of n pixels moves towards the other by weight / n."""
    step = torch.zeros(1, 2, 5, 12)
    step[..., 6:] = torch.tensor([1.0, -0.5]).view(1, 2, 1, 1)
    expected = step.clone()
    expected[:, 0] += torch.where(step[:, 0] > 0, -0.02, 0.02)
    expected[:, 1] += torch.where(step[:, 1] < 0, 0.02, -0.02)
    torch.testing.assert_close(total_variation(step, 0.12), expected, atol=2e-3, rtol=0)


def test_total_variation_removes_noise() -> None:
    clean, noisy = noisy_face(0.1)
    denoised = total_variation(noisy, 0.075)
    assert denoised.dtype == noisy.dtype
    assert psnr_all_channels(denoised, clean) > psnr_all_channels(noisy, clean) + 2


def test_total_variation_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="weight must be a positive number"):
        total_variation(torch.zeros(1, 1, 8, 8), 0)
    with pytest.raises(ValueError, match=r"y must be images of shape \(batch, C, H, W\), got \(8, 8\)"):
        total_variation(torch.zeros(8, 8), 0.1)
    with pytest.raises(ValueError, match="the measurements hold numbers that are not finite"):
        total_variation(torch.full((1, 1, 8, 8), math.inf), 0.1)


# --- BM3D -------------------------------------------------------------------------------------------------------------


def test_bm3d_says_how_to_install_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(ImportError, match=r"non-commercial use only.*`pip install bm3d`"):
        bm3d(torch.rand(1, 3, 16, 16), 0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_bm3d_hands_the_package_brightness_first_and_the_overall_sigma(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def identity(z: np.ndarray, sigma: float) -> np.ndarray:
        calls.append((z, sigma))
        return z

    monkeypatch.setitem(sys.modules, "bm3d", SimpleNamespace(bm3d=identity))
    y = torch.rand(2, channels, 9, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(bm3d(y, torch.tensor([[0.1], [0.7]])), y)
    assert [sigma for _, sigma in calls] == pytest.approx([0.5, 0.5])
    for (z, _), image in zip(calls, y, strict=True):
        brightness = z if channels == 1 else z[..., 0]
        np.testing.assert_allclose(brightness, image.sum(0) / math.sqrt(channels), rtol=1e-6)


@pytest.mark.parametrize("grey", [False, True])
def test_bm3d_removes_noise(grey: bool) -> None:
    pytest.importorskip("bm3d", reason="optional: its licence forbids commercial use")
    clean, noisy = noisy_face(0.1)
    if grey:
        clean, noisy = clean[:, :1], noisy[:, :1]
    assert psnr_all_channels(bm3d(noisy, 0.1), clean) > psnr_all_channels(noisy, clean) + 3


def test_bm3d_takes_a_grey_picture_stored_as_colour() -> None:
    """The package's own function for colour images would divide by the range of colours, which is zero here."""
    pytest.importorskip("bm3d", reason="optional: its licence forbids commercial use")
    _, noisy = noisy_face(0.1)
    denoised = bm3d(noisy[:, :1].expand(-1, 3, -1, -1), 0.1)
    torch.testing.assert_close(denoised, denoised[:, :1].expand(-1, 3, -1, -1))
    assert denoised.std() < noisy[:, :1].std()


def test_bm3d_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="sigma must be a positive number"):
        bm3d(torch.rand(1, 3, 16, 16), 0)
    with pytest.raises(ValueError, match="1 or 3 channels and sides above 8 pixels"):
        bm3d(torch.rand(1, 3, 8, 8), 0.1)
    with pytest.raises(ValueError, match="1 or 3 channels and sides above 8 pixels"):
        bm3d(torch.rand(1, 2, 16, 16), 0.1)
    with pytest.raises(ValueError, match="the measurements hold numbers that are not finite"):
        bm3d(torch.full((1, 1, 16, 16), math.nan), 0.1)
