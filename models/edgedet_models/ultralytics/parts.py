"""Untrained blocks of the published networks, by kind; the sizes are those of their papers and code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from edgedet_models.layers.adopt import adopt
from edgedet_models.layers.attention import AreaCell, AreaStage, AttentionCell, PartialAttention
from edgedet_models.layers.chain import ChannelsThenSize, InnerChain
from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.csp import C3, Residual
from edgedet_models.layers.elan import Elan, PoolConv, PoolSplitDown, SppElan
from edgedet_models.layers.fusion import FusePicks, SplitLinear
from edgedet_models.layers.junctions import Concat
from edgedet_models.layers.parallel import ParallelConv, ParallelDepthwise
from edgedet_models.layers.split_stage import HalfStage, SplitStage
from edgedet_models.layers.spp import Spp, Sppf
from edgedet_models.ultralytics.rows import Row

__all__ = ["PARTS"]


def _residual(channels: int, inner: int, *, add: bool) -> nn.Module:
    """Two 3×3 cells with `inner` channels between."""
    cv1, cv2 = ConvBnAct(channels, inner, 3), ConvBnAct(inner, channels, 3)
    return adopt(Residual, cv1=cv1, cv2=cv2, add=add)


def _csp(channels: int, cells: list[nn.Module], c_in: int | None = None) -> nn.Module:
    """A C3 with half the channels inside, around given cells."""
    hidden = channels // 2
    joined = [ConvBnAct(c_in or channels, hidden) for _ in range(2)]
    m = nn.Sequential(*cells)
    return adopt(C3, cv1=joined[0], cv2=joined[1], cv3=ConvBnAct(2 * hidden, channels), m=m)


def _c3k(channels: int) -> nn.Module:
    """C3k: two residual cells of two full 3×3 cells each."""
    return _csp(channels, [_residual(channels // 2, channels // 2, add=True) for _ in range(2)])


def _heads(channels: int) -> int:
    return max(channels // 64, 1)


def _bottleneck(row: Row, c: int) -> nn.Module:
    """One or several residual cells in a row, half the channels inside: YOLOv3u."""
    cells = []
    for index in range(row.repeats):
        source = row.channels if index else c
        cv1, cv2 = ConvBnAct(source, row.channels // 2, 3), ConvBnAct(row.channels // 2, row.channels, 3)
        cells.append(adopt(Residual, cv1=cv1, cv2=cv2, add=row.add and source == row.channels))
    return cells[0] if row.repeats == 1 else nn.Sequential(*cells)


def _c2f(row: Row, c: int) -> nn.Module:
    hidden = row.channels // 2
    return SplitStage(c, row.channels, hidden, [_residual(hidden, hidden, add=row.add) for _ in range(row.repeats)])


def _c2(row: Row, c: int) -> nn.Module:
    hidden = row.channels // 2
    cells = [_residual(hidden, hidden, add=row.add) for _ in range(row.repeats)]
    return HalfStage(c, row.channels, cells, hidden=hidden, second=False)


def _c3k2(row: Row, c: int) -> nn.Module:
    """C3k2 in its three forms: C3k cells (``full``), plain residual ones, or those with attention behind."""
    hidden = int(row.channels * row.share)
    cells: list[nn.Module] = []
    for _ in range(row.repeats):
        if row.attention:
            cell = _residual(hidden, hidden // 2, add=True)
            cells.append(nn.Sequential(cell, AttentionCell(hidden, _heads(hidden))))
        else:
            cells.append(_c3k(hidden) if row.full else _residual(hidden, hidden // 2, add=True))
    return SplitStage(c, row.channels, hidden, cells)


def _c2f_cib(row: Row, c: int) -> nn.Module:
    hidden = row.channels // 2
    return SplitStage(c, row.channels, hidden, [_cib(hidden, large=row.full) for _ in range(row.repeats)])


def _cib(c: int, *, large: bool) -> nn.Module:
    """YOLOv10's compact inverted block; `large`: with a 7×7 depthwise cell in the middle."""
    middle = ParallelDepthwise(2 * c) if large else ConvBnAct(2 * c, 2 * c, 3, groups=2 * c)
    cells = nn.Sequential(
        ConvBnAct(c, c, 3, groups=c), ConvBnAct(c, 2 * c), middle, ConvBnAct(2 * c, c), ConvBnAct(c, c, 3, groups=c)
    )
    return InnerChain(cells, add=True)


