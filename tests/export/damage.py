"""Damage to written model files, on the disk: what a faulty writer or a faulty disk could do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

__all__ = ["WAYS", "damage_ir", "damage_onnx"]

Array = npt.NDArray[np.generic]

WAYS = ("channels reversed", "a scale doubled", "a zero point moved", "a bias dropped", "two tensors swapped")


class Constants:
    """The constants of a model file that can be read and written by role.

    Attributes:
        weights: Names of convolutions' weights (with an INT8 file, the 8-bit ones), in the order of the graph.
        scales: Of the scales of 8-bit weights.
        zeros: Of zero points (ONNX), or of the lower ends of ranges (IR).
        biases: Of what is added after convolutions.
    """

    def __init__(self) -> None:
        self.weights: list[str] = []
        self.scales: list[str] = []
        self.zeros: list[str] = []
        self.biases: list[str] = []

    def read(self, name: str) -> Array:
        raise NotImplementedError

    def write(self, name: str, values: Array) -> None:
        raise NotImplementedError

    def save(self) -> None:
        raise NotImplementedError


class OnnxConstants(Constants):
    """Initializers of an .onnx file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._model = onnx.load(str(path))
        self._tensors = {t.name: t for t in self._model.graph.initializer}
        made_by = {output: node for node in self._model.graph.node for output in node.output}

        def stored(name: str) -> str:
            """Follow a dequantized constant to what is stored."""
            node = made_by.get(name)
            return node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name

        for node in self._model.graph.node:
            if node.op_type == "Conv":
                self.weights.append(stored(node.input[1]))
                if len(node.input) > 2:
                    self.biases.append(stored(node.input[2]))
                made = made_by.get(node.input[1])
                if made is not None and made.op_type == "DequantizeLinear":
                    self.scales.append(made.input[1])
            if node.op_type == "QuantizeLinear" and len(node.input) > 2:
                self.zeros.append(node.input[2])
        for names in (self.weights, self.scales, self.zeros, self.biases):
            names[:] = [name for name in names if name in self._tensors]

    def read(self, name: str) -> Array:
        return numpy_helper.to_array(self._tensors[name])

    def write(self, name: str, values: Array) -> None:
        self._tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))

    def save(self) -> None:
        onnx.save(self._model, str(self._path))


_IR_TYPES = {"f32": "<f4", "i8": "i1", "u8": "u1", "i64": "<i8", "i32": "<i4", "f16": "<f2"}


class IrConstants(Constants):
    """Constants in the .bin beside an IR's .xml."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._bin = path.with_suffix(".bin")
        self._data = bytearray(self._bin.read_bytes())
        root = ElementTree.parse(path).getroot()
        self._layers = {layer.get("id", ""): layer for layer in root.iter("layer")}
        self._from = {(e.get("to-layer", ""), e.get("to-port", "")): e.get("from-layer", "") for e in root.iter("edge")}
        for number, layer in self._layers.items():
            if layer.get("type") in ("Convolution", "GroupConvolution"):
                self._convolution(number)
            if layer.get("type") == "FakeQuantize":
                self.zeros.append(self._from[(number, "1")])
        for number, layer in self._layers.items():
            if layer.get("type") == "Add":
                sides = [self._from.get((number, port), "") for port in ("0", "1")]
                if self._layers[sides[0]].get("type") in ("Convolution", "GroupConvolution"):
                    self.biases.append(self._constant(sides[1]))

    def _constant(self, source: str) -> str:
        """Follow conversions and reshapes to the constant behind them."""
        while self._layers[source].get("type") != "Const":
            source = self._from[(source, "0")]
        return source

    def _convolution(self, number: str) -> None:
        source = self._from[(number, "1")]
        while self._layers[source].get("type") != "Const":
            if self._layers[source].get("type") == "Multiply":
                self.scales.append(self._constant(self._from[(source, "1")]))
            source = self._from[(source, "0")]
        self.weights.append(source)

    def _place(self, name: str) -> tuple[int, str, tuple[int, ...]]:
        data = self._layers[name].find("data")
        assert data is not None
        shape = tuple(int(n) for n in data.get("shape", "").split(",") if n.strip())
        return int(data.get("offset", "0")), _IR_TYPES[data.get("element_type", "")], shape

    def read(self, name: str) -> Array:
        offset, kind, shape = self._place(name)
        return np.frombuffer(bytes(self._data), kind, int(np.prod(shape, dtype=int)), offset).reshape(shape)

    def write(self, name: str, values: Array) -> None:
        offset, kind, _ = self._place(name)
        raw = np.ascontiguousarray(values).astype(kind).tobytes()
        self._data[offset : offset + len(raw)] = raw

    def save(self) -> None:
        self._bin.write_bytes(self._data)


def _reverse_channels(file: Constants) -> None:
    name = file.weights[1]
    file.write(name, file.read(name)[::-1])


def _double_a_scale(file: Constants) -> None:
    name = (file.scales or file.weights)[1]
    file.write(name, file.read(name) * np.float32(2))


def _move_a_zero_point(file: Constants) -> None:
    """Move it far enough that values leave the range; in an FP32 file, add a tenth to a bias instead."""
    if not file.zeros:
        name = file.biases[1]
        file.write(name, file.read(name) + np.float32(0.1))
        return
    name = file.zeros[1]
    value = file.read(name)
    if value.dtype == np.float32:
        file.write(name, value - np.float32(0.3))
    else:
        file.write(name, value + value.dtype.type(100 if int(value) < 100 else -100))


def _drop_a_bias(file: Constants) -> None:
    name = file.biases[1]
    file.write(name, np.zeros_like(file.read(name)))


def _swap_two(file: Constants) -> None:
    shapes = [(file.read(name).shape, name) for name in file.weights]
    a, b = next((n, m) for i, (s, n) in enumerate(shapes) for t, m in shapes[i + 1 :] if s == t and n != m)
    first, second = file.read(a).copy(), file.read(b).copy()
    file.write(a, second)
    file.write(b, first)


_WAYS: dict[str, Callable[[Constants], None]] = {
    "channels reversed": _reverse_channels,
    "a scale doubled": _double_a_scale,
    "a zero point moved": _move_a_zero_point,
    "a bias dropped": _drop_a_bias,
    "two tensors swapped": _swap_two,
}


def damage_onnx(path: Path, way: str) -> None:
    """Damage an .onnx file in one of `WAYS`."""
    file = OnnxConstants(path)
    _WAYS[way](file)
    file.save()


def damage_ir(path: Path, way: str) -> None:
    """Damage an IR's weights in one of `WAYS`."""
    file = IrConstants(path)
    _WAYS[way](file)
    file.save()
