"""Muon: gradient descent whose steps have all their singular values equal."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for the inner convolutions of a network (Jordan et al. 2024, "Muon").

    Each kernel is seen as a matrix (outputs, inputs x height x width). PyTorch's own Muon takes matrices only.

    Parameters
    ----------
    params : convolution kernels; first and last layers and scales belong to another optimiser.
    lr : size of a step: the spectral norm of the change.
    momentum : decay of the gradient's running average, of Nesterov's kind.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for kernel in group["params"]:
                average = self.state[kernel].setdefault("momentum", torch.zeros_like(kernel))
                average.lerp_(kernel.grad, 1 - group["momentum"])
                update = kernel.grad.lerp(average, group["momentum"])
                kernel.add_(orthogonalise(update.flatten(1)).view_as(kernel), alpha=-group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring the singular values of a matrix near 1 by five Newton-Schulz steps, without an SVD.

    In bfloat16, as its authors do it: the steps only need singular values between .7 and 1.2.
    """
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.to(matrix.dtype)
