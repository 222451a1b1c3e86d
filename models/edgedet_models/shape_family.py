"""What families of state dicts share whose network is read off the shapes: how a file is recognized and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError

__all__ = ["Builders", "Found", "ShapeFamily", "Tensors", "left_out"]

Tensors = Mapping[str, Tensor]
Builders = Mapping[str, Callable[[tuple[str, ...]], DetectorModule]]
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Found(Generic[S]):
    """What a family reads off a file.

    Attributes:
        shape: What the network is built from.
        classes: Class names.
        why: The evidence, and what is assumed; see `Recognition.why`.
    """

    shape: S
    classes: tuple[str, ...]
    why: str


def _all(tensors: Tensors) -> Tensors:
    return tensors


def left_out(*prefixes: str) -> Callable[[Tensors], Tensors]:
    """Return `ShapeFamily.kept` for files that also hold tensors which no inference reads."""
    return lambda tensors: {name: t for name, t in tensors.items() if not name.startswith(prefixes)}


@dataclass(frozen=True, slots=True)
class ShapeFamily(Generic[S]):
    """One of these families; `recognise` and `load` are those of `edgedet_models.families.Family`.

    Attributes:
        name: Registry name.
        title: What a person calls it.
        expected: What messages say was expected, such as ``a NanoDet state dict``.
        sizes: Published shapes by variant.
        build: Makes the untrained detector: variant, shape, class names.
        read: Reads a file and its tensors; None where the marks of the family are not there. It may raise
            `CheckpointError` for a file that is one of these and cannot be taken.
        kept: Returns the tensors that the network loads, by the names that it has for them.
    """

    name: str
    title: str
    expected: str
    sizes: Mapping[str, S]
    build: Callable[[str, S, tuple[str, ...]], DetectorModule]
    read: Callable[[Checkpoint, Tensors], Found[S] | None]
    kept: Callable[[Tensors], Tensors] = _all

    def builders(self) -> Builders:
        """Return a builder for each published size."""
        return {name: partial(self.build, name, shape) for name, shape in self.sizes.items()}

    def recognise(self, checkpoint: Checkpoint) -> Recognition | None:
        """Recognize a state dict by its keys and shapes."""
        found = self._find(checkpoint)
        return None if found is None else Recognition(self.name, self._variant(found.shape), found.classes, found.why)

    def load(self, checkpoint: Checkpoint) -> DetectorModule:
        """Build the detector that the shapes describe and load it strictly.

        Raises:
            CheckpointError: The file is none of this family, or a tensor is missing, left over or misshapen.
        """
        found = self._find(checkpoint)
        if found is None:
            raise CheckpointError(f"{checkpoint.path}: expected {self.expected}, got other keys")
        variant = self._variant(found.shape)
        try:
            detector = self.build(variant, found.shape, found.classes)
        except (ValueError, TypeError, IndexError, ZeroDivisionError, RuntimeError) as e:
            raise CheckpointError(
                f"{checkpoint.path}: expected {self.expected} whose shapes go together, got ones that make no network"
                f" ({str(e)[:100]}); the file is damaged"
            ) from None
        load_strict(detector, self.kept(checkpoint.tensors()), path=checkpoint.path, what=f"{self.title} ({variant})")
        return detector.eval()

    def _find(self, checkpoint: Checkpoint) -> Found[S] | None:
        """Read a file, if its tensors have the ranks that they have in this family, and something in them."""
        tensors = {name: t for name, t in checkpoint.tensors().items() if t.dim() and t.numel()}
        try:
            return self.read(checkpoint, tensors)
        except (IndexError, ValueError, ZeroDivisionError):
            return None

    def _variant(self, shape: S) -> str:
        return next((name for name, known in self.sizes.items() if known == shape), "custom")
