"""What machine this is: device, precision, threads. Nothing else in the library asks."""

from __future__ import annotations

import copy
import itertools
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def default_device() -> torch.device:
    """The device that work runs on: CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_dtype(device: torch.device) -> torch.dtype:
    """The precision that convolutions run in on `device`.

    bfloat16 where the hardware multiplies it natively, float32 elsewhere: on a CPU without AMX or
    AVX-512 bf16, emulated bfloat16 is several times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """The context in which a network with float32 weights is trained on `device`: its convolutions in `fast_dtype`."""
    dtype = fast_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def prepare(module: Module, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Module:
    """Move a network to the device, memory layout and precision it runs fastest in, ready for inference.

    Parameters
    ----------
    module : the network, changed in place.
    device : where to run; `default_device()` if None.
    dtype : precision of the weights; `fast_dtype(device)` if None.
    """
    device = default_device() if device is None else torch.device(device)
    # PyTorch's stubs lack the overload of `to` that takes a memory format.
    module.to(device=device, dtype=dtype or fast_dtype(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module.eval().requires_grad_(False)


def on(module: Module, device: torch.device) -> Module:
    """The module on `device`: itself where all that it holds is there, else a copy, so that the caller's stays."""
    held = itertools.chain(module.parameters(), module.buffers())
    return module if all(tensor.device == device for tensor in held) else copy.deepcopy(module).to(device)


def set_threads(count: int | None = None) -> int:
    """Use `count` CPU threads (OMP_NUM_THREADS, or all cores this process may run on) and return the number."""
    if count is None:
        count = int(os.environ.get("OMP_NUM_THREADS") or cores())
    torch.set_num_threads(max(1, count))
    return torch.get_num_threads()


def cores() -> int:
    """How many cores this process may run on; where the system does not say, how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What work runs on, as JSON: processor, cores, threads, device, precision, version of PyTorch."""
    device = default_device()
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": str(fast_dtype(device)).removeprefix("torch."),
        "torch": torch.__version__,
    }


def cpu_name() -> str:
    """The model of the processor, as well as the system knows it."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


CPU_PIXELS = 2**18
"""Pixels, over the images of a batch, that a CPU works on at once: four of 256×256. More are hardly faster there, and
take memory in proportion: with BF-CNN and its derivative 200 MB each."""


class Batched:
    """Calls a function, such as a network, on as many images at once as memory allows.

    When a call runs out of memory, the batch is halved, for this call and for those that follow; with a single image
    the error is passed on as a `MemoryError` that says so.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.size: int | None = None

    @torch.inference_mode()
    def __call__(self, images: Tensor, *arguments: Any) -> Tensor:
        """`function(images, *arguments)`, (batch, ...) to (batch, ...)."""
        if self.size is None:
            self.size = len(images) if images.is_cuda else max(1, CPU_PIXELS // images[0, 0].numel())
        while True:
            size = min(self.size, len(images))
            try:
                return torch.cat([self.function(part, *arguments) for part in images.split(size)])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    message = f"not enough memory for one image of {tuple(images.shape[1:])}; use a smaller picture"
                    raise MemoryError(message) from error
            if images.is_cuda:
                torch.cuda.empty_cache()
            self.size = size // 2


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether PyTorch failed to allocate, on an accelerator or on the CPU (which has no exception type of its own)."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
