"""Greedy pairs: each row in order takes the nearest free column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedet_runtime.pairing import pair_greedily

TABLE: list[tuple[str, list[list[float]], list[tuple[int, int]]]] = [
    ("the first row chooses first", [[0.6, 0.9], [0.5, 0.95]], [(0, 1), (1, 0)]),
    ("the second nearest where the nearest is taken", [[0.9, 0.0], [0.8, 0.7]], [(0, 0), (1, 1)]),
    ("nothing left", [[0.9], [0.95]], [(0, 0)]),
    ("zero is apart", [[0.0, 0.0], [0.0, 0.1]], [(1, 1)]),
    ("the first of equals", [[0.5, 0.5], [0.5, 0.5]], [(0, 0), (1, 1)]),
]


@pytest.mark.parametrize(("nearness", "pairs"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_pairs(nearness: list[list[float]], pairs: list[tuple[int, int]]) -> None:
    given_ = np.array(nearness)
    assert pair_greedily(given_) == pairs
    np.testing.assert_array_equal(given_, nearness)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_pairs_with_nothing(shape: tuple[int, int]) -> None:
    assert pair_greedily(np.ones(shape)) == []


@given(
    arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(0, 5)), elements=st.sampled_from([0.0, 0.3, 0.5, 1]))
)
def test_each_row_has_the_best_of_what_those_before_it_left(nearness: np.ndarray) -> None:
    taken: set[int] = set()
    pairs = dict(pair_greedily(nearness))
    for row in range(nearness.shape[0]):
        free = {c: float(nearness[row, c]) for c in range(nearness.shape[1]) if c not in taken and nearness[row, c] > 0}
        expected = max(free, key=lambda c: (free[c], -c)) if free else None
        assert pairs.get(row) == expected
        taken |= set() if expected is None else {expected}
