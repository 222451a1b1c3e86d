"""The head of a pickled network, read into a `DistanceHead`: its chains, classes and bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from edgedet_models.checkpoint.content import ModuleNode
from edgedet_models.layer_list.leaves import own_tensor
from edgedet_models.layers.distance_head import DistanceHead
from edgedet_models.ultralytics.blocks import build_block
from edgedet_runtime.errors import CheckpointError

__all__ = ["HeadNode"]

MAIN: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("Detect", "DDetect", "v10Detect"), ("cv2", "cv3")),
    **dict.fromkeys(("DualDetect", "DualDDetect"), ("cv4", "cv5")),
    **dict.fromkeys(("TripleDetect", "TripleDDetect"), ("cv6", "cv7")),
}
"""The chains that count, by the head's class: YOLOv9 trains with one or two auxiliary heads before the main one."""
ONE_TO_ONE = ("one2one_cv2", "one2one_cv3")


@dataclass(frozen=True, slots=True)
class HeadNode:
    """A pickled head.

    Attributes:
        node: The module.
        main: Names of its chains for boxes and classes; None where only the one-to-one ones are left (a file that was
            saved after fusing).
        levels: Number of levels.
        classes: Number of classes.
        bins: Bins per side; 1 where the four numbers are the distances.
    """

    node: ModuleNode
    main: tuple[str, str] | None
    levels: int
    classes: int
    bins: int

    @classmethod
    def is_head(cls, node: ModuleNode) -> bool:
        """Return whether a layer is a head of this kind; YOLOv5's ``Detect`` is not."""
        pairs = (MAIN.get(node.type_name, ("", "")), ONE_TO_ONE)
        return node.type_name in MAIN and any(set(pair) <= set(node.children) for pair in pairs)

    @classmethod
    def read(cls, node: ModuleNode) -> HeadNode:
        """Read sizes off the last convolutions.

        Raises:
            CheckpointError: The chains do not fit each other, or the file's own numbers.
        """
        main: tuple[str, str] | None = MAIN[node.type_name]
        if main is not None and not set(main) <= set(node.children):
            main = None
        boxes, scores = (list(node.children[key].children.values()) for key in main or ONE_TO_ONE)
        if not boxes or len(boxes) != len(scores):
            raise CheckpointError(f"head: expected as many box as class chains, got {len(boxes)} and {len(scores)}")
        rows = {len(own_tensor("head", _last_conv(chain), "weight", 4)) for chain in boxes}
        classes = {len(own_tensor("head", _last_conv(chain), "weight", 4)) for chain in scores}
        if len(rows) != 1 or len(classes) != 1 or min(rows) % 4:
            raise CheckpointError(
                f"head: expected the same multiple of 4 box channels and the same classes on every level, got"
                f" {sorted(rows)} and {sorted(classes)}"
            )
        head = cls(node, main, len(boxes), classes.pop(), rows.pop() // 4)
        head._check_bins()
        return head

    @property
    def has_two(self) -> bool:
        """Whether both a one-to-many and a one-to-one head are there."""
        return self.main is not None and set(ONE_TO_ONE) <= set(self.node.children)

    def _check_bins(self) -> None:
        """Raise where the file decodes otherwise than by the expectation over bins 0, 1, …, or plain distances."""
        name = {"cv4": "dfl2", "cv6": "dfl3"}.get((self.main or ("",))[0], "dfl")
        dfl = self.node.children.get(name)
        told = self.node.attributes.get("reg_max", self.bins)
        if told != self.bins:
            raise CheckpointError(f"head: expected {told!r:.20} bins per side, as the file says, got {self.bins}")
        if dfl is None or "conv" not in dfl.children:
            if self.bins > 1 and dfl is not None and dfl.type_name != "DFL":
                raise CheckpointError(f"head: expected a DFL for {self.bins} bins, got {dfl.type_name}")
            return
        weight = own_tensor(f"head.{name}.conv", dfl.children["conv"], "weight", 4).flatten()
        if not torch.equal(weight, torch.arange(self.bins, dtype=weight.dtype)):
            raise CheckpointError(f"head.{name}: expected the numbers 0 to {self.bins - 1} of the bins, got others")

    def build(self, name: str) -> DistanceHead:
        """Build the head with its weights; both where there are two.

        Args:
            name: Dotted name, for messages.
        """
        many = None if self.main is None else [self._chains(name, key) for key in self.main]
        one = None
        if set(ONE_TO_ONE) <= set(self.node.children):
            boxes, scores = (self._chains(name, key) for key in ONE_TO_ONE)
            one = (boxes, scores)
        return DistanceHead(None if many is None else many[0], None if many is None else many[1], one)

    def _chains(self, name: str, key: str) -> list[nn.Module]:
        chains = self.node.children[key].children
        if len(chains) != self.levels:
            raise CheckpointError(f"{name}.{key}: expected {self.levels} chains, one per level, got {len(chains)}")
        return [build_block(f"{name}.{key}.{i}", chain) for i, chain in chains.items()]


def _last_conv(chain: ModuleNode) -> ModuleNode:
    convs = [node for _, node in chain.walk() if node.type_name == "Conv2d"]
    if not convs:
        raise CheckpointError(f"head: expected a convolution at the end of each chain, got {chain.type_name}")
    return convs[-1]
