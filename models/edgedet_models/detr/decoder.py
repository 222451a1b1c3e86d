"""RT-DETR's decoder: layers that refine a set of boxes."""

from __future__ import annotations

from torch import Tensor, nn

from edgedet_models.detr.attention import SelfAttention
from edgedet_models.detr.deformable import DeformableAttention, Pyramid
from edgedet_models.detr.geometry import inverse_sigmoid
from edgedet_models.detr.mlp import Mlp
from edgedet_models.detr.shape import QueryShape
from edgedet_models.layers.activation import activation

__all__ = ["DecoderLayer", "QueryLayer", "RefiningDecoder"]


class QueryLayer(nn.Module):
    """Attention among queries, attention to the pyramid, two linear layers; each is added and normalized.

    How what a query saw in the pyramid joins it is up to the subclass.
    """

    def __init__(self, shape: QueryShape, *, projections: bool = True) -> None:
        """Build the common layers; for `projections` see `DeformableAttention`."""
        super().__init__()
        self.self_attn = SelfAttention(shape.hidden, shape.heads)
        self.norm1 = nn.LayerNorm(shape.hidden)
        self.cross_attn = DeformableAttention(shape.hidden, shape.heads, shape.points, projections=projections)
        self.linear1 = nn.Linear(shape.hidden, shape.ffn)
        self.act = activation(shape.act)
        self.linear2 = nn.Linear(shape.ffn, shape.hidden)
        self.norm3 = nn.LayerNorm(shape.hidden)

    def join(self, x: Tensor, seen: Tensor) -> Tensor:
        """Join queries (N, Q, C) and what they saw (N, Q, C)."""
        raise NotImplementedError

    def forward(self, x: Tensor, positions: Tensor, boxes: Tensor, memory: Tensor, sizes_hw: Pyramid) -> Tensor:
        """Map queries (N, Q, C) to (N, Q, C); see `DeformableAttention.forward`."""
        x = self.norm1(x + self.self_attn(x, positions))
        x = self.join(x, self.cross_attn(x + positions, boxes, memory, sizes_hw))
        out: Tensor = self.norm3(x + self.linear2(self.act(self.linear1(x))))
        return out


class DecoderLayer(QueryLayer):
    """RT-DETR's layer: what a query saw is added, and the sum normalized."""

    def __init__(self, shape: QueryShape) -> None:
        """Build one layer."""
        super().__init__(shape)
        self.norm2 = nn.LayerNorm(shape.hidden)

    def join(self, x: Tensor, seen: Tensor) -> Tensor:
        """Add and normalize."""
        out: Tensor = self.norm2(x + seen)
        return out


class RefiningDecoder(nn.Module):
    """Layers with a box head each, and one class head behind the last; those of the others serve training only."""

    layers: nn.ModuleList
    query_pos_head: nn.Module
    score_head: nn.Module
    box_heads: nn.ModuleList

    def __init__(self, shape: QueryShape) -> None:
        """Build the layers and heads."""
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.query_pos_head = Mlp((4, 2 * shape.hidden, shape.hidden))
        self.score_head = nn.Linear(shape.hidden, shape.classes)
        widths = (shape.hidden, shape.hidden, shape.hidden, 4)
        self.box_heads = nn.ModuleList(Mlp(widths) for _ in range(shape.layers))

    def forward(self, content: Tensor, box_logits: Tensor, memory: Tensor, sizes_hw: Pyramid) -> tuple[Tensor, Tensor]:
        """Refine.

        Args:
            content: What each query starts with, (N, Q, C).
            box_logits: Logits of its first box, cx, cy, w, h as fractions, (N, Q, 4).
            memory: All cells of the pyramid, (N, cells, C).
            sizes_hw: Rows and columns of each level.

        Returns:
            Boxes (N, Q, 4), cx, cy, w, h as fractions, and class logits (N, Q, classes).
        """
        x, boxes = content, box_logits.sigmoid()
        for layer, head in zip(self.layers, self.box_heads, strict=True):
            x = layer(x, self.query_pos_head(boxes), boxes, memory, sizes_hw)
            boxes = (head(x) + inverse_sigmoid(boxes)).sigmoid()
        return boxes, self.score_head(x)
