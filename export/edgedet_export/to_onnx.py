"""From a detector module to ONNX: float32, NCHW, raw heads as outputs."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_runtime.errors import CheckFailedError, EdgedetError

__all__ = ["OPSET", "to_onnx", "trace"]

OPSET = 17
"""Old enough for cv2.dnn and the engines of long-lived devices, new enough for per-channel QDQ."""


def to_onnx(model: DetectorModule) -> onnx.ModelProto:
    """Trace a module into an ONNX model.

    Args:
        model: In evaluation mode; ``spec.input`` gives the name and size of the input.

    Returns:
        A model with one float32 input (1, 3, H, W) in the network's own convention, and one output per name in
        ``spec.decode.output_names``.

    Raises:
        CheckFailedError: The module cannot be traced, or its outputs do not fit its spec.
    """
    spec = model.spec
    names = spec.decode.output_names
    x = model.dummy_input()
    with torch.no_grad():
        outputs = model(x)
    if len(outputs) != len(names):
        raise CheckFailedError(f"export {spec.variant}: expected {len(names)} raw outputs, got {len(outputs)}")
    try:
        proto = trace(model, (x,), [spec.input.name], names)
    except EdgedetError:
        raise
    except Exception as e:  # torch raises its own and many other types while tracing
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise CheckFailedError(f"export {spec.variant}: torch cannot trace the module to ONNX: {first}") from e
    onnx.checker.check_model(proto)
    return proto


def trace(
    module: nn.Module, inputs: tuple[Tensor, ...], input_names: Sequence[str], output_names: Sequence[str]
) -> onnx.ModelProto:
    """Trace any module into an ONNX model of opset `OPSET`, with constants folded."""
    with tempfile.TemporaryDirectory(prefix="edgedet-trace-") as folder, warnings.catch_warnings():
        # The TorchScript exporter is the one that writes plain, unversioned operators for opset 17; its deprecation
        # notice, and tracer notices on shapes that are fixed here anyway, tell the user nothing.
        warnings.simplefilter("ignore")
        path = Path(folder, "model.onnx")
        torch.onnx.export(
            module,
            inputs,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=list(output_names),
            do_constant_folding=True,
        )
        return onnx.load(str(path))
