"""Metrics against closed forms and scikit-image."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from invlib.metrics import (
    Ensemble,
    coverage,
    ensemble,
    expected_coverage,
    expected_spread_skill,
    farthest_first,
    pooled_spread_skill,
    psnr,
    psnr_all_channels,
    spread_skill,
    ssim,
    ssim_paper,
)


def noisy_pair(channels: int, count: int = 3) -> tuple[Tensor, Tensor]:
    """A smooth image (1, C, 24, 32) and `count` noisy versions of it, each noisier than the last."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.linspace(0.2, 0.8, 32).expand(1, channels, 24, 32) * torch.linspace(0.5, 1, channels).view(
        1, -1, 1, 1
    )
    noise = torch.randn(count, channels, 24, 32, generator=generator)
    return truth + noise * torch.linspace(0.05, 0.2, count).view(-1, 1, 1, 1), truth


def last_axis(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).double().numpy()


def test_psnr_of_a_constant_offset() -> None:
    truth = torch.full((1, 1, 8, 8), 0.5)
    assert psnr(truth + 0.1, truth).item() == pytest.approx(20, abs=1e-4)
    colour = truth.expand(1, 3, 8, 8)
    # Y of an offset a in all three channels is (65.481 + 128.553 + 24.966) a = 219 a.
    assert psnr(colour + 0.1, colour).item() == pytest.approx(20 + 20 * math.log10(255 / 219), abs=1e-4)
    assert psnr_all_channels(colour + 0.1, colour).item() == pytest.approx(20, abs=1e-4)


def test_psnr_tells_the_channels_apart() -> None:
    truth = torch.zeros(1, 3, 8, 8)
    blue = truth.clone()
    blue[:, 2] = 1
    assert psnr(blue, truth).item() == pytest.approx(20 * math.log10(255 / 24.966), abs=1e-6)
    assert psnr_all_channels(blue, truth).item() == pytest.approx(10 * math.log10(3), abs=1e-6)


def test_psnr_is_that_of_scikit_image() -> None:
    images, truth = noisy_pair(3)
    luma = [rgb2ycbcr(last_axis(image))[..., 0] for image in (*images, truth[0])]
    expected = [peak_signal_noise_ratio(luma[-1], one, data_range=255) for one in luma[:-1]]
    np.testing.assert_allclose(psnr(images, truth), expected, rtol=1e-9)
    expected = [peak_signal_noise_ratio(last_axis(truth[0]), last_axis(image), data_range=1) for image in images]
    np.testing.assert_allclose(psnr_all_channels(images, truth), expected, rtol=1e-9)


def test_psnr_works_in_double_precision_and_is_infinite_without_error() -> None:
    truth = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    assert psnr(truth + 1e-12, truth).item() == pytest.approx(240 + 20 * math.log10(255 / 219), abs=0.01)
    assert psnr(truth, truth).item() == math.inf


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("metric", "data_range"), [(ssim, 1), (ssim_paper, 2)])
def test_ssim_is_that_of_scikit_image(metric, data_range: int, channels: int) -> None:
    images, truth = noisy_pair(channels)
    expected = [
        structural_similarity(last_axis(image), last_axis(truth[0]), data_range=data_range, channel_axis=2)
        for image in images
    ]
    np.testing.assert_allclose(metric(images, truth), expected, rtol=1e-9)
    assert metric(truth, truth).item() == pytest.approx(1)


@pytest.mark.parametrize("metric", [psnr, psnr_all_channels, ssim, ssim_paper])
def test_a_batch_is_scored_image_by_image(metric) -> None:
    images, truth = noisy_pair(3)
    scores = metric(images, truth)
    assert scores.shape == (3,)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, torch.cat([metric(image[None], truth) for image in images]))
    torch.testing.assert_close(scores, metric(images, truth.repeat(3, 1, 1, 1)))
    assert torch.equal(scores, scores.sort(descending=True).values)


