"""Pickled models whose ``model`` is a list of layers; the YAML that such files also hold is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedet_models.checkpoint.content import Checkpoint, ModuleNode
from edgedet_models.layer_list.gray import input_channels
from edgedet_models.ultralytics.options import find_option

__all__ = ["PickledLayers"]

DEFAULT_SIZE_PX = 640
MAX_SIZE_PX = 8192


@dataclass(frozen=True, slots=True)
class PickledLayers:
    """A pickled model whose ``model`` is a list of layers.

    Attributes:
        checkpoint: Where it was found.
        node: The model.
        layers: Its layers, in order; the last is the head.
    """

    checkpoint: Checkpoint
    node: ModuleNode
    layers: tuple[ModuleNode, ...]

    @property
    def type_names(self) -> frozenset[str]:
        """Names of all classes in the tree."""
        return frozenset(node.type_name for _, node in self.node.walk())

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
    def written_by(self) -> str:
        """The version that wrote the file, as the end of a sentence; empty where the file does not say."""
        content = self.checkpoint.content
        version = content.get("version") if isinstance(content, Mapping) else None
        return f", written by version {version}"[:60] if isinstance(version, str) else ""

    @property
    def channels(self) -> int:
        """Channels of the input: those of the first convolution.

        Raises:
            CheckpointError: There is none, or it takes neither 3 channels nor 1.
        """
        return input_channels(self.layers)
