"""OpenVINO on the CPU, its inference precision pinned to float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedet_runtime.engines.compiled_cache import cache_folder, cache_key, read_entry, write_entry
from edgedet_runtime.engines.head_check import Shape
from edgedet_runtime.engines.model_source import ModelContent, ModelSource, content_of, label
from edgedet_runtime.engines.openvino_package import openvino_package
from edgedet_runtime.engines.tensor_check import check_tensor
from edgedet_runtime.errors import EngineError
from edgedet_runtime.model_check import Outline, check_model
from edgedet_runtime.spec import ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

_LOGGER = logging.getLogger(__name__)

__all__ = ["OpenVinoEngine", "compile_on_cpu", "cpu_settings"]


def cpu_settings(threads: int) -> dict[str, Any]:
    """Return the settings under which every OpenVINO model runs here.

    One stream; what is float is computed in float32, since newer Xeons would take bf16 and ARM fp16, and results would
    differ from machine to machine. No pinning: OpenVINO would bind each model's threads to cores counted from the
    first, so that two detectors of one thread, in a process or in two, share one core while the others idle.
    """
    return {
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
    }


_FIRST_USE = Lock()


def _build_type_tables(ov: Any) -> None:
    """Let OpenVINO's bindings build their tables of element types, in one thread at a time.

    They do so when first asked, in a static initialiser that may let go of Python's lock on its way. Where a second
    thread asks meanwhile, it waits for the table and keeps Python's lock, for which the first one waits: for ever
    (seen with 2026.4, when the first pictures of two detectors met).
    """
    with _FIRST_USE:
        ov.Tensor(np.zeros(1, np.float32), shared_memory=True).data.dtype  # noqa: B018


def compile_on_cpu(
    source: ModelSource,
    threads: int,
    *,
    what: str | None = None,
    profiled: bool = False,
    also: Sequence[str] = (),
    declared: Outline | None = None,
    cached: bool = False,
) -> Any:
    """Compile a model for the CPU under `cpu_settings`, an ``openvino.CompiledModel``: the one place that does.

    Args:
        source: The model.
        threads: Threads that it may use.
        what: What messages call the model; by default its path.
        profiled: Count the time of each layer.
        also: Tensors within the graph to give out beside its outputs.
        declared: What the check of the file found, where the caller has checked it.
        cached: Take up what an earlier process compiled, and keep what this one does, see `compiled_cache`: for an IR
            without `profiled` and `also`.

    Raises:
        MissingDependencyError: openvino is not installed.
        ModelFileError: The file may not reach an engine.
        EngineError: OpenVINO refuses the model.
    """
    if declared is None:
        check_model(source)
    ov = openvino_package("the engine openvino")
    _build_type_tables(ov)
    settings = {**cpu_settings(threads), **({"PERF_COUNT": True} if profiled else {})}
    try:
        core = ov.Core()
        folder = cache_folder() if cached and not profiled and not also else None
        whole = None if folder is None else _ir_content(source)
        if folder is not None and whole is not None:
            return _compile_once(core, whole, folder, settings, ov.__version__)
        content = content_of(source)
        weights = (source.weights if isinstance(source, ModelContent) else None) or b""
        model = core.read_model(str(source)) if content is None else core.read_model(content, weights)
        given = {name for output in model.outputs for name in output.get_names()}
        inner = [name for name in also if name not in given]
        if inner:
            model.add_outputs(inner)
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as e:
        version = ov.__version__.partition("-")[0]
        raise EngineError(f"openvino {version} cannot load {what or label(source)}: {_last_line(e)}") from None


def _ir_content(source: ModelSource) -> ModelContent | None:
    """Return the content of an .xml file and the .bin file beside it; None for any other source."""
    if isinstance(source, bytes) or (source if isinstance(source, Path) else source.path).suffix.lower() != ".xml":
        return None
    if isinstance(source, ModelContent):
        return source
    weights = source.with_suffix(".bin")
    try:
        return ModelContent(source, source.read_bytes(), weights.read_bytes() if weights.is_file() else None)
    except OSError:
        return None  # OpenVINO says what is wrong


def _compile_once(core: Any, content: ModelContent, folder: Path, settings: dict[str, Any], version: str) -> Any:
    """Take up a compiled model, or compile it, from the very content that its name is made of, and keep it."""
    key = cache_key(content.model, content.weights, version, settings)
    blob = read_entry(folder, key)
    if blob is not None:
        try:
            return core.import_model(blob, "CPU", settings)
        except RuntimeError as e:
            _LOGGER.warning("%s: compiling %s again: %s", folder, content.path, _last_line(e))
    compiled = core.compile_model(core.read_model(content.model, content.weights or b""), "CPU", settings)
    write_entry(folder, key, compiled.export_model().getvalue())
    return compiled


class OpenVinoEngine:
    """Runs an OpenVINO IR (.xml with its .bin) or a .onnx file in OpenVINO.

    Left alone, OpenVINO computes in bfloat16 on newer Xeons and in float16 on ARM; here what the file leaves
    in float runs in float32, so that results are those that were verified. INT8 parts of the file run in INT8.

    Attributes:
        compiled: The ``openvino.CompiledModel``; its runtime model tells what is executed in which precision.
    """

    name = "openvino"

    def __init__(
        self,
        source: ModelSource,
        spec: ModelSpec,
        threads: int,
        *,
        inner: bool = False,
        declared: Outline | None = None,
        cached: bool = False,
    ) -> None:
        """Load and compile the model.

        Args:
            source: A .xml file with its .bin, a .onnx file, the content of either, or the bytes of an ONNX model.
            spec: The model's contract.
            threads: Threads that it may use.
            inner: The outputs of `spec` may be tensors within the graph.
            declared: What the check of the file found, where the caller has checked it.
            cached: Take up what an earlier process compiled, and keep what this one does, see `compiled_cache`.

        Raises:
            MissingDependencyError: openvino is not installed.
            ModelFileError: The file may not reach an engine.
            EngineError: OpenVINO refuses the model, or does not hold the precision.
        """
        ov = openvino_package("the engine openvino")
        self.version: str = ov.__version__.partition("-")[0]
        self._spec = spec
        self._ov = ov
        also = spec.decode.output_names if inner else ()
        self.compiled: Any = compile_on_cpu(source, threads, also=also, declared=declared, cached=cached)
        try:
            self._request: Any = self.compiled.create_infer_request()
            precision = self.compiled.get_property("INFERENCE_PRECISION_HINT")
        except RuntimeError as e:
            raise EngineError(f"openvino {self.version} cannot load {label(source)}: {_last_line(e)}") from None
        self.precision_hint: str = precision.get_type_name()
        if self.precision_hint != "f32":
            raise EngineError(f"openvino {self.version}: expected to compute in f32, would use {self.precision_hint}")
        try:
            self.compiled.input(spec.input.name)
            ports = [self.compiled.output(name) for name in spec.decode.output_names]
        except RuntimeError:
            raise EngineError(
                f"{label(source)}: expected input {spec.input.name} and outputs "
                f"{', '.join(spec.decode.output_names)}: the file and its spec do not fit"
            ) from None
        self.output_shapes: dict[str, Shape | None] = {
            name: _shape(port) for name, port in zip(spec.decode.output_names, ports, strict=True)
        }
        self._fixed = all(port.partial_shape.is_static for port in ports)
        self._ports = ports
        self._bound: npt.NDArray[Any] | None = None
        self._outputs: tuple[npt.NDArray[np.float32], ...] | None = None

    def infer(self, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], ...]:
        """Run the model; outputs are OpenVINO's buffers, valid until the next call."""
        if self._request is None:
            raise EngineError("openvino: the engine is closed; load the model again")
        check_tensor(tensor, self._spec.input)
        try:
            if tensor is not self._bound:
                self._request.set_tensor(self._spec.input.name, self._ov.Tensor(tensor, shared_memory=True))
                self._bound = tensor
            self._request.infer()
            if self._outputs is None or not self._fixed:
                self._outputs = tuple(self._request.get_tensor(port).data for port in self._ports)
        except RuntimeError as e:
            raise EngineError(f"openvino {self.version} failed: {_last_line(e)}") from None
        return self._outputs

    def twin(self) -> OpenVinoEngine:
        """Return an engine over the same compiled model with a request, and so buffers, of its own."""
        if self._request is None:
            raise EngineError("openvino: the engine is closed; load the model again")
        other = copy(self)
        other._request, other._bound, other._outputs = self.compiled.create_infer_request(), None, None
        return other

    def close(self) -> None:
        """Free the compiled model; closing twice is harmless."""
        self._request = self.compiled = self._bound = self._outputs = None
        self._ports = []


def _shape(port: Any) -> Shape | None:
    """Return the shape of an output, None where even its rank is open."""
    shape = port.partial_shape
    return None if shape.rank.is_dynamic else tuple(d.get_length() if d.is_static else None for d in shape)


def _last_line(error: Exception) -> str:
    """Return the sentence of an OpenVINO error that says what is wrong: the last, after source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
