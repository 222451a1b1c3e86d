"""What families of official DETR-like state dicts share: which files each takes, and what it assumes, are values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detr.official import OfficialDetr, OfficialFile
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError

__all__ = ["OfficialFamily"]


@dataclass(frozen=True, slots=True)
class OfficialFamily:
    """One of these families; `recognise` and `load` are those of `edgedet_models.families.Family`.

    Attributes:
        name: Registry name.
        title: What a person calls it.
        licence: Licence class of the official weights.
        conf: Threshold of the official tools.
        fine: Whether it has D-FINE's form; None: either.
        deim: Whether it is DEIM's: only with SiLU in the decoder, and only in files whose name says so.
        remark: What stands behind the evidence.
    """

    name: str
    title: str
    licence: str
    conf: float
    fine: bool | None
    deim: bool = False
    remark: str = ""

    def recognise(self, checkpoint: Checkpoint) -> Recognition | None:
        """Recognize the state dict in a file whose name fits."""
        found = self._find(checkpoint) if _is_named_deim(checkpoint.path) == self.deim else None
        if found is None:
            return None
        return Recognition(self.name, "custom", found.class_names, found.evidence + self.remark)

    def load(self, checkpoint: Checkpoint) -> OfficialDetr:
        """Build the network from the shapes of its weights, whatever the name of the file.

        Raises:
            CheckpointError: It is none of these, or does not fit itself.
        """
        found = self._find(checkpoint)
        if found is None:
            raise CheckpointError(f"{checkpoint.path}: expected a state dict of {self.title}, got another kind of file")
        return found.build(family=self.name, variant="custom", licence=self.licence, conf=self.conf)

    def _find(self, checkpoint: Checkpoint) -> OfficialFile | None:
        if checkpoint.module() is not None:
            return None
        act = "silu" if self.deim else "relu"
        found = OfficialFile.find(checkpoint.path, checkpoint.tensors(), act=act)
        return found if found is not None and self.fine in (None, found.is_fine) else None


def _is_named_deim(path: Path) -> bool:
    """Return whether the name of a file says that DEIM trained it, which nothing in the file does."""
    return "deim" in path.name.lower()
