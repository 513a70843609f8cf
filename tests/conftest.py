"""Priors whose denoiser is known in closed form, shared by the tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invlib.priors.denoisers import Denoiser


class SubspacePrior(Denoiser):
    """Images spread evenly over a random linear subspace: the exact blind denoiser is the projection onto it."""

    def __init__(self, shape: tuple[int, int, int], dimension: int, seed: int = 0) -> None:
        super().__init__(shape[0])
        generator = torch.Generator().manual_seed(seed)
        size = shape[0] * shape[1] * shape[2]
        basis, _ = torch.linalg.qr(torch.randn(size, dimension, generator=generator))
        self.basis = torch.nn.Parameter(basis, requires_grad=False)
        self.shape = shape
        self.calls: list[int] = []

    def project(self, y: Tensor) -> Tensor:
        return (y.flatten(1) @ self.basis @ self.basis.T).view(y.shape)

    def estimate_noise(self, y: Tensor) -> Tensor:
        self.calls.append(len(y))
        return y - self.project(y)

    def draw(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        coordinates = torch.randn(count, self.basis.shape[1], generator=generator)
        return (coordinates @ self.basis.T).view(count, *self.shape)


@pytest.fixture
def subspace() -> SubspacePrior:
    return SubspacePrior((1, 32, 32), dimension=20)


@pytest.fixture
def repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions on a GPU give the same numbers every time; the fastest ones add them up in any order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
