"""What a checkpoint holds, as plain data: inert objects, tensors, numbers and text.

Nothing here knows a file format or a family. The readers produce a `Checkpoint`; the families look into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from edgedet_models.checkpoint.budget import ReadBudget
from edgedet_models.checkpoint.module_tree import ModuleNode, PickledObject
from edgedet_models.checkpoint.weights import Weights, find_weights
from edgedet_runtime.errors import CheckpointError

__all__ = ["Checkpoint", "ModuleNode", "PickledObject"]

Format = Literal["torch-zip", "torch-legacy", "safetensors", "darknet"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a training checkpoint holds, as plain data.

    Attributes:
        path: File that was read.
        format: Container format.
        sha256: Hash of the file.
        content: Top-level object: dicts, lists, scalars, tensors, and `PickledObject` for everything else.
        metadata: Text beside the weights: safetensors' header; empty for other formats.
        size_bytes: Size of the file; what reading its weights may take depends on it.
        weights: The weights that training meant to be used: an average before the plain ones, see `find_weights`.
    """

    path: Path
    format: Format
    sha256: str
    content: Any
    metadata: Mapping[str, str] = field(default_factory=dict)
    size_bytes: int = 0
    weights: Weights = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find the weights.

        Raises:
            CheckpointError: A pickled module has no end, or unfolds into far more than the file's size allows.
        """
        try:
            weights = find_weights(self.content, ReadBudget(self.size_bytes))
        except CheckpointError as e:
            raise CheckpointError(f"{self.path}: {e}") from None
        object.__setattr__(self, "weights", weights)

    def module(self) -> ModuleNode | None:
        """Return the pickled module of `weights`, or None."""
        return self.weights.module

    def tensors(self) -> dict[str, Tensor]:
        """Return the state dict of `weights`, a new one each time; empty if the file holds none."""
        return dict(self.weights.tensors)
