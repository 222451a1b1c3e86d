"""The built-in model: a detector of machine-readable codes, trained by us on rendered scenes; see MODEL_CARD.md.

Everything here is data in the wheel. Nothing needs a library beyond what reading a checkpoint needs.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["builtin_checkpoint", "calibration_images", "sample_images"]

_HERE = Path(__file__).parent


def builtin_checkpoint() -> Path:
    """Return the checkpoint (.safetensors, float16) of the built-in model."""
    return _HERE / "edgecode-n.safetensors"


def sample_images() -> list[Path]:
    """Return rendered scenes with codes, to try the model on."""
    return sorted((_HERE / "samples").glob("*.jpg"))


def calibration_images() -> list[Path]:
    """Return rendered scenes to calibrate an INT8 export of the built-in model with."""
    return sorted((_HERE / "calibration").glob("*.jpg"))
