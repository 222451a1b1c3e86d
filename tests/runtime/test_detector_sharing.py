"""One Detector among threads and processes: a second thread is refused, another process loads it anew."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime import BusyError, Detector
from tests.runtime.tiny_models import random_image, tiny_onnx


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", seed=1)


class Held:
    """An engine that stops inside a call until it is let go."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.inside, self.go_on = engine, threading.Event(), threading.Event()

    def infer(self, tensor: npt.NDArray[Any]) -> Any:
        self.inside.set()
        assert self.go_on.wait(30)
        return self.engine.infer(tensor)

    def close(self) -> None:
        self.engine.close()


def test_a_second_thread_is_refused_and_the_first_is_right(model: Path) -> None:
    image, other = random_image(90, 150, seed=1), random_image(90, 150, seed=2)
    expected = Detector(model, conf=0.1)(image)
    detect = Detector(model, conf=0.1)
    held = detect.engine = Held(detect.engine)  # type: ignore[assignment]
    found: list[Any] = []
    first = threading.Thread(target=lambda: found.append(detect(image)))
    first.start()
    assert held.inside.wait(30)
    for entry in (
        lambda: detect(other),
        lambda: detect.preprocess(other),
        lambda: detect.infer(np.zeros(1)),
        detect.close,
    ):
        with pytest.raises(BusyError, match="one Detector per thread, or hold a lock"):
            entry()
    held.go_on.set()
    first.join(30)
    assert found == [expected]
    assert detect(image) == expected, "free again"


def test_an_error_inside_leaves_the_detector_free(model: Path) -> None:
    detect = Detector(model)
    with pytest.raises(Exception, match="image"):
        detect(np.zeros((0, 4, 3), np.uint8))
    passed: list[int] = []
    thread = threading.Thread(target=lambda: passed.append(len(detect(random_image()))))
    thread.start()
    thread.join(30)
    assert len(passed) == 1


SETTINGS: dict[str, Any] = {
    "engine": "opencv",
    "threads": 2,
    "conf": 0.07,
    "iou": 0.3,
    "max_det": 9,
    "classes": ["dog", 2],
    "multi_label": True,
}


def test_a_pickle_is_the_path_and_the_settings(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    detect = Detector(model.name, **SETTINGS)
    data = pickle.dumps(detect)
    assert len(data) < 2000
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert (again.plan, again.thresholds, again.spec) == (detect.plan, detect.thresholds, detect.spec)
    image = random_image(90, 150)
    assert len(detect(image)) > 3
    assert again(image) == detect(image)
    assert again.engine is not detect.engine


def test_a_pickle_of_defaults_keeps_what_was_chosen(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(Detector(model))
    monkeypatch.setenv("EDGEDET_ENGINE", "opencv")
    assert pickle.loads(data).engine_name == "onnxruntime"
    assert Detector(model).engine_name == "opencv"


@pytest.mark.slow
def test_a_pool_of_spawned_processes_detects(model: Path) -> None:
    detect = Detector(model, conf=0.1, threads=1)
    images = [random_image(40, 60, seed=seed) for seed in range(4)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(detect, images)) == [detect(image) for image in images]


@pytest.mark.parametrize("classes", [None, ["dog"], ["owl", "cat"], []], ids=str)
def test_classes_go_along_to_another_process(model: Path, classes: list[str] | None) -> None:
    image = random_image(90, 150, seed=1)
    detect = Detector(model, conf=0.1, classes=classes, threads=1)
    again = pickle.loads(pickle.dumps(detect))
    assert again(image) == detect(image)
    assert {again.spec.classes[i] for i in again(image).class_ids} <= set(classes or again.spec.classes)
    assert len(again(image)) > 0 or classes == []
