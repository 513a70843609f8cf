"""Every operator keeps the contract (the columns of M are orthonormal) and measures what it promises."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from invlib.jobs import JobQueue
from invlib.problems import operators
from invlib.problems.operators import (
    WAYS,
    BlockAverage,
    Blur,
    DenseMatrix,
    DenseRows,
    Downsampling,
    FourierRows,
    FramedBlur,
    Identity,
    LinearOperator,
    LowPass,
    Mask,
    StructuredRows,
    Sum,
    gaussian_kernel,
    motion_kernel,
)
from tests.patience import PATIENCE

Shape = tuple[int, int, int]

SHAPES = [(1, 8, 8), (3, 8, 12), (1, 9, 7), (3, 7, 10), (3, 12, 5), (1, 15, 16), (3, 13, 13), (1, 11, 6)]


def block_average(shape: Shape, factor: int) -> BlockAverage:
    """Build the operator for an image whose sides are `factor` times as long, and so are multiples of it."""
    channels, height, width = shape
    return BlockAverage((channels, factor * height, factor * width), factor)


def sum_of_two(shape: Shape, factor: float = 1.0) -> Sum:
    return Sum(shape, factor)


def missing_block(shape: Shape) -> Mask:
    return Mask.block(shape, (1, 2, 3, 2))


def single_frequency(shape: Shape) -> FourierRows:
    """Keep one frequency and its opposite, the fewest that a Fourier operator can keep besides the mean."""
    kept = torch.zeros(shape[1:], dtype=torch.bool)
    kept[1, 2] = kept[-1, -2] = True
    return FourierRows(shape, kept)


def downsampling(shape: Shape, factor: int, way: str) -> Downsampling:
    channels, height, width = shape
    return Downsampling((channels, factor * height, factor * width), factor, way)


OPERATORS: dict[str, Callable[[Shape], LinearOperator]] = {
    "identity": Identity,
    "sum": sum_of_two,
    "faint sum": partial(sum_of_two, factor=0.5),
    **{f"{way} {factor}": partial(downsampling, factor=factor, way=way) for way in WAYS for factor in (2, 3)},
    "block average 2": partial(block_average, factor=2),
    "block average 3": partial(block_average, factor=3),
    "low-pass 10 %": partial(LowPass, keep=0.1),
    "low-pass 60 %": partial(LowPass, keep=0.6),
    "low-pass 100 %": partial(LowPass, keep=1),
    "single frequency": single_frequency,
    "Gaussian blur": partial(Blur, kernel=gaussian_kernel(0.66)),
    "motion blur": partial(Blur, kernel=motion_kernel(4, 30)),
    "lopsided blur": partial(Blur, kernel=torch.tensor([[1.0, 0.3], [0.0, 2.0], [0.2, 0.5], [-0.4, 0.1]])),
    "missing block": missing_block,
    "random pixels": partial(Mask.random_pixels, keep=0.3),
    "random numbers": partial(Mask.random_pixels, keep=0.3, seed=1, shared=False),
    "structured rows": partial(StructuredRows, keep=0.25),
    "all structured rows": partial(StructuredRows, keep=1),
    "dense rows": partial(DenseRows, keep=0.25),
}

every_operator = pytest.mark.parametrize("build", OPERATORS.values(), ids=OPERATORS.keys())


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    """Assert equal shapes, and equal values up to 1e-5 of the norm."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype == torch.float32
    assert torch.linalg.norm(actual - expected) <= 1e-5 * torch.linalg.norm(expected)


def inner(a: Tensor, b: Tensor) -> float:
    return float((a.double() * b.double()).sum())


def matrix(operator: LinearOperator) -> Tensor:
    """Return Mᵀ, (measured, size of the image): column i measures the image whose number i is 1 and the others 0."""
    size = int(np.prod(operator.image_shape))
    return operator.measure(torch.eye(size).unflatten(1, operator.image_shape)).flatten(1).T


