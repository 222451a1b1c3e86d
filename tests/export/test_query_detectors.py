"""A small detector of queries through the export: contracts, the ladder, and the files that it writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgedet_export.config import ExportConfig
from edgedet_export.outputs import append_decoding
from edgedet_export.pipeline import export
from edgedet_export.to_onnx import to_onnx
from edgedet_models.detector import DetectorModule
from edgedet_models.detr.decoder import RefiningDecoder
from edgedet_models.detr.query_head import QueryHead, projection
from edgedet_models.detr.shape import QueryShape
from edgedet_models.detr.spec import query_spec
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.doctor.matching import detections_differ
from tests.export.test_outputs import detect


class TinyQueries(DetectorModule):
    """Two maps of strides 16 and 32, and a decoder of two layers."""

    def __init__(self) -> None:
        spec = query_spec(
            family="custom",
            variant="tiny-queries",
            licence="Apache-2.0",
            classes=("a", "b", "c"),
            size_hw=(96, 128),
            queries=30,
            conf=0.15,
        )
        super().__init__(spec)
        torch.manual_seed(3)
        self.stem = nn.Sequential(ConvBnAct(3, 8, 4, 4, padding=0), ConvBnAct(8, 12, 4, 4, padding=0))
        self.down = ConvBnAct(12, 12, 3, 2)
        shape = QueryShape(hidden=16, heads=2, points=(3, 2), layers=2, ffn=24, queries=30, classes=3)
        self.head = QueryHead(shape, [projection(12, 16), projection(12, 16)], RefiningDecoder(shape))
        for parameter in self.head.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.4)
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        fine = self.stem(x)
        boxes, scores = self.head([fine, self.down(fine)])
        return boxes, scores


@pytest.mark.parametrize(("multi_label", "max_det"), [(True, 30), (True, 7), (False, 7)])
def test_contracts_agree(multi_label: bool, max_det: int, tmp_path: Path) -> None:
    detector = TinyQueries()
    limits = dataclasses.replace(detector.spec.thresholds, multi_label=multi_label, max_det=max_det)
    spec = detector.spec = detector.spec.replace(thresholds=limits)
    model = to_onnx(detector)
    raw = detect(model, spec, tmp_path / "raw.onnx")
    assert len(raw) > 5, "the test must have something to compare"
    for contract in ("decoded", "nms"):
        appended, new = append_decoding(model, spec, contract)
        assert (new.decode.suppression, new.decode.unit_xy) == ("none", (1.0, 1.0))
        assert not [n for n in appended.graph.node if n.op_type == "NonMaxSuppression"]
        got = detect(appended, new, tmp_path / f"{contract}.onnx")
        assert detections_differ(raw, got, box_px=2e-3, score=1e-5) is None


def test_an_export_is_verified_to_the_written_files(tmp_path: Path) -> None:
    report = export(TinyQueries(), ExportConfig(out=tmp_path / "bundle", imgsz=(128, 96)))
    rungs = {rung.stage: rung for rung in report.manifest.parity}
    for stage in ("fused", "onnx", "simplified", "model.onnx on onnxruntime", "openvino/model.xml on openvino"):
        assert rungs[stage].passed
    assert read_spec(tmp_path / "bundle/model.onnx").decode.unit_xy == (96.0, 128.0)
