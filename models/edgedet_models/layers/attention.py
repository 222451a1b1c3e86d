"""Self-attention over the cells of a feature map: YOLOv10's PSA and what YOLO11, 12 and 26 made of it.

Softmax(scale · qᵀ k) weighs the values of all cells (Vaswani et al., "Attention Is All You Need", 2017); a depthwise
convolution of the values (``pe``) says where they are. All projections are 1×1 cells without activation. Area attention
(Tian et al., "YOLOv12: Attention-Centric Real-Time Object Detectors", 2025) cuts the map into equal runs of rows, each
of which attends to itself only.

Sizes are read as Python numbers, so that a traced graph holds constants and plain operators: MatMul, Softmax, Reshape,
Transpose, Split.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.layers.conv_bn_act import ConvBnAct
from edgedet_models.layers.junctions import halves

__all__ = ["AreaAttention", "AreaCell", "AreaStage", "Attention", "AttentionCell", "PartialAttention"]


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Attend with heads of shape (N, heads, c, cells); returns the values' shape."""
    weights = ((q * scale).transpose(2, 3) @ k).softmax(dim=3)
    return v @ weights.transpose(2, 3)


class Attention(nn.Module):
    """``proj(attend(q, k, v) + pe(v))``: keys narrower than values."""

    qkv: nn.Module
    proj: nn.Module
    pe: nn.Module
    num_heads: int
    key_dim: int
    head_dim: int
    scale: float

    def __init__(self, channels: int, heads: int) -> None:
        """Build with keys of half the values' width."""
        super().__init__()
        self.num_heads = heads
        self.head_dim = channels // heads
        self.key_dim = self.head_dim // 2
        self.scale = self.key_dim**-0.5
        self.qkv = ConvBnAct(channels, channels + 2 * self.key_dim * heads, act="identity")
        self.proj = ConvBnAct(channels, channels, act="identity")
        self.pe = ConvBnAct(channels, channels, 3, groups=channels, act="identity")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        h, w = (int(size) for size in x.shape[2:])
        widths = (self.key_dim, self.key_dim, self.head_dim)
        heads = self.qkv(x).reshape(-1, self.num_heads, sum(widths), h * w)
        q, k, v = heads.split(widths, dim=2)
        shape = (-1, self.num_heads * self.head_dim, h, w)
        out: Tensor = self.proj(_attend(q, k, v, self.scale).reshape(shape) + self.pe(v.reshape(shape)))
        return out


class AttentionCell(nn.Module):
    """Attention, then two 1×1 cells (``ffn``), each with its input added if `add`: YOLO11's PSABlock."""

    attn: nn.Module
    ffn: nn.Module
    add: bool

    def __init__(self, channels: int, heads: int) -> None:
        """Build with twice the channels inside the second part."""
        super().__init__()
        self.attn = Attention(channels, heads)
        self.ffn = nn.Sequential(ConvBnAct(channels, 2 * channels), ConvBnAct(2 * channels, channels, act="identity"))
        self.add = True

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.attn(x)
        x = x + y if self.add else y
        y = self.ffn(x)
        return x + y if self.add else y


class PartialAttention(nn.Module):
    """Attention on the second half of ``cv1(x)`` only: YOLOv10's PSA (Wang et al., 2024, arXiv:2405.14458)."""

    cv1: nn.Module
    cv2: nn.Module
    attn: nn.Module
    ffn: nn.Module

    def __init__(self, channels: int, hidden: int, heads: int) -> None:
        """Build with `hidden` channels in each half."""
        super().__init__()
        self.cv1 = ConvBnAct(channels, 2 * hidden)
        self.cv2 = ConvBnAct(2 * hidden, channels)
        cell = AttentionCell(hidden, heads)
        self.attn, self.ffn = cell.attn, cell.ffn

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        a, b = halves(self.cv1(x))
        b = b + self.attn(b)
        b = b + self.ffn(b)
        out: Tensor = self.cv2(torch.cat((a, b), dim=1))
        return out


