"""OpenCV's own inference (cv2.dnn): slower, float32 only, for boards that have nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgedet_runtime.engines.head_check import Shape
from edgedet_runtime.engines.model_source import ModelContent, ModelSource, content_of, label
from edgedet_runtime.engines.tensor_check import check_tensor
from edgedet_runtime.errors import EngineError
from edgedet_runtime.model_check import Outline, check_model
from edgedet_runtime.onnx_file import onnx_summary
from edgedet_runtime.spec import ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["OpenCvEngine"]


class OpenCvEngine:
    """Runs a float .onnx file in cv2.dnn.

    It takes no quantised files: cv2.dnn either refuses their operators or computes them in float, which is
    not what was asked for. Nor files that suppress boxes in the graph: where none is left, cv2.dnn (5.0) divides by
    zero and the process ends.
    """

    name = "opencv"
    version: str = cv2.__version__
    precision_hint = "f32"

    def __init__(self, source: ModelSource, spec: ModelSpec, threads: int, *, declared: Outline | None = None) -> None:
        """Load the model.

        Args:
            source: A .onnx file, or its content.
            spec: The model's contract.
            threads: Threads that it may use.
            declared: What the check of the file found, where the caller has checked it.

        Raises:
            ModelFileError: The file may not reach an engine.
            EngineError: The file is not ONNX, is quantized, suppresses boxes in the graph, or has operators that
                cv2.dnn does not know.
        """
        path = source.path if isinstance(source, ModelContent) else source
        if isinstance(path, bytes) or path.suffix.lower() != ".onnx":
            raise EngineError(f"opencv reads .onnx files only, got {label(source)}")
        if declared is None:
            declared = check_model(source)
        content = content_of(source)
        if onnx_summary(path, content).is_quantized:
            raise EngineError(
                f"opencv cannot run the quantized model {path}: take the fp32 file, or the engine onnxruntime"
            )
        if spec.decode.kind == "nms" and spec.decode.suppression == "nms":
            raise EngineError(
                f"opencv cannot run {path}: its graph suppresses boxes, and cv2.dnn ends the process where none is"
                " left; take a file with raw or decoded outputs, or another engine"
            )
        self._spec = spec
        self._names = list(spec.decode.output_names)
        self.output_shapes: dict[str, Shape | None] = {name: declared.outputs.get(name) for name in self._names}
        cv2.setNumThreads(threads)
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(str(path) if content is None else np.frombuffer(content, np.uint8))
        except cv2.error as e:
            raise EngineError(f"opencv {self.version} cannot load {path}: {_reason(e)}") from None

    def infer(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the model; outputs are new arrays."""
        if self._net is None:
            raise EngineError("opencv: the engine is closed; load the model again")
        check_tensor(tensor, self._spec.input)
        try:
            self._net.setInput(tensor, self._spec.input.name)
            outputs = self._net.forward(self._names)
        except cv2.error as e:
            raise EngineError(f"opencv {self.version} failed: {_reason(e)}") from None
        return tuple(np.asarray(a, np.float32) for a in outputs)

    def twin(self) -> OpenCvEngine:
        """Return this engine: its outputs are new arrays each time."""
        return self

    def close(self) -> None:
        """Free the network; closing twice is harmless."""
        self._net = None


def _reason(error: cv2.error) -> str:
    """Return OpenCV's message on one line, without the source location."""
    return " ".join(str(getattr(error, "err", "") or error).split())
