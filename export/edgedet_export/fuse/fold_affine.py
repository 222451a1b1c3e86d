"""Fold learned per-channel factors and offsets into the convolutions beside them.

YOLOv7's heads (YOLOR, Wang et al., 2021) add an implicit vector before the last 1x1 convolution and multiply by one
after it; DAMO-YOLO and FCOS-like heads scale their box branch by a learned number. All are y = k x + c per channel:

    after a convolution:           W' = k W,  b' = k b + c
    before a 1x1 without padding:  W' = W diag(k),  b' = b + W c

(with padding, c would have to reach into the border, so only 1x1 convolutions without padding take an offset). What
a module computes is probed with three inputs, not guessed from its class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_export.fuse.dataflow import Dataflow
from edgedet_export.fuse.fold_bn import CONVOLUTIONS, fold_into_conv
from edgedet_export.fuse.proof import prove_equal, relative_error
from edgedet_export.fuse.replace import replace_module
from edgedet_export.fuse.report import Change, Declined, PassReport

__all__ = ["FoldAffine", "probe_affine"]

_ROUNDING = 1e-12  # of k x + c in float64, computed in another order


def probe_affine(module: nn.Module, channels: int) -> tuple[Tensor, Tensor] | None:
    """Find out whether a module computes k x + c per channel.

    Args:
        module: A leaf module.
        channels: Channels of its input.

    Returns:
        k and c, float64 (C,), or None if it computes anything else.
    """
    probe = torch.randn(2, channels, 3, 4, dtype=torch.float64, generator=torch.Generator())
    dtype = next(module.parameters()).dtype
    try:
        with torch.no_grad():
            module.double()
            c = module(torch.zeros_like(probe))
            k = module(torch.ones_like(probe)) - c
            y = module(probe.clone())
    except Exception:  # a stranger's module may raise anything on this input; then it is not affine
        return None
    finally:
        module.to(dtype)
    if not isinstance(y, Tensor) or y.shape != probe.shape:
        return None
    k, c = k.amax((0, 2, 3)), c.amax((0, 2, 3))  # of each channel all are equal, or else the error shows it
    error = relative_error(k.reshape(-1, 1, 1) * probe + c.reshape(-1, 1, 1), y)
    return (k, c) if error < _ROUNDING else None


def _before(conv: nn.Conv2d, k: Tensor, c: Tensor) -> nn.Conv2d:
    """Return a convolution that computes conv(k x + c)."""
    weight = conv.weight.detach().double()
    offset = (weight.sum(dim=(2, 3)) * c).sum(dim=1)
    scaled = fold_into_conv(conv, torch.ones(conv.out_channels, dtype=torch.float64), offset)
    assert isinstance(scaled, nn.Conv2d), "a convolution stays one"
    with torch.no_grad():
        scaled.weight.copy_(weight * k.reshape(1, -1, 1, 1))
    return scaled


class FoldAffine:
    """Fold leaf modules with parameters that compute k x + c per channel, and are no BatchNorm."""

    name = "fold-affine"

    def run(self, model: nn.Module, example: Tensor) -> PassReport:
        """Fold in place."""
        flow = Dataflow.record(model, example)
        names = {module: name for name, module in model.named_modules()}
        changed: list[Change] = []
        declined: list[Declined] = []
        for module, path in list(names.items()):
            if isinstance(module, (*CONVOLUTIONS, nn.BatchNorm2d)) or not list(module.parameters()):
                continue
            if flow.calls(module) != 1:  # a leaf, and not shared
                continue
            source = flow.feeds(module)
            readers = flow.readers(module)
            if isinstance(source, CONVOLUTIONS):
                done = self._after(model, names, source, module)
            elif readers and all(self._takes_offset(reader) for reader in readers):
                convs = [r for r in readers if isinstance(r, nn.Conv2d)]
                done = self._into_readers(model, names, convs, module)
            else:
                declined.append(Declined(path, "not between a convolution and its only reader"))
                continue
            if done is None:
                continue
            changed.append(Change(path, f"{type(module).__name__} + Conv2d → Conv2d", done))
            # The folded convolutions are new modules: observe again.
            flow = Dataflow.record(model, example)
            names.update({m: n for n, m in model.named_modules()})
        return PassReport(self.name, tuple(changed), tuple(declined))

    @staticmethod
    def _takes_offset(reader: nn.Module | None) -> bool:
        return (
            isinstance(reader, nn.Conv2d)
            and reader.kernel_size == (1, 1)
            and reader.padding in ((0, 0), "valid")
            and reader.groups == 1
        )

    @staticmethod
    def _after(
        model: nn.Module, names: dict[nn.Module, str], conv: nn.Conv2d | nn.ConvTranspose2d, module: nn.Module
    ) -> float | None:
        found = probe_affine(module, conv.out_channels)
        if found is None:
            return None
        folded = fold_into_conv(conv, *found)
        error = prove_equal(nn.Sequential(conv, module), folded, conv.in_channels, what=names[module])
        replace_module(model, names[conv], folded)
        replace_module(model, names[module], nn.Identity())
        return error

    @staticmethod
    def _into_readers(
        model: nn.Module, names: dict[nn.Module, str], convs: list[nn.Conv2d], module: nn.Module
    ) -> float | None:
        found = probe_affine(module, convs[0].in_channels)
        if found is None:
            return None
        error = 0.0
        for conv in convs:
            folded = _before(conv, *found)
            proof = prove_equal(nn.Sequential(module, conv), folded, conv.in_channels, what=names[module])
            error = max(error, proof)
            replace_module(model, names[conv], folded)
        replace_module(model, names[module], nn.Identity())
        return error
