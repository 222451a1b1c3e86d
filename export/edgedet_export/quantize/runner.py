"""Run a model that exists in memory only in onnxruntime: the interpreter of FP32 and QDQ ONNX for every target.

How a target runs its own candidates is the target's affair (`Target.open_session`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgedet_runtime.engines.onnxruntime_engine import open_session, session_options

__all__ = ["Runner", "Tensor", "onnx_runner"]

Tensor = npt.NDArray[Any]
Runner = Callable[[Tensor], dict[str, npt.NDArray[np.float32]]]
"""From an input tensor to outputs by name."""


def onnx_runner(model: onnx.ModelProto, *, threads: int, optimize: bool = True) -> Runner:
    """Load a model into onnxruntime, set up as the runtime's engine sets it up.

    Args:
        model: One input.
        threads: Threads within an operator.
        optimize: False: the nodes run as they are, which shows every tensor as in the file.

    Raises:
        EngineError: onnxruntime refuses the model.
    """
    import onnxruntime as ort

    options = session_options(threads)
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(model.SerializeToString(), options, what="the quantized model")
    name = session.get_inputs()[0].name
    outputs = [o.name for o in session.get_outputs()]

    def run(tensor: Tensor) -> dict[str, npt.NDArray[np.float32]]:
        return dict(zip(outputs, session.run(outputs, {name: tensor}), strict=True))

    return run
