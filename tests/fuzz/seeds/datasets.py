"""Labelled sets: a data.yaml with its lists and labels, a COCO json, a training log."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from tests.fuzz.case import Files
from tests.fuzz.seeds.pictures import drawn

__all__ = ["coco", "training_logs", "yolo"]

_LABELS = ("0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.1 0.1\n", "1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n", "")
_YAMLS = (
    "path: .\ntrain: images\nval: images\nnc: 2\nnames: [cat, dog]\n",
    "train: list.txt\nval: [images, list.txt]\ntest:\nnames:\n  0: cat\n  1: dog\n",
    "# a comment\npath: .\nval: 'images'\nnames: &n {0: 'no', 1: \"1e9\"}\nextra: {a: *n}\nkpt_shape: [2, 3]\n",
)
_LIST = "./images/0.png\nimages/1.png\n\n./images/2.png\n"


def yolo(folder: Path) -> list[Files]:
    """Return sets that a data.yaml describes."""
    images = {f"images/{i}.png": _png(i) for i in range(3)}
    labels = {f"labels/{i}.txt": text.encode() for i, text in enumerate(_LABELS)}
    return [{"data.yaml": text.encode(), "list.txt": _LIST.encode()} | images | labels for text in _YAMLS]


def coco(folder: Path) -> list[Files]:
    """Return sets that a COCO json describes: boxes, crowds, polygons and run lengths."""
    images = {f"images/{i}.png": _png(i) for i in range(2)}
    document = {
        "info": {"year": 2020},
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(2)],
        "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [4, 5, 10.5, 12], "area": 126.0, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 7,
                "bbox": [0, 0, 64, 48],
                "iscrowd": 1,
                "segmentation": {"counts": [5, 9], "size": [48, 64]},
            },
            {"id": 3, "image_id": 2, "category_id": 3, "segmentation": [[1, 1, 9, 1, 9, 9]], "bbox": [1, 1, 8, 8]},
        ],
    }
    bare = {key: document[key] for key in ("images", "categories", "annotations")}
    return [{"set.json": json.dumps(d, indent=1).encode()} | images for d in (document, bare)]


def training_logs(folder: Path) -> list[Files]:
    """Return the log of a training run."""
    rows = [{"step": 10 * i, "images": 320 * i, "loss": 2.5 / i, "lr": 0.01, "map": None} for i in range(1, 6)]
    return [{"log.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}]


def _png(seed: int) -> bytes:
    return cv2.imencode(".png", drawn(seed=seed))[1].tobytes()
