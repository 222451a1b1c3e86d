"""Ultra-Light face detector: sizes, widths read off shapes, strictness, the author's own outputs, faces on a photo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgedet_export.config import ExportConfig
from edgedet_export.pipeline import export
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.decode import decode_boxes
from edgedet_models.families import ultraface
from edgedet_models.ssd.face import RFB, SLIM, FaceWidths, UltraFace
from edgedet_runtime import Detector
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    assert_round_trip,
    randomise,
    state_dict_checkpoint,
)

SMALL = FaceWidths((4, 6, 6, 6, 8, 8, 8, 10, 12, 12, 12, 14, 16), 4, (6, 8))
SMALL_SLIM = FaceWidths(SMALL.base, 0, (6, 8))


@pytest.mark.parametrize(("variant", "parameters"), [("ultraface-rfb", 276_292), ("ultraface-slim", 260_188)])
def test_parameter_count(variant: str, parameters: int) -> None:
    """The author's table has 1.11 and 1.04 MB in float32."""
    assert ultraface.VARIANTS[variant](("face",)).num_parameters == parameters


@pytest.mark.parametrize(
    ("size", "classes", "variant"),
    [(SMALL, 1, "custom"), (SMALL_SLIM, 3, "custom"), (RFB, 1, "ultraface-rfb"), (SLIM, 1, "ultraface-slim")],
)
def test_widths_are_read_off_the_shapes(size: FaceWidths, classes: int, variant: str) -> None:
    detector = UltraFace("custom", size, COCO[:classes])
    randomise(detector)
    assert_round_trip(ultraface, detector, variant)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("extras.0.2.0.bias", "cut", "extras.0.2.0.bias: expected shape 6 "),
        Damage("base_net.7.shortcut.bn.weight", "drop", "1 tensors missing (first base_net.7.shortcut.bn.weight)"),
        Damage("regression_headers.3.bias", "add", "1 tensors not expected"),
        Damage("classification_headers.0.2.bias", "cut", "expected 3 times background and classes, got 5"),
        Damage("base_net.4.3.weight", "drop", "expected an Ultra-Light face detector's state dict"),
    ],
    ids=lambda d: f"{d.action} {d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = UltraFace("custom", SMALL, ("face",))
    assert_refused(ultraface, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


@pytest.mark.interop
def test_boxes_and_scores_are_those_of_the_authors_own_onnx_file(shared: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = shared / "weights/ultralight-face"
    detector = ultraface.load(read_checkpoint(folder / "version-RFB-320.pth"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / "version-RFB-320.onnx", options)
    picture = np.random.default_rng(0).normal(0, 0.5, (1, 3, 240, 320)).astype(np.float32)
    scores, boxes = session.run(None, {"input": picture})
    with torch.no_grad():
        raw = detector(torch.from_numpy(picture))
        ours = decode_boxes(detector.spec, raw)[0]
    rows, logits, start = [], [], 0
    for level, t in zip(detector.spec.decode.levels, raw[1::2], strict=True):
        anchors, (h, w) = len(level.anchors_px), t.shape[2:]
        part = ours[start : start + anchors * h * w].reshape(anchors, h * w, 4)
        start += anchors * h * w
        rows.append(part.transpose(0, 1).reshape(-1, 4))
        logits.append(t.reshape(anchors, 2, h * w).permute(2, 0, 1).reshape(-1, 2))
    np.testing.assert_allclose(torch.cat(rows).numpy(), boxes[0] * [320, 240, 320, 240], atol=1e-3)
    np.testing.assert_allclose(torch.cat(logits).softmax(dim=1).numpy(), scores[0], atol=1e-6)


@pytest.mark.interop
@pytest.mark.slow
def test_faces_are_found_on_a_photo(shared: Path, tmp_path: Path) -> None:
    export(shared / "weights/ultralight-face/version-RFB-320.pth", ExportConfig(out=tmp_path / "face"))
    photo = cv2.imread(str(shared / "data/zidane.jpg"))
    for engine in ("onnxruntime", "openvino"):
        with Detector(tmp_path / "face", engine=engine, threads=1) as detector:
            found = detector(np.asarray(photo, np.uint8))
        assert {box.name for box in found} == {"face"}
        middles = sorted((x0 + x1) / 2 for x0, _, x1, _ in found.boxes_xyxy.tolist())
        assert len(middles) == 2, "two people look at the camera"
        assert 550 < middles[0] < 655
        assert 920 < middles[1] < 1055
