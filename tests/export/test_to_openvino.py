"""An IR's bytes depend on the model and its contract alone."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import onnx
import pytest

from edgedet_export.config import ExportConfig
from edgedet_export.pipeline import export
from edgedet_export.quantize import QuantConfig, measure, quantize_unjudged
from edgedet_export.to_openvino import to_openvino
from edgedet_runtime.spec import ModelSpec
from tests.export.quantize.tiny_detector import pictures, tiny_detector
from tests.export.tiny import TinyDetector, tiny_spec


def quantized() -> tuple[onnx.ModelProto, ModelSpec]:
    model, spec = tiny_detector()
    config = QuantConfig("openvino", threads=1, cpu="vnni")
    return quantize_unjudged(measure(model, spec, pictures(2), config), spec, config).model, spec


def test_same_model_same_bytes_whatever_ran_before(tmp_path: Path) -> None:
    import openvino as ov

    model, spec = quantized()
    paths = [tmp_path / f"{number}.xml" for number in range(2)]
    for path in paths:
        to_openvino(model, spec, path)
        ov.Core().read_model(model.SerializeToString())  # makes nodes, which OpenVINO counts
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].with_suffix(".bin").read_bytes() == paths[1].with_suffix(".bin").read_bytes()


def test_nodes_keep_the_names_of_onnx_and_names_are_unique(tmp_path: Path) -> None:
    model, spec = quantized()
    convolution = next(n for n in model.graph.node if n.op_type == "Conv")
    convolution.name = "Convert_6"  # as OpenVINO would name a node of its own
    to_openvino(model, spec, tmp_path / "model.xml")
    layers = ElementTree.parse(tmp_path / "model.xml").findall(".//layer")
    names = [layer.get("name") or "" for layer in layers if layer.get("type") != "Result"]
    assert len(set(names)) == len(names)
    assert {n.output[0] for n in model.graph.node if n.op_type == "Sigmoid"} <= {
        name.removeprefix("node_") for name in names
    }
    (kept,) = (layer for layer in layers if layer.get("name") == "Convert_6")
    assert kept.get("type") != "Convert"


@pytest.mark.slow
def test_two_exports_write_the_same_files(tmp_path: Path) -> None:
    bundles = []
    for name in ("one", "two"):
        config = ExportConfig(out=tmp_path / name, formats=("openvino",), int8=True, search=False)
        bundles.append(export(TinyDetector(tiny_spec()), config).bundle)
    files = sorted(p.relative_to(bundles[0]) for p in bundles[0].rglob("*") if p.is_file())
    assert Path("openvino/model.int8.xml") in files
    for file in files:
        if file.name != "manifest.json":  # holds times
            assert (bundles[0] / file).read_bytes() == (bundles[1] / file).read_bytes(), file
