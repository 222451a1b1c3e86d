"""RT-DETR and RT-DETRv2 of the official repository, with PResNet or HGNetv2 backbones.

The file holds a state dict, whose average is taken, and no configuration: see `edgedet_models.detr.official` for what
is derived and what is assumed. A file whose name has "deim" in it is taken for DEIM's. RT-DETR of Ultralytics' files is
in the family `ultralytics`.
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
    name="rtdetr",
    title="RT-DETR or RT-DETRv2",
    licence=LICENCE,
    conf=0.6,
    fine=False,
)
recognise, load = _FAMILY.recognise, _FAMILY.load
