"""Sparse decoding against dense decoding written out plainly, and against the official code's results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime.candidates import Candidates, coarse_logit, logit, sigmoid
from edgedet_runtime.decode import KINDS, decode_outputs
from edgedet_runtime.errors import EngineError
from edgedet_runtime.selection import select
from edgedet_runtime.spec import BoxKind, DecodeSpec, LevelSpec, ScoreKind
from tests.runtime.official_fixtures import ALL_FIXTURES, QUERY_FIXTURES, load_reference

Floats = npt.NDArray[np.float32]
Raw = tuple[Floats, ...]

CLASSES = 5
ANCHORS = (((10.0, 13.0), (30.0, 61.0)), ((100.0, 40.0), (200.0, 300.0)))
SIZES = ((8, (6, 10)), (16, (3, 5)))  # stride, rows and columns


def make_spec(kind: BoxKind, score: ScoreKind, **more: object) -> DecodeSpec:
    levels = []
    for i, (stride, _) in enumerate(SIZES):
        levels.append(
            LevelSpec(
                stride,
                boxes=f"boxes_{i}",
                scores=f"scores_{i}" if "cls" in score else None,
                objectness=f"obj_{i}" if "obj" in score else None,
                anchors_px=ANCHORS[i] if kind == "anchors" else (),
                scale_xy=1.2 if kind == "anchors" else 1.0,
            )
        )
    return DecodeSpec(kind, tuple(levels), score, bins=7 if kind == "dfl" else 0, **more)  # type: ignore[arg-type]


def make_raw(spec: DecodeSpec, seed: int = 0) -> Raw:
    rng = np.random.default_rng(seed)
    raw = []
    for level, (_, (h, w)) in zip(spec.levels, SIZES, strict=True):
        anchors = max(len(level.anchors_px), 1)
        channels = 4 * spec.bins if spec.kind == "dfl" else 4
        raw.append(rng.normal(0, 1.5, (1, anchors * channels, h, w)).astype(np.float32))
        if level.objectness is not None:
            raw.append(rng.normal(0, 2, (1, anchors, h, w)).astype(np.float32))
        if level.scores is not None:
            raw.append(rng.normal(-1, 2, (1, anchors * CLASSES, h, w)).astype(np.float32))
    return tuple(raw)


def dense(raw: Raw, spec: DecodeSpec, conf: float, multi_label: bool) -> Candidates:
    """Decode every cell in float64, one by one, then filter."""
    outputs = dict(zip(spec.output_names, (np.asarray(r, np.float64)[0] for r in raw), strict=True))
    boxes, scores, ids = [], [], []
    for level, (s, (rows, cols)) in zip(spec.levels, SIZES, strict=True):
        anchors = max(len(level.anchors_px), 1)
        size = len(outputs[level.boxes]) // anchors
        for a in range(anchors):
            for row in range(rows):
                for col in range(cols):
                    t = outputs[level.boxes][a * size : (a + 1) * size, row, col]
                    box = one_box(t, row, col, s, level, a, spec)
                    obj = 1.0
                    if level.objectness is not None:
                        obj = 1 / (1 + np.exp(-outputs[level.objectness][a, row, col]))
                    cls = np.ones(1)
                    if level.scores is not None:
                        cls_t = outputs[level.scores][a * CLASSES : (a + 1) * CLASSES, row, col]
                        cls = 1 / (1 + np.exp(-cls_t))
                    for c in range(len(cls)) if multi_label else [int(cls.argmax())]:
                        if obj * cls[c] > conf:
                            boxes.append(box)
                            scores.append(obj * cls[c])
                            ids.append(c)
    return Candidates(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(ids, np.int64))


def one_box(
    t: npt.NDArray[np.float64], row: int, col: int, s: int, level: LevelSpec, a: int, spec: DecodeSpec
) -> list[float]:
    y = 1 / (1 + np.exp(-t))
    if spec.kind in ("ltrb", "dfl"):
        if spec.kind == "dfl":
            e = np.exp(t.reshape(4, spec.bins))
            t = (e / e.sum(axis=1, keepdims=True) * np.arange(spec.bins)).sum(axis=1)
        x, yy = col + spec.cell_offset, row + spec.cell_offset
        return [(x - t[0]) * s, (yy - t[1]) * s, (x + t[2]) * s, (yy + t[3]) * s]
    if spec.kind == "anchors":
        k = level.scale_xy
        cx, cy = (k * y[0] - (k - 1) / 2 + col) * s, (k * y[1] - (k - 1) / 2 + row) * s
        aw, ah = level.anchors_px[a]
        if spec.wh == "exp":
            w, h = np.exp(t[2]) * aw, np.exp(t[3]) * ah
        else:
            w, h = (2 * y[2]) ** 2 * aw, (2 * y[3]) ** 2 * ah
    else:
        cx, cy, w, h = (t[0] + col) * s, (t[1] + row) * s, np.exp(t[2]) * s, np.exp(t[3]) * s
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


SPECS = {
    "anchors, square": make_spec("anchors", "obj*cls", wh="square"),
    "anchors, exp": make_spec("anchors", "obj*cls", wh="exp"),
    "anchors, objectness alone": make_spec("anchors", "obj"),
    "points-exp": make_spec("points-exp", "obj*cls"),
    "ltrb": make_spec("ltrb", "cls"),
    "ltrb, corner": make_spec("ltrb", "cls", cell_offset=0.0),
    "dfl": make_spec("dfl", "cls"),
    "dfl, objectness": make_spec("dfl", "obj*cls", cell_offset=0.0),
}


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("conf", [0.0, 0.001, 0.25, 0.9])
@pytest.mark.parametrize("case", SPECS)
def test_equals_dense_decoding(case: str, conf: float, multi_label: bool) -> None:
    spec = SPECS[case]
    raw = make_raw(spec)
    found = decode_outputs(raw, spec, conf=conf, multi_label=multi_label)
    expected = dense(raw, spec, conf, multi_label)
    assert len(expected) > 0
    np.testing.assert_array_equal(found.class_ids, expected.class_ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
    np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=1e-5, atol=1e-3)


def test_every_raw_kind_is_covered_here_or_in_a_file_of_its_own() -> None:
    assert {s.kind for s in SPECS.values()} | {"priors", "queries", "decoded", "nms"} == set(KINDS)


@pytest.mark.parametrize("conf", [1e-6, 0.25, 0.5, 0.999, 0.9999999])
def test_the_coarse_filter_never_drops_what_the_exact_rule_keeps(conf: float) -> None:
    around = np.float32(min(logit(conf), 18.0))
    x = (around + np.linspace(-0.02, 0.02, 20001, dtype=np.float32)).astype(np.float32)
    exact = sigmoid(x) > np.float32(conf)
    assert exact.any() or conf > 0.99999
    assert not (exact & ~(x > coarse_logit(conf))).any()


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("case", ["ltrb", "points-exp", "anchors, objectness alone"])
def test_a_score_at_the_threshold_is_not_above_it(case: str, multi_label: bool) -> None:
    """sigmoid(0) is exactly 0.5."""
    spec = SPECS[case]
    raw = make_raw(spec)
    for array, name in zip(raw, spec.output_names, strict=True):
        if not name.startswith("boxes"):
            array[:] = -9
    raw[1][0, -1, 2, 4] = 0.0
    if spec.score == "obj*cls":
        raw[2][0, -1, 2, 4] = np.inf
    assert len(decode_outputs(raw, spec, conf=0.5, multi_label=multi_label)) == 0
    found = decode_outputs(raw, spec, conf=float(np.nextafter(np.float32(0.5), np.float32(0))), multi_label=multi_label)
    assert found.scores.tolist() == [0.5]


def test_nothing_scores_above_one() -> None:
    spec = SPECS["points-exp"]
    assert len(decode_outputs(make_raw(spec), spec, conf=1.0)) == 0


def test_infinite_logits_are_certain_not_errors() -> None:
    spec = SPECS["ltrb"]
    raw = make_raw(spec)
    raw[1][:] = -np.inf
    raw[3][:] = -np.inf
    raw[1][0, 3, 2, 4] = np.inf
    found = decode_outputs(raw, spec, conf=0.5)
    assert found.scores.tolist() == [1.0]
    assert found.class_ids.tolist() == [3]


DECODED = DecodeSpec("decoded", (LevelSpec(1, boxes="out", scores="out"),))
FINAL = DecodeSpec("nms", (LevelSpec(1, boxes="out", scores="out"),))


def test_decoded_output() -> None:
    rows = np.array([[0, 0, 9, 9, 0.2, 0.6, 0.5], [1, 1, 5, 5, 0.1, 0.1, 0.1], [2, 2, 8, 8, 0.7, 0.1, 0]], np.float32)[
        None
    ]
    best = decode_outputs((rows,), DECODED, conf=0.25)
    assert best.boxes_xyxy.tolist() == [[0, 0, 9, 9], [2, 2, 8, 8]]
    assert best.class_ids.tolist() == [1, 0]
    every = decode_outputs((rows,), DECODED, conf=0.25, multi_label=True)
    assert every.class_ids.tolist() == [1, 2, 0]
    np.testing.assert_array_equal(every.scores, np.array([0.6, 0.5, 0.7], np.float32))


@pytest.mark.parametrize("multi_label", [False, True])
def test_finished_scores_at_the_threshold_are_not_above_it(multi_label: bool) -> None:
    at, above = np.float32(0.3), np.nextafter(np.float32(0.3), np.float32(1))
    decoded = np.array([[[0, 0, 9, 9, at, 0], [1, 1, 5, 5, above, at]]], np.float32)
    found = decode_outputs((decoded,), DECODED, conf=0.3, multi_label=multi_label)
    assert (found.scores.tolist(), found.class_ids.tolist()) == ([above], [0])
    final = np.array([[0, 0, 9, 9, at, 0], [1, 1, 5, 5, above, 1]], np.float32)
    found = decode_outputs((final,), FINAL, conf=0.3, multi_label=multi_label)
    assert (found.scores.tolist(), found.class_ids.tolist()) == ([above], [1])


@pytest.mark.parametrize("batched", [False, True])
def test_final_output(batched: bool) -> None:
    rows = np.array([[0, 0, 9, 9, 0.6, 2], [0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 0.3, 0]], np.float32)
    found = decode_outputs((rows[None] if batched else rows,), FINAL, conf=0.25)
    assert found.boxes_xyxy.tolist() == [[0, 0, 9, 9], [1, 2, 3, 4]]
    assert found.class_ids.tolist() == [2, 0]
    rows[0] = 7  # the result must not be a view of the engine's buffer
    assert found.boxes_xyxy[0].tolist() == [0, 0, 9, 9]


@pytest.mark.parametrize("index", range(6))
def test_nan_is_named(index: int) -> None:
    spec = SPECS["anchors, square"]
    raw = make_raw(spec)
    raw[index][:] = np.nan
    with pytest.raises(EngineError, match=rf"output {spec.output_names[index]}: contains NaN"):
        decode_outputs(raw, spec, conf=0.25)


@pytest.mark.parametrize("case", ["ltrb", "points-exp"])
def test_one_nan_is_found_even_where_nothing_scores(case: str) -> None:
    spec = SPECS[case]
    for index, name in enumerate(spec.output_names):
        raw = make_raw(spec)
        raw[index][0, 0, 2, 3] = np.nan
        if case == "points-exp" and name.startswith("scores"):
            raw[index - 1][0, 0, 2, 3] = 20.0  # class logits count where there is an object
        with pytest.raises(EngineError, match=f"output {name}: contains NaN"):
            decode_outputs(raw, spec, conf=0.99999)


@pytest.mark.parametrize(("spec", "array"), [(DECODED, np.full((1, 3, 8), np.nan)), (FINAL, np.full((3, 6), np.nan))])
def test_nan_in_finished_outputs(spec: DecodeSpec, array: npt.NDArray[np.float64]) -> None:
    with pytest.raises(EngineError, match="output out: contains NaN"):
        decode_outputs((array.astype(np.float32),), spec, conf=0.25)


WRONG: dict[str, Callable[[Raw], Raw]] = {
    "too few outputs": lambda raw: raw[:-1],
    "channels": lambda raw: (raw[0][:, :-1], *raw[1:]),
    "batch": lambda raw: (raw[0].repeat(2, 0), *raw[1:]),
    "size": lambda raw: (raw[0], raw[1][:, :, :-1], *raw[2:]),
    "rank": lambda raw: (raw[0][0], *raw[1:]),
}


def test_what_was_expected_of_an_output_is_said() -> None:
    spec = SPECS["anchors, square"]
    raw = list(make_raw(spec))
    cases = {
        0: (raw[0][:, :7], "output boxes_0: expected shape (1, 8, h, w), got (1, 7, 6, 10): not the spec's model"),
        1: (raw[1][:, :1], "output obj_0: expected shape (1, 2, 6, 10), got (1, 1, 6, 10): not the spec's model"),
        2: (raw[2][:, :9], "output scores_0: expected shape (1, A * classes, 6, 10), got (1, 9, 6, 10): not the"),
    }
    for index, (array, words) in cases.items():
        with pytest.raises(EngineError) as raised:
            decode_outputs([*raw[:index], array, *raw[index + 1 :]], spec, conf=0.25)
        assert str(raised.value).startswith(words)
    empty = (raw[0], raw[1], raw[2][:, :0], *raw[3:])
    with pytest.raises(EngineError, match="scores_0: expected shape"):
        decode_outputs(empty, spec, conf=0.25)


@pytest.mark.parametrize("case", WRONG)
def test_outputs_of_another_model(case: str) -> None:
    spec = SPECS["points-exp"]
    with pytest.raises(EngineError, match=r"expected .* got"):
        decode_outputs(WRONG[case](make_raw(spec)), spec, conf=0.25)


@pytest.mark.parametrize(("spec", "shape"), [(DECODED, (1, 3, 4)), (DECODED, (3, 8)), (FINAL, (3, 7))])
def test_finished_outputs_of_another_model(spec: DecodeSpec, shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=r"output out: expected shape"):
        decode_outputs((np.zeros(shape, np.float32),), spec, conf=0.25)


@pytest.mark.interop
@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("name", ALL_FIXTURES)
def test_official_boxes(name: str, image: int, shared: Path) -> None:
    """Raw outputs of the official code → the boxes of the official post-processing: same order, none missing."""
    reference = load_reference(shared / "fixtures", name, image)
    limits = reference.thresholds
    assert reference.expected
    for multi_label, (boxes, scores, class_ids) in reference.expected.items():
        found = decode_outputs(reference.raw, reference.decode, conf=limits.conf, multi_label=multi_label)
        best = select(found, reference.decode, limits)
        np.testing.assert_array_equal(best.class_ids, class_ids)
        rounding = 1e-5 if name in QUERY_FIXTURES else 2e-6  # two runs of the official code differ by 5e-6
        np.testing.assert_allclose(best.scores, scores, rtol=0, atol=rounding)
        np.testing.assert_allclose(best.boxes_xyxy, boxes, rtol=0, atol=1e-3)


def test_single_class_by_objectness_alone_has_class_0() -> None:
    spec = SPECS["anchors, objectness alone"]
    levels = tuple(dataclasses.replace(lv, scores=None) for lv in spec.levels)
    found = decode_outputs(make_raw(spec), dataclasses.replace(spec, levels=levels), conf=0.25)
    assert set(found.class_ids.tolist()) == {0}
