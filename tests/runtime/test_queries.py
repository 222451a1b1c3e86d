"""Kind `queries`: sparse decoding against the official formula written out plainly."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.errors import EngineError, ModelFileError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from edgedet_runtime.selection import select
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds

Floats = npt.NDArray[np.float32]

SPEC = DecodeSpec("queries", (LevelSpec(32, "boxes", "scores"),), "cls", suppression="none", unit_xy=(320.0, 192.0))
MODEL = ModelSpec(
    "rtdetr",
    "tiny",
    InputSpec("images", 192, 320),
    ResizeSpec("stretch"),
    SPEC,
    ("a", "b", "c"),
    Thresholds(conf=0.3, max_det=20, multi_label=True),
)


def make_raw(queries: int = 50, classes: int = 3, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 1, (1, queries, 4)).astype(np.float32)
    return boxes, rng.normal(-1, 2, (1, queries, classes)).astype(np.float32)


def official(raw: tuple[Floats, Floats], k: int, conf: float) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """The top k of queries times classes, then the threshold: RT-DETR's post-processing, in float64."""
    boxes, logits = (array[0].astype(np.float64) for array in raw)
    scores = (1 / (1 + np.exp(-logits))).reshape(-1)
    best = np.argsort(-scores, kind="stable")[:k]
    best = best[scores[best] > conf]
    query, class_ids = np.divmod(best, logits.shape[1])
    cx, cy, w, h = boxes[query].T
    corners = np.stack(((cx - w / 2) * 320, (cy - h / 2) * 192, (cx + w / 2) * 320, (cy + h / 2) * 192), axis=1)
    return corners.astype(np.float32), scores[best].astype(np.float32), class_ids


@pytest.mark.parametrize("classes", [1, 3, 80])
@pytest.mark.parametrize(("k", "conf"), [(20, 0.0), (20, 0.3), (300, 0.3), (300, 0.9), (1, 0.5)])
def test_equals_the_official_selection(k: int, conf: float, classes: int) -> None:
    raw = make_raw(classes=classes)
    limits = Thresholds(conf=conf, max_det=k, multi_label=True)
    found = select(decode_outputs(raw, SPEC, conf=conf, multi_label=True), SPEC, limits)
    boxes, scores, class_ids = official(raw, k, conf)
    assert len(scores) > 0
    np.testing.assert_array_equal(found.class_ids, class_ids)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, boxes, rtol=0, atol=1e-4)


def test_without_multi_label_a_query_is_its_best_class() -> None:
    raw = make_raw()
    found = decode_outputs(raw, SPEC, conf=0.3)
    best = raw[1][0].max(axis=1)
    index = np.flatnonzero(1 / (1 + np.exp(-best.astype(np.float64))) > 0.3)
    assert 5 < len(index) < 45
    np.testing.assert_array_equal(found.class_ids, raw[1][0].argmax(axis=1)[index])
    np.testing.assert_allclose(found.boxes_xyxy[:, 0], (raw[0][0, index, 0] - raw[0][0, index, 2] / 2) * 320, atol=1e-4)


def test_of_equal_scores_the_earlier_query_and_class_is_first() -> None:
    boxes = np.full((1, 3, 4), 0.5, np.float32)
    boxes[0, :, 0] = (0.25, 0.5, 0.75)
    logits = np.full((1, 3, 2), -9, np.float32)
    logits[0, 2] = logits[0, 0, 1] = 2
    candidates = decode_outputs((boxes, logits), SPEC, conf=0.5, multi_label=True)
    found = select(candidates, SPEC, Thresholds(conf=0.5, max_det=2, multi_label=True))
    assert found.class_ids.tolist() == [1, 0]
    assert found.boxes_xyxy[:, 0].tolist() == [0.0, 160.0]


def test_two_queries_at_one_place_stay_two() -> None:
    raw = np.full((1, 2, 4), 0.5, np.float32), np.full((1, 2, 1), 1.0, np.float32)
    assert len(select(decode_outputs(raw, SPEC, conf=0.5), SPEC, Thresholds(conf=0.5))) == 2


