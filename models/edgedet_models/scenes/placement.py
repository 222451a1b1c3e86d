"""Placement: bend a flat card, turn it in space, and lay it into a scene.

A card's point goes through three maps: a bend (around a cylinder, or a ripple of a bag), a rotation of its plane in
space seen by a pinhole camera (a homography), and a similarity that brings it to its place and size. The outline of
the symbol goes through the same maps, so that labels are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedet_models.scenes.card import Card

__all__ = ["Pose", "place_card", "random_pose"]

_EDGE_POINTS = 8
_SHADOW_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Pose:
    """Where and how a card lies.

    Attributes:
        center_xy: Centre of the symbol in the scene, in pixels.
        size_px: Length of the symbol's long side before tilting, in pixels.
        spin: Rotation in the picture plane, in radians.
        tilt: Rotation around the card's own x and y axes, in radians.
        bend: Half the angle that the card's width spans on a cylinder, in radians; 0 is flat.
        ripple: Height of waves across the card, as a share of its height; 0 is flat.
    """

    center_xy: tuple[float, float]
    size_px: float
    spin: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    bend: float = 0.0
    ripple: float = 0.0


def random_pose(
    rng: np.random.Generator, center_xy: tuple[float, float], size_px: float, *, flat: bool = False
) -> Pose:
    """Draw a pose: mostly near upright and little tilted, sometimes anything; `flat` has neither tilt nor bend."""
    draw = rng.random()
    spin = rng.normal(0, 0.06) if draw < 0.4 else rng.normal(0, 0.3) if draw < 0.7 else rng.uniform(-np.pi, np.pi)
    if draw < 0.65 and rng.random() < 0.25:
        spin += np.pi / 2 * int(rng.integers(1, 4))
    if flat:
        return Pose(center_xy, size_px, float(round(spin / (np.pi / 2)) * np.pi / 2))
    tilt = rng.normal(0, 0.3, 2) if rng.random() < 0.7 else np.zeros(2)
    tilt = np.clip(tilt, -1.0, 1.0)
    bend = float(rng.uniform(0.2, 1.1)) if rng.random() < 0.15 else 0.0
    ripple = float(rng.uniform(0.01, 0.05)) if rng.random() < 0.08 else 0.0
    return Pose(center_xy, size_px, float(spin), (float(tilt[0]), float(tilt[1])), bend, ripple)


def _bend_points(points: NDArray[np.float64], size_wh: tuple[int, int], pose: Pose) -> NDArray[np.float64]:
    """Map flat card points to the bent card, both in pixels of the card."""
    width, height = size_wh
    result = points.copy()
    if pose.bend > 0:
        # A cylinder's arc x = r * a is seen at r * sin(a).
        radius = width / 2 / pose.bend
        result[:, 0] = width / 2 + radius * np.sin((points[:, 0] - width / 2) / radius)
        result[:, 1] = points[:, 1] + height * 0.06 * pose.bend * np.cos((points[:, 0] / width - 0.5) * np.pi)
    if pose.ripple > 0:
        result[:, 1] += height * pose.ripple * np.sin(result[:, 0] / width * 4 * np.pi)
        result[:, 0] += width * pose.ripple * 0.5 * np.sin(points[:, 1] / height * 3 * np.pi)
    return np.asarray(result, dtype=np.float64)


def _bend_card(card: Card, pose: Pose) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resample a card to its bent form; the maps of `cv2.remap` are the inverse of `_bend_points`."""
    height, width = card.alpha.shape
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    map_x, map_y = xx.copy(), yy.copy()
    # Fixed-point iteration inverts the smooth, small displacement.
    for _ in range(8):
        flat = np.stack([map_x.ravel(), map_y.ravel()], axis=1).astype(np.float64)
        bent = _bend_points(flat, (width, height), pose)
        map_x += xx - bent[:, 0].reshape(height, width).astype(np.float32)
        map_y += yy - bent[:, 1].reshape(height, width).astype(np.float32)
    bgr = cv2.remap(card.bgr, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.remap(card.alpha, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(bgr, dtype=np.uint8), np.asarray(alpha, dtype=np.uint8)


def _homography(card: Card, pose: Pose) -> NDArray[np.float64]:
    """Return the 3x3 map from card pixels to scene pixels."""
    x0, y0, x1, y1 = card.symbol_xyxy
    scale = pose.size_px / max(x1 - x0, y1 - y0)
    to_center = np.array([[scale, 0, -scale * (x0 + x1) / 2], [0, scale, -scale * (y0 + y1) / 2], [0, 0, 1]])
    ax, ay = pose.tilt
    rot_x = np.array([[1, 0, 0], [0, np.cos(ax), -np.sin(ax)], [0, np.sin(ax), np.cos(ax)]])
    rot_y = np.array([[np.cos(ay), 0, np.sin(ay)], [0, 1, 0], [-np.sin(ay), 0, np.cos(ay)]])
    rotation = rot_y @ rot_x
    focal = 2.2 * max(card.alpha.shape) * scale
    # Plane point (x, y, 0) rotated, moved to depth `focal`, projected.
    plane = np.stack([rotation[:, 0], rotation[:, 1], np.array([0, 0, focal])], axis=1)
    project = np.diag([focal, focal, 1.0]) @ plane
    c, s = np.cos(pose.spin), np.sin(pose.spin)
    turn = np.array([[c, -s, pose.center_xy[0]], [s, c, pose.center_xy[1]], [0, 0, 1]])
    return np.asarray(turn @ project @ to_center, dtype=np.float64)


def _outline(card: Card) -> NDArray[np.float64]:
    """Return points along the symbol's border, (4 * _EDGE_POINTS, 2), in card pixels."""
    x0, y0, x1, y1 = card.symbol_xyxy
    t = np.linspace(0, 1, _EDGE_POINTS, endpoint=False)[:, None]
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)
    return np.concatenate([a + (b - a) * t for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])


def place_card(scene: NDArray[np.uint8], card: Card, pose: Pose, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a card into a scene, in place.

    Args:
        scene: uint8 (H, W, 3), BGR, changed in place.
        card: The card.
        pose: Its pose.
        rng: Draws a drop shadow and translucency.

    Returns:
        The symbol's outline in scene pixels, float32 (32, 2); parts may lie outside of the scene.
    """
    height, width = scene.shape[:2]
    matrix = _homography(card, pose)
    outline = _outline(card)
    bgr, alpha = card.bgr, card.alpha
    if pose.bend or pose.ripple:
        outline = _bend_points(outline, (alpha.shape[1], alpha.shape[0]), pose)
        bgr, alpha = _bend_card(card, pose)
    points = np.asarray(cv2.perspectiveTransform(outline[None], matrix)[0], dtype=np.float32)
    card_h, card_w = alpha.shape
    ends = np.array([[[0, 0], [card_w, 0], [card_w, card_h], [0, card_h]]], dtype=np.float64)
    corners = cv2.perspectiveTransform(ends, matrix)[0]
    shrink = (np.linalg.norm(corners[1] - corners[0]) + np.linalg.norm(corners[3] - corners[0])) / (card_w + card_h)
    if shrink < 0.7:
        # Bring the card near its final size first: warping does not average.
        small = (max(1, round(card_w * shrink)), max(1, round(card_h * shrink)))
        bgr = np.asarray(cv2.resize(bgr, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        alpha = np.asarray(cv2.resize(alpha, small, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        matrix = matrix @ np.diag([card_w / small[0], card_h / small[1], 1.0])
    # Pixel centres: the matrix maps pixel edges, cv2 warps pixel centres.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, 0, [width, height])
    high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 2, 0, [width, height])
    if (high - low <= 0).any():
        return points
    back = np.array([[1, 0, -0.5 - low[0]], [0, 1, -0.5 - low[1]], [0, 0, 1]])
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    warp = back @ matrix @ half
    layer = cv2.warpPerspective(bgr, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpPerspective(alpha, warp, size, flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    view = scene[low[1] : high[1], low[0] : high[0]]
    if rng.random() < 0.25:
        shift = rng.integers(1, 3 + int(pose.size_px * 0.04), 2)
        shade = cv2.blur(np.roll(cover, tuple(int(v) for v in shift), axis=(0, 1)), (3, 3)) * _SHADOW_SHARE
        view[:] = (view * (1 - shade[..., None])).astype(np.uint8)
    opacity = 1.0 if rng.random() < 0.93 else rng.uniform(0.6, 0.95)
    cover = cover[..., None] * opacity
    view[:] = np.clip(view + (layer.astype(np.float32) - view) * cover, 0, 255).astype(np.uint8)
    return points
