"""Kind `priors` and softmax with background: sparse, dense in torch, and box by box in float64 are one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgedet_models.decode import decode, peaks
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.errors import EngineError, ModelFileError
from edgedet_runtime.prior_spec import PriorSpec
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, ScoreKind

Raw = tuple[npt.NDArray[np.float32], ...]

SIZE_WH = (50.0, 41.0)
GRIDS = ((6, 7), (3, 4))  # rows and columns
PRIORS = (((10.0, 13.0), (30.0, 45.0)), ((60.0, 8.0), (20.0, 30.0), (5.0, 5.0)))
CLASSES = 4
RULES = {
    "ssd": PriorSpec("exp", (0.1, 0.1, 0.2, 0.2), step="stride", clamp=True, cap=0.3),
    "grid": PriorSpec("exp", (1.0, 0.5, 1.0, 0.25), step="grid", cap=0.2, cap_below=True),
    "grid-floor": PriorSpec("exp", step="grid-floor"),
    "inclusive": PriorSpec("exp", (0.1, 0.1, 0.2, 0.2), inclusive=True),
    "linear": PriorSpec("linear", (0.25, 0.5, 0.125, 1.0)),
    "sides": PriorSpec("sides", step="grid-floor"),
}


def make_spec(rules: PriorSpec, score: ScoreKind = "softmax", cell_offset: float = 0.5) -> ModelSpec:
    levels = tuple(
        LevelSpec(s, f"b{i}", f"s{i}", f"o{i}" if "obj" in score else None, anchors_px=PRIORS[i])
        for i, s in enumerate((8, 16))
    )
    decode = DecodeSpec("priors", levels, score, cell_offset=cell_offset, unit_xy=SIZE_WH, priors=rules)
    size = InputSpec("x", int(SIZE_WH[1]), int(SIZE_WH[0]))
    return ModelSpec("custom", "tiny", size, ResizeSpec("stretch"), decode, tuple("abcd"))


def make_raw(spec: ModelSpec) -> Raw:
    rng = np.random.default_rng(3)
    raw: list[npt.NDArray[np.float32]] = []
    for level, grid in zip(spec.decode.levels, GRIDS, strict=True):
        a, k = len(level.anchors_px), CLASSES + (spec.decode.score == "softmax")
        objectness = [] if level.objectness is None else [(1, a, *grid)]
        for shape in ((1, a * 4, *grid), *objectness, (1, a * k, *grid)):
            raw.append(rng.normal(0, 1.5, shape).astype(np.float32))
    return tuple(raw)


def one_by_one(spec: ModelSpec, raw: Raw) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return all boxes and scores, in the order level, anchor, row, column."""
    rules = spec.decode.priors
    assert rules is not None
    named = {n: r[0].astype(np.float64) for n, r in zip(spec.decode.output_names, raw, strict=True)}
    boxes, scores = [], []
    for level, (rows, cols) in zip(spec.decode.levels, GRIDS, strict=True):
        step_x, step_y = SIZE_WH[0] / cols, SIZE_WH[1] / rows
        if rules.step == "grid-floor":
            step_x, step_y = math.floor(step_x), math.floor(step_y)
        if rules.step == "stride":
            step_x = step_y = level.stride
        for a, (w, h) in enumerate(level.anchors_px):
            if rules.clamp:
                w, h = min(w, SIZE_WH[0]), min(h, SIZE_WH[1])
            logits = named[str(level.scores)].reshape(len(level.anchors_px), -1, rows, cols)[a]
            for row in range(rows):
                for col in range(cols):
                    t = named[level.boxes][a * 4 : a * 4 + 4, row, col] * rules.variances
                    x, y = (col + spec.decode.cell_offset) * step_x, (row + spec.decode.cell_offset) * step_y
                    boxes.append(one_box(rules, t, x, y, w, h))
                    z = logits[:, row, col]
                    if spec.decode.score == "softmax":
                        scores.append(np.exp(z[1:]) / np.exp(z).sum())
                    else:
                        p = 1 / (1 + np.exp(-z))
                        if level.objectness is not None:
                            p = np.sqrt(p / (1 + np.exp(-named[level.objectness][a, row, col])))
                        scores.append(p)
    return np.array(boxes), np.array(scores)


