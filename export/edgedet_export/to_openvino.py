"""From ONNX to OpenVINO IR, with the contract inside, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from edgedet_runtime.engines.openvino_package import openvino_package
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec

__all__ = ["to_openvino"]


def to_openvino(model: onnx.ModelProto, spec: ModelSpec, xml: Path) -> None:
    """Convert a model and write ``xml`` and its ``.bin``; weights keep their precision, and nodes ONNX's names.

    Args:
        model: FP32 or QDQ ONNX.
        spec: Stored as ``rt_info/edgedet``.
        xml: Target path, ending in ``.xml``.

    Raises:
        CheckFailedError: OpenVINO cannot convert the model.
    """
    ov = openvino_package("writing an IR")
    try:
        converted = ov.Core().read_model(model.SerializeToString())
        _number_anew(converted)
        converted.set_rt_info(spec.to_json(), ["edgedet"])
        ov.save_model(converted, str(xml), compress_to_fp16=False)
    except RuntimeError as e:  # OpenVINO's own errors derive from it
        lines = [line for line in str(e).splitlines() if line.strip()]
        raise CheckFailedError(f"OpenVINO cannot convert the model: {lines[-1] if lines else e}") from e


def _number_anew(model: Any) -> None:
    """Name the nodes that the conversion added by their place in the graph.

    OpenVINO (2026.4) numbers nodes that were given no name with a counter of the process (``Constant_6247``), so their
    names, which the IR stores, would tell how many nodes were made before, by whatever.
    """
    nodes = model.get_ordered_ops()
    added = [node for node in nodes if node.get_friendly_name() == node.get_name()]
    taken = {node.get_friendly_name() for node in nodes} - {node.get_name() for node in added}
    number = 0
    for node in added:
        while (name := f"{node.get_type_name()}_{number}") in taken:
            number += 1
        node.set_friendly_name(name)
        number += 1
