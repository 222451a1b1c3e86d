"""Is OpenCV's resize on this machine what it is elsewhere? Measured against exact bilinear interpolation.

OpenCV computes the linear resize of bytes in fixed point, with code that differs between CPUs. An exact version in
float64 is the common reference: OpenCV on x86 stays within 1 of it. Area averaging of whole blocks has no room at all:
its steps are whole numbers (`edgedet_runtime.area`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgedet_runtime.doctor.findings import Finding
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.spec import ModelSpec

__all__ = ["check_resize", "exact_area", "exact_bilinear"]

_ALLOWED_LSB = 1


def check_resize(image_bgr: npt.NDArray[np.uint8], spec: ModelSpec) -> Finding:
    """Letterbox a picture as the runtime does and compare with the exact result, in steps of a byte (LSB)."""
    fit = Letterbox.fit((image_bgr.shape[0], image_bgr.shape[1]), spec.input.size_hw, spec.resize)
    shrinks = fit.resized_hw[0] < fit.image_hw[0] or fit.resized_hw[1] < fit.image_hw[1]
    (top, left), (height, width) = fit.origin_yx, fit.resized_hw
    seen = fit.apply(image_bgr)[top : top + height, left : left + width]
    if spec.resize.interpolation == "area-down" and shrinks:
        if fit.image_hw[0] % height or fit.image_hw[1] % width:
            return Finding("resize", "ok", "area averaging; has no exact reference here")
        off = int(np.abs(seen - exact_area(image_bgr, (height, width)).astype(np.int64)).max())
        if off:
            return Finding("resize", "warning", f"{off} LSB from exact area averaging, expected 0")
        return Finding("resize", "ok", "exact area averaging")
    lsb = int(np.abs(seen - np.rint(exact_bilinear(image_bgr, (height, width)))).max())
    if lsb <= _ALLOWED_LSB:
        return Finding("resize", "ok", f"within {lsb} LSB of exact bilinear interpolation")
    return Finding("resize", "warning", f"{lsb} LSB from exact bilinear interpolation, expected {_ALLOWED_LSB}")


def exact_area(image: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Average whole blocks by the steps of `edgedet_runtime.area`, in whole numbers.

    Args:
        image: uint8 (h, w, c), its sides whole multiples of the result's.
        size_hw: Rows and columns of the result.

    Returns:
        uint8 (H, W, c).
    """
    (height, width), channels = size_hw, image.shape[2]
    rows, columns = image.shape[0] // height, image.shape[1] // width
    while rows % 2 == 0 and columns % 2 == 0:
        rows, columns = rows // 2, columns // 2
        blocks = image.reshape(height * rows, 2, width * columns, 2, channels).sum((1, 3), dtype=np.int64)
        image = ((blocks + 2) // 4).astype(np.uint8)
    blocks = image.reshape(height, rows, width, columns, channels).sum((1, 3), dtype=np.int64)
    means = np.rint(blocks.astype(np.float32) * np.float32(1 / (rows * columns)))
    return np.asarray(means, np.uint8)


def exact_bilinear(image: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Resize with half-pixel centers and clamped edges, in float64.

    Args:
        image: uint8 (h, w, c).
        size_hw: Rows and columns of the result.

    Returns:
        float64 (H, W, c), not rounded.
    """
    pixels = image.astype(np.float64)
    for axis in (0, 1):
        old, new = image.shape[axis], size_hw[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(np.intp)
        high = np.minimum(low + 1, old - 1)
        part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        pixels = np.take(pixels, low, axis) * (1 - part) + np.take(pixels, high, axis) * part
    return pixels
