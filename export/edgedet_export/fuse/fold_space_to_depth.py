"""Turn space-to-depth + convolution into one strided convolution.

Space-to-depth (SPD-Conv, Sunkara and Luo, 2022; the Focus stem of YOLOv5) moves each b x b block of pixels into b² C
channels without computing anything. A k x k convolution of stride 1 and padding p on its result reads, for output cell
i, blocks i - p … i - p + k - 1, that is pixel rows b(i - p) … b(i - p) + bk - 1. So it *is* a convolution on the
pixels, with kernel b k, stride b, padding b p, and the same weights in another order:

    W'[o, c, b·u + dy, b·v + dx] = W[o, channel(c, dy, dx), u, v]

Zero padding stays zero padding, hence the identity is exact. What the module does with the channels is not guessed
from its class: it is probed with a tensor of indices, so any order (and any user's own class) is understood.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_export.fuse.dataflow import Dataflow
from edgedet_export.fuse.proof import prove_equal
from edgedet_export.fuse.replace import replace_module
from edgedet_export.fuse.report import Change, Declined, PassReport

__all__ = ["FoldSpaceToDepth", "probe_space_to_depth", "strided_equivalent"]

_BLOCKS = (2, 4)


def probe_space_to_depth(module: nn.Module, channels: int) -> tuple[int, Tensor] | None:
    """Find out whether a module only moves b x b pixel blocks into channels, and in which order.

    Args:
        module: A leaf module.
        channels: Channels C of its input.

    Returns:
        The block size b, and for each of the b² C output channels its (c, dy, dx), int64 (b² C, 3); or None if the
        module does anything else.
    """
    size = 8
    x = torch.arange(channels * size * size, dtype=torch.float64).reshape(1, channels, size, size)
    try:
        with torch.no_grad():
            y = module(x.clone())
    except Exception:  # a stranger's module may raise anything on this input; then it is none
        return None
    for b in _BLOCKS:
        if not isinstance(y, Tensor) or y.shape != (1, channels * b * b, size // b, size // b):
            continue
        first = y[0, :, 0, 0].long()
        source = torch.stack((first // (size * size), first % (size * size) // size, first % size), dim=1)
        if source[:, 1:].max() >= b or len(set(map(tuple, source.tolist()))) != len(source):
            return None
        expected = torch.stack([x[0, c, dy::b, dx::b] for c, dy, dx in source.tolist()])
        return (b, source) if torch.equal(expected, y[0]) else None
    return None


def strided_equivalent(conv: nn.Conv2d, block: int, source: Tensor) -> nn.Conv2d:
    """Return the convolution on pixels that equals `conv` after space-to-depth; see the module's docstring.

    Args:
        conv: Stride 1, dilation 1, one group, zero padding given as numbers.
        block: Block size b.
        source: (c, dy, dx) of each input channel of `conv`, int64 (b² C, 3).
    """
    kh, kw = conv.kernel_size
    ph, pw = int(conv.padding[0]), int(conv.padding[1])
    channels = conv.in_channels // block**2
    new = nn.Conv2d(
        channels,
        conv.out_channels,
        (kh * block, kw * block),
        stride=block,
        padding=(ph * block, pw * block),
        bias=conv.bias is not None,
    ).to(conv.weight.dtype)
    with torch.no_grad():
        for channel, (c, dy, dx) in enumerate(source.tolist()):
            new.weight[:, c, dy::block, dx::block] = conv.weight[:, channel]
        if conv.bias is not None:
            assert new.bias is not None, "built with one"
            new.bias.copy_(conv.bias)
    return new.train(conv.training)


class FoldSpaceToDepth:
    """Fold every space-to-depth module that only convolutions read into all of them."""

    name = "fold-space-to-depth"

    def run(self, model: nn.Module, example: Tensor) -> PassReport:
        """Fold in place; run it after BatchNorm folding."""
        flow = Dataflow.record(model, example)
        names = {module: name for name, module in model.named_modules()}
        changed: list[Change] = []
        declined: list[Declined] = []
        for mover, path in list(names.items()):
            readers = flow.readers(mover)
            convs = [r for r in readers if isinstance(r, nn.Conv2d)]
            found = self._probe(mover, convs[0].in_channels) if convs else None
            if found is None:
                continue
            obstacles = [why for conv in convs if (why := self._obstacle(conv))]
            if len(convs) < len(readers):
                obstacles.append("something else than a convolution reads the result as well")
            if obstacles:
                declined.append(Declined(path, obstacles[0]))
                continue
            block, source = found
            for conv in convs:
                folded = strided_equivalent(conv, block, source)
                what = names[conv]
                error = prove_equal(nn.Sequential(mover, conv), folded, folded.in_channels, what=what)
                replace_module(model, what, folded)
                kernel = f"{folded.kernel_size[0]}x{folded.kernel_size[1]}"
                changed.append(Change(what, f"space-to-depth + Conv2d → Conv2d {kernel} stride {block}", error))
            replace_module(model, path, nn.Identity())
        return PassReport(self.name, tuple(changed), tuple(declined))

    @staticmethod
    def _probe(mover: nn.Module, channels: int) -> tuple[int, Tensor] | None:
        for b in _BLOCKS:
            found = probe_space_to_depth(mover, channels // b**2) if channels % b**2 == 0 else None
            if found is not None and found[0] == b:  # another block size was probed with as many channels too many
                return found
        return None

    @staticmethod
    def _obstacle(conv: nn.Conv2d) -> str | None:
        if conv.stride != (1, 1) or conv.dilation != (1, 1):
            return f"the convolution has stride {conv.stride}, dilation {conv.dilation}; only 1 can be folded"
        if conv.groups != 1:
            return f"the convolution has {conv.groups} groups; only 1 can be folded"
        if isinstance(conv.padding, str) or conv.padding_mode != "zeros":
            return f"the convolution pads by {conv.padding_mode}, {conv.padding}; only numeric zero padding is exact"
        return None
