"""Letterbox: how one picture is brought to the network's input size, and boxes back.

The transform is computed once per picture size and is a value: it scales and pads pixels (`apply`) and
carries the map of coordinates in both directions (`to_input`, `to_image`). Calibration, parity checks,
evaluation and the device all call this one.

Where each number comes from:

- gain ``g = min(H / h, W / w)`` in both aspect-keeping modes (YOLOv5 ``letterbox``, YOLOX ``preproc``);
- resized size ``round(w * g)`` in YOLOv5 (Python's rounding, halves to even), ``int(w * g)`` in YOLOX;
- the centered picture starts at half of the left-over d, rounded down (``round(d / 2 - 0.1)`` in YOLOv5), so an odd
  row or column goes to the end;
- boxes return with the *unrounded* ``pad = (W - w * g) / 2`` (YOLOv5 ``scale_boxes``), which may differ by up
  to half a pixel from where the picture starts; YOLOX has no pad;
- `stretch` has one gain per axis, and so has `letterbox-topleft` with `per_axis`: whole sides over sides (torchvision's
  ``resize_boxes``, mmdet's ``scale_factor``).

Pixels: bilinear by OpenCV (`linear`, `linear-exact`), or, with `area-down`, where a side shrinks, averages as `area`
specifies them: for a camera's frame the exact mean of each block, within 1 of ``cv2.INTER_AREA``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgedet_runtime.area import shrink
from edgedet_runtime.errors import InputError
from edgedet_runtime.scratch import Scratch
from edgedet_runtime.spec import ResizeSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Letterbox"]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The geometry between one picture size and one input size.

    Attributes:
        image_hw: The picture's rows and columns.
        input_hw: The network input's rows and columns.
        resized_hw: Rows and columns of the picture within the input.
        origin_yx: Row and column of the picture's top left corner within the input.
        gain_xy: Input pixels per image pixel, for coordinates.
        pad_xy: Input coordinates of the image's origin, for coordinates.
        resize: The rules that gave all this.
    """

    image_hw: tuple[int, int]
    input_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    origin_yx: tuple[int, int]
    gain_xy: tuple[float, float]
    pad_xy: tuple[float, float]
    resize: ResizeSpec

    @classmethod
    def fit(cls, image_hw: tuple[int, int], input_hw: tuple[int, int], resize: ResizeSpec) -> Letterbox:
        """Compute the geometry for a picture of `image_hw` in a network of `input_hw`.

        Raises:
            InputError: A picture without pixels.
        """
        (h, w), (in_h, in_w) = image_hw, input_hw
        if h < 1 or w < 1:
            raise InputError(f"image: expected at least 1x1 pixels, got {w}x{h}")
        if resize.mode == "stretch":
            gain = (in_w / w, in_h / h)
            return cls((h, w), (in_h, in_w), (in_h, in_w), (0, 0), gain, (0.0, 0.0), resize)
        g = min(in_h / h, in_w / w)
        if not resize.scale_up:
            g = min(g, 1.0)
        whole = round if resize.rounding == "round" else int
        new_h, new_w = max(whole(h * g), 1), max(whole(w * g), 1)
        if resize.mode == "letterbox-topleft":
            gain = (new_w / w, new_h / h) if resize.per_axis else (g, g)
            return cls((h, w), (in_h, in_w), (new_h, new_w), (0, 0), gain, (0.0, 0.0), resize)
        origin = ((in_h - new_h) // 2, (in_w - new_w) // 2)
        pad = ((in_w - w * g) / 2, (in_h - h * g) / 2)
        return cls((h, w), (in_h, in_w), (new_h, new_w), origin, (g, g), pad, resize)

    def apply(
        self,
        image_bgr: npt.NDArray[np.uint8],
        out: npt.NDArray[np.uint8] | None = None,
        scratch: Scratch | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Scale and pad a picture.

        Args:
            image_bgr: uint8 (h, w, 3) of the size this was fitted to; also gray (h, w) or (h, w, 1), and BGRA (h, w, 4)
                without its alpha: scaled as they are and turned to BGR after, to the same pixels.
            out: uint8 (H, W, 3) to write into, C-contiguous; a new array if None. Every byte of it is
                written.
            scratch: Keeps arrays that averaging needs in between, for the next call.

        Returns:
            `out`, or the new array.

        Raises:
            InputError: The picture or `out` has another shape or type.
        """
        channels = 1 if image_bgr.ndim == 2 else image_bgr.shape[-1]
        good = image_bgr.shape[:2] == self.image_hw and image_bgr.ndim <= 3 and channels in (1, 3, 4)
        if not good or image_bgr.dtype != np.uint8:
            raise InputError(f"image: expected uint8 {(*self.image_hw, 3)}, got {image_bgr.dtype} {image_bgr.shape}")
        in_h, in_w = self.input_hw
        if out is None:
            out = np.empty((in_h, in_w, 3), np.uint8)
        elif out.shape != (in_h, in_w, 3) or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise InputError(f"letterbox: expected C-contiguous uint8 {(in_h, in_w, 3)}, got {out.dtype} {out.shape}")
        (top, left), (new_h, new_w) = self.origin_yx, self.resized_hw
        bottom, right = top + new_h, left + new_w
        pad = self.resize.pad_bgr
        for border in (out[:top], out[bottom:], out[top:bottom, :left], out[top:bottom, right:]):
            border[...] = pad[:1] if len(set(pad)) == 1 else pad
        window = out[top:bottom, left:right]
        kept = Scratch() if scratch is None else scratch
        if channels == 3:
            self._resize(image_bgr, window, kept)
        else:
            small = kept.array("small", (new_h, new_w) if channels == 1 else (new_h, new_w, channels), np.uint8)
            whole = image_bgr.reshape(self.image_hw) if channels == 1 else image_bgr
            self._resize(np.ascontiguousarray(whole), small, kept)
            cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR, dst=window)
        return out

    def _resize(self, image: npt.NDArray[np.uint8], window: npt.NDArray[np.uint8], scratch: Scratch) -> None:
        """Scale a picture to the size of `window`, channel by channel."""
        new_h, new_w = self.resized_hw
        if (new_h, new_w) == self.image_hw:
            window[...] = image
            return
        shrinks = self.gain_xy[0] < 1 or self.gain_xy[1] < 1
        if self.resize.interpolation == "area-down" and shrinks:
            shrink(image, window, scratch)
            return
        if self.resize.interpolation == "linear-corner":
            matrix = np.diag((new_w / image.shape[1], new_h / image.shape[0], 1.0))
            cv2.warpPerspective(image, matrix, (new_w, new_h), dst=window, flags=cv2.INTER_LINEAR)
            return
        method = cv2.INTER_LINEAR_EXACT if self.resize.interpolation == "linear-exact" else cv2.INTER_LINEAR
        cv2.resize(image, (new_w, new_h), dst=window, interpolation=method)

    def to_input(self, boxes_xyxy: npt.ArrayLike, *, clip: bool = False) -> npt.NDArray[np.float32]:
        """Map boxes from image pixels to input pixels.

        Args:
            boxes_xyxy: (N, 4) in image pixels.
            clip: Cut the result at the input's edges.

        Returns:
            float32 (N, 4), a new array.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return self._finish(boxes * (self.gain_xy * 2) + self.pad_xy * 2, self.input_hw, clip)

    def to_image(self, boxes_xyxy: npt.ArrayLike, *, clip: bool = True) -> npt.NDArray[np.float32]:
        """Map boxes from input pixels to image pixels; the inverse of `to_input`.

        Args:
            boxes_xyxy: (N, 4) in input pixels.
            clip: Cut the result at the image's edges, as the official post-processing does.

        Returns:
            float32 (N, 4), a new array.
        """
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        return self._finish((boxes - self.pad_xy * 2) / (self.gain_xy * 2), self.image_hw, clip)

    @staticmethod
    def _finish(boxes: npt.NDArray[np.float64], bounds_hw: tuple[int, int], clip: bool) -> npt.NDArray[np.float32]:
        if clip:
            h, w = bounds_hw
            np.clip(boxes, 0.0, (w, h, w, h), out=boxes)
        return boxes.astype(np.float32)
