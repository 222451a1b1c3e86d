"""What is measured once of a model, for every engine: the usable pictures and the statistics of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx

from edgedet_export.graph.conversion import from_proto, to_proto
from edgedet_export.graph.shapes import infer_shapes
from edgedet_export.quantize.calibration import Calibration, calibrate
from edgedet_export.quantize.config import QuantConfig
from edgedet_export.quantize.images import CalibrationSet, Picture, open_pictures
from edgedet_runtime.cpu import available_threads
from edgedet_runtime.spec import ModelSpec

__all__ = ["Measured", "Progress", "measure", "silent"]

Progress = Callable[[str], object]
"""Called with a few words on what happens."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What calibration found; it serves every engine.

    Attributes:
        model: The FP32 model, with shapes.
        pictures: The usable pictures.
        calibration: Statistics of its tensors.
    """

    model: onnx.ModelProto
    pictures: CalibrationSet
    calibration: Calibration


def measure(
    model: onnx.ModelProto,
    spec: ModelSpec,
    images: Sequence[Picture],
    config: QuantConfig,
    *,
    progress: Progress | None = None,
) -> Measured:
    """Check the pictures and collect statistics of the FP32 model; see `quantize`."""
    say = progress or silent
    shaped = from_proto(model)
    infer_shapes(shaped)
    say("reading calibration pictures")
    pictures = open_pictures(images, limit=config.max_images)
    calibration = calibrate(
        shaped,
        pictures.tensors(spec),
        threads=config.threads or available_threads(),
        progress=lambda done: say(f"calibrating, picture {done} of {len(pictures)}"),
    )
    return Measured(to_proto(shaped), pictures, calibration)


def silent(_: str) -> None:
    """Report progress to nobody."""
