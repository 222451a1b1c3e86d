"""What a foreign file's input is, and how it becomes one float32 NCHW input of fixed size, batch 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgedet_export.graph.edits import (
    NewTensors,
    free_names,
    prepend,
    remove_dead,
    remove_nodes,
    rename,
    replace_uses,
)
from edgedet_export.graph.values import attribute, constant, dims, elem_type
from edgedet_export.graph.walks import walk_down
from edgedet_export.onnx_passes import OnnxPass, PassRecord, RequirementError
from edgedet_models.layer_list.gray import RGB_TO_GRAY
from edgedet_runtime.errors import ModelFileError

__all__ = ["INPUT_NAME", "FileInput", "NormalizeInput", "has_open_size", "read_input", "scales_pixels"]

INPUT_NAME = "images"
_DTYPES = {ir.DataType.FLOAT: "float32", ir.DataType.FLOAT16: "float16", ir.DataType.UINT8: "uint8"}


@dataclass(frozen=True, slots=True)
class FileInput:
    """The image input as the file has it.

    Attributes:
        name: Its name.
        dtype: float32, float16 or uint8.
        channels_last: NHWC instead of NCHW.
        height: Rows that the graph is frozen to.
        width: Columns that the graph is frozen to.
        gray: It has one channel; the colors are weighted in front of it.
    """

    name: str
    dtype: str
    channels_last: bool
    height: int
    width: int
    gray: bool = False

    def feed(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Turn our input, float32 (1, 3, height, width), into what the untouched file expects."""
        if self.gray:
            images = np.tensordot(np.array([RGB_TO_GRAY], np.float32), images[0], axes=1)[None]
        value = images.transpose(0, 2, 3, 1) if self.channels_last else images
        return {self.name: np.ascontiguousarray(value.astype(self.dtype))}


def read_input(graph: ir.Graph, *, imgsz: tuple[int, int] | None = None) -> FileInput:
    """Find the image input.

    Args:
        graph: The file's graph, untouched.
        imgsz: Height and width for a file that leaves them open; a file that fixes them keeps its own here.

    Raises:
        ModelFileError: There is no such input, it is no 3-channel picture, its batch is fixed above 1, or its size is
            open and `imgsz` is not given.
    """
    found = "; ".join(f"{value.name} {_dims(dims(value))}" for value in graph.inputs) or "none"
    if len(graph.inputs) != 1:
        raise ModelFileError(f"inputs: expected one image (1, 3, H, W), got {found}; export without preprocessing")
    value = graph.inputs[0]
    name, size = value.name or "", dims(value)
    if size is None or len(size) != 4:
        raise ModelFileError(f"input: expected an image (1, 3, H, W), got {found}")
    kind = elem_type(value)
    dtype = None if kind is None else _DTYPES.get(kind)
    if dtype is None:
        got = "an unknown type" if kind is None else kind.name
        raise ModelFileError(f"input {name}: expected float32, float16 or uint8, got {got}")
    channels_last = size[1] not in (1, 3) and size[3] in (1, 3)
    height, width = (size[1], size[2]) if channels_last else (size[2], size[3])
    channels = size[3] if channels_last else size[1]
    if channels not in (1, 3, None):
        raise ModelFileError(
            f"input {name}: expected 3 channels or 1, got {found}; a camera's picture has blue, green and red, and"
            " edgedet takes no depth, infrared or transparency beside them"
        )
    if size[0] not in (1, None):
        raise ModelFileError(f"input {name}: expected batch 1 or an open one, got {size[0]}; export it with batch 1")
    if (height is None or width is None) and imgsz is None:
        raise ModelFileError(f"input {name}: its size is open ({found}); say which with `imgsz`, height and width")
    if imgsz is not None:
        height, width = height or imgsz[0], width or imgsz[1]
    assert height is not None
    assert width is not None, "both are given by the file or by imgsz"
    return FileInput(name, dtype, channels_last, height, width, gray=channels == 1)


def has_open_size(graph: ir.Graph) -> bool:
    """Return whether the file leaves the height or width of its one input open."""
    size = dims(graph.inputs[0]) or ()
    return None in size[1:]


