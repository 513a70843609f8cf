"""What all recipes share: the optimisers and their learning rate, an average of the weights, and the state file.

A training is a function of its recipe and its data. Batch `n` depends only on the seed and `n`, and everything else is
in the state file, so that a training that was stopped goes on where it was. Several processes share a training as
`processes.py` says.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invlib import runtime
from invlib.checks import check_seed
from invlib.training import processes
from invlib.training.muon import Muon

UNKNOWN = 10**9
"""The number of steps of a run whose time is given, until it is over."""

MUON_RATIO = 20
"""How many times the learning rate a step of Muon is."""


@dataclass(frozen=True)
class Optimisation:
    """The part of a recipe that all networks share.

    Attributes
    ----------
    steps, batch : number of training steps, and of images in each.
    optimizer : "adamw", or "muon" for Muon on the inner convolutions and AdamW on the rest.
    learning_rate, warmup : peak of the learning rate, and the number of steps until it is reached.
    decay : number of steps at the end in which the learning rate falls linearly from its peak to 1 % of it. A run that
        has not come to them may be resumed with another number of steps. With 0 the rate follows a cosine from the
        start, and the number of steps is fixed.
    ema : decay of the running average of the weights.
    seed : seed for the initial weights, the batches and the noise.
    """

    steps: int = 7600
    batch: int = 32
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: int = 0
    ema: float = 0.998
    seed: int = 0

    def build(self) -> nn.Module:
        """The network with random weights."""
        raise NotImplementedError

    def random(self, step: int, device: torch.device) -> torch.Generator:
        """The random numbers of a step."""
        return torch.Generator(device).manual_seed((self.seed * 1_000_003 + step) % 2**64)


@dataclass(frozen=True)
class Progress:
    """Where a training is.

    Attributes
    ----------
    step, steps, seconds : steps done, steps in all, and seconds spent in all.
    skipped : steps, since the training was started or resumed, that changed nothing because a gradient was not finite.
    losses : losses of this step by name.
    quality : figures on the validation set under the averaged weights, by name; None if they were not just measured.
    saved : whether the state was just saved.
    """

    step: int
    steps: int
    seconds: float
    skipped: int
    losses: Mapping[str, float]
    quality: Mapping[str, Any] | None
    saved: bool = False


def begin(recipe: Optimisation, group: int = 1) -> torch.device:
    """Set PyTorch up for a training, and return the device that it runs on.

    ValueError is raised if the processes cannot share a batch evenly, in whole groups of `group` images.
    """
    processes.check_batch(recipe.batch, group)
    torch.set_flush_denormal(True)  # averages of vanished gradients become denormal, which is slow on a CPU
    torch.manual_seed(check_seed(recipe.seed))
    torch.backends.cudnn.benchmark = True  # every step has tensors of the same shapes
    return runtime.default_device()


class Training:
    """A training: its networks and optimisers, the file that keeps their state, the clock, and the steps `done`.

    Parameters
    ----------
    recipe, state_file, save_every : as in `denoiser.train`.
    net, average : the network, and another of its kind for the running average of its weights.
    betas : decays of AdamW.
    minutes : end after this time in all, instead of a number of steps. The learning rate falls with the time.
    others : networks that are trained besides, by their names in the state file.

    Raises
    ------
    ValueError : if the state file belongs to another recipe, or several processes see different ones; or if several
        processes are to train batch normalisation, which needs the whole batch.
    """

    def __init__(
        self,
        recipe: Optimisation,
        state_file: Path,
        save_every: float,
        net: nn.Module,
        average: nn.Module,
        betas: tuple[float, float] = (0.9, 0.99),
        minutes: float | None = None,
        **others: nn.Module,
    ) -> None:
        self.recipe, self.path, self.save_every, self.minutes = recipe, state_file, save_every, minutes
        if minutes:
            self.recipe = replace(recipe, steps=UNKNOWN, decay=UNKNOWN)
        average.load_state_dict(net.state_dict())
        trained = {"net": net, **others}
        self.networks = {**trained, "average": average}
        self.optimizers = {part: build_optimizers(recipe.optimizer, trained[part], betas) for part in trained}
        self.done, self.seconds, self.skipped = 0, 0.0, 0
        if state_file.exists():
            self._load()
        if processes.of_first(self.done) != self.done:
            raise ValueError(f"{state_file} is not the same for all processes: choose a folder that all of them see")
        if processes.count() > 1 and any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()):
            raise ValueError("batch normalisation needs the whole batch: train this network without torchrun")
        self.started, self.saved = time.monotonic() - self.seconds, self.seconds

    def descend(self, loss: Tensor, clip: float, part: str = "net") -> bool:
        """Take a step of one network, its gradient clipped to the norm `clip`. Return False if that was not finite."""
        network = self.networks[part]
        network.zero_grad()
        loss.backward()
        processes.average_gradients(network)
        if not nn.utils.clip_grad_norm_(network.parameters(), clip).isfinite():
            return False
        rate = learning_rate(self.done, self.recipe, self.seconds / (60 * self.minutes) if self.minutes else None)
        for optimizer in self.optimizers[part]:
            optimizer.param_groups[0]["lr"] = rate * (MUON_RATIO if isinstance(optimizer, Muon) else 1)
            optimizer.step()
        if part == "net":
            decay = min(self.recipe.ema, (self.done + 1) / (self.done + 10))
            update_average(self.networks["average"], network, decay)
        return True

    def measures(self, every: int) -> bool:
        """Whether this process measures the quality after the step in progress: `every` so many, and after the last."""
        return processes.rank() == 0 and (self.done + 1 == self.recipe.steps or (self.done + 1) % every == 0)

    def finish(self, losses: Mapping[str, Tensor], changed: bool, quality: Mapping[str, Any] | None = None) -> Progress:
        """End a step with these losses, which are scalars, and save the state if it is time."""
        means = processes.mean(torch.stack([loss.detach() for loss in losses.values()])).tolist()
        self.done += 1
        self.skipped += not changed
        self.seconds = processes.of_first(time.monotonic() - self.started)
        if self.minutes and self.recipe.steps == UNKNOWN and self.seconds > 60 * self.minutes:
            self.recipe = replace(self.recipe, steps=self.done + 1, decay=self.done + 1)
        due = self.done == self.recipe.steps or self.seconds - self.saved > self.save_every
        if due:
            if processes.rank() == 0:
                self._save()
            self.saved = self.seconds
        return replace(self.progress(dict(zip(losses, means, strict=True)), quality), saved=due)

    def progress(self, losses: Mapping[str, float], quality: Mapping[str, Any] | None) -> Progress:
        """Where the training is."""
        return Progress(self.done, self.recipe.steps, self.seconds, self.skipped, losses, quality)

    def _save(self) -> None:
        """Write the state file. A training that is killed while it writes keeps the previous one."""
        tensors: dict[str, Tensor] = {}
        for part, network in self.networks.items():
            tensors |= {f"{part}.{name}": tensor for name, tensor in network.state_dict().items()}
        for number, optimizer in enumerate(itertools.chain(*self.optimizers.values())):
            for index, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{name}": tensor for name, tensor in moments.items()}
        recipe = json.dumps(asdict(self.recipe))
        metadata = {"recipe": recipe, "step": str(self.done), "seconds": str(self.seconds)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, metadata)
        partial.replace(self.path)

    def _load(self) -> None:
        with safe_open(self.path, "pt") as stream:
            metadata = stream.metadata()
        self.done, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        # A setting that the recipe did not have yet when it was saved had the value that is now its default.
        before = {field.name: field.default for field in fields(self.recipe)} | json.loads(metadata["recipe"])
        before, now = (json.loads(json.dumps(recipe)) for recipe in (before, asdict(self.recipe)))
        if not continues(before, now, self.done):
            theirs = metadata["recipe"]
            raise ValueError(f"{self.path} belongs to another recipe, {theirs}; delete it or choose another output")
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in (*self.networks, "optimizer")}
        for name, tensor in load_file(self.path).items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor
        for part, network in self.networks.items():
            network.load_state_dict(parts[part])
        for number, optimizer in enumerate(itertools.chain(*self.optimizers.values())):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts["optimizer"].items():
                owner, index, key = name.split(".")
                if int(owner) == number:
                    state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def continues(before: dict[str, Any], now: dict[str, Any], done: int) -> bool:
    """Whether a run of the recipe `now` is, up to the step `done`, a run of the recipe `before`."""
    if before["decay"] and now["decay"] and before | {"steps": 0, "decay": 0} == now | {"steps": 0, "decay": 0}:
        return before == now or done <= min(recipe["steps"] - recipe["decay"] for recipe in (before, now))
    return before == now


def learning_rate(step: int, recipe: Optimisation, spent: float | None = None) -> float:
    """The learning rate of a step: a linear warm-up to the peak, and a fall to 1 % of it (see `Optimisation.decay`).

    In a run that has a time instead of a number of steps, it falls from the start with the share `spent` of that time.
    """
    warm = min(1.0, (step + 1) / recipe.warmup)
    if spent is not None:
        return recipe.learning_rate * warm * max(0.01, 1 - spent)
    if recipe.decay:
        return recipe.learning_rate * warm * max(0.01, min(1.0, (recipe.steps - step) / recipe.decay))
    fraction = min(1.0, step / recipe.steps)
    return recipe.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))


def build_optimizers(optimizer: str, net: nn.Module, betas: tuple[float, float]) -> list[torch.optim.Optimizer]:
    """The optimisers that together train every parameter of the network. ValueError if the name is unknown."""
    adamw = functools.partial(torch.optim.AdamW, betas=betas, weight_decay=0.0)
    if optimizer not in ("adamw", "muon"):
        raise ValueError(f"unknown optimizer {optimizer!r}; choose adamw or muon")
    if optimizer == "adamw":
        return [adamw(net.parameters())]
    inner = [p for p in net.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
    return [Muon(inner), adamw(p for p in net.parameters() if not any(p is kernel for kernel in inner))]


@torch.no_grad()
def update_average(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Update an exponential moving average of the weights and of running statistics."""
    pairs = list(zip(average.state_dict().values(), net.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([kept for kept, _ in floats], [new for _, new in floats], 1 - decay)
    for kept, new in pairs:
        if not kept.is_floating_point():
            kept.copy_(new)


def trained(recipe: type[Optimisation], state_file: Path) -> tuple[Any, float, Any]:
    """The averaged network of a training, folded where that applies; how many seconds it took; and its recipe."""
    with safe_open(state_file, "pt") as stream:
        metadata = stream.metadata()
        names = [name for name in stream.keys() if name.startswith("average.")]  # noqa: SIM118
        weights = {name.removeprefix("average."): stream.get_tensor(name) for name in names}
    kept = recipe(**json.loads(metadata["recipe"]))
    net: Any = kept.build()
    net.load_state_dict(weights)
    net.eval()
    return net.fold() if hasattr(net, "fold") else net, float(metadata["seconds"]), kept


def describe_recipe(recipe: Optimisation, seconds: float, start: str | None = None) -> str:
    """A sentence for the checkpoint that says enough to repeat the run, but not where this machine has its files."""
    if start and not start.startswith("hub:"):
        start = Path(start).name.removesuffix(".safetensors")
    settings = ", ".join(f"{key} {value}" for key, value in asdict(recipe).items() if key != "steps")
    begin = f"from {start}" if start else "from scratch"
    hardware = f"on {runtime.default_device()}, {runtime.fast_dtype(runtime.default_device())} autocast"
    return f"{recipe.steps} steps {begin} in {seconds / 60:.0f} min {hardware}: {settings}"
