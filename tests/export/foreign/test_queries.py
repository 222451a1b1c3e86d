"""Foreign files that end in a set of queries, in the forms that exporters of DETR's heirs write."""

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

from edgedet_export.foreign import read_queries

Export = Callable[..., Path]
SIZE_HW = (64, 96)
QUERIES, CLASSES, BEST = 20, 5, 12


class Decoder(nn.Module):
    """Queries with boxes in fractions of the picture, center and size, and class logits."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.stem, self.boxes, self.scores = nn.Conv2d(3, 16, 16, 16), nn.Linear(16, 4), nn.Linear(16, CLASSES)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.stem(x).flatten(2).transpose(1, 2)[:, :QUERIES]
        return self.boxes(rows).sigmoid(), self.scores(rows)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Any:
        boxes, logits = self.raw(x)
        if self.form == "raw":
            return logits, boxes
        if self.form == "sigmoid":
            return boxes, logits.sigmoid()
        if self.form == "joint":
            return torch.cat((boxes, logits.sigmoid()), -1)
        if self.form == "joint best":
            best, index = logits.sigmoid().flatten(1).topk(BEST, -1)
            chosen = boxes.gather(1, (index // CLASSES).unsqueeze(-1).repeat(1, 1, 4))
            return torch.cat((chosen, best.unsqueeze(-1), (index % CLASSES).unsqueeze(-1).float()), -1)
        assert sizes is not None
        middle, size = boxes[..., :2], boxes[..., 2:]
        corners = torch.cat((middle - size / 2, middle + size / 2), -1) * sizes.repeat(1, 2).unsqueeze(1)
        best, index = logits.sigmoid().flatten(1).topk(BEST, -1)
        chosen = corners.gather(1, (index // CLASSES).unsqueeze(-1).repeat(1, 1, 4))
        return index % CLASSES, chosen, best


def export_official(module: nn.Module, path: Path) -> Path:
    torch.onnx.export(
        module.eval(),
        (torch.zeros(1, 3, *SIZE_HW), torch.tensor([[SIZE_HW[1], SIZE_HW[0]]])),
        str(path),
        opset_version=16,
        dynamo=False,
        input_names=["images", "orig_target_sizes"],
        output_names=["labels", "boxes", "scores"],
        dynamic_axes={"images": {0: "N"}, "orig_target_sizes": {0: "N"}},
    )
    return path


@pytest.mark.parametrize("form", ["raw", "sigmoid", "joint", "joint best", "official"])
def test_boxes_and_logits_are_found(export: Export, form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Decoder(form).eval()
    path = export_official(module, tmp_path / "dfine.onnx") if form == "official" else export(module, opset=16)
    foreign = read_queries(path)
    assert foreign is not None
    spec = foreign.spec
    assert (spec.decode.kind, spec.decode.suppression, spec.decode.unit_xy) == ("queries", "none", (96.0, 64.0))
    assert (spec.resize.mode, spec.input.color, len(spec.classes)) == ("stretch", "RGB", CLASSES)
    images = np.random.default_rng(1).random((1, 3, *SIZE_HW), np.float32)
    session = ort.InferenceSession(foreign.model.SerializeToString())
    assert [i.name for i in session.get_inputs()] == ["images"]
    got = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"images": images}), strict=True))
    with torch.no_grad():
        boxes, logits = module.raw(torch.from_numpy(images))
    np.testing.assert_allclose(got["boxes_0"], boxes.numpy(), atol=1e-5)
    np.testing.assert_allclose(got["scores_0"], logits.numpy(), atol=1e-4)
    assert ("corners in pixels" in foreign.notes[0]) == (form == "official")


def test_metadata(export: Export, tmp_path: Path) -> None:
    model = onnx.load(export(Decoder("joint"), opset=16))
    said = {"description": "Ultralytics rtdetr-l model trained on x", "license": "AGPL-3.0 License", "task": "detect"}
    for key, value in {**said, "names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}"}.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "rtdetr.onnx")
    foreign = read_queries(tmp_path / "rtdetr.onnx")
    assert foreign is not None
    assert (foreign.spec.variant, foreign.spec.licence, foreign.spec.classes) == (
        "rtdetr-l",
        "AGPL-3.0",
        tuple("abcde"),
    )


def test_other_files_are_left(export: Export, point_detector: Callable[..., nn.Module]) -> None:
    assert read_queries(export(point_detector("v8", 5, 9, objectness=False))) is None