def one_box(rules: PriorSpec, t: npt.NDArray[Any], x: float, y: float, w: float, h: float) -> list[float]:
    if rules.box == "sides":
        return [x - t[0] * w, y - t[1] * h, x + t[2] * w, y + t[3] * h]
    x, y = x + t[0] * w, y + t[1] * h
    if rules.box == "linear":
        w, h = t[2] * w, t[3] * h
    else:
        logs = [min(v, math.inf if rules.cap is None else rules.cap) for v in t[2:]]
        if rules.cap_below:
            assert rules.cap is not None
            logs = [max(v, -rules.cap) for v in logs]
        w, h = math.exp(logs[0]) * w, math.exp(logs[1]) * h
    if rules.inclusive:
        w, h = w - 1, h - 1
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("name", "score", "conf", "offset"),
    [
        *((name, "softmax", 0.3, 0.5) for name in RULES),
        ("ssd", "softmax", 0.0, 0.5),
        ("grid", "softmax", 0.7, 0.0),
        ("grid-floor", "cls", 0.6, 0.0),
        ("sides", "sqrt(obj*cls)", 0.5, 0.0),
        ("inclusive", "sqrt(obj*cls)", 0.1, 0.5),
    ],
)
def test_sparse_and_dense_equal_box_by_box(
    name: str, score: ScoreKind, conf: float, offset: float, multi_label: bool
) -> None:
    spec = make_spec(RULES[name], score, offset)
    raw = make_raw(spec)
    boxes, scores = one_by_one(spec, raw)
    dense_boxes, dense_scores = decode(spec, [torch.from_numpy(r) for r in raw])
    np.testing.assert_allclose(dense_boxes[0].numpy(), boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(dense_scores[0].numpy(), scores, rtol=1e-5)
    found = decode_outputs(raw, spec.decode, conf=conf, multi_label=multi_label)
    if multi_label:
        which, ids = np.nonzero(scores > conf)
    else:
        which = np.flatnonzero(scores.max(axis=1) > conf)
        ids = scores[which].argmax(axis=1)
    assert len(which) > 0
    np.testing.assert_array_equal(found.class_ids, ids)
    np.testing.assert_allclose(found.scores, scores[which, ids], rtol=1e-5)
    np.testing.assert_allclose(found.boxes_xyxy, boxes[which], rtol=1e-5, atol=1e-4)


def test_background_wins_without_a_candidate() -> None:
    spec = make_spec(RULES["ssd"])
    raw = [np.zeros_like(r) for r in make_raw(spec)]
    for array in raw[1::2]:
        array.reshape(-1, CLASSES + 1, *array.shape[2:])[:, 0] = 5.0
    assert len(decode_outputs(raw, spec.decode, conf=0.01)) == 0
    raw[3].reshape(-1, CLASSES + 1, *raw[3].shape[2:])[1, 3, 2, 1] = 9.0
    found = decode_outputs(raw, spec.decode, conf=0.01)
    assert found.class_ids.tolist() == [2]
    assert found.scores[0] == pytest.approx(math.exp(9) / (math.exp(9) + math.exp(5) + 3), rel=1e-6)


def test_priors_that_are_fractions_grow_with_the_input() -> None:
    fixed = make_spec(RULES["ssd"])
    scaled = make_spec(dataclasses.replace(RULES["ssd"], scales=True))
    for spec, anchors in ((fixed, PRIORS[0]), (scaled, tuple((2 * w, 3 * h) for w, h in PRIORS[0]))):
        other = spec.with_size(123, 100)
        assert np.array(other.decode.levels[0].anchors_px) == pytest.approx(np.array(anchors))
        assert other.decode.unit_xy == (100.0, 123.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"priors": None}, "decode.priors"),
        ({"kind": "anchors"}, "decode.priors"),
        ({"levels": (LevelSpec(8, "b", "s"),)}, "anchors on every level"),
        ({"unit_xy": (0.0, 1.0)}, "two positive numbers"),
    ],
)
def test_rules_that_do_not_fit_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=words):
        dataclasses.replace(make_spec(RULES["ssd"]).decode, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"variances": (1.0, 0.0, 1.0, 1.0)}, "variances"), ({"cap": -1.0}, "cap"), ({"cap_below": True}, "cap_below")],
)
def test_rules_out_of_range_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelFileError, match=f"decode.priors.{words}"):
        PriorSpec(**changes)


def test_priors_need_the_size_of_the_input() -> None:
    spec = make_spec(RULES["ssd"])
    with pytest.raises(ModelFileError, match=r"decode.unit_xy: expected 50, 41 \(the input's size\), got"):
        spec.replace(decode=dataclasses.replace(spec.decode, unit_xy=(1.0, 1.0)))


def test_softmax_without_a_class_or_with_nan_is_refused() -> None:
    spec = make_spec(RULES["ssd"])
    raw = list(make_raw(spec))
    raw[1] = raw[1][:, :2]
    with pytest.raises(EngineError, match="expected background and classes, got 1"):
        decode_outputs(raw, spec.decode, conf=0.3)
    raw = list(make_raw(spec))
    raw[1][0, 0, 0, 0] = np.nan
    with pytest.raises(EngineError, match="NaN"):
        decode_outputs(raw, spec.decode, conf=0.3)


