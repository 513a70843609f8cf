"""What every recipe shares: optimisers, the learning rate, an average of the weights, and the state file."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invlib import runtime
from invlib.training.muon import Muon

MUON_RATIO = 20


@dataclass(frozen=True)
class Optimisation:
    """The part of a recipe that every network has: a run depends on its recipe and its pictures, on nothing else.

    `optimizer` is "adamw", or "muon" for the inner convolutions, whose step is `MUON_RATIO` times the learning rate,
    with AdamW for the rest.
    """

    steps: int = 7600
    batch: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 200
    ema: float = 0.998
    seed: int = 0


def learning_rate(step: int, recipe: Optimisation) -> float:
    """Linear warm-up, then a cosine down to 1 % of the peak."""
    warm = min(1.0, (step + 1) / recipe.warmup)
    fraction = min(1.0, step / recipe.steps)
    return recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))


def build_optimizers(
    optimizer: str, net: nn.Module, betas: tuple[float, float] = (0.9, 0.99)
) -> list[torch.optim.Optimizer]:
    """The optimisers that together move every parameter of the network."""
    adamw = functools.partial(torch.optim.AdamW, betas=betas, weight_decay=0.0)
    if optimizer == "adamw":
        return [adamw(net.parameters())]
    if optimizer == "muon":
        inner = [p for p in net.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
        rest = [p for p in net.parameters() if not any(p is kernel for kernel in inner)]
        return [Muon(inner), adamw(rest)]
    raise ValueError(f"unknown optimizer {optimizer!r}; choose adamw or muon")


def update(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Take a step with every optimiser, at this learning rate."""
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = rate * (MUON_RATIO if isinstance(optimizer, Muon) else 1)
        optimizer.step()


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights and of running statistics."""
    for kept, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


def save_state(
    path: Path,
    recipe: Optimisation,
    step: int,
    seconds: float,
    networks: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """Write a state file; a run killed while writing keeps the previous one."""
    tensors: dict[str, Tensor] = {}
    for part, network in networks.items():
        tensors |= {f"{part}.{name}": tensor for name, tensor in network.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{index}.{name}": tensor for name, tensor in moments.items()}
    metadata = {"recipe": json.dumps(asdict(recipe)), "step": str(step), "seconds": str(seconds)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
    partial.replace(path)


def load_state(
    path: Path,
    recipe: Optimisation,
    networks: Mapping[str, nn.Module],
    optimizers: Sequence[torch.optim.Optimizer],
) -> tuple[int, float]:
    """Go on from a state file, if there is one: (steps done, seconds spent)."""
    if not path.exists():
        return 0, 0.0
    with safe_open(path, "pt") as stream:
        metadata = stream.metadata()
    if json.loads(metadata["recipe"]) != json.loads(json.dumps(asdict(recipe))):
        raise ValueError(f"{path} belongs to another recipe, {metadata['recipe']}; delete it or choose another output")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in (*networks, "optimizer")}
    for name, tensor in load_file(path).items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    for part, network in networks.items():
        network.load_state_dict(parts[part])
    moments: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for name, tensor in parts["optimizer"].items():
        number, index, key = name.split(".")
        moments[int(number)].setdefault(int(index), {})[key] = tensor
    for optimizer, state in zip(optimizers, moments, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"]), float(metadata["seconds"])


def read_average(path: Path) -> tuple[dict[str, Any], dict[str, Tensor], float]:
    """From a state file: the recipe's fields, the state dict of the averaged network, and the seconds spent."""
    with safe_open(path, "pt") as stream:
        metadata = stream.metadata()
        weights = {
            name.removeprefix("average."): stream.get_tensor(name)
            for name in stream.keys()  # noqa: SIM118
            if name.startswith("average.")
        }
    return json.loads(metadata["recipe"]), weights, float(metadata["seconds"])


def describe_recipe(recipe: Optimisation, seconds: float, start: str | None = None) -> str:
    """A sentence for the checkpoint: enough to run it again."""
    settings = ", ".join(f"{key} {value}" for key, value in asdict(recipe).items() if key != "steps")
    begin = f"from {start}" if start else "from scratch"
    hardware = f"on {runtime.default_device()}, {runtime.fast_dtype(runtime.default_device())} autocast"
    return f"{recipe.steps} steps {begin} in {seconds / 60:.0f} min {hardware}: {settings}"
