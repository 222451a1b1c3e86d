"""DEIM: D-FINE's or RT-DETRv2's network with SiLU in the decoder and its heads.

Nothing in a file tells them from each other: it is taken for DEIM's if "deim" is in its name, and with
``--family deim``. For the rest see `edgedet_models.detr.official`.
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
    name="deim",
    title="DEIM",
    licence=LICENCE,
    conf=0.4,
    fine=None,
    deim=True,
    remark=", by the file's name",
)
recognise, load = _FAMILY.recognise, _FAMILY.load
