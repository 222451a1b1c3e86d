"""BlazeFace: sizes, widths, strictness, the official outputs, and faces with their keypoints on a photo."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edgedet_export.config import ExportConfig
from edgedet_export.pipeline import export
from edgedet_models.blazeface.network import BACK, FRONT, BlazeFace, BlazeWidths
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import blazeface
from edgedet_models.layers.split_rows import SplitRows
from edgedet_runtime import Detector
from edgedet_runtime.errors import ArgumentError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.postprocess import postprocess
from edgedet_runtime.preprocess import Preprocessor
from tests.models.family_template import (
    COCO,
    Damage,
    assert_refused,
    assert_round_trip,
    fixture_folder,
    picture_bgr,
    state_dict_checkpoint,
)

SMALL = BlazeWidths(4, (4, 6, 6, 8, 8, 10), (12, 12))
SMALL_BACK = BlazeWidths(4, (4,) * 15 + (6,) * 9, (8,))


@pytest.mark.parametrize(("variant", "parameters"), [("blazeface-front", 101_390), ("blazeface-back", 136_240)])
def test_parameter_count(variant: str, parameters: int) -> None:
    assert blazeface.VARIANTS[variant](("face",)).num_parameters == parameters


@pytest.mark.parametrize(
    ("size", "classes", "variant"),
    [
        (SMALL, 1, "custom"),
        (SMALL_BACK, 2, "custom"),
        (FRONT, 1, "blazeface-front"),
        (BACK, 1, "blazeface-back"),
    ],
)
def test_widths_are_read_off_the_shapes(size: BlazeWidths, classes: int, variant: str) -> None:
    assert_round_trip(blazeface, BlazeFace("custom", size, COCO[:classes]), variant)


@pytest.mark.parametrize(
    "damage",
    [
        Damage("regressor_8.bias", "cut", "regressor_8.bias: expected shape 32 "),
        Damage("regressor_16.weight", "cut", "regressor_16.weight: expected shape 96x12x1x1 "),
        Damage("backbone2.1.convs.0.weight", "drop", "1 tensors missing (first backbone2.1.convs.0.weight)"),
        Damage("classifier_16.bias", "add", "1 tensors not expected"),
        Damage("classifier_8.bias", "cut", "expected a BlazeFace with 2 scores per class"),
        Damage("backbone1.0.weight", "drop", "expected a BlazeFace state dict"),
    ],
    ids=lambda d: f"{d.action} {d.key}",
)
def test_damaged_state_dict_is_refused_in_one_line(damage: Damage) -> None:
    detector = BlazeFace("custom", SMALL, ("face",))
    assert_refused(blazeface, state_dict_checkpoint(damage.apply(detector.state_dict())), damage.words)


def test_one_convolution_in_parts_has_the_official_state_dict() -> None:
    official = torch.nn.Conv2d(3, 6, 3, padding=1)
    parts = SplitRows(3, {"a": (4, 0), "b": (1, 2, 3, 5)}, 3, padding=1)
    parts.load_state_dict(official.state_dict())
    x = torch.rand(2, 3, 5, 4)
    with torch.no_grad():
        a, b = parts(x)
        expected = official(x)
    torch.testing.assert_close(a, expected[:, [4, 0]])
    torch.testing.assert_close(b, expected[:, [1, 2, 3, 5]])
    saved = parts.state_dict()
    assert list(saved) == ["weight", "bias"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in official.state_dict().items())


@pytest.mark.interop
@pytest.mark.parametrize("camera", ["front", "back"])
def test_official_outputs(camera: str) -> None:
    """The official boxes are 17 numbers: ymin, xmin, ymax, xmax, six keypoints, the score; fractions of the input."""
    folder = fixture_folder(f"blazeface-{camera}-real")
    detector = blazeface.load(read_checkpoint(folder / "checkpoint.pth"))
    spec = detector.spec
    reference, official = np.load(folder / "reference.npz"), np.load(folder / "nms.npz")
    pictures = np.load(folder / "preproc.npz")
    preprocess = Preprocessor(spec.input, spec.resize)
    side = spec.input.width
    for i in range(2):
        tensor, _ = preprocess(picture_bgr(pictures, i))
        np.testing.assert_allclose(tensor[0], reference["input"][i], atol=1e-6)
        with torch.no_grad():
            raw = [t.numpy() for t in detector(torch.from_numpy(reference["input"]))]
        found = postprocess(
            [t[i : i + 1] for t in raw], Letterbox.fit((side, side), (side, side), spec.resize), spec, spec.thresholds
        )
        rows = official[f"raw17_{i}"]
        assert len(found) == len(rows) > 0
        assert found.keypoints_xy is not None
        np.testing.assert_allclose(found.scores, rows[:, 16], atol=1e-4)
        boxes = np.clip(rows[:, [1, 0, 3, 2]], 0, 1) * side
        np.testing.assert_allclose(found.boxes_xyxy, boxes, atol=0.02)
        np.testing.assert_allclose(found.keypoints_xy.reshape(-1, 12), rows[:, 4:16] * side, atol=0.02)


@pytest.mark.interop
@pytest.mark.slow
def test_faces_and_eyes_are_found_on_a_photo(shared: Path, tmp_path: Path) -> None:
    checkpoint = shared / "fixtures/blazeface-back-real/checkpoint.pth"
    with pytest.raises(ArgumentError, match="expected raw, as blazeface-back has keypoints, merges"):
        export(checkpoint, ExportConfig(out=tmp_path / "other", outputs="nms"))
    export(checkpoint, ExportConfig(out=tmp_path / "face"))
    photo = np.asarray(cv2.imread(str(shared / "data/zidane.jpg")), np.uint8)
    for engine in ("onnxruntime", "openvino"):
        with Detector(tmp_path / "face", engine=engine, threads=1) as detector:
            found = detector(photo)
        assert [box.name for box in found] == ["face", "face"]
        assert found.keypoints_xy is not None
        right, left = found.keypoints_xy[:, 0], found.keypoints_xy[:, 1]
        np.testing.assert_allclose([right[0], left[0]], [[961, 175], [1024, 171]], atol=15)
        assert (found.keypoints_xy[:, :3] > found.boxes_xyxy[:, None, :2] - 5).all()
        assert (found.keypoints_xy[:, :3] < found.boxes_xyxy[:, None, 2:] + 5).all()
