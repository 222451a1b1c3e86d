"""Detectors from the module tree of a pickled checkpoint.

Everything comes from the tree itself: which layers there are, what they read (``f``), their sizes, paddings,
epsilons and activations. The YAML that such files also hold is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint.content import Checkpoint, ModuleNode, PickledObject
from edgedet_models.layer_list.blocks import build_block
from edgedet_models.layer_list.gray import input_channels, take_color
from edgedet_models.layer_list.leaves import own_tensor
from edgedet_models.layer_list.names import class_names
from edgedet_models.layer_list.network import LayerListDetector, measure_strides
from edgedet_models.layer_list.spec import anchor_spec
from edgedet_models.layer_list.tree import check_strides, layers_of, read_wiring, unwrap, without_unread
from edgedet_models.layers.head import AnchorHead
from edgedet_runtime.errors import CheckpointError
from edgedet_runtime.spec import ScoreKind

__all__ = ["PickledNetwork", "naming"]

HEADS = ("Detect", "IDetect", "IAuxDetect")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of errors that do not have it yet, and make them one line."""
    try:
        yield
    except CheckpointError as e:
        if str(e).startswith(f"{path}: "):
            raise
        raise CheckpointError(f"{path}: {' '.join(str(e).split())}") from None


@dataclass(frozen=True, slots=True)
class PickledNetwork:
    """A pickled model whose ``model`` is a list of layers that ends in an anchor head.

    Attributes:
        node: The pickled model.
        layers: Its layers, in order.
        head: The last layer.
        anchors: Anchor sizes, float32 (levels, A, 2), in cells of each level.
    """

    node: ModuleNode
    layers: tuple[ModuleNode, ...]
    head: ModuleNode
    anchors: Tensor

    @classmethod
    def find(cls, checkpoint: Checkpoint) -> PickledNetwork | None:
        """Return the network in a checkpoint, or None if there is none of this kind."""
        node = checkpoint.module()
        if node is None:
            return None
        node = unwrap(node)
        layers = layers_of(node)
        if not layers or layers[-1].type_name not in HEADS:
            return None
        anchors = layers[-1].buffers.get("anchors")
        if anchors is None or anchors.dim() != 3 or anchors.shape[2] != 2 or not anchors.is_floating_point():
            return None
        return cls(node, layers, layers[-1], anchors.float())

    @property
    def type_names(self) -> frozenset[str]:
        """Names of all classes in the tree."""
        return frozenset(node.type_name for _, node in self.node.walk())

    @property
    def evidence(self) -> str:
        """What was found, for a person to read."""
        gray = ", for gray pictures (color is weighted in the first convolution)" if self.channels == 1 else ""
        return f"pickled {self.node.class_path}, {len(self.layers)} layers, head {self.head.type_name}{gray}"

    @property
    def channels(self) -> int:
        """Channels of the input; see `input_channels`."""
        return input_channels(self.layers)

    @property
    def num_classes(self) -> int:
        """Classes of the head: from the rows of its convolution."""
        anchors = self.anchors.shape[1]
        weight = own_tensor("head.m.0", self._level(0), "weight", 4)
        classes, rest = divmod(len(weight), anchors)
        told = self.head.attributes.get("nc")
        if type(told) is int and 0 < told < classes - 5 and not rest:
            raise CheckpointError(
                f"head: expected box, objectness and {told} classes, got {classes - 5 - told} more numbers per anchor:"
                " landmarks, as YOLOv5-face has, or masks; the file is whole, but edgedet detects boxes only"
            )
        if rest or classes < 6:
            raise CheckpointError(f"head: {len(weight)} channels are not {anchors} anchors of 5 values and classes")
        return classes - 5

    def class_names(self) -> tuple[str, ...]:
        """Return the class names, or ``class0`` … where the file has none.

        Raises:
            CheckpointError: There are more or fewer names than classes.
        """
        return class_names(self.node.attributes.get("names"), self.num_classes)

    def build(self, *, family: str, variant: str, licence: str, score: ScoreKind = "obj*cls") -> LayerListDetector:
        """Build the detector with its weights, float32, evaluation mode.

        Args:
            family: Registry name.
            variant: Such as ``yolov5n``.
            licence: Licence class of the weights.
            score: ``obj`` where a single class is scored by objectness alone; its class output is left out.

        Raises:
            CheckpointError: A layer is not supported, or the layers do not fit together.
        """
        classes = self.class_names()
        levels = len(self.anchors)
        wiring = read_wiring(self.layers)
        if len(wiring[-1].sources) < levels:
            raise CheckpointError(f"head: expected {levels} levels, got {len(wiring[-1].sources)}")
        # Levels beyond those feed auxiliary heads, which only training uses.
        wiring[-1] = replace(wiring[-1], sources=wiring[-1].sources[:levels])
        wiring = without_unread(wiring)
        layers = [
            build_block(f"model.{i}", layer) if wiring[i].sources else nn.Identity()
            for i, layer in enumerate(self.layers[:-1])
        ]
        layers.append(self._head(score))
        if self.channels == 1:
            take_color(layers, wiring)
        strides = measure_strides(layers, wiring)
        check_strides(self.node, self.head, strides)
        spec = anchor_spec(
            family=family,
            variant=variant,
            licence=licence,
            classes=classes,
            strides=strides,
            anchors_px=[[(w, h) for w, h in level.tolist()] for level in self._anchors_px(strides)],
            score=score,
        )
        return LayerListDetector(spec, layers, wiring).eval()

    def _level(self, level: int) -> ModuleNode:
        convs = self.head.children.get("m")
        node = convs.children.get(str(level)) if convs is not None else None
        if node is None or node.type_name != "Conv2d":
            raise CheckpointError(f"head: the convolution of level {level} is missing")
        return node

    def _head(self, score: ScoreKind) -> AnchorHead:
        levels, anchors, _ = self.anchors.shape
        classes = self.num_classes
        convs = [self._level(i) for i in range(levels)]
        channels = [own_tensor(f"head.m.{i}", conv, "weight", 4).shape[1] for i, conv in enumerate(convs)]
        implicit = "ia" in self.head.children and not _is_fused(self.head)
        names = ("m", "ia", "im") if implicit else ("m",)
        found = {
            f"{name}.{level}.{key}": tensor.float()
            for name in names
            if name in self.head.children
            for level, part in self.head.children[name].children.items()
            for key, tensor in part.parameters.items()
            if tensor is not None
        }
        head = AnchorHead(channels, anchors, classes, implicit=implicit, scores=score != "obj")
        try:
            head.load_state_dict(found)
        except RuntimeError as e:
            raise CheckpointError(f"head: {' '.join(str(e).split())[:200]}") from None
        return head

    def _anchors_px(self, strides: Sequence[int]) -> Tensor:
        """Return anchors in pixels: as the file has them where it does, since decoding used those."""
        told = self.head.buffers.get("anchor_grid")
        if told is not None and told.numel() == self.anchors.numel():
            return told.float().reshape(self.anchors.shape)
        return self.anchors * torch.tensor(strides, dtype=torch.float32).reshape(-1, 1, 1)


def _is_fused(head: ModuleNode) -> bool:
    """Tell whether YOLOv7's head was saved after its implicit layers had been folded away."""
    forward = head.attributes.get("forward")
    return isinstance(forward, PickledObject) and forward.args[1:] == ("fuseforward",)
