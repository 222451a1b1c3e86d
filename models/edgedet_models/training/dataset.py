"""Data sets for training: rendered caches, YOLO folders and COCO files, all seen alike.

An item is a picture (H, W, 3 uint8 BGR), class ids (K,) and outlines (K, P, 2) in pixels; for boxes P is 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedet_models.scenes import KINDS, SceneCache
from edgedet_models.training.augment import Sample, augment, mosaic
from edgedet_models.training.config import TrainConfig
from edgedet_models.training.losses import Targets
from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import InputSpec

__all__ = ["BoxFolder", "DataSource", "batches", "class_names", "collate", "open_data", "to_input"]

Item = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]
_HALF_UP_TO_PX, _HALF_SHARE, _HALF_MOST_SCALE = 320, 0.6, 1.2
"""Small inputs rarely need more than half of a scene's resolution, and decoding takes a good part of the time."""
_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


class DataSource(Protocol):
    """Random access to labelled pictures."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        ...

    def __getitem__(self, index: int) -> Item:
        """Return picture, class ids and outlines."""
        ...


class BoxFolder:
    """Pictures on disk with axis-aligned boxes."""

    def __init__(self, entries: list[tuple[Path, NDArray[np.int64], NDArray[np.float32]]], *, relative: bool) -> None:
        """Keep (path, class ids, xyxy boxes); `relative` boxes are shares of the picture's size."""
        if not entries:
            raise InputError("data: expected at least one picture, got none")
        self._entries = entries
        self._relative = relative

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._entries)

    def __getitem__(self, index: int) -> Item:
        """Return picture, class ids and the boxes' corners."""
        path, class_ids, boxes = self._entries[index]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(f"{path}: expected a picture, got something that OpenCV cannot read")
        if self._relative:
            height, width = image.shape[:2]
            boxes = boxes * np.array([width, height, width, height], dtype=np.float32)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        return np.asarray(image, dtype=np.uint8), class_ids, corners.astype(np.float32)


def _read_yolo(path: Path) -> tuple[BoxFolder, tuple[str, ...]]:
    import yaml

    data = yaml.safe_load(path.read_text())
    if not isinstance(data, dict) or "train" not in data or "names" not in data:
        raise InputError(f"{path}: expected a YOLO data.yaml with `train` and `names`")
    names = data["names"]
    names = tuple(names[k] for k in sorted(names)) if isinstance(names, dict) else tuple(names)
    images = (path.parent / data.get("path", "") / data["train"]).resolve()
    entries = []
    for picture in sorted(p for p in images.rglob("*") if p.suffix.lower() in _SUFFIXES):
        parts = list(picture.parts)
        at = len(parts) - 1 - parts[::-1].index("images") if "images" in parts else -1
        if at >= 0:
            parts[at] = "labels"
        label = Path(*parts).with_suffix(".txt")
        rows = (
            np.loadtxt(label, ndmin=2, dtype=np.float32)
            if label.exists() and label.stat().st_size
            else np.zeros((0, 5))
        )
        center, half = rows[:, 1:3], rows[:, 3:5] / 2
        boxes = np.concatenate([center - half, center + half], axis=1).astype(np.float32)
        entries.append((picture, rows[:, 0].astype(np.int64), boxes))
    return BoxFolder(entries, relative=True), names


