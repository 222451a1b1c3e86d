"""The stages of an export as things that can be run: one picture in, raw outputs out.

Every stage takes the same pictures through the same preprocessing, so that a difference between two stages is a
difference between two networks and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgedet_models.detector import DetectorModule
from edgedet_runtime.engines.openvino_engine import cpu_settings
from edgedet_runtime.errors import EngineError
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import ModelSpec

__all__ = ["Stage", "onnx_stage", "openvino_stage", "torch_stage"]

Tensor = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Stage:
    """One form of the network.

    Attributes:
        name: Rung of the parity ladder, such as ``fused``.
        spec: The contract of this form.
        run: Input tensor as `spec.input` says → raw outputs, in the order of ``spec.decode.output_names``.
    """

    name: str
    spec: ModelSpec
    run: Callable[[Tensor], Sequence[Tensor]]

    def __call__(self, images_bgr: Sequence[npt.NDArray[np.uint8]]) -> list[Sequence[Tensor]]:
        """Return the raw outputs for each picture (uint8 BGR, any size)."""
        preprocess = Preprocessor(self.spec.input, self.spec.resize)
        return [self.run(preprocess(image)[0]) for image in images_bgr]


def torch_stage(name: str, model: DetectorModule, *, dtype: torch.dtype = torch.float32) -> Stage:
    """Run a module in torch, in the given precision; the module must already have it."""

    def run(tensor: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            outputs = model(torch.from_numpy(tensor).to(dtype))
        return [o.double().numpy() for o in outputs]

    return Stage(name, model.spec, run)


def onnx_stage(name: str, model: onnx.ModelProto | Path, spec: ModelSpec) -> Stage:
    """Run an ONNX model in onnxruntime with default optimisations, on one thread.

    Raises:
        EngineError: onnxruntime refuses the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime raises types of its own C++ module
        raise EngineError(f"{name}: onnxruntime refuses the model: {str(e).splitlines()[0]}") from e
    names = list(spec.decode.output_names)

    def run(tensor: Tensor) -> Sequence[Tensor]:
        return list(session.run(names, {spec.input.name: tensor}))

    return Stage(name, spec, run)


def openvino_stage(name: str, xml: Path, spec: ModelSpec) -> Stage:
    """Run an OpenVINO IR on the CPU with the inference precision pinned to float32.

    Raises:
        EngineError: OpenVINO refuses the model.
    """
    import openvino as ov

    try:
        compiled = ov.Core().compile_model(str(xml), "CPU", cpu_settings(1))
    except RuntimeError as e:
        raise EngineError(f"{name}: OpenVINO refuses the model: {str(e).splitlines()[0]}") from e
    request = compiled.create_infer_request()

    def run(tensor: Tensor) -> Sequence[Tensor]:
        request.infer({spec.input.name: tensor})
        return [np.array(request.get_tensor(name).data) for name in spec.decode.output_names]

    return Stage(name, spec, run)
