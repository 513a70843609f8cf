"""Find out what this machine offers: device, precision, threads, memory. No other module asks the system."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import itertools
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
Function = TypeVar("Function", bound=Callable[..., Any])


@contextlib.contextmanager
def _own_defaults() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        if dtype != torch.float32:
            stack.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        yield


def own_defaults(function: Function) -> Function:
    """Make a function or generator run in float32, on the CPU and outside inference mode, where it says nothing else.

    A program may have other defaults. They would change what is drawn for a seed, and tensors that are made in
    inference mode can never be used with gradients. The program's defaults are back at every return and every yield.

    >>> own_defaults(lambda: torch.zeros(1).dtype)()
    torch.float32
    """
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def run(*arguments: Any, **keywords: Any) -> Iterator[Any]:
            generator = function(*arguments, **keywords)
            while True:
                with _own_defaults():
                    try:
                        value = next(generator)
                    except StopIteration:
                        return
                yield value
    else:

        @functools.wraps(function)
        def run(*arguments: Any, **keywords: Any) -> Any:
            with _own_defaults():
                return function(*arguments, **keywords)

    return run  # type: ignore[return-value]


class Turns(Protocol):
    """Whoever lets pieces of work take turns on one device, as a piece of work sees it."""

    def pause(self) -> None:
        """Let others have their turn, if it is time. It raises where the work is to end."""

    def clock(self) -> float:
        """Seconds that the work has had so far."""


_turns: ContextVar[Turns | None] = ContextVar("turns", default=None)


@contextlib.contextmanager
def taking_turns(turns: Turns) -> Iterator[None]:
    """Have `turns` asked by every `pause` and `clock` of this thread.

    Networks that `prepare` made ready pause after every layer, and so does `Batched` between the parts of a batch.
    """
    token = _turns.set(turns)
    try:
        yield
    finally:
        _turns.reset(token)


def pause(*_: object) -> None:
    """Let other work have its turn, if this work takes turns. No lock may be held: the others could wait for it."""
    if (turns := _turns.get()) is not None:
        turns.pause()


def clock() -> float:
    """A clock in seconds, which stands still while work waits for its turn."""
    turns = _turns.get()
    return time.perf_counter() if turns is None else turns.clock()


def _pause_after(layer: nn.Module, inputs: object, outputs: object) -> None:
    pause()
    if _turns.get() is not None and isinstance(outputs, Tensor) and outputs.requires_grad:
        outputs.register_hook(pause)  # on the way back as well


def default_device() -> torch.device:
    """Return the device that work runs on: the CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_gpu(number: int) -> None:
    """Make GPU `number`, counted from 0, the one that "cuda" means in this process. ValueError if there is none."""
    if number >= (gpus := torch.cuda.device_count()):
        raise ValueError(f"there is no GPU {number}: start at most {gpus} processes, one for each GPU")
    torch.cuda.set_device(number)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return the precision in which convolutions are fastest on `device`.

    This is bfloat16 where the hardware multiplies it natively, and float32 elsewhere. On a CPU without AMX or
    AVX-512 bf16, bfloat16 is emulated and several times slower than float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32


def autocast(device: torch.device) -> torch.autocast:
    """Return the context for training float32 weights on `device`, in which convolutions run in `fast_dtype`."""
    dtype = fast_dtype(device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def prepare(module: Module, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Module:
    """Make a network ready for fast inference: move it, set its precision and memory layout in place, and return it.

    By default it runs on `default_device()`, in the precision `fast_dtype(device)`.

    >>> network = prepare(nn.Conv2d(1, 2, 3), "cpu", torch.float32)
    >>> network.training, network.weight.requires_grad
    (False, False)
    """
    device = default_device() if device is None else torch.device(device)
    # PyTorch's stubs lack the overload of `to` that takes a memory format.
    module.to(device=device, dtype=dtype or fast_dtype(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in module.modules():
        if next(layer.children(), None) is None:
            layer.register_forward_hook(_pause_after)
    return module.eval().requires_grad_(False)


def on(module: Module, device: torch.device | None = None) -> Module:
    """Return `module` if all its tensors are on `device` and can be used with gradients, else a copy that is.

    Without a device it stays where it is, and the caller's module is never moved. Tensors that were made in inference
    mode cannot be used with gradients.
    """
    held = itertools.chain(module.parameters(), module.buffers())
    if all(device in (None, tensor.device) and not tensor.is_inference() for tensor in held):
        return module
    with torch.inference_mode(False):
        return copy.deepcopy(module).to(device)


def set_threads(count: int | None = None) -> int:
    """Use `count` CPU threads, by default OMP_NUM_THREADS or else one for each of `cores`, and return their number.

    OpenMP's variable may be a list such as "4,2", with a number for each level of nesting. As OpenMP does, this takes
    no notice of a value that is neither a list nor a positive number.
    """
    if count is None:
        given = re.fullmatch(r"\s*(0*[1-9]\d{0,3})\s*(,.*)?", os.environ.get("OMP_NUM_THREADS", ""))
        count = int(given[1]) if given else cores()
    torch.set_num_threads(max(1, count))
    return torch.get_num_threads()


CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux tells a container how many microseconds of all cores it may use, and of how many."""


def cores() -> int:
    """Count the cores that this process may use: all cores, or those it may run on, or what its container may use.

    A container may be given the time of two cores, say, and see all of them. More threads would stall one another.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_MAX.read_text().split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or one without a limit
        return count


def machine() -> dict[str, Any]:
    """Describe the machine for JSON: processor, cores, threads, device, precision and version of PyTorch."""
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
    """Return the model of the processor, as far as the system tells."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


CPU_PIXELS = 2**18
"""How many pixels a CPU works on at once, over all images of a batch: four images of 256×256.

A larger batch is hardly faster there, and each image takes memory: 200 MB with BF-CNN and its derivative."""


class Batched:
    """Calls a function, such as a network, on as many images at once as memory allows.

    When a call runs out of memory, the batch is halved for this call and all later ones. If a single image is too
    large, a `MemoryError` says so.

    >>> double = Batched(lambda images: 2 * images)
    >>> double(torch.ones(5, 1, 8, 8)).shape
    torch.Size([5, 1, 8, 8])
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.size: int | None = None

    @torch.no_grad()  # and not inference mode, whose tensors can never be used with gradients
    def __call__(self, images: Tensor, *arguments: Any) -> Tensor:
        """Return `function(images, *arguments)`, from images (batch, C, H, W) to a tensor (batch, ...)."""
        if self.size is None and not images.is_cuda:
            self.size = max(1, CPU_PIXELS // images[0, 0].numel())
        while True:
            size = min(self.size or len(images), len(images))
            try:
                parts = [self._evaluated(part, *arguments) for part in images.split(size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)  # which would copy a single one
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    message = f"not enough memory for one image of {tuple(images.shape[1:])}; use a smaller picture"
                    raise MemoryError(message) from error
            if images.is_cuda:
                torch.cuda.empty_cache()
            self.size = size // 2

    def _evaluated(self, part: Tensor, *arguments: Any) -> Tensor:
        pause()
        return self.function(part, *arguments)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether PyTorch failed to allocate memory. On the CPU that has no exception type of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
