"""A head of queries: the pyramid is projected, its best cells become queries, a decoder refines them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedet_models.detr.geometry import cell_boxes
from edgedet_models.detr.mlp import Mlp
from edgedet_models.detr.shape import QueryShape

__all__ = ["QueryHead", "StoredAnchors", "projection"]


def projection(c_in: int, c_out: int, kernel: int = 1, *, eps: float = 1e-5) -> nn.Module:
    """Return a convolution (``conv``) with BatchNorm (``norm``); 3×3 halves the size, for levels beyond the pyramid."""
    conv = nn.Conv2d(c_in, c_out, kernel, 1 if kernel == 1 else 2, kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(c_out, eps=eps)))


@dataclass(frozen=True, slots=True, eq=False)
class StoredAnchors:
    """Boxes of the cells as a file holds them: in 16 bits, for one input size.

    The official code takes them where the input has that size; exact ones would move boxes by a tenth of a pixel.

    Attributes:
        sizes_hw: Rows and columns of each level.
        logits: As `cell_boxes` returns them, (1, cells, 4).
    """

    sizes_hw: tuple[tuple[int, int], ...]
    logits: Tensor


class QueryHead(nn.Module):
    """What RT-DETR calls its transformer; what only training needs is left out.

    Attributes:
        queries: Cells that become queries, and so the most objects.
        refine: The decoder: content, logits of boxes, memory, sizes → boxes and class logits.
        stored: Boxes of the cells as a file holds them, if it does.
    """

    queries: int
    stored: StoredAnchors | None
    input_proj: nn.ModuleList
    enc_output: nn.Module
    enc_score_head: nn.Module
    enc_bbox_head: nn.Module
    tgt_embed: nn.Module | None
    refine: nn.Module

    def __init__(self, shape: QueryShape, input_proj: Sequence[nn.Module], decoder: nn.Module) -> None:
        """Build the selection.

        Args:
            shape: Sizes.
            input_proj: One per level; those beyond the given features read the last feature, then each other.
            decoder: See `refine`.
        """
        super().__init__()
        self.queries = shape.queries
        self.stored = None
        self.input_proj = nn.ModuleList(input_proj)
        self.enc_output = nn.Sequential(
            OrderedDict(proj=nn.Linear(shape.hidden, shape.hidden), norm=nn.LayerNorm(shape.hidden))
        )
        self.enc_score_head = nn.Linear(shape.hidden, shape.classes)
        self.enc_bbox_head = Mlp((shape.hidden, shape.hidden, shape.hidden, 4))
        self.tgt_embed = nn.Embedding(shape.queries, shape.hidden) if shape.learned_content else None
        self.refine = decoder

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Map feature maps (N, C, h, w), finest first, to boxes (N, Q, 4) and class logits (N, Q, classes)."""
        levels: list[Tensor] = []
        for index, project in enumerate(self.input_proj):
            source = features[index] if index < len(features) else levels[-1] if index > len(features) else features[-1]
            levels.append(project(source))
        sizes_hw = [(int(level.shape[2]), int(level.shape[3])) for level in levels]
        memory = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        anchors, counts = cell_boxes(sizes_hw, memory)
        if self.stored is not None and self.stored.sizes_hw == tuple(sizes_hw):
            anchors = self.stored.logits.to(memory)
        known = self.enc_output(memory * counts.to(memory.dtype))
        best = self.enc_score_head(known).amax(dim=-1)
        index = best.topk(min(self.queries, best.shape[1]), dim=1).indices.unsqueeze(-1)
        content = known.gather(1, index.expand(-1, -1, known.shape[-1]))
        first = anchors.expand(len(memory), -1, -1).gather(1, index.expand(-1, -1, 4))
        box_logits = self.enc_bbox_head(content) + first
        if self.tgt_embed is not None:
            numbers = torch.arange(index.shape[1], device=memory.device)
            content = self.tgt_embed(numbers).expand(len(memory), -1, -1)
        boxes, logits = self.refine(content, box_logits, memory, sizes_hw)
        return boxes, logits
