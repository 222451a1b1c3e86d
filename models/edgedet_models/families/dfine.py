"""D-FINE, with HGNetv2 backbones; DEIM's files have the same keys and another activation.

The file holds a state dict, whose average is taken, and no configuration: see `edgedet_models.detr.official` for what
is derived and what is assumed. Nothing in a file tells D-FINE (ReLU in the decoder) from DEIM (SiLU): a file whose name
has "deim" in it is taken for DEIM's, any other for D-FINE's, and ``--family`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedet_models.detector import DetectorModule
from edgedet_models.detr.official_family import OfficialFamily

__all__ = ["FORMS", "HEADS", "LICENCE", "VARIANTS", "load", "recognise"]

LICENCE = "Apache-2.0"
FORMS = ("state dict",)
HEADS = ("queries (cls, no NMS)",)
VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]] = {}
"""None is built untrained: their configurations are not in a file."""

_FAMILY = OfficialFamily(
    name="dfine",
    title="D-FINE",
    licence=LICENCE,
    conf=0.4,
    fine=True,
    remark="; DEIM's files look the same but need SiLU: name them with --family deim",
)
recognise, load = _FAMILY.recognise, _FAMILY.load
