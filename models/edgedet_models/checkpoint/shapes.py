"""Questions about a state dict's shapes, for families that read an architecture off them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from edgedet_runtime.errors import CheckpointError

__all__ = ["Shapes"]


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of a state dict.

    Attributes:
        tensors: Parameters and buffers by name.
        path: The checkpoint, for messages.
    """

    tensors: Mapping[str, Tensor]
    path: Path

    def has(self, name: str) -> bool:
        """Tell whether there is a tensor of this name, or one below it."""
        return name in self.tensors or any(key.startswith(name + ".") for key in self.tensors)

    def conv(self, name: str) -> tuple[int, int, int]:
        """Return output channels, input channels per group and kernel size of the convolution ``name.weight``.

        Raises:
            CheckpointError: It is missing, or not a square two-dimensional kernel.
        """
        key = f"{name}.weight"
        if key not in self.tensors:
            raise CheckpointError(f"{self.path}: expected the tensor {key}, which is missing; the file is damaged")
        shape = tuple(self.tensors[key].shape)
        if len(shape) != 4 or shape[2] != shape[3] or 0 in shape:
            raise CheckpointError(f"{self.path}: {key}: expected a square convolution kernel, got shape {shape}")
        return shape[0], shape[1], shape[2]

    def matrix(self, name: str) -> tuple[int, int]:
        """Return output and input channels of the linear layer ``name.weight``.

        Raises:
            CheckpointError: It is missing, or no matrix.
        """
        key = f"{name}.weight"
        if key not in self.tensors:
            raise CheckpointError(f"{self.path}: expected the tensor {key}, which is missing; the file is damaged")
        shape = tuple(self.tensors[key].shape)
        if len(shape) != 2 or 0 in shape:
            raise CheckpointError(f"{self.path}: {key}: expected a matrix, got shape {shape}")
        return shape[0], shape[1]

    def count(self, name: str) -> int:
        """Return the number of numbered children below a name: one more than the highest number."""
        start = len(name) + 1
        numbers = {key[start:].split(".")[0] for key in self.tensors if key.startswith(name + ".")}
        return max((int(n) + 1 for n in numbers if n.isdigit() and len(n) < 6), default=0)
