"""Priors made of priors: `SideBySide` of several pictures at once, `Placed` of small pictures at known places.

With the operator `Sum` they separate a picture from what was added to it, and each has a prior of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from invlib.priors.denoisers import Denoiser


class SideBySide(Denoiser):
    """The prior of independent pictures, whose channels lie side by side in one image (batch, channels, H, W).

    Parameters
    ----------
    *parts : the prior of each picture. The first one has the first channels.

    >>> from invlib.priors.denoisers import BFCNN
    >>> both = SideBySide(BFCNN(3, depth=2, width=4), BFCNN(1, depth=2, width=4)).eval()
    >>> both(torch.rand(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, *parts: Denoiser) -> None:
        super().__init__(sum(part.channels for part in parts))
        self.parts: Sequence[Denoiser] = nn.ModuleList(parts)  # type: ignore[assignment]

    def split(self, y: Tensor) -> list[Tensor]:
        """The channels of each part."""
        return list(y.split([part.channels for part in self.parts], 1))

    def forward(self, y: Tensor, measured: Tensor | None = None, sigma: Tensor | float = 0.0) -> Tensor:
        return torch.cat([part(each) for part, each in zip(self.parts, self.split(y), strict=True)], 1)


class Placed(Denoiser):
    """The prior of a picture that is zero except for small pictures at known places.

    Parameters
    ----------
    denoiser : the prior of a small picture, which has one channel.
    channels : of the large picture.
    size : height and width of the small pictures.
    places : (channel, row, column) of the top left corner of each.

    >>> from invlib.priors.denoisers import BFCNN
    >>> digits = Placed(BFCNN(1, depth=2, width=4), 3, (28, 28), [(0, 5, 5), (2, 0, 30)]).eval()
    >>> noise = digits(y := torch.rand(1, 3, 64, 64))
    >>> bool((noise[:, 1] == y[:, 1]).all()), bool((noise[0, 0, 5:33, 5:33] == y[0, 0, 5:33, 5:33]).all())
    (True, False)
    """

    fixed = True

    def __init__(
        self, denoiser: Denoiser, channels: int, size: tuple[int, int], places: Iterable[tuple[int, int, int]]
    ) -> None:
        super().__init__(channels)
        self.denoiser, (height, width) = denoiser, size
        self.windows = [(channel, slice(top, top + height), slice(left, left + width)) for channel, top, left in places]

    def forward(self, y: Tensor, measured: Tensor | None = None, sigma: Tensor | float = 0.0) -> Tensor:
        patches = torch.stack([y[:, *window] for window in self.windows], 1)
        inside = self.denoiser(patches.flatten(0, 1)[:, None]).view(patches.shape)
        noise = y.clone()  # where nothing lies, all is noise
        for index, window in enumerate(self.windows):
            noise[:, *window] = inside[:, index]
        return noise
