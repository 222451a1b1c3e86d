"""D-FINE, with HGNetv2 backbones; DEIM's files have the same keys and another activation.

The file holds a state dict, whose average is taken, and no configuration: see `edgedet_models.detr.official` for what
is derived and what is assumed. Nothing in a file tells D-FINE (ReLU in the decoder) from DEIM (SiLU): a file whose name
has "deim" in it is taken for DEIM's, any other for D-FINE's, and ``--family`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.detr.official import OfficialFile, is_named_deim
from edgedet_models.families import Recognition
from edgedet_runtime.errors import CheckpointError

__all__ = ["FORMS", "HEADS", "LICENCE", "VARIANTS", "load", "recognise"]

FAMILY = "dfine"
LICENCE = "Apache-2.0"
FORMS = ("state dict",)
HEADS = ("queries (cls, no NMS)",)
VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {}
"""None is built untrained: their configurations are not in a file."""
CONF = 0.4
"""Threshold of the official tools."""


def recognise(checkpoint: Checkpoint) -> Recognition | None:
    """Recognize the state dict of D-FINE's form."""
    found = _find(checkpoint)
    if found is None:
        return None
    return Recognition(FAMILY, "custom", found.class_names, f"{found.evidence}; {HINT}")


def load(checkpoint: Checkpoint) -> DetectorModule:
    """Build the network from the shapes of its weights.

    Raises:
        CheckpointError: It is none of these, or does not fit itself.
    """
    found = _find(checkpoint, any_name=True)
    if found is None:
        raise CheckpointError(f"{checkpoint.path}: expected a state dict of D-FINE, got another kind of file")
    return found.build(family=FAMILY, variant="custom", licence=LICENCE, conf=CONF)


HINT = "DEIM's files look the same but need SiLU: name them with --family deim"


def _find(checkpoint: Checkpoint, *, any_name: bool = False) -> OfficialFile | None:
    if checkpoint.module() is not None or (is_named_deim(checkpoint.path) and not any_name):
        return None
    found = OfficialFile.find(checkpoint.path, checkpoint.tensors())
    return found if found is not None and found.is_fine else None
