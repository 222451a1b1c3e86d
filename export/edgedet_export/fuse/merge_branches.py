"""Merge the parallel branches of reparameterised blocks into one convolution.

RepVGG (Ding et al., 2021) trains y = act(sum of branches), each branch linear in evaluation mode: a k x k convolution
with BatchNorm, a 1x1 convolution with BatchNorm, the identity with BatchNorm. Convolution is linear in its kernel, so
the sum is one convolution whose kernel is the sum of the branches' kernels, each zero-padded to the largest:

    W' = Σ pad(k_i W_i),   b' = Σ (k_i b_i + c_i)

(k_i, c_i from the branch's BatchNorm, see `fold_bn`; the identity is a 1x1 kernel of ones on the diagonal, average
pooling a k x k kernel of 1/k² on it). A BatchNorm after the sum (QARepVGG, Chu et al., 2022) is applied to the result.

A block is recognized by structure: its children named ``rbr_*`` are the branches (``rbr_dense``, ``rbr_1x1``,
``rbr_identity`` in RepVGG, YOLOv6, YOLOv7 and DAMO-YOLO; ``rbr_avg`` in QARepVGG v2; lists ``rbr_conv``, ``rbr_scale``,
``rbr_skip`` in MobileOne), or those that its class names in ``parallel_branches`` (YOLOv9's RepConvN, YOLOv10's 7x7 and
3x3 depthwise pair). ``bn`` is a norm after the sum unless it is a branch, ``act`` or ``nonlinearity`` the activation.
The proof decides whether the block really computes that; if not, it is left alone and reported.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedet_export.fuse.fold_bn import batchnorm_affine
from edgedet_export.fuse.proof import prove_equal
from edgedet_export.fuse.replace import replace_module
from edgedet_export.fuse.report import Change, Declined, PassReport
from edgedet_runtime.errors import CheckFailedError

__all__ = ["MergeBranches", "merge_block"]

_PREFIX = "rbr_"
_MERGED = "rbr_reparam"


class _NotMergeable(Exception):
    """Why a block of parallel branches is left alone."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A linear branch as a dense kernel: weight float64 (O, I / groups, kh, kw), bias (O,), numeric padding."""

    weight: Tensor
    bias: Tensor
    padding: tuple[int, int]


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if not any(True for _ in m.children()) and not isinstance(m, nn.Identity)]


def _branch_names(block: nn.Module) -> list[str]:
    told: tuple[str, ...] = getattr(type(block), "parallel_branches", ())
    return [name for name, _ in block.named_children() if name.startswith(_PREFIX) or name in told]


def _branches(block: nn.Module) -> Iterator[nn.Module]:
    for name in _branch_names(block):
        child = block.get_submodule(name)
        yield from child if isinstance(child, nn.ModuleList) else [child]


def _diagonal(channels: int, groups: int, value: float, size: tuple[int, int]) -> Tensor:
    """Kernel (C, C / groups, kh, kw) that maps each channel to itself with `value` at every tap."""
    per_group = channels // groups
    weight = torch.zeros(channels, per_group, *size, dtype=torch.float64)
    index = torch.arange(channels)
    weight[index, index % per_group] = value
    return weight


def _kernel(branch: nn.Module, reference: nn.Conv2d) -> _Kernel:
    """Express one branch as a kernel that is compatible with the reference convolution's stride and groups."""
    leaves = _leaves(branch)
    norm = leaves.pop() if leaves and isinstance(leaves[-1], nn.BatchNorm2d) else None
    k, c = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    if isinstance(norm, nn.BatchNorm2d):
        try:
            k, c = batchnorm_affine(norm)
        except ValueError as e:
            raise _NotMergeable(f"a branch's BatchNorm {e}") from None
    if len(leaves) > 1:
        raise _NotMergeable(f"a branch holds {' + '.join(type(m).__name__ for m in leaves)}")
    if not leaves:
        if reference.stride != (1, 1) or reference.in_channels != reference.out_channels:
            raise _NotMergeable("an identity branch beside a convolution that changes the shape")
        weight, bias, padding = _diagonal(reference.in_channels, reference.groups, 1.0, (1, 1)), None, (0, 0)
    elif isinstance(conv := leaves[0], nn.Conv2d):
        if (conv.stride, conv.groups, conv.dilation) != (
            reference.stride,
            reference.groups,
            reference.dilation,
        ):
            raise _NotMergeable("the branches differ in stride, groups or dilation")
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            raise _NotMergeable(f"a branch pads by {conv.padding_mode}, {conv.padding}")
        weight, bias, padding = (
            conv.weight.detach().double(),
            conv.bias,
            (int(conv.padding[0]), int(conv.padding[1])),
        )
    elif isinstance(pool := leaves[0], nn.AvgPool2d):
        size, stride, pad = (_pair(v) for v in (pool.kernel_size, pool.stride, pool.padding))
        if stride != reference.stride or not (pool.count_include_pad or pad == (0, 0)) or pool.divisor_override:
            raise _NotMergeable("an average pooling branch of another stride or divisor")
        value = 1.0 / (size[0] * size[1])
        weight, bias, padding = _diagonal(reference.in_channels, reference.groups, value, size), None, pad
    else:
        raise _NotMergeable(f"a branch holds {type(leaves[0]).__name__}")
    offset = torch.zeros(1, dtype=torch.float64) if bias is None else bias.detach().double()
    channels = reference.out_channels
    return _Kernel(weight * k.reshape(-1, 1, 1, 1), (offset * k + c).expand(channels), padding)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def merge_block(block: nn.Module) -> nn.Module:
    """Return what a block of parallel branches becomes: a convolution, followed by its activation if it has one.

    Raises:
        ValueError: The block does not have that structure; the message says why.
    """
    try:
        return _merge(block)
    except _NotMergeable as e:
        raise ValueError(str(e)) from None


