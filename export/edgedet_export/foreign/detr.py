"""A foreign file that ends in a set of queries becomes raw boxes and class logits, without a spec from its user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedet_export.foreign.file_input import INPUT_NAME, NormalizeInput, read_input
from edgedet_export.foreign.fold_constants import FoldConstants
from edgedet_export.foreign.from_spec import read_with_spec
from edgedet_export.foreign.half import ToFloat32
from edgedet_export.foreign.importer import ForeignModel, choose_class_names
from edgedet_export.foreign.origin import origin_of
from edgedet_export.foreign.queries import QuerySet, find_queries, fix_picture_size
from edgedet_export.foreign.trials import try_prepared
from edgedet_export.graph.conversion import load_model, to_proto
from edgedet_export.graph.values import dims
from edgedet_export.onnx_passes import run_passes
from edgedet_runtime.licence_text import licence_of
from edgedet_runtime.spec import DecodeSpec, InputSpec, LevelSpec, ModelSpec, ResizeSpec, Thresholds
from edgedet_runtime.version import __version__

__all__ = ["queries_spec", "read_queries"]

PREPARATION = (
    "pictures: RGB, 0..1, stretched to the input, as RT-DETR and D-FINE take them; where the network wants a mean and"
    " std (RF-DETR does), give a spec"
)


def read_queries(
    path: Path, *, classes: Sequence[str] | None = None, imgsz: tuple[int, int] | None = None
) -> ForeignModel | None:
    """Read a file that ends in a set of queries; None where it ends in something else.

    Args and errors are those of `queries_spec`.
    """
    told = queries_spec(path, classes=classes, imgsz=imgsz)
    if told is None:
        return None
    foreign = read_with_spec(path, told[0])
    return ForeignModel(foreign.model, foreign.spec, (*told[1], *foreign.notes[1:]), foreign.difference)


def queries_spec(
    path: Path, *, classes: Sequence[str] | None = None, imgsz: tuple[int, int] | None = None
) -> tuple[ModelSpec, tuple[str, ...]] | None:
    """Return the spec of a file that ends in a set of queries, in the file's own names, and what was assumed.

    Args:
        path: The ONNX file.
        classes: Class names in place of the file's.
        imgsz: Height and width, where the file leaves them open.

    Returns:
        None where the file ends in something else.

    Raises:
        ModelFileError: The file has no single picture as its input.
        InputError: `classes` do not fit.
    """
    model = load_model(path)
    metadata = dict(model.metadata_props)
    origin = origin_of(metadata)
    wanted = imgsz or origin.size_hw
    picture = next((size for value in model.graph.inputs if (size := dims(value)) is not None and len(size) == 4), None)
    if picture is None:
        return None
    known = picture[1:3] if picture[1] != 3 and picture[3] == 3 else picture[2:]
    height, width = known[0] or (wanted or (0, 0))[0], known[1] or (wanted or (0, 0))[1]
    if height and width:
        fix_picture_size(model.graph, (height, width))
    file_input = read_input(model.graph, imgsz=wanted)
    size_hw = (file_input.height, file_input.width)
    run_passes(model, [ToFloat32(), NormalizeInput(file_input), FoldConstants()])
    try_prepared(to_proto(model), size_hw, path)
    found = find_queries(model, size_hw)
    if found is None:
        return None
    notes: list[str] = []
    names = choose_class_names(found.classes, classes, metadata, notes)
    said = (f"boxes: of {found.boxes}, {found.evidence}", PREPARATION, *notes)
    return _spec(found, size_hw, names, origin.variant or "onnx", licence_of(metadata)), said


def _spec(
    found: QuerySet, size_hw: tuple[int, int], classes: tuple[str, ...], variant: str, licence: str | None
) -> ModelSpec:
    height, width = size_hw
    unit = (float(width), float(height)) if found.in_fractions else (1.0, 1.0)
    return ModelSpec(
        family="custom",
        variant=variant,
        input=InputSpec(INPUT_NAME, height, width, layout="NCHW", dtype="float32", color="RGB", scale=1 / 255),
        resize=ResizeSpec("stretch"),
        decode=DecodeSpec(
            "queries", (LevelSpec(1, found.boxes, found.logits),), score="cls", suppression="none", unit_xy=unit
        ),
        classes=classes,
        thresholds=Thresholds(conf=0.25, multi_label=True),
        licence=licence or "unknown",
        tool_version=__version__,
    )
