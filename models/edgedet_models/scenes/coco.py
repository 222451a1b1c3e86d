"""Rendered scenes as a COCO json with its pictures: what `eval`, `compare` and `export` take labels from.

The pictures lie in a folder named as the file (``val.json``, ``val/10000000.jpg``), JPEG like those of a cache. Each
object that shows at all is labelled, whatever its size and however much of it the border cuts: figures on such a set
are plain COCO figures, without the regions that training and the built-in model's own validation leave out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from edgedet_models.scenes.cache import JPEG_QUALITY
from edgedet_models.scenes.scene import SceneObject, render_scene
from edgedet_models.scenes.symbols import KINDS
from edgedet_models.with_parent import end_with_parent
from edgedet_runtime.whole_file import write_whole_file

__all__ = ["write_coco"]

_LEAST_SIDE_PX = 1.0


def write_coco(
    path: Path, count: int, *, first_seed: int = 0, processes: int = 2, long_side: int = 640
) -> Iterator[Path]:
    """Render scenes into pictures, and their labels into one COCO json, written last.

    Args:
        path: The json; its pictures go into the folder of the same name without the suffix.
        count: Scenes in all.
        first_seed: Seed of the first scene; scene i has seed ``first_seed + i``, which is its image id.
        processes: Worker processes.
        long_side: Longer side of the pictures, in pixels.

    Yields:
        Each picture's path as it is done.
    """
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    # Not forked: a process that has threads (OpenCV's, torch's) may hang in a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        write = partial(_write_scene, folder, long_side=long_side)
        for image, objects in pool.map(write, range(first_seed, first_seed + count), chunksize=8):
            images.append(image)
            annotations += [{"id": len(annotations) + at, **item} for at, item in enumerate(objects, 1)]
            yield path.parent / image["file_name"]
    categories = [{"id": number, "name": kind} for number, kind in enumerate(KINDS, 1)]
    write_whole_file(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _write_scene(folder: Path, seed: int, *, long_side: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write one picture; return its entry and its annotations, still without ids."""
    cv2.setNumThreads(1)
    scene = render_scene(seed, long_side=long_side)
    height, width = scene.image_bgr.shape[:2]
    _, data = cv2.imencode(".jpg", scene.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    picture = folder / f"{seed:08d}.jpg"
    picture.write_bytes(data.tobytes())
    entry = {"id": seed, "file_name": f"{folder.name}/{picture.name}", "width": width, "height": height}
    found = [_annotation(item, seed, (height, width)) for item in scene.objects]
    return entry, [item for item in found if min(item["bbox"][2:]) >= _LEAST_SIDE_PX]


def _annotation(item: SceneObject, image_id: int, size_hw: tuple[int, int]) -> dict[str, Any]:
    x0, y0, x1, y1 = item.box_xyxy(size_hw)
    box = [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)]
    area = round(box[2] * box[3], 2)
    return {"image_id": image_id, "category_id": item.class_id + 1, "bbox": box, "area": area, "iscrowd": 0}
