"""What a frame allocates: buffers are kept, and nothing piles up."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgedet_runtime import Detector
from edgedet_runtime.choices import EngineName
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import InputSpec, ResizeSpec
from tests.runtime.tiny_models import TINY_SPEC, random_image, tiny_onnx

KIB = 1024


def allocated(run: Callable[[], object], times: int) -> tuple[int, int]:
    """Return the bytes that each of four rounds of calls left behind at least, and the most held at a time.

    Pools of Python and numpy fill up in some round; what is left by each frame is left in every round.
    """
    for _ in range(3):
        run()
    left = []
    tracemalloc.start()
    try:
        run()
        gc.collect()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(4):
            start, _ = tracemalloc.get_traced_memory()
            for _ in range(times // 4):
                run()
            gc.collect()  # numpy leaves some cycles for it
            left.append(tracemalloc.get_traced_memory()[0] - start)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return min(left), peak - before


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_thousand_frames_leave_nothing_behind(tmp_path: Path, engine: EngineName) -> None:
    spec = TINY_SPEC.replace(resize=dataclasses.replace(TINY_SPEC.resize, interpolation="area-down"))
    frame = random_image(360, 640)
    with Detector(tiny_onnx(tmp_path / "tiny.onnx", spec, seed=1), engine=engine, conf=0.1) as detect:
        assert len(detect(frame)) > 3
        left, peak = allocated(lambda: detect(frame), 1000)
    assert left < 250 * 16, "no object, of 16 bytes at least, of each of 250 frames stays"
    assert peak < 256 * KIB, "a frame of 675 KiB and its first half of 169 KiB are not allocated anew"


@pytest.mark.parametrize("interpolation", ["linear", "area-down"])
@pytest.mark.parametrize(("layout", "dtype", "color"), [("NHWC", "uint8", "BGR"), ("NCHW", "float32", "BGR")])
@pytest.mark.parametrize("image_hw", [(480, 640), (720, 1280), (700, 1000)])
def test_preparing_a_frame_allocates_nothing_of_its_size(
    interpolation: str, layout: str, dtype: str, color: str, image_hw: tuple[int, int]
) -> None:
    resize = ResizeSpec(interpolation=interpolation)  # type: ignore[arg-type]
    spec = InputSpec("images", 160, 160, layout, dtype, color)  # type: ignore[arg-type]
    prepare = Preprocessor(spec, resize)
    frame = np.zeros((*image_hw, 3), np.uint8)
    left, peak = allocated(lambda: prepare(frame), 20)
    assert left < KIB
    assert peak < 8 * KIB