@every_operator
def test_an_operator_works_where_it_was_moved_to(build: Callable[[Shape], LinearOperator]) -> None:
    """PyTorch's device "meta", which holds no data, refuses tensors of other devices and shapes that depend on data."""
    operator = build((3, 7, 10)).to("meta")
    x, m = (torch.empty(2, *shape, device="meta") for shape in (operator.image_shape, operator.measurement_shape))
    for answer in (operator.adjoint(m), operator.project(x), operator.from_view(operator.view(m))):
        assert answer.is_meta
    assert operator.measure(x).shape == m.shape


@every_operator
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_contract(build: Callable[[Shape], LinearOperator], shape: Shape, batch: int) -> None:
    operator = build(shape)
    x, other = random(batch, *operator.image_shape), random(batch, *operator.image_shape, seed=1)
    m = random(batch, *operator.measurement_shape, seed=2)
    scale = float(x.norm() * m.norm())

    # `adjoint` is the adjoint of `measure`, and M has orthonormal columns.
    assert inner(operator.measure(x), m) == pytest.approx(inner(x, operator.adjoint(m)), abs=1e-5 * scale)
    assert_same(operator.measure(operator.adjoint(m)), m)
    assert m[0].numel() == operator.measure(x)[0].numel() == operator.measured

    # `project` is a projection, and it is M Mᵀ.
    projected = operator.project(x)
    assert_same(projected, operator.adjoint(operator.measure(x)))
    assert_same(operator.project(projected), projected)
    assert inner(projected, other) == pytest.approx(inner(x, operator.project(other)), abs=1e-5 * float(x.norm()) ** 2)

    # The view of a measurement loses nothing.
    assert_same(operator.from_view(operator.view(m)), m)

    # Each image of a batch is treated as if it were alone.
    assert_same(operator.measure(x)[-1:], operator.measure(x[-1:]))
    assert_same(operator.adjoint(m)[-1:], operator.adjoint(m[-1:]))
    assert_same(projected[-1:], operator.project(x[-1:]))


@every_operator
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 6, 5), (1, 6, 6)], ids=str)
def test_dense_matrix(build: Callable[[Shape], LinearOperator], shape: Shape) -> None:
    operator = build(shape)
    rows = matrix(operator)
    assert rows.shape == (operator.measured, np.prod(operator.image_shape))
    torch.testing.assert_close(rows @ rows.T, torch.eye(operator.measured), rtol=0, atol=1e-5)
    assert torch.linalg.matrix_rank(rows) == operator.measured
    x, m = random(2, *operator.image_shape), random(2, *operator.measurement_shape)
    assert_same(operator.adjoint(m).flatten(1), m.flatten(1) @ rows)
    assert_same(operator.project(x).flatten(1), x.flatten(1) @ rows.T @ rows)


@every_operator
def test_wrong_shapes(build: Callable[[Shape], LinearOperator]) -> None:
    operator = build((3, 8, 12))
    channels, height, width = operator.image_shape
    x, m = torch.zeros(2, *operator.image_shape), torch.zeros(2, *operator.measurement_shape)
    for act in (operator.measure, operator.project):
        for wrong in (x[0], x[:, :1], x[..., :-1]):
            with pytest.raises(ValueError, match=rf"images of shape \(B, {channels}, {height}, {width}\), got"):
                act(wrong)
    for show in (operator.adjoint, operator.view):
        for wrong in (m[0], m[..., :-1], torch.cat([m, m], -1)):
            with pytest.raises(ValueError, match=r"expected a batch of measurements of shape \(B, .*\), got"):
                show(wrong)
    picture = operator.view(m)
    for wrong in (picture[0], picture[..., :-1], F.pad(picture, (0, 1))):
        with pytest.raises(ValueError, match=r"expected a batch of .* of shape \(B, .*\), got"):
            operator.from_view(wrong)


@every_operator
def test_buffers_follow_the_module(build: Callable[[Shape], LinearOperator]) -> None:
    """All tensors of an operator are buffers, so that none stays behind when it moves."""
    operator = build((3, 8, 12)).to("meta")
    measurements = operator.view(torch.zeros(1, *operator.measurement_shape, device="meta"))
    assert measurements.device.type == "meta"
    left_behind = [name for name, value in vars(operator).items() if isinstance(value, Tensor)]
    assert not left_behind


