"""Augmentation at load time: one affine map and cheap photometry make a scene new at every visit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Sample", "augment", "letterbox_sample", "mosaic"]

PAD_BGR = (114, 114, 114)
_SMALLEST_LONG_PX, _SMALLEST_SHORT_PX = 8.0, 4.0
_LEAST_CONTRAST = 5.0
_VISIBLE_TO_LEARN, _VISIBLE_TO_IGNORE = 0.5, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture of the network's input size with its objects.

    Attributes:
        image_bgr: uint8 (S, S, 3).
        boxes_xyxy: float32 (K, 4), in its pixels, clipped to it.
        class_ids: int64 (K,).
        ignored: bool (K,), too small, too faint or too cut to learn or to count as background.
    """

    image_bgr: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def augment(
    image: NDArray[np.uint8],
    class_ids: NDArray[np.int64],
    outlines: NDArray[np.float32],
    size: int,
    rng: np.random.Generator,
    *,
    most_scale: float = 4.0,
) -> Sample:
    """Bring a picture to `size` x `size` by a random view of it, and change its light.

    Args:
        image: uint8 (H, W, 3), BGR.
        class_ids: int64 (K,).
        outlines: float32 (K, P, 2), points around each object, in pixels.
        size: Side of the result, in pixels.
        rng: Source of all randomness.
        most_scale: The picture is not enlarged by more than this.
    """
    matrix = _random_view(image.shape[:2], outlines, size, rng, most_scale)
    sample = _apply(image, class_ids, outlines, matrix, size)
    return Sample(_photometry(sample.image_bgr, rng), sample.boxes_xyxy, sample.class_ids, sample.ignored)


def mosaic(tiles: Sequence[Sample]) -> Sample:
    """Lay four samples of one size out as one of twice the size: four times the objects for the same work.

    Args:
        tiles: Four samples of the same size, from top left by rows.
    """
    side = tiles[0].image_bgr.shape[0]
    rows = [np.concatenate([tiles[i].image_bgr, tiles[i + 1].image_bgr], axis=1) for i in (0, 2)]
    shifts = np.array([[x, y, x, y] for y in (0, side) for x in (0, side)], dtype=np.float32)
    return Sample(
        np.concatenate(rows, axis=0),
        np.concatenate([t.boxes_xyxy + shift for t, shift in zip(tiles, shifts, strict=True)]),
        np.concatenate([t.class_ids for t in tiles]),
        np.concatenate([t.ignored for t in tiles]),
    )


def letterbox_sample(
    image: NDArray[np.uint8], class_ids: NDArray[np.int64], outlines: NDArray[np.float32], size: int
) -> Sample:
    """Fit the whole picture into `size` x `size`, centred, padded with grey; for validation."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shift = ((size - width * scale) / 2, (size - height * scale) / 2)
    return _apply(image, class_ids, outlines, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), size)


def _random_view(
    size_hw: tuple[int, ...], outlines: NDArray[np.float32], size: int, rng: np.random.Generator, most_scale: float
) -> NDArray[np.float64]:
    """Return a 2x3 map from picture pixels to the sample: whole picture, a crop, or close on one object."""
    height, width = size_hw
    fit = size / max(height, width)
    draw = rng.random()
    if draw < 0.3:
        scale = fit * float(rng.uniform(0.6, 1.0) if rng.random() < 0.3 else 1.0)
        center = np.array([width / 2, height / 2])
        room = np.abs(size - scale * np.array([width, height])) / 2
        target = size / 2 + rng.uniform(-1, 1, 2) * room
    elif draw < 0.55 or not len(outlines):
        scale = float(np.exp(rng.uniform(np.log(max(fit, 0.35)), np.log(max(fit, 0.35) * 3))))
        center = rng.uniform(0, 1, 2) * np.array([width, height])
        if len(outlines) and rng.random() < 0.75:
            center = outlines[int(rng.integers(len(outlines)))].mean(axis=0).astype(np.float64)
        target = size * rng.uniform(0.15, 0.85, 2)
    else:
        outline = outlines[int(rng.integers(len(outlines)))]
        low, high = outline.min(axis=0), outline.max(axis=0)
        # A code that fills the picture is common, and has no surroundings to tell it by.
        low_share, reach = (0.85, 0.04) if rng.random() < 0.25 else (0.25, 0.25)
        scale = min(size / float((high - low).max() + 1) * float(rng.uniform(low_share, 1.05)), most_scale)
        center = ((low + high) / 2).astype(np.float64)
        target = size / 2 + rng.uniform(-reach, reach, 2) * size
    scale = min(scale, most_scale)
    stretch = np.exp(rng.normal(0, 0.08)) if rng.random() < 0.5 else 1.0
    linear = np.diag([scale * stretch, scale / stretch])
    if rng.random() < 0.5:
        linear = np.diag([-1.0, 1.0]) @ linear
    quarter = int(rng.integers(0, 4)) if rng.random() < 0.35 else 0
    turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), quarter)
    if rng.random() < 0.2:
        angle = rng.normal(0, 0.25)
        turn = turn @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ linear
    shift = target - linear @ center
    if rng.random() < 0.8:
        # Grey borders teach nothing: where the picture is larger than the view, keep the view within it.
        low, high = _extent(size_hw, linear, shift)
        larger = high - low >= size
        shift = shift - larger * np.maximum(low, 0) + larger * np.maximum(size - high, 0)
    return np.concatenate([linear, shift[:, None]], axis=1)


def _extent(
    size_hw: tuple[int, ...], linear: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest corner, (2,) each, of a picture that an affine map has moved."""
    height, width = size_hw
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ linear.T + shift
    return corners.min(axis=0), corners.max(axis=0)


