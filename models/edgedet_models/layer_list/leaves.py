"""torch's own layers, rebuilt from pickled ones: sizes from the weights, the rest from checked attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_runtime.errors import CheckpointError

__all__ = ["LEAVES", "Leaf", "attribute", "number", "own_tensor"]

Leaf = Callable[[str, ModuleNode], nn.Module]
"""Builds a layer without submodules from its dotted name (for messages) and its node."""


def attribute(name: str, node: ModuleNode, key: str, default: Any = None) -> Any:
    """Return an attribute of a pickled module; without a default it must be there."""
    value = node.attributes.get(key, default)
    if value is None:
        raise CheckpointError(f"{name} ({node.type_name}): {key!r} is missing; the file is damaged")
    return value


def number(name: str, node: ModuleNode, key: str, default: float | None = None) -> float:
    """Return a finite number among the attributes."""
    value = attribute(name, node, key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected a number, got {value!r:.40}")
    return value


def _pair(name: str, node: ModuleNode, key: str, default: int | None = None) -> tuple[int, int]:
    value = attribute(name, node, key, default)
    values = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or not all(type(v) is int and 0 <= v <= 4096 for v in values):
        raise CheckpointError(f"{name} ({node.type_name}): {key}: expected sizes, got {value!r:.40}")
    return values[0], values[1]


def own_tensor(name: str, node: ModuleNode, key: str, dims: int) -> Tensor:
    """Return a parameter or buffer of a pickled module as float32.

    Raises:
        CheckpointError: It is missing, is no floating-point tensor, or has another number of dimensions.
    """
    value = node.parameters.get(key, node.buffers.get(key))
    if not isinstance(value, Tensor) or value.dim() != dims or not value.is_floating_point():
        got = "nothing" if value is None else f"{value.dtype} of {value.dim()} dimensions"
        raise CheckpointError(f"{name}.{key}: expected floats of {dims} dimensions, got {got}")
    return value.float()


def _copy(name: str, module: nn.Module, node: ModuleNode) -> nn.Module:
    """Fill a layer with the node's tensors, all of them and no others."""
    found = {k: v for k, v in {**node.parameters, **node.buffers}.items() if v is not None}
    found.pop("num_batches_tracked", None)
    targets = {k: v for k, v in module.state_dict().items() if k != "num_batches_tracked"}
    if set(found) != set(targets):
        wrong = sorted(set(found) ^ set(targets))[0]
        raise CheckpointError(f"{name} ({node.type_name}): tensor {wrong!r} is missing or not expected")
    with torch.no_grad():
        for key, target in targets.items():
            if found[key].shape != target.shape:
                raise CheckpointError(
                    f"{name}.{key}: expected shape {tuple(target.shape)}, got {tuple(found[key].shape)}"
                )
            target.copy_(found[key])
    return module


def _conv(name: str, node: ModuleNode) -> nn.Module:
    weight = own_tensor(name, node, "weight", 4)
    groups = _pair(name, node, "groups", 1)[0]
    mode = node.attributes.get("padding_mode", "zeros")
    if mode != "zeros":
        raise CheckpointError(f"{name}: padding_mode: expected zeros, got {mode!r:.20}")
    padding = node.attributes.get("padding", 0)
    c_out, c_group, *kernel = weight.shape
    if not groups or c_out % groups:
        raise CheckpointError(f"{name}: {c_out} channels do not divide into {groups} groups")
    conv = nn.utils.skip_init(
        nn.Conv2d,
        c_group * groups,
        c_out,
        tuple(kernel),
        stride=_pair(name, node, "stride", 1),
        padding=padding if padding in ("same", "valid") else _pair(name, node, "padding", 0),
        dilation=_pair(name, node, "dilation", 1),
        groups=groups,
        bias=node.parameters.get("bias") is not None,
    )
    return _copy(name, conv, node)


def _conv_transpose(name: str, node: ModuleNode) -> nn.Module:
    weight = own_tensor(name, node, "weight", 4)
    groups = _pair(name, node, "groups", 1)[0]
    c_in, c_group, *kernel = weight.shape
    if not groups or c_in % groups:
        raise CheckpointError(f"{name}: {c_in} channels do not divide into {groups} groups")
    conv = nn.utils.skip_init(
        nn.ConvTranspose2d,
        c_in,
        c_group * groups,
        tuple(kernel),
        stride=_pair(name, node, "stride", 1),
        padding=_pair(name, node, "padding", 0),
        output_padding=_pair(name, node, "output_padding", 0),
        dilation=_pair(name, node, "dilation", 1),
        groups=groups,
        bias=node.parameters.get("bias") is not None,
    )
    return _copy(name, conv, node)