@every_operator
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a second device")
def test_devices_agree(build: Callable[[Shape], LinearOperator]) -> None:
    operator = build((3, 9, 14))
    x, m = random(2, *operator.image_shape), random(2, *operator.measurement_shape)
    acts = [("measure", x), ("project", x), ("from_view", operator.view(m)), ("adjoint", m), ("view", m)]
    expected = {name: getattr(operator, name)(argument) for name, argument in acts}
    operator.to("cuda")
    for name, argument in acts:
        assert_same(getattr(operator, name)(argument.cuda()).cpu(), expected[name])


@pytest.mark.parametrize(
    "build",
    [
        partial(LowPass, keep=0.5),
        partial(Blur, kernel=torch.ones(1, 1)),
        partial(Mask.random_pixels, keep=0.5),
        partial(Mask.block, box=(0, 0, 1, 1)),
        partial(StructuredRows, keep=0.5),
        partial(DenseRows, keep=0.5),
        partial(BlockAverage, factor=1),
    ],
)
@pytest.mark.parametrize("shape", [(8, 8), (3, 0, 8), (1, 3, 8, 8)], ids=str)
def test_wrong_image_shape(build: Callable[..., LinearOperator], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="image_shape must be"):
        build(shape)


@pytest.mark.parametrize("keep", [0, -0.1, 1.1, float("nan")])
@pytest.mark.parametrize("build", [LowPass, StructuredRows, DenseRows, Mask.random_pixels])
def test_wrong_keep(build: Callable[[Shape, float], LinearOperator], keep: float) -> None:
    with pytest.raises(ValueError, match="keep must be a fraction"):
        build((1, 8, 8), keep)


@pytest.mark.parametrize("build", [StructuredRows, DenseRows, Mask.random_pixels])
def test_keep_that_rounds_to_nothing(build: Callable[[Shape, float], LinearOperator]) -> None:
    with pytest.raises(ValueError, match="keep must be at least"):
        build((1, 8, 8), 0.001)


# Block averages


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_block_average_is_average_pooling(factor: int) -> None:
    x = random(2, 3, 8, 12)
    operator = BlockAverage((3, 8, 12), factor)
    low_resolution = F.avg_pool2d(x, factor)
    torch.testing.assert_close(operator.measure(x), factor * low_resolution)
    torch.testing.assert_close(operator.view(operator.measure(x)), low_resolution)
    torch.testing.assert_close(operator.from_view(low_resolution), operator.measure(x))
    torch.testing.assert_close(
        operator.project(x), low_resolution.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    )


@pytest.mark.parametrize("factor", [0, -2, 3, 5])
def test_block_average_needs_multiples(factor: int) -> None:
    with pytest.raises(ValueError, match="factor must divide both sides"):
        BlockAverage((3, 8, 12), factor)


# Fourier coefficients


@pytest.mark.parametrize("keep", [0.001, 0.05, 0.1, 0.25, 0.5, 0.99, 1])
@pytest.mark.parametrize("size", [(16, 16), (9, 14), (1, 10), (7, 1), (81, 64)], ids=str)
def test_low_pass_keeps_the_centred_rectangle(size: tuple[int, int], keep: float) -> None:
    """A frequency is kept if and only if both of its components are at most √keep / 2 cycles per pixel."""
    vertical, horizontal = (np.abs(np.fft.fftfreq(side)) <= np.sqrt(keep) / 2 + 1e-9 for side in size)
    operator = LowPass((3, *size), keep)
    np.testing.assert_array_equal(operator.kept.numpy(), np.outer(vertical, horizontal))
    assert operator.measured == 3 * vertical.sum() * horizontal.sum()

    x = random(2, 3, *size)
    filtered = np.fft.ifft2(np.fft.fft2(x.numpy()) * np.outer(vertical, horizontal))
    np.testing.assert_allclose(filtered.imag, 0, atol=1e-5)
    np.testing.assert_allclose(operator.project(x), filtered.real, atol=1e-5)