@pytest.mark.parametrize("metric", [psnr, psnr_all_channels, ssim, ssim_paper])
@pytest.mark.parametrize("shape", [(1, 3, 16, 12), (1, 1, 16, 16), (3, 3, 16, 16), (3, 16, 16)])
def test_shapes_that_differ_are_refused(metric, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image and truth"):
        metric(torch.zeros(2, 3, 16, 16), torch.zeros(shape))


def test_ensemble_by_hand() -> None:
    truth = torch.zeros(1, 1, 1, 2)
    samples = torch.tensor([[0.0, 0.2], [0.2, 0.6]]).view(2, 1, 1, 2)
    # The unbiased variances are 0.02 and 0.08, the averages 0.1 and 0.4.
    assert ensemble(samples, truth) == pytest.approx((1.5 * 0.05, (0.01 + 0.16) / 2), rel=1e-6)
    assert spread_skill(samples, truth) == pytest.approx(math.sqrt(0.075 / 0.085), rel=1e-6)


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("spread", [0.25, 1.0])
def test_spread_skill_is_one_for_samples_like_the_truth(count: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(1, 1, 300, 300, generator=generator)
    samples = spread * torch.randn(count, 1, 300, 300, generator=generator)
    # The squared error of the average is 1 + spread²/n, and the variance of the samples spread².
    expected = math.sqrt((1 + 1 / count) * spread**2 / (1 + spread**2 / count))
    assert spread_skill(samples, truth) == pytest.approx(expected, rel=0.02)


def test_pooled_spread_skill_is_the_root_of_the_ratio_of_means() -> None:
    assert pooled_spread_skill([Ensemble(1.0, 2.0), Ensemble(3.0, 14.0)]) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [spread_skill, coverage])
@pytest.mark.parametrize(("samples", "truths"), [(1, 1), (3, 3)])
def test_spread_needs_two_samples_of_one_image(metric, samples: int, truths: int) -> None:
    with pytest.raises(ValueError, match="two samples or more of one image"):
        metric(torch.zeros(samples, 1, 8, 8), torch.zeros(truths, 1, 8, 8))


def test_coverage_by_hand() -> None:
    # The average is 0.1 and the standard deviation 0.1 √2, so the band at k = 1 reaches 0.1 √3 = 0.1732 to both sides.
    samples = torch.tensor([0.0, 0.2]).view(2, 1, 1, 1).expand(2, 1, 1, 4)
    truth = torch.tensor([[[[0.27, 0.28, -0.07, 0.1]]]])
    assert coverage(samples, truth, k=1) == pytest.approx(3 / 4)
    assert coverage(samples, truth, k=1.05) == 1


@pytest.mark.parametrize("count", [2, 3, 8, 50])
@pytest.mark.parametrize("k", [1.0, 2.0])
def test_gaussian_samples_cover_the_truth_as_often_as_student_says(count: int, k: float) -> None:
    generator = torch.Generator().manual_seed(2)
    samples, truth = (0.3 + 0.1 * torch.randn(count + 1, 1, 200, 200, generator=generator)).split([count, 1])
    expected = expected_coverage(count, k)
    assert coverage(samples, truth, k) == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 40_000))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("k", [1.0, 2.0])
def test_what_is_expected_of_pairs_of_opposite_noise(count: int, k: float) -> None:
    generator = torch.Generator().manual_seed(2)
    white, truth = torch.randn(1 + (count + 1) // 2, 1, 300, 300, generator=generator).split([(count + 1) // 2, 1])
    samples = torch.stack([white, -white], 1).flatten(0, 1)[:count]
    assert spread_skill(samples, truth) == pytest.approx(expected_spread_skill(count, antithetic=True), rel=0.02)
    margin = 0.025 if count % 2 else 0.01
    assert coverage(samples, truth, k) == pytest.approx(expected_coverage(count, k, antithetic=True), abs=margin)


def test_expected_coverage_is_that_of_students_distribution() -> None:
    assert expected_coverage(2, 1) == pytest.approx(0.5)  # Cauchy's distribution: half within 1
    assert expected_coverage(3, 2) == pytest.approx(2 / math.sqrt(6))  # k / √(2 + k²)
    assert expected_coverage(10**6, 2) == pytest.approx(math.erf(math.sqrt(2)), abs=1e-5)
    with pytest.raises(ValueError, match="count must be at least 2"):
        expected_coverage(1)


def test_coverage_leaves_out_what_is_known_but_counts_samples_that_agree_on_a_mistake() -> None:
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(1, 1, 4, 4, generator=generator)
    samples = truth.repeat(5, 1, 1, 1)
    assert math.isnan(coverage(samples, truth))
    samples[:, :, 0] += 0.1
    samples[:, :, 1] += torch.tensor([-0.1, -0.05, 0, 0.05, 0.1]).view(5, 1, 1)
    assert coverage(samples, truth) == pytest.approx(1 / 2), "a row is missed, a row covered, two are known"


def test_farthest_first_starts_in_the_middle_and_spreads_out():
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [4.0, 0.0], [10.0, 1.0], [4.5, 6.0]])
    # 4 is nearest to the average (5.7, 1.4); then (10, 1) is farther from 4 than (4.5, 6), and so on.
    assert farthest_first(points) == [2, 3, 4, 0, 1]
    assert farthest_first(torch.zeros(1, 3)) == [0]
    assert sorted(farthest_first(torch.zeros(4, 2))) == [0, 1, 2, 3], "equal points are each named once"


def test_scores_are_taken_where_the_image_is():
    """PyTorch's device "meta", which holds no data, refuses tensors of another device, as CUDA does."""
    images, truth = noisy_pair(3)
    assert psnr(images.to("meta"), truth).is_meta
    assert psnr_all_channels(images.to("meta"), truth).is_meta


@pytest.mark.parametrize("sides", [(6, 20), (20, 6), (1, 1)])
def test_pictures_smaller_than_a_window_have_no_ssim(sides):
    for score in (ssim, ssim_paper):
        assert score(torch.zeros(2, 3, *sides), torch.zeros(1, 3, *sides)).isnan().tolist() == [True, True]
        assert score(torch.zeros(1, 1, 7, 7), torch.zeros(1, 1, 7, 7)).tolist() == [1.0]