class AreaAttention(nn.Module):
    """``proj(attend(q, k, v) + pe(v))`` within each of `area` equal runs of cells, row by row: YOLO12's AAttn."""

    qkv: nn.Module
    proj: nn.Module
    pe: nn.Module
    num_heads: int
    head_dim: int
    area: int

    def __init__(self, channels: int, heads: int, area: int) -> None:
        """Build with a 7×7 position convolution."""
        super().__init__()
        self.num_heads = heads
        self.head_dim = channels // heads
        self.area = area
        self.qkv = ConvBnAct(channels, 3 * channels, act="identity")
        self.proj = ConvBnAct(channels, channels, act="identity")
        self.pe = ConvBnAct(channels, channels, 7, groups=channels, act="identity")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; H · W must be a multiple of `area`."""
        h, w = (int(size) for size in x.shape[2:])
        heads = self._cut(self.qkv(x), h * w // self.area).reshape(
            -1, self.num_heads, 3 * self.head_dim, h * w // self.area
        )
        q, k, v = heads.split(self.head_dim, dim=2)
        y = self._join(_attend(q, k, v, self.head_dim**-0.5), h, w)
        out: Tensor = self.proj(y + self.pe(self._join(v, h, w)))
        return out

    def _cut(self, x: Tensor, cells: int) -> Tensor:
        """(N, C, H, W) to (N * area, C, cells)."""
        channels = int(x.shape[1])
        if self.area == 1:
            return x.reshape(-1, channels, cells)
        return x.reshape(-1, channels, self.area, cells).transpose(1, 2).reshape(-1, channels, cells)

    def _join(self, x: Tensor, h: int, w: int) -> Tensor:
        """(N * area, heads, c, cells) to (N, heads * c, H, W)."""
        channels = self.num_heads * self.head_dim
        if self.area == 1:
            return x.reshape(-1, channels, h, w)
        parts = x.reshape(-1, self.area, channels, h * w // self.area)
        return parts.transpose(1, 2).reshape(-1, channels, h, w)


class AreaCell(nn.Module):
    """Area attention, then two 1×1 cells (``mlp``), each with its input added: YOLO12's ABlock."""

    attn: nn.Module
    mlp: nn.Module

    def __init__(self, channels: int, heads: int, area: int, *, ratio: float) -> None:
        """Build with `ratio` times the channels inside the second part."""
        super().__init__()
        inner = int(channels * ratio)
        self.attn = AreaAttention(channels, heads, area)
        self.mlp = nn.Sequential(ConvBnAct(channels, inner), ConvBnAct(inner, channels, act="identity"))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        x = x + self.attn(x)
        out: Tensor = x + self.mlp(x)
        return out


class AreaStage(nn.Module):
    """``y = cv2(cat(cv1(x), m0(·), m1(·), …))``, or ``x + gamma y``: YOLO12's A2C2f, a residual ELAN."""

    cv1: nn.Module
    cv2: nn.Module
    m: nn.ModuleList
    gamma: nn.Parameter | None

    def __init__(self, c_in: int, c_out: int, hidden: int, cells: list[nn.Module], *, residual: bool) -> None:
        """Build around `cells`, which keep `hidden` channels."""
        super().__init__()
        self.cv1 = ConvBnAct(c_in, hidden)
        self.cv2 = ConvBnAct((1 + len(cells)) * hidden, c_out)
        self.m = nn.ModuleList(cells)
        self.gamma = nn.Parameter(torch.full((c_out,), 0.01)) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, c_in, H, W) to (N, c_out, H, W)."""
        pieces = [self.cv1(x)]
        for cell in self.m:
            pieces.append(cell(pieces[-1]))
        y: Tensor = self.cv2(torch.cat(pieces, dim=1))
        return y if self.gamma is None else x + self.gamma.reshape(1, -1, 1, 1) * y
