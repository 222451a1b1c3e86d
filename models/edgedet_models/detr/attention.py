"""Attention among the elements of one set (Vaswani et al. 2017), with the key names of torch's own layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SelfAttention"]


class SelfAttention(nn.Module):
    """``out_proj(softmax(q kᵀ / √d) v)`` per head; q and k see positions, v does not.

    Keys as in ``torch.nn.MultiheadAttention``: ``in_proj_weight`` and ``in_proj_bias`` hold q, k and v, in this order.
    """

    def __init__(self, channels: int, heads: int) -> None:
        """Build the projections; `heads` divides `channels`."""
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Map (N, S, C) to (N, S, C); `positions` (N or 1, S, C) are added to what is compared."""
        n, count, channels = (int(size) for size in x.shape)
        split = 2 * channels
        compared = functional.linear(x + positions, self.in_proj_weight[:split], self.in_proj_bias[:split])
        v = functional.linear(x, self.in_proj_weight[split:], self.in_proj_bias[split:])
        per_head = channels // self.heads
        q, k, v = (t.reshape(n, count, self.heads, per_head).transpose(1, 2) for t in (*compared.chunk(2, dim=-1), v))
        weights = ((q * per_head**-0.5) @ k.transpose(2, 3)).softmax(dim=-1)
        out: Tensor = self.out_proj((weights @ v).transpose(1, 2).reshape(n, count, channels))
        return out
