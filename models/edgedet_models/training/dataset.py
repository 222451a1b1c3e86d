"""Data sets for training: rendered caches, YOLO folders and COCO files, all seen alike.

An item is a picture (H, W, 3 uint8 BGR), class ids (K,) and outlines (K, P, 2) in pixels; for boxes P is 4.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedet_models.scenes import KINDS, SceneCache
from edgedet_models.training.augment import Sample
from edgedet_models.training.losses import Targets
from edgedet_runtime.errors import InputError
from edgedet_runtime.labelled import DATASET_SUFFIXES, LabelledSet, load_dataset
from edgedet_runtime.pictures import read_image
from edgedet_runtime.spec import InputSpec

__all__ = ["BoxFolder", "DataSource", "collate", "open_data", "to_input"]

Item = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]


class DataSource(Protocol):
    """Random access to labelled pictures."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        ...

    def __getitem__(self, index: int) -> Item:
        """Return picture, class ids and outlines."""
        ...


class BoxFolder:
    """Pictures on disk with axis-aligned boxes; regions that stand for many objects are left out.

    Attributes:
        notes: What the reader left out or passed over, a sentence each.
    """

    def __init__(self, data: LabelledSet) -> None:
        """Take a labelled set."""
        self._pictures = data.pictures
        self.notes = data.notes

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def __getitem__(self, index: int) -> Item:
        """Return picture, class ids and the boxes' corners."""
        picture = self._pictures[index]
        image = read_image(picture.path)
        boxes, class_ids = picture.boxes_px(image.shape[1], image.shape[0]), picture.class_ids
        if picture.crowd is not None:
            boxes, class_ids = boxes[~picture.crowd], class_ids[~picture.crowd]
        return image, class_ids, boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2).astype(np.float32)


def open_data(path: Path) -> tuple[DataSource, tuple[str, ...]]:
    """Open a data set.

    Args:
        path: A folder of rendered scenes, a YOLO ``data.yaml`` or a COCO ``.json``.

    Returns:
        The pictures, and the class names.

    Raises:
        InputError: It is none of these, or its labels are malformed.
    """
    if path.is_dir():
        return SceneCache(path), KINDS
    if path.suffix.lower() not in DATASET_SUFFIXES or not path.is_file():
        raise InputError(f"{path}: expected a folder of rendered scenes, a data.yaml or a COCO .json")
    data = load_dataset(path, split="train")
    data.check_pictures()
    return BoxFolder(data), data.classes


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
