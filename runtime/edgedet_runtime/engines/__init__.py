"""Inference engines: one file each, one line in `ENGINES`.

An engine's package is imported when the engine is loaded, never before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgedet_runtime.choices import EngineName, Trial, parse_engine
from edgedet_runtime.engines.head_check import Shape, check_head
from edgedet_runtime.engines.model_source import ModelSource, label
from edgedet_runtime.errors import ModelFileError
from edgedet_runtime.spec import ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet_runtime.model_check import Outline

__all__ = ["ENGINES", "Backend", "Engine", "EngineName", "ModelSource", "load_engine"]


class Engine(Protocol):
    """A loaded model that turns one input tensor into raw outputs.

    Attributes:
        name: A key of `ENGINES`.
        version: Version of the engine's package.
        precision_hint: Type in which the engine computes what the model file leaves in float, such as
            ``f32``.
        output_shapes: Name of each output of the spec → its shape as the model declares it, None where it does not.
    """

    name: str
    version: str
    precision_hint: str
    output_shapes: dict[str, Shape | None]

    def infer(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the model.

        Args:
            tensor: Input as the spec describes it, C-contiguous, batch 1.

        Returns:
            Outputs in the order of ``spec.decode.output_names``. They may be buffers of the engine, valid
            until the next call.

        Raises:
            EngineError: The engine failed, or the tensor has another shape or type.
        """

    def twin(self) -> Engine:
        """Return an engine over the same loaded model whose outputs stay valid while this one runs, and vice versa.

        The two never run at the same time. Both are to be closed.

        Raises:
            EngineError: The engine is closed.
        """

    def close(self) -> None:
        """Free the model; the engine cannot be used any more."""


@dataclass(frozen=True, slots=True)
class Backend:
    """How an engine is reached.

    Attributes:
        version: Imports its package and returns the version.
        load: Loads a model: source, contract, threads, what the check of the file found, and whether a compiled model
            may be kept for the next process.
    """

    version: Callable[[], str]
    load: Callable[[ModelSource, ModelSpec, int, Outline, bool], Engine]


def _onnxruntime() -> str:
    from edgedet_runtime.engines.onnxruntime_engine import onnxruntime_package

    return str(onnxruntime_package().__version__)


def _load_onnxruntime(source: ModelSource, spec: ModelSpec, threads: int, declared: Outline, _cached: bool) -> Engine:
    from edgedet_runtime.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(source, spec, threads, declared=declared)


def _openvino() -> str:
    from edgedet_runtime.engines.openvino_package import openvino_package

    return str(openvino_package("the engine openvino").__version__)


def _load_openvino(source: ModelSource, spec: ModelSpec, threads: int, declared: Outline, cached: bool) -> Engine:
    from edgedet_runtime.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(source, spec, threads, declared=declared, cached=cached)


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)


def _load_opencv(source: ModelSource, spec: ModelSpec, threads: int, declared: Outline, _cached: bool) -> Engine:
    from edgedet_runtime.engines.opencv_engine import OpenCvEngine

    return OpenCvEngine(source, spec, threads, declared=declared)


ENGINES: dict[EngineName, Backend] = {
    "onnxruntime": Backend(_onnxruntime, _load_onnxruntime),
    "openvino": Backend(_openvino, _load_openvino),
    "opencv": Backend(_opencv, _load_opencv),
}


def load_engine(
    name: EngineName,
    source: ModelSource,
    spec: ModelSpec,
    *,
    threads: int,
    trial: Trial = "never",
    cached: bool = False,
) -> Engine:
    """Load a model into an engine.

    Args:
        name: A key of `ENGINES`.
        source: The model file, its content, or an ONNX model as bytes, which opencv does not take.
        spec: The model's contract.
        threads: Threads the engine may use.
        trial: Whether a file is loaded in a child process first, see `first_load`; what is in memory never is.
        cached: Whether the engine may take up what an earlier process compiled, and keep what this one does.

    Raises:
        ArgumentError: No such engine.
        MissingDependencyError: The engine's package is not installed.
        ModelFileError: The file may not reach an engine, see `model_check`, or its outputs are not those of the spec.
        EngineError: The engine cannot run the model.
        EngineDeathError: In a child process, the engine died of it, hung, or took more memory than it may.
    """
    from edgedet_runtime.model_check import check_model  # which itself needs `model_source` of this package

    backend = ENGINES[parse_engine(name)]
    version = backend.version()
    declared = check_model(source)
    if isinstance(source, Path) and trial != "never":
        from edgedet_runtime.engines.first_load import require_survived  # loads OpenSSL

        require_survived(name, version, source, spec, declared, again=trial == "always")
    engine = backend.load(source, spec, threads, declared, cached)
    try:
        check_head(engine.output_shapes, spec, label(source))
    except ModelFileError:
        engine.close()
        raise
    return engine
