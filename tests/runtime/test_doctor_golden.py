"""Golden vectors: how near is near enough, and each diagnosis, on a detector that sees where things are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime import Detections, Detector
from edgedet_runtime.bundle.golden import GOLDEN, Golden, read_golden
from edgedet_runtime.doctor.golden_check import check_golden
from edgedet_runtime.errors import ModelFileError
from tests.runtime.tiny_models import CLASSES, random_image, tiny_onnx

FILE = "model.onnx"
CONF = 0.2
Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle")
    tiny_onnx(path / FILE)
    tiny_onnx(path / "other.onnx", seed=1)
    return path


def golden(folder: Path, image: Image, file: str = FILE) -> Golden:
    with Detector(folder / file, threads=1, conf=CONF) as detector:
        return Golden(image, {FILE: (CONF, detector(image))})


def moved(found: Detections, *, box_px: float = 0.0, score: float = 0.0) -> Detections:
    boxes = found.boxes_xyxy.copy()
    boxes[0, 2] += np.float32(box_px)
    return replace(found, boxes_xyxy=boxes, scores=found.scores - np.float32(score))


def status(folder: Path, vectors: Golden) -> tuple[str, str]:
    finding = check_golden(folder, FILE, "onnxruntime", vectors, threads=1)
    assert finding.check == "golden model.onnx on onnxruntime"
    return finding.status, finding.detail


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"box_px": 0.4}, "ok"),
        ({"box_px": 0.6}, "warning"),
        ({"box_px": 3.9}, "warning"),
        ({"box_px": 4.2}, "failure"),
        ({"score": 0.009}, "ok"),
        ({"score": 0.011}, "warning"),
        ({"score": 0.099}, "warning"),
        ({"score": 0.102}, "failure"),
    ],
    ids=str,
)
def test_how_near_is_near_enough(folder: Path, change: dict[str, float], expected: str) -> None:
    vectors = golden(folder, random_image(seed=2))
    _, found = vectors.expected[FILE]
    assert len(found) > 3
    assert np.ptp(found.boxes_xyxy[0, ::2]) > 20, "the box must stay the same object when it is moved"
    seen, detail = status(folder, Golden(vectors.image_bgr, {FILE: (CONF, moved(found, **change))}))
    assert seen == expected
    assert ("the precision of this engine or CPU" in detail) is (expected == "warning")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image[..., ::-1], "with red and blue swapped it fits: color order"),
        (lambda image: image[::-1], "upside down it fits: a flipped picture"),
        (lambda image: image[:, ::-1], "mirrored it fits: a flipped picture"),
        (lambda image: image[::-1, ::-1], "nothing of what was expected: another network"),
    ],
    ids=["colors", "upside down", "mirrored", "turned by half"],
)
def test_what_happened_to_the_picture(folder: Path, change: object, words: str) -> None:
    vectors = golden(folder, random_image(seed=2))
    assert callable(change)
    _, found = vectors.expected[FILE]
    seen, detail = status(folder, Golden(np.ascontiguousarray(change(vectors.image_bgr)), {FILE: (CONF, found)}))
    assert seen == "failure"
    assert words in detail


def test_another_file_and_another_network(folder: Path) -> None:
    image = random_image(seed=2)
    own, other = golden(folder, image).expected[FILE], golden(folder, image, "other.onnx").expected[FILE]
    swapped = Golden(image, {FILE: other, "other.onnx": own})
    assert status(folder, swapped) == ("failure", status(folder, swapped)[1])
    assert "it gives what other.onnx gives: wrong file" in status(folder, swapped)[1]
    elsewhere = replace(own[1], boxes_xyxy=own[1].boxes_xyxy + 1000)
    seen, detail = status(folder, Golden(image, {FILE: (CONF, elsewhere)}))
    assert (seen, "nothing of what was expected" in detail) == ("failure", True)
    half = len(own[1]) // 2
    few = Detections(own[1].boxes_xyxy[:half], own[1].scores[:half], own[1].class_ids[:half], own[1].names)
    seen, detail = status(folder, Golden(image, {FILE: (CONF, few)}))
    assert seen == "failure"
    assert f"{len(own[1]) - half} extra" in detail
    assert "neither color order" in detail


def test_nothing_expected_and_something_found(folder: Path) -> None:
    image = random_image(seed=2)
    none = Detections(
        np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), ("cat", "dog", "owl")
    )
    seen, detail = status(folder, Golden(image, {FILE: (CONF, none)}))
    assert (seen, "neither color order" in detail) == ("failure", True)
    assert status(folder, Golden(image, {FILE: (1.0, none)})) == (
        "warning",
        "no objects, as expected, which proves little",
    )


GOOD: dict[str, Any] = {
    "image_bgr": np.zeros((4, 6, 3), np.uint8),
    "model.onnx|conf": np.float64(0.25),
    "model.onnx|boxes_xyxy": np.ones((2, 4)),
    "model.onnx|scores": np.ones(2),
    "model.onnx|class_ids": np.ones(2),
}


def test_golden_vectors_are_read_in_their_types(tmp_path: Path) -> None:
    np.savez(tmp_path / GOLDEN, **GOOD)
    found = read_golden(tmp_path, CLASSES)
    assert found.image_bgr.shape == (4, 6, 3)
    (conf, detections) = found.expected["model.onnx"]
    assert (list(found.expected), conf, detections.names) == (["model.onnx"], 0.25, CLASSES)
    types = [str(a.dtype) for a in (detections.boxes_xyxy, detections.scores, detections.class_ids)]
    assert types == ["float32", "float32", "int64"]


@pytest.mark.parametrize(
    "change",
    [
        {"image_bgr": np.zeros((4, 6, 3), np.int32)},
        {"image_bgr": np.zeros((4, 6, 3, 1), np.uint8)},
        {"image_bgr": np.zeros((4, 6, 4), np.uint8)},
        {"image_bgr": np.zeros((4, 6), np.uint8)},
        {"image_bgr": None},
        {"model.onnx|boxes_xyxy": np.ones((2, 5))},
        {"model.onnx|boxes_xyxy": None},
        {"model.onnx|scores": np.ones(3)},
        {"model.onnx|scores": None},
        {"model.onnx|class_ids": np.ones((2, 2))},
        {"model.onnx|class_ids": None},
        {"model.onnx|conf": np.ones(2)},
    ],
    ids=lambda change: " ".join(f"{k} {None if v is None else v.shape}" for k, v in change.items()),
)
def test_golden_vectors_of_another_form_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / GOLDEN, **{k: v for k, v in {**GOOD, **change}.items() if v is not None})
    with pytest.raises(ModelFileError, match="expected golden vectors as export writes them"):
        read_golden(tmp_path, CLASSES)
