"""Small networks in the module structure of Ultralytics' and YOLOv9's code, to be pickled and compared with.

The classes carry the official names, attributes and key names, which are facts of the file format; what they compute
is written down here independently of `edgedet_models`: attention cell by cell and head by head, the rest plainly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Conv(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = nn.SiLU() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


def plain(c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1) -> Conv:
    """A cell without activation."""
    return Conv(c1, c2, k, s, g, nn.Identity())


class Bottleneck(nn.Module):
    def __init__(self, c: int, add: bool, k: int = 3) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c, k), Conv(c, c, 3), add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y  # type: ignore[no-any-return]


class C3k(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        h = c // 2
        self.cv1, self.cv2, self.cv3 = Conv(c, h), Conv(c, h), Conv(2 * h, c)
        self.m = nn.Sequential(Bottleneck(h, True), Bottleneck(h, True))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))  # type: ignore[no-any-return]


class C2f(nn.Module):
    def __init__(self, c1: int, c2: int, cells: Sequence[nn.Module]) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1, self.cv2 = Conv(c1, c2), Conv((2 + len(cells)) * self.c, c2)
        self.m = nn.ModuleList(cells)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        parts = [y[:, : self.c], y[:, self.c :]]
        for cell in self.m:
            parts.append(cell(parts[-1]))
        return self.cv2(torch.cat(parts, 1))  # type: ignore[no-any-return]


class C3k2(C2f):
    pass


class C2fCIB(C2f):
    pass


class GhostConv(nn.Module):
    def __init__(self, c1: int, c2: int, act: nn.Module | None = None) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2 // 2, act=act), Conv(c2 // 2, c2 // 2, 5, 1, c2 // 2, act)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


class GhostBottleneck(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(GhostConv(c, c // 2), nn.Identity(), GhostConv(c // 2, c, nn.Identity()))
        self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x)  # type: ignore[no-any-return]


class C3Ghost(C3k):
    def __init__(self, c: int) -> None:
        super().__init__(c)
        self.m = nn.Sequential(GhostBottleneck(c // 2))


class C2(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.c = c // 2
        self.cv1, self.cv2, self.m = Conv(c, c), Conv(c, c), nn.Sequential(Bottleneck(c // 2, True))

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return self.cv2(torch.cat((self.m(y[:, : self.c]), y[:, self.c :]), 1))  # type: ignore[no-any-return]


class SPPF(nn.Module):
    """``n`` and ``add`` are class attributes until 8.4, so they are absent from older files."""

    n = 3
    add = False

    def __init__(self, c: int, act: nn.Module | None = None, **later: Any) -> None:
        super().__init__()
        self.__dict__.update(later)
        self.cv1, self.cv2 = Conv(c, c // 2, act=act), Conv(c // 2 * (self.n + 1), c)
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = [self.cv1(x)]
        for _ in range(self.n):
            y.append(self.m(y[-1]))
        out = self.cv2(torch.cat(y, 1))
        return x + out if self.add else out  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, c // heads
        self.key_dim = self.head_dim // 2
        self.scale = self.key_dim**-0.5
        self.qkv = plain(c, c + 2 * self.key_dim * heads)
        self.proj, self.pe = plain(c, c), plain(c, c, 3, g=c)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        both, values = torch.zeros_like(x), torch.zeros_like(x)
        per_head = self.qkv(x).chunk(self.num_heads, 1)
        for i, part in enumerate(per_head):
            q, k, v = (t.flatten(2) for t in part.split([self.key_dim, self.key_dim, self.head_dim], 1))
            weights = torch.einsum("ncq,nck->nqk", q, k).mul(self.scale).softmax(-1)
            rows = slice(i * self.head_dim, (i + 1) * self.head_dim)
            both[:, rows] = torch.einsum("nqk,nck->ncq", weights, v).reshape(n, -1, h, w)
            values[:, rows] = v.reshape(n, -1, h, w)
        return self.proj(both + self.pe(values))  # type: ignore[no-any-return]


class PSABlock(nn.Module):
    def __init__(self, c: int, heads: int, add: bool = True) -> None:
        super().__init__()
        self.attn, self.ffn, self.add = Attention(c, heads), nn.Sequential(Conv(c, 2 * c), plain(2 * c, c)), add

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x) if self.add else self.attn(x)
        return x + self.ffn(x) if self.add else self.ffn(x)  # type: ignore[no-any-return]


class C2PSA(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.c = c // 2
        self.cv1, self.cv2, self.m = Conv(c, c), Conv(c, c), nn.Sequential(PSABlock(c // 2, heads))

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return self.cv2(torch.cat((y[:, : self.c], self.m(y[:, self.c :])), 1))  # type: ignore[no-any-return]


class PSA(nn.Module):
    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.c, block = c // 2, PSABlock(c // 2, heads)
        self.cv1, self.cv2, self.attn, self.ffn = Conv(c, c), Conv(c, c), block.attn, block.ffn

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        b = y[:, self.c :]
        b = b + self.attn(b)
        return self.cv2(torch.cat((y[:, : self.c], b + self.ffn(b)), 1))  # type: ignore[no-any-return]


class AAttn(nn.Module):
    def __init__(self, c: int, heads: int, area: int) -> None:
        super().__init__()
        self.area, self.num_heads, self.head_dim = area, heads, c // heads
        self.qkv, self.proj, self.pe = plain(c, 3 * c), plain(c, c), plain(c, c, 7, g=c)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        cells = self.qkv(x).flatten(2)
        both, values = torch.zeros(n, c, h * w), torch.zeros(n, c, h * w)
        size = h * w // self.area
        for start in range(0, h * w, size):
            run = cells[:, :, start : start + size]
            for i, part in enumerate(run.chunk(self.num_heads, 1)):
                q, k, v = part.chunk(3, 1)
                weights = torch.einsum("ncq,nck->nqk", q, k).div(self.head_dim**0.5).softmax(-1)
                rows = slice(i * self.head_dim, (i + 1) * self.head_dim)
                both[:, rows, start : start + size] = torch.einsum("nqk,nck->ncq", weights, v)
                values[:, rows, start : start + size] = v
        return self.proj(both.reshape(x.shape) + self.pe(values.reshape(x.shape)))  # type: ignore[no-any-return]


class ABlock(nn.Module):
    def __init__(self, c: int, heads: int, area: int) -> None:
        super().__init__()
        self.attn, self.mlp = AAttn(c, heads, area), nn.Sequential(Conv(c, 2 * c), plain(2 * c, c))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)  # type: ignore[no-any-return]


class A2C2f(nn.Module):
    def __init__(self, c: int, cells: Sequence[nn.Module], gamma: bool) -> None:
        super().__init__()
        h = c // 2
        self.cv1, self.cv2, self.m = Conv(c, h), Conv((1 + len(cells)) * h, c), nn.ModuleList(cells)
        self.gamma = nn.Parameter(torch.rand(c) + 0.5) if gamma else None

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.cv1(x)]
        for cell in self.m:
            parts.append(cell(parts[-1]))
        y = self.cv2(torch.cat(parts, 1))
        return y if self.gamma is None else x + self.gamma.view(-1, 1, 1) * y  # type: ignore[no-any-return]


class SCDown(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2), plain(c2, c2, 3, 2, c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv2(self.cv1(x))  # type: ignore[no-any-return]


class RepVGGDW(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv, self.conv1, self.act = plain(c, c, 7, g=c), plain(c, c, 3, g=c), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x) + self.conv1(x))  # type: ignore[no-any-return]


class CIB(nn.Module):
    def __init__(self, c: int, add: bool) -> None:
        super().__init__()
        d = 2 * c
        self.cv1 = nn.Sequential(Conv(c, c, 3, g=c), Conv(c, d), RepVGGDW(d), Conv(d, c), Conv(c, c, 3, g=c))
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        return x + self.cv1(x) if self.add else self.cv1(x)  # type: ignore[no-any-return]


class RepConvN(nn.Module):
    def __init__(self, c: int, identity: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2, self.act = plain(c, c, 3), plain(c, c), nn.SiLU()
        self.bn = nn.BatchNorm2d(c) if identity else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x) + self.conv2(x)
        return self.act(y if self.bn is None else y + self.bn(x))  # type: ignore[no-any-return]


class RepNBottleneck(nn.Module):
    def __init__(self, c: int, add: bool) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = RepConvN(c), Conv(c, c, 3), add

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y  # type: ignore[no-any-return]


class RepNCSP(nn.Module):
    def __init__(self, c: int, add: bool) -> None:
        super().__init__()
        h = c // 2
        self.cv1, self.cv2, self.cv3 = Conv(c, h), Conv(c, h), Conv(2 * h, c)
        self.m = nn.Sequential(RepNBottleneck(h, add))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))  # type: ignore[no-any-return]


class RepNCSPELAN4(nn.Module):
    def __init__(self, c: int, add: bool = True) -> None:
        super().__init__()
        h = self.c = c // 2
        self.cv1, self.cv4 = Conv(c, c), Conv(4 * h, c)
        self.cv2, self.cv3 = (nn.Sequential(RepNCSP(h, add), Conv(h, h, 3)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        b = y[:, self.c :]
        d = self.cv2(b)
        return self.cv4(torch.cat((y[:, : self.c], b, d, self.cv3(d)), 1))  # type: ignore[no-any-return]


class SP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)  # type: ignore[no-any-return]


class SPPELAN(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4, self.cv5 = Conv(c, c // 2), SP(), SP(), SP(), Conv(2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        a = self.cv1(x)
        b = functional.max_pool2d(a, 5, 1, 2)
        d = functional.max_pool2d(b, 5, 1, 2)
        return self.cv5(torch.cat((a, b, d, functional.max_pool2d(d, 5, 1, 2)), 1))  # type: ignore[no-any-return]


class AConv(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1 = Conv(c1, c2, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.cv1(_mean_2x2(x))  # type: ignore[no-any-return]


class ADown(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.c = c2 // 2
        self.cv1, self.cv2 = Conv(c1 // 2, self.c, 3, 2), Conv(c1 // 2, self.c)

    def forward(self, x: Tensor) -> Tensor:
        x = _mean_2x2(x)
        half = x.shape[1] // 2
        pooled = functional.max_pool2d(x[:, half:], 3, 2, 1)
        return torch.cat((self.cv1(x[:, :half]), self.cv2(pooled)), 1)


def _mean_2x2(x: Tensor) -> Tensor:
    return (x[..., :-1, :-1] + x[..., 1:, :-1] + x[..., :-1, 1:] + x[..., 1:, 1:]) / 4


class CBLinear(nn.Module):
    def __init__(self, c: int, widths: list[int]) -> None:
        super().__init__()
        self.c2s, self.conv = widths, nn.Conv2d(c, sum(widths), 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.conv(x).split(self.c2s, 1))


class CBFuse(nn.Module):
    def __init__(self, idx: list[int]) -> None:
        super().__init__()
        self.idx = idx

    def forward(self, xs: Any) -> Tensor:
        total: Tensor = xs[-1]
        for index, features in zip(self.idx, xs[:-1], strict=True):
            factor = total.shape[2] // features[index].shape[2]
            larger = features[index].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
            total = total + larger
        return total


class Silence(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class DFL(nn.Module):
    def __init__(self, bins: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(bins, 1, 1, bias=False).requires_grad_(False)
        self.conv.weight.data[:] = torch.arange(bins, dtype=torch.float).view(1, bins, 1, 1)
        self.c1 = bins


class Detect(nn.Module):
    """The head; `pairs` of chains under the names of its form, of which the one at `used` runs."""

    stride: Tensor
    pairs: tuple[tuple[str, str], ...] = (("cv2", "cv3"),)
    used = -1

    def __init__(self, nc: int, channels: Sequence[int], strides: Sequence[int], bins: int = 16) -> None:
        super().__init__()
        self.nc, self.nl, self.reg_max, self.no = nc, len(strides), bins, nc + 4 * bins
        self.stride = torch.tensor(strides, dtype=torch.float32)
        self.dfl = DFL(bins) if bins > 1 else nn.Identity()
        width = len(channels) // len(self.pairs) if self.auxiliary else len(channels)
        for i, pair in enumerate(self.pairs):
            inputs = channels[i * width : (i + 1) * width] if self.auxiliary else channels
            for name, out in zip(pair, (4 * bins, nc), strict=True):
                chains = (nn.Sequential(Conv(c, 8, 3), nn.Conv2d(8, out, 1)) for c in inputs)
                setattr(self, name, nn.ModuleList(chains))

    @property
    def auxiliary(self) -> bool:
        return len(self.pairs) > 1 and "one2one_cv2" not in self.pairs[-1]

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        inputs = xs[-self.nl :]
        boxes, scores = (getattr(self, name) for name in self.pairs[self.used])
        return [chain(x) for box, score, x in zip(boxes, scores, inputs, strict=True) for chain in (box, score)]


class v10Detect(Detect):
    pairs = (("cv2", "cv3"), ("one2one_cv2", "one2one_cv3"))


class DualDDetect(Detect):
    pairs = (("cv2", "cv3"), ("cv4", "cv5"))

    def __init__(self, nc: int, channels: Sequence[int], strides: Sequence[int], bins: int = 16) -> None:
        super().__init__(nc, channels, strides, bins)
        self.dfl2 = DFL(bins)
