"""Scribbles: where they are, of which colour and how opaque, and the picture below as far as it shines through.

A stroke of colour c and opacity α turns a picture x into (1 - α) x + α c. Where it is, one evaluation of a denoiser
says that was trained on strokes instead of white noise. Colour and opacity follow from a first estimate of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from skimage.filters import apply_hysteresis_threshold
from skimage.measure import label, regionprops
from torch import Tensor
from torch.nn import functional as F

SEEN, SURE = 0.03, 0.1
"""How much strokes change a pixel, root mean square over colours: where a stroke may be, and where one surely is."""

TELLING = 0.6
"""What is left of the squared difference from the picture if a stroke explains it, at most."""

OPAQUE = 0.12
"""The least part of a picture that has to shine through for it to be used."""

FEWEST = 12
"""How many pixels tell the colour and the opacity of a stroke, and how many a stroke has at least."""


def find_strokes(added: Tensor) -> Tensor:
    """Where strokes are, from an estimate (1, C, H, W) of what they add: (H, W) bool.

    A stroke is surely somewhere, has `FEWEST` pixels or more, and reaches as far as it can be seen.

    >>> added = torch.zeros(1, 3, 16, 16)
    >>> added[..., 4:7, 2:12] = 0.3
    >>> int(find_strokes(added).sum())
    30
    """
    change = added[0].square().mean(0).sqrt().cpu().numpy()
    parts = label(apply_hysteresis_threshold(change, SEEN, SURE), connectivity=2)
    sizes = np.bincount(parts.ravel())
    return torch.from_numpy((sizes >= FEWEST)[parts] & (parts > 0))


class Stroke(NamedTuple):
    """A connected part of the strokes: the box around it, where it is in the box (h, w), 1 - α, and α c (C,)."""

    box: Box
    where: Tensor
    kept: float
    added: Tensor


Box = tuple[slice, slice]


def parts(where: Tensor) -> Iterator[tuple[Box, Tensor]]:
    """The connected parts of a mask (H, W): the box (rows, columns) around each, and where it is in the box."""
    labels = label(where.cpu().numpy(), connectivity=2)
    for region in regionprops(labels):
        yield region.slice, torch.from_numpy(region.image)


def clearest(added: Tensor, where: Tensor) -> Tensor:
    """Where strokes are clearest: half as strong as the strongest of their connected part, or more, (H, W) bool."""
    change = added[0].square().mean(0).sqrt().cpu()
    clear = torch.zeros_like(where, device="cpu")
    for box, part in parts(where):
        strongest = float(np.quantile(change[box][part].numpy(), 0.95))
        clear[box] |= part & (change[box] > strongest / 2)
    return clear


def fit_strokes(y: Tensor, x_hat: Tensor, where: Tensor, clear: Tensor | None = None) -> list[Stroke]:
    """Opacity and colour of every connected part of strokes, by least squares of y on an estimate of the picture.

    Parts that are explained no better by a stroke than by the picture are left out.

    Parameters
    ----------
    y, x_hat : the picture under the strokes, and an estimate of it without, (1, C, H, W).
    where : where the strokes are, (H, W) bool.
    clear : the pixels that are fitted, (H, W) bool; those along the edges of the strokes if None.
    """
    # Along the edges the estimate is best: the picture goes on beside the stroke.
    clear = widened(~where, 2) if clear is None else clear
    strokes = []
    for box, part in parts(where):
        fitted = part & clear[box]
        if int(fitted.sum()) < FEWEST:
            continue
        below, above = x_hat[0][:, *box][:, fitted], y[0][:, *box][:, fitted]
        centred = below - below.mean(1, keepdim=True)
        slope = float((centred * (above - above.mean(1, keepdim=True))).sum() / centred.square().sum().clamp_min(1e-9))
        kept = min(max(slope, 0.0), 0.95)
        added = above.mean(1) - kept * below.mean(1)
        left, before = (above - kept * below - added[:, None]).square().mean(), (above - below).square().mean()
        if left < TELLING * before:
            strokes.append(Stroke(box, part, kept, added))
    return strokes


def tell_apart(y: Tensor, x_hat: Tensor, strokes: list[Stroke]) -> Tensor:
    """Where the strokes are, among the pixels of each stroke and those around it: (H, W) bool.

    A pixel belongs to a stroke if its colours are nearer to those of the stroke over the picture than to the picture's.
    """
    where = torch.zeros(y.shape[-2:], dtype=torch.bool)
    for (rows, columns), part, kept, added in strokes:
        box = slice(max(rows.start - 1, 0), rows.stop + 1), slice(max(columns.start - 1, 0), columns.stop + 1)
        above, below = y[0][:, *box], x_hat[0][:, *box]
        over = kept * below + added.view(-1, 1, 1)
        near = torch.zeros(below.shape[1:], dtype=torch.bool)
        near[rows.start - box[0].start :, columns.start - box[1].start :][: part.shape[0], : part.shape[1]] = part
        where[box] |= ((above - over).square().sum(0) < (above - below).square().sum(0)) & widened(near, 1)
    return where


def widened(where: Tensor, pixels: int) -> Tensor:
    """A mask (H, W) with the pixels around it."""
    return F.max_pool2d(where[None, None].float(), 2 * pixels + 1, 1, pixels)[0, 0] > 0


def wash(y: Tensor, where: Tensor, strokes: list[Stroke], faint: float) -> tuple[Tensor, Tensor]:
    """The picture without its strokes, and the standard deviation of the noise that it then has, (1, C, H, W) each.

    Parameters
    ----------
    y, where : as in `fit_strokes`.
    strokes : what was found of them; those that are missing hide what is below.
    faint : the noise level beside the strokes.
    """
    washed, level = y.clone(), torch.full_like(y, faint).masked_fill(where, 1.0)
    # At the edges a pen covers pixels in part.
    inside = ~widened(~where, 1)
    for box, part, kept, added in strokes:
        if kept > OPAQUE:
            here, noise = washed[0][:, *box], level[0][:, *box]
            here[:, part] = ((here[:, part] - added[:, None]) / kept).clamp(-0.2, 1.2)
            noise[:, part] = 4 * faint / kept
            noise[:, part & inside[box]] = 2 * faint / kept
    return washed, level
