"""Pictures of measurements that are not pictures."""

from __future__ import annotations

import numpy as np
import torch

from invlib import examples
from invlib.images import Picture
from invlib.problems import linear as problems
from invlib.runs import distance, quantised
from pages.ui import linear, pixels


def picture(side: int = 32) -> Picture:
    return examples.picture("chelsea", side=side)


def test_frequencies_that_are_kept_are_in_colour() -> None:
    problem = problems.pose("deblurring", picture(), {"keep": 0.1})
    tile = linear.frequencies(problem)
    assert tile.picture is not None
    kept = ~(tile.picture == linear.LOST).all(-1)
    assert kept.sum() == problem.operator.kept.sum()
    rows, columns = np.nonzero(kept)
    assert (rows.mean(), columns.mean()) == (16, 16), "the lowest frequencies are in the middle"


def test_the_strongest_frequency_is_the_mean() -> None:
    plane = linear.spectrum(examples.example("chelsea", side=32))
    assert np.unravel_index(plane.argmax(), plane.shape) == (16, 16)
    assert plane.max() == 255


def test_measured_numbers_are_drawn_in_order_with_their_signs() -> None:
    problem = problems.pose("compressive-sensing", picture(16), {"keep": 0.1})
    tile = linear.numbers(problem)
    assert tile.picture is not None
    colours = tile.picture.reshape(-1, 3)[: problem.operator.measured].astype(int)
    redder = torch.from_numpy(colours[:, 0] - colours[:, 2])
    measured = problem.measurements.flatten()
    clear = measured.abs() > 0.1 * measured.square().mean().sqrt()
    assert torch.equal(redder[clear] > 0, measured[clear] > 0)


def test_maps_of_distance_are_on_their_scale() -> None:
    black, grey = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 51, np.uint8)
    assert np.allclose(distance(black, grey), 0.2)
    assert (quantised(distance(black, grey), 0.4) == 128).all()
    assert (quantised(distance(black, grey), 0.1) == 255).all(), "clipped above"
    assert pixels.coloured(np.array([[0, 255]], np.uint8)).shape == (1, 2, 3)
