"""The decoupled anchor-free head of YOLOv8 and its successors: distances to the four sides, and classes.

Per level one chain for the boxes (``cv2``) and one for the classes (``cv3``); the chains are whatever the file holds.
YOLOv10 and YOLO26 have both chains twice: trained one-to-many, with suppression to follow, and one-to-one
(``one2one_cv2``, ``one2one_cv3``), where each object gets one box (Wang et al., "YOLOv10", 2024, arXiv:2405.14458).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgedet_models.detector import DEFAULT_HEAD, HeadName

__all__ = ["DistanceHead"]


class DistanceHead(nn.Module):
    """Raw boxes (N, 4 · bins, h, w) and class logits (N, C, h, w) per level.

    Attributes:
        chosen: Which of two heads `forward` runs; see `heads`.
    """

    def __init__(
        self,
        boxes: Sequence[nn.Module] | None,
        scores: Sequence[nn.Module] | None,
        one_to_one: tuple[Sequence[nn.Module], Sequence[nn.Module]] | None = None,
    ) -> None:
        """Keep the chains, one per level; at least one head must be there."""
        super().__init__()
        self.cv2 = None if boxes is None else nn.ModuleList(boxes)
        self.cv3 = None if scores is None else nn.ModuleList(scores)
        self.one2one_cv2 = None if one_to_one is None else nn.ModuleList(one_to_one[0])
        self.one2one_cv3 = None if one_to_one is None else nn.ModuleList(one_to_one[1])
        self.chosen: HeadName = DEFAULT_HEAD if DEFAULT_HEAD in self.heads else self.heads[0]

    @property
    def heads(self) -> tuple[HeadName, ...]:
        """The heads that are there."""
        many: tuple[HeadName, ...] = () if self.cv2 is None else ("one-to-many",)
        return many if self.one2one_cv2 is None else ("one-to-one", *many)

    @property
    def levels(self) -> int:
        """Number of levels."""
        return len(self._chains()[0])

    def choose(self, head: HeadName) -> None:
        """Keep one head, one of `heads`, and drop the other."""
        self.chosen = head
        if head == "one-to-one":
            self.cv2 = self.cv3 = None
        else:
            self.one2one_cv2 = self.one2one_cv3 = None

    def _chains(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        one = self.chosen == "one-to-one"
        boxes, scores = (self.one2one_cv2, self.one2one_cv3) if one else (self.cv2, self.cv3)
        assert boxes is not None, "the chosen head is there"
        assert scores is not None, "both chains come together"
        return boxes, scores

    def forward(self, xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map one (N, C_i, h_i, w_i) per level to boxes and scores of each level, flat."""
        boxes, scores = self._chains()
        return tuple(chain(x) for box, score, x in zip(boxes, scores, xs, strict=True) for chain in (box, score))

    def reset_bias(self, strides: Sequence[int], *, bins: int) -> None:
        """Start training from small boxes and rare objects: 5 in a picture of 640 px, as the official code does."""
        for boxes, scores in ((self.cv2, self.cv3), (self.one2one_cv2, self.one2one_cv3)):
            if boxes is None or scores is None:
                continue
            for box, score, stride in zip(boxes, scores, strides, strict=True):
                for chain, value in (
                    (box, 1.0 if bins > 1 else 2.0),
                    (score, math.log(5 / len(_last(score).weight) / (640 / stride) ** 2)),
                ):
                    bias = _last(chain).bias
                    assert bias is not None, "the last convolution has one"
                    with torch.no_grad():
                        bias.fill_(value)


def _last(chain: nn.Module) -> nn.Conv2d:
    convs = [module for module in chain.modules() if isinstance(module, nn.Conv2d)]
    return convs[-1]
