"""The runtime of edgedet: numpy, OpenCV and one inference engine; what a device app embeds."""

from __future__ import annotations

from edgedet_runtime.detections import Box, Detections
from edgedet_runtime.errors import EdgedetError
from edgedet_runtime.spec import ModelSpec

__all__ = ["Box", "Detections", "EdgedetError", "ModelSpec"]
