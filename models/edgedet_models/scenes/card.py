"""Cards: a symbol as it is printed, with its look, its quiet zone and what stands around it.

A card is a flat picture with an alpha plane and the outline of its symbol; `placement` bends it into the scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedet_models.scenes.lettering import draw_text, random_words, text_block
from edgedet_models.scenes.symbols import Symbol

__all__ = ["Card", "Color", "make_card", "random_color"]

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Card:
    """A flat picture with one symbol.

    Attributes:
        bgr: uint8 (H, W, 3).
        alpha: uint8 (H, W), 0 where the card is transparent.
        symbol_xyxy: The symbol's box within the card, in pixels, without quiet zone.
        kind: The symbol's kind.
    """

    bgr: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    symbol_xyxy: tuple[float, float, float, float]
    kind: str


def random_color(rng: np.random.Generator, low: int, high: int, saturation: float) -> Color:
    """Return a BGR colour of a brightness in `low`..`high`; `saturation` 0..1 bounds how far it is from grey."""
    level = rng.uniform(low, high)
    tint = rng.uniform(-1, 1, 3) * saturation * 128
    b, g, r = np.clip(level + tint, 0, 255)
    return int(b), int(g), int(r)


def _colors(symbol: Symbol, rng: np.random.Generator) -> tuple[Color, Color]:
    """Return (dark, light): what modules that are dark and light are printed with."""
    draw = rng.random()
    if draw < 0.45:
        dark, light = random_color(rng, 0, 40, 0.03), random_color(rng, 215, 255, 0.03)
    elif draw < 0.75:
        dark, light = random_color(rng, 0, 90, 0.12), random_color(rng, 150, 255, 0.15)
    elif draw < 0.92:
        dark, light = random_color(rng, 10, 110, 0.5), random_color(rng, 170, 255, 0.4)
    else:
        level = int(rng.integers(60, 170))
        dark, light = random_color(rng, level - 40, level - 20, 0.1), random_color(rng, level + 20, level + 60, 0.1)
    inverted = rng.random() < (0.1 if symbol.kind in ("qr", "datamatrix", "aztec") else 0.03)
    return (light, dark) if inverted else (dark, light)


def _stretch_rows(symbol: Symbol, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Give bars another height, and rows of PDF417 another aspect."""
    modules = symbol.modules
    if symbol.kind == "linear" and not symbol.symbology.endswith("Stk"):
        width = modules.shape[1]
        height = max(6, int(width * np.exp(rng.uniform(np.log(0.12), np.log(0.9)))))
        return _resize_rows(modules, height)
    if symbol.kind == "pdf417":
        return _resize_rows(modules, max(4, int(modules.shape[0] * rng.uniform(0.6, 1.5))))
    return modules


