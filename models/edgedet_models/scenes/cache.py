"""A cache of rendered scenes: rendered once by several processes, read many times by training.

A cache is a folder of shards. A shard is one ``.npz`` with the JPEG bytes of its scenes end to end and their labels:
``data`` uint8, ``offsets`` int64 (scenes + 1), ``owner`` int32 (objects), ``kinds`` int8 (objects) and ``outlines``
float32 (objects, 32, 2). Shards are written aside and renamed when they are whole, so a reader may
use a cache while it grows.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedet_models.scenes.scene import render_scene
from edgedet_models.with_parent import end_with_parent
from edgedet_runtime.errors import InputError
from edgedet_runtime.pictures import decode_image
from edgedet_runtime.whole_file import whole_file

__all__ = ["JPEG_QUALITY", "SceneCache", "write_cache"]

JPEG_QUALITY = 92


def _write_shard(folder: Path, first_seed: int, count: int, long_side: int) -> Path:
    path = folder / f"scenes-{first_seed:08d}-{count}.npz"
    if path.exists():
        return path
    cv2.setNumThreads(1)
    blobs: list[NDArray[np.uint8]] = []
    owner: list[int] = []
    kinds: list[int] = []
    outlines: list[NDArray[np.float32]] = []
    for index in range(count):
        scene = render_scene(first_seed + index, long_side=long_side)
        _, data = cv2.imencode(".jpg", scene.image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        blobs.append(np.asarray(data, dtype=np.uint8).ravel())
        for item in scene.objects:
            owner.append(index)
            kinds.append(item.class_id)
            outlines.append(item.outline)
    offsets = np.concatenate([[0], np.cumsum([len(b) for b in blobs])]).astype(np.int64)
    with whole_file(path) as file:
        np.savez(
            file,
            data=np.concatenate(blobs),
            offsets=offsets,
            owner=np.array(owner, dtype=np.int32),
            kinds=np.array(kinds, dtype=np.int8),
            outlines=np.array(outlines, dtype=np.float32).reshape(-1, 32, 2),
        )
    return path


def write_cache(
    folder: Path, count: int, *, first_seed: int = 0, shard: int = 250, processes: int = 2, long_side: int = 640
) -> Iterator[Path]:
    """Render scenes into a cache; shards that exist are kept.

    Args:
        folder: Where the shards go; made if absent.
        count: Scenes in all.
        first_seed: Seed of the first scene; scene i has seed ``first_seed + i``.
        shard: Scenes per shard.
        processes: Worker processes.
        long_side: Longer side of the pictures, in pixels.

    Yields:
        Each shard's path as it is done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(first_seed, first_seed + count, shard)
    # Not forked: a process that has threads (OpenCV's, torch's) may hang in a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        jobs = [pool.submit(_write_shard, folder, s, min(shard, first_seed + count - s), long_side) for s in starts]
        for job in as_completed(jobs):
            yield job.result()


class SceneCache:
    """Random access to the scenes of a cache; shards stay compressed (JPEG) in memory."""

    def __init__(self, folder: Path) -> None:
        """Read what is there now.

        Raises:
            InputError: The folder holds no shard.
        """
        self.folder = folder
        self._shards: list[dict[str, NDArray[np.generic]]] = []
        self._index: list[tuple[int, int]] = []
        self._seen: set[str] = set()
        self.refresh()
        if not self._index:
            raise InputError(f"{folder}: expected shards of rendered scenes (scenes-*.npz), got none")

    def refresh(self) -> int:
        """Read shards that have come since; return the number of scenes."""
        for path in sorted(self.folder.glob("scenes-*.npz")):
            if path.name in self._seen or ".part" in path.name:  # what a killed renderer of earlier versions left
                continue
            shard = _read_shard(path)
            self._seen.add(path.name)
            self._shards.append(shard)
            self._index += [(len(self._shards) - 1, i) for i in range(len(shard["offsets"]) - 1)]
        return len(self._index)

    def __len__(self) -> int:
        """Return the number of scenes read so far."""
        return len(self._index)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
        """Return picture (H, W, 3 uint8 BGR), class ids (K,) and outlines (K, 32, 2) in pixels of scene `index`."""
        return self._decode(index, half=False)

    def half(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
        """Return the scene at half its resolution; JPEG decodes that in a fraction of the time."""
        return self._decode(index, half=True)

    def _decode(self, index: int, *, half: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32]]:
        number, scene = self._index[index]
        shard = self._shards[number]
        start, end = (int(v) for v in shard["offsets"][scene : scene + 2])
        image = decode_image(shard["data"][start:end].tobytes(), f"{self.folder}: scene {index}", half=half)
        mine = shard["owner"] == scene
        return (
            image,
            shard["kinds"][mine].astype(np.int64),
            shard["outlines"][mine].astype(np.float32) * np.float32(0.5 if half else 1.0),
        )


def _read_shard(path: Path) -> dict[str, NDArray[np.generic]]:
    """Return a shard's arrays.

    Raises:
        InputError: The file is damaged, or its arrays do not belong together.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            shard = {name: data[name] for name in ("data", "offsets", "owner", "kinds", "outlines")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise InputError(f"{path}: expected a shard of rendered scenes, it is damaged ({e}); render it again") from None
    offsets, objects = shard["offsets"], len(shard["owner"])
    if offsets.ndim != 1 or not len(offsets) or objects != len(shard["kinds"]) or objects != len(shard["outlines"]):
        raise InputError(f"{path}: expected a shard of rendered scenes, its arrays do not belong together")
    return shard