@pytest.mark.parametrize("keep", [0.05, 0.1])
def test_low_pass_keeps_the_papers_fraction(keep: float) -> None:
    operator = LowPass((3, 256, 256), keep)
    assert operator.measured / (3 * 256 * 256) == pytest.approx(keep, rel=0.01)


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (9, 9)], ids=str)
def test_low_pass_of_everything_is_lossless(size: tuple[int, int]) -> None:
    x = random(2, 3, *size)
    operator = LowPass((3, *size), 1)
    assert operator.measured == 3 * size[0] * size[1]
    assert_same(operator.project(x), x)
    assert_same(operator.adjoint(operator.measure(x)), x)


def test_low_pass_of_almost_nothing_is_the_mean() -> None:
    x = random(2, 3, 8, 9)
    operator = LowPass((3, 8, 9), 1e-4)
    assert operator.measured == 3
    assert_same(operator.project(x), x.mean((2, 3), keepdim=True).expand_as(x).contiguous())


def test_frequencies_come_in_pairs() -> None:
    kept = torch.zeros(6, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="kept must hold at least one"):
        FourierRows((1, 6, 8), kept)
    kept[2, 3] = True
    with pytest.raises(ValueError, match="-k with every frequency k"):
        FourierRows((1, 6, 8), kept)
    kept[-2, -3] = True
    assert FourierRows((1, 6, 8), kept).measured == 2
    kept[3, 4] = True  # Nyquist in both directions, its own opposite
    assert FourierRows((1, 6, 8), kept).measured == 3
    with pytest.raises(ValueError, match="kept must be bool"):
        FourierRows((1, 6, 8), kept.float())
    with pytest.raises(ValueError, match=r"of shape \(6, 8\)"):
        FourierRows((1, 6, 8), kept.T)


# Blur


@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (2, 2), (4, 3), (1, 5), (2, 7), (9, 10)], ids=str)
@pytest.mark.parametrize("size", [(9, 12), (10, 11)], ids=str)
def test_blur_view_is_circular_convolution(kernel_size: tuple[int, int], size: tuple[int, int]) -> None:
    """An asymmetric kernel whose largest entry exceeds the sum of the others, so that no frequency vanishes."""
    kernel = torch.rand(kernel_size, generator=torch.Generator().manual_seed(0))
    kernel[kernel_size[0] - 1, 0] = 2 * kernel.sum()
    operator = Blur((3, *size), kernel, threshold=0.01)
    assert (operator.measured, operator.dropped) == (3 * size[0] * size[1], 0)

    x = random(2, 3, *size)
    blurred = operator.view(operator.measure(x))
    normalised = (kernel / kernel.sum()).numpy()
    for image, picture in zip(x.flatten(0, 1), blurred.flatten(0, 1), strict=True):
        np.testing.assert_allclose(picture, ndimage.convolve(image.numpy(), normalised, mode="wrap"), atol=1e-5)
    assert_same(operator.adjoint(operator.from_view(blurred)), x)


FRAMED = {
    "Gaussian": gaussian_kernel(0.66),
    "even": torch.rand(4, 2, generator=torch.Generator().manual_seed(1)),
    "motion": motion_kernel(4, 30),
    "single pixel": torch.ones(1, 1),
}
framed_blurs = pytest.mark.parametrize("kernel", FRAMED.values(), ids=FRAMED.keys())


@framed_blurs
@pytest.mark.parametrize("size", [(12, 14), (13, 11)], ids=str)
def test_a_framed_blur_is_what_is_left_of_a_larger_scene(kernel: Tensor, size: tuple[int, int]) -> None:
    """Beside the frame nothing is left that depends on what the scene is like beyond its own edges."""
    operator, x = FramedBlur((3, *size), kernel), random(2, 3, *size)
    normalised = (kernel / kernel.sum()).numpy()
    for mode in ("wrap", "constant"):
        pictures = [ndimage.convolve(image.numpy(), normalised, mode=mode) for image in x.flatten(0, 1)]
        blurred = torch.from_numpy(np.stack(pictures)).view(2, 3, *size)
        torch.testing.assert_close(operator.measure(x), operator.crop(blurred), atol=1e-5, rtol=0)
    assert operator.crop(x).shape[1:] == operator.measurement_shape
    assert operator.extended().measurement_shape == operator.image_shape
    assert operator.view(operator.from_view(operator.measure(x))).equal(operator.measure(x))


