"""One dense convolution as an ONNX file, in float32 or INT8, written without the onnx package.

An engine's peak is measured with a layer that an engine is good at: a convolution with many channels, whose weights
and activations are used often. In INT8 it stands as QuantizeLinear and DequantizeLinear around the float operation,
which both engines turn into an integer kernel where the CPU has one; which signedness of the activations is the fast
one depends on the CPU (x86 multiplies unsigned by signed bytes, ARM takes equal signs).

ONNX is a Protocol Buffers message; the wire format is described in `edgedet_runtime.onnx_file`, the field numbers are
those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Activations", "ProbeShape", "write_convolution"]

Activations = Literal["float32", "uint8", "int8"]

_IR_VERSION, _OPSET = 8, 13
_VARINT, _BYTES = 0, 2
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_OPSET, _OPSET_VERSION = 1, 7, 8, 2
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OP_TYPE, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE, _TYPE_INTS = 1, 8, 20, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_INFO_NAME, _INFO_TYPE, _TYPE_TENSOR, _ELEMENT_TYPE, _SHAPE, _DIM, _DIM_VALUE = 1, 2, 1, 1, 2, 1, 1
_ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3}


@dataclass(frozen=True, slots=True)
class ProbeShape:
    """A convolution from `channels` to `channels` with a square kernel, stride 1, output as large as the input.

    Attributes:
        channels: Of the input and of the output.
        kernel: Its height and width, odd.
        size_hw: Rows and columns.
    """

    channels: int
    kernel: int
    size_hw: tuple[int, int]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of the float32 input and output, NCHW."""
        return 1, self.channels, *self.size_hw

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.channels**2 * self.kernel**2 * self.size_hw[0] * self.size_hw[1]


def write_convolution(path: Path, shape: ProbeShape, activations: Activations) -> Path:
    """Write the convolution; its input is ``x``, float32, 0..1, whatever the activations.

    Weights are random in -0.5..0.5, in a file with ``uint8`` or ``int8`` activations per-tensor symmetric int8. Of the
    output, whose values are sums of as many random products as a kernel has weights, four deviations fit in there.
    """
    levels = np.random.default_rng(0).integers(-64, 64, (shape.channels, shape.channels, shape.kernel, shape.kernel))
    scale_w = np.float32(1 / 128)
    padding = _attribute("pads", [shape.kernel // 2] * 4)
    if activations != "float32":
        highest = np.iinfo(activations).max
        deviation = (shape.channels * shape.kernel**2) ** 0.5 / 6  # of a weight times an input: sqrt(1/12 * 1/3) = 1/6
        weights: dict[str, npt.NDArray[Any]] = {
            "w": levels.astype(np.int8),
            "scale_w": np.asarray(scale_w),
            "scale_x": np.asarray(1 / highest, np.float32),
            "scale_y": np.asarray(4 * deviation / highest, np.float32),
            "zero_w": np.asarray(0, np.int8),
            "zero": np.asarray(0, activations),
        }
        nodes = [
            _node("QuantizeLinear", ["x", "scale_x", "zero"], "x_levels"),
            _node("DequantizeLinear", ["x_levels", "scale_x", "zero"], "x_float"),
            _node("DequantizeLinear", ["w", "scale_w", "zero_w"], "w_float"),
            _node("Conv", ["x_float", "w_float"], "sums", padding),
            _node("QuantizeLinear", ["sums", "scale_y", "zero"], "y_levels"),
            _node("DequantizeLinear", ["y_levels", "scale_y", "zero"], "y"),
        ]
    else:
        weights = {"w": levels.astype(np.float32) * scale_w}
        nodes = [_node("Conv", ["x", "w"], "y", padding)]
    graph = [_field(_GRAPH_NODE, node) for node in nodes]
    graph += [_field(_GRAPH_NAME, b"probe")]
    graph += [_field(_GRAPH_INITIALIZER, _tensor(name, array)) for name, array in weights.items()]
    graph += [
        _field(_GRAPH_INPUT, _value("x", shape.input_shape)),
        _field(_GRAPH_OUTPUT, _value("y", shape.input_shape)),
    ]
    model = [
        _field(_MODEL_IR_VERSION, _IR_VERSION),
        _field(_MODEL_OPSET, _field(_OPSET_VERSION, _OPSET)),
        _field(_MODEL_GRAPH, b"".join(graph)),
    ]
    path.write_bytes(b"".join(model))
    return path


def _node(op_type: str, inputs: Sequence[str], output: str, attribute: bytes = b"") -> bytes:
    parts = [_field(_NODE_INPUT, name.encode()) for name in inputs]
    parts += [_field(_NODE_OUTPUT, output.encode()), _field(_NODE_NAME, output.encode())]
    parts += [_field(_NODE_OP_TYPE, op_type.encode())]
    parts += [_field(_NODE_ATTRIBUTE, attribute)] if attribute else []
    return b"".join(parts)


def _attribute(name: str, values: Sequence[int]) -> bytes:
    numbers = b"".join(_field(_ATTRIBUTE_INTS, value) for value in values)
    return _field(_ATTRIBUTE_NAME, name.encode()) + numbers + _field(_ATTRIBUTE_TYPE, _TYPE_INTS)


def _tensor(name: str, array: npt.NDArray[Any]) -> bytes:
    """Return a constant; raw data is little-endian whatever the machine."""
    dims = b"".join(_field(_TENSOR_DIMS, size) for size in array.shape)
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    kind = _field(_TENSOR_TYPE, _ELEMENTS[array.dtype.name])
    return dims + kind + _field(_TENSOR_NAME, name.encode()) + _field(_TENSOR_RAW, little)


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_field(_DIM, _field(_DIM_VALUE, size)) for size in shape)
    tensor = _field(_ELEMENT_TYPE, _ELEMENTS["float32"]) + _field(_SHAPE, dims)
    return _field(_INFO_NAME, name.encode()) + _field(_INFO_TYPE, _field(_TYPE_TENSOR, tensor))


def _field(number: int, payload: int | bytes) -> bytes:
    if isinstance(payload, int):
        return _varint(number << 3 | _VARINT) + _varint(payload)
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
