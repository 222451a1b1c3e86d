"""ONNX Runtime on the CPU: the default engine."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet_runtime.engines.head_check import Shape
from edgedet_runtime.engines.model_source import ModelSource, content_of, label
from edgedet_runtime.engines.tensor_check import check_tensor
from edgedet_runtime.errors import EngineError, MissingDependencyError
from edgedet_runtime.model_check import Outline, check_model
from edgedet_runtime.spec import ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["OnnxRuntimeEngine", "onnxruntime_package", "open_session", "session_options"]


def onnxruntime_package() -> Any:
    """Import onnxruntime.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError("onnxruntime", "onnxruntime", "the engine onnxruntime") from None
    return onnxruntime


def session_options(threads: int) -> Any:
    """Return the SessionOptions under which a model is run and measured.

    Worker threads wait actively for the next operator while a frame is computed, and sleep between frames, when a
    device needs its cores elsewhere. Waking them for each operator would cost more than many an operator takes: on two
    cores of an EPYC, YOLOv5n at 640 px takes 1.15 times as long so, YOLOX-nano at 416 px 1.4 to 1.6 times, at like CPU
    time per frame. One thing can go wrong: a scheduler that packs a waking thread onto the core that waits for it, as
    that of the virtual machine did where this was measured, costs a network of 1 ms some milliseconds after a long
    pause (`tests/benchmarks/bench_waiting.py` tells).

    Args:
        threads: Threads within an operator.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def open_session(source: ModelSource, options: Any, *, what: str | None = None, declared: Outline | None = None) -> Any:
    """Open an ``onnxruntime.InferenceSession`` on the CPU: the one place that does.

    Args:
        source: The model.
        options: Its SessionOptions, see `session_options`.
        what: What messages call the model; by default its path.
        declared: What the check of the file found, where the caller has checked it.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        ModelFileError: The file may not reach an engine.
        EngineError: ONNX Runtime refuses the model.
    """
    ort = onnxruntime_package()
    if declared is None:
        check_model(source)
    model = content_of(source) or str(source)
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as e:  # onnxruntime raises its own classes without a common root
        raise EngineError(
            f"onnxruntime {ort.__version__} cannot load {what or label(source)}: {_first_line(e)}"
        ) from None
    session._model_bytes = None  # kept in case of a fallback, which there is not: the model's size once more
    return session


class OnnxRuntimeEngine:
    """Runs a .onnx file in ONNX Runtime.

    Outputs of fixed size are written into arrays that are made once, which spares megabytes of fresh pages
    per frame.
    """

    name = "onnxruntime"
    precision_hint = "f32"

    def __init__(self, source: ModelSource, spec: ModelSpec, threads: int, *, declared: Outline | None = None) -> None:
        """Load the model.

        Args:
            source: A .onnx file, its content, or the bytes of a model.
            spec: The model's contract.
            threads: Threads within an operator.
            declared: What the check of the file found, where the caller has checked it.

        Raises:
            MissingDependencyError: onnxruntime is not installed.
            ModelFileError: The file may not reach an engine.
            EngineError: ONNX Runtime refuses the model.
        """
        self.version: str = onnxruntime_package().__version__
        self._spec = spec
        self._session: Any = open_session(source, session_options(threads), declared=declared)
        self._names = spec.decode.output_names
        known = {o.name: o for o in self._session.get_outputs()}
        missing = [n for n in self._names if n not in known]
        inputs = [i.name for i in self._session.get_inputs()]
        if missing or inputs != [spec.input.name]:
            raise EngineError(
                f"{label(source)}: expected input {spec.input.name} and outputs {', '.join(self._names)}, "
                f"got {', '.join(inputs)} and {', '.join(known)}: the file and its spec do not fit"
            )
        shapes = [known[n].shape for n in self._names]
        self.output_shapes: dict[str, Shape | None] = {
            n: tuple(d if isinstance(d, int) else None for d in shape)
            for n, shape in zip(self._names, shapes, strict=True)
        }
        fixed = all(isinstance(d, int) for shape in shapes for d in shape)
        self._fixed = fixed and all(known[n].type == "tensor(float)" for n in self._names)
        self._make_buffers()

    def _make_buffers(self) -> None:
        """Allocate the outputs, if their sizes are fixed; nothing is bound yet."""
        self._outputs: tuple[npt.NDArray[np.float32], ...] | None = None
        if self._fixed:
            shapes = [self.output_shapes[n] for n in self._names]
            self._outputs = tuple(np.zeros(shape, np.float32) for shape in shapes)  # type: ignore[arg-type]
        self._binding: Any = self._session.io_binding()
        self._bound: npt.NDArray[Any] | None = None

    def twin(self) -> OnnxRuntimeEngine:
        """Return an engine over the same loaded model with buffers of its own."""
        if self._session is None:
            raise EngineError("onnxruntime: the engine is closed; load the model again")
        other = copy(self)
        other._make_buffers()
        return other

    def infer(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the model; outputs of fixed size are buffers of this engine, valid until the next call."""
        if self._session is None:
            raise EngineError("onnxruntime: the engine is closed; load the model again")
        check_tensor(tensor, self._spec.input)
        try:
            if self._outputs is None:
                found = self._session.run(self._names, {self._spec.input.name: tensor})
                return tuple(np.asarray(a, np.float32) for a in found)
            if tensor is not self._bound:
                self._bind(tensor)
            self._session.run_with_iobinding(self._binding)
        except Exception as e:
            raise EngineError(f"onnxruntime {self.version} failed: {_first_line(e)}") from None
        return self._outputs

    def _bind(self, tensor: npt.NDArray[Any]) -> None:
        """Bind the input's and outputs' memory; kept as long as the caller passes the same array."""
        assert self._outputs is not None
        self._binding.clear_binding_inputs()
        self._binding.bind_input(
            self._spec.input.name, "cpu", 0, tensor.dtype.type, list(tensor.shape), tensor.ctypes.data
        )
        if self._bound is None:
            for name, array in zip(self._names, self._outputs, strict=True):
                self._binding.bind_output(name, "cpu", 0, np.float32, list(array.shape), array.ctypes.data)
        self._bound = tensor

    def close(self) -> None:
        """Free the session and the buffers; closing twice is harmless."""
        self._session = self._binding = self._bound = self._outputs = None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
