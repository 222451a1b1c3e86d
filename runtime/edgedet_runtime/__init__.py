"""The runtime of edgedet: numpy, OpenCV and one inference engine; what a device app embeds.

::

    from edgedet_runtime import Detector

    detect = Detector("bundle")
    for box in detect(image_bgr):
        print(box.name, box.score, box.xyxy)
"""

from __future__ import annotations

import os

# ONNX Runtime 1.31 uploads telemetry from Linux too, unless told not to; a detector on a device calls nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from edgedet_runtime.detections import Box, Detections
from edgedet_runtime.detector import Detector, StageTimes
from edgedet_runtime.draw import draw
from edgedet_runtime.errors import (
    BusyError,
    CheckFailedError,
    CheckpointError,
    EdgedetError,
    EngineError,
    InputError,
    MissingDependencyError,
    ModelFileError,
)
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.sources import Frame, iter_frames
from edgedet_runtime.spec import ModelSpec

__all__ = [
    "Box",
    "BusyError",
    "CheckFailedError",
    "CheckpointError",
    "Detections",
    "Detector",
    "EdgedetError",
    "EngineError",
    "Frame",
    "InputError",
    "Letterbox",
    "MissingDependencyError",
    "ModelFileError",
    "ModelSpec",
    "StageTimes",
    "draw",
    "iter_frames",
]
