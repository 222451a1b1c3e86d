"""Detections: a sequence that can be compared, chosen from, and taken through JSON and to supervision."""

from __future__ import annotations

import copy
import doctest
import json
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedet_runtime import Box, Detections, InputError, MissingDependencyError, detections
from edgedet_runtime.draw import draw

NAMES = ("cat", "dog", "owl")


def some(n: int = 4) -> Detections:
    rng = np.random.default_rng(n)
    boxes = rng.uniform(0, 100, (n, 4)).astype(np.float32)
    scores = np.sort(rng.uniform(0, 1, n).astype(np.float32))[::-1].copy()
    return Detections(boxes, scores, np.arange(n, dtype=np.int64) % 3, NAMES)


def test_examples_in_the_docstrings() -> None:
    result = doctest.testmod(detections)
    assert result.failed == 0
    assert result.attempted >= 15


def test_equal_is_one_bool() -> None:
    a = some()
    assert (a == copy.deepcopy(a)) is True
    assert a == pickle.loads(pickle.dumps(a))
    assert a != "detections"
    with pytest.raises(TypeError):
        hash(a)
    nan = Detections(np.full((1, 4), np.nan, np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), NAMES)
    assert nan != copy.deepcopy(nan)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: Detections(d.boxes_xyxy + np.float32(1e-3), d.scores, d.class_ids, d.names),
        lambda d: Detections(d.boxes_xyxy, d.scores * np.float32(0.999), d.class_ids, d.names),
        lambda d: Detections(d.boxes_xyxy, d.scores, (d.class_ids + 1) % 3, d.names),
        lambda d: Detections(d.boxes_xyxy, d.scores, d.class_ids, ("cat", "dog", "bat")),
        lambda d: d[::-1],
        lambda d: d[:-1],
    ],
    ids=["boxes", "scores", "classes", "names", "order", "fewer"],
)
def test_each_part_counts_for_equality(change: Any) -> None:
    assert change(some()) != some()


def test_an_integer_gives_a_box() -> None:
    found = some()
    every = list(found)
    assert [found[i] for i in range(4)] == every == [found[i - 4] for i in range(4)]
    assert found[np.int64(2)] == every[2]
    assert isinstance(found[0], Box)
    assert found[1].name == "dog"
    for bad in (4, -5):
        with pytest.raises(IndexError, match="below 4, got"):
            found[bad]
    with pytest.raises(IndexError):
        some(0)[0]


@given(st.integers(0, 6), st.slices(6))
def test_slices_choose_as_lists_do(n: int, index: slice) -> None:
    found = some(n)
    assert list(found[index]) == list(found)[index]


@given(st.lists(st.booleans(), min_size=5, max_size=5))
def test_masks_choose(mask: list[bool]) -> None:
    found = some(5)
    expected = [box for box, kept in zip(found, mask, strict=True) if kept]
    assert list(found[mask]) == list(found[np.array(mask)]) == expected


def test_indices_choose_in_their_order() -> None:
    found = some()
    assert list(found[[3, 0, -1]]) == [found[3], found[0], found[3]]
    assert len(found[[]]) == len(found[np.zeros(0, np.int64)]) == len(found[np.zeros(4, bool)]) == 0
    assert found[[]].boxes_xyxy.shape == (0, 4)
    assert found[[]].names == NAMES


def test_what_is_chosen_is_a_copy() -> None:
    found = some()
    before = copy.deepcopy(found)
    for part in (found[:], found[[0]], found[np.ones(4, bool)]):
        part.boxes_xyxy[:] = -1
        part.scores[:] = -1
    assert found == before


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ([4], "below 4, got 4"),
        ([0, -5], "below 4, got -5"),
        (np.ones(3, bool), "a mask of 4 booleans, got 3"),
        ([0.5], "integers or booleans"),
        (np.zeros((2, 2), np.int64), "shape"),
        (True, "integer"),
        ("cat", "integer"),
        (None, "integer"),
        ((0, 1, 2, 3, 4, 5), "below 4"),
    ],
)
def test_other_indices_are_refused(index: Any, words: str) -> None:
    with pytest.raises(IndexError, match=words):
        some()[index]


@pytest.mark.parametrize("n", [0, 1, 7])
def test_json_round_trip_is_exact(n: int) -> None:
    found = some(n)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    again = Detections.from_dict(data)
    assert again == found
    assert [a.dtype.name for a in (again.boxes_xyxy, again.scores, again.class_ids)] == ["float32", "float32", "int64"]


def test_one_image_of_detect_json_can_be_read() -> None:
    image = {
        "path": "a.jpg",
        "width": 640,
        "height": 480,
        "detections": [{"class_id": 2, "class_name": "owl", "score": 0.75, "box_xyxy": [1.5, 2, 3, 4]}],
        "time_ms": {"pre": 1.0, "infer": 2.0, "post": 3.0},
    }
    assert list(Detections.from_dict(image)) == [Box((1.5, 2.0, 3.0, 4.0), 0.75, 2, "owl")]
    assert Detections.from_dict(image).names == ("class0", "class1", "owl")
    assert Detections.from_dict(image, names=NAMES).names == NAMES


