"""What a foreign file's input is, and how it becomes one float32 NCHW input of fixed size, batch 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgedet_export.onnx_graph import OnnxGraph, attribute
from edgedet_runtime.errors import ModelFileError

__all__ = ["INPUT_NAME", "FileInput", "normalise_input", "read_input", "scales_pixels"]

INPUT_NAME = "images"
_DTYPES: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.UINT8: "uint8"}


@dataclass(frozen=True, slots=True)
class FileInput:
    """The image input as the file has it.

    Attributes:
        name: Its name.
        dtype: float32, float16 or uint8.
        channels_last: NHWC instead of NCHW.
        height: Rows that the graph is frozen to.
        width: Columns that the graph is frozen to.
    """

    name: str
    dtype: str
    channels_last: bool
    height: int
    width: int

    def feed(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Turn our input, float32 (1, 3, height, width), into what the untouched file expects."""
        value = images.transpose(0, 2, 3, 1) if self.channels_last else images
        return {self.name: np.ascontiguousarray(value.astype(self.dtype))}


def read_input(graph: OnnxGraph, *, imgsz: tuple[int, int] | None = None) -> FileInput:
    """Find the image input.

    Args:
        graph: The file's graph, untouched.
        imgsz: Height and width for a file that leaves them open; a file that fixes them keeps its own here.

    Raises:
        ModelFileError: There is no such input, it is no 3-channel picture, its batch is fixed above 1, or its size is
            open and `imgsz` is not given.
    """
    found = "; ".join(f"{name} {_dims(graph.shape(name))}" for name in graph.inputs) or "none"
    if len(graph.inputs) != 1:
        raise ModelFileError(f"inputs: expected one image (1, 3, H, W), got {found}; export without preprocessing")
    name, info = next(iter(graph.inputs.items()))
    dims = graph.shape(name)
    if dims is None or len(dims) != 4:
        raise ModelFileError(f"input: expected an image (1, 3, H, W), got {found}")
    dtype = _DTYPES.get(info.type.tensor_type.elem_type)
    if dtype is None:
        got = TensorProto.DataType.Name(info.type.tensor_type.elem_type)
        raise ModelFileError(f"input {name}: expected float32, float16 or uint8, got {got}")
    channels_last = dims[1] != 3 and dims[3] == 3
    height, width = (dims[1], dims[2]) if channels_last else (dims[2], dims[3])
    if (dims[3] if channels_last else dims[1]) not in (3, None):
        raise ModelFileError(f"input {name}: expected 3 channels, got {found}")
    if dims[0] not in (1, None):
        raise ModelFileError(f"input {name}: expected batch 1 or an open one, got {dims[0]}; export it with batch 1")
    if (height is None or width is None) and imgsz is None:
        raise ModelFileError(f"input {name}: its size is open ({found}); say which with --imgsz H W")
    if imgsz is not None:
        height, width = height or imgsz[0], width or imgsz[1]
    assert height is not None
    assert width is not None, "both are given by the file or by imgsz"
    return FileInput(name, dtype, channels_last, height, width)


def normalise_input(graph: OnnxGraph, file_input: FileInput) -> None:
    """Make the graph's input `images`, float32 (1, 3, height, width), in place; values keep their meaning.

    Raises:
        ModelFileError: A uint8 input is used by something else than a cast to float.
    """
    name, h, w = file_input.name, file_input.height, file_input.width
    if name != INPUT_NAME:
        if graph.unique_name(INPUT_NAME) != INPUT_NAME:
            graph.rename(INPUT_NAME, graph.unique_name(f"inner_{INPUT_NAME}"))
        graph.rename(name, INPUT_NAME)
    graph.inputs = {INPUT_NAME: helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, 3, h, w])}
    if file_input.channels_last:
        graph.wrap_input(INPUT_NAME, lambda new: helper.make_node("Transpose", [INPUT_NAME], [new], perm=[0, 2, 3, 1]))
        _cancel_transposes(graph)
    if file_input.dtype == "uint8":
        casts = _first_casts(graph)
        for cast in casts:
            graph.replace_uses(cast.output[0], cast.input[0])
        graph.remove_nodes(casts)


def _first_casts(graph: OnnxGraph) -> list[onnx.NodeProto]:
    """Return the casts to float behind a uint8 input, looking through transposes."""
    casts: list[onnx.NodeProto] = []
    for node in graph.walk_down([INPUT_NAME], stop=lambda n: n.op_type != "Transpose"):
        if node.op_type == "Cast" and attribute(node, "to") == TensorProto.FLOAT:
            casts.append(node)
        elif node.op_type != "Transpose":
            raise ModelFileError(
                f"input {INPUT_NAME}: expected a uint8 input to be cast to float first, got {node.op_type}"
            )
    return casts


def _cancel_transposes(graph: OnnxGraph) -> None:
    """Drop NHWC → NCHW transposes that directly follow our NCHW → NHWC one."""
    first = graph.consumers(INPUT_NAME)[0]
    for node in graph.consumers(first.output[0]):
        if node.op_type == "Transpose" and attribute(node, "perm") == [0, 3, 1, 2]:
            graph.replace_uses(node.output[0], INPUT_NAME)
            graph.remove_nodes([node])
    graph.remove_dead()


def scales_pixels(graph: OnnxGraph) -> bool:
    """Tell whether the graph itself divides or multiplies the pixels before its first other operation."""
    quiet = ("Transpose", "Cast", "Identity", "Sub", "Add", "Gather", "Mul", "Div")
    return any(
        node.op_type in ("Mul", "Div") and any(_is_factor(graph, name) for name in node.input)
        for node in graph.walk_down([INPUT_NAME], stop=lambda n: n.op_type not in quiet)
    )


def _is_factor(graph: OnnxGraph, tensor: str) -> bool:
    value = graph.constant(tensor)
    return value is not None and value.size in (1, 3)


def _dims(dims: tuple[int | None, ...] | None) -> str:
    return "of unknown shape" if dims is None else "×".join("?" if d is None else str(d) for d in dims)
