"""Fold BatchNorm into the convolution before it.

In evaluation mode a BatchNorm is the per-channel affine map y = (z - mean) * gamma / sqrt(var + eps) + beta
(Ioffe and Szegedy, 2015, algorithm 2). After a convolution z = W * x + b it is absorbed exactly:

    k = gamma / sqrt(var + eps),   W' = k W (per output channel),   b' = k (b - mean) + beta

For a transposed convolution the output channels are the weight's second axis, per group. All arithmetic is float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_export.fuse.dataflow import Dataflow
from edgedet_export.fuse.proof import prove_equal
from edgedet_export.fuse.replace import replace_module
from edgedet_export.fuse.report import Change, Declined, PassReport

__all__ = ["FoldBatchNorm", "batchnorm_affine", "fold_into_conv"]

Conv = nn.Conv2d | nn.ConvTranspose2d
CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def batchnorm_affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return a BatchNorm's evaluation-mode factor k and offset c, float64 (C,), so that y = k z + c.

    Raises:
        ValueError: The layer keeps no running statistics, so evaluation depends on the batch.
    """
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("keeps no running statistics")
    k = torch.rsqrt(bn.running_var.double() + bn.eps)
    if bn.weight is not None:
        k = k * bn.weight.detach().double()
    c = -bn.running_mean.double() * k
    if bn.bias is not None:
        c = c + bn.bias.detach().double()
    return k, c


def fold_into_conv(conv: Conv, k: Tensor, c: Tensor) -> Conv:
    """Return a copy of `conv` that computes k * conv(x) + c.

    Args:
        conv: Convolution or transposed convolution, any groups, with or without bias.
        k: Factor per output channel, float64.
        c: Offset per output channel, float64.
    """
    weight = conv.weight.detach().double()
    if isinstance(conv, nn.ConvTranspose2d):  # (in, out / groups, kh, kw)
        grouped = weight.unflatten(0, (conv.groups, -1))
        weight = (grouped * k.reshape(conv.groups, 1, -1, 1, 1)).flatten(0, 1)
    else:
        weight = weight * k.reshape(-1, 1, 1, 1)
    bias = c if conv.bias is None else conv.bias.detach().double() * k + c
    return _like(conv, weight, bias)


def _like(conv: Conv, weight: Tensor, bias: Tensor) -> Conv:
    arguments = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    new: Conv
    if isinstance(conv, nn.ConvTranspose2d):
        new = nn.ConvTranspose2d(*arguments, conv.output_padding, conv.groups, True, conv.dilation)  # type: ignore[arg-type]  # torch stubs want fixed-length tuples
    else:
        new = nn.Conv2d(*arguments, conv.dilation, conv.groups, True, conv.padding_mode)  # type: ignore[arg-type]
    new = new.to(conv.weight.dtype).train(conv.training)
    with torch.no_grad():
        new.weight.copy_(weight)
        assert new.bias is not None, "built with a bias"
        new.bias.copy_(bias)
    return new


class FoldBatchNorm:
    """Fold every BatchNorm2d whose input is a convolution's output that nothing else reads."""

    name = "fold-batchnorm"

    def run(self, model: nn.Module, example: Tensor) -> PassReport:
        """Fold in place; see the module's docstring for the formula."""
        flow = Dataflow.record(model, example)
        names = {module: name for name, module in model.named_modules()}
        changed: list[Change] = []
        declined: list[Declined] = []
        for bn, path in [(m, n) for m, n in names.items() if isinstance(m, nn.BatchNorm2d)]:
            if flow.calls(bn) == 0:
                declined.append(Declined(path, "does not run in evaluation"))
                continue
            conv = flow.feeds(bn)
            if not isinstance(conv, CONVOLUTIONS):
                declined.append(Declined(path, "its input is not the output of one convolution alone"))
                continue
            try:
                k, c = batchnorm_affine(bn)
            except ValueError as e:
                declined.append(Declined(path, str(e)))
                continue
            folded = fold_into_conv(conv, k, c)
            error = prove_equal(nn.Sequential(conv, bn), folded, conv.in_channels, what=path)
            replace_module(model, names[conv], folded)
            replace_module(model, path, nn.Identity())
            changed.append(Change(path, f"{type(conv).__name__} + BatchNorm2d → {type(conv).__name__}", error))
        return PassReport(self.name, tuple(changed), tuple(declined))
