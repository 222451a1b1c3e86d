"""A written file opened at its raw heads, also where its outputs are decoded boxes or detections.

A file with decoding in the graph still has the raw heads within, under their names. What it detects may be nothing at
all (an untrained network under the file's threshold); its raw heads always say something.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import onnx
from onnx import TensorProto, helper

from edgedet_runtime.engines import Engine, EngineName, load_engine
from edgedet_runtime.engines.openvino_engine import OpenVinoEngine
from edgedet_runtime.spec import ModelSpec

__all__ = ["open_raw_heads"]


def open_raw_heads(path: Path, engine: EngineName, spec: ModelSpec) -> Engine | None:
    """Load the file as it lies on the disk, giving out its raw heads.

    Args:
        path: A written model file.
        engine: The engine that will run it.
        spec: The contract with raw heads that was judged.

    Returns:
        The loaded file; None where its raw heads have lost their names, or the engine is OpenCV, whose importer gives
        no inner tensors.

    Raises:
        EngineError: The engine cannot run the file.
    """
    names = spec.decode.output_names
    if engine == "openvino":
        return OpenVinoEngine(path, spec, 1, inner=True) if set(names) <= _tensor_names(path) else None
    if engine != "onnxruntime":
        return None
    model = onnx.load(str(path))
    given = {output.name for output in model.graph.output}
    if not set(names) <= given | {name for node in model.graph.node for name in node.output}:
        return None
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in given
    )
    return load_engine(engine, model.SerializeToString(), spec, threads=1)


def _tensor_names(xml: Path) -> set[str]:
    """Return the names of all tensors of an IR."""
    ports = ElementTree.parse(xml).getroot().iter("port")
    return {name for port in ports for name in port.get("names", "").split(",") if name}
