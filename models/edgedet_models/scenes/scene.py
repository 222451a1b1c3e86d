"""Scenes: surfaces, cards and a camera together, with exact labels.

Three kinds of scene are drawn: close-ups (one code that fills much of the picture), clean graphics (a code as software
writes it, no camera) and general scenes with up to a dozen codes from 8 px to half of the picture. Some scenes are
empty on purpose: their surfaces only look like codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedet_models.scenes.camera import photograph
from edgedet_models.scenes.card import make_card
from edgedet_models.scenes.placement import place_card, random_pose
from edgedet_models.scenes.surfaces import draw_surface
from edgedet_models.scenes.symbols import KINDS, make_symbol

__all__ = ["Scene", "SceneObject", "render_scene"]

_KIND_WEIGHTS = np.array([0.22, 0.17, 0.14, 0.15, 0.24, 0.08])
_EMPTY_SHARE = 0.14
_CLEAN_SHARE = 0.14
_TIGHT_SHARE = 0.5  # of the clean ones: the picture ends where the code ends
_CLOSE_SHARE = 0.27


@dataclass(frozen=True, slots=True, eq=False)
class SceneObject:
    """One code in a scene.

    Attributes:
        kind: One of `KINDS`.
        symbology: Such as ``EAN13``.
        outline: float32 (32, 2), the symbol's border in pixels of the picture; parts may lie outside of it.
    """

    kind: str
    symbology: str
    outline: NDArray[np.float32]

    @property
    def class_id(self) -> int:
        """Index into `KINDS`."""
        return KINDS.index(self.kind)

    def box_xyxy(self, size_hw: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return the bounding box, clipped to a picture of `size_hw`, in pixels."""
        low, high = self.outline.min(axis=0), self.outline.max(axis=0)
        x0, x1 = np.clip([low[0], high[0]], 0, size_hw[1])
        y0, y1 = np.clip([low[1], high[1]], 0, size_hw[0])
        return float(x0), float(y0), float(x1), float(y1)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A rendered picture with its labels.

    Attributes:
        image_bgr: uint8 (H, W, 3).
        objects: The codes in it.
        seed: What `render_scene` was called with.
    """

    image_bgr: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    seed: int


def render_scene(seed: int, *, long_side: int = 640) -> Scene:
    """Render one labelled scene.

    Args:
        seed: The same seed gives the same scene (with the same versions of the libraries).
        long_side: The picture's longer side, in pixels; one that is cut down to its code is smaller.

    Raises:
        MissingDependencyError: zxing-cpp or segno is not installed.
    """
    rng = np.random.default_rng([seed, 20240])
    aspect = float(rng.choice([1.0, 0.75, 0.5625, 0.667, 0.5], p=[0.3, 0.4, 0.12, 0.1, 0.08]))
    height, width = (long_side, round(long_side * aspect))
    if rng.random() < 0.75:
        height, width = width, height
    draw = rng.random()
    if draw < _EMPTY_SHARE:
        image = draw_surface(rng, height, width, None if rng.random() < 0.6 else _hard_surface(rng))
        return Scene(photograph(image, rng), (), seed)
    if draw < _EMPTY_SHARE + _CLEAN_SHARE:
        return _close_up(rng, seed, (height, width), clean=True)
    if draw < _EMPTY_SHARE + _CLEAN_SHARE + _CLOSE_SHARE:
        return _close_up(rng, seed, (height, width), clean=False)
    return _general(rng, seed, (height, width))


def _hard_surface(rng: np.random.Generator) -> str:
    return str(
        rng.choice(
            ["marbled", "stripes", "lattice", "checkerboard", "dots", "weave", "page", "keys", "piano", "ornament"]
        )
    )


def _draw_kind(rng: np.random.Generator) -> str:
    return KINDS[int(rng.choice(len(KINDS), p=_KIND_WEIGHTS))]


def _close_up(rng: np.random.Generator, seed: int, size_hw: tuple[int, int], *, clean: bool) -> Scene:
    height, width = size_hw
    surface = ("white" if rng.random() < 0.8 else "plain") if clean else None
    image = draw_surface(rng, height, width, surface)
    symbol = make_symbol(_draw_kind(rng), rng)
    rows, columns = symbol.modules.shape
    if symbol.kind == "linear":
        rows = columns // 2
    fit = min(width / columns, height / rows) * max(rows, columns)
    size = fit * (rng.uniform(0.35, 1.0) if clean else rng.uniform(0.3, 0.95))
    spread = max(0.0, 1 - size / fit) * 0.45
    center = (width * (0.5 + rng.uniform(-spread, spread)), height * (0.5 + rng.uniform(-spread, spread)))
    card = make_card(symbol, rng, target_px=size, plain=clean)
    pose = random_pose(rng, center, size, flat=clean)
    outline = place_card(image, card, pose, rng)
    image = photograph(image, rng, severity=float(rng.random() < 0.2) * 0.5 if clean else 1.0)
    if clean and rng.random() < _TIGHT_SHARE:
        image, outline = _cut_out(image, outline, rng)
    return Scene(image, (SceneObject(symbol.kind, symbol.symbology, outline),), seed)


def _cut_out(
    image: NDArray[np.uint8], outline: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cut a picture down to its code, with a thin margin on each side or none."""
    margins = rng.uniform(0, 0.06, 4) * np.ptp(outline, axis=0).max() * (rng.random() < 0.8)
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(outline.min(axis=0) - margins[:2]), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(outline.max(axis=0) + margins[2:]), low + 1, limit).astype(int)
    piece = np.ascontiguousarray(image[low[1] : high[1], low[0] : high[0]])
    return piece, (outline - low).astype(np.float32)


