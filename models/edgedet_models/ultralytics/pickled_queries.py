"""RT-DETR from the module tree of a pickled checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detr.spec import STRIDE, query_spec
from edgedet_models.layer_list.names import class_names
from edgedet_models.layer_list.network import LayerListDetector, run_layers
from edgedet_models.layer_list.tree import layers_of, read_wiring, unwrap, without_unread
from edgedet_models.ultralytics.blocks import build_block
from edgedet_models.ultralytics.pickled_layers import PickledLayers
from edgedet_models.ultralytics.query_head import QueryHeadNode
from edgedet_models.ultralytics.rtdetr import CONF, name_rtdetr
from edgedet_runtime.errors import CheckpointError

__all__ = ["PickledQueries"]


@dataclass(frozen=True, slots=True)
class PickledQueries(PickledLayers):
    """Layers that end in a head of queries.

    Attributes:
        head: The last layer.
    """

    head: QueryHeadNode

    @classmethod
    def find(cls, checkpoint: Checkpoint) -> PickledQueries | None:
        """Return the network in a checkpoint, or None if there is none of this kind.

        Raises:
            CheckpointError: Its head contradicts itself.
        """
        node = checkpoint.module()
        if node is None:
            return None
        node = unwrap(node)
        layers = layers_of(node)
        if not layers or not QueryHeadNode.is_head(layers[-1]):
            return None
        return cls(checkpoint, node, layers, QueryHeadNode.read(layers[-1]))

    def class_names(self) -> tuple[str, ...]:
        """Return the class names, or ``class0`` … where the file has none."""
        return class_names(self.node.attributes.get("names"), self.head.classes)

    @property
    def variant(self) -> str:
        """The published name; ``custom`` where no published network has these layers."""
        layers = [layer.state_dict() for layer in self.layers[:-1]]
        return name_rtdetr(layers, self.head.last + 1, self.head.queries)

    @property
    def evidence(self) -> str:
        """What was found, for a person to read."""
        head = f"{self.head.queries} queries, {self.head.last + 1} decoder layers"
        return f"pickled {self.node.class_path}, {len(self.layers)} layers, {head}{self.written_by}"

    def build(self, *, family: str, variant: str, licence: str) -> LayerListDetector:
        """Build the detector with its weights, float32, evaluation mode.

        Raises:
            CheckpointError: A layer is not supported, or the layers do not fit together.
        """
        if self.channels != 3:
            raise CheckpointError(f"expected a network for color pictures (3 channels), got one for {self.channels}")
        wiring = without_unread(read_wiring(self.layers))
        layers: list[nn.Module] = [
            build_block(f"model.{i}", layer) if wiring[i].sources else nn.Identity()
            for i, layer in enumerate(self.layers[:-1])
        ]
        layers.append(self.head.build(f"model.{len(layers)}"))
        spec = query_spec(
            family=family,
            variant=variant,
            licence=licence,
            classes=self.class_names(),
            size_hw=(self.size_px, self.size_px),
            queries=self.head.queries,
            conf=CONF,
        )
        detector = LayerListDetector(spec, layers, wiring)
        detector.eval()
        try:
            with torch.no_grad():
                boxes, scores = run_layers(layers, wiring, torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE))
        except (IndexError, RuntimeError, TypeError, ValueError) as e:
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise CheckpointError(f"its layers do not fit together: {reason}") from None
        if boxes.shape[-1] != 4 or scores.shape[-1] != self.head.classes:
            raise CheckpointError(
                f"head: expected 4 numbers and {self.head.classes} classes per query, got {boxes.shape[-1]} and"
                f" {scores.shape[-1]}"
            )
        return detector
