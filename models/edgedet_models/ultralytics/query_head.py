"""The head of a pickled RT-DETR, read into a `QueryHead`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.detr.decoder import RefiningDecoder
from edgedet_models.detr.geometry import cell_boxes
from edgedet_models.detr.query_head import QueryHead, StoredAnchors
from edgedet_models.layer_list.leaves import own_tensor
from edgedet_models.layers.adopt import adopt
from edgedet_models.ultralytics.blocks import build_block
from edgedet_runtime.errors import CheckpointError

__all__ = ["QueryHeadNode"]

HEAD = "RTDETRDecoder"
MOST_QUERIES = 10_000


@dataclass(frozen=True, slots=True)
class QueryHeadNode:
    """A pickled head.

    Attributes:
        node: The module.
        levels: Number of levels.
        classes: Number of classes.
        queries: Number of queries.
        last: Index of the decoder layer whose outputs count; those behind it, if any, served training.
    """

    node: ModuleNode
    levels: int
    classes: int
    queries: int
    last: int

    @classmethod
    def is_head(cls, node: ModuleNode) -> bool:
        """Return whether a layer is a head of this kind."""
        return node.type_name == HEAD

    @classmethod
    def read(cls, node: ModuleNode) -> QueryHeadNode:
        """Read the sizes.

        Raises:
            CheckpointError: A part is missing, or the parts contradict each other.
        """
        decoder = _child(node, "decoder")
        layers = len(_child(decoder, "layers").children)
        classes = len(own_tensor("head.enc_score_head", _child(node, "enc_score_head"), "weight", 2))
        queries = _whole(node.attributes.get("num_queries"), 1, MOST_QUERIES, "num_queries")
        last = _whole(decoder.attributes.get("eval_idx", layers - 1), -layers, layers - 1, "eval_idx") % layers
        told = node.attributes.get("nc", classes)
        if told != classes:
            raise CheckpointError(f"head: expected {told!r:.20} classes, as the file says, got {classes}")
        return cls(node, len(_child(node, "input_proj").children), classes, queries, last)

    def build(self, name: str) -> QueryHead:
        """Build the head with its weights; what only training needs is left out.

        Args:
            name: Dotted name, for messages.
        """

        def part(path: str) -> nn.Module:
            node = self.node
            for key in path.split("."):
                node = _child(node, key)
            return build_block(f"{name}.{path}", node)

        used = range(self.last + 1)
        refine = adopt(
            RefiningDecoder,
            layers=nn.ModuleList(part(f"decoder.layers.{i}") for i in used),
            query_pos_head=part("query_pos_head"),
            score_head=part(f"dec_score_head.{self.last}"),
            box_heads=nn.ModuleList(part(f"dec_bbox_head.{i}") for i in used),
        )
        return adopt(
            QueryHead,
            queries=self.queries,
            stored=self._anchors(),
            input_proj=nn.ModuleList(part(f"input_proj.{i}") for i in range(self.levels)),
            enc_output=part("enc_output"),
            enc_score_head=part("enc_score_head"),
            enc_bbox_head=part("enc_bbox_head"),
            tgt_embed=part("tgt_embed") if self.node.attributes.get("learnt_init_query") is True else None,
            refine=refine,
        )

    def _anchors(self) -> StoredAnchors | None:
        """Return the boxes of the cells that the file holds; None where they are missing or for other levels."""
        logits, sizes = (self.node.attributes.get(key) for key in ("anchors", "shapes"))
        if not isinstance(logits, Tensor) or not isinstance(sizes, list) or len(sizes) != self.levels:
            return None
        if not all(isinstance(s, (list, tuple)) and len(s) == 2 and all(type(n) is int for n in s) for s in sizes):
            return None
        sizes_hw = tuple((int(h), int(w)) for h, w in sizes)
        if logits.shape != (1, sum(h * w for h, w in sizes_hw), 4) or not logits.is_floating_point():
            return None
        expected, _ = cell_boxes(sizes_hw, torch.zeros(1))
        return StoredAnchors(sizes_hw, logits.float()) if _nearly(logits.float(), expected) else None


def _nearly(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are the same up to 16-bit rounding; infinite where the other is."""
    return bool(torch.isclose(a, b, rtol=2e-3, atol=2e-3).all())


def _child(node: ModuleNode, key: str) -> ModuleNode:
    if key not in node.children:
        raise CheckpointError(f"head: expected a part {key!r} in {node.type_name}, which is missing; damaged?")
    return node.children[key]


def _whole(value: Any, least: int, most: int, key: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise CheckpointError(f"head: {key}: expected a whole number {least} to {most}, got {value!r:.40}")
    return value
