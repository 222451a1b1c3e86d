"""From a picture as a camera or file gives it to the input tensor, through buffers that are made once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgedet_runtime.errors import InputError
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.scratch import Scratch
from edgedet_runtime.spec import InputSpec, ResizeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Preprocessor", "to_bgr"]


def to_bgr(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return a picture as uint8 BGR (h, w, 3).

    Args:
        image: uint8; BGR (h, w, 3), which comes back as it is, gray (h, w) or (h, w, 1), or BGRA (h, w, 4),
            whose alpha is dropped.

    Raises:
        InputError: Anything else.
    """
    channels = _channels(image)
    if channels == 3:
        return image
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), code), np.uint8)


def _channels(image: npt.NDArray[Any]) -> int:
    """Return how many channels a picture has, once it is known to be one."""
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"image: expected a numpy array, got {type(image).__name__} (None is what cv2.imread gives for a bad file)"
        )
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or not image.size:
        raise InputError(
            f"image: expected uint8 of shape (h, w, 3), (h, w) or (h, w, 4), got {image.dtype} {image.shape}"
        )
    return channels


class Preprocessor:
    """Makes input tensors for one model.

    The default input (uint8 NHWC BGR) is the letterboxed picture itself; every other kind is one table
    look-up per channel after it: ``(pixel * scale - mean[c]) / std[c]`` has only 256 values per channel,
    computed in float64 and rounded once to float32.
    """

    def __init__(self, input_spec: InputSpec, resize: ResizeSpec) -> None:
        """Allocate the buffers."""
        self._spec = input_spec
        self._resize = resize
        self._letterbox: Letterbox | None = None
        self._scratch = Scratch()
        h, w = input_spec.size_hw
        self._canvas = np.empty((h, w, 3), np.uint8)
        self._plane = np.empty((h, w), np.uint8)
        nchw = input_spec.layout == "NCHW"
        shape = (1, 3, h, w) if nchw else (1, h, w, 3)
        self._is_canvas = not nchw and input_spec.dtype == "uint8" and input_spec.color == "BGR"
        self._tensor: npt.NDArray[Any] = (
            self._canvas[None] if self._is_canvas else np.empty(shape, np.dtype(input_spec.dtype))
        )
        pixel = np.arange(256, dtype=np.float64)[:, None]
        values = (pixel * input_spec.scale - np.array(input_spec.mean)) / np.array(input_spec.std)
        self._table = np.ascontiguousarray(values.T.astype(input_spec.dtype))

    def __call__(self, image: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Letterbox]:
        """Return the input tensor for a picture and its geometry.

        Args:
            image: uint8, BGR (h, w, 3), gray (h, w) or BGRA (h, w, 4).

        Returns:
            The tensor, of shape (1, H, W, 3) or (1, 3, H, W) as the spec says, and the letterbox. The tensor
            is a buffer of this object: the next call overwrites it.

        Raises:
            InputError: The array is not such a picture.
        """
        _channels(image)
        h, w = image.shape[:2]
        fit = self._letterbox
        if fit is None or fit.image_hw != (h, w):
            fit = self._letterbox = Letterbox.fit((h, w), self._spec.size_hw, self._resize)
        fit.apply(image, self._canvas, self._scratch)
        if not self._is_canvas:
            self._fill()
        return self._tensor, fit

    def _fill(self) -> None:
        """Bring the canvas to the spec's color order, type and layout."""
        rgb = self._spec.color == "RGB"
        if self._spec.layout == "NHWC":
            target = self._tensor[0]
            source = cv2.cvtColor(self._canvas, cv2.COLOR_BGR2RGB) if rgb else self._canvas
            cv2.LUT(source, np.ascontiguousarray(self._table.T)[None], dst=target)
            return
        for channel in range(3):
            target = self._tensor[0, channel]
            source_channel = 2 - channel if rgb else channel
            if self._spec.dtype == "uint8":
                cv2.extractChannel(self._canvas, source_channel, dst=target)
            else:
                cv2.extractChannel(self._canvas, source_channel, dst=self._plane)
                cv2.LUT(self._plane, self._table[channel], dst=target)
