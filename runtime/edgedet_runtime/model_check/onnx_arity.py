"""How many inputs the common operators of ONNX take: least and most, whatever the operator set's version.

An engine that reads an input which is not there reads somewhere else: a ``Conv`` without weights ends OpenVINO 2026.4
with a segmentation fault. From the operators' documentation, https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

__all__ = ["ARITIES"]

_ONE = "Abs Ceil Cos Elu Erf Exp Flatten Floor GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity"
_ONE_TOO = "LeakyRelu Log LogSoftmax Mish Neg Reciprocal Relu Round Selu Shape Sigmoid Sign Sin Size Softmax Softplus"
_ONE_MORE = "Softsign SpaceToDepth DepthToSpace Sqrt Tanh Transpose Cast MaxPool AveragePool ArgMax ArgMin"
_TWO = "Add Sub Mul Div Pow MatMul PRelu Gather GatherElements GatherND Equal Greater Less And Or Expand"

ARITIES: dict[str, tuple[int, int]] = {
    **dict.fromkeys(f"{_ONE} {_ONE_TOO} {_ONE_MORE}".split(), (1, 1)),
    **dict.fromkeys(_TWO.split(), (2, 2)),
    **dict.fromkeys(("Max", "Min", "Concat", "Sum"), (1, 1 << 16)),
    "Constant": (0, 0),
    "Conv": (2, 3),
    "ConvTranspose": (2, 3),
    "ConvInteger": (2, 4),
    "QLinearConv": (8, 9),
    "MatMulInteger": (2, 4),
    "QLinearMatMul": (8, 8),
    "QuantizeLinear": (2, 3),
    "DequantizeLinear": (2, 3),
    "DynamicQuantizeLinear": (1, 1),
    "BatchNormalization": (5, 5),
    "InstanceNormalization": (3, 3),
    "LayerNormalization": (2, 3),
    "Gemm": (2, 3),
    "Clip": (1, 3),
    "Dropout": (1, 3),
    "Pad": (1, 4),
    "Reshape": (1, 2),
    "Resize": (1, 4),
    "Upsample": (1, 2),
    "Slice": (1, 5),
    "Split": (1, 2),
    "Squeeze": (1, 2),
    "Unsqueeze": (1, 2),
    "TopK": (1, 2),
    "NonMaxSuppression": (2, 5),
    "Tile": (2, 3),
    "Where": (3, 3),
    "ScatterND": (3, 3),
    "ConstantOfShape": (1, 1),
    "Range": (3, 3),
    "If": (1, 1),
}
"""Operator of ONNX's own set → the inputs that must be there, and how many there may be."""
