"""Real ONNX files and real checkpoints, through the import."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from edgedet_export.foreign import read_foreign
from edgedet_export.foreign.fold_affine import fold_affine
from edgedet_export.foreign.fold_constants import fold_constants
from edgedet_export.onnx_graph import OnnxGraph

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def test_yolox_nano_is_cut_at_its_heads(shared: Path) -> None:
    bus = cv2.imread(str(shared / "data/bus.jpg"))
    foreign = read_foreign(
        shared / "weights/yolox-nano-onnx/yolox_nano.onnx", family="yolox", pictures_bgr=[np.asarray(bus, np.uint8)]
    )
    assert foreign.difference.pictures == 3
    assert foreign.difference.candidates == 3 * 3549
    assert foreign.difference.boxes_px < 1e-4
    assert foreign.difference.scores < 1e-5
    spec = foreign.spec
    assert (spec.input.size_hw, spec.classes[79]) == ((416, 416), "toothbrush")
    assert spec.decode.output_names == tuple(f"{k}_{i}" for i in range(3) for k in ("boxes", "objectness", "scores"))
    parameters = sum(int(np.prod(t.dims)) for t in foreign.model.graph.initializer if t.data_type == 1)
    assert 904_463 <= parameters <= 904_481  # nothing lost, nothing doubled


def test_batch_norm_of_a_real_file_is_folded(shared: Path) -> None:
    graph = OnnxGraph.load(shared / "weights/ultralight-face/version-RFB-320.onnx")
    x = np.random.default_rng(0).standard_normal((1, 3, 240, 320), np.float32)
    name = next(iter(graph.inputs))

    def run() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        session = ort.InferenceSession(graph.to_model().SerializeToString(), providers=["CPUExecutionProvider"])
        outputs: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = session.run(None, {name: x})
        return outputs

    before, count = run(), len(graph.nodes_of("BatchNormalization"))
    assert count > 30
    fold_constants(graph)
    assert fold_affine(graph)["BatchNormalization"] == count
    for a, b in zip(before, run(), strict=True):
        np.testing.assert_allclose(b, a, atol=2e-5)
