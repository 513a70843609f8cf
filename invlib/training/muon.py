"""Muon: gradient descent whose steps have all their singular values equal."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from invlib import runtime


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the inner convolutions of a network.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
    https://kellerjordan.github.io/posts/muon/. Each kernel is treated as a matrix (outputs, inputs · height · width);
    PyTorch's own Muon takes matrices only.

    Parameters
    ----------
    params : convolution kernels. First and last layers and scales belong to another optimiser.
    lr : size of a step, which is the spectral norm of the change.
    momentum : decay of the running average of the gradient, in Nesterov's form.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
            averages = [self.state[kernel].setdefault("momentum", torch.zeros_like(kernel)) for kernel in kernels]
            gradients = [kernel.grad for kernel in kernels]
            torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
            updates = torch._foreach_lerp(gradients, averages, group["momentum"])
            # Kernels of one shape are a batch, which keeps a GPU busier than one after the other.
            shapes: dict[torch.Size, list[int]] = {}
            for index, update in enumerate(updates):
                shapes.setdefault(update.flatten(1).shape, []).append(index)
            for indices in shapes.values():
                steps = orthogonalise(torch.stack([updates[index].flatten(1) for index in indices]))
                changed = [kernels[index] for index in indices]
                shaped = [step.view_as(kernel) for kernel, step in zip(changed, steps, strict=True)]
                torch._foreach_add_(changed, shaped, alpha=-group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring the singular values of matrices (..., rows, columns) near 1 by five Newton-Schulz steps, without an SVD.

    The singular values only need to end between 0.7 and 1.2, so bfloat16 is precise enough where the processor has it.

    >>> _ = torch.manual_seed(0)
    >>> values = torch.linalg.svdvals(orthogonalise(torch.randn(8, 20)))
    >>> bool(values.min() > 0.6), bool(values.max() < 1.3)
    (True, True)
    """
    x = (matrix / (matrix.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(runtime.fast_dtype(matrix.device))
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.to(matrix.dtype)