def _overlaps(box: NDArray[np.float64], others: list[NDArray[np.float64]]) -> bool:
    return any((np.minimum(box[2:], o[2:]) - np.maximum(box[:2], o[:2]) > 0).all() for o in others)


def _general(rng: np.random.Generator, seed: int, size_hw: tuple[int, int]) -> Scene:
    height, width = size_hw
    image = draw_surface(rng, height, width)
    # A scene has a typical distance: sizes vary around it.
    typical = np.exp(rng.uniform(np.log(14), np.log(0.5 * min(size_hw))))
    count = 1 + int(rng.poisson(1.5 if typical > 120 else 4))
    one_kind = _draw_kind(rng) if rng.random() < 0.3 else None
    objects: list[SceneObject] = []
    taken: list[NDArray[np.float64]] = []
    for _ in range(min(count, 14)):
        symbol = make_symbol(one_kind or _draw_kind(rng), rng)
        size = float(np.clip(typical * np.exp(rng.normal(0, 0.35)), 8, 0.9 * min(size_hw)))
        if symbol.kind in ("linear", "pdf417"):
            size = min(size * 1.5, 0.9 * max(size_hw))
        elif rng.random() < 0.75:
            # Who prints a dense code prints it larger.
            size = min(max(size, 0.9 * max(symbol.modules.shape)), 0.9 * min(size_hw))
        card = make_card(symbol, rng, target_px=size)
        for _ in range(6):
            center = (rng.uniform(0.02, 0.98) * width, rng.uniform(0.02, 0.98) * height)
            x0, y0, x1, y1 = card.symbol_xyxy
            reach = size * max(card.alpha.shape) / max(x1 - x0, y1 - y0) * 0.62
            box = np.array([center[0] - reach, center[1] - reach, center[0] + reach, center[1] + reach])
            if not _overlaps(box, taken):
                taken.append(box)
                outline = place_card(image, card, random_pose(rng, center, size), rng)
                objects.append(SceneObject(symbol.kind, symbol.symbology, outline))
                break
    return Scene(photograph(image, rng), tuple(objects), seed)