@pytest.mark.parametrize("multi_label", [False, True])
def test_no_queries_and_nothing_found(multi_label: bool) -> None:
    none = np.zeros((1, 0, 4), np.float32), np.zeros((1, 0, 3), np.float32)
    for raw, conf in ((none, 0.0), (make_raw(), 1.0)):
        found = decode_outputs(raw, SPEC, conf=conf, multi_label=multi_label)
        assert (found.boxes_xyxy.shape, found.scores.shape) == ((0, 4), (0,))
        assert found.class_ids.dtype == np.int64


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_score_at_the_threshold_is_not_above_it(multi_label: bool) -> None:
    raw = np.full((1, 1, 4), 0.5, np.float32), np.zeros((1, 1, 1), np.float32)
    assert len(decode_outputs(raw, SPEC, conf=0.5, multi_label=multi_label)) == 0
    assert len(decode_outputs(raw, SPEC, conf=0.4999, multi_label=multi_label)) == 1


def test_boxes_in_pixels() -> None:
    raw = np.array([[[100, 50, 40, 20]]], np.float32), np.full((1, 1, 1), 3, np.float32)
    found = decode_outputs(raw, dataclasses.replace(SPEC, unit_xy=(1.0, 1.0)), conf=0.5)
    assert found.boxes_xyxy.tolist() == [[80, 40, 120, 60]]


def test_boxes_come_back_to_a_stretched_picture() -> None:
    raw = np.array([[[0.5, 0.5, 0.5, 1.2]]], np.float32), np.full((1, 1, 3), -9, np.float32)
    raw[1][0, 0, 2] = 3
    letterbox = Letterbox.fit((100, 1000), MODEL.input.size_hw, MODEL.resize)
    found = postprocess(raw, letterbox, MODEL, MODEL.thresholds)
    np.testing.assert_allclose(found.boxes_xyxy, [[250, 0, 750, 100]], atol=1e-3)
    assert found.class_ids.tolist() == [2]


@pytest.mark.parametrize("index", [0, 1])
def test_one_nan_is_found_even_where_nothing_scores(index: int) -> None:
    raw = make_raw()
    raw[index][0, 7, 2] = np.nan
    with pytest.raises(EngineError, match=f"output {SPEC.output_names[index]}: contains NaN"):
        decode_outputs(raw, SPEC, conf=0.99999)


@pytest.mark.parametrize(
    ("boxes", "scores", "words"),
    [
        ((1, 50, 5), (1, 50, 3), r"boxes: expected shape \(1, Q, 4\), got \(1, 50, 5\)"),
        ((2, 50, 4), (1, 50, 3), r"boxes: expected shape"),
        ((50, 4), (1, 50, 3), r"boxes: expected shape"),
        ((1, 50, 4), (1, 49, 3), r"scores: expected shape \(1, 50, classes\), got \(1, 49, 3\)"),
        ((1, 50, 4), (1, 50, 0), r"scores: expected shape"),
        ((1, 50, 4), (1, 3, 50, 1), r"scores: expected shape"),
    ],
)
def test_outputs_of_another_model(boxes: tuple[int, ...], scores: tuple[int, ...], words: str) -> None:
    with pytest.raises(EngineError, match=words):
        decode_outputs((np.zeros(boxes, np.float32), np.zeros(scores, np.float32)), SPEC, conf=0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"suppression": "nms"}, "none for queries"),
        ({"score": "obj", "levels": (LevelSpec(32, "boxes", None, "objectness"),)}, "cls for queries"),
        ({"levels": SPEC.levels * 2}, "one level"),
        ({"unit_xy": (0.0, 1.0)}, "two positive numbers"),
        ({"unit_xy": (float("inf"), 1.0)}, "two positive numbers"),
        ({"kind": "ltrb"}, "only queries have units"),
    ],
)
def test_what_a_contract_of_queries_says(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        dataclasses.replace(SPEC, **changes)  # type: ignore[arg-type]


def test_units_are_those_of_the_input() -> None:
    with pytest.raises(ModelFileError, match=r"unit_xy: expected 1, 1 or 320, 192 .the input's size."):
        MODEL.replace(decode=dataclasses.replace(SPEC, unit_xy=(192.0, 320.0)))
    resized = MODEL.with_size(640, 480)
    assert (resized.input.size_hw, resized.decode.unit_xy) == ((640, 480), (480.0, 640.0))
    pixels = MODEL.replace(decode=dataclasses.replace(SPEC, unit_xy=(1.0, 1.0)))
    assert pixels.with_size(640, 480).decode.unit_xy == (1.0, 1.0)


def test_it_is_version_2_of_the_contract() -> None:
    data = json.loads(MODEL.to_json())
    assert (data["spec_version"], data["decode"]["unit_xy"]) == (2, [320.0, 192.0])
    assert ModelSpec.from_json(MODEL.to_json()) == MODEL
