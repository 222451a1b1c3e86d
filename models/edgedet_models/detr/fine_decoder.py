"""D-FINE's decoder: each layer refines a distribution over the four edges of a first box.

Peng et al., "D-FINE: Redefine Regression Task in DETRs as Fine-grained Distribution Refinement", 2024. The first layer
gives a box. Every layer adds logits of distances of the edges from its center; the bins are not uniform, narrow in the
middle: W(n) of `distance_bins`. The peaks of the last distribution add to the class logits (LQE). A gate, not a sum,
joins what attention to the pyramid saw.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgedet_models.detr.decoder import QueryLayer
from edgedet_models.detr.deformable import Pyramid
from edgedet_models.detr.geometry import inverse_sigmoid
from edgedet_models.detr.mlp import Mlp
from edgedet_models.detr.shape import QueryShape

__all__ = ["DistributionDecoder", "distance_bins"]

POSITION_LIMIT = 10.0


def distance_bins(count: int, up: float, scale: float) -> Tensor:
    """Return W(n), the distances that the bins stand for, float32 (count,).

    Args:
        count: Number of bins, odd.
        up: Distance of the last bin but one, in box sizes.
        scale: Curvature; distances are in box sizes divided by it.
    """
    bound = abs(up) * abs(scale)
    step = (bound + 1) ** (2 / (count - 3))
    right = [step**i - 1 for i in range(1, (count - 1) // 2)] + [2 * bound]
    return torch.tensor([-value for value in reversed(right)] + [0.0] + right, dtype=torch.float64).float()


class Gate(nn.Module):
    """A weighted sum of two inputs, weighted by both, normalized."""

    def __init__(self, channels: int) -> None:
        """Build."""
        super().__init__()
        self.gate = nn.Linear(2 * channels, 2 * channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Join (…, C) and (…, C)."""
        first, second = self.gate(torch.cat((a, b), dim=-1)).sigmoid().chunk(2, dim=-1)
        out: Tensor = self.norm(first * a + second * b)
        return out


class Quality(nn.Module):
    """LQE: what the peaks of four distributions say about a box, added to its class logits."""

    def __init__(self, peaks: int, hidden: int, layers: int, *, act: str = "relu") -> None:
        """Build for the highest `peaks` probabilities of each distribution, and their mean."""
        super().__init__()
        self.peaks = peaks
        self.reg_conf = Mlp((4 * (peaks + 1), *[hidden] * (layers - 1), 1), act=act)

    def forward(self, scores: Tensor, corners: Tensor) -> Tensor:
        """Raise or lower all logits (N, Q, classes) of a query by its logits of bins (N, Q, 4, bins)."""
        best = corners.softmax(dim=-1).topk(self.peaks, dim=-1).values
        facts = torch.cat((best, best.mean(dim=-1, keepdim=True)), dim=-1)
        out: Tensor = scores + self.reg_conf(facts.flatten(2))
        return out


class GatedLayer(QueryLayer):
    """A gate joins what a query saw in the pyramid, whose values are not projected."""

    def __init__(self, shape: QueryShape) -> None:
        """Build one layer."""
        super().__init__(shape, projections=False)
        self.gateway = Gate(shape.hidden)

    def join(self, x: Tensor, seen: Tensor) -> Tensor:
        """Weight both."""
        out: Tensor = self.gateway(x, seen)
        return out


class DistributionDecoder(nn.Module):
    """The layers with a head of distributions each, one class head and one estimate of quality behind the last.

    Attributes:
        bins: Distances of the bins, see `distance_bins`.
        scale: Their curvature.
    """

    bins: Tensor

    def __init__(self, shape: QueryShape, quality: Quality, *, bins: Tensor, scale: float, mlp_act: str) -> None:
        """Build the layers and heads.

        Args:
            shape: Sizes.
            quality: Of the last layer.
            bins: See `distance_bins`.
            scale: Curvature of the bins.
            mlp_act: Activation of the heads.
        """
        super().__init__()
        self.scale = abs(scale)
        self.register_buffer("bins", bins, persistent=False)
        hidden = shape.hidden
        self.layers = nn.ModuleList(GatedLayer(shape) for _ in range(shape.layers))
        self.query_pos_head = Mlp((4, 2 * hidden, hidden), act=mlp_act)
        self.pre_bbox_head = Mlp((hidden, hidden, hidden, 4), act=mlp_act)
        widths = (hidden, hidden, hidden, 4 * len(bins))
        self.box_heads = nn.ModuleList(Mlp(widths, act=mlp_act) for _ in range(shape.layers))
        self.score_head = nn.Linear(hidden, shape.classes)
        self.quality = quality

    def forward(self, content: Tensor, box_logits: Tensor, memory: Tensor, sizes_hw: Pyramid) -> tuple[Tensor, Tensor]:
        """Refine; see `RefiningDecoder.forward`."""
        x, boxes = content, box_logits.sigmoid()
        first, corners, before = boxes, torch.zeros((), dtype=x.dtype, device=x.device), torch.zeros_like(x)
        for index, (layer, head) in enumerate(zip(self.layers, self.box_heads, strict=True)):
            positions = self.query_pos_head(boxes).clamp(-POSITION_LIMIT, POSITION_LIMIT)
            x = layer(x, positions, boxes, memory, sizes_hw)
            if index == 0:
                first = (self.pre_bbox_head(x) + inverse_sigmoid(boxes)).sigmoid()
            corners = head(x + before if index else x).unflatten(-1, (4, -1)) + corners
            boxes = self._boxes(first, (corners.softmax(dim=-1) * self.bins).sum(dim=-1))
            before = x
        return boxes, self.quality(self.score_head(x), corners)

    def _boxes(self, first: Tensor, distances: Tensor) -> Tensor:
        """Move the edges of boxes cx, cy, w, h by distances left, top, right, bottom."""
        centers, extents = first[..., :2], first[..., 2:]
        low, high = ((0.5 * self.scale + part) * (extents / self.scale) for part in distances.chunk(2, dim=-1))
        return torch.cat((centers + (high - low) / 2, low + high), dim=-1)