@framed_blurs
@pytest.mark.parametrize("uneven", [False, True])
def test_a_framed_blur_is_solved_like_its_matrix(kernel: Tensor, uneven: bool) -> None:
    operator = FramedBlur((1, 12, 13), kernel)
    rows, m = matrix(operator), random(2, *operator.measurement_shape)
    assert_same(operator.adjoint(m).flatten(1), m.flatten(1) @ rows)
    noise = torch.full((1, *operator.measurement_shape), 0.01)
    if uneven:
        noise = noise * (1 + random(*noise.shape, seed=1).abs())
    signal = torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)
    solved = operator.solve(m, signal, noise)
    for index in range(2):
        variances = noise.flatten() + operator.FLOOR**2 * signal[index].item()
        system = signal[index].item() * rows @ rows.T + torch.diag(variances)
        expected = torch.linalg.solve(system.double(), m[index].flatten().double())
        assert float((solved[index].flatten() - expected).norm() / expected.norm()) < 0.01


@pytest.mark.parametrize("uneven", [False, True])
def test_weighted_sums_are_solved_like_their_matrix(uneven: bool) -> None:
    weights = random(144, 40, seed=3) / 40**0.5
    operator, m = DenseMatrix((1, 12, 12), weights), random(2, 40)
    x = random(2, 1, 12, 12, seed=1)
    assert_same(operator.measure(x), x.flatten(1) @ weights)
    assert_same(operator.adjoint(m).flatten(1), m @ weights.T)
    noise = torch.full((1, 40), 0.01)
    if uneven:
        noise = noise * 10 ** random(1, 40, seed=2)
    signal = torch.tensor([0.5, 2.0]).view(2, 1)
    solved = operator.solve(m, signal, noise)
    for index in range(2):
        variances = noise.flatten() + operator.FLOOR**2 * signal[index].item()
        system = signal[index].item() * weights.T @ weights + torch.diag(variances)
        expected = torch.linalg.solve(system.double(), m[index].double())
        assert float((solved[index] - expected).norm() / expected.norm()) < 0.01
    kept = operator.project(x)
    assert float((operator.measure(kept) - operator.measure(x)).norm() / operator.measure(x).norm()) < 0.01
    with pytest.raises(ValueError, match="matrix must have 144 rows"):
        DenseMatrix((1, 12, 12), weights.T)


PICTURED = {name: build for name, build in OPERATORS.items() if build((1, 12, 12)).pictured}


@pytest.mark.parametrize("build", PICTURED.values(), ids=PICTURED.keys())
def test_noise_is_in_units_of_the_picture_that_was_measured(build: Callable[[Shape], LinearOperator]) -> None:
    operator = build((1, 12, 12))
    shape = operator.view(torch.zeros(1, *operator.measurement_shape)).shape[1:]
    noisy = operator.from_view(0.1 * random(4000, *shape))
    expected = operator.noise_levels(0.1).expand(operator.measurement_shape)
    torch.testing.assert_close(noisy.std(0), expected, atol=0, rtol=0.06)


