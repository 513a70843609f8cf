"""Device, precision and memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from invlib import runtime
from invlib.priors.denoisers import BFUNet
from invlib.problems.operators import Mask


class Greedy(nn.Module):
    """Doubles its input, and runs out of memory for more than `limit` images at once."""

    def __init__(self, limit: int, error: type[RuntimeError] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.limit, self.error = limit, error
        self.calls: list[int] = []

    def forward(self, images):
        self.calls.append(len(images))
        if len(images) > self.limit:
            raise self.error("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return 2 * images


def test_a_cpu_takes_large_images_one_by_one():
    network = Greedy(100)
    side = int(runtime.CPU_PIXELS**0.5)
    evaluate = runtime.Batched(network)
    evaluate(torch.zeros(2, 1, side, side))
    assert network.calls == [1, 1]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_and_goes_on(error):
    network = Greedy(2, error)
    evaluate = runtime.Batched(network)
    images = torch.arange(7.0).view(7, 1, 1, 1)
    torch.testing.assert_close(evaluate(images), 2 * images)
    assert network.calls == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    network.calls.clear()
    evaluate(images)
    assert network.calls == [1] * 7, "the smaller batch is remembered"


def test_one_image_too_many_is_a_memory_error_that_says_so():
    with pytest.raises(MemoryError, match="smaller picture"):
        runtime.Batched(Greedy(0))(torch.zeros(2, 1, 4, 4))


def test_a_real_allocation_failure_is_recognised():
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**60, dtype=torch.uint8)
    assert runtime.is_out_of_memory(failure.value)


def test_other_errors_are_not_mistaken_for_it():
    class Broken(nn.Module):
        def forward(self, images):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        runtime.Batched(Broken())(torch.zeros(4, 1, 4, 4))


def test_prepare_gives_a_network_for_inference_that_agrees_with_float32():
    torch.manual_seed(0)
    exact = BFUNet(1, (8, 16), 1).eval().requires_grad_(False)
    fast = runtime.prepare(BFUNet(1, (8, 16), 1))
    fast.load_state_dict(exact.state_dict())
    y, device = torch.rand(1, 1, 16, 16), runtime.default_device()
    assert not fast.training
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert next(fast.parameters()).device.type == device.type
    assert next(fast.parameters()).dtype == runtime.fast_dtype(device)
    found = fast(y.to(device))
    assert found.dtype == torch.float32
    error = (found.cpu() - exact(y)).norm() / exact(y).norm()
    assert float(error) < 0.02


def test_a_module_that_is_needed_elsewhere_is_copied():
    operator = Mask.random_pixels((1, 8, 8), 0.5)
    assert runtime.on(operator, torch.device("cpu")) is operator
    moved = runtime.on(operator, torch.device("meta"))
    assert moved.kept.is_meta
    assert not operator.kept.is_meta, "the caller's stays where it is"


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512_f": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_the_hardware_does(monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert runtime.fast_dtype(torch.device("cpu")) == dtype


@pytest.mark.parametrize("capabilities", [{"avx512_bf16": True}, {"avx512_f": True}])
def test_networks_are_trained_in_the_precision_of_the_hardware(monkeypatch, recwarn, capabilities):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    with runtime.autocast(cpu):
        assert nn.Conv2d(1, 1, 3)(torch.ones(1, 1, 8, 8)).dtype == runtime.fast_dtype(cpu)
    assert not recwarn.list


def test_threads(monkeypatch):
    before = torch.get_num_threads()
    try:
        assert runtime.set_threads(1) == 1
        monkeypatch.setattr(runtime, "cores", lambda: 3)
        for value, count in {"2": 2, "2,1": 2, " 02 , 4": 2, "": 3, "0": 3, "-1": 3, "many": 3, "9" * 30: 3}.items():
            monkeypatch.setenv("OMP_NUM_THREADS", value)
            assert runtime.set_threads() == count, value
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000\n", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("", 8), ("1 0", 8)],
)
def test_a_container_has_as_many_cores_as_it_may_use(monkeypatch, tmp_path, limit, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr("invlib.runtime.CPU_MAX", tmp_path / "cpu.max")
    assert runtime.cores() == expected


def test_without_a_container_there_is_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(3)), raising=False)
    monkeypatch.setattr("invlib.runtime.CPU_MAX", tmp_path / "missing")
    assert runtime.cores() == 3