GOOD = {"class_id": 1, "class_name": "dog", "score": 0.5, "box_xyxy": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "detections: expected an object"),
        ({}, "detections is missing"),
        ({"detections": {}}, "expected a list"),
        ({"detections": [GOOD], "names": "cat"}, "names: expected a list"),
        ({"detections": [{**GOOD, "score": "0.5"}]}, r"\[0\].score: expected float"),
        ({"detections": [GOOD, {**GOOD, "score": 1.5}]}, r"detections\[1\].score: expected a number from 0 to 1"),
        ({"detections": [{**GOOD, "score": float("nan")}]}, "score"),
        ({"detections": [{**GOOD, "box_xyxy": [1, 2, 3]}]}, "box_xyxy: expected a list"),
        ({"detections": [{**GOOD, "box_xyxy": [1, 2, 3, float("inf")]}]}, "four finite numbers"),
        ({"detections": [{**GOOD, "box_xyxy": [1, 2, 3, 1e39]}]}, "four finite numbers"),
        ({"detections": [{**GOOD, "box_xyxy": [1, 2, 3, 10**400]}]}, "below 1.8e308"),
        ({"detections": [{**GOOD, "class_id": -1}]}, "class_id"),
        ({"detections": [{**GOOD, "class_id": True}]}, "class_id: expected int"),
        ({"detections": [{**GOOD, "class_id": 10**12}]}, "class ids up to 99999"),
        ({"detections": [{**GOOD, "class_id": 3}], "names": list(NAMES)}, r"class_id: expected 0..2, got 3"),
        ({"detections": [{**GOOD, "class_name": "cat"}], "names": list(NAMES)}, "expected 'dog', the name of class 1"),
        ({"detections": [{"class_id": 1, "score": 0.5, "box_xyxy": [1, 2, 3, 4]}]}, "class_name is missing"),
    ],
)
def test_other_data_is_refused(data: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Detections.from_dict(data)


@pytest.mark.parametrize("n", [0, 3])
def test_supervision_gets_a_copy(n: int) -> None:
    sv = pytest.importorskip("supervision", reason="the package supervision is not installed")
    found = some(n)
    theirs = found.to_supervision()
    assert isinstance(theirs, sv.Detections)
    np.testing.assert_array_equal(theirs.xyxy, found.boxes_xyxy)
    np.testing.assert_array_equal(theirs.confidence, found.scores)
    np.testing.assert_array_equal(theirs.class_id, found.class_ids)
    assert theirs.data["class_name"].tolist() == [box.name for box in found]
    theirs.xyxy[:] = -1
    assert found == some(n)
    assert len(theirs[theirs.confidence > 2]) == 0


def test_without_supervision_the_message_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgedet\[supervision\]'"):
        some().to_supervision()


def test_draw_takes_what_was_chosen() -> None:
    found = some()
    canvas = np.zeros((100, 100, 3), np.uint8)
    np.testing.assert_array_equal(draw(canvas, found[[]]), canvas)
    assert draw(canvas, found[:1]).any()


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({"score": 0.0}, True),
        ({"score": 1.0}, True),
        ({"score": -0.001}, False),
        ({"score": 1.001}, False),
        ({"class_id": 0, "class_name": "cat"}, True),
        ({"class_id": 3, "class_name": "owl"}, False),
        ({"class_id": -1, "class_name": "owl"}, False),
        ({"class_name": "dog"}, False),
    ],
    ids=str,
)
def test_edges_of_what_a_detector_gives(change: dict[str, Any], good: bool) -> None:
    entry = {"class_id": 2, "class_name": "owl", "score": 0.5, "box_xyxy": [1, 2, 3, 4], **change}
    if good:
        assert len(Detections.from_dict({"detections": [entry]}, names=NAMES)) == 1
    else:
        with pytest.raises(InputError, match=r"detections\[0\]\.(score|class_id|class_name): expected"):
            Detections.from_dict({"detections": [entry]}, names=NAMES)


@pytest.mark.parametrize(("class_id", "good"), [(99_999, True), (100_000, False)])
def test_class_ids_without_names_have_an_end(class_id: int, good: bool) -> None:
    entry = {"class_id": class_id, "class_name": "x", "score": 0.5, "box_xyxy": [1, 2, 3, 4]}
    if good:
        assert len(Detections.from_dict({"detections": [entry]}).names) == class_id + 1
    else:
        with pytest.raises(InputError, match="expected class ids up to 99999"):
            Detections.from_dict({"detections": [entry]})


def test_nothing_that_is_named_has_no_names() -> None:
    assert Detections.from_dict({"detections": []}).names == ()


@pytest.mark.parametrize("index", [np.array([], "U1"), np.array([], "M8[D]"), np.zeros((0, 1))], ids=str)
def test_an_empty_index_of_what_cannot_index_is_refused(index: Any) -> None:
    with pytest.raises(IndexError, match="expected an integer, a slice"):
        some(3)[index]


def with_points(n: int = 3) -> Detections:
    plain = some(n)
    points = np.arange(n * 4, dtype=np.float32).reshape(n, 2, 2)
    return Detections(plain.boxes_xyxy, plain.scores, plain.class_ids, plain.names, points)


def test_keypoints_go_with_their_objects() -> None:
    found = with_points()
    assert found != some(3)
    assert found == with_points()
    chosen = found[[2, 0]].keypoints_xy
    assert chosen is not None
    assert chosen[:, 0].tolist() == [[8.0, 9.0], [0.0, 1.0]]
    again = Detections.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert again.keypoints_xy is not None
    assert again.keypoints_xy.dtype == np.float32
    assert "keypoints_xy" not in some().to_dict()["detections"][0]


@pytest.mark.parametrize("shape", [(3, 2), (2, 2, 2), (3, 2, 3)])
def test_keypoints_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    plain = some(3)
    with pytest.raises(ValueError, match=r"keypoints_xy: expected shape \(3, K, 2\) or None"):
        Detections(plain.boxes_xyxy, plain.scores, plain.class_ids, plain.names, np.zeros(shape, np.float32))


def test_objects_with_different_numbers_of_keypoints_are_refused() -> None:
    data = with_points().to_dict()
    del data["detections"][1]["keypoints_xy"]
    with pytest.raises(InputError, match="as many keypoints_xy for each object"):
        Detections.from_dict(data)