@pytest.mark.parametrize("way", ["box", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_picture_is_made_small_as_pillow_does(way: str, factor: int) -> None:
    operator, x = Downsampling((1, 12 * factor, 10 * factor), factor, way), random(1, 1, 12 * factor, 10 * factor)
    picture = Image.fromarray(x[0, 0].numpy()).resize((10, 12), Image.Resampling[way.upper()])
    torch.testing.assert_close(operator.view(operator.measure(x))[0, 0], torch.from_numpy(np.array(picture)))


def test_averages_over_blocks_are_a_way_to_make_a_picture_small() -> None:
    way, blocks, x = Downsampling((3, 8, 12), 2, "box"), BlockAverage((3, 8, 12), 2), random(2, 3, 8, 12)
    assert_same(way.project(x), blocks.project(x))
    assert_same(way.view(way.measure(x)), blocks.view(blocks.measure(x)))


def test_an_unknown_way_to_make_a_picture_small_is_named() -> None:
    with pytest.raises(ValueError, match="downsampling must be one of box, bicubic, lanczos, nearest, stride"):
        Downsampling((1, 8, 8), 2, "cubic")


def test_blur_drops_what_the_kernel_removes() -> None:
    """A 1×4 average on a side of 8 has zeros at 2, 4 and 6 of 8; between them its gain is at least 0.27 (Dirichlet)."""
    operator = Blur((3, 5, 8), torch.ones(1, 4), threshold=0.05)
    alive = np.array([True, True, False, True, False, True, False, True])
    np.testing.assert_array_equal(operator.kept.numpy(), np.tile(alive, (5, 1)))
    assert (operator.measured, operator.dropped) == (3 * 5 * 5, 3 * 5 * 3)

    # The dropped frequencies have gain 0, so the view is the blurred picture, and only the projection comes back.
    x = random(1, 3, 5, 8)
    blurred = torch.from_numpy(ndimage.convolve(x.numpy(), np.full((1, 1, 1, 4), 0.25), mode="wrap")).float()
    assert_same(operator.view(operator.measure(x)), blurred)
    assert_same(operator.adjoint(operator.from_view(blurred)), operator.project(x))


def test_blur_threshold_is_relative_to_the_largest_gain() -> None:
    """Gains of the kernel (-1, 3, -1): 3 - 2 cos(2πk / 8), from 1 at the mean to 5."""
    kernel = torch.tensor([[-1.0, 3.0, -1.0]])
    gain = 3 - 2 * np.cos(2 * np.pi * np.arange(8) / 8)
    for threshold in (0.1, 0.25, 0.5, 0.9):
        operator = Blur((1, 1, 8), kernel, threshold)
        np.testing.assert_array_equal(operator.kept[0].numpy(), gain > 5 * threshold)


def test_blur_threshold_between_two_roundings_of_one_gain() -> None:
    """The gains at k and -k are equal up to rounding, and a threshold at any of them keeps or drops both."""
    kernel = torch.rand(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gains = np.unique(np.abs(np.fft.fft2(kernel / kernel.sum(), (30, 14))))
    for gain in gains[gains < 0.999]:
        operator = Blur((1, 30, 14), kernel, float(gain))
        assert operator.measured + operator.dropped == 30 * 14


@pytest.mark.parametrize(
    ("kernel", "sentence"),
    [
        (torch.ones(3), "kernel must be 2-D"),
        (torch.ones(9, 1), "no larger than the 8×8 image"),
        (torch.ones(0, 3), "kernel must be 2-D"),
        (torch.tensor([[1.0, -1.0]]), "must not sum to zero"),
        (torch.tensor([[0.1, 0.2, -0.3]]), "must not sum to zero"),
        (torch.zeros(3, 3), "must not sum to zero"),
        (torch.tensor([[1.0, float("nan")]]), "must be finite"),
        (torch.tensor([[1.0, float("inf")]]), "must be finite"),
    ],
)
def test_wrong_kernels(kernel: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Blur((1, 8, 8), kernel)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, float("nan")])
def test_wrong_threshold(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be between 0 and 1"):
        Blur((1, 8, 8), torch.ones(2, 2), threshold)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.3])
def test_gaussian_kernel(sigma: float) -> None:
    kernel = gaussian_kernel(sigma)
    side = kernel.shape[0]
    impulse = np.zeros((side, side))
    impulse[side // 2, side // 2] = 1
    np.testing.assert_allclose(kernel, ndimage.gaussian_filter(impulse, sigma, radius=side // 2), atol=1e-6)
    assert side % 2 == 1
    assert side // 2 >= 3 * sigma


def test_motion_kernel() -> None:
    torch.testing.assert_close(motion_kernel(1, 77), torch.ones(1, 1))
    horizontal = torch.zeros(5, 5)
    horizontal[2] = 0.2
    torch.testing.assert_close(motion_kernel(5, 0), horizontal)
    torch.testing.assert_close(motion_kernel(5, 90), horizontal.T)
    torch.testing.assert_close(motion_kernel(4, 0)[2], torch.tensor([0.5, 1, 1, 1, 0.5]) / 4)
    rising = motion_kernel(9, 30)
    assert rising.sum() == pytest.approx(1)
    torch.testing.assert_close(rising, rising.flip(0, 1))
    # Counter-clockwise is up on the right: the heaviest end pixels are above the centre there.
    down, right = torch.meshgrid(torch.arange(-4.0, 5), torch.arange(-4.0, 5), indexing="ij")
    covariance = torch.stack([(rising * a * b).sum() for a, b in [(right, right), (right, -down), (down, down)]])
    direction = 0.5 * torch.atan2(2 * covariance[1], covariance[0] - covariance[2]).rad2deg()
    assert direction == pytest.approx(30, abs=1)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_wrong_kernel_parameters(wrong: float) -> None:
    with pytest.raises(ValueError, match="sigma must be a positive number"):
        gaussian_kernel(wrong)
    with pytest.raises(ValueError, match="length must be at least 1"):
        motion_kernel(wrong, 0)


# Masks


def test_mask_shows_measured_pixels_and_holes() -> None:
    x = random(2, 3, 5, 6)
    operator = Mask.block((3, 5, 6), (1, 2, 3, 4))
    expected = x.clone()
    expected[:, :, 1:4, 2:6] = 0
    assert operator.measured == 3 * (5 * 6 - 3 * 4)
    for picture in (operator.view(operator.measure(x)), operator.project(x)):
        assert torch.equal(picture, expected)
    assert torch.equal(operator.from_view(expected), operator.measure(x))


@pytest.mark.parametrize("shape", [(5, 6), (1, 5, 6), (3, 5, 6)], ids=str)
def test_mask_spreads_over_colours(shape: tuple[int, ...]) -> None:
    kept = random(*shape) > 0
    operator = Mask((3, 5, 6), kept)
    assert torch.equal(operator.kept, kept.broadcast_to(3, 5, 6))
    assert operator.measured == kept.sum() * 3 * 5 * 6 / kept.numel()


def test_wrong_masks() -> None:
    with pytest.raises(ValueError, match="kept must be bool"):
        Mask((3, 5, 6), torch.ones(5, 6))
    for shape in [(6, 5), (2, 5, 6), (1, 1, 5, 6), (6,)]:
        with pytest.raises(ValueError, match=r"of shape \(5, 6\), \(1, 5, 6\) or \(3, 5, 6\), got"):
            Mask((3, 5, 6), torch.ones(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="kept must be True somewhere"):
        Mask((3, 5, 6), torch.zeros(5, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="kept must be True somewhere"):
        Mask.block((3, 5, 6), (0, 0, 5, 6))


@pytest.mark.parametrize(
    "box", [(-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 2), (0, 0, 2, 0), (4, 0, 2, 2), (0, 5, 2, 2)], ids=str
)
def test_wrong_boxes(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"box \(top, left, height, width\) must lie inside the 5×6 image"):
        Mask.block((3, 5, 6), box)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.87, 1])
def test_random_pixels_keeps_the_count(keep: float) -> None:
    shared = Mask.random_pixels((3, 9, 7), keep)
    assert shared.measured == 3 * round(keep * 9 * 7)
    assert torch.equal(shared.kept[0], shared.kept[1])
    assert Mask.random_pixels((3, 9, 7), keep, shared=False).measured == round(keep * 3 * 9 * 7)


def test_random_pixels_of_independent_colours() -> None:
    kept = Mask.random_pixels((3, 9, 7), 0.5, shared=False).kept
    assert not torch.equal(kept[0], kept[1])


# Random rows


@pytest.mark.parametrize("build", [StructuredRows, DenseRows])
@pytest.mark.parametrize("keep", [0.04, 0.1, 0.25, 1])
def test_random_rows_keep_the_count(build: Callable[..., LinearOperator], keep: float) -> None:
    assert build((3, 9, 7), keep).measured == round(keep * 3 * 9 * 7)


@pytest.mark.parametrize("build", [StructuredRows, DenseRows, Mask.random_pixels])
def test_seeds(build: Callable[..., LinearOperator]) -> None:
    x = random(1, 3, 9, 7)
    torch.manual_seed(0)
    first = build((3, 9, 7), 0.25, seed=5).project(x)
    torch.manual_seed(1)
    assert torch.equal(build((3, 9, 7), 0.25, seed=5).project(x), first)
    assert not torch.equal(build((3, 9, 7), 0.25, seed=6).project(x), first)


def test_structured_rows_are_cosine_coefficients_of_random_signs() -> None:
    x = random(2, 3, 9, 7)
    operator = StructuredRows((3, 9, 7), 0.25)
    spectrum = np.fft.fftn((operator.signs * x).numpy(), axes=(1, 2, 3), norm="ortho")
    coefficients = spectrum.real - spectrum.imag
    np.testing.assert_allclose(operator.measure(x), coefficients.reshape(2, -1)[:, operator.chosen], atol=1e-5)
    assert set(operator.signs.unique().tolist()) == {-1.0, 1.0}
    assert len(operator.chosen.unique()) == operator.measured


@pytest.mark.parametrize("build", [StructuredRows, DenseRows])
def test_random_rows_measure_the_expected_energy(build: Callable[..., LinearOperator]) -> None:
    """The fraction `keep` of a smooth image's energy is measured; plain frequencies would keep or lose all of it."""
    x = torch.linspace(0, 1, 32).expand(1, 1, 32, 32).contiguous()
    kept = [
        float(build((1, 32, 32), 0.25, seed=seed).project(x).square().sum() / x.square().sum()) for seed in range(4)
    ]
    assert np.mean(kept) == pytest.approx(0.25, abs=0.05)


def test_structured_rows_scale() -> None:
    operator = StructuredRows((3, 512, 512), 0.1)
    x = random(1, 3, 512, 512)
    m = operator.measure(x)
    assert operator.measured == m.numel() == round(0.1 * 3 * 512 * 512)
    assert_same(operator.measure(operator.adjoint(m)), m)
    held = sum(buffer.numel() * buffer.element_size() for buffer in operator.buffers())
    assert held < 4 * x.numel() * x.element_size()


def test_dense_rows_refuse_large_images() -> None:
    with pytest.raises(ValueError, match="use structured rows"):
        DenseRows((3, 128, 128), 0.25)


@pytest.mark.parametrize("count", [10, 60, 96])
def test_dense_rows_span_what_a_qr_decomposition_does(count: int) -> None:
    gaussian = torch.randn(96, count, generator=torch.Generator().manual_seed(0))
    found, q = operators.orthonormalise(gaussian, rows=40), torch.linalg.qr(gaussian.double()).Q
    assert torch.allclose(found.T @ found, torch.eye(count), atol=1e-5)
    assert torch.allclose(found.abs(), q.abs().float(), atol=1e-5)


def test_visitors_with_different_bases_do_not_undo_each_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made, orthonormalise = [], operators.orthonormalise
    monkeypatch.setattr(operators, "orthonormalise", lambda matrix: made.append(matrix.shape) or orthonormalise(matrix))
    monkeypatch.setattr(operators, "_LAST_BASES", deque(maxlen=2))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            list(pool.map(lambda keep: DenseRows((1, 9, 9), keep), [0.25, 0.5, 0.25, 0.5]))
        assert sorted(made) == [(81, 20), (81, 40)]
        # One that is in use stays, however many come after it.
        used = DenseRows((1, 9, 9), 0.3)
        for keep in (0.6, 0.7, 0.8):
            DenseRows((1, 9, 9), keep)
    assert DenseRows((1, 9, 9), 0.3).matrix is used.matrix
    assert len(made) == 6
    assert operators.is_made((1, 9, 9), 0.3)
    assert not operators.is_made((1, 9, 9), 0.25)


def test_a_basis_lets_others_have_their_turn() -> None:
    """Two jobs that need the same basis: the one that waits for it gives its turn to the one that makes it."""
    queue = JobQueue(turn=0.0)

    def work() -> Generator[Any, None, Tensor]:
        yield from ()
        return DenseRows((1, 24, 24), 0.4).matrix

    jobs = [queue.submit(str(number), work) for number in range(3)]
    assert all(job.wait(PATIENCE) for job in jobs)
    assert jobs[0].result is not None
    assert all(job.result is jobs[0].result for job in jobs)
