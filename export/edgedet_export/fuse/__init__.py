"""Fusing: a trained module becomes the plain convolutions that compute the same.

Four passes, in this order; each proves every block that it rewrites in float64 and reports what it left alone:

1. `MergeBranches`: RepVGG-like parallel branches become one convolution.
2. `FoldBatchNorm`: BatchNorm disappears into the convolution before it.
3. `FoldAffine`: implicit layers and learned scales disappear into the convolutions beside them.
4. `FoldSpaceToDepth`: space-to-depth + convolution becomes one strided convolution.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from edgedet_export.fuse.fold_affine import FoldAffine
from edgedet_export.fuse.fold_bn import FoldBatchNorm
from edgedet_export.fuse.fold_space_to_depth import FoldSpaceToDepth
from edgedet_export.fuse.merge_branches import MergeBranches, merge_block
from edgedet_export.fuse.report import Change, Declined, FuseReport, PassReport

__all__ = [
    "PASSES",
    "Change",
    "Declined",
    "FoldAffine",
    "FoldBatchNorm",
    "FoldSpaceToDepth",
    "FuseReport",
    "MergeBranches",
    "Pass",
    "PassReport",
    "fuse",
    "merge_block",
]

Model = TypeVar("Model", bound=nn.Module)


class Pass(Protocol):
    """A rewriting of modules that keeps what they compute."""

    name: str

    def run(self, model: nn.Module, example: Tensor) -> PassReport:
        """Rewrite `model` in place and report.

        Args:
            model: In evaluation mode.
            example: An input on which the model can run, (1, C, H, W), to observe its dataflow.

        Raises:
            CheckFailedError: A rewritten block does not compute what the block computed.
        """
        ...


PASSES: Sequence[Pass] = (MergeBranches(), FoldBatchNorm(), FoldAffine(), FoldSpaceToDepth())


def _leaf_count(model: nn.Module) -> int:
    return sum(1 for m in model.modules() if not any(True for _ in m.children()) and not isinstance(m, nn.Identity))


def fuse(model: Model, example: Tensor, *, passes: Sequence[Pass] = PASSES) -> tuple[Model, FuseReport]:
    """Fuse a copy of a model.

    Args:
        model: Any module; it is copied, not changed.
        example: An input on which it can run, (1, C, H, W); small is enough.
        passes: What to run, in this order.

    Returns:
        The fused copy in evaluation mode, and the report.

    Raises:
        CheckFailedError: A rewritten block does not compute what the block computed.
    """
    fused = copy.deepcopy(model).eval()
    with torch.no_grad():
        reports = tuple(p.run(fused, example) for p in passes)
    return fused, FuseReport(
        passes=reports,
        modules_before=_leaf_count(model),
        modules_after=_leaf_count(fused),
        params_before=sum(p.numel() for p in model.parameters()),
        params_after=sum(p.numel() for p in fused.parameters()),
    )