def _apply(
    image: NDArray[np.uint8],
    class_ids: NDArray[np.int64],
    outlines: NDArray[np.float32],
    matrix: NDArray[np.float64],
    size: int,
) -> Sample:
    shrink = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    source, warp = image, matrix
    if shrink < 0.75:
        small = (max(1, round(image.shape[1] * shrink)), max(1, round(image.shape[0] * shrink)))
        source = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        back = np.diag([image.shape[1] / small[0], image.shape[0] / small[1], 1.0])
        warp = matrix @ back
    # Pixel centres: the map is of pixel edges, cv2 warps pixel centres.
    shifted = warp.copy()
    shifted[:, 2] += warp[:, :2] @ np.array([0.5, 0.5]) - 0.5
    picture = cv2.warpAffine(source, shifted, (size, size), flags=cv2.INTER_LINEAR, borderValue=PAD_BGR)
    points = outlines @ matrix[:, :2].T + matrix[:, 2]
    if len(points):
        low, high = points.min(axis=1), points.max(axis=1)
    else:
        low = high = np.zeros((0, 2))
    # The picture's own border cuts objects too; what lies beyond it is not visible.
    frame_low, frame_high = _extent(image.shape[:2], matrix[:, :2], matrix[:, 2])
    inner_low, inner_high = np.maximum(frame_low, 0), np.minimum(frame_high, size)
    clipped = np.concatenate([np.clip(low, inner_low, inner_high), np.clip(high, inner_low, inner_high)], axis=1)
    sides = clipped[:, 2:] - clipped[:, :2]
    visible = sides.prod(axis=1) / ((high - low).prod(axis=1) + 1e-6)
    big_enough = (sides.max(axis=1, initial=0) >= _SMALLEST_LONG_PX) & (
        sides.min(axis=1, initial=size) >= _SMALLEST_SHORT_PX
    )
    seen = np.array(
        [_contrast(np.asarray(picture, dtype=np.uint8), box) >= _LEAST_CONTRAST for box in clipped], dtype=bool
    )
    learn = (visible >= _VISIBLE_TO_LEARN) & big_enough & seen
    keep = visible >= _VISIBLE_TO_IGNORE
    return Sample(
        np.asarray(picture, dtype=np.uint8),
        clipped[keep].astype(np.float32),
        class_ids[keep],
        ~learn[keep],
    )


def _contrast(image: NDArray[np.uint8], box: NDArray[np.float64]) -> float:
    """Return the standard deviation within a box, mean over channels; 0 if nothing is in it."""
    x0, y0, x1, y1 = (round(float(v)) for v in box)
    piece = image[y0:y1, x0:x1]
    return float(cv2.meanStdDev(piece)[1].mean()) if piece.size else 0.0


def _photometry(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gain, gamma and tint by a table, sometimes grey, negative, soft or noisy."""
    levels = np.arange(256, dtype=np.float32)[:, None] / 255
    gamma = np.exp(rng.normal(0, 0.25))
    gain = np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.05, 3))
    table = levels**gamma * gain
    if rng.random() < 0.25:
        low, high = rng.uniform(0, 0.25), rng.uniform(0.6, 1.0)
        table = low + (high - low) * np.clip(table, 0, 1)
    if rng.random() < 0.03:
        table = 1 - np.clip(table, 0, 1)
    if rng.random() < 0.7:
        image = cast("NDArray[np.uint8]", cv2.LUT(image, np.clip(table * 255, 0, 255).astype(np.uint8)[:, None, :]))
    if rng.random() < 0.15:
        image = np.repeat(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)[..., None], 3, axis=2)
    if rng.random() < 0.12:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.6))), dtype=np.uint8)
    if rng.random() < 0.1:
        noise = rng.normal(0, rng.uniform(2, 12), (*image.shape[:2], 1))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    return image
