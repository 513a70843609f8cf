"""Training in several processes, one for each device, that `torchrun` starts.

All processes draw the same batch, and each works on its part of it. Gradients, losses and statistics of the batch are
averaged over the processes, so the weights are the same in all of them, and the same as in one process that works on
the whole batch. Without torchrun there is one process, and a mean over the processes is the number itself.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from invlib import runtime


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Let this process work with the others that torchrun started, for as long as the context lasts.

    Nothing happens if torchrun started none, or if the program has set up `torch.distributed` already. If there are
    GPUs, process n of a machine works on GPU n, and the processes talk by NCCL; otherwise they talk by Gloo. ValueError
    is raised if a machine has fewer GPUs than processes.
    """
    if not dist.is_available() or dist.is_initialized() or not dist.is_torchelastic_launched():
        yield
        return
    # Optimizers import this. Imported later, it would keep the group of processes and its threads beyond their end, and
    # such a thread can abort a process that exits.
    importlib.import_module("torch._dynamo")
    on_gpu = runtime.default_device().type == "cuda"
    if on_gpu:
        runtime.use_gpu(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def count() -> int:
    """How many processes share a batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0. Only process 0 prints, validates and writes files."""
    return dist.get_rank() if count() > 1 else 0


def check_batch(batch: int, group: int = 1) -> None:
    """Raise ValueError unless the processes get equal parts of a batch, in whole groups of `group` images."""
    if count() > 1 and batch % (count() * group):
        raise ValueError(
            f"{count()} processes cannot share a batch of {batch} evenly: choose a multiple of {count() * group}"
        )


def share(batch: Any) -> Any:
    """The part of a batch that this process works on: of a tensor, or a tuple with an item for each group of images.

    None stays None.

    >>> share((1, 2, 3))
    (1, 2, 3)
    """
    if batch is None:
        return None
    size = len(batch) // count()
    return batch[rank() * size : (rank() + 1) * size]


class Mean(torch.autograd.Function):
    """The mean over the processes. The loss is such a mean too, so gradients are averaged in the same way."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total / count()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return Mean.forward(context, gradients[0])


def mean(x: Tensor) -> Tensor:
    """The mean of a tensor over the processes; it can be differentiated."""
    return Mean.apply(x) if count() > 1 else x


@torch.no_grad()
def average_gradients(network: nn.Module) -> None:
    """Replace the gradients of a network by their means over the processes, which are sent as one tensor."""
    if count() > 1:
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        means = mean(torch.cat([gradient.flatten() for gradient in gradients]))
        for gradient, part in zip(gradients, means.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))


def of_first(value: float) -> float:
    """The value of process 0, such as its time, for decisions on which all processes must agree."""
    if count() == 1:
        return value
    sent = torch.tensor(value, dtype=torch.float64, device=runtime.default_device())
    dist.broadcast(sent, 0)
    return sent.item()
