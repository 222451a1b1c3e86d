"""What a checkpoint holds, as plain data: inert objects, tensors, numbers and text.

Nothing here knows a file format or a family. The readers produce a `Checkpoint`; the families look into it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from edgedet_models.checkpoint.module_tree import ModuleNode, PickledObject
from edgedet_models.checkpoint.weights import Weights, find_weights
from edgedet_runtime.errors import CheckpointError

__all__ = ["Checkpoint", "ModuleNode", "PickledObject"]

Format = Literal["torch-zip", "torch-legacy", "safetensors", "darknet"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's content.

    Attributes:
        path: Where it was read.
        format: Container format.
        sha256: Hash of the file, hex.
        content: Top-level object: a dict for nearly all torch files (values: tensors, numbers, text, lists,
            dicts, `PickledObject`); name to tensor for safetensors; for darknet a dict with the keys ``cfg``
            (text of the .cfg), ``header`` and ``weights`` (a float32 vector).
        metadata: Text metadata of the container (safetensors' header).
    """

    path: Path
    format: Format
    sha256: str
    content: Any
    metadata: Mapping[str, str] = field(default_factory=dict)

    def weights(self) -> Weights:
        """Return the weights that training meant to be used: an average before the plain ones, see `find_weights`.

        Raises:
            CheckpointError: A pickled module has no end.
        """
        try:
            return find_weights(self.content)
        except CheckpointError as e:
            raise CheckpointError(f"{self.path}: {e}") from None

    def module(self) -> ModuleNode | None:
        """Return the pickled module of `weights`, or None."""
        return self.weights().module

    def tensors(self) -> dict[str, Tensor]:
        """Return the state dict of `weights`; empty if the file holds none."""
        return self.weights().tensors
