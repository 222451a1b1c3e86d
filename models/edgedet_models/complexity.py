"""Parameters, multiply-accumulates, GFLOPs and memory traffic of a module.

Convention, that of thop, with which the training repositories print their figures; two FLOPs per operation
counted:

- a convolution or linear layer: one operation per weight and output position, biases free;
- a BatchNorm in evaluation mode: `norm_ops` per element. 2 is what the thop of the published tables counts
  (YOLOv5s 16.5, YOLOv5-SPD s 33.9 GFLOPs); 4 what thop 0.1.1 counts for affine layers (YOLOv5n 4.56 where
  others say 4.5);
- nearest upsampling: one per output element; average pooling: one per element that is read (adaptive) or
  written; max pooling, activations, additions, concatenations: free.

Layers are observed by hooks while the module runs on the ``meta`` device: shapes only, no arithmetic, no
copies of the weights. A module whose forward reads values (``.item()``) runs as it is instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedet_models.nested_tensors import tensors_in
from edgedet_models.shapes_only import norms_passed_through

__all__ = ["Complexity", "count"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


@dataclass(frozen=True, slots=True)
class Complexity:
    """What one forward pass of a batch of one costs.

    Attributes:
        params: Trainable numbers.
        macs: All counted operations, see the module's docstring; nearly all are multiply-accumulates.
        gflops: Twice that, in 1e9.
        memory_access_bytes: Bytes that the layers read and write, inputs, outputs and weights, in the
            module's own precision, if nothing stays in a cache.
    """

    params: int
    macs: int
    gflops: float
    memory_access_bytes: int


def _macs(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Multiply-accumulates of a layer with weights."""
    if isinstance(module, nn.ConvTranspose2d):
        return x.numel() * module.weight[0].numel()
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return y.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return y.numel() * module.in_features
    return 0


def _other_operations(module: nn.Module, x: Tensor, y: Tensor, norm_ops: int) -> int:
    if isinstance(module, NORMS):
        return norm_ops * x.numel()
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return x.numel()
    if isinstance(module, (nn.AvgPool2d, nn.Upsample)):
        return y.numel()
    return 0


def count(module: nn.Module, size_hw: tuple[int, int], *, norm_ops: int = 2) -> Complexity:
    """Count what one forward pass costs.

    Args:
        module: Takes one (1, 3, H, W) batch; run in evaluation mode, unchanged afterwards.
        size_hw: Height and width of the input, in pixels.
        norm_ops: Operations per element of a normalisation.
    """
    try:
        return _count(module, size_hw, norm_ops, device="meta")
    except (RuntimeError, NotImplementedError):  # the forward reads values: `.item()`, a comparison, numpy
        return _count(module, size_hw, norm_ops, device=None)


def _count(module: nn.Module, size_hw: tuple[int, int], norm_ops: int, *, device: str | None) -> Complexity:
    """Count on the meta device, or by running the module as it is."""
    totals = {"macs": 0, "bytes": 0}

    def observe(layer: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        inputs, outputs = list(tensors_in(args)), list(tensors_in(result))
        if not inputs or not outputs:
            return
        totals["macs"] += _macs(layer, inputs[0], outputs[0])
        totals["macs"] += _other_operations(layer, inputs[0], outputs[0], norm_ops)
        moved = [*inputs, *outputs, *layer.parameters(), *layer.buffers()]
        totals["bytes"] += sum(t.numel() * t.element_size() for t in moved)

    leaves = [m for m in module.modules() if next(m.children(), None) is None]
    hooks = [leaf.register_forward_hook(observe) for leaf in leaves if not isinstance(leaf, nn.Identity)]
    training = module.training
    try:
        _run(module.eval(), size_hw, device)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    params = sum(p.numel() for p in module.parameters())
    return Complexity(params, totals["macs"], 2e-9 * totals["macs"], totals["bytes"])


def _run(module: nn.Module, size_hw: tuple[int, int], device: str | None) -> None:
    like = next(module.parameters(), torch.empty(0))
    if device is None:
        with torch.no_grad():
            module(torch.zeros(1, 3, *size_hw, dtype=like.dtype, device=like.device))
        return
    tensors = [*module.named_parameters(), *module.named_buffers()]
    meta = {name: torch.empty_like(tensor, device=device) for name, tensor in tensors}
    run: Callable[..., Any] = torch.func.functional_call
    with torch.no_grad(), norms_passed_through([module]):
        run(module, meta, (torch.empty(1, 3, *size_hw, dtype=like.dtype, device=device),))
