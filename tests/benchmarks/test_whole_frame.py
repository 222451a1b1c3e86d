"""What `bench_whole_frame` makes of its measurements; nothing is timed here."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.benchmarks import bench_whole_frame, whole_frame_worker
from tests.benchmarks.bench_whole_frame import Worker, pace


class _Scripted:
    """A worker whose blocks are written down."""

    def __init__(self, *medians: float) -> None:
        self.orders: list[tuple[int, float]] = []
        self._medians = iter(medians)

    def run(self, frames: int, fps: float) -> Any:
        self.orders.append((frames, fps))
        middle = next(self._medians)
        return {"ms": [middle - 1, middle, middle + 9], "cpu_ms": 2 * middle}


def test_the_faster_bare_way_of_each_round_is_the_measure() -> None:
    sides = {"detector": _Scripted(12, 12, 30), "pinned": _Scripted(10, 8, 99), "free": _Scripted(20, 6, 20)}
    row = pace(cast("dict[str, Worker]", sides), 30.0, 3, 3)
    assert row["ratio"] == {"median": 1.5, "lowest": 1.2, "highest": 2.0}
    assert row["best"] == "pinned"
    assert row["sides"]["detector"] == {"p50": 21, "p99": 39, "cpu_ms": 24}
    assert all(side.orders == [(3, 30.0)] * 3 for side in sides.values())


def test_a_block_counts_all_frames_except_the_first() -> None:
    seen: list[int] = []
    found = whole_frame_worker.block(seen.append, [0, 1, 2], 5, 0)
    assert seen == [0, 0, 1, 2, 0, 1]
    assert len(found["ms"]) == 5
    assert found["cpu_ms"] >= 0


def test_a_stream_is_timed_from_its_first_result() -> None:
    class Streams:
        def stream(self, frames: Any) -> Any:
            yield from frames

    found = whole_frame_worker.streamed(Streams(), [0, 1, 2], 5)
    assert len(found["ms"]) == 5
    assert found["cpu_ms"] >= 0


def test_paced_frames_wait_for_their_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    whole_frame_worker.block(lambda _frame: None, [0], 3, 20.0)
    assert slept == pytest.approx([0.05, 0.1, 0.15])


def test_frames_differ_and_have_the_size_asked_for(tmp_path: Path) -> None:
    import cv2

    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    frames = np.load(bench_whole_frame._frames(photo, "32x24", tmp_path))
    assert frames.shape == (3, 24, 32, 3)
    assert len({frame.tobytes() for frame in frames}) == 3


def test_files_of_a_bundle(tmp_path: Path) -> None:
    (tmp_path / "openvino").mkdir()
    for name in ("model.onnx", "openvino/model.int8.xml"):
        (tmp_path / name).touch()
    assert bench_whole_frame._file(tmp_path, "onnxruntime", "fp32") == tmp_path / "model.onnx"
    assert bench_whole_frame._file(tmp_path, "openvino", "int8") == tmp_path / "openvino" / "model.int8.xml"
    assert bench_whole_frame._file(tmp_path, "onnxruntime", "int8") is None


def test_lines_have_as_many_cells_as_the_head() -> None:
    what = {"model": "m", "engine": "openvino", "precision": "int8", "frame": "640x480"}
    side = {"p50": 1.0, "p99": 2.0, "cpu_ms": 3.0}
    ratio = {"median": 1.5, "lowest": 1.2, "highest": 2.0}
    paced = {**what, "fps": 0, "sides": {"detector": side, "free": side}, "best": "free", "ratio": ratio}
    fresh = {"start_s": 0.3, "resident_mb": 120.0}
    started = {**what, "sides": {"detector": fresh, "free": {"start_s": 0.2, "resident_mb": 100.0}}}
    cells = bench_whole_frame.HEAD.splitlines()[0].count("|")
    assert [bench_whole_frame._line(row).count("|") for row in (paced, started)] == [cells, cells]
    assert "| 1.50 | | 1.20 memory |" in bench_whole_frame._line(started).replace("|  |", "| |")
