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
from edgedet_runtime.engines import EngineName, ModelSource, load_engine
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
    return _engine_stage("onnxruntime", name, model if isinstance(model, Path) else model.SerializeToString(), spec)


def openvino_stage(name: str, xml: Path, spec: ModelSpec) -> Stage:
    """Run an OpenVINO IR on the CPU with the inference precision pinned to float32.

    Raises:
        EngineError: OpenVINO refuses the model.
    """
    return _engine_stage("openvino", name, xml, spec)


def _engine_stage(engine_name: EngineName, name: str, source: ModelSource, spec: ModelSpec) -> Stage:
    """Run a model in one of the runtime's engines, as a device does, on one thread."""
    engine = load_engine(engine_name, source, spec, threads=1)

    def run(tensor: Tensor) -> Sequence[Tensor]:
        return [output.copy() for output in engine.infer(tensor)]

    return Stage(name, spec, run)
