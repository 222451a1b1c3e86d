"""The numbers that a head of queries is built from."""

from __future__ import annotations

from dataclasses import dataclass

from edgedet_runtime.errors import CheckpointError

__all__ = ["QueryShape"]

MOST = {"hidden": 4096, "heads": 256, "layers": 64, "ffn": 65536, "queries": 10_000, "classes": 100_000}
MOST_POINTS = 64


@dataclass(frozen=True, slots=True)
class QueryShape:
    """Sizes of a head.

    Attributes:
        hidden: Channels of queries and of the projected pyramid.
        heads: Attention heads.
        points: Sampled places per level and head; as many numbers as there are levels.
        layers: Decoder layers that run.
        ffn: Channels between the two linear layers of a decoder layer.
        queries: Cells that become queries, and so the most objects.
        classes: Number of classes.
        learned_content: Whether queries start from learned vectors, not from the features of their cells.
        act: Activation within decoder layers.
    """

    hidden: int
    heads: int
    points: tuple[int, ...]
    layers: int
    ffn: int
    queries: int
    classes: int
    learned_content: bool = False
    act: str = "relu"

    def __post_init__(self) -> None:
        """Validate, before anything is allocated.

        Raises:
            CheckpointError: A number is out of range, or the heads do not divide the channels.
        """
        for name, most in MOST.items():
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise CheckpointError(f"decoder: {name}: expected 1 to {most}, got {value}")
        if not self.points or not all(1 <= count <= MOST_POINTS for count in self.points):
            raise CheckpointError(f"decoder: points: expected 1 to {MOST_POINTS} per level, got {self.points}")
        if self.hidden % self.heads or self.hidden % 4:
            raise CheckpointError(f"decoder: {self.heads} heads do not divide {self.hidden} channels")
