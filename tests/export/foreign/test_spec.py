"""Files that edgedet does not understand by itself: a draft of their spec, and the way in with a spec."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgedet_export.foreign import draft_spec, read_with_spec
from edgedet_export.foreign.selectors import Selector
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import ModelSpec

Export = Callable[..., Path]
SIZE_HW = (64, 96)
STRIDES = (8, 16)


class NanoDet(nn.Module):
    """One convolution per level: class scores, then distributions; the file has sigmoid scores beside raw boxes."""

    def __init__(self, classes: int = 7, bins: int = 8) -> None:
        super().__init__()
        self.classes = classes
        self.heads = nn.ModuleList(nn.Conv2d(3, classes + 4 * bins, s, s) for s in STRIDES)

    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for head in self.heads:
            y = head(x)
            rows.append(torch.cat((y[:, : self.classes].sigmoid(), y[:, self.classes :]), 1).flatten(2))
        return torch.cat(rows, 2).permute(0, 2, 1)


class YuNet(nn.Module):
    """Four convolutions per level, each an output of rows: class, objectness, box, five points."""

    def __init__(self) -> None:
        super().__init__()
        widths = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
        self.heads = nn.ModuleDict({f"{n}{s}": nn.Conv2d(3, c, s, s) for s in STRIDES for n, c in widths.items()})

    def level(self, stride: int, x: Tensor) -> dict[str, Tensor]:
        """Raw values of a level, (1, C, H, W)."""
        return {name: self.heads[f"{name}{stride}"](x) for name in ("cls", "obj", "bbox", "kps")}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = []
        for name in ("cls", "obj", "bbox", "kps"):
            for stride in STRIDES:
                rows = self.level(stride, x)[name].permute(0, 2, 3, 1).flatten(1, 2)
                outputs.append(rows.sigmoid() if name in ("cls", "obj") else rows)
        return tuple(outputs)


class Queries(nn.Module):
    """A set of boxes in fractions of the picture, and class logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.boxes, self.scores = nn.Conv2d(3, 16, 16, 16), nn.Linear(16, 4), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.stem(x).flatten(2).transpose(1, 2)[:, :20]
        return self.scores(rows), self.boxes(rows).sigmoid()


def completed(draft: dict[str, Any], **decode: Any) -> ModelSpec:
    spec = json.loads(json.dumps(draft["spec"]))
    spec["input"].update(color="BGR", scale=1.0, mean=[103.5, 116.3, 123.7], std=[57.4, 57.1, 58.4])
    spec["resize"] = {"mode": "stretch"}
    spec["decode"].update(decode)
    return ModelSpec.from_data(spec)


