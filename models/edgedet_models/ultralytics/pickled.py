"""Detectors from the module tree of a pickled checkpoint; the YAML that such files also hold is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from edgedet_models.checkpoint.content import Checkpoint, ModuleNode
from edgedet_models.layer_list.gray import take_color
from edgedet_models.layer_list.leaves import number, own_tensor
from edgedet_models.layer_list.names import class_names
from edgedet_models.layer_list.network import Wiring, measure_strides
from edgedet_models.layer_list.tree import check_strides, layers_of, read_wiring, unwrap, without_unread
from edgedet_models.ultralytics.blocks import build_block
from edgedet_models.ultralytics.head import HeadNode
from edgedet_models.ultralytics.network import DistanceDetector
from edgedet_models.ultralytics.options import find_option
from edgedet_models.ultralytics.spec import distance_spec
from edgedet_models.ultralytics.tasks import refuse_other_tasks
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import Thresholds

__all__ = ["PickledDetector"]

DEFAULT_SIZE_PX = 640
MAX_SIZE_PX = 8192


@dataclass(frozen=True, slots=True)
class PickledDetector:
    """A pickled model whose ``model`` is a list of layers that ends in a head of distances.

    Attributes:
        checkpoint: Where it was found.
        node: The model.
        layers: Its layers, in order.
        head: The last layer.
    """

    checkpoint: Checkpoint
    node: ModuleNode
    layers: tuple[ModuleNode, ...]
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

    @property
    def type_names(self) -> frozenset[str]:
        """Names of all classes in the tree."""
        return frozenset(node.type_name for _, node in self.node.walk())

    def class_names(self) -> tuple[str, ...]:
        """Return the class names, or ``class0`` … where the file has none."""
        return class_names(self.node.attributes.get("names"), self.head.classes)

    def option(self, key: str) -> Any:
        """Return an entry of the training options, wherever the version that wrote the file put them."""
        content = self.checkpoint.content
        places = [content.get(name) for name in ("train_args", "opt")] if isinstance(content, Mapping) else []
        return find_option([*places, self.node.attributes.get("args")], key)

    @property
    def size_px(self) -> int:
        """Input size of training; 640 where the file does not say."""
        size = self.option("imgsz")
        size = max(size) if isinstance(size, (list, tuple)) and size and all(type(s) is int for s in size) else size
        return size if type(size) is int and 0 < size <= MAX_SIZE_PX else DEFAULT_SIZE_PX

    @property
    def has_auxiliary(self) -> bool:
        """Whether the head has auxiliary branches, which only training needs."""
        return self.head.main not in (None, ("cv2", "cv3"))

    @property
    def evidence(self) -> str:
        """What was found, for a person to read."""
        content = self.checkpoint.content
        version = content.get("version") if isinstance(content, Mapping) else None
        heads = ", with a one-to-many and a one-to-one head" if self.head.has_two else ""
        heads += ", for gray pictures (color is weighted in the first convolution)" if self.channels == 1 else ""
        heads += ", auxiliary branch left out" if self.has_auxiliary else ""
        written = f", written by version {version}"[:60] if isinstance(version, str) else ""
        head = f"head {self.head.node.type_name}{heads}"
        return f"pickled {self.node.class_path}, {len(self.layers)} layers, {head}{written}"

    @property
    def channels(self) -> int:
        """Channels of the input: those of the first convolution.

        Raises:
            CheckpointError: There is none.
        """
        convs = (node for _, node in self.node.walk() if node.type_name == "Conv2d")
        conv = next(convs, None)
        if conv is None:
            raise CheckpointError("expected a convolution as the first layer; the file is damaged")
        channels = own_tensor("model", conv, "weight", 4).shape[1] * int(number("model", conv, "groups", 1))
        return channels // 4 if self.layers[0].type_name == "Focus" else channels

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
        if self.channels not in (1, 3):
            raise CheckpointError(
                f"expected a network for color or gray pictures (3 channels or 1), got one for {self.channels}"
                " channels, which a camera's picture does not have"
            )
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
