"""The INT8 step: one quantized file per engine, held to a budget, added to a bundle in the making."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from edgedet_export.config import ExportConfig
from edgedet_export.outputs import with_outputs
from edgedet_export.quantize import QuantConfig, Target, measure, quantize, quantize_unjudged, targets_of
from edgedet_export.quantize.report import BudgetError
from edgedet_export.quantize.trials import Evaluate
from edgedet_export.written import Judged, Written
from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.bundle.quantization import QuantizationFacts
from edgedet_runtime.cpu import available_threads
from edgedet_runtime.engines.trial_load import try_in_child
from edgedet_runtime.errors import CheckFailedError
from edgedet_runtime.from_json import from_json
from edgedet_runtime.spec import ModelSpec

__all__ = ["Int8Files", "NoInt8Error", "add_int8"]

_UNJUDGED = QuantConfig(max_images=8, judge_images=4)


class NoInt8Error(CheckFailedError):
    """No engine has an INT8 file within the budget.

    Attributes:
        reports: Per engine, what was tried.
    """

    def __init__(self, message: str, reports: Mapping[str, QuantizationFacts]) -> None:
        """Keep what was tried."""
        super().__init__(message)
        self.reports = reports


@dataclass(frozen=True, slots=True)
class Int8Files:
    """What the INT8 step added to a bundle.

    Attributes:
        reports: Per engine, what the manifest says of its INT8.
        notes: What the user should know, one sentence each.
        written: The files with the candidates that were judged, for the last rungs of the ladder.
    """

    reports: Mapping[str, QuantizationFacts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    written: tuple[Written, ...] = ()


def add_int8(
    folder: Path,
    proto: onnx.ModelProto,
    spec: ModelSpec,
    config: ExportConfig,
    *,
    calibration: Sequence[Path],
    progress: Callable[[str], object],
    evaluate: Evaluate | None = None,
    foreign: bool = False,
) -> Int8Files:
    """Quantize for each engine that was asked for and write the files.

    Args:
        folder: The bundle in the making.
        proto: FP32 model with raw heads.
        spec: Its contract.
        config: Options of the export.
        calibration: Calibration pictures.
        progress: Called with a few words on what happens.
        evaluate: AP of a model file on an engine, where labelled pictures were given.
        foreign: The network came as a file of somebody else: engines load what is made of it in a child process first.

    Returns:
        What was written. An engine for which no candidate keeps the budget gets no file and stays with FP32; the
        notes say so.

    Raises:
        NoInt8Error: No engine has a candidate that keeps the budget; nothing was written.
        EngineDeathError: In a child process, an engine died of the INT8 of a foreign network.
    """
    base = QuantConfig() if config.search else _UNJUDGED
    measured = measure(proto, spec, calibration, base, progress=lambda text: progress(f"INT8: {text}"))
    reports: dict[str, QuantizationFacts] = {}
    notes: list[str] = []
    written: list[Written] = []
    for target in targets_of(config.formats):
        say = partial(_say, progress, target)
        if config.search:
            options = QuantConfig(
                engine=target.name, max_drop=config.max_drop, max_float=config.max_float, foreign=foreign
            )
            try:
                found = quantize(proto, spec, calibration, options, progress=say, evaluate=evaluate, measured=measured)
            except BudgetError as e:
                reports[target.name] = _facts(e.to_dict(), recommended="fp32")
                notes.append(str(e))
                continue
            model, report = found.model, found.report.to_dict()
            recommended = "int8" if found.report.recommended else "fp32"
            if not found.report.recommended:
                speed = f"{found.report.speedup:.2f}x FP32's speed on this machine"
                notes.append(f"INT8 for {target.name}: {speed}, so FP32 is recommended")
        else:
            say("placing")
            placed = quantize_unjudged(measured, spec, dataclasses.replace(base, engine=target.name))
            model, report, recommended = placed.model, placed.to_dict(), "fp32"
        judged = Judged.of(f"INT8 as judged on {target.name}", model, spec, target.name)
        say("writing, and auditing what the engine runs in INT8")
        target.write(folder / target.file, *with_outputs(model, spec, config.outputs))
        if foreign:
            try_in_child(target.name, folder / target.file, read_spec(folder / target.file), what=target.file)
        tensor = next(measured.pictures.tensors(spec))
        executed = target.audit(folder / target.file, spec, tensor, threads=available_threads())
        reports[target.name] = _facts(report, recommended=recommended, executed=dataclasses.asdict(executed))
        written.append(Written(target.file, "int8", target.name, judged))
    if not written:
        raise NoInt8Error("; ".join(notes), reports)
    if not config.search:
        notes.append("INT8 was placed without a search and not judged: good for latency and size only")
    return Int8Files(reports, tuple(notes), tuple(written))


def _say(progress: Callable[[str], object], target: Target, text: str) -> None:
    progress(f"INT8 for {target.name}: {text}")


def _facts(report: Mapping[str, Any], **more: Any) -> QuantizationFacts:
    """Return what the manifest says of one engine's INT8."""
    return from_json(QuantizationFacts, json.loads(json.dumps({**report, **more})), at="quantization")
