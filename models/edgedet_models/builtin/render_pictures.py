"""Render the pictures that ship beside the built-in model: ``python -m edgedet_models.builtin.render_pictures``."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgedet_models.scenes import render_scene

__all__ = ["CALIBRATION_SEEDS", "SAMPLE_SEEDS", "render_pictures"]

SAMPLE_SEEDS = (20_000_003, 20_000_015, 20_000_018, 20_000_021, 20_000_026, 20_000_049)
CALIBRATION_SEEDS = tuple(range(30_000_000, 30_000_032))
"""Training uses seeds from 0, validation from 10 000 000."""


def render_pictures(folder: Path) -> int:
    """Write ``samples`` and ``calibration`` into `folder`; return the bytes written."""
    total = 0
    for name, seeds, long_side in (("samples", SAMPLE_SEEDS, 640), ("calibration", CALIBRATION_SEEDS, 640)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            image = render_scene(seed, long_side=long_side).image_bgr
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])
            total += (folder / name / f"scene-{seed}.jpg").write_bytes(np.asarray(data).tobytes())
    return total


if __name__ == "__main__":
    render_pictures(Path(__file__).parent)
