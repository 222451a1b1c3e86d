"""The one place that imports OpenVINO, without the part of it that reports to its maker.

The wheel of OpenVINO brings ``openvino_telemetry``, which looks up a host by name on import, sends what is done with
the package, and leaves files in ``~/intel``. OpenVINO does without that package where it cannot be imported.
"""

from __future__ import annotations

import sys
from typing import Any

from edgedet_runtime.errors import MissingDependencyError

__all__ = ["openvino_package", "refuse_telemetry"]


def openvino_package(purpose: str) -> Any:
    """Return the module ``openvino``; from now on nothing in this process can import its telemetry.

    Args:
        purpose: What it is for, as the end of the sentence "… needs openvino".

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    refuse_telemetry()
    try:
        import openvino
    except ImportError:
        raise MissingDependencyError("openvino", "openvino", purpose) from None
    return openvino


def refuse_telemetry() -> None:
    """Let nothing in this process import OpenVINO's telemetry from now on."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's way to say: there is none
