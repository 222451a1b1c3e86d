"""A few linear layers in a row, as heads of queries are made of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from edgedet_models.layers.activation import activation

__all__ = ["Mlp"]


class Mlp(nn.Module):
    """Linear layers (``layers.<i>``) with an activation between them, none behind the last."""

    def __init__(self, widths: Sequence[int], *, act: str = "relu") -> None:
        """Build a layer between each two widths."""
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, first width) to (…, last width)."""
        for index, layer in enumerate(self.layers):
            x = layer(x if index == 0 else self.act(x))
        return x
