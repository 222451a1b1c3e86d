"""Files whose graph selects its detections: the selection is taken off, and the runtime finds the same ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgedet_export.foreign import ForeignModel, read_foreign
from edgedet_runtime.decode import decode_outputs
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.selection import select

Export = Callable[..., Path]
Build = Callable[..., nn.Module]
SIZE_HW = (64, 96)
MAX_DET = 40


class BestOfAll(nn.Module):
    """YOLOv10's and YOLO26's selection: the best cells by their best class, then the best pairs of cell and class."""

    def __init__(self, detector: nn.Module, *, corners: bool) -> None:
        super().__init__()
        self.detector, self.corners = detector, corners

    def forward(self, x: Tensor) -> Tensor:
        dense = self.detector(x)
        if self.corners:
            middle, size, scores = dense[:, :2], dense[:, 2:4], dense[:, 4:]
            dense = torch.cat((middle - size / 2, middle + size / 2, scores), 1)
        boxes, scores = dense.transpose(1, 2).split([4, dense.shape[1] - 4], dim=-1)
        classes = scores.shape[-1]
        index = scores.amax(-1).topk(MAX_DET, dim=-1)[1].unsqueeze(-1)
        boxes = boxes.gather(1, index.repeat(1, 1, 4))
        scores = scores.gather(1, index.repeat(1, 1, classes))
        best, pair = scores.flatten(1).topk(MAX_DET, dim=-1)
        boxes = boxes.gather(1, (pair // classes).unsqueeze(-1).repeat(1, 1, 4))
        return torch.cat((boxes, best.unsqueeze(-1), (pair % classes).unsqueeze(-1).float()), -1)


def detections(foreign: ForeignModel, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return (N, 6): corners, score, class, of the runtime's decoding and selection."""
    session = ort.InferenceSession(foreign.model.SerializeToString(), providers=["CPUExecutionProvider"])
    spec = foreign.spec
    found = decode_outputs(
        session.run(None, {"images": images}), spec.decode, conf=0.0, multi_label=spec.thresholds.multi_label
    )
    kept = select(found, spec.decode, spec.thresholds)
    return np.column_stack((kept.boxes_xyxy, kept.scores, kept.class_ids))[:MAX_DET]


def as_set(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return rows[np.lexsort((rows[:, 0].round(2), rows[:, 5], -rows[:, 4].round(4)))]


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize(("bins", "kind"), [(1, "ltrb"), (9, "dfl")])
def test_one_to_one(export: Export, point_detector: Build, bins: int, kind: str, corners: bool) -> None:
    module = BestOfAll(point_detector("v8", 5, bins, objectness=False), corners=corners)
    foreign = read_foreign(export(module, opset=13))
    assert (foreign.spec.decode.kind, foreign.spec.decode.suppression) == (kind, "none")
    assert "selection: the best k in the graph taken off; the runtime selects" in foreign.notes
    assert {"TopK", "GatherElements"}.isdisjoint(node.op_type for node in foreign.model.graph.node)
    images = np.random.default_rng(0).random((1, 3, *SIZE_HW), np.float32)
    with torch.no_grad():
        theirs = module.eval()(torch.from_numpy(images))[0].numpy()
    if not corners:
        theirs[:, :4] = np.column_stack((theirs[:, :2] - theirs[:, 2:4] / 2, theirs[:, :2] + theirs[:, 2:4] / 2))
    np.testing.assert_allclose(as_set(detections(foreign, images)), as_set(theirs), atol=2e-3)


def with_suppression(path: Path, iou: float) -> onnx.ModelProto:
    """Append ONNX's NMS behind a file's candidates (1, 4 + classes, M), as exporters do: rows of chosen indices."""
    model = onnx.load(path)
    dense = model.graph.output[0].name
    rows, split = onnx.helper.make_node("Transpose", [dense], ["rows"], perm=[0, 2, 1]), "split"
    nodes = [
        rows,
        onnx.helper.make_node("Split", ["rows", split], ["sel_boxes", "sel_scores"], axis=2),
        onnx.helper.make_node("Transpose", ["sel_scores"], ["by_class"], perm=[0, 2, 1]),
        onnx.helper.make_node(
            "NonMaxSuppression", ["sel_boxes", "by_class", "most", "iou", "conf"], ["chosen"], center_point_box=1
        ),
    ]
    constants = {
        split: np.array([4, 5]),
        "most": np.array([MAX_DET]),
        "iou": np.array([iou], np.float32),
        "conf": np.array([0.0], np.float32),
    }
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("chosen", onnx.TensorProto.INT64, None))
    return model


@pytest.mark.parametrize("iou", [0.3, 0.7])
def test_suppression(export: Export, point_detector: Build, iou: float) -> None:
    module = point_detector("v8", 5, 9, objectness=False)
    model = with_suppression(export(module, opset=13), iou)
    foreign = read_foreign(model)
    spec = foreign.spec
    assert spec.decode.suppression == "nms"
    assert spec.thresholds.iou == pytest.approx(iou)
    assert "selection: NMS in the graph taken off; the runtime selects" in foreign.notes
    images = np.random.default_rng(0).random((1, 3, *SIZE_HW), np.float32)
    chosen = ort.InferenceSession(model.SerializeToString()).run(None, {"in": images})[0]
    with torch.no_grad():
        dense = module.eval()(torch.from_numpy(images))[0].numpy().T
    session = ort.InferenceSession(foreign.model.SerializeToString())
    found = decode_outputs(session.run(None, {"images": images}), spec.decode, conf=0.0, multi_label=True)
    kept = select(found, spec.decode, spec.thresholds)
    best = np.sort(kept.scores)[::-1][:20]
    theirs = np.sort(dense[chosen[:, 2], 4 + chosen[:, 1]])[::-1][:20]
    np.testing.assert_allclose(best, theirs, atol=1e-4)


def test_thresholds_of_the_export(export: Export, point_detector: Build) -> None:
    model = with_suppression(export(point_detector("v8", 5, 9, objectness=False), opset=13), 0.6)
    model.metadata_props.add(key="args", value="{'nms': True, 'conf': 0.4, 'iou': 0.5, 'max_det': 77}")
    limits = read_foreign(model).spec.thresholds
    assert limits.iou == pytest.approx(0.6)
    assert (limits.conf, limits.max_det) == (0.4, 77)


def test_selection_without_candidates(export: Export) -> None:
    class Classifier(nn.Module):
        """The best classes of a picture."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 60, 8, 8)

        def forward(self, x: Tensor) -> Tensor:
            best: Tensor = self.conv(x).mean((2, 3)).topk(5)[0]
            return best

    with pytest.raises(ModelFileError, match="expected candidates before the selection in the graph"):
        read_foreign(export(Classifier(), opset=13))
