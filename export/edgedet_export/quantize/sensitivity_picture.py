"""A picture of the layers' sensitivity: one bar per layer, the most harmed first, with the numbers beside it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from edgedet_runtime.bundle.quantization import LayerFacts

__all__ = ["draw_sensitivity"]

_ROW_PX = 18
_NAME_PX = 300
_BAR_PX = 400
_NOTE_PX = 330
_FINE, _POOR = (140, 170, 90), (60, 60, 220)  # BGR
_POOR_SHARE = 0.25


def draw_sensitivity(layers: Sequence[LayerFacts], *, rows: int = 60) -> npt.NDArray[np.uint8]:
    """Draw the most sensitive layers.

    Args:
        layers: From `rank_layers`, most sensitive first.
        rows: Layers to draw, at most.

    Returns:
        uint8 BGR (H, W, 3). A bar's length is the layer's effect relative to the largest; red where more than a
        quarter of its input channels have less than 10 dB over the rounding noise.
    """
    shown = list(layers[:rows])
    picture = np.full(((len(shown) + 2) * _ROW_PX, _NAME_PX + _BAR_PX + _NOTE_PX, 3), 255, np.uint8)
    _text(picture, 0, 4, "layer")
    _text(picture, 0, _NAME_PX, "effect on detections, this layer alone in INT8")
    _text(picture, 0, _NAME_PX + _BAR_PX + 8, "effect  worst channel  poor channels")
    for row, layer in enumerate(shown, 1):
        top = row * _ROW_PX
        share = layer.effect and layer.effect / shown[0].effect  # of the largest, which comes first
        end = _NAME_PX + max(1, round(_BAR_PX * share))
        color = _POOR if layer.poor_channels > _POOR_SHARE else _FINE
        cv2.rectangle(picture, (_NAME_PX, top + 4), (end, top + _ROW_PX - 3), color, -1)
        _text(picture, row, 4, layer.layer[-40:])
        note = f"{layer.effect:6.3f}  {layer.worst_channel_db:6.1f} dB  {layer.poor_channels:6.0%}"
        _text(picture, row, _NAME_PX + _BAR_PX + 8, note)
    return picture


def _text(picture: npt.NDArray[np.uint8], row: int, left: int, text: str) -> None:
    corner = (left, row * _ROW_PX + _ROW_PX - 5)
    cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (30, 30, 30), 1, cv2.LINE_AA)
