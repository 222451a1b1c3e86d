"""Real ONNX files and real checkpoints, through the import."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from edgedet_export.foreign import SpecOverrides, read_foreign
from edgedet_export.foreign.fold_constants import FoldConstants
from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions, folded_operators
from edgedet_export.graph.conversion import load_model, to_proto
from edgedet_export.graph.walks import nodes_of
from edgedet_export.onnx_passes import run_passes
from edgedet_models import load, read_checkpoint
from edgedet_models.decode import decode

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
    model = load_model(shared / "weights/ultralight-face/version-RFB-320.onnx")
    x = np.random.default_rng(0).standard_normal((1, 3, 240, 320), np.float32)
    name = model.graph.inputs[0].name or ""

    def run() -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        session = ort.InferenceSession(to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
        outputs: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = session.run(None, {name: x})
        return outputs

    before, count = run(), len(nodes_of(model.graph, "BatchNormalization"))
    assert count > 30
    result = run_passes(model, [FoldConstants(), FoldIntoConvolutions()])
    assert folded_operators(result.reports[1])["BatchNormalization"] == count
    for a, b in zip(before, run(), strict=True):
        np.testing.assert_allclose(b, a, atol=2e-5)


class OfficialHead(nn.Module):
    """YOLOv5's and YOLOv7's head as it stands in their exports: joint convolutions, decoded, concatenated."""

    def __init__(self, tensors: dict[str, Tensor], prefix: str, anchors_px: Tensor, tail: str) -> None:
        super().__init__()
        self.tail = tail
        self.anchors_px = anchors_px  # (levels, anchors, 2)
        self.m = nn.ModuleList()
        self.implicit: list[tuple[Tensor, Tensor] | None] = []
        for level in range(len(anchors_px)):
            weight = tensors[f"{prefix}m.{level}.weight"].float()
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            conv.load_state_dict({"weight": weight, "bias": tensors[f"{prefix}m.{level}.bias"].float()})
            self.m.append(conv)
            ia = tensors.get(f"{prefix}ia.{level}.implicit")
            self.implicit.append(None if ia is None else (ia.float(), tensors[f"{prefix}im.{level}.implicit"].float()))

    def forward(self, xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        rows = []
        for level, (conv, x) in enumerate(zip(self.m, xs, strict=True)):
            implicit = self.implicit[level]
            t = conv(x) if implicit is None else conv(x + implicit[0]) * implicit[1]
            n, c, h, w = t.shape
            t = t.view(n, 3, c // 3, h, w).permute(0, 1, 3, 4, 2).contiguous()
            if self.tail == "raw":
                rows.append(t)
                continue
            y = t.sigmoid()
            stride = 160 / h
            ys, xs_ = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack((xs_, ys), -1).to(t.dtype)
            xy = (y[..., :2] * 2 - 0.5 + grid) * stride
            wh = (y[..., 2:4] * 2) ** 2 * self.anchors_px[level].view(1, 3, 1, 1, 2)
            rows.append(torch.cat((xy, wh, y[..., 4:]), -1).view(n, -1, c // 3))
        return tuple(rows) if self.tail == "raw" else (torch.cat(rows, 1),)


@pytest.mark.parametrize(
    ("fixture", "tail"),
    [("yolov5-yolov5n", "decoded"), ("spd-yolov5n", "raw"), ("yolov7-w025", "decoded"), ("yolov7-tiny-w05", "raw")],
)
def test_official_weights_exported_the_official_way(
    shared: Path, fixture: str, tail: str, export: Callable[..., Path]
) -> None:
    folder = shared / "fixtures" / fixture
    reference = np.load(folder / "reference.npz")
    meta = json.loads((folder / "meta.json").read_text())
    strides = torch.tensor([8.0, 16.0, 32.0]).view(3, 1, 1)
    anchors_px = torch.tensor(meta["anchors_grid_units"]) * strides
    checkpoint = read_checkpoint(folder / "checkpoint.pt")
    detector = load(checkpoint)
    tensors = checkpoint.tensors()
    prefix = next(n for n in tensors if n.endswith(".m.2.weight") and tensors[n].shape[0] == 255).removesuffix(
        "m.2.weight"
    )
    layers = detector.model
    assert isinstance(layers, nn.ModuleList)
    layers[-1] = OfficialHead(tensors, prefix, anchors_px, tail)
    height, width = reference["input"].shape[2:]
    path = export(detector, size_hw=(height, width))
    given = tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors_px)
    raw = tail == "raw"
    foreign = read_foreign(
        path,
        family="yolov7" if "v7" in fixture else "yolov5",
        overrides=SpecOverrides(anchors_px=given if raw else None),
    )
    np.testing.assert_allclose(
        [level.anchors_px for level in foreign.spec.decode.levels], given, rtol=1e-6, err_msg="anchors of the graph"
    )
    session = ort.InferenceSession(foreign.model.SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {"images": reference["input"][:1]})
    boxes, scores = (v[0].numpy() for v in decode(foreign.spec, [torch.from_numpy(o) for o in outputs]))
    expected = reference["decoded"][0]
    rows = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    np.testing.assert_allclose(rows, expected[:, :4], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(scores, expected[:, 4:5] * expected[:, 5:], atol=1e-3)