class NormalizeInput(OnnxPass):
    """Make the graph's input `images`, float32 (1, 3, height, width); values keep their meaning."""

    name = "normalize-input"

    def __init__(self, file_input: FileInput) -> None:
        """Take what the input is now, from `read_input`."""
        self._input = file_input

    def requires(self, model: ir.Model) -> None:
        """Refuse a graph whose input is another one, or is uint8 and used by something else than a cast to float."""
        names = [value.name for value in model.graph.inputs]
        if names != [self._input.name]:
            raise RequirementError(f"inputs: expected {self._input.name} alone, got {', '.join(map(str, names))}")
        if self._input.dtype == "uint8":
            _first_casts(model.graph)

    def rewrite(self, model: ir.Model, record: PassRecord) -> None:
        """Rename and rewrite in place."""
        graph = model.graph
        new = NewTensors(graph)
        value = graph.inputs[0]
        if value.name != INPUT_NAME:
            free_names(graph, [INPUT_NAME], new)
            record.change(value, f"renamed {INPUT_NAME}")
            rename(value, INPUT_NAME)
        value.type = ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape([1, 3, self._input.height, self._input.width])
        if self._input.channels_last:
            _transpose(graph, new, value)
            record.change(value, "channels last → channels first")
        if self._input.dtype == "uint8":
            for cast in _first_casts(graph):
                source = cast.inputs[0]
                assert source is not None, "a reader of the input reads something"
                record.change(cast.outputs[0], "Cast of bytes → nothing, as the input is float")
                replace_uses(cast.outputs[0], source)
                remove_nodes(cast.graph or graph, [cast])
        if self._input.gray:
            _weight_colors(graph, new, value)
            record.change(value, "gray → RGB, weighted in front")


def _weight_colors(graph: ir.Graph, new: NewTensors, value: ir.Value) -> None:
    """Put a 1×1 convolution of RGB to gray behind the input."""
    gray = new.value(f"{INPUT_NAME}_gray")
    replace_uses(value, gray)
    shares = new.constant(f"{INPUT_NAME}_shares", np.array(RGB_TO_GRAY, np.float32).reshape(1, 3, 1, 1))
    prepend(graph, [ir.node("Conv", [value, shares], {"kernel_shape": [1, 1]}, outputs=[gray])])


def _transpose(graph: ir.Graph, new: NewTensors, value: ir.Value) -> None:
    """Put a transpose to channels last behind the input, and drop transposes back that directly follow it."""
    last = new.value(f"{INPUT_NAME}_inner")
    replace_uses(value, last)
    prepend(graph, [ir.node("Transpose", [value], {"perm": [0, 2, 3, 1]}, outputs=[last])])
    for node in last.consumers():
        if node.op_type != "Transpose" or attribute(node, "perm") != [0, 3, 1, 2]:
            continue
        if not node.outputs[0].is_graph_output():
            replace_uses(node.outputs[0], value)
            remove_nodes(node.graph or graph, [node])
    remove_dead(graph)


def _first_casts(graph: ir.Graph) -> list[ir.Node]:
    """Return the casts to float behind a uint8 input, looking through transposes."""
    casts: list[ir.Node] = []
    for node in walk_down(graph.inputs, stop=lambda n: n.op_type != "Transpose"):
        if node.op_type == "Cast" and attribute(node, "to") == ir.DataType.FLOAT:
            casts.append(node)
        elif node.op_type != "Transpose":
            raise RequirementError(
                f"input {graph.inputs[0].name}: expected a uint8 input to be cast to float first, got {node.op_type}"
            )
    return casts


def scales_pixels(graph: ir.Graph) -> bool:
    """Return whether the graph itself divides or multiplies the pixels before its first other operation."""
    quiet = ("Transpose", "Cast", "Identity", "Sub", "Add", "Gather", "Mul", "Div")
    return any(
        node.op_type in ("Mul", "Div") and any(_is_factor(value) for value in node.inputs)
        for node in walk_down(graph.inputs, stop=lambda n: n.op_type not in quiet and not _weights_colors(n))
    )


def _weights_colors(node: ir.Node) -> bool:
    weight = constant(node.inputs[1]) if node.op_type == "Conv" else None
    return weight is not None and weight.shape == (1, 3, 1, 1) and np.allclose(weight.reshape(-1), RGB_TO_GRAY)


def _is_factor(value: ir.Value | None) -> bool:
    array = constant(value)
    return array is not None and array.size in (1, 3)


def _dims(size: tuple[int | None, ...] | None) -> str:
    return "of unknown shape" if size is None else "×".join("?" if d is None else str(d) for d in size)
