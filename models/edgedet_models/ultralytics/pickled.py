"""Detectors from the module tree of a pickled checkpoint; the YAML that such files also hold is not needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from edgedet_models.checkpoint.content import Checkpoint, ModuleNode
from edgedet_models.layer_list.gray import take_color
from edgedet_models.layer_list.names import class_names
from edgedet_models.layer_list.network import Wiring, measure_strides
from edgedet_models.layer_list.tree import check_strides, layers_of, read_wiring, unwrap, without_unread
from edgedet_models.ultralytics.blocks import build_block
from edgedet_models.ultralytics.head import HeadNode
from edgedet_models.ultralytics.network import DistanceDetector
from edgedet_models.ultralytics.pickled_layers import PickledLayers
from edgedet_models.ultralytics.spec import distance_spec
from edgedet_models.ultralytics.tasks import refuse_other_tasks
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import Thresholds

__all__ = ["PickledDetector"]


@dataclass(frozen=True, slots=True)
class PickledDetector(PickledLayers):
    """Layers that end in a head of distances.

    Attributes:
        head: The last layer.
    """

    head: HeadNode

    @classmethod
    def find(cls, checkpoint: Checkpoint) -> PickledDetector | None:
        """Return the network in a checkpoint, or None if there is none of this kind.

        Raises:
            CheckpointError: The model is made for another task, or its head contradicts itself.
        """
        node = checkpoint.module()
        if node is None:
            return None
        refuse_other_tasks(node)
        node = unwrap(node)
        layers = layers_of(node)
        if not layers or not HeadNode.is_head(layers[-1]):
            return None
        return cls(checkpoint, node, layers, HeadNode.read(layers[-1]))

    def class_names(self) -> tuple[str, ...]:
        """Return the class names, or ``class0`` … where the file has none."""
        return class_names(self.node.attributes.get("names"), self.head.classes)

    @property
    def has_auxiliary(self) -> bool:
        """Whether the head has auxiliary branches, which only training needs."""
        return self.head.main not in (None, ("cv2", "cv3"))

    @property
    def evidence(self) -> str:
        """What was found, for a person to read."""
        heads = ", with a one-to-many and a one-to-one head" if self.head.has_two else ""
        heads += ", for gray pictures (color is weighted in the first convolution)" if self.channels == 1 else ""
        heads += ", auxiliary branch left out" if self.has_auxiliary else ""
        head = f"head {self.head.node.type_name}{heads}"
        return f"pickled {self.node.class_path}, {len(self.layers)} layers, {head}{self.written_by}"

    @property
    def read_layers(self) -> list[ModuleNode]:
        """The layers that inference needs, without the head and those that pass their input on."""
        kept = zip(self.layers[:-1], self._wiring(), strict=False)
        return [node for node, wire in kept if wire.sources and node.type_name not in ("Identity", "Silence")]

    def _wiring(self) -> list[Wiring]:
        wiring = read_wiring(self.layers)
        if len(wiring[-1].sources) % self.head.levels:
            raise CheckpointError(f"head: expected inputs for {self.head.levels} levels, got {len(wiring[-1].sources)}")
        # The inputs of auxiliary heads come first; what feeds only those is left out.
        wiring[-1] = replace(wiring[-1], sources=wiring[-1].sources[-self.head.levels :])
        return without_unread(wiring)

    def build(
        self, *, family: str, variant: str, licence: str, thresholds: Thresholds | None = None
    ) -> DistanceDetector:
        """Build the detector with its weights, float32, evaluation mode; both heads where there are two.

        Raises:
            CheckpointError: A layer is not supported, or the layers do not fit together.
        """
        classes = self.class_names()
        wiring = self._wiring()
        layers: list[nn.Module] = [
            build_block(f"model.{i}", layer) if wiring[i].sources else nn.Identity()
            for i, layer in enumerate(self.layers[:-1])
        ]
        layers.append(self.head.build(f"model.{len(layers)}"))
        if self.channels == 1:
            take_color(layers, wiring)
        strides = measure_strides(layers, wiring)
        check_strides(self.node, self.head.node, strides)
        spec = distance_spec(
            family=family,
            variant=variant,
            licence=licence,
            classes=classes,
            strides=strides,
            bins=self.head.bins,
            size_px=self.size_px,
            thresholds=thresholds,
        )
        detector = DistanceDetector(spec, layers, wiring)
        detector.eval()
        return detector