def raw_of(model: onnx.ModelProto, images: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    session = ort.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def picture() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random((1, 3, *SIZE_HW), np.float32)


def test_nanodet(export: Export) -> None:
    module = NanoDet()
    path = export(module, opset=13)
    draft = draft_spec(path)
    assert draft["spec"]["input"]["scale"] is None
    assert any(question.startswith("classes") for question in draft["questions"])
    assert (draft["spec"]["decode"]["kind"], draft["spec"]["decode"]["bins"]) == ("dfl", 8)
    spec = completed(draft, cell_offset=0.0)
    foreign = read_with_spec(path, spec)
    assert foreign.spec.decode.output_names == ("boxes_0", "scores_0", "boxes_1", "scores_1")
    assert len(foreign.spec.classes) == 7
    got = raw_of(foreign.model, picture())
    with torch.no_grad():
        for level, head in enumerate(module.heads):
            y = head(torch.from_numpy(picture())).numpy()
            np.testing.assert_allclose(got[f"scores_{level}"], y[:, :7], atol=1e-5)
            np.testing.assert_allclose(got[f"boxes_{level}"], y[:, 7:], atol=1e-5)


def test_rows_and_columns_of_one_output(export: Export) -> None:
    """The outputs alone can be named too; scores that have a sigmoid already are refused."""
    path = export(NanoDet(), opset=13)
    name = onnx.load(path).graph.output[0].name
    draft = draft_spec(path)
    levels = [
        {"stride": 8, "boxes": f"{name}[0:96, 7:39]", "scores": f"{name}[0:96, 0:7]"},
        {"stride": 16, "boxes": f"{name}[96:120, 7:39]", "scores": f"{name}[96:120, 0:7]"},
    ]
    with pytest.raises(ModelFileError, match=r"expected logits, got numbers from .* as behind a sigmoid"):
        read_with_spec(path, completed(draft, levels=levels))


def test_yunet(export: Export) -> None:
    module = YuNet()
    path = export(module, opset=13)
    draft = draft_spec(path)
    assert draft["spec"]["decode"]["kind"] == "points-exp"
    assert any("landmarks" in question for question in draft["questions"])
    assert any("which is the objectness" in question or "which of" in question for question in draft["questions"])
    foreign = read_with_spec(path, completed(draft))
    got = raw_of(foreign.model, picture())
    with torch.no_grad():
        for level, stride in enumerate(STRIDES):
            raw = {name: value.numpy() for name, value in module.level(stride, torch.from_numpy(picture())).items()}
            np.testing.assert_allclose(got[f"boxes_{level}"], raw["bbox"], atol=1e-5)
            names = ("cls", "obj") if np.allclose(got[f"scores_{level}"], raw["cls"], atol=1e-5) else ("obj", "cls")
            np.testing.assert_allclose(got[f"scores_{level}"], raw[names[0]], atol=1e-5)
            np.testing.assert_allclose(got[f"objectness_{level}"], raw[names[1]], atol=1e-5)


def test_row_outputs_become_grids(export: Export) -> None:
    """YuNet's own box outputs, rows (1, H * W, 4), are brought to (1, 4, H, W)."""
    module = YuNet()
    path = export(module, opset=13)
    names = [output.name for output in onnx.load(path).graph.output]
    spec = completed(draft_spec(path))
    levels = tuple(replace(lv, boxes=names[4 + i]) for i, lv in enumerate(spec.decode.levels))
    foreign = read_with_spec(path, spec.replace(decode=replace(spec.decode, levels=levels)))
    got = raw_of(foreign.model, picture())
    with torch.no_grad():
        expected = module.level(8, torch.from_numpy(picture()))["bbox"].numpy()
    np.testing.assert_allclose(got["boxes_0"], expected, atol=1e-5)


def test_queries(export: Export) -> None:
    module = Queries()
    path = export(module, opset=13)
    draft = draft_spec(path)
    decode = draft["spec"]["decode"]
    assert (decode["kind"], decode["suppression"], decode["unit_xy"]) == ("queries", "none", [96.0, 64.0])
    foreign = read_with_spec(path, completed(draft))
    got = raw_of(foreign.model, picture())
    with torch.no_grad():
        scores, boxes = module(torch.from_numpy(picture()))
    np.testing.assert_allclose(got["boxes_0"], boxes.numpy(), atol=1e-5)
    np.testing.assert_allclose(got["scores_0"], scores.numpy(), atol=1e-5)


def test_a_file_that_is_understood_has_no_questions(export: Export, point_detector: Callable[..., nn.Module]) -> None:
    path = export(point_detector("v8", 5, 9, objectness=False), opset=13)
    draft = draft_spec(path)
    assert draft["questions"] == []
    spec = ModelSpec.from_data(draft["spec"]).replace(classes=tuple("abcde"))
    foreign = read_with_spec(path, spec)
    assert (foreign.spec.classes, foreign.spec.decode) == (spec.classes, spec.decode)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lv: replace(lv, boxes="nowhere"), "spec: nowhere: expected a tensor of"),
        (lambda lv: replace(lv, boxes=f"{lv.boxes}[0:400]"), "expected at most"),
        (lambda lv: replace(lv, boxes=f"{lv.boxes}[4:2]"), "expected name"),
        (lambda lv: replace(lv, stride=lv.stride * 2), "expected a grid of"),
    ],
)
def test_specs_that_do_not_fit(export: Export, change: Callable[[Any], Any], words: str) -> None:
    path = export(YuNet(), opset=13)
    spec = completed(draft_spec(path))
    levels = (change(spec.decode.levels[0]), *spec.decode.levels[1:])
    with pytest.raises(ModelFileError) as caught:
        read_with_spec(path, spec.replace(decode=replace(spec.decode, levels=levels)))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b.c", Selector("a/b.c")),
        ("a[0:4]", Selector("a", None, (0, 4))),
        ("a[0:4, 2:9]", Selector("a", (0, 4), (2, 9))),
        ("a[x]", Selector("a[x]")),
    ],
)
def test_selectors(text: str, expected: Selector) -> None:
    assert Selector.parse(text) == expected
