"""Surfaces: what codes lie on, and what only looks like a code.

Each function draws a picture of a given size; none holds a code. `SURFACES` maps names to (function, weight).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedet_models.scenes.camera import smooth_field
from edgedet_models.scenes.card import Color, random_color
from edgedet_models.scenes.lettering import text_block

__all__ = ["SURFACES", "draw_surface"]

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]
Point = NDArray[np.float64]


def draw_surface(rng: np.random.Generator, height: int, width: int, name: str | None = None) -> Image:
    """Draw a surface, uint8 (height, width, 3), BGR; `name` from `SURFACES`, random if None."""
    if name is None:
        names = list(SURFACES)
        weights = np.array([SURFACES[n][1] for n in names])
        name = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    return SURFACES[name][0](rng, height, width)


def _mix(mask: FloatImage, rng: np.random.Generator) -> Image:
    """Paint a 0..1 mask with two colours of random contrast."""
    a = np.array(random_color(rng, 0, 150, 0.3), dtype=np.float32)
    b = np.array(random_color(rng, 90, 255, 0.3), dtype=np.float32)
    if rng.random() < 0.5:
        a, b = b, a
    if rng.random() < 0.35:
        b = a + (b - a) * rng.uniform(0.15, 0.6)
    return cast(Image, (a + (b - a) * mask[..., None]).astype(np.uint8))


def _plane(rng: np.random.Generator, height: int, width: int) -> tuple[FloatImage, FloatImage]:
    """Return rotated and slightly bent coordinates (u, v) in pixels, for patterns."""
    angle = rng.uniform(0, np.pi) if rng.random() < 0.5 else rng.normal(0, 0.08)
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    if rng.random() < 0.5:
        # Perspective: the pattern's scale changes across the picture.
        factor = 1 / (1 + rng.uniform(-0.4, 0.9) * yy / height)
        xx, yy = (xx - width / 2) * factor, yy * factor
    u = xx * np.float32(np.cos(angle)) + yy * np.float32(np.sin(angle))
    v = -xx * np.float32(np.sin(angle)) + yy * np.float32(np.cos(angle))
    if rng.random() < 0.4:
        bend = smooth_field(rng, height, width, int(rng.integers(3, 7))) * rng.uniform(2, 30)
        u, v = u + bend, v - bend
    return u.astype(np.float32), v.astype(np.float32)


def _plain(rng: np.random.Generator, height: int, width: int) -> Image:
    base = np.array(random_color(rng, 20, 255, 0.3), dtype=np.float32)
    field = smooth_field(rng, height, width, int(rng.integers(2, 6)))[..., None]
    return cast(Image, np.clip(base + (field - 0.5) * rng.uniform(0, 80), 0, 255).astype(np.uint8))


def _white(rng: np.random.Generator, height: int, width: int) -> Image:
    level = 255 if rng.random() < 0.7 else int(rng.integers(0, 256))
    return np.full((height, width, 3), level, dtype=np.uint8)


def _grain(rng: np.random.Generator, height: int, width: int) -> Image:
    """Cardboard, wood, concrete, carpet: noise of several scales, perhaps stretched along one axis."""
    total = np.zeros((height, width), dtype=np.float32)
    stretch = rng.uniform(1, 12) if rng.random() < 0.5 else 1.0
    for octave in range(5):
        cells = 4 * 2**octave
        rows, columns = max(2, int(cells * stretch)), cells
        if rng.random() < 0.5:
            rows, columns = columns, rows
        grid = rng.standard_normal((min(rows, height), min(columns, width)), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR) * rng.uniform(0.2, 1.0)
    total = (total - total.min()) / (np.ptp(total) + 1e-6)
    return _mix(total.astype(np.float32), rng)


def _marbled(rng: np.random.Generator, height: int, width: int) -> Image:
    """Composition books, granite, camouflage: noise cut at a level."""
    scale = np.exp(rng.uniform(np.log(2), np.log(25)))
    shape = (max(4, int(height / scale)), max(4, int(width / scale)))
    noise = cv2.resize(rng.standard_normal(shape, dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.5:
        noise = np.abs(noise)
    sharp = rng.uniform(2, 14)
    return _mix(np.clip((noise - rng.uniform(-0.3, 0.6)) * sharp + 0.5, 0, 1).astype(np.float32), rng)


def _stripes(rng: np.random.Generator, height: int, width: int) -> Image:
    """Zebra, blinds, corrugated board, radiators: even or uneven stripes."""
    u, _ = _plane(rng, height, width)
    period = np.exp(rng.uniform(np.log(5), np.log(70)))
    phase = u * np.float32(2 * np.pi / period)
    if rng.random() < 0.4:
        phase = phase + np.float32(rng.uniform(0.3, 2)) * np.sin(phase * np.float32(rng.uniform(0.05, 0.4)))
    return _mix(np.clip(np.sin(phase) * rng.uniform(0.6, 8) + 0.5, 0, 1).astype(np.float32), rng)


def _lattice(rng: np.random.Generator, height: int, width: int) -> Image:
    """Grilles, tiles, window fronts, graph paper, chain mail."""
    u, v = _plane(rng, height, width)
    period = np.exp(rng.uniform(np.log(6), np.log(90)))
    other = period * rng.uniform(0.4, 2.5)
    line = rng.uniform(0.05, 0.45)
    mask = ((u / period) % 1 < line) | ((v / other) % 1 < line)
    return _mix(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.7).astype(np.float32), rng)


def _bricks(rng: np.random.Generator, height: int, width: int) -> Image:
    u, v = _plane(rng, height, width)
    tall = np.exp(rng.uniform(np.log(8), np.log(60)))
    wide = tall * rng.uniform(1.5, 3.5)
    row = np.floor(v / tall)
    joint = ((v / tall) % 1 < 0.12) | (((u / wide) + 0.5 * row) % 1 < 0.06)
    shade = (np.sin(row * 12.9898 + np.floor(u / wide + 0.5 * row) * 78.233) * 43758.5453) % 1
    return _mix(np.where(joint, 1.0, shade * 0.4).astype(np.float32), rng)


def _checkerboard(rng: np.random.Generator, height: int, width: int) -> Image:
    u, v = _plane(rng, height, width)
    period = np.exp(rng.uniform(np.log(5), np.log(80)))
    mask = (np.floor(u / period) + np.floor(v / period)) % 2
    return _mix(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.6).astype(np.float32), rng)


def _dots(rng: np.random.Generator, height: int, width: int) -> Image:
    """Perforated sheets, speaker grilles, mesh shoes, halftones."""
    u, v = _plane(rng, height, width)
    period = np.exp(rng.uniform(np.log(4), np.log(50)))
    shift = 0.5 * (np.floor(v / period) % 2) if rng.random() < 0.6 else 0.0
    distance = np.hypot((u / period + shift) % 1 - 0.5, (v / period) % 1 - 0.5)
    radius = np.full((height, width), rng.uniform(0.18, 0.42), dtype=np.float32)
    if rng.random() < 0.3:
        radius *= 0.4 + 0.8 * smooth_field(rng, height, width, 5)
    return _mix(np.clip((radius - distance) * 8 + 0.5, 0, 1).astype(np.float32), rng)


def _weave(rng: np.random.Generator, height: int, width: int) -> Image:
    """Fabrics: threads over and under, herringbone, wicker."""
    u, v = _plane(rng, height, width)
    period = np.exp(rng.uniform(np.log(4), np.log(30)))
    a, b = np.floor(u / period), np.floor(v / period)
    over = ((a + b * rng.integers(1, 3)) % rng.integers(2, 5)) < 1
    thread = np.where(over, np.abs(np.sin(np.pi * u / period)), np.abs(np.sin(np.pi * v / period)))
    mask = thread * 0.7 + 0.3 * over
    if rng.random() < 0.5:
        mask = mask * 0.6 + 0.4 * smooth_field(rng, height, width, 12)
    return _mix(mask.astype(np.float32), rng)


def _page(rng: np.random.Generator, height: int, width: int) -> Image:
    """Pages of text, in columns, perhaps with rules and headings."""
    page = np.empty((height, width, 3), dtype=np.uint8)
    page[:] = random_color(rng, 170, 255, 0.1)
    ink = random_color(rng, 0, 80, 0.2)
    if rng.random() < 0.1:
        page[:], ink = ink, random_color(rng, 170, 255, 0.2)
    columns = int(rng.integers(1, 4))
    letter = float(np.exp(rng.uniform(np.log(4), np.log(28))))
    for column in range(columns):
        x0 = int(width * column / columns + 6)
        y = 0
        while y < height:
            tall = int(rng.uniform(0.1, 0.6) * height)
            size = letter * (rng.uniform(1.5, 3) if rng.random() < 0.15 else 1)
            text_block(
                page, (x0, y, int(width * (column + 1) / columns) - 4, min(height, y + tall)), ink, rng, height_px=size
            )
            y += tall + int(rng.uniform(0, 30))
    return _tilt(page, rng)


def _keys(rng: np.random.Generator, height: int, width: int) -> Image:
    """A keyboard or keypad."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = random_color(rng, 0, 200, 0.1)
    size = int(np.exp(rng.uniform(np.log(14), np.log(80))))
    cap, ink = random_color(rng, 0, 255, 0.1), random_color(rng, 0, 255, 0.1)
    for row, y in enumerate(range(2, height, size)):
        for x in range(2 + (row * size) // 3 - size, width, size):
            cv2.rectangle(image, (x, y), (x + int(size * 0.85), y + int(size * 0.85)), cap, -1)
            letter = "QWERTYUIOPASDFGHJKLZXCVBNM1234567890"[int(rng.integers(0, 36))]
            cv2.putText(
                image, letter, (x + size // 4, y + size // 2), 0, size / 60, ink, max(1, size // 40), cv2.LINE_AA
            )
    return _tilt(image, rng)


def _piano(rng: np.random.Generator, height: int, width: int) -> Image:
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = random_color(rng, 190, 255, 0.1)
    key = float(np.exp(rng.uniform(np.log(7), np.log(50))))
    for index, x in enumerate(np.arange(0, width, key)):
        cv2.line(image, (int(x), 0), (int(x), height), (60, 60, 60), max(1, int(key / 25)))
        if index % 7 not in (2, 6):
            left = int(x + key * 0.7)
            cv2.rectangle(image, (left, 0), (int(left + key * 0.6), int(height * 0.6)), (15, 15, 15), -1)
    return _tilt(image, rng)


def _clutter(rng: np.random.Generator, height: int, width: int) -> Image:
    """Overlapping shapes, lines and lettering: a table, a shelf, packaging."""
    image = draw_surface(rng, height, width, str(rng.choice(["plain", "grain", "plain"])))
    for _ in range(int(rng.integers(5, 45))):
        color = random_color(rng, 0, 255, 0.5)
        size = np.exp(rng.uniform(np.log(8), np.log(300)))
        center = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        draw = rng.random()
        thickness = -1 if rng.random() < 0.7 else int(rng.integers(1, 8))
        if draw < 0.4:
            box = cv2.boxPoints((tuple(center), (size, size * rng.uniform(0.2, 1.2)), float(rng.normal(0, 20))))
            points = box.astype(np.int32)
            if thickness < 0:
                cv2.fillPoly(image, [points], color, cv2.LINE_AA)
            else:
                cv2.polylines(image, [points], True, color, thickness, cv2.LINE_AA)
        elif draw < 0.65:
            axes = (int(size / 2), int(size * rng.uniform(0.1, 0.5)))
            cv2.ellipse(
                image,
                (int(center[0]), int(center[1])),
                axes,
                float(rng.uniform(0, 180)),
                0,
                360,
                color,
                thickness,
                cv2.LINE_AA,
            )
        elif draw < 0.8:
            other = center + rng.uniform(-size, size, 2)
            cv2.line(
                image,
                (int(center[0]), int(center[1])),
                (int(other[0]), int(other[1])),
                color,
                int(rng.integers(1, 12)),
                cv2.LINE_AA,
            )
        else:
            x0, y0 = int(center[0]), int(center[1])
            text_block(image, (x0, y0, min(width, x0 + int(size * 1.5)), min(height, y0 + int(size * 0.7))), color, rng)
    return image


@dataclass(frozen=True, slots=True)
class _Pen:
    ink: Color
    thickness: int


def _ornament(rng: np.random.Generator, height: int, width: int) -> Image:
    """Wallpaper, lace, embroidery: vines that curl, petals, and fields of dots, in one colour on another."""
    image = _plain(rng, height, width)
    ground = float(image.mean())
    ink = random_color(rng, 160, 255, 0.4) if ground < 128 else random_color(rng, 0, 110, 0.4)
    size = float(np.exp(rng.uniform(np.log(25), np.log(0.3 * min(height, width) + 26))))
    pen = _Pen(ink, max(1, int(size * rng.uniform(0.01, 0.09))))
    for _ in range(int(min(60, 1 + height * width / size**2 * rng.uniform(0.2, 0.8)))):
        center = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        own = size * float(rng.uniform(0.5, 1.3))
        draw = rng.random()
        if draw < 0.45:
            _vine(image, center, own, pen, rng)
        elif draw < 0.75:
            _flower(image, center, own, pen, rng)
        else:
            _dot_field(image, center, own, ink, rng)
    return image


def _vine(image: Image, center: Point, size: float, pen: _Pen, rng: np.random.Generator) -> None:
    """Draw a spiral that opens, with drops along it, in place."""
    t = np.linspace(0, 1, 60)
    turn = rng.uniform(0, 2 * np.pi) + t * rng.uniform(2, 12) * rng.choice([-1, 1])
    reach = size * t ** rng.uniform(0.5, 1.5)
    points = center + np.stack([np.cos(turn), np.sin(turn)], axis=1) * reach[:, None]
    cv2.polylines(image, [points.astype(np.int32)], False, pen.ink, pen.thickness, cv2.LINE_AA)
    for i in range(10, 60, int(rng.integers(5, 15))):
        at = points[i] + rng.normal(0, size * 0.05, 2)
        axes = (int(size * rng.uniform(0.03, 0.12)) + 1, int(size * 0.04) + 1)
        cv2.ellipse(image, (int(at[0]), int(at[1])), axes, float(np.degrees(turn[i])), 0, 360, pen.ink, -1, cv2.LINE_AA)


def _flower(image: Image, center: Point, size: float, pen: _Pen, rng: np.random.Generator) -> None:
    """Draw petals around a middle, outlined or filled, in place."""
    petals, first = int(rng.integers(3, 12)), rng.uniform(0, 360)
    filled = -1 if rng.random() < 0.35 else pen.thickness
    axes = (int(size * 0.3) + 1, int(size * rng.uniform(0.06, 0.2)) + 1)
    for i in range(petals):
        angle = first + 360 * i / petals
        at = center + 0.35 * size * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        cv2.ellipse(image, (int(at[0]), int(at[1])), axes, angle, 0, 360, pen.ink, filled, cv2.LINE_AA)
    cv2.circle(image, (int(center[0]), int(center[1])), int(size * 0.08) + 1, pen.ink, -1, cv2.LINE_AA)
    if rng.random() < 0.5:
        _dot_field(image, center, size * 0.5, pen.ink, rng)


def _dot_field(image: Image, center: Point, size: float, ink: Color, rng: np.random.Generator) -> None:
    """Draw rows of dots within an ellipse, in place."""
    pitch = max(3.0, size * float(rng.uniform(0.08, 0.25)))
    aspect, angle = rng.uniform(0.4, 1.0), rng.uniform(0, np.pi)
    grid = np.arange(-size / 2, size / 2, pitch)
    u, v = np.meshgrid(grid, grid)
    inside = (u / (size / 2)) ** 2 + (v / (size / 2 * aspect)) ** 2 < 1
    u, v = u[inside], v[inside]
    x = center[0] + u * np.cos(angle) - v * np.sin(angle)
    y = center[1] + u * np.sin(angle) + v * np.cos(angle)
    radius = max(1, int(pitch * rng.uniform(0.15, 0.4)))
    for a, b in zip(x, y, strict=True):
        cv2.circle(image, (int(a), int(b)), radius, ink, -1, cv2.LINE_AA)


def _patches(rng: np.random.Generator, height: int, width: int) -> Image:
    """Different surfaces side by side, as objects that lie on each other."""
    image = draw_surface(rng, height, width, str(rng.choice(["plain", "grain", "clutter"])))
    names = [n for n in SURFACES if n != "patches"]
    for _ in range(int(rng.integers(1, 7))):
        tall, wide = (int(rng.uniform(0.08, 0.6) * s) + 8 for s in (height, width))
        piece = draw_surface(rng, tall, wide, names[int(rng.integers(0, len(names)))])
        mask = np.full((tall, wide), 255, dtype=np.uint8)
        center = (rng.uniform(0, width), rng.uniform(0, height))
        matrix = cv2.getRotationMatrix2D((wide / 2, tall / 2), float(rng.normal(0, 25)), 1.0)
        matrix[:, 2] += np.array([center[0] - wide / 2, center[1] - tall / 2])
        layer = cv2.warpAffine(piece, matrix, (width, height))
        cover = cv2.warpAffine(mask, matrix, (width, height))
        image[cover > 127] = layer[cover > 127]
    return image


def _tilt(image: Image, rng: np.random.Generator) -> Image:
    """Turn a drawn page by a random angle, edges reflected."""
    height, width = image.shape[:2]
    angle = rng.normal(0, 6) if rng.random() < 0.6 else rng.uniform(0, 360)
    scale = float(np.exp(rng.uniform(-0.1, 0.6)))
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), scale)
    return cast(Image, cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT))


SURFACES: Mapping[str, tuple[Callable[[np.random.Generator, int, int], Image], float]] = {
    "plain": (_plain, 5.0),
    "white": (_white, 1.5),
    "grain": (_grain, 3.0),
    "marbled": (_marbled, 1.5),
    "stripes": (_stripes, 1.0),
    "lattice": (_lattice, 1.0),
    "bricks": (_bricks, 0.5),
    "checkerboard": (_checkerboard, 0.5),
    "dots": (_dots, 1.0),
    "weave": (_weave, 1.0),
    "page": (_page, 2.0),
    "keys": (_keys, 0.5),
    "piano": (_piano, 0.4),
    "ornament": (_ornament, 1.5),
    "clutter": (_clutter, 4.0),
    "patches": (_patches, 3.0),
}
"""Surfaces by name, with the weight of a random draw."""
