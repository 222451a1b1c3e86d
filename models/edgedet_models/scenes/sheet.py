"""A sheet of scenes with their labels drawn in, to look at what the renderer does."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedet_models.scenes.scene import Scene, render_scene
from edgedet_models.scenes.symbols import KINDS

__all__ = ["draw_labels", "preview_sheet"]

_COLORS = ((60, 60, 255), (255, 0, 255), (0, 200, 255), (255, 100, 0), (0, 220, 0), (255, 255, 0))


def draw_labels(scene: Scene) -> NDArray[np.uint8]:
    """Return a copy of the picture with each outline and box drawn in its kind's colour."""
    image = np.array(scene.image_bgr, dtype=np.uint8)
    for item in scene.objects:
        color = _COLORS[item.class_id]
        x0, y0, x1, y1 = (round(v) for v in item.box_xyxy(scene.image_bgr.shape[:2]))
        cv2.polylines(image, [np.round(item.outline).astype(np.int32)], True, color, 1, cv2.LINE_AA)
        cv2.rectangle(image, (x0, y0), (x1, y1), color, 2)
        cv2.putText(image, item.kind, (x0, max(12, y0 - 3)), 0, 0.5, color, 1, cv2.LINE_AA)
    return np.asarray(image, dtype=np.uint8)


def preview_sheet(
    seeds: Iterable[int], *, columns: int = 5, cell_px: int = 320, labels: bool = True
) -> NDArray[np.uint8]:
    """Render scenes and lay them out on one sheet.

    Args:
        seeds: One scene each.
        columns: Scenes per row.
        cell_px: Side of a cell.
        labels: Draw outlines, boxes and kinds (`KINDS`).

    Returns:
        uint8 (rows * cell_px, columns * cell_px, 3), BGR.
    """
    cells = []
    for seed in seeds:
        scene = render_scene(seed)
        image = draw_labels(scene) if labels else scene.image_bgr
        scale = cell_px / max(image.shape[:2])
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        cell = np.full((cell_px, cell_px, 3), 114, dtype=np.uint8)
        cell[: image.shape[0], : image.shape[1]] = image[:cell_px, :cell_px]
        cells.append(cell)
    while len(cells) % columns:
        cells.append(np.full((cell_px, cell_px, 3), 114, dtype=np.uint8))
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells), columns)]
    return np.asarray(np.vstack(rows), dtype=np.uint8)


assert len(_COLORS) == len(KINDS)