def _batch_norm(name: str, node: ModuleNode) -> nn.Module:
    channels = len(own_tensor(name, node, "weight", 1))
    return _copy(name, nn.BatchNorm2d(channels, number(name, node, "eps")), node)


def _max_pool(name: str, node: ModuleNode) -> nn.Module:
    kernel = _pair(name, node, "kernel_size")
    stride = _pair(name, node, "stride") if node.attributes.get("stride") is not None else kernel
    ceil = bool(node.attributes.get("ceil_mode", False))
    return nn.MaxPool2d(
        kernel, stride, _pair(name, node, "padding", 0), _pair(name, node, "dilation", 1), ceil_mode=ceil
    )


def _avg_pool(name: str, node: ModuleNode) -> nn.Module:
    kernel = _pair(name, node, "kernel_size")
    stride = _pair(name, node, "stride") if node.attributes.get("stride") is not None else kernel
    return nn.AvgPool2d(kernel, stride, _pair(name, node, "padding", 0))


def _upsample(name: str, node: ModuleNode) -> nn.Module:
    scale = node.attributes.get("scale_factor")
    if isinstance(scale, (tuple, list)) and len(set(scale)) == 1:
        scale = scale[0]
    mode = node.attributes.get("mode", "nearest")
    if not isinstance(scale, (int, float)) or not 0 < scale <= 64 or mode not in ("nearest", "bilinear"):
        raise CheckpointError(f"{name} (Upsample): expected a factor, nearest or bilinear, got {scale}, {mode}")
    align = node.attributes.get("align_corners") if mode == "bilinear" else None
    return nn.Upsample(scale_factor=float(scale), mode=mode, align_corners=align)


def _zero_pad(name: str, node: ModuleNode) -> nn.Module:
    padding = attribute(name, node, "padding")
    if not isinstance(padding, (tuple, list)) or not all(type(p) is int and 0 <= p <= 4096 for p in padding):
        raise CheckpointError(f"{name} (ZeroPad2d): padding: expected four sizes, got {padding!r:.40}")
    return nn.ZeroPad2d((padding[0], padding[1], padding[2], padding[3]))


def _linear(name: str, node: ModuleNode) -> nn.Module:
    rows, columns = own_tensor(name, node, "weight", 2).shape
    bias = node.parameters.get("bias") is not None
    return _copy(name, nn.utils.skip_init(nn.Linear, columns, rows, bias=bias), node)


def _embedding(name: str, node: ModuleNode) -> nn.Module:
    rows, columns = own_tensor(name, node, "weight", 2).shape
    return _copy(name, nn.Embedding(rows, columns, _weight=torch.empty(rows, columns)), node)


def _layer_norm(name: str, node: ModuleNode) -> nn.Module:
    channels = len(own_tensor(name, node, "weight", 1))
    return _copy(name, nn.LayerNorm(channels, number(name, node, "eps"), bias="bias" in node.parameters), node)


def _gelu(name: str, node: ModuleNode) -> nn.Module:
    approximate = node.attributes.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise CheckpointError(f"{name} (GELU): approximate: expected none or tanh, got {approximate!r:.20}")
    return nn.GELU(approximate)


def _leaky(name: str, node: ModuleNode) -> nn.Module:
    return nn.LeakyReLU(number(name, node, "negative_slope", 0.01))


def _plain(kind: Callable[[], nn.Module]) -> Leaf:
    return lambda name, node: kind()


LEAVES: Mapping[str, Leaf] = {
    "AvgPool2d": _avg_pool,
    "BatchNorm2d": _batch_norm,
    "Conv2d": _conv,
    "ConvTranspose2d": _conv_transpose,
    "Dropout": _plain(nn.Identity),
    "Dropout2d": _plain(nn.Identity),
    "ELU": _plain(nn.ELU),
    "Embedding": _embedding,
    "GELU": _gelu,
    "Hardsigmoid": _plain(nn.Hardsigmoid),
    "Hardswish": _plain(nn.Hardswish),
    "Identity": _plain(nn.Identity),
    "LayerNorm": _layer_norm,
    "LeakyReLU": _leaky,
    "Linear": _linear,
    "MaxPool2d": _max_pool,
    "MemoryEfficientMish": _plain(nn.Mish),
    "MemoryEfficientSwish": _plain(nn.SiLU),
    "Mish": _plain(nn.Mish),
    "NonDynamicallyQuantizableLinear": _linear,
    "ReLU": _plain(nn.ReLU),
    "ReLU6": _plain(nn.ReLU6),
    "SiLU": _plain(nn.SiLU),
    "Sigmoid": _plain(nn.Sigmoid),
    "SyncBatchNorm": _batch_norm,
    "Tanh": _plain(nn.Tanh),
    "Upsample": _upsample,
    "ZeroPad2d": _zero_pad,
}
"""Builders by the class's own name, which includes activations of training repositories."""
