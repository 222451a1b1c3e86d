"""The INT8 step: one quantised file per engine, held to a budget, added to a bundle in the making."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from edgedet_export.config import ExportConfig
from edgedet_export.quantize import QuantConfig, QuantEngine, measure, quantize, quantize_unjudged
from edgedet_export.quantize.report import BudgetError
from edgedet_export.quantize.trials import Evaluate
from edgedet_export.written import Judged, Written
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.spec import ModelSpec

__all__ = ["ENGINE_OF_FORMAT", "INT8_FILES", "Int8Files", "NoInt8Error", "add_int8"]

ENGINE_OF_FORMAT: dict[str, QuantEngine] = {"onnx": "onnxruntime", "openvino": "openvino"}
INT8_FILES: dict[QuantEngine, str] = {
    "onnxruntime": "model.int8.onnx",
    "openvino": "openvino/model.int8.xml",
}

_UNJUDGED = QuantConfig(max_images=8, judge_images=4)

Writer = Callable[[Path, onnx.ModelProto, ModelSpec, ExportConfig], None]


class NoInt8Error(CheckFailedError):
    """No engine has an INT8 file within the budget.

    Attributes:
        reports: Per engine, what was tried.
    """

    def __init__(self, message: str, reports: dict[str, Any]) -> None:
        """Keep what was tried."""
        super().__init__(message)
        self.reports = reports


@dataclass(frozen=True, slots=True)
class Int8Files:
    """What the INT8 step added to a bundle.

    Attributes:
        files: Manifest entries of the files.
        reports: Per engine, the report of the quantisation with its ``recommended`` precision.
        notes: What the user should know, one sentence each.
        written: The files with the candidates that were judged, for the last rungs of the ladder.
    """

    files: tuple[dict[str, Any], ...]
    reports: dict[str, Any]
    notes: tuple[str, ...]
    written: tuple[Written, ...] = ()


def add_int8(
    folder: Path,
    proto: onnx.ModelProto,
    spec: ModelSpec,
    config: ExportConfig,
    *,
    calibration: Sequence[Path],
    writers: dict[QuantEngine, Writer],
    progress: Callable[[str], object],
    evaluate: Evaluate | None = None,
) -> Int8Files:
    """Quantise for each engine that was asked for and write the files.

    Args:
        folder: The bundle in the making.
        proto: FP32 model with raw heads.
        spec: Its contract.
        config: Options of the export.
        calibration: Calibration pictures.
        writers: How each engine's file is written.
        progress: Told in words what happens.
        evaluate: AP of a model on an engine, where labelled pictures were given.

    Returns:
        What was written. An engine for which no candidate keeps the budget gets no file and stays with FP32; the
        notes say so.

    Raises:
        NoInt8Error: No engine has a candidate that keeps the budget; nothing was written.
    """
    files: list[dict[str, Any]] = []
    reports: dict[str, Any] = {}
    notes: list[str] = []
    written: list[Written] = []
    base = QuantConfig() if config.search else _UNJUDGED
    measured = measure(proto, spec, calibration, base, progress=lambda text: progress(f"INT8: {text}"))
    for name in config.formats:
        engine = ENGINE_OF_FORMAT[name]

        def tell(text: str, engine: str = engine) -> None:
            progress(f"INT8 for {engine}: {text}")

        path = INT8_FILES[engine]
        if not config.search:
            tell("placing")
            placed = quantize_unjudged(measured, spec, dataclasses.replace(base, engine=engine))
            writers[engine](folder / path, placed.model, spec, config)
            files.append(_entry(path, engine, placed.int8_share, placed.cpu))
            written.append(_written(path, engine, placed.model, spec))
            reports[engine] = {**placed.to_dict(), "recommended": "fp32"}
            continue
        options = QuantConfig(engine=engine, max_drop=config.max_drop, max_float=config.max_float)
        try:
            result = quantize(proto, spec, calibration, options, progress=tell, evaluate=evaluate, measured=measured)
        except BudgetError as e:
            reports[engine] = {**e.to_dict(), "recommended": "fp32"}
            notes.append(str(e))
            continue
        writers[engine](folder / path, result.model, spec, config)
        files.append(_entry(path, engine, result.report.int8_share, result.report.cpu))
        written.append(_written(path, engine, result.model, spec))
        report = result.report.to_dict()
        report["recommended"] = "int8" if result.report.recommended else "fp32"
        reports[engine] = report
        if not result.report.recommended:
            speed = f"{result.report.speedup:.2f}x FP32's speed on this machine"
            notes.append(f"INT8 for {engine}: {speed}, so FP32 is recommended")
    if not files:
        raise NoInt8Error("; ".join(notes), reports)
    if not config.search:
        notes.append("INT8 was placed without a search and not judged: good for latency and size only")
    return Int8Files(tuple(files), reports, tuple(notes), tuple(written))


def _entry(path: str, engine: QuantEngine, int8_share: float, cpu: str) -> dict[str, Any]:
    """Describe a file for the manifest."""
    return {"path": path, "precision": "int8", "engines": [engine], "int8_share": int8_share, "cpu": cpu}


def _written(path: str, engine: QuantEngine, model: onnx.ModelProto, spec: ModelSpec) -> Written:
    return Written(path, "int8", engine, Judged(f"INT8 as judged on {engine}", model, spec, engine))
