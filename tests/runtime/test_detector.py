"""Detector: the stages fit together, and its arguments are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedet_runtime import Detector
from edgedet_runtime.choices import EngineName
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.detector import StageTimes
from edgedet_runtime.engines import ENGINES
from edgedet_runtime.errors import EngineError, InputError
from edgedet_runtime.nms import nms
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import Thresholds
from tests.runtime.test_engines import by_hand
from tests.runtime.tiny_models import CLASSES, TINY_SPEC, random_image, tiny_onnx


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", seed=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_equals_the_stages_by_hand(model: Path, engine: EngineName) -> None:
    image = random_image(90, 150)
    with Detector(model, engine=engine, threads=1, conf=0.1, max_det=999) as detect:
        for _ in range(2):
            found = detect(image)
        assert (detect.engine_name, detect.precision, detect.threads) == (engine, "fp32", 1)
    tensor, fit = Preprocessor(TINY_SPEC.input, TINY_SPEC.resize)(image)
    raw = tuple(a.astype(np.float32) for a in by_hand(model, tensor, TINY_SPEC))
    candidates = decode_outputs(raw, TINY_SPEC.decode, conf=0.1)
    best = candidates.take(nms(candidates.boxes_xyxy, candidates.scores, candidates.class_ids, iou=0.45))
    assert len(found) == len(best) > 3
    np.testing.assert_allclose(found.boxes_xyxy, fit.to_image(best.boxes_xyxy), atol=1e-3)
    np.testing.assert_allclose(found.scores, best.scores, atol=1e-5)
    np.testing.assert_array_equal(found.class_ids, best.class_ids)
    assert found.names == CLASSES
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= (150, 90, 150, 90)).all()


def test_without_suppression_the_best_candidates_are_the_detections(tmp_path: Path) -> None:
    """Two boxes of a class on one spot stay two, several classes of a place too, and `max_det` cuts the worst."""
    spec = TINY_SPEC.replace(
        decode=dataclasses.replace(TINY_SPEC.decode, suppression="none"),
        thresholds=Thresholds(conf=0.1, iou=0.0, max_det=9999, multi_label=True),
    )
    model = tiny_onnx(tmp_path / "free.onnx", spec, seed=1)
    image = random_image(64, 96)
    with Detector(model, threads=1) as detect, Detector(model, threads=1, max_det=7) as few:
        found, best = detect(image), few(image)
        assert len(few(image)) == 7
    tensor, _ = Preprocessor(spec.input, spec.resize)(image)
    raw = tuple(a.astype(np.float32) for a in by_hand(model, tensor, spec))
    candidates = decode_outputs(raw, spec.decode, conf=0.1, multi_label=True)
    assert len(found) == len(candidates) > 96, "more than one class of a cell"
    np.testing.assert_allclose(found.scores, np.sort(candidates.scores)[::-1], atol=1e-5)
    np.testing.assert_array_equal(best.boxes_xyxy, found.boxes_xyxy[:7])


def test_results_outlive_the_next_picture(model: Path) -> None:
    detect = Detector(model, conf=0.1)
    first = detect(random_image(seed=1))
    boxes, scores = first.boxes_xyxy.copy(), first.scores.copy()
    second = detect(random_image(seed=2))
    assert not np.array_equal(second.scores, scores)
    np.testing.assert_array_equal(first.boxes_xyxy, boxes)
    np.testing.assert_array_equal(first.scores, scores)


def test_stage_times(model: Path) -> None:
    detect = Detector(model)
    assert detect.last_times is None
    detect(random_image())
    times = detect.last_times
    assert times is not None
    assert min(times.pre_ms, times.infer_ms, times.post_ms) > 0


def test_stage_times_are_milliseconds_of_each_stage(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detect = Detector(model)
    stamps = iter([1.0, 1.5, 3.5, 3.75])
    with monkeypatch.context() as patch:
        patch.setattr("edgedet_runtime.detector.time.perf_counter", lambda: next(stamps))
        detect(random_image())
    assert detect.last_times == StageTimes(500.0, 2000.0, 250.0)


def test_edges_of_the_settings(model: Path) -> None:
    detect = Detector(model, conf=0.0, iou=1.0, max_det=1, threads=1)
    assert detect.thresholds == Thresholds(conf=0.0, iou=1.0, max_det=1)
    assert Detector(model, conf=1.0, iou=0.0).thresholds == Thresholds(conf=1.0, iou=0.0, max_det=50)
    assert len(detect(random_image())) == 1
    assert len(Detector(model, conf=1.0)(random_image())) == 0


def test_classes_of_one_spot_suppress_each_other_only_where_the_model_says_so(tmp_path: Path) -> None:
    """All classes of a cell have one box: across classes the best one stays."""
    apart = TINY_SPEC.replace(thresholds=Thresholds(conf=0.01, iou=0.99, max_det=999, multi_label=True))
    across = apart.replace(thresholds=dataclasses.replace(apart.thresholds, class_agnostic=True))
    image = random_image()
    every = Detector(tiny_onnx(tmp_path / "apart.onnx", apart, seed=1))(image)
    best = Detector(tiny_onnx(tmp_path / "across.onnx", across, seed=1))(image)
    assert Detector(tmp_path / "across.onnx", conf=0.5).thresholds.class_agnostic
    assert len({tuple(box) for box in every.boxes_xyxy.tolist()}) < len(every)
    assert len({tuple(box) for box in best.boxes_xyxy.tolist()}) == len(best)


@pytest.mark.parametrize(("count", "shown"), [(8, "a, b, c, d, e, f, g, h"), (9, "a, b, c, d, e, f, g, h, …")])
def test_known_classes_are_named_up_to_eight(count: int, shown: str, tmp_path: Path) -> None:
    spec = TINY_SPEC.replace(classes=tuple("abcdefghi"[:count]))
    with pytest.raises(InputError) as raised:
        Detector(tiny_onnx(tmp_path / "m.onnx", spec), classes=["z"])
    assert str(raised.value) == f"classes: expected ids 0..{count - 1} or names ({shown}), got 'z'"


def test_a_name_that_two_classes_have_means_both(tmp_path: Path) -> None:
    spec = TINY_SPEC.replace(classes=("cat", "dog", "cat"))
    detect = Detector(tiny_onnx(tmp_path / "m.onnx", spec, seed=1), conf=0.01, max_det=999, classes="cat")
    assert set(detect(random_image()).class_ids.tolist()) == {0, 2}


def test_pictures_of_changing_size(model: Path) -> None:
    detect = Detector(model, conf=0.1)
    alone = {size: Detector(model, conf=0.1)(random_image(*size)) for size in ((64, 96), (500, 33), (7, 9))}
    for size in [*alone, *reversed(alone)]:
        again = detect(random_image(*size))
        np.testing.assert_array_equal(again.boxes_xyxy, alone[size].boxes_xyxy)
        np.testing.assert_array_equal(again.scores, alone[size].scores)


def test_settings_of_the_caller_go_before_those_of_the_model(model: Path) -> None:
    image = random_image()
    everything = Detector(model, conf=0.01, iou=1.0, max_det=10_000, multi_label=True)(image)
    assert len(everything) > 150  # 96 cells, three classes
    assert len(Detector(model, conf=0.01, iou=1.0, max_det=5)(image)) == 5
    assert (Detector(model, conf=0.5)(image).scores > 0.5).all()
    assert len(Detector(model, conf=0.01)(image)) == TINY_SPEC.thresholds.max_det
    assert Detector(model).thresholds == TINY_SPEC.thresholds


def test_classes_by_id_and_name(model: Path) -> None:
    image = random_image()
    every = Detector(model, conf=0.05, max_det=999)(image)
    dogs = Detector(model, conf=0.05, max_det=999, classes=["dog"])(image)
    assert 0 < len(dogs) < len(every)
    assert set(dogs.class_ids.tolist()) == {1}
    np.testing.assert_array_equal(dogs.scores, every.scores[every.class_ids == 1])
    by_id = Detector(model, conf=0.05, max_det=999, classes=[1])(image)
    np.testing.assert_array_equal(by_id.boxes_xyxy, dogs.boxes_xyxy)
    assert len(Detector(model, conf=0.05, classes=[])(image)) == 0
    assert {b.name for b in Detector(model, conf=0.05, max_det=999, classes=["cat", 2])(image)} == {"cat", "owl"}


BAD: dict[str, dict[str, Any]] = {
    "conf": {"conf": 1.5},
    "iou": {"iou": -0.1},
    "max_det": {"max_det": 0},
    "threads": {"threads": 0},
    "classes: expected ids 0..2 or names \\(cat, dog, owl\\), got 'fox'": {"classes": ["fox"]},
    "classes: expected ids 0..2": {"classes": [3]},
    "classes: expected ids 0..2 or names \\(cat, dog, owl\\), got -1": {"classes": [-1]},
    "conf: expected a number from 0 to 1, got -0.1": {"conf": -0.1},
    "iou: expected a number from 0 to 1, got 1.1": {"iou": 1.1},
}


@pytest.mark.parametrize("message", BAD)
def test_arguments_out_of_range(model: Path, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        Detector(model, **BAD[message])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("output", ["boxes", "objectness", "scores"])
def test_nan_is_an_error_that_names_the_output(tmp_path: Path, engine: EngineName, output: str) -> None:
    detect = Detector(tiny_onnx(tmp_path / "nan.onnx", nan_output=output), engine=engine)
    with pytest.raises(EngineError, match=f"output {output}: contains NaN"):
        detect(random_image())


def test_a_closed_detector_does_not_crash_the_process(model: Path) -> None:
    for engine in ENGINES:
        detect = Detector(model, engine=engine)
        detect.close()
        detect.close()
        with pytest.raises(EngineError, match="closed"):
            detect(random_image())
