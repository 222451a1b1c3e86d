"""Corners of decoding that ordinary outputs never show: NaN in one place, huge logits, shapes of other models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgedet_runtime.candidates import coarse_logit, logit
from edgedet_runtime.decode import decoded, dfl, nms, queries
from edgedet_runtime.errors import EngineError
from edgedet_runtime.spec import DecodeSpec, LevelSpec

ROWS = DecodeSpec("decoded", (LevelSpec(1, boxes="rows", scores="rows"),), score="cls")
FINAL = DecodeSpec("nms", (LevelSpec(1, boxes="rows", scores="rows"),), score="cls")
QUERIES = DecodeSpec("queries", (LevelSpec(1, boxes="boxes", scores="scores"),), score="cls", suppression="none")


@pytest.mark.parametrize("column", range(7))
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_decoded_row_with_one_nan(column: int, multi_label: bool) -> None:
    array = np.full((1, 3, 7), 0.9, np.float32)
    array[0, 1, column] = np.nan
    with pytest.raises(EngineError, match="output rows: contains NaN"):
        decoded.decode({"rows": array}, ROWS, 0.5, multi_label)


def test_a_decoded_box_that_is_not_asked_for_may_be_anything() -> None:
    array = np.array([[[1, 2, 3, 4, 0.9, 0.1], [np.nan, 2, 3, 4, 0.2, 0.1]]], np.float32)
    found = decoded.decode({"rows": array}, ROWS, 0.5, multi_label=False)
    assert found.boxes_xyxy.tolist() == [[1, 2, 3, 4]]
    assert found.class_ids.dtype == np.int64


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (0, 6), (1, 0, 6)], ids=lambda s: "x".join(map(str, s)))
def test_final_rows_with_or_without_a_batch(shape: tuple[int, ...]) -> None:
    found = nms.decode({"rows": np.full(shape, 0.9, np.float32)}, FINAL, 0.5, multi_label=False)
    assert len(found.scores) == shape[-2]


@pytest.mark.parametrize("shape", [(4, 5), (4, 7), (2, 4, 6), (1, 1, 4, 6), (6,), (0, 4, 6), (4, 6, 1), ()])
def test_final_rows_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=r"output rows: expected shape \(K, 6\), got"):
        nms.decode({"rows": np.full(shape, 0.9, np.float32)}, FINAL, 0.5, multi_label=False)


@pytest.mark.parametrize("large", [0.0, 100.0, 1e4, -1e4, 3e38])
def test_distances_of_huge_logits_do_not_overflow(large: float) -> None:
    """Only differences between the logits of a side count."""
    spec = DecodeSpec("dfl", (LevelSpec(8, boxes="boxes", scores="scores"),), score="cls", bins=3, cell_offset=0.5)
    boxes = np.full((1, 12, 1, 1), np.float32(large), np.float32)
    found = dfl.decode({"boxes": boxes, "scores": np.full((1, 1, 1, 1), 5, np.float32)}, spec, 0.5, multi_label=False)
    np.testing.assert_allclose(found.boxes_xyxy, [[-4, -4, 12, 12]])  # one cell of 8 px, a distance of 1 each


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [
        ((2, 4), (1, 2, 3)),
        ((2, 2, 4), (1, 2, 3)),
        ((1, 2, 5), (1, 2, 3)),
        ((1, 2, 4, 1), (1, 2, 3)),
        ((1, 2, 4), (1, 3)),
        ((1, 2, 4), (1, 3, 3)),
        ((1, 2, 4), (2, 2, 3)),
        ((1, 2, 4), (1, 2, 0)),
        ((1, 2, 4), (1, 2, 3, 1)),
    ],
    ids=str,
)
def test_queries_of_another_shape(boxes: Any, scores: Any) -> None:
    outputs = {"boxes": np.zeros(boxes, np.float32), "scores": np.zeros(scores, np.float32)}
    with pytest.raises(EngineError, match=r"output (boxes|scores): expected shape \(1, (Q|2), (4|classes)\)"):
        queries.decode(outputs, QUERIES, 0.5, multi_label=False)


@pytest.mark.parametrize("conf", [1e-6, 0.01, 0.25, 0.5, 0.9, 0.999])
def test_the_coarse_filter_is_a_little_below_the_exact_one(conf: float) -> None:
    """Below, so that rounding drops nothing; little, so that few candidates are looked at for nothing."""
    assert logit(conf) - 1e-2 < coarse_logit(conf) < logit(conf) - 1e-4
