"""A denoiser and its derivative on pictures of any size, in tiles, so that memory stays bounded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from invlib.priors.denoisers import Denoiser
from invlib.priors.pairs import SideBySide
from invlib.runtime import pause

SIDE = {"cpu": 768, "cuda": 2048}
"""The side of the window that a network sees at once, in pixels: with its derivative, 0.8 GB for the U-Net on a CPU."""

LARGEST_FIELD = 512
"""A network that sees farther than about half of this is given the whole picture at once."""

Watcher = Callable[[int, int], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
_fields: WeakKeyDictionary[Denoiser, int | None] = WeakKeyDictionary()


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Have `watcher(done, total)` called after each tile of a pass. What it raises ends the work, so it can cancel."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@torch.inference_mode(False)
@torch.enable_grad()
def receptive_field(denoiser: Denoiser) -> int | None:
    """How many pixels around a block of outputs these depend on; None if that is too far for tiles.

    A block is a square of the network's stride, `denoiser.multiple`, from a row and a column on that are multiples of
    it. The field is measured by the derivative of a copy whose parameters are positive, so that no ReLU hides a path.

    >>> from invlib.priors.denoisers import BFCNN
    >>> receptive_field(BFCNN(channels=1, depth=5, width=2))
    5
    """
    if denoiser.fixed:
        return None
    if denoiser not in _fields:
        twin = copy.deepcopy(denoiser).to("cpu", torch.float64).eval()
        for parameter in twin.parameters():
            parameter.data.fill_(1 / max(1, parameter[0].numel() if parameter.ndim else 1))
        found = None
        side = 64
        while found is None and side <= LARGEST_FIELD:
            found = _measured_field(twin, side)
            side *= 2
        _fields[denoiser] = found
    return _fields[denoiser]


def _measured_field(twin: Denoiser, side: int) -> int | None:
    """The receptive field as seen on a picture of that side, about; None if it reaches the border."""
    block = twin.multiple
    start = side // 2 // block * block
    y = torch.ones(
        1,
        2 * twin.channels + 1 if twin.told else twin.channels,
        2 * start + block,
        2 * start + block,
        dtype=torch.float64,
        requires_grad=True,
    )
    end = start + block
    noise = twin.estimate_noise(y)[..., start:end, start:end]
    (gradient,) = torch.autograd.grad(noise.sum(), y)
    places = gradient.abs().sum((0, 1)).nonzero()
    if not len(places):
        return 0
    first, last = int(places.min()), int(places.max())
    return None if first == 0 or last == y.shape[-1] - 1 else max(0, start - first, last + 1 - end)


class Tile(NamedTuple):
    """What a network sees of a picture, which part of the picture it fills, and where that is in what it sees."""

    window: tuple[slice, slice]
    part: tuple[slice, slice]
    inside: tuple[slice, slice]


class Tiled:
    """A denoiser's noise estimate and derivative, from windows that overlap by its receptive field.

    The results are those of the whole picture up to rounding: windows start at multiples of the network's stride, and
    they end where the picture does, so that its border is padded as always. A picture that fits in one window is given
    to the network whole.

    Parameters
    ----------
    denoiser : any; one whose receptive field is too large for tiles always gets whole pictures.
    side : of the windows, in pixels; by default what suits the device.

    >>> from invlib.priors.denoisers import BFCNN
    >>> network, y = BFCNN(channels=1, depth=3, width=4).eval(), torch.rand(1, 1, 40, 50)
    >>> torch.allclose(Tiled(network, side=16)(y), network(y), atol=1e-5)
    True
    """

    def __init__(self, denoiser: Denoiser, side: int | None = None) -> None:
        self.denoiser, self.side = denoiser, side

    def tiles(self, y: Tensor) -> list[Tile]:
        """The tiles of images (n, C, H, W); a single one if they are small or the network's view is too wide."""
        height, width = y.shape[-2:]
        side = self.side or SIDE["cuda" if y.is_cuda else "cpu"]
        field = receptive_field(self.denoiser) if height * width > side**2 else None
        if field is None:
            whole = slice(0, height), slice(0, width)
            return [Tile(whole, whole, whole)]
        multiple = self.denoiser.multiple
        halo = max(1, -(-field // multiple)) * multiple
        step = max(side - 2 * halo, halo, multiple) // multiple * multiple
        rows, columns = intervals(height, step, halo), intervals(width, step, halo)
        return [Tile(*zip(row, column, strict=True)) for row in rows for column in columns]

    @torch.no_grad()
    def __call__(self, y: Tensor, measured: Tensor | None = None, sigma: float = 0.0) -> Tensor:
        """The noise in images (n, C, H, W), by a network that may be told what was measured (see `Denoiser`)."""
        tiles = self.tiles(y)
        told = () if measured is None else (measured,)
        level = () if measured is None else (sigma,)
        if len(tiles) == 1:
            return self.denoiser(y, *told, *level)
        noise = torch.empty_like(y, dtype=torch.float32)
        for tile in watched(tiles):
            windows = (images[..., *tile.window] for images in (y, *told))
            noise[..., *tile.part] = self.denoiser(*windows, *level)[..., *tile.inside]
        return noise

    @torch.inference_mode(False)
    def linearised(self, y: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The estimate x̂ of the clean images, and a function r -> (∂x̂/∂y)ᵀ r, to be called once.

        A single tile keeps what its derivative needs. Several are evaluated again by that function, one at a time.
        """
        tiles = self.tiles(y)
        if len(tiles) > 1:
            return y - self(y), lambda direction: self._pulled(y, direction, tiles)
        with torch.enable_grad():
            y = y.clone().requires_grad_()
            x_hat = y - self.denoiser(y)
        return x_hat.detach(), lambda direction: _pulled_back(x_hat, y, direction)

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _pulled(self, y: Tensor, direction: Tensor, tiles: list[Tile]) -> Tensor:
        gradient = direction.detach().clone()
        for tile in watched(tiles):
            window = y[..., *tile.window].detach().clone().requires_grad_()
            noise = self.denoiser(window)[..., *tile.inside]
            gradient[..., *tile.window] -= _pulled_back(noise, window, direction[..., *tile.part])
        return gradient


@torch.inference_mode(False)
@torch.enable_grad()
def _pulled_back(outputs: Tensor, inputs: Tensor, direction: Tensor) -> Tensor:
    """The product of the transposed derivative with a direction, which may have been made in inference mode."""
    # With the direction as an argument of its own PyTorch would load sympy, half a second, the first time.
    (gradient,) = torch.autograd.grad((outputs * direction.detach().clone()).sum(), inputs)
    return gradient


class TiledParts:
    """A `Tiled` for pictures side by side, each of which is cut into the tiles of its own denoiser."""

    def __init__(self, denoiser: SideBySide) -> None:
        self.denoiser = denoiser
        self.networks = [tiled(part) for part in denoiser.parts]

    def __call__(self, y: Tensor, measured: Tensor | None = None, sigma: float = 0.0) -> Tensor:
        pairs = zip(self.networks, self.denoiser.split(y), strict=True)
        return torch.cat([network(part) for network, part in pairs], 1)

    def linearised(self, y: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        pairs = zip(self.networks, self.denoiser.split(y), strict=True)
        x_hats, functions = zip(*(network.linearised(part) for network, part in pairs), strict=True)

        def pulled_back(direction: Tensor) -> Tensor:
            directions = zip(functions, self.denoiser.split(direction), strict=True)
            return torch.cat([function(part) for function, part in directions], 1)

        return torch.cat(x_hats, 1), pulled_back


def tiled(denoiser: Denoiser) -> Tiled | TiledParts:
    """A denoiser's noise estimate and derivative on pictures of any size.

    >>> from invlib.priors.denoisers import BFCNN
    >>> network = SideBySide(BFCNN(1, depth=2, width=4), BFCNN(1, depth=3, width=4)).eval()
    >>> torch.equal(tiled(network)(y := torch.rand(1, 2, 8, 8)), network(y))
    True
    """
    return TiledParts(denoiser) if isinstance(denoiser, SideBySide) else Tiled(denoiser)


def watched(tiles: list[Tile]) -> Iterator[Tile]:
    """The tiles, each reported when it is done."""
    watcher = _watcher.get()
    for done, tile in enumerate(tiles, start=1):
        pause()
        yield tile
        if watcher is not None:
            watcher(done, len(tiles))


def intervals(length: int, step: int, halo: int) -> list[tuple[slice, slice, slice]]:
    """Cut a side into parts of `step` pixels: the window around each, the part, and where it lies in the window.

    >>> intervals(10, 6, 2)[1]
    (slice(4, 10, None), slice(6, 10, None), slice(2, 6, None))
    """
    found = []
    for start in range(0, length, step):
        first, end = max(0, start - halo), min(length, start + step)
        window = slice(first, min(length, end + halo))
        found.append((window, slice(start, end), slice(start - first, end - first)))
    return found