@pytest.mark.parametrize("conf", [0.4, 0.9999])
def test_keypoints_move_from_the_center_as_boxes_do(conf: float) -> None:
    spec = make_spec(RULES["grid"])
    decode_spec = dataclasses.replace(spec.decode, keypoints=("k0", "k1"))
    rng = np.random.default_rng(5)
    points = [rng.normal(0, 1, (1, len(PRIORS[i]) * 6, *GRIDS[i])).astype(np.float32) for i in range(2)]
    found = decode_outputs((*make_raw(spec), *points), decode_spec, conf=conf)
    assert found.keypoints_xy is not None
    assert found.keypoints_xy.shape == (len(found), 3, 2)
    if conf > 0.9:
        assert len(found) == 0
        return
    boxes, scores = one_by_one(spec, make_raw(spec))
    expected = []
    for i, (rows, cols) in enumerate(GRIDS):
        for a, (w, h) in enumerate(PRIORS[i]):
            for row in range(rows):
                for col in range(cols):
                    t = points[i].reshape(-1, 3, 2, rows, cols)[a, :, :, row, col]
                    center = np.array([(col + 0.5) * SIZE_WH[0] / cols, (row + 0.5) * SIZE_WH[1] / rows])
                    expected.append(center + t * [1.0 * w, 0.5 * h])
    which = np.flatnonzero(scores.max(axis=1) > conf)
    np.testing.assert_allclose(found.keypoints_xy, np.array(expected)[which], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.boxes_xyxy, boxes[which], rtol=1e-5, atol=1e-4)


def test_keypoints_that_differ_between_levels_are_refused() -> None:
    spec = make_spec(RULES["grid"])
    decode_spec = dataclasses.replace(spec.decode, keypoints=("k0", "k1"))
    points = [np.zeros((1, len(PRIORS[i]) * (2, 4)[i], *GRIDS[i]), np.float32) for i in range(2)]
    with pytest.raises(EngineError, match="as many keypoints on each level"):
        decode_outputs((*make_raw(spec), *points), decode_spec, conf=0.3)


def heat_maps() -> tuple[ModelSpec, Raw]:
    """Return a contract of peaks and its outputs: heat maps with ties, neighbors across rows, and edges."""
    rng = np.random.default_rng(11)
    level = LevelSpec(4, "b", "s", anchors_px=((4.0, 4.0),))
    decode = DecodeSpec(
        "priors", (level,), "cls", cell_offset=0.0, suppression="none", unit_xy=(28.0, 20.0),
        priors=PriorSpec("linear"), peaks=True,
    )  # fmt: skip
    spec = ModelSpec("custom", "peaks", InputSpec("x", 20, 28), ResizeSpec("stretch"), decode, ("a", "b", "c"))
    scores = rng.integers(-4, 4, (1, 3, 5, 7)).astype(np.float32)
    return spec, (rng.random((1, 4, 5, 7), np.float32), scores)


@pytest.mark.parametrize("conf", [0.01, 0.5, 0.9])
def test_only_peaks_of_a_class_count(conf: float) -> None:
    spec, raw = heat_maps()
    expected = []
    for c, r, col in np.ndindex(3, 5, 7):
        here = raw[1][0, c, r, col]
        around = raw[1][0, c, max(r - 1, 0) : r + 2, max(col - 1, 0) : col + 2]
        score = 1 / (1 + math.exp(-here))
        if here >= around.max() and score > conf:
            x, y, w, h = raw[0][0, :, r, col]
            center = np.array([(col + x) * 4, (r + y) * 4])
            half = np.array([w, h]) * 2
            expected.append([*(center - half), *(center + half), score, c])
    found = decode_outputs(raw, spec.decode, conf=conf, multi_label=True)
    rows = np.column_stack((found.boxes_xyxy, found.scores, found.class_ids))
    assert len(rows) == len(expected) > 3
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(np.array(expected), axis=0), rtol=1e-5)
    tensors = [torch.from_numpy(r) for r in raw]
    dense = (decode(spec, tensors)[1] * peaks(spec, tensors))[0].numpy()
    np.testing.assert_allclose(np.sort(dense[dense > conf]), np.sort(found.scores), rtol=1e-6)


def test_peaks_need_a_score_per_class_and_one_box_per_cell() -> None:
    spec, _ = heat_maps()
    level = LevelSpec(4, "b", "s", anchors_px=((4.0, 4.0), (8.0, 8.0)))
    for changes in ({"score": "softmax"}, {"levels": (level,)}):
        with pytest.raises(ModelFileError, match=r"decode\.peaks: expected score cls and one box per cell"):
            dataclasses.replace(spec.decode, **changes)
