"""What INT8 does to each layer of a model alone: the data behind ``edgedet inspect --sensitivity``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgedet_runtime.errors import InputError

if TYPE_CHECKING:
    from edgedet_runtime.bundle.quantization import LayerFacts
    from edgedet_runtime.choices import EngineName

__all__ = ["layer_sensitivity", "save_picture"]


def layer_sensitivity(
    model: Path, *, engine: EngineName | None, calib: Path | None, progress: Callable[[str], object]
) -> tuple[LayerFacts, ...]:
    """Quantize each layer alone, as for an engine, and rank the layers by the harm.

    Args:
        model: A bundle, or an ONNX file that edgedet wrote, with raw heads.
        engine: A target of quantization; None: onnxruntime.
        calib: Calibration pictures; None: those that edgedet ships.
        progress: Called with a few words on what happens.

    Returns:
        Layers, most sensitive first.

    Raises:
        InputError: No FP32 ONNX file with raw heads is there, or the pictures cannot be used.
        MissingDependencyError: A package of the extra ``export`` is not installed.
    """
    from edgedet.extras import require

    require("onnx", "torch", extra="export", purpose="edgedet inspect --sensitivity")
    import onnx

    from edgedet_export.quantize import TARGETS, QuantConfig, inspect_sensitivity
    from edgedet_export.quantize.images import picture_paths
    from edgedet_models.builtin import calibration_images
    from edgedet_runtime.bundle.model_files import find_model_file
    from edgedet_runtime.model_check import check_model

    target = next((target for target in TARGETS.values() if target.name == (engine or "onnxruntime")), None)
    if target is None:
        names = " or ".join(TARGETS)
        raise InputError(f"--engine: expected {names}, whose INT8 can be looked into, got {engine}")
    file = find_model_file(model, engine="onnxruntime", precision="fp32")
    if file.spec.decode.kind in ("decoded", "nms"):
        raise InputError(
            f"{file.path}: expected raw heads, got the {file.spec.decode.kind} form; export it with --outputs raw"
        )
    pictures = calibration_images() if calib is None else picture_paths(calib)
    config = QuantConfig(engine=target.name)
    check_model(file.path)
    return inspect_sensitivity(onnx.load(str(file.path)), file.spec, pictures, config, progress=progress)


def save_picture(layers: tuple[LayerFacts, ...], path: Path) -> None:
    """Draw the layers as bars.

    Raises:
        InputError: The picture cannot be written there.
    """
    import cv2

    from edgedet_export.quantize.sensitivity_picture import draw_sensitivity

    try:
        written = cv2.imwrite(str(path), draw_sensitivity(layers))
    except cv2.error:
        written = False
    if not written:
        raise InputError(f"{path}: cannot write the picture; expected a writable place and .png or .jpg")
