"""A file with two heads becomes a bundle with the one that was asked for, and says so."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from edgedet_export.config import ExportConfig, Head, OutputContract
from edgedet_export.pipeline import export
from edgedet_models.families import ultralytics
from edgedet_runtime import Detector
from edgedet_runtime.errors import InputError
from tests.export.tiny import TinyDetector, tiny_spec
from tests.models import distance_networks as net
from tests.models.test_ultralytics import network, save


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.pt"
    save(network(head=net.v10Detect, bins=1), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "outputs", "suppression"),
    [(None, "raw", "none"), ("one-to-one", "nms", "none"), ("one-to-many", "nms", "nms")],
)
def test_bundle(head: Head | None, outputs: OutputContract, suppression: str, checkpoint: Path, tmp_path: Path) -> None:
    config = ExportConfig(out=tmp_path / "bundle", head=head, outputs=outputs, imgsz=(64, 96), formats=("onnx",))
    manifest = export(checkpoint, config).manifest.to_dict()
    assert manifest["spec"]["decode"].get("suppression", "nms") == suppression
    assert any("no non-maximum suppression" in note for note in manifest["notes"]) == (suppression == "none")
    proto = onnx.load(str(tmp_path / "bundle" / "model.onnx"))
    operators = {node.op_type for node in proto.graph.node}
    assert ("NonMaxSuppression" in operators) == (suppression == "nms" and outputs == "nms")
    assert ("TopK" in operators) == (outputs == "nms")
    stored = json.loads(next(p.value for p in proto.metadata_props if p.key == "edgedet"))
    assert stored["spec_version"] == (2 if suppression == "none" else 1)
    with Detector(tmp_path / "bundle", threads=1) as detector:
        assert detector.spec.decode.suppression == suppression


def test_heads_that_are_not_there(tmp_path: Path) -> None:
    single = tmp_path / "single.pt"
    save(network(), single)
    with pytest.raises(InputError, match="head: expected one-to-many, as custom has, got one-to-one"):
        export(single, ExportConfig(out=tmp_path / "b", head="one-to-one"))
    with pytest.raises(InputError, match=r"head: expected no choice \(one head\), as tiny has, got one-to-one"):
        export(TinyDetector(tiny_spec()), ExportConfig(out=tmp_path / "b", head="one-to-one"))
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(InputError, match=r"head: .*x\.onnx is an ONNX file"):
        export(tmp_path / "x.onnx", ExportConfig(out=tmp_path / "b", head="one-to-one"))


@pytest.mark.slow
def test_a_module_of_ones_own_keeps_both_heads(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    module = ultralytics.load(save(network(head=net.v10Detect), path))
    config = ExportConfig(out=tmp_path / "bundle", head="one-to-many", imgsz=(64, 64), formats=("onnx",))
    assert "suppression" not in export(module, config).manifest.to_dict()["spec"]["decode"]
    assert module.head_choices == ("one-to-one", "one-to-many")
