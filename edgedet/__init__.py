"""Take a trained PyTorch object detector to a CPU at the edge: small, fast and still right.

The names below are the public Python API. Each is imported when it is first used, so that ``import edgedet``
costs nothing and `Detector` never needs torch:

- `Detector`, `Detections`, `Box`, `ModelSpec`, `EdgedetError`: run an exported model (numpy, OpenCV and one
  engine).
- `export`, `ExportConfig`: turn a checkpoint or an ``nn.Module`` into a verified bundle (the extra
  ``export``).
- `load`: read a training checkpoint into an ``nn.Module`` without executing anything of it (the extra
  ``export``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedet.api import export, load
    from edgedet_export.config import ExportConfig
    from edgedet_runtime import Box, Detections, Detector, EdgedetError, ModelSpec

__all__ = ["Box", "Detections", "Detector", "EdgedetError", "ExportConfig", "ModelSpec", "export", "load"]

_HOMES = {
    "Box": "edgedet_runtime",
    "Detections": "edgedet_runtime",
    "Detector": "edgedet_runtime",
    "EdgedetError": "edgedet_runtime",
    "ModelSpec": "edgedet_runtime",
    "ExportConfig": "edgedet_export.config",
    "export": "edgedet.api",
    "load": "edgedet.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgedet' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
