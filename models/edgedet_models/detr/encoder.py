"""Attention within one feature map (AIFI of RT-DETR): an encoder layer over its cells."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from edgedet_models.detr.attention import SelfAttention
from edgedet_models.detr.geometry import sincos_positions
from edgedet_models.layers.activation import activation

__all__ = ["EncoderLayer", "OverMap"]


class EncoderLayer(nn.Module):
    """Attention and two linear layers, each added and normalized; with the key names of the official code.

    Attributes:
        normalize_before: Whether a part's input is normalized, not its sum.
    """

    def __init__(
        self, channels: int, heads: int, ffn: int, *, act: str = "gelu", normalize_before: bool = False
    ) -> None:
        """Build the layer."""
        super().__init__()
        self.normalize_before = normalize_before
        self.self_attn = SelfAttention(channels, heads)
        self.linear1 = nn.Linear(channels, ffn)
        self.act = activation(act)
        self.linear2 = nn.Linear(ffn, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map (N, S, C) to (N, S, C)."""
        if self.normalize_before:
            x = x + self.self_attn(self.norm1(x), positions)
            return x + self._widen(self.norm2(x))
        x = self.norm1(x + self.self_attn(x, positions))
        out: Tensor = self.norm2(x + self._widen(x))
        return out

    def _widen(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear2(self.act(self.linear1(x)))
        return out


class OverMap(nn.Module):
    """Encoder layers (``layers.<i>``) over the cells of a map, with fixed positions."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        """Keep the layers."""
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to the same shape."""
        n, channels, h, w = (int(size) for size in x.shape)
        positions = sincos_positions(h, w, channels, x)
        cells = x.flatten(2).transpose(1, 2)
        for layer in self.layers:
            cells = layer(cells, positions)
        return cells.transpose(1, 2).reshape(n, channels, h, w)