def _resize_rows(modules: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    index = np.minimum((np.arange(rows) + 0.5) * modules.shape[0] / rows, modules.shape[0] - 1).astype(int)
    return np.asarray(modules[index], dtype=np.uint8)


def _ink(modules: NDArray[np.uint8], pitch: int, symbol: Symbol, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the share of ink per pixel, 0..1, `pitch` pixels per module, in the look of one way of printing."""
    ink = np.kron(modules, np.ones((pitch, pitch), dtype=np.uint8)).astype(np.float32)
    square = symbol.kind in ("qr", "datamatrix", "aztec")
    if square and pitch >= 4 and rng.random() < 0.16:
        return _dots(modules, pitch, symbol, rng)
    if pitch >= 3 and rng.random() < 0.4:
        # Ink spread or loss: move the threshold of a blurred print.
        ink = cv2.GaussianBlur(ink, (0, 0), pitch * rng.uniform(0.15, 0.4)).astype(np.float32)
        threshold = rng.uniform(0.3, 0.7)
        ink = np.clip((ink - threshold) * pitch + 0.5, 0, 1).astype(np.float32)
    if rng.random() < 0.12:
        grain = cv2.GaussianBlur(rng.standard_normal(ink.shape).astype(np.float32), (0, 0), max(0.6, pitch * 0.4))
        ink = ink * (1 - np.clip((grain / (grain.std() + 1e-6) - rng.uniform(0.8, 2.2)) * 2, 0, 0.9)).astype(np.float32)
    if rng.random() < 0.06:
        # A failing print head: light lines through the symbol.
        for _ in range(int(rng.integers(1, 4))):
            y = int(rng.integers(0, ink.shape[0]))
            ink[y : y + max(1, pitch // 3)] *= rng.uniform(0, 0.5)
    return ink


def _dots(modules: NDArray[np.uint8], pitch: int, symbol: Symbol, rng: np.random.Generator) -> NDArray[np.float32]:
    """Dot-peened or ink-jet dots; QR keeps its finder patterns solid half of the time."""
    radius = pitch * rng.uniform(0.36, 0.56)
    yy, xx = np.mgrid[:pitch, :pitch] - (pitch - 1) / 2
    dot = np.clip(radius - np.hypot(yy, xx) + 0.5, 0, 1).astype(np.float32)
    ink = np.kron(modules.astype(np.float32), dot)
    if symbol.kind == "qr" and rng.random() < 0.6:
        solid = np.kron(modules, np.ones((pitch, pitch), dtype=np.uint8))
        side = 7 * pitch
        for rows, columns in (
            (slice(0, side), slice(0, side)),
            (slice(0, side), slice(-side, None)),
            (slice(-side, None), slice(0, side)),
        ):
            ink[rows, columns] = solid[rows, columns]
    return ink.astype(np.float32)


def _quiet_zone(symbol: Symbol, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom quiet zones in modules; often cut short."""
    full = {"qr": 4, "datamatrix": 2, "aztec": 2, "pdf417": 3, "linear": 9, "marker": 2}[symbol.kind]
    sides = rng.uniform(0, 1.3, 4) * full
    if symbol.kind in ("aztec", "datamatrix") and rng.random() < 0.3:
        sides *= 0
    elif rng.random() < 0.5:
        sides[:] = full * rng.uniform(0.7, 1.8)
    if symbol.kind == "marker":
        sides = np.maximum(sides, 0.8)
    if symbol.kind == "linear":
        sides[1::2] *= rng.uniform(0.0, 0.5)
    left, top, right, bottom = (round(s) for s in sides)
    return left, top, right, bottom


def make_card(symbol: Symbol, rng: np.random.Generator, *, target_px: float, plain: bool = False) -> Card:
    """Print a symbol on a card.

    Args:
        symbol: What to print.
        rng: Source of all randomness.
        target_px: Length of the symbol's long side when it stands in the scene; the card is drawn somewhat finer.
        plain: Only the symbol and its quiet zone, as software writes it.
    """
    modules = _stretch_rows(symbol, rng)
    long_side = max(modules.shape)
    pitch = int(np.clip(np.ceil(target_px * 1.3 / long_side), 1, 24))
    dark, light = ((0, 0, 0), (255, 255, 255)) if plain and rng.random() < 0.8 else _colors(symbol, rng)
    left, top, right, bottom = (q * pitch for q in _quiet_zone(symbol, rng))
    height, width = modules.shape[0] * pitch, modules.shape[1] * pitch
    ink = np.zeros((height + top + bottom, width + left + right), dtype=np.float32)
    plain_ink = np.kron(modules, np.ones((pitch, pitch), dtype=np.uint8))
    ink[top : top + height, left : left + width] = plain_ink if plain else _ink(modules, pitch, symbol, rng)
    paper = np.broadcast_to(np.array(light, dtype=np.float32), (*ink.shape, 3))
    print_bgr = np.array(dark, dtype=np.float32)
    if not plain and rng.random() < 0.08:
        print_bgr = _gradient(dark, ink.shape, rng)
    bgr = (paper + (print_bgr - paper) * ink[..., None]).astype(np.uint8)
    box = (left, top, left + width, top + height)
    if symbol.kind == "qr" and symbol.symbology == "QRCode" and rng.random() < 0.18:
        _logo(bgr, box, light, rng)
    if plain and rng.random() < 0.6:
        return Card(bgr, np.full(ink.shape, 255, dtype=np.uint8), box, symbol.kind)
    return _surround(bgr, box, symbol, (dark, light), rng)


def _gradient(dark: Color, size_hw: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ink that runs from `dark` to another colour of like brightness, float32 (H, W, 3)."""
    level = float(np.mean(dark))
    other = random_color(rng, max(0, int(level) - 20), min(255, int(level) + 20), 0.6)
    slope = rng.uniform(-1, 1, 2)
    yy, xx = np.mgrid[0 : 1 : size_hw[0] * 1j, 0 : 1 : size_hw[1] * 1j]
    share = np.clip(0.5 + slope[0] * (xx - 0.5) + slope[1] * (yy - 0.5), 0, 1)[..., None]
    return np.asarray(np.array(dark) + (np.array(other) - np.array(dark)) * share, dtype=np.float32)


def _logo(bgr: NDArray[np.uint8], box: tuple[int, int, int, int], light: Color, rng: np.random.Generator) -> None:
    """Lay a logo over the middle of a QR code, in place."""
    x0, y0, x1, y1 = box
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    if rng.random() < 0.3:
        middle += rng.normal(0, 0.1, 2) * (x1 - x0)
    center = (int(middle[0]), int(middle[1]))
    radius = int((x1 - x0) * rng.uniform(0.08, 0.22))
    if radius < 3:
        return
    if rng.random() < 0.7:
        cv2.circle(bgr, center, radius, light, -1)
    for _ in range(int(rng.integers(2, 7))):
        offset = rng.integers(-radius // 2 - 1, radius // 2 + 1, 2)
        size = int(rng.integers(1, max(2, radius * 2 // 3)))
        point = (int(center[0] + offset[0]), int(center[1] + offset[1]))
        cv2.circle(bgr, point, size, random_color(rng, 0, 255, 0.6), -1 if rng.random() < 0.7 else 1, cv2.LINE_AA)


def _surround(
    code: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    symbol: Symbol,
    colors: tuple[Color, Color],
    rng: np.random.Generator,
) -> Card:
    """Put the code on a label with text, lines and pictures around it."""
    dark, light = colors
    height, width = code.shape[:2]
    side = max(height, width)
    kind = rng.random()
    if kind < 0.3:
        pads = np.zeros(4)
    elif kind < 0.75:
        pads = rng.uniform(0, 0.35, 4) * side
    else:
        pads = rng.uniform(0, 1.2, 4) * side
    readable = symbol.kind == "linear" and rng.random() < 0.75
    if readable:
        pads[3] = max(pads[3], height * 0.1, side * rng.uniform(0.07, 0.16))
    left, top, right, bottom = (int(p) for p in pads)
    bgr = np.empty((height + top + bottom, width + left + right, 3), dtype=np.uint8)
    same = rng.random() < 0.6
    ground = light if same else random_color(rng, 60, 255, 0.4)
    bgr[:] = ground
    ink = dark if same else random_color(rng, 0, 80, 0.3)
    for area in (
        (0, 0, bgr.shape[1], top),
        (0, top + height + (side // 8 if readable else 0), bgr.shape[1], bgr.shape[0]),
        (0, top, left, top + height),
        (left + width, top, bgr.shape[1], top + height),
    ):
        if rng.random() < 0.65:
            inset = int(rng.uniform(0.005, 0.05) * side)
            text_block(bgr, (area[0] + inset, area[1] + inset, area[2] - inset, area[3] - inset), ink, rng)
    bgr[top : top + height, left : left + width] = code
    x0, y0, x1, y1 = box[0] + left, box[1] + top, box[2] + left, box[3] + top
    if readable:
        _readable_line(bgr, (x0, y0, x1, y1), symbol, (dark, light), rng)
    if rng.random() < 0.15:
        margin = int(rng.uniform(0.0, 0.04) * side)
        cv2.rectangle(
            bgr, (margin, margin), (bgr.shape[1] - 1 - margin, bgr.shape[0] - 1 - margin), ink, max(1, side // 100)
        )
    alpha = np.full(bgr.shape[:2], 255, dtype=np.uint8)
    if rng.random() < 0.2:
        _round_corners(alpha, int(min(x0, y0, alpha.shape[1] - x1, alpha.shape[0] - y1) * 1.5 + side * 0.02))
    return Card(bgr, alpha, (x0, y0, x1, y1), symbol.kind)


def _readable_line(
    bgr: NDArray[np.uint8],
    box: tuple[int, int, int, int],
    symbol: Symbol,
    colors: tuple[Color, Color],
    rng: np.random.Generator,
) -> None:
    """Write the content below the bars; EAN digits stand between the guard bars, as they do in life."""
    x0, _, x1, y1 = box
    size = float(np.clip((x1 - x0) * rng.uniform(0.05, 0.11), 4, max(4.5, (bgr.shape[0] - y1) * 0.9)))
    text = symbol.text if rng.random() < 0.85 else random_words(rng, 2)
    text = text[: max(4, int((x1 - x0) / size / 0.7))]
    if rng.random() < 0.4:
        text = " ".join(text)
    x = int(x0 + (x1 - x0) * rng.uniform(0, 0.25))
    if symbol.symbology in ("EAN13", "EAN8", "UPCA", "UPCE") and rng.random() < 0.7:
        # Digits reach up between the guards: part of the bars' lower end is light.
        reach = int(size * rng.uniform(0.1, 0.5))
        guard = max(2, (x1 - x0) // 30)
        middle = (x0 + x1) // 2
        for a, b in ((x0 + guard, middle - guard // 2), (middle + guard // 2, x1 - guard)):
            bgr[max(0, y1 - reach) : y1, a:b] = colors[1]
    draw_text(bgr, text, (x, int(y1 + size * rng.uniform(0.9, 1.25))), size, colors[0], rng)


def _round_corners(alpha: NDArray[np.uint8], radius: int) -> None:
    """Cut the corners of an alpha plane, in place."""
    radius = min(radius, min(alpha.shape) // 3)
    if radius < 2:
        return
    yy, xx = np.mgrid[:radius, :radius]
    corner = np.where(np.hypot(radius - yy, radius - xx) > radius, 0, 255).astype(np.uint8)
    alpha[:radius, :radius] = corner
    alpha[:radius, -radius:] = corner[:, ::-1]
    alpha[-radius:, :radius] = corner[::-1]
    alpha[-radius:, -radius:] = corner[::-1, ::-1]
