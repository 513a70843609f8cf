"""Strokes of a pen: where they are, what shines through them, and the picture below."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invlib import examples
from invlib.priors.denoisers import Denoiser
from invlib.problems.structured import TASKS, draw_scribble
from invlib.solvers.methods import estimate_strength, load_prior
from invlib.solvers.scribbles import OPAQUE, find_strokes, fit_strokes, wash


def picture(channels: int = 3, side: int = 48) -> Tensor:
    wide = torch.randn(1, channels, 6, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(0.5 + 0.15 * wide, size=(side, side), mode="bilinear").clamp(0.05, 0.95)


def bars(side: int = 48) -> tuple[Tensor, Tensor]:
    """Two bars that do not touch."""
    first, second = torch.zeros(2, side, side, dtype=torch.bool)
    first[8:13, 4:40] = True
    second[20:44, 30:36] = True
    return first, second


@pytest.mark.parametrize("channels", [1, 3])
def test_colour_and_opacity_of_every_stroke_are_found_and_undone(channels: int) -> None:
    """If the estimate of the picture is exact, so are they."""
    x, (first, second) = picture(channels), bars()
    colours = torch.rand(2, channels, 1, 1, generator=torch.Generator().manual_seed(2))
    y = x.clone()
    for where, opacity, colour in zip((first, second), (0.3, 0.7), colours, strict=True):
        y = torch.where(where, (1 - opacity) * x + opacity * colour, y)
    strokes = fit_strokes(y, x, first | second)
    assert [stroke.kept for stroke in strokes] == pytest.approx([0.7, 0.3], abs=1e-4)
    for stroke, opacity, colour in zip(strokes, (0.3, 0.7), colours, strict=True):
        torch.testing.assert_close(stroke.added, opacity * colour.flatten(), atol=1e-4, rtol=0)
    washed, level = wash(y, first | second, strokes, faint=0.01)
    torch.testing.assert_close(washed, x, atol=1e-3, rtol=0)
    assert level[0, 0, 0, 0] == pytest.approx(0.01)
    assert float(level[0, 0, 30, 33]) > float(level[0, 0, 10, 20]) > 0.01, "more opaque, more noise"


def test_what_an_opaque_stroke_hides_counts_for_nothing() -> None:
    x, (where, _) = picture(), bars()
    y = torch.where(where, 0.2, x)
    strokes = fit_strokes(y, x, where)
    assert strokes[0].kept <= OPAQUE
    _, level = wash(y, where, strokes, faint=0.01)
    assert set(level[:, :, where].unique().tolist()) == {1.0}


def test_strokes_are_where_they_are_surely_and_as_far_as_they_can_be_seen() -> None:
    added, (first, second) = torch.zeros(1, 3, 48, 48), bars()
    added[..., first] = 0.3
    added[..., 10, 40:44] = 0.05  # faint, but it goes on from the stroke
    added[..., second] = 0.05  # nowhere sure
    added[..., 1:3, 1:3] = 0.5  # too small for a stroke
    expected = first.clone()
    expected[10, 40:44] = True
    assert torch.equal(find_strokes(added), expected)
    assert not find_strokes(torch.zeros(1, 1, 8, 8)).any()


def test_a_scribble_depends_on_its_seed_and_grows_with_the_picture() -> None:
    assert torch.equal(draw_scribble((64, 64), 3), draw_scribble((64, 64), 3))
    assert not torch.equal(draw_scribble((64, 64), 3), draw_scribble((64, 64), 4))
    small, large = (draw_scribble((side, side), 3)[3].count_nonzero() for side in (64, 320))
    assert large > 3 * small


def test_the_strength_of_stripes_follows_from_the_measurements() -> None:
    """On a photograph, with the shipped denoiser, which is told half of the strength."""
    x, task = examples.example("coffee", side=64), TASKS["sinusoidal"]
    y = task.model((3, 64, 64), c=0.2).measure(x, seed=1)
    strength = estimate_strength(task.model((3, 64, 64), c=0.1), y, load_prior("bf-unet-color", Denoiser), seed=0)
    assert strength == pytest.approx(2, rel=0.1)
