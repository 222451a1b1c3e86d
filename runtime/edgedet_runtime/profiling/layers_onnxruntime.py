"""Per-layer profile of onnxruntime, from its own JSON trace.

The trace holds one event per executed node, with the types and shapes of its inputs and outputs. Two things
are missing from it. Packed weights: their shapes come from the optimised graph, which the session writes
beside the trace. And the truth about channels: the blocked layout pads them to the vector width, so the
weights of a blocked convolution (named after its output, with ``_nchwc`` behind) are looked up in the file
as it was given.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgedet_runtime.engines.model_source import ModelSource, label
from edgedet_runtime.engines.onnxruntime_engine import open_session, session_options
from edgedet_runtime.errors import EngineError
from edgedet_runtime.profiling.layers import Layer, convolution_macs
from edgedet_runtime.profiling.onnx_listing import ListedNode, OnnxListing, read_listing

__all__ = ["profile_layers"]

_SUFFIX = "_kernel_time"
_BLOCKED = "_nchwc"
_INT8 = ("int8", "uint8")
_BYTES = {
    "float": 4,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "double": 8,
    "bool": 1,
    "int8": 1,
    "uint8": 1,
}
_NAMES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64"}

TypedShape = Mapping[str, Sequence[int]]


def profile_layers(source: ModelSource, tensor: npt.NDArray[Any], *, threads: int, runs: int) -> tuple[Layer, ...]:
    """Profile a model file; see `edgedet_runtime.profiling.layers.profile_layers`."""
    with tempfile.TemporaryDirectory(prefix="edgedet-") as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        session = open_session(source, options)
        try:
            name = session.get_inputs()[0].name
            for _ in range(runs + runs // 4):
                session.run(None, {name: tensor})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        except Exception as e:
            raise EngineError(f"{label(source)}: onnxruntime cannot profile it: {str(e).splitlines()[0]}") from None
        optimised = read_listing(Path(folder) / "optimised.onnx")
    return _layers(events, optimised, read_listing(source), runs)


def _layers(
    events: Sequence[Mapping[str, Any]], optimised: OnnxListing, original: OnnxListing, runs: int
) -> tuple[Layer, ...]:
    nodes = {node.name: node for node in optimised.nodes}
    producers = {name: node for node in original.nodes for name in node.outputs}
    durations: dict[str, list[float]] = {}
    arguments: dict[str, Mapping[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith(_SUFFIX):
            key = str(event["name"])[: -len(_SUFFIX)] + "\0" + str(event["args"].get("node_index", ""))
            durations.setdefault(key, []).append(float(event["dur"]) / 1e3)
            arguments[key] = event["args"]
    layers = []
    for key, args in arguments.items():
        name = key.partition("\0")[0]
        weights = _weights(nodes.get(name), optimised)
        if weights is not None and name.endswith(_BLOCKED):
            weights = _unpadded(producers, original, name[: -len(_BLOCKED)], weights)
        layers.append(
            Layer(
                name=name,
                kind=str(args["op_name"]),
                precision=_precision(args),
                time_ms=statistics.median(durations[key][-runs:]),
                macs=_macs(args, weights),
                bytes=_moved(args, weights),
            )
        )
    return tuple(layers)


def _weights(node: ListedNode | None, graph: OnnxListing) -> tuple[int, ...] | None:
    """Return the shape of the largest initializer that the node reads."""
    if node is None:
        return None
    shapes = [graph.weight_shapes[name] for name in node.inputs if name in graph.weight_shapes]
    return max(shapes, key=math.prod, default=None)


def _unpadded(
    producers: Mapping[str, ListedNode], original: OnnxListing, output: str, padded: tuple[int, ...]
) -> tuple[int, ...]:
    """Find the weights of the convolution that a blocked one was made from.

    Its output may be that of an activation or addition that was fused into it, so the search goes back a few
    nodes from there; the kernel must be the same, and the channels no more than the padded ones.
    """
    tensors = [output]
    for _ in range(4):
        nodes = [producers[name] for name in tensors if name in producers]
        for node in nodes:
            shape = _weights(node, original) if node.op_type == "Conv" else None
            if shape is not None and shape[2:] == padded[2:] and shape[0] <= padded[0]:
                return shape
        tensors = [name for node in nodes if node.op_type != "Conv" for name in node.inputs]
    return padded


def _shapes(args: Mapping[str, Any], side: str) -> list[tuple[str, Sequence[int]]]:
    typed: Sequence[TypedShape] = args.get(f"{side}_type_shape", [])
    return [(kind, shape) for entry in typed for kind, shape in entry.items()]


def _precision(args: Mapping[str, Any]) -> str:
    """Name what the kernel computes in: INT8 where its first non-scalar input is 8 bits wide, else that
    input's type.

    Quantise and dequantise nodes count as what they read.
    """
    data = next((kind for kind, shape in _shapes(args, "input") if len(shape) > 0), "")
    return "int8" if data in _INT8 else _NAMES.get(data, data or "none")


def _macs(args: Mapping[str, Any], weights: tuple[int, ...] | None) -> int:
    operation, output = str(args["op_name"]), next(iter(_shapes(args, "output")), ("", ()))[1]
    large = [shape for _, shape in _shapes(args, "input") if len(shape) > 1]
    if weights is None or len(weights) < 3:  # computed in the graph, such as by a DequantizeLinear
        weights = tuple(large[1]) if len(large) > 1 else None
    if weights is not None and large and "ConvTranspose" in operation:
        return convolution_macs(large[0], weights)
    if weights is not None and "Conv" in operation:
        if output[-1] != weights[0]:  # channels first, and perhaps padded
            output = [output[0], min(output[1], weights[0]), *output[2:]]
        return convolution_macs(output, weights)
    if "MatMul" in operation or "Gemm" in operation:
        return math.prod(output) * large[0][-1] if large else 0
    return 0


def _moved(args: Mapping[str, Any], weights: tuple[int, ...] | None) -> int:
    shapes = _shapes(args, "input") + _shapes(args, "output")
    moved = sum(math.prod(shape) * _BYTES.get(kind, 4) for kind, shape in shapes)
    seen = any(tuple(shape) == weights for _, shape in shapes)
    if weights is not None and not seen and _macs(args, weights):
        moved += math.prod(weights) * (1 if _precision(args) == "int8" else 4)
    return moved
