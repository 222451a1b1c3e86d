"""The pictures on which stages are compared: the user's own where there are some, else those that edgedet ships."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgedet_runtime.errors import InputError
from edgedet_runtime.pictures import read_image

__all__ = ["MAX_PARITY_IMAGES", "parity_images", "probe_picture"]

Image = npt.NDArray[np.uint8]

MAX_PARITY_IMAGES = 4


def probe_picture(size_hw: tuple[int, int] = (480, 640)) -> Image:
    """Return a seeded picture with structure at every scale and all colours, uint8 BGR (H, W, 3).

    It excites what photos may leave quiet: saturated colours, pixel-fine texture, hard edges.
    """
    rng = np.random.default_rng(0)
    total = np.zeros((*size_hw, 3), np.float64)
    for octave in range(2, 9):
        coarse = rng.standard_normal((2**octave, 2**octave, 3)).astype(np.float32)
        total += cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC) / octave
    low, high = np.percentile(total, (1, 99))
    picture: Image = np.clip((total - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    cv2.rectangle(picture, (40, 60), (220, 300), (255, 255, 255), -1)
    cv2.circle(picture, (430, 240), 90, (0, 0, 0), -1)
    return picture


def parity_images(paths: Sequence[Path]) -> list[Image]:
    """Read the pictures for parity: some of `paths`, spread evenly, and the probe picture last.

    Where a picture is damaged, the next takes its place, as in calibration, which leaves it out too.

    Raises:
        InputError: None of the pictures can be read.
    """
    step = max(1, len(paths) // (MAX_PARITY_IMAGES - 1))
    starts = list(range(0, len(paths), step))[: MAX_PARITY_IMAGES - 1]
    images: list[Image] = []
    first_error: InputError | None = None
    for start, stop in zip(starts, [*starts[1:], len(paths)], strict=True):
        for path in paths[start:stop]:
            try:
                images.append(read_image(path))
            except InputError as e:
                first_error = first_error or e
            else:
                break
    if first_error is not None and not images:
        raise first_error
    return [*images, probe_picture()]
