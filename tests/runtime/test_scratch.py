"""Kept arrays."""

from __future__ import annotations

import numpy as np

from edgedet_runtime.scratch import Scratch


def test_an_array_is_kept_by_name_shape_and_type() -> None:
    scratch = Scratch()
    first = scratch.array("a", (2, 3), np.uint8)
    assert (first.shape, first.dtype.name, first.flags.c_contiguous) == ((2, 3), "uint8", True)
    assert scratch.array("a", (2, 3), np.uint8) is first
    assert scratch.array("b", (2, 3), np.uint8) is not first
    assert scratch.array("a", (2, 3), np.uint8) is first
    other = scratch.array("a", (3, 2), np.uint8)
    assert other.shape == (3, 2)
    assert scratch.array("a", (3, 2), np.uint16).dtype == np.uint16
    assert scratch.array("a", (3, 2), np.uint8) is not other
