"""The registry of detector families: one line each.

A family is a module that offers the names of `Family`. It is imported when it is first needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, cast

from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.leftovers import non_finite
from edgedet_models.checkpoint.stated_licence import stated_licence
from edgedet_models.checkpoint.stored_spec import restore, stored_spec
from edgedet_models.detector import DetectorModule, HeadName
from edgedet_runtime.errors import ArgumentError, CheckpointError

__all__ = [
    "FAMILIES",
    "Family",
    "Recognition",
    "build",
    "get_family",
    "load",
    "load_recognized",
    "recognise",
    "variants",
]

FAMILIES: Mapping[str, str] = {
    "yolov5": "edgedet_models.families.yolov5",
    "yolov7": "edgedet_models.families.yolov7",
    "yolox": "edgedet_models.families.yolox",
    "darknet": "edgedet_models.families.darknet",
    "damoyolo": "edgedet_models.families.damoyolo",
    "yolov6": "edgedet_models.families.yolov6",
    "edgecode": "edgedet_models.families.edgecode",
    "yolov5-backbones": "edgedet_models.families.yolov5_backbones",
    "ultralytics": "edgedet_models.families.ultralytics",
    "yolov9": "edgedet_models.families.yolov9",
    "rtmdet": "edgedet_models.families.rtmdet",
    "ssd": "edgedet_models.families.ssd",
    "ultraface": "edgedet_models.families.ultraface",
    "blazeface": "edgedet_models.families.blazeface",
    "nanodet": "edgedet_models.families.nanodet",
    "retinanet": "edgedet_models.families.retinanet",
    "fcos": "edgedet_models.families.fcos",
    "atss": "edgedet_models.families.atss",
    "efficientdet": "edgedet_models.families.efficientdet",
    "centernet": "edgedet_models.families.centernet",
    "rtdetr": "edgedet_models.families.rtdetr",
    "dfine": "edgedet_models.families.dfine",
    "deim": "edgedet_models.families.deim",
}


@dataclass(frozen=True, slots=True)
class Recognition:
    """What a family says of a checkpoint that it can load.

    Attributes:
        family: Registry name.
        variant: Such as ``yolov5n``; ``custom`` where no known size fits.
        classes: Class names, or ``class0`` … where the file stores none.
        why: The evidence, for a person to read.
        certain: False where the file's shapes fit, but another family's could as well.
    """

    family: str
    variant: str
    classes: tuple[str, ...]
    why: str
    certain: bool = True


class Family(Protocol):
    """What a family module offers, as module-level names.

    Attributes:
        LICENCE: Licence class that weights of the official code carry, such as ``AGPL-3.0``.
        FORMS: What its checkpoints hold, such as ``pickled modules`` or ``state dict``; for the table in the docs.
        VARIANTS: Builders by variant name, for ``edgedet models`` and training; the argument is the class names.
    """

    LICENCE: str
    FORMS: tuple[str, ...]
    VARIANTS: Mapping[str, Callable[[tuple[str, ...]], DetectorModule]]

    def recognise(self, checkpoint: Checkpoint) -> Recognition | None:
        """Say what the checkpoint is, or None if it is none of this family; cheap, builds nothing."""
        ...

    def load(self, checkpoint: Checkpoint) -> DetectorModule:
        """Build the module from the file's own architecture, float32, eval mode, weights loaded strictly.

        Raises:
            CheckpointError: The file is none of this family, or does not fit itself.
        """
        ...


def get_family(name: str) -> Family:
    """Import a family by its registry name.

    Raises:
        CheckpointError: There is no such family.
    """
    if name not in FAMILIES:
        raise CheckpointError(f"family: expected one of {', '.join(FAMILIES)}, got {name!r}")
    return cast(Family, importlib.import_module(FAMILIES[name]))


def recognise(checkpoint: Checkpoint) -> list[Recognition]:
    """Ask every family; certain answers first. Class names that training stored beside the weights are taken."""
    found = []
    for name in FAMILIES:
        recognition = get_family(name).recognise(checkpoint)
        if recognition is not None:
            stored = stored_spec(checkpoint, family=name, classes=len(recognition.classes))
            found.append(recognition if stored is None else replace(recognition, classes=stored.classes))
    return sorted(found, key=lambda r: not r.certain)


def load(checkpoint: Checkpoint, *, family: str | None = None, head: HeadName | None = None) -> DetectorModule:
    """Load a checkpoint with the family it belongs to; `load_recognized` also says how it was recognized."""
    return load_recognized(checkpoint, family=family, head=head)[0]


def load_recognized(
    checkpoint: Checkpoint, *, family: str | None = None, head: HeadName | None = None
) -> tuple[DetectorModule, Recognition]:
    """Load a checkpoint with the family it belongs to; what training stored of the contract is restored.

    Each family is asked once, or only the one that was named.

    Args:
        checkpoint: What `read_checkpoint` returned.
        family: Registry name; needed only where more than one family fits.
        head: Which head to keep where the file holds two; None: see `DetectorModule.choose_head`.

    Returns:
        The detector, and what its family says of the file.

    Raises:
        ArgumentError: More than one family fits and none was named, or the network does not have that head.
        CheckpointError: No family fits, or not the one that was named.
    """
    if family is None:
        recognition = _only_one(checkpoint, recognise(checkpoint))
        return _load(recognition.family, checkpoint, head), recognition
    named = get_family(family).recognise(checkpoint)
    model = _load(family, checkpoint, head)  # which says what does not fit, where the family does not know the file
    spec = model.spec
    return model, named or Recognition(family, spec.variant, spec.classes, f"named as {family}", certain=False)


def _only_one(checkpoint: Checkpoint, found: list[Recognition]) -> Recognition:
    """Return the answer to go by; a certain one before those that are not.

    Raises:
        ArgumentError: There is more than one.
        CheckpointError: There is none.
    """
    certain = [r for r in found if r.certain] or found
    if not certain:
        raise CheckpointError(
            f"{checkpoint.path}: expected a detector of a known family (`edgedet models` lists them), got an unknown"
            f" architecture; export it to ONNX with its own code and run `edgedet export {checkpoint.path.stem}.onnx`"
            f" (where that asks for more, `edgedet inspect {checkpoint.path.stem}.onnx --draft-spec` drafts a spec for"
            " --spec); for your own nn.Module use edgedet.export(module, spec)"
        )
    if len(certain) > 1:
        names = ", ".join(r.family for r in certain)
        raise ArgumentError("family", f"expected one of {names}, since {checkpoint.path} fits them all, got none")
    return certain[0]


def _load(family: str, checkpoint: Checkpoint, head: HeadName | None) -> DetectorModule:
    model = get_family(family).load(checkpoint)
    model.choose_head(head)
    _require_finite(model, checkpoint)
    spec = model.spec.replace(licence=stated_licence(checkpoint) or model.spec.licence)
    model.spec = restore(spec, stored_spec(checkpoint, family=spec.family, classes=len(spec.classes)))
    return model


def _require_finite(model: DetectorModule, checkpoint: Checkpoint) -> None:
    """Refuse a network with NaN or infinite weights, which is a fault of the file."""
    damaged = non_finite(model.state_dict())
    if damaged:
        name, (bad, of) = next(iter(damaged.items()))
        more = f" and {len(damaged) - 1} more tensors" if len(damaged) > 1 else ""
        raise CheckpointError(
            f"{checkpoint.path}: {name}{more}: expected finite weights, got {bad} of {of} that are NaN or infinite;"
            " training diverged or the file is damaged; take an earlier checkpoint"
        )


def variants() -> dict[str, str]:
    """Return variant name to family name for everything that can be built from scratch."""
    return {variant: name for name in FAMILIES for variant in get_family(name).VARIANTS}


def build(variant: str, classes: tuple[str, ...]) -> DetectorModule:
    """Build an untrained detector, float32, eval mode.

    Args:
        variant: A name that `variants` lists, such as ``yolov5n``.
        classes: Class names.

    Raises:
        CheckpointError: There is no such variant.
    """
    known = variants()
    if variant not in known:
        raise CheckpointError(f"model: expected one of {', '.join(known)}, got {variant!r}")
    return get_family(known[variant]).VARIANTS[variant](classes).eval()