def _c2_psa(row: Row, c: int) -> nn.Module:
    hidden = row.channels // 2
    cells = [AttentionCell(hidden, _heads(hidden)) for _ in range(row.repeats)]
    return HalfStage(c, row.channels, cells, hidden=hidden, second=True)


def _area_stage(row: Row, c: int) -> nn.Module:
    """YOLO12's A2C2f: pairs of attention cells, or C3k where it has no areas."""
    hidden = row.channels // 2
    cells: list[nn.Module] = []
    for _ in range(row.repeats):
        if not row.areas:
            cells.append(_c3k(hidden))
            continue
        ratio = 1.2 if row.residual else 2.0
        cells.append(nn.Sequential(*(AreaCell(hidden, hidden // 32, row.areas, ratio=ratio) for _ in range(2))))
    return AreaStage(c, row.channels, hidden, cells, residual=row.residual and row.areas > 0)


def _elan1(row: Row, c: int) -> nn.Module:
    chains = [ConvBnAct(row.hidden // 2, row.inner, 3), ConvBnAct(row.inner, row.inner, 3)]
    return Elan(c, row.channels, row.hidden, row.inner, chains)


def _rep_elan(row: Row, c: int) -> nn.Module:
    chains = [_rep_chain(row.hidden // 2, row), _rep_chain(row.inner, row)]
    return Elan(c, row.channels, row.hidden, row.inner, chains)


def _rep_chain(c: int, row: Row) -> nn.Module:
    """RepCSP, a C3 whose residual cells begin with parallel convolutions, and a 3×3 cell."""
    half = row.inner // 2
    cells: list[nn.Module] = [
        adopt(Residual, cv1=ParallelConv(half, half), cv2=ConvBnAct(half, half, 3), add=True)
        for _ in range(row.repeats)
    ]
    return nn.Sequential(_csp(row.inner, cells, c), ConvBnAct(row.inner, row.inner, 3))


PARTS: Mapping[str, Callable[[Row, int], nn.Module]] = {
    "A2C2f": _area_stage,
    "AConv": lambda row, c: PoolConv(c, row.channels),
    "ADown": lambda row, c: PoolSplitDown(c, row.channels),
    "Bottleneck": _bottleneck,
    "C2": _c2,
    "C2PSA": _c2_psa,
    "C2f": _c2f,
    "C2fCIB": _c2f_cib,
    "C3": lambda row, c: C3(c, row.channels, row.repeats, add=row.add),
    "C3k2": _c3k2,
    "CBFuse": lambda row, c: FusePicks(row.picks),
    "CBLinear": lambda row, c: SplitLinear(c, row.picks),
    "Concat": lambda row, c: Concat(),
    "Conv": lambda row, c: ConvBnAct(c, row.channels, row.kernel, row.stride, padding=row.padding),
    "ELAN1": _elan1,
    "Identity": lambda row, c: nn.Identity(),
    "MaxPool2d": lambda row, c: nn.MaxPool2d(row.kernel, row.stride),
    "PSA": lambda row, c: PartialAttention(c, row.channels // 2, _heads(row.channels // 2)),
    "RepNCSPELAN4": _rep_elan,
    "SCDown": lambda row, c: ChannelsThenSize(c, row.channels, row.kernel, row.stride),
    "SPP": lambda row, c: Spp(c, row.channels),
    "SPPELAN": lambda row, c: SppElan(c, row.channels, row.hidden),
    "SPPF": lambda row, c: Sppf(c, row.channels, act="identity" if row.add else "silu", add=row.add),
    "Upsample": lambda row, c: nn.Upsample(scale_factor=2.0, mode="nearest"),
    "ZeroPad2d": lambda row, c: nn.ZeroPad2d((0, 1, 0, 1)),
}
"""Builders by the class that the official code calls the layer, from the row and the input channels."""
