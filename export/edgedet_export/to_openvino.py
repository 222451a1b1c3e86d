"""From ONNX to OpenVINO IR, with the contract inside."""

from __future__ import annotations

from pathlib import Path

import onnx

from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec

__all__ = ["to_openvino"]


def to_openvino(model: onnx.ModelProto, spec: ModelSpec, xml: Path) -> None:
    """Convert a model and write ``xml`` and its ``.bin``; weights keep their precision.

    Args:
        model: FP32 or QDQ ONNX.
        spec: Stored as ``rt_info/edgedet``.
        xml: Target path, ending in ``.xml``.

    Raises:
        CheckFailedError: OpenVINO cannot convert the model.
    """
    import openvino as ov

    try:
        converted = ov.Core().read_model(model.SerializeToString())
        converted.set_rt_info(spec.to_json(), ["edgedet"])
        ov.save_model(converted, str(xml), compress_to_fp16=False)
    except RuntimeError as e:  # OpenVINO's own errors derive from it
        lines = [line for line in str(e).splitlines() if line.strip()]
        raise CheckFailedError(f"OpenVINO cannot convert the model: {lines[-1] if lines else e}") from e
