"""Python functions of the public API that need more than one package."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedet_models.detector import DetectorModule

__all__ = ["load"]


def load(checkpoint: str | Path, *, family: str | None = None) -> DetectorModule:
    """Read a training checkpoint into a module, executing nothing of the file.

    Args:
        checkpoint: A ``.pt``, ``.pth``, ``.safetensors`` or ``.weights`` file.
        family: Name of the architecture family, where more than one fits.

    Returns:
        The detector in float32 and evaluation mode, with the file's weights.

    Raises:
        CheckpointError: The file cannot be read safely, or is of no known family.
        MissingDependencyError: torch is not installed.
    """
    from edgedet.extras import require

    require("torch", extra="export", purpose="reading a training checkpoint")
    from edgedet_models import families
    from edgedet_models.checkpoint import read_checkpoint

    return families.load(read_checkpoint(Path(checkpoint)), family=family)
