"""Streams of noise: what a sample's noise depends on."""

from __future__ import annotations

import pytest
import torch

from invlib.solvers.streams import Streams, opposites, quarter_turn

SHAPE = (2, 8, 8)


def test_sample_three_of_eight_is_sample_three_of_four() -> None:
    four, eight = Streams(5, 4, SHAPE, "cpu"), Streams(5, 8, SHAPE, "cpu")
    for _ in range(2):
        assert torch.equal(four.draw(range(4)), eight.draw(range(8))[:4])
    assert not torch.equal(four.draw([0]), four.draw([1]))
    assert not torch.equal(Streams(5, 1, SHAPE, "cpu").draw([0]), Streams(6, 1, SHAPE, "cpu").draw([0]))


def test_without_mixing_a_stream_moves_on_only_where_it_is_drawn_from() -> None:
    some, every = Streams(0, 2, SHAPE, "cpu"), Streams(0, 2, SHAPE, "cpu")
    some.draw([1])
    assert torch.equal(some.draw([0]), every.draw([0]))


def test_pairs_of_opposites_cancel() -> None:
    white = Streams(0, 5, SHAPE, "cpu", mixing=opposites(5)).draw(range(5))
    assert torch.equal(white[0], -white[1])
    assert torch.equal(white[2], -white[3])
    assert not torch.equal(white[0].abs(), white[2].abs())
    assert opposites(5).shape == (5, 3)


def test_a_quarter_turn_goes_from_one_stream_to_another_and_keeps_its_strength() -> None:
    weights = quarter_turn(5)
    assert weights[0].tolist() == [1, 0]
    assert weights[-1].tolist() == [0, 1]
    torch.testing.assert_close(weights.square().sum(1), torch.ones(5))
    ends = Streams(3, 2, SHAPE, "cpu").draw([0, 1])
    assert torch.equal(Streams(3, 5, SHAPE, "cpu", mixing=weights).draw(range(5))[[0, -1]], ends)


@pytest.mark.parametrize(("seed", "count", "said"), [(-1, 1, "seed"), (0, 0, "count")])
def test_what_cannot_be_is_named(seed: int, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Streams(seed, count, SHAPE, "cpu")
