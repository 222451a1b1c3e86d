"""The same pictures through every model, FP32 beside INT8, with what each finds drawn in."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime import Detector, draw
from edgedet_runtime.choices import EngineName, Precision
from edgedet_runtime.errors import InputError
from edgedet_runtime.pictures import list_folder, read_image

if TYPE_CHECKING:
    import numpy.typing as npt

    from edgedet.comparison.contenders import Comparison
    from edgedet_runtime.labelled import LabelledSet

__all__ = ["MOST_PICTURES", "Drawn", "ModelSamples", "draw_samples", "sample_paths"]

MOST_PICTURES = 4
_LONG_SIDE_PX = 480
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture with one model's detections.

    Attributes:
        picture: The file's name.
        precision: ``fp32`` or ``int8``.
        objects: How many were found at the model's own threshold.
        width: Columns of the drawn picture.
        height: Its rows.
        source: As a ``data:`` URI.
    """

    picture: str
    precision: Precision
    objects: int
    width: int
    height: int
    source: str


@dataclass(frozen=True, slots=True)
class ModelSamples:
    """What one model finds.

    Attributes:
        model: Path as given.
        engine: Where it ran: the first engine with both precisions, else the first.
        rows: Per picture, the precisions side by side.
    """

    model: str
    engine: EngineName
    rows: tuple[tuple[Drawn, ...], ...]


def sample_paths(source: Path | None, dataset: LabelledSet | None) -> list[Path]:
    """Choose the pictures: from a file or folder, else some with objects in them, evenly spread over a labelled set.

    Raises:
        InputError: There is no picture at `source`.
    """
    if source is not None:
        paths = list(list_folder(source).pictures) if source.is_dir() else [source]
        if not paths or not paths[0].is_file():
            raise InputError(f"--samples: expected a picture or a folder of pictures, got {source}")
    else:
        paths = [p.path for p in dataset.pictures if len(p.class_ids)] if dataset is not None else []
    count = min(MOST_PICTURES, len(paths))
    return [paths[i * len(paths) // count] for i in range(count)]


def draw_samples(
    comparison: Comparison, paths: Sequence[Path], *, progress: Callable[[int, int, str], object]
) -> tuple[ModelSamples, ...]:
    """Detect in each picture with each model, one detector open at a time.

    Args:
        comparison: The models and plans.
        paths: Pictures.
        progress: Called with models done, models in all, and what comes next.

    Raises:
        InputError: A picture cannot be read.
        EngineError: A model cannot run.
    """
    images = [(path.name, read_image(path)) for path in paths]
    models = list(dict.fromkeys(entry.model for entry in comparison.contenders))
    found = []
    for number, model in enumerate(models):
        progress(number, len(models), f"sample pictures, {Path(model).name}")
        engine, precisions = _engine(comparison, model)
        columns = []
        for precision in precisions:
            with Detector(model, engine=engine, precision=precision) as detector:
                columns.append([_drawn(detector, precision, name, image) for name, image in images])
        found.append(ModelSamples(model, engine, tuple(zip(*columns, strict=True))))
    return tuple(found)


def _engine(comparison: Comparison, model: str) -> tuple[EngineName, list[Precision]]:
    """Return the engine to show, and its precisions, FP32 first."""
    by_engine: dict[EngineName, set[Precision]] = {}
    for entry in comparison.contenders:
        if entry.model == model:
            by_engine.setdefault(entry.plan.engine, set()).add(entry.plan.precision)
    engine = max(by_engine, key=lambda name: len(by_engine[name]))
    return engine, sorted(by_engine[engine])


def _drawn(detector: Detector, precision: Precision, name: str, image_bgr: npt.NDArray[np.uint8]) -> Drawn:
    detections = detector(image_bgr)
    picture = draw(image_bgr, detections)
    shrink = _LONG_SIDE_PX / max(picture.shape[:2])
    if shrink < 1:
        size = (max(1, round(picture.shape[1] * shrink)), max(1, round(picture.shape[0] * shrink)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    good, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert good, "OpenCV writes JPEG"
    source = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
    return Drawn(name, precision, len(detections), picture.shape[1], picture.shape[0], source)
