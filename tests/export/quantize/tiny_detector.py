"""A small seeded detector as ONNX, with everything that the placements meet: SiLU, depthwise, concat, resize, pool."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec

SIZE = 64


class Builder:
    """Collects nodes and seeded weights."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: object) -> str:
        node = helper.make_node(op_type, inputs, [output], name=f"node_{output}")
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        return output

    def conv(
        self, x: str, channels: tuple[int, int], name: str, *, k: int = 3, stride: int = 1, groups: int = 1
    ) -> str:
        inputs, outputs = channels
        fan = inputs // groups * k * k
        weight = self.rng.normal(0, 1.6 / np.sqrt(fan), (outputs, inputs // groups, k, k)).astype(np.float32)
        bias = self.rng.normal(0, 0.1, outputs).astype(np.float32)
        parts = [x, self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)]
        return self.node(
            "Conv", parts, name, kernel_shape=[k, k], pads=[k // 2] * 4, strides=[stride] * 2, group=groups
        )

    def scale(self, name: str, factor: float) -> None:
        tensor = next(t for t in self.weights if t.name == name)
        array = numpy_helper.to_array(tensor) * np.float32(factor)
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    def silu(self, x: str) -> str:
        return self.node("Mul", [x, self.node("Sigmoid", [x], f"{x}_sigmoid")], f"{x}_silu")


def tiny_detector(classes: int = 3, *, activation: str = "silu", seed: int = 0) -> tuple[onnx.ModelProto, ModelSpec]:
    """Return an FP32 model with a uint8 NHWC input and raw heads at stride 8, and its spec.

    Args:
        classes: Number of classes; with one class there is no scores output.
        activation: ``silu``, or an operator such as ``Relu``.
        seed: Of the weights.
    """
    b = Builder(seed)

    def act(x: str) -> str:
        return b.silu(x) if activation == "silu" else b.node(activation, [x], f"{x}_act")

    x = b.node("Transpose", ["images"], "images_u8", perm=[0, 3, 1, 2])
    x = b.node("Cast", [x], "images_f", to=TensorProto.FLOAT)
    x = b.node("Mul", [x, b.constant("scale", np.float32(1 / 64))], "images_scaled") if activation == "Relu" else x
    x = act(b.conv(x, (3, 16), "stem", stride=2))
    if activation != "Relu":
        b.scale("stem_w", 1 / 64)  # reads bytes as they are
    x = act(b.conv(x, (16, 16), "depthwise", stride=2, groups=16))
    p4 = act(b.conv(x, (16, 16), "pointwise", k=1))
    p8 = act(b.conv(p4, (16, 16), "down", stride=2))
    pooled = b.node("MaxPool", [p8], "pooled", kernel_shape=[3, 3], pads=[1] * 4)
    side = b.node("Add", [act(b.conv(pooled, (16, 16), "residual")), p8], "sum")
    scales = b.constant("resize_scales", np.array([1, 1, 2, 2], np.float32))
    up = b.node("Resize", [side, "", scales], "up", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    joined = b.node("Concat", [up, p4], "joined", axis=1)
    y = act(b.conv(joined, (32, 16), "merge", stride=2))
    heads = {"boxes": 4, "objectness": 1, **({"scores": classes} if classes > 1 else {})}
    for name, channels in heads.items():
        b.conv(y, (16, channels), name, k=1)
        b.scale(f"{name}_w", 0.3 if name == "boxes" else 4.0)  # boxes of a size, scores from 0 to 1
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, c, SIZE // 8, SIZE // 8])
        for name, c in heads.items()
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [1, SIZE, SIZE, 3])
    graph = helper.make_graph(b.nodes, "tiny", [images], outputs, b.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    level = LevelSpec(8, "boxes", "scores" if classes > 1 else None, "objectness")
    spec = ModelSpec(
        family="custom",
        variant="tiny",
        input=InputSpec("images", SIZE, SIZE),
        resize=ResizeSpec(),
        decode=DecodeSpec("points-exp", (level,), score="obj*cls" if classes > 1 else "obj"),
        classes=tuple(f"class{i}" for i in range(classes)),
    )
    return model, spec


def pictures(count: int, seed: int = 1) -> list[npt.NDArray[np.uint8]]:
    """Return seeded pictures with coarse structure, uint8 BGR."""
    rng = np.random.default_rng(seed)
    return [
        np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((6, 6, 1))).astype(np.uint8)[: SIZE + i, :]
        for i in range(count)
    ]
