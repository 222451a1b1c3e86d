"""Small networks in the module structure of YOLOv5's and YOLOv7's code, to be pickled and compared with.

The classes carry the official names, attributes and key names, which are facts of the file format; what they compute
is written down here independently of `edgedet_models`, so that a loader that puts layers together wrongly is found
out. The heads keep one convolution per level, as the official ones do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Conv(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1, g: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2, groups=g, bias=False)
        self.bn = nn.BatchNorm2d(c2, eps=1e-3)
        self.act = act or nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]

    def fuseforward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))  # type: ignore[no-any-return]

    def fuse(self) -> None:
        self.conv = fuse_conv_bn_eval(self.conv, self.bn)
        del self.bn
        self.forward = self.fuseforward  # type: ignore[method-assign]


class Bottleneck(nn.Module):
    def __init__(self, c: int, shortcut: bool = True) -> None:
        super().__init__()
        self.cv1, self.cv2, self.add = Conv(c, c), Conv(c, c, 3), shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.add else y  # type: ignore[no-any-return]


class BottleneckCSP(nn.Module):
    def __init__(self, c1: int, c2: int, n: int) -> None:
        super().__init__()
        h = c2 // 2
        self.cv1, self.cv4 = Conv(c1, h), Conv(2 * h, c2)
        self.cv2, self.cv3 = nn.Conv2d(c1, h, 1, bias=False), nn.Conv2d(h, h, 1, bias=False)
        self.bn, self.act = nn.BatchNorm2d(2 * h), nn.LeakyReLU(0.1)
        self.m = nn.Sequential(*(Bottleneck(h) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)
        return self.cv4(self.act(self.bn(both)))  # type: ignore[no-any-return]


class BottleneckCSPC(nn.Module):
    def __init__(self, c1: int, c2: int, n: int) -> None:
        super().__init__()
        h = c2 // 2
        self.cv1, self.cv2, self.cv3, self.cv4 = Conv(c1, h), Conv(c1, h), Conv(h, h), Conv(2 * h, c2)
        self.m = nn.Sequential(*(Bottleneck(h, False) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.cv4(torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1))  # type: ignore[no-any-return]


class BottleneckCSPB(nn.Module):
    def __init__(self, c1: int, c2: int, n: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(c1, c2), Conv(c2, c2), Conv(2 * c2, c2)
        self.m = nn.Sequential(*(Bottleneck(c2, False) for _ in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.cv1(x)
        return self.cv3(torch.cat((self.m(x1), self.cv2(x1)), 1))  # type: ignore[no-any-return]


class GhostConv(nn.Module):
    def __init__(self, c1: int, c2: int, k: int = 1, s: int = 1) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c2 // 2, k, s), Conv(c2 // 2, c2 // 2, 5, 1, c2 // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        return torch.cat((y, self.cv2(y)), 1)


class SPP(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(c1, c1 // 2), Conv(2 * c1, c2)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))

    def forward(self, x: Tensor) -> Tensor:
        x = self.cv1(x)
        return self.cv2(torch.cat([x] + [m(x) for m in self.m], 1))  # type: ignore[no-any-return]


class SPPCSPC(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3, self.cv4 = Conv(c1, c2), Conv(c1, c2), Conv(c2, c2, 3), Conv(c2, c2)
        self.m = nn.ModuleList(nn.MaxPool2d(k, 1, k // 2) for k in (5, 9, 13))
        self.cv5, self.cv6, self.cv7 = Conv(4 * c2, c2), Conv(c2, c2, 3), Conv(2 * c2, c2)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.cv4(self.cv3(self.cv1(x)))
        y1 = self.cv6(self.cv5(torch.cat([x1] + [m(x1) for m in self.m], 1)))
        return self.cv7(torch.cat((y1, self.cv2(x)), 1))  # type: ignore[no-any-return]


class MP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.m = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.m(x)  # type: ignore[no-any-return]


class DownC(nn.Module):
    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.cv1, self.cv2, self.cv3 = Conv(c1, c1), Conv(c1, c2 // 2, 3, 2), Conv(c1, c2 // 2)
        self.mp = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.cv2(self.cv1(x)), self.cv3(self.mp(x))), 1)


class ReOrg(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        phases = functional.pixel_unshuffle(x, 2).reshape(n, c, 2, 2, h // 2, w // 2)
        return phases.permute(0, 3, 2, 1, 4, 5).flatten(1, 3)


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.d = 1

    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat(x, self.d)


class Chuncat(Concat):
    def forward(self, x: list[Tensor]) -> Tensor:
        return torch.cat([t[:, : t.shape[1] // 2] for t in x] + [t[:, t.shape[1] // 2 :] for t in x], 1)


class Shortcut(nn.Module):
    def forward(self, x: list[Tensor]) -> Tensor:
        return x[0] + x[1]


class Foldcut(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.reshape(n, 2, c // 2, h, w).sum(1)


class RepConv(nn.Module):
    rbr_reparam: nn.Conv2d

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(c1, eps=1e-3) if c1 == c2 else None
        self.rbr_dense = nn.Sequential(nn.Conv2d(c1, c2, 3, 1, 1, bias=False), nn.BatchNorm2d(c2, eps=1e-3))
        self.rbr_1x1 = nn.Sequential(nn.Conv2d(c1, c2, 1, bias=False), nn.BatchNorm2d(c2, eps=1e-3))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "rbr_reparam"):
            return self.act(self.rbr_reparam(x))  # type: ignore[no-any-return]
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return self.act(y if self.rbr_identity is None else y + self.rbr_identity(x))  # type: ignore[no-any-return]

    def fuse(self) -> None:
        """Merge the 3×3 and the 1×1 branch; for unequal channels only."""
        branches: list[Any] = [self.rbr_dense, self.rbr_1x1]
        dense, point = (fuse_conv_bn_eval(branch[0], branch[1]) for branch in branches)
        with torch.no_grad():
            dense.weight += functional.pad(point.weight, (1, 1, 1, 1))
            dense.bias += point.bias
        self.rbr_reparam = dense
        del self.rbr_dense, self.rbr_1x1


class ImplicitA(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(torch.randn(1, c, 1, 1) * 0.2)


class ImplicitM(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.implicit = nn.Parameter(1 + torch.randn(1, c, 1, 1) * 0.2)


class Detect(nn.Module):
    stride: Tensor
    anchors: Tensor

    def __init__(self, nc: int, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.nc, self.no, self.nl, self.na = nc, nc + 5, len(strides), 3
        self.stride = torch.tensor(strides, dtype=torch.float32)
        self.register_buffer("anchors", torch.rand(self.nl, self.na, 2) * 4 + 1)
        self.m = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels[: self.nl])

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        return [self.level(i, x) for i, x in enumerate(xs[: self.nl])]

    def level(self, i: int, x: Tensor) -> Tensor:
        """Raw (B, A, h, w, 5 + nc)."""
        return self.arrange(self.m[i](x))

    def arrange(self, y: Tensor) -> Tensor:
        n, _, h, w = y.shape
        return y.reshape(n, self.na, self.no, h, w).permute(0, 1, 3, 4, 2)


class IDetect(Detect):
    def __init__(self, nc: int, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__(nc, channels, strides)
        self.ia = nn.ModuleList(ImplicitA(c) for c in channels[: self.nl])
        self.im = nn.ModuleList(ImplicitM(self.no * self.na) for _ in strides)

    def level(self, i: int, x: Tensor) -> Tensor:
        offset: Any = self.ia[i].implicit
        factor: Any = self.im[i].implicit
        return self.arrange(self.m[i](x + offset) * factor)

    def fuseforward(self, xs: list[Tensor]) -> list[Tensor]:
        return [Detect.level(self, i, x) for i, x in enumerate(xs)]

    def fuse(self) -> None:
        """Fold the implicit layers into the convolutions; they stay in the module, unused."""
        with torch.no_grad():
            levels: Any = zip(self.m, self.ia, self.im, strict=True)
            for m, ia, im in levels:
                offset, factor = ia.implicit, im.implicit
                m.bias += m.weight.sum((2, 3)) @ offset.reshape(-1)
                m.bias *= factor.reshape(-1)
                m.weight *= factor.reshape(-1, 1, 1, 1)
        self.forward = self.fuseforward  # type: ignore[method-assign]


class IAuxDetect(IDetect):
    def __init__(self, nc: int, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__(nc, channels, strides)
        self.m2 = nn.ModuleList(nn.Conv2d(c, self.no * self.na, 1) for c in channels[self.nl :])


class Model(nn.Module):
    """Layers with their from-fields, as the official parser leaves them."""

    def __init__(self, layers: Sequence[tuple[Any, nn.Module]], names: Any) -> None:
        super().__init__()
        self.names = names
        for i, (f, layer) in enumerate(layers):
            layer.i, layer.f, layer.type = i, f, type(layer).__name__  # type: ignore[assignment]
        self.model = nn.Sequential(*(layer for _, layer in layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        result: Any = x
        for layer in self.model:
            f: Any = layer.f
            if f != -1:
                many = [f] if isinstance(f, int) else f
                inputs = [result if j == -1 else outputs[j] for j in many]
                result = inputs[0] if isinstance(f, int) else inputs
            result = layer(result)
            outputs.append(result)
        return result  # type: ignore[no-any-return]
