"""Targets of quantization: one file per engine and one line in `TARGETS`.

A target is all that quantization knows about an engine. The code outside this folder plans, searches and judges through
`Target` and never asks which engine it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import onnx
import onnx_ir as ir

from edgedet_export.config import Format
from edgedet_export.quantize.audit import ExecutedPrecision
from edgedet_export.quantize.equalize import Form
from edgedet_export.quantize.layers import ConvLayer
from edgedet_export.quantize.number_format import CpuKind, NumberFormat
from edgedet_export.quantize.plan import QuantPlan
from edgedet_export.quantize.runner import Runner
from edgedet_export.quantize.targets.onnxruntime import OnnxRuntimeTarget
from edgedet_export.quantize.targets.openvino import OpenVinoTarget
from edgedet_export.quantize.tensor_ranges import TensorRanges
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import ModelSpec

__all__ = ["TARGETS", "Target", "get_target", "targets_of"]


class Target(Protocol):
    """An engine as quantization sees it.

    Candidates are QDQ ONNX, which onnxruntime interprets for measurements; what the engine itself is given is the
    target's affair.

    Attributes:
        name: The engine.
        formats: Formats of an export that its INT8 file belongs to.
        file: Path of that file within a bundle, with forward slashes.
        number_formats: 8-bit formats by kind of CPU.
        free_forms: Forms of the network whose factors cost the engine no time, best first; the first that the network
            offers is tried.
        costly_forms: Forms that cost time, tried in this order where the budget is not kept without.
        float_residuals: Whether the search also tries `place` with float residuals.
    """

    name: EngineName
    formats: tuple[Format, ...]
    file: str
    number_formats: Mapping[CpuKind, NumberFormat]
    free_forms: tuple[Form, ...]
    costly_forms: tuple[Form, ...]
    float_residuals: bool

    def prepare(self, model: ir.Model) -> ir.Model:
        """Return an FP32 model that computes the same in the way the engine's kernels like best.

        Args:
            model: FP32, with shapes; not changed. Outputs of convolutions keep their names, and so do their inputs.
        """

    def place(
        self,
        graph: ir.Graph,
        layers: tuple[ConvLayer, ...],
        ranges: TensorRanges,
        number_format: NumberFormat,
        keep_float: Mapping[str, str],
        *,
        float_residuals: bool = False,
    ) -> QuantPlan:
        """Plan a file: which layers run in INT8, on which grids.

        Args:
            graph: Of a model from `prepare`, shapes inferred.
            layers: Its convolutions.
            ranges: Ranges of the tensors by the rule in force.
            number_format: Of the CPU that will run the file, from `number_formats`.
            keep_float: Layer id → reason, for layers that must stay in float.
            float_residuals: Residual additions and other readers see a tensor in float, not on the grid of the
                convolutions that read it too: a little more accurate, and slower where there are many. Asked for only
                if the target's attribute `float_residuals` is true.
        """

    def float_front(self, layers: tuple[ConvLayer, ...]) -> Mapping[str, str]:
        """Return the first layers that the engine may run faster in float, in graph order: layer id → reason."""

    def open_session(self, model: onnx.ModelProto, *, threads: int) -> Runner:
        """Load an FP32 or quantized model into the engine, as the runtime would load its file.

        Raises:
            EngineError: The engine refuses the model.
        """

    def write(self, path: Path, model: onnx.ModelProto, spec: ModelSpec) -> None:
        """Write the file that ships, with its spec inside; folders are made.

        Args:
            path: Ends as `file` does.
            model: FP32 or quantized, with the outputs that `spec` names.
            spec: Its contract.

        Raises:
            CheckFailedError: The model cannot be converted.
        """

    def audit(self, path: Path, spec: ModelSpec, tensor: npt.NDArray[Any], *, threads: int) -> ExecutedPrecision:
        """Return what the engine really executes in INT8 of a file that `write` wrote.

        Args:
            path: The file.
            spec: Its contract.
            tensor: An input.
            threads: Threads of the engine.

        Raises:
            EngineError: The engine cannot run it.
        """


TARGETS: dict[EngineName, Target] = {
    "onnxruntime": OnnxRuntimeTarget(),
    "openvino": OpenVinoTarget(),
}


def get_target(engine: EngineName) -> Target:
    """Return an engine's target.

    Raises:
        InputError: There is none.
    """
    if engine not in TARGETS:
        raise InputError(f"INT8: expected the engine {' or '.join(TARGETS)}, got {engine!r}")
    return TARGETS[engine]


def targets_of(formats: Sequence[Format]) -> tuple[Target, ...]:
    """Return the targets whose files belong to formats of an export, in the order of the formats."""
    found = [target for wanted in formats for target in TARGETS.values() if wanted in target.formats]
    return tuple(dict.fromkeys(found))