def _read_coco(path: Path) -> tuple[BoxFolder, tuple[str, ...]]:
    data: dict[str, Any] = json.loads(path.read_text())
    categories = sorted(data["categories"], key=lambda c: c["id"])
    ids = {c["id"]: i for i, c in enumerate(categories)}
    objects: dict[int, list[tuple[int, list[float]]]] = {}
    for note in data["annotations"]:
        if not note.get("iscrowd"):
            objects.setdefault(note["image_id"], []).append((ids[note["category_id"]], note["bbox"]))
    entries = []
    for image in data["images"]:
        candidates = (path.parent / image["file_name"], path.parent / "images" / image["file_name"])
        picture = next((p for p in candidates if p.exists()), None)
        if picture is None:
            raise InputError(f"{path}: expected {image['file_name']} beside it or in images/, got neither")
        found = objects.get(image["id"], [])
        boxes = np.array([b for _, b in found], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        entries.append((picture, np.array([c for c, _ in found], dtype=np.int64), boxes))
    return BoxFolder(entries, relative=False), tuple(c["name"] for c in categories)


def open_data(path: Path) -> tuple[DataSource, tuple[str, ...]]:
    """Open a data set.

    Args:
        path: A folder of rendered scenes, a YOLO ``data.yaml`` or a COCO ``.json``.

    Returns:
        The pictures, and the class names.

    Raises:
        InputError: It is none of these.
    """
    if path.is_dir():
        return SceneCache(path), KINDS
    if path.suffix in (".yaml", ".yml") and path.exists():
        return _read_yolo(path)
    if path.suffix == ".json" and path.exists():
        return _read_coco(path)
    raise InputError(f"{path}: expected a folder of rendered scenes, a data.yaml or a COCO .json")


def class_names(path: Path) -> tuple[str, ...]:
    """Return the class names of a data set."""
    return open_data(path)[1]


def to_input(images: list[NDArray[np.uint8]], spec: InputSpec) -> Tensor:
    """Stack uint8 (S, S, 3) BGR pictures to float32 (N, 3, S, S) in the network's own convention."""
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    if spec.color == "RGB":
        x = x.flip(1)
    mean = torch.tensor(spec.mean)[:, None, None]
    std = torch.tensor(spec.std)[:, None, None]
    return ((x.float() * spec.scale - mean) / std).contiguous(memory_format=torch.channels_last)


def collate(samples: list[Sample], spec: InputSpec) -> tuple[Tensor, Targets]:
    """Make a batch: the input (N, 3, S, S) and the padded targets."""
    most = max((len(s.class_ids) for s in samples), default=0)
    boxes = torch.zeros(len(samples), most, 4)
    class_ids = torch.zeros(len(samples), most, dtype=torch.int64)
    valid = torch.zeros(len(samples), most, dtype=torch.bool)
    ignored = torch.zeros_like(valid)
    for i, sample in enumerate(samples):
        count = len(sample.class_ids)
        boxes[i, :count] = torch.from_numpy(sample.boxes_xyxy)
        class_ids[i, :count] = torch.from_numpy(sample.class_ids)
        ignored[i, :count] = torch.from_numpy(sample.ignored)
        valid[i, :count] = ~ignored[i, :count]
    return to_input([s.image_bgr for s in samples], spec), Targets(boxes, class_ids, valid, ignored)


def batches(
    source: DataSource, config: TrainConfig, spec: InputSpec, *, rank: int, first_step: int
) -> Iterator[tuple[Tensor, Targets]]:
    """Yield training batches for ever, made by a thread while the network works.

    All processes draw the same size at the same step; pictures differ by `rank`.
    """
    queue: Queue[tuple[Tensor, Targets] | BaseException] = Queue(maxsize=2)

    def produce() -> None:
        step = first_step
        try:
            while True:
                queue.put(_make_batch(source, config, spec, rank=rank, step=step))
                step += 1
        except BaseException as e:  # handed to the consumer, which raises it
            queue.put(e)

    Thread(target=produce, daemon=True).start()
    while True:
        item = queue.get()
        if isinstance(item, BaseException):
            raise item
        yield item


def _make_batch(
    source: DataSource, config: TrainConfig, spec: InputSpec, *, rank: int, step: int
) -> tuple[Tensor, Targets]:
    shared = np.random.default_rng([config.seed, step])
    weights = np.array(config.size_weights)
    size = int(shared.choice(config.sizes, p=weights / weights.sum()))
    rng = np.random.default_rng([config.seed, step, rank + 1])
    if isinstance(source, SceneCache) and step % 200 == 0:
        source.refresh()
    samples = []
    for _ in range(config.batch_at(size)):
        if rng.random() < config.mosaic:
            samples.append(mosaic([_draw_sample(source, size // 2, rng) for _ in range(4)]))
        else:
            samples.append(_draw_sample(source, size, rng))
    return collate(samples, spec)


def _draw_sample(source: DataSource, size: int, rng: np.random.Generator) -> Sample:
    """Return a random view of a random picture."""
    index = int(rng.integers(0, len(source)))
    if isinstance(source, SceneCache) and size <= _HALF_UP_TO_PX and rng.random() < _HALF_SHARE:
        return augment(*source.half(index), size, rng, most_scale=_HALF_MOST_SCALE)
    return augment(*source[index], size, rng)
