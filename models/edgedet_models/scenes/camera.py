"""The camera: light, glare, optics, sensor and compression, applied to a finished scene."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["photograph"]

Image = NDArray[np.uint8]
FloatImage = NDArray[np.float32]


def photograph(scene: Image, rng: np.random.Generator, *, severity: float = 1.0) -> Image:
    """Return the scene as a camera would deliver it; geometry stays the same.

    Args:
        scene: uint8 (H, W, 3), BGR.
        rng: Source of all randomness.
        severity: Scales how often and how badly things go wrong; 0 keeps the scene as it is.
    """
    if severity <= 0:
        return scene
    image = scene.astype(np.float32)
    if rng.random() < 0.5 * severity:
        image = _uneven_light(image, rng)
    if rng.random() < 0.2 * severity:
        image = _shadow(image, rng)
    if rng.random() < 0.15 * severity:
        image = _glare(image, rng)
    image = _exposure(image, rng, severity)
    if rng.random() < 0.55 * severity:
        image = _optics(image, rng)
    if rng.random() < 0.12 * severity:
        image = _low_resolution(image, rng)
    if rng.random() < 0.22:
        image[:] = image.mean(axis=2, keepdims=True)
    if rng.random() < 0.5 * severity:
        image = _sensor_noise(image, rng)
    result = cast(Image, np.clip(image, 0, 255).astype(np.uint8))
    if rng.random() < 0.06 * severity:
        result = _screen_lines(result, rng)
    if rng.random() < 0.5 * severity:
        quality = int(rng.integers(25, 96))
        _, data = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = cast(Image, cv2.imdecode(data, cv2.IMREAD_COLOR))
    return result


def smooth_field(rng: np.random.Generator, height: int, width: int, cells: int) -> FloatImage:
    """Return float32 (height, width) in 0..1: random numbers on a grid of `cells`, interpolated."""
    grid = rng.random((max(2, cells), max(2, cells))).astype(np.float32)
    field = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return cast(FloatImage, np.clip(field, 0, 1))


def _uneven_light(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    field = smooth_field(rng, image.shape[0], image.shape[1], int(rng.integers(2, 5)))
    low = rng.uniform(0.25, 0.9)
    return cast(FloatImage, image * (low + (1.15 - low) * field)[..., None])


def _shadow(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    height, width = image.shape[:2]
    mask = np.zeros((height, width), dtype=np.uint8)
    count = int(rng.integers(3, 7))
    points = np.stack([rng.uniform(-0.3, 1.3, count) * width, rng.uniform(-0.3, 1.3, count) * height], axis=1)
    cv2.fillPoly(mask, [cv2.convexHull(points.astype(np.int32))], 255)
    soft = cv2.blur(mask, (int(rng.integers(1, 40)), int(rng.integers(1, 40)))).astype(np.float32) / 255
    return cast(FloatImage, image * (1 - soft * rng.uniform(0.25, 0.75))[..., None])


def _glare(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    height, width = image.shape[:2]
    small = np.zeros((max(8, height // 4), max(8, width // 4)), dtype=np.float32)
    center = (int(rng.uniform(0, small.shape[1])), int(rng.uniform(0, small.shape[0])))
    axes = (int(rng.uniform(0.02, 0.25) * small.shape[1]) + 1, int(rng.uniform(0.02, 0.15) * small.shape[0]) + 1)
    cv2.ellipse(small, center, axes, float(rng.uniform(0, 180)), 0, 360, 1.0, -1)
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(1, 12)).astype(np.float32)
    spot = cv2.resize(small, (width, height))[..., None]
    return cast(FloatImage, image + (255 - image) * spot * rng.uniform(0.4, 1.0))


def _exposure(image: FloatImage, rng: np.random.Generator, severity: float) -> FloatImage:
    gain = np.exp(rng.normal(0, 0.25) * severity)
    if rng.random() < 0.12 * severity:
        gain *= rng.uniform(0.25, 0.6)
    gamma = np.exp(rng.normal(0, 0.2) * severity)
    lift = rng.uniform(0, 50) if rng.random() < 0.3 * severity else 0.0
    tint = np.exp(rng.normal(0, 0.06, 3) * severity).astype(np.float32)
    scaled = np.clip(image / 255, 0, 1) ** gamma * gain * tint
    return cast(FloatImage, (lift + scaled * (255 - lift)).astype(np.float32))


def _optics(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Defocus (disc), Gaussian softness, or motion along a line."""
    strength = np.exp(rng.uniform(np.log(0.4), np.log(3.2)))
    kind = rng.random()
    if kind < 0.45:
        return cast(FloatImage, cv2.GaussianBlur(image, (0, 0), strength))
    size = 2 * int(np.ceil(strength * 1.6)) + 1
    kernel = np.zeros((size, size), dtype=np.float32)
    if kind < 0.7:
        cv2.circle(kernel, (size // 2, size // 2), size // 2, 1.0, -1)
    else:
        angle = rng.uniform(0, np.pi)
        dx, dy = np.cos(angle) * size / 2, np.sin(angle) * size / 2
        middle = size // 2
        cv2.line(kernel, (round(middle - dx), round(middle - dy)), (round(middle + dx), round(middle + dy)), 1.0)
    return cast(FloatImage, cv2.filter2D(image, -1, kernel / kernel.sum()))


def _low_resolution(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    height, width = image.shape[:2]
    factor = rng.uniform(0.35, 0.8)
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_NEAREST
    return cast(FloatImage, cv2.resize(small, (width, height), interpolation=how))


def _sensor_noise(image: FloatImage, rng: np.random.Generator) -> FloatImage:
    sigma = np.exp(rng.uniform(np.log(1.0), np.log(18.0)))
    shape = image.shape if rng.random() < 0.6 else (*image.shape[:2], 1)
    noise = rng.standard_normal(shape, dtype=np.float32)
    if rng.random() < 0.4:
        noise = np.asarray(cv2.blur(noise, (2, 2)), dtype=np.float32).reshape(shape) * 2
    return cast(FloatImage, image + noise * sigma)


def _screen_lines(image: Image, rng: np.random.Generator) -> Image:
    """The pixel grid of a display, or rolling bands."""
    rows = np.arange(image.shape[0], dtype=np.float32)
    period = rng.uniform(2.1, 9.0) if rng.random() < 0.6 else rng.uniform(40, 300)
    wave = 1 - rng.uniform(0.04, 0.2) * (0.5 + 0.5 * np.sin(2 * np.pi * rows / period))
    return cast(Image, (image * wave[:, None, None]).astype(np.uint8))