def _merge(block: nn.Module) -> nn.Module:
    branches = list(_branches(block))
    convs = [m for b in branches for m in _leaves(b) if isinstance(m, nn.Conv2d)]
    if not convs:
        raise _NotMergeable("no branch holds a convolution")
    reference = max(convs, key=lambda conv: conv.kernel_size)
    if isinstance(reference.padding, str):
        raise _NotMergeable(f"a branch pads by {reference.padding}")
    kernels = [_kernel(branch, reference) for branch in branches]
    weight = torch.zeros(reference.weight.shape, dtype=torch.float64)
    bias = torch.zeros(reference.out_channels, dtype=torch.float64)
    for kernel in kernels:
        top, left = (int(reference.padding[i]) - kernel.padding[i] for i in (0, 1))
        kh, kw = kernel.weight.shape[2:]
        if min(top, left) < 0 or top + kh > weight.shape[2] or left + kw > weight.shape[3]:
            raise _NotMergeable("the branches' paddings do not align")
        weight[:, :, top : top + kh, left : left + kw] += kernel.weight
        bias += kernel.bias
    after: nn.Module | None = None if "bn" in _branch_names(block) else getattr(block, "bn", None)
    if isinstance(after, nn.BatchNorm2d):
        k, c = batchnorm_affine(after)
        weight, bias = weight * k.reshape(-1, 1, 1, 1), bias * k + c
    merged = nn.Conv2d(
        reference.in_channels,
        reference.out_channels,
        reference.kernel_size,  # type: ignore[arg-type]  # torch stubs want fixed-length tuples
        reference.stride,  # type: ignore[arg-type]
        reference.padding,  # type: ignore[arg-type]
        reference.dilation,  # type: ignore[arg-type]
        reference.groups,
    ).to(reference.weight.dtype)
    with torch.no_grad():
        merged.weight.copy_(weight)
        assert merged.bias is not None, "built with a bias"
        merged.bias.copy_(bias)
    activation = next((a for n in ("act", "nonlinearity") if isinstance(a := getattr(block, n, None), nn.Module)), None)
    if activation is None or isinstance(activation, nn.Identity):
        return merged.train(block.training)
    return nn.Sequential(OrderedDict(conv=merged, act=activation)).train(block.training)


class MergeBranches:
    """Merge every block of parallel branches."""

    name = "merge-branches"

    def run(self, model: nn.Module, example: Tensor) -> PassReport:
        """Merge in place; run it before BatchNorm folding, which then finds plain convolutions."""
        changed: list[Change] = []
        declined: list[Declined] = []
        for path, block in list(model.named_modules()):
            names = _branch_names(block)
            if not names or names == [_MERGED] or not path:
                continue
            try:
                merged = _merge(block)
                channels = next(m for m in merged.modules() if isinstance(m, nn.Conv2d)).in_channels
                error = prove_equal(block, merged, channels, what=path)
            except (_NotMergeable, CheckFailedError) as e:
                declined.append(Declined(path, str(e)))
                continue
            replace_module(model, path, merged)
            branches = len(list(_branches(block)))
            changed.append(Change(path, f"{branches} branches → one Conv2d", error))
        return PassReport(self.name, tuple(changed), tuple(declined))
