"""Detector.stream: the same results as calls, in order, with every engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgedet_runtime import BusyError, Detector, EngineError, Frame, InputError
from edgedet_runtime.choices import EngineName
from edgedet_runtime.engines import ENGINES
from tests.runtime.tiny_models import random_image, tiny_onnx

Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx", seed=1)


def images(count: int) -> list[Image]:
    return [random_image(60 + 13 * (n % 3), 110, seed=n) for n in range(count)]


@pytest.mark.parametrize("engine", ENGINES)
def test_equals_calls(model: Path, engine: EngineName) -> None:
    pictures = images(9)
    with Detector(model, engine=engine, conf=0.1) as detect:
        expected = [detect(picture) for picture in pictures]
        assert len({len(found) for found in expected}) > 1
        for _ in range(2):
            streamed = list(detect.stream(pictures))
            assert [found for _, found in streamed] == expected
            assert all(frame is picture for (frame, _), picture in zip(streamed, pictures, strict=True))
        assert [found for _, found in detect.stream(iter(pictures))] == expected
        assert detect(pictures[0]) == expected[0], "calls again"


def test_frames_of_a_source(model: Path) -> None:
    frames = [Frame("a.mp4", n, picture, stream=True) for n, picture in enumerate(images(3))]
    with Detector(model, conf=0.1) as detect:
        for frame, found in detect.stream(frames, image=lambda frame: frame.image_bgr):
            times = detect.last_times
            assert times is not None
            assert min(times.pre_ms, times.infer_ms, times.post_ms) > 0
            assert frame is frames[frame.index]
            assert len(found) > 0


def test_an_error_comes_in_its_place_and_leaves_the_detector_free(model: Path) -> None:
    pictures: list[Any] = [*images(2), None, *images(1)]
    with Detector(model, conf=0.1) as detect:
        results = detect.stream(pictures)
        assert [next(results)[1], next(results)[1]] == [detect_alone(model, picture) for picture in pictures[:2]]
        with pytest.raises(InputError, match="expected a numpy array, got NoneType"):
            next(results)
        assert detect(pictures[0]) == detect_alone(model, pictures[0])


def detect_alone(model: Path, picture: Image) -> Any:
    with Detector(model, conf=0.1) as detect:
        return detect(picture)


def test_calls_are_refused_while_a_stream_is_open(model: Path) -> None:
    (picture,) = images(1)
    with Detector(model, conf=0.1) as detect:
        results = detect.stream([picture] * 9)
        assert len(detect(picture)) > 0, "not begun yet"
        next(results)
        for entry in (
            lambda: detect(picture),
            lambda: detect.preprocess(picture),
            lambda: detect.infer(np.zeros(1)),
            lambda: next(detect.stream([picture])),
            detect.close,
        ):
            with pytest.raises(BusyError, match="while a stream is open"):
                entry()
        results.close()  # type: ignore[attr-defined]
        assert len(detect(picture)) > 0


def test_leaving_the_loop_closes_the_stream(model: Path) -> None:
    def endless() -> Iterator[Image]:
        while True:
            yield from images(1)

    with Detector(model, conf=0.1) as detect:
        for _ in detect.stream(endless()):
            break
        assert len(detect(images(1)[0])) > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_two_lanes_hold_two_results(model: Path, engine: EngineName) -> None:
    """What one engine gave stays as it is while its twin runs."""
    with Detector(model, engine=engine) as detect:
        tensors = [detect.preprocess(picture)[0].copy() for picture in images(2)]
        twin = detect.engine.twin()
        first = detect.engine.infer(tensors[0])
        kept = [output.copy() for output in first]
        second = twin.infer(tensors[1])
        assert any((a != b).any() for a, b in zip(kept, second, strict=True))
        for output, copied in zip(first, kept, strict=True):
            np.testing.assert_array_equal(output, copied)
        for output, again in zip(second, detect.engine.infer(tensors[1]), strict=True):
            np.testing.assert_array_equal(output, again)
        twin.close()
        if twin is not detect.engine:
            detect.engine.infer(tensors[0])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_closed_engine_has_no_twin(model: Path, engine: EngineName) -> None:
    detect = Detector(model, engine=engine)
    list(detect.stream(images(2)))
    assert detect._second is not None
    second = detect._second[1]
    detect.close()
    for closed in (detect.engine, second):
        with pytest.raises(EngineError, match="the engine is closed"):
            closed.twin()
        with pytest.raises(EngineError, match="the engine is closed"):
            closed.infer(np.zeros((1, 64, 96, 3), np.uint8))


def test_buffers_are_made_once(model: Path) -> None:
    with Detector(model) as detect:
        list(detect.stream(images(3)))
        second = detect._second
        list(detect.stream(images(3)))
        assert detect._second is second
