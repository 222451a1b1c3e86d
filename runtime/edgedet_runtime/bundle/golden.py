"""Golden vectors: a picture, and the detections that each file of the bundle must give for it."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgedet_runtime.detections import Detections
from edgedet_runtime.errors import ModelFileError

__all__ = ["GOLDEN", "MOST_BYTES", "Golden", "read_golden", "write_golden"]

GOLDEN = "golden.npz"
MOST_BYTES = 256 << 20
"""Unpacked size of golden vectors, at most: a picture of 80 megapixels."""

_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    *(
        ArithmeticError,
        LookupError,
        MemoryError,
        SyntaxError,
        tokenize.TokenError,
        TypeError,
        ValueError,
    ),  # what numpy's reader lets through
)

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Golden:
    """A picture and what each file of the bundle found in it where it was exported.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        expected: By file path within the bundle: the confidence threshold, and the detections above it.
    """

    image_bgr: Image
    expected: dict[str, tuple[float, Detections]]


def read_golden(bundle: Path, names: tuple[str, ...]) -> Golden:
    """Read a bundle's golden vectors.

    Args:
        bundle: The folder.
        names: The model's class names.

    Raises:
        ModelFileError: The file is missing or is not what export writes.
    """
    path = bundle / GOLDEN
    try:
        with np.load(path, allow_pickle=False) as arrays:
            size = sum(entry.file_size for entry in arrays.zip.infolist())
            if size > MOST_BYTES:
                raise ValueError(f"{size} bytes once unpacked, more than {MOST_BYTES}")
            image = np.asarray(arrays["image_bgr"])
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"image_bgr: {image.dtype} {image.shape}")
            files = [key.removesuffix("|conf") for key in arrays.files if key.endswith("|conf")]
            expected = {
                file: (
                    float(arrays[f"{file}|conf"]),
                    Detections(
                        np.asarray(arrays[f"{file}|boxes_xyxy"], np.float32),
                        np.asarray(arrays[f"{file}|scores"], np.float32),
                        np.asarray(arrays[f"{file}|class_ids"], np.int64),
                        names,
                    ),
                )
                for file in files
            }
    except _DAMAGE as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise ModelFileError(f"{path}: expected golden vectors as export writes them, got {reason}") from None
    odd = next((conf for conf, _ in expected.values() if not 0 <= conf <= 1), None)
    if odd is not None:
        raise ModelFileError(f"{path}: expected thresholds from 0 to 1, got {odd}")
    return Golden(image, expected)


def write_golden(folder: Path, image_bgr: Image, expected: Mapping[str, tuple[float, Detections]]) -> None:
    """Write a bundle's golden vectors.

    Arrays: ``image_bgr`` uint8 (h, w, 3); per file ``<path>|conf`` (float64 scalar) and ``<path>|boxes_xyxy``,
    ``<path>|scores``, ``<path>|class_ids`` as in `Detections`.

    Args:
        folder: The bundle.
        image_bgr: The picture.
        expected: By file path within the bundle: the threshold, and the detections above it.
    """
    arrays: dict[str, Any] = {"image_bgr": image_bgr}
    for path, (conf, found) in expected.items():
        arrays |= {
            f"{path}|conf": np.float64(conf),
            f"{path}|boxes_xyxy": found.boxes_xyxy,
            f"{path}|scores": found.scores,
            f"{path}|class_ids": found.class_ids,
        }
    np.savez_compressed(folder / GOLDEN, **arrays)
