"""What tools leave in a network's tensors: pruning masks are applied, counters are dropped.

``torch.nn.utils.prune`` replaces ``weight`` by a parameter ``weight_orig`` and a buffer ``weight_mask``; the network
runs with their product. thop adds the buffers ``total_ops`` and ``total_params`` to every module, and
``torch.optim.swa_utils.AveragedModel`` the buffer ``n_averaged``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgedet_models.checkpoint.budget import ReadBudget

__all__ = ["non_finite", "settle"]

COUNTERS = frozenset(["n_averaged", "total_ops", "total_params"])
ORIGINAL, MASK = "_orig", "_mask"
MAY_BE_INFINITE = frozenset(["anchors"])
"""Buffers of DETR-like decoders hold infinity where an anchor lies outside the picture."""


def settle(tensors: Mapping[str, Tensor], budget: ReadBudget) -> dict[str, Tensor]:
    """Return the tensors by the names and with the values that the network runs with.

    Args:
        tensors: Parameters and buffers by dotted name.
        budget: Charged with the memory of each masked weight: a file may name one pair of tensors many times.

    Raises:
        MalformedPickle: The budget is used up.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.rpartition(".")[2] in COUNTERS:
            continue
        if name.endswith(MASK) and name.removesuffix(MASK) + ORIGINAL in tensors:
            continue
        mask = tensors.get(name.removesuffix(ORIGINAL) + MASK) if name.endswith(ORIGINAL) else None
        if mask is None or mask.shape != tensor.shape:
            found[name] = tensor
        else:
            budget.charge(2 * tensor.numel() * tensor.element_size())  # the product, and the mask in its type
            found[name.removesuffix(ORIGINAL)] = tensor * mask.to(tensor.dtype)
    return found


def non_finite(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """Return the tensors that hold NaN or infinity, each with the count of such numbers and of all its numbers."""
    found: dict[str, tuple[int, int]] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or name.rpartition(".")[2] in MAY_BE_INFINITE:
            continue
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if bad:
            found[name] = (bad, tensor.numel())
    return found
