"""Tiles give what whole pictures give."""

import pytest
import torch

from invlib.priors.denoisers import BFCNN, BFDenseNet, BFRecurrentCNN, BFUNet, Denoiser
from invlib.priors.tiles import Tiled, receptive_field, watching
from invlib.problems.operators import BlockAverage
from invlib.solvers.noise_level import noise_level
from invlib.solvers.posterior import Posterior
from invlib.solvers.samplers import sample_fast
from invlib.solvers.schedules import Schedule

NETWORKS = {
    "BFCNN": (lambda: BFCNN(channels=3, depth=6, width=6), 6),
    "BFUNet": (lambda: BFUNet(channels=3, width=(6, 8), blocks=1), None),
    "BFUNet of three scales": (lambda: BFUNet(channels=3, width=(4, 6, 8), blocks=1), None),
    "BFRecurrentCNN": (lambda: BFRecurrentCNN(channels=3, width=6, blocks=1, passes=2), 12),
    "BFDenseNet": (lambda: BFDenseNet(channels=3, width=6, growth=4, layers=2, blocks=2), 12),
}


def built(name: str) -> Denoiser:
    torch.manual_seed(0)
    return NETWORKS[name][0]().eval().requires_grad_(False)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_is_as_far_as_a_block_of_outputs_sees(name: str) -> None:
    network = built(name)
    field, expected = receptive_field(network), NETWORKS[name][1]
    assert field is not None
    assert field == (expected or field)
    for parameter in network.parameters():
        parameter.abs_()
    middle, reach = 72, 0
    for offset in range(network.multiple):
        y = torch.ones(1, 3, 144, 144, requires_grad=True)
        at = middle + offset
        network(y)[..., at, at].sum().backward()
        rows = y.grad.abs().sum((0, 1, 3)).nonzero()[:, 0]
        reach = max(reach, middle - int(rows.min()), int(rows.max()) + 1 - middle - network.multiple)
    assert reach == field


class Everywhere(Denoiser):
    def estimate_noise(self, y):
        return y - y.mean((2, 3), keepdim=True)


def test_a_network_that_sees_everything_gets_the_whole_picture() -> None:
    network, y = Everywhere(channels=1), torch.rand(1, 1, 60, 70)
    assert receptive_field(network) is None
    assert torch.equal(Tiled(network, side=16)(y), network(y))


@pytest.mark.parametrize("size", [(512, 512), (301, 403)])
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_give_the_value_and_the_derivative_of_the_whole_picture(name: str, size: tuple[int, int]) -> None:
    network = built(name)
    y, direction = torch.randn(2, 1, 3, *size, generator=torch.Generator().manual_seed(1))
    seen: list[tuple[int, int]] = []
    with watching(lambda done, total: seen.append((done, total))):
        x_hat, pulled_back = Tiled(network, side=160).linearised(y)
        gradient = pulled_back(direction)
    whole, whole_pulled_back = Tiled(network, side=512).linearised(y)
    assert len(seen) >= 8
    assert seen[-1][0] == seen[-1][1]
    assert (x_hat - whole).abs().max() < 1e-5
    assert (gradient - whole_pulled_back(direction)).abs().max() < 1e-5


def test_a_restoration_and_a_noise_level_in_tiles_are_those_of_the_whole_picture(monkeypatch) -> None:
    network = built("BFUNet")
    operator = BlockAverage((3, 512, 512), 2)
    picture = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(2))

    def result() -> tuple[torch.Tensor, float]:
        posterior = Posterior(network, operator, operator.measure(picture))
        *_, last = sample_fast(posterior, Schedule(evaluations=6))
        return last.denoised, noise_level(network, picture)

    whole, level = result()
    monkeypatch.setattr("invlib.priors.tiles.SIDE", {"cpu": 200, "cuda": 200})
    tiled, tiled_level = result()
    assert 0 < (tiled - whole).abs().max() < 1e-5  # another order of additions, so tiles were used
    assert tiled_level == pytest.approx(level, rel=1e-4)


def test_a_watcher_can_cancel_between_tiles() -> None:
    def cancel(done: int, total: int) -> None:
        raise InterruptedError

    with watching(cancel), pytest.raises(InterruptedError):
        Tiled(built("BFCNN"), side=32)(torch.rand(1, 3, 64, 64))
