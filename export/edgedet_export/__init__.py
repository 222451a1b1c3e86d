"""From a detector to a verified bundle: fusing, ONNX, OpenVINO IR, INT8. Needs torch.

The names below are the public surface; each is imported when it is first used, so that options can be read without
loading torch:

- `export`: take a checkpoint, an ONNX file or a module to a bundle; `edgedet.export` adds the measuring of AP.
- `ExportConfig`: its options.
- `ExportReport`: what it made.
- `StepProgress`: what it calls while it works.
- `NoInt8Error`: no engine has an INT8 file within the budget; keeps what was tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedet_export.config import ExportConfig
    from edgedet_export.int8 import NoInt8Error
    from edgedet_export.pipeline import ExportReport, export
    from edgedet_runtime.steps import StepProgress

__all__ = ["ExportConfig", "ExportReport", "NoInt8Error", "StepProgress", "export"]

_HOMES = {
    "ExportConfig": "edgedet_export.config",
    "ExportReport": "edgedet_export.pipeline",
    "NoInt8Error": "edgedet_export.int8",
    "StepProgress": "edgedet_runtime.steps",
    "export": "edgedet_export.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgedet_export' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
