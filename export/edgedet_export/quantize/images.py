"""Calibration pictures: where they are listed, which of them are usable, and the tensors they become.

The tensors come from the runtime's own preprocessing, so a quantizer sees exactly what the device will feed.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime.errors import ArgumentError, InputError
from edgedet_runtime.labelled import DATASET_SUFFIXES, load_dataset
from edgedet_runtime.pictures import list_folder, looks_like_picture, read_image
from edgedet_runtime.preprocess import Preprocessor
from edgedet_runtime.spec import ModelSpec

__all__ = ["CalibrationSet", "Picture", "open_pictures", "picture_paths"]

_LOGGER = logging.getLogger(__name__)

Picture = Path | npt.NDArray[np.uint8]


def picture_paths(source: Path) -> list[Path]:
    """List the pictures of a folder, a picture file, a COCO json or a YOLO data.yaml (its ``train``, else its ``val``).

    A set's labels need not be there; where they are, they are checked as in training and evaluation.

    Returns:
        Paths in a fixed order: by name in a folder, else as the file lists them.

    Raises:
        InputError: Nothing usable is there, or labels are malformed.
    """
    if source.is_dir():
        found = list(list_folder(source, recursive=True).pictures)
    elif not source.is_file():
        raise ArgumentError("calib", f"expected a folder, COCO json or data.yaml, got {source}, which does not exist")
    elif source.suffix.lower() in DATASET_SUFFIXES:
        data = load_dataset(source, split=("train", "val"), need_labels=False)
        for note in data.notes:
            _LOGGER.warning(note)
        found = [picture.path for picture in data.pictures]
    elif looks_like_picture(source):
        found = [source]
    else:
        raise ArgumentError("calib", f"expected a folder, a COCO json or a data.yaml, got {source}")
    if not found:
        raise ArgumentError("calib", f"expected pictures in {source}, found none")
    return found


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The pictures that calibrate, once each.

    Attributes:
        images: Usable pictures: paths, or uint8 BGR arrays.
        duplicates: Pictures left out because an earlier one has the same pixels.
        unreadable: Files left out because they are damaged or not there.
        sha256: Over the decoded pixels of all usable pictures, in order.
    """

    images: tuple[Picture, ...]
    duplicates: tuple[str, ...]
    unreadable: tuple[str, ...]
    sha256: str

    def __len__(self) -> int:
        """Return the number of usable pictures."""
        return len(self.images)

    def tensors(self, spec: ModelSpec, *, limit: int | None = None) -> Iterator[npt.NDArray[Any]]:
        """Yield one input tensor after another, as `spec` describes it; each is an array of its own."""
        preprocess = Preprocessor(spec.input, spec.resize)
        for picture in self.images[:limit]:
            yield preprocess(_read(picture))[0].copy()

    def spread(self, count: int) -> CalibrationSet:
        """Return `count` of the pictures, evenly spread over the set."""
        n = len(self.images)
        picked = tuple(self.images[i * n // count] for i in range(count)) if count < n else self.images
        return CalibrationSet(picked, self.duplicates, self.unreadable, self.sha256)


def open_pictures(images: Sequence[Picture], *, limit: int) -> CalibrationSet:
    """Check pictures one by one, without keeping more than one in memory.

    Args:
        images: Paths or uint8 BGR arrays.
        limit: Use at most this many; of a longer list, every n-th is taken.

    Raises:
        InputError: None is usable.
    """
    step = max(1, math.ceil(len(images) / limit))
    seen: set[bytes] = set()
    total = hashlib.sha256()
    usable: list[Picture] = []
    duplicates: list[str] = []
    unreadable: list[str] = []
    for number, picture in enumerate(images[::step]):
        name = str(picture) if isinstance(picture, Path) else f"picture {number}"
        try:
            image = _read(picture)
        except InputError as e:
            unreadable.append(name)
            _LOGGER.warning("%s; it is left out", e)
            continue
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
        if digest in seen:
            duplicates.append(name)
            continue
        seen.add(digest)
        total.update(digest)
        usable.append(picture)
    if not usable:
        raise InputError(f"calibration: expected pictures, got {len(images)} of which none can be read")
    return CalibrationSet(tuple(usable), tuple(duplicates), tuple(unreadable), total.hexdigest())


def _read(picture: Picture) -> npt.NDArray[np.uint8]:
    return read_image(picture) if isinstance(picture, Path) else picture
