"""The detector: layers in a list, and a head of which one or two forms are there."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgedet_models.detector import DEFAULT_HEAD, HeadName
from edgedet_models.layer_list.network import LayerListDetector, Wiring
from edgedet_models.layers.distance_head import DistanceHead
from edgedet_models.ultralytics.spec import for_head
from edgedet_runtime.spec import ModelSpec

__all__ = ["DistanceDetector"]


class DistanceDetector(LayerListDetector):
    """The network; its keys are ``model.<index>.…``, as in the official checkpoints.

    Where it has two heads, both are kept until `choose_head` drops one; until then `forward` runs the default one.
    """

    def __init__(self, spec: ModelSpec, layers: Sequence[nn.Module], wiring: Sequence[Wiring]) -> None:
        """Keep the layers; the last is a `DistanceHead`."""
        super().__init__(spec, layers, wiring)
        self.spec = for_head(spec, self.head.chosen)

    @property
    def head(self) -> DistanceHead:
        """The last layer."""
        head = self.model[-1]
        assert isinstance(head, DistanceHead), "the last layer is the head"
        return head

    @property
    def head_choices(self) -> tuple[HeadName, ...]:
        """The heads that the network has: one, or both of YOLOv10 and YOLO26."""
        return self.head.heads

    def choose_head(self, head: HeadName | None) -> None:
        """Keep one head and drop the other; None keeps `DEFAULT_HEAD` where it is there."""
        super().choose_head(head)
        chosen = head or (DEFAULT_HEAD if DEFAULT_HEAD in self.head_choices else self.head_choices[0])
        self.head.choose(chosen)
        self.spec = for_head(self.spec, chosen)
