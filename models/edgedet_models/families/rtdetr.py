"""RT-DETR and RT-DETRv2 of the official repository, with PResNet or HGNetv2 backbones.

The file holds a state dict, whose average is taken, and no configuration: see `edgedet_models.detr.official` for what
is derived and what is assumed. A file whose name has "deim" in it is taken for DEIM's. RT-DETR of Ultralytics' files is
in the family `ultralytics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.detr.official import OfficialFile, is_named_deim
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "HEADS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "rtdetr"
LICENCE = "Apache-2.0"
FORMS = ("state dict",)
HEADS = ("queries (cls, no NMS)",)
VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {}
"""None is built untrained: their configurations are not in a file."""
CONF = 0.6
"""Threshold of the official tools."""


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize the state dict of RT-DETR's form."""
    found = _find(checkpoint)
    if found is None:
        return None
    return Recognition(FAMILY, "custom", found.class_names, found.evidence)


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the network from the shapes of its weights.

    Raises:
        CheckpointError: It is none of these, or does not fit itself.
    """
    found = _find(checkpoint, any_name=True)
    if found is None:
        raise CheckpointError(
            f"{checkpoint.path}: expected a state dict of RT-DETR or RT-DETRv2, got another kind of file"
        )
    return found.build(family=FAMILY, variant="custom", licence=LICENCE, conf=CONF)


def _find(checkpoint: Checkpoint, *, any_name: bool = False) -> OfficialFile | None:
    if checkpoint.module() is not None or (is_named_deim(checkpoint.path) and not any_name):
        return None
    found = OfficialFile.find(checkpoint.path, checkpoint.tensors())
    return None if found is None or found.is_fine else found
