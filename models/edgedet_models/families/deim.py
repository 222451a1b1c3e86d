"""DEIM: D-FINE's or RT-DETRv2's network with SiLU in the decoder and its heads.

Nothing in a file tells them from each other: it is taken for DEIM's if "deim" is in its name, and with
``--family deim``. For the rest see `edgedet_models.detr.official`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.detr.official import OfficialFile, is_named_deim
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "HEADS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "deim"
LICENCE = "Apache-2.0"
FORMS = ("state dict",)
HEADS = ("queries (cls, no NMS)",)
VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {}
"""None is built untrained: their configurations are not in a file."""
CONF = 0.4
"""Threshold of the official tools."""


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize the state dict in a file whose name says DEIM."""
    found = _find(checkpoint)
    if found is None:
        return None
    return Recognition(FAMILY, "custom", found.class_names, f"{found.evidence}, by the file's name")


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the network from the shapes of its weights.

    Raises:
        CheckpointError: It is none of these, or does not fit itself.
    """
    found = _find(checkpoint, any_name=True)
    if found is None:
        raise CheckpointError(f"{checkpoint.path}: expected a state dict of DEIM, got another kind of file")
    return found.build(family=FAMILY, variant="custom", licence=LICENCE, conf=CONF)


def _find(checkpoint: Checkpoint, *, any_name: bool = False) -> OfficialFile | None:
    if checkpoint.module() is not None or not (any_name or is_named_deim(checkpoint.path)):
        return None
    return OfficialFile.find(checkpoint.path, checkpoint.tensors(), act="silu")
