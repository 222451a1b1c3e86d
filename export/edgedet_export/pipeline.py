"""The export: from a checkpoint to a verified bundle.

Each step takes what the one before it made, is compared with it on real pictures, and raises where that fails: the
bundle is complete or absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from edgedet_export.bundle_writer import bundle_folder, check_place, write_manifest
from edgedet_export.config import ExportConfig
from edgedet_export.fold_input import fold_input
from edgedet_export.foreign.trials import engines_that_survive
from edgedet_export.fuse import FuseReport, fuse
from edgedet_export.golden import golden_picture
from edgedet_export.graph.conversion import set_metadata
from edgedet_export.int8 import Int8Files, add_int8
from edgedet_export.last_rungs import check_files
from edgedet_export.manifest import build_manifest
from edgedet_export.onnx_complexity import count_onnx
from edgedet_export.outputs import with_outputs
from edgedet_export.parity import Outputs, compare, measure_noise
from edgedet_export.pictures import parity_images
from edgedet_export.quantize.images import picture_paths
from edgedet_export.quantize.trials import Evaluate
from edgedet_export.simplify import Simplified, simplify
from edgedet_export.sources import Source, load_source
from edgedet_export.stages import Stage, onnx_stage, torch_stage
from edgedet_export.to_onnx import to_onnx
from edgedet_export.to_openvino import to_openvino
from edgedet_export.written import Judged, Written
from edgedet_models.builtin import calibration_images
from edgedet_models.complexity import Complexity, count
from edgedet_models.detector import DetectorModule
from edgedet_runtime.bundle.manifest import Manifest
from edgedet_runtime.bundle.rungs import Noise, Rung
from edgedet_runtime.engines import EngineName
from edgedet_runtime.errors import InputError
from edgedet_runtime.spec import ModelSpec
from edgedet_runtime.steps import StepProgress, Steps

__all__ = ["ExportConfig", "ExportReport", "export"]

_RUN_ONNX: tuple[EngineName, ...] = ("onnxruntime", "opencv")
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export made.

    Attributes:
        bundle: The folder.
        manifest: What its ``manifest.json`` says.
    """

    bundle: Path
    manifest: Manifest

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {"bundle": str(self.bundle), **self.manifest.to_dict()}


@dataclass(slots=True)
class _Ladder:
    """The stage that stands last, and the rungs below it."""

    spec: ModelSpec
    images: Sequence[Image]
    noise: Noise = field(default_factory=Noise)
    rungs: list[Rung] = field(default_factory=list)
    name: str = ""
    outputs: Sequence[Outputs] = ()

    def start(self, stage: Stage) -> None:
        """Stand on the first stage."""
        self.name, self.outputs = stage.name, stage(self.images)

    def try_to_climb(self, stage: Stage) -> Rung:
        """Compare a stage with the last one; stand on it if it holds, stay if not."""
        outputs = stage(self.images)
        rung = compare(
            self.spec,
            against=self.name,
            before=self.outputs,
            stage=stage.name,
            after=outputs,
            noise=self.noise,
        )
        if rung.passed:
            self.rungs.append(rung)
            self.name, self.outputs = stage.name, outputs
        return rung

    def climb(self, stage: Stage) -> None:
        """Compare a stage with the last one and stand on it, or fail."""
        self.try_to_climb(stage).require()


def export(
    source: Path | str | nn.Module | None,
    config: ExportConfig | None = None,
    *,
    spec: ModelSpec | None = None,
    progress: StepProgress | None = None,
    evaluate: Evaluate | None = None,
) -> ExportReport:
    """Take a detector to a bundle that a device can run.

    Args:
        source: A checkpoint or ONNX file, the name of an architecture (untrained, seeded), your own module, or None
            for the built-in model.
        config: Options.
        spec: Contract of a module that is no `DetectorModule`: its input as float32 NCHW in its own convention, its
            raw outputs, its classes.
        progress: Called as progress(step, steps, description).
        evaluate: Gives the AP (0..1) of a model file on an engine; goes with ``config.data``, and comes from
            `edgedet.export`, since measuring AP needs more than this package.

    Returns:
        Where the bundle is, and its manifest.

    Raises:
        EdgedetError: The source cannot be read, an option does not fit, or a check failed (`CheckFailedError`);
            nothing was written.
    """
    config = config or ExportConfig()
    if config.data is not None and evaluate is None:
        raise InputError("data: measuring AP needs an evaluator; call edgedet.export, which brings it")
    steps = Steps(progress, 5 + config.int8)
    steps.begin("reading")
    images, calibration = _pictures(config)
    loaded = load_source(source, config, spec)
    target = config.out or Path("build", loaded.name)
    check_place(target, overwrite=config.overwrite)
    ladder = _Ladder(loaded.spec, images)

    fused_report: FuseReport | None = None
    complexity: Complexity | None = None
    if isinstance(loaded.model, DetectorModule):
        steps.begin("fusing")
        fused_report, proto, complexity = _from_torch(loaded.model, ladder)
    else:
        proto = loaded.model
        ladder.start(onnx_stage("onnx", proto, loaded.spec))
        complexity = count_onnx(proto)
    steps.begin("simplifying")
    simplified, proto, final_spec = _finish_graph(proto, loaded.spec, config, ladder)
    set_metadata(proto, "edgedet", final_spec.to_json())

    with bundle_folder(target, overwrite=config.overwrite) as folder:
        steps.begin("writing ONNX and OpenVINO IR")
        judged = Judged.of(ladder.name, proto, final_spec, "onnxruntime")
        engines, left_out = _engines(loaded, proto, final_spec, config)
        written = _write_fp32(folder, proto, judged, config, engines)
        quantized = Int8Files()
        if config.int8:
            steps.begin("INT8")
            quantized = add_int8(
                folder,
                proto,
                final_spec,
                config,
                calibration=calibration,
                progress=steps.say,
                evaluate=evaluate,
                foreign=_is_foreign(loaded),
            )
        steps.begin("checking the files")
        written += quantized.written
        picture = golden_picture(images[0], final_spec.input.size_hw)
        last = check_files(
            folder, written, images, picture, ladder.noise, foreign=_is_foreign(loaded), progress=steps.say
        )
        manifest = build_manifest(
            folder,
            loaded,
            final_spec,
            [(file.path, file.precision) for file in written],
            last.engines,
            complexity=complexity,
            fused=fused_report,
            simplified=simplified,
            rungs=[*ladder.rungs, *last.rungs],
            noise=ladder.noise,
            quantization=quantized.reports,
            notes=[*left_out, *quantized.notes, *last.notes],
        )
        write_manifest(folder, manifest)
    return ExportReport(target, manifest)


def _pictures(config: ExportConfig) -> tuple[list[Image], list[Path]]:
    """Return the parity pictures and the paths of the calibration pictures."""
    paths = calibration_images() if config.calib is None else picture_paths(config.calib)
    return parity_images(paths), paths


def _from_torch(model: DetectorModule, ladder: _Ladder) -> tuple[FuseReport, onnx.ModelProto, Complexity]:
    """Fuse a module and trace it, climbing torch → fused → onnx."""
    complexity = count(model, model.spec.input.size_hw)
    torch_outputs = torch_stage("torch", model)
    ladder.start(torch_outputs)
    double = torch_stage("torch-float64", model.double(), dtype=torch.float64)
    ladder.noise = measure_noise(ladder.spec, ladder.outputs, double(ladder.images))
    model.float()
    fused, report = fuse(model, model.small_input())
    ladder.climb(torch_stage("fused", fused))
    proto = to_onnx(fused)
    ladder.climb(onnx_stage("onnx", proto, model.spec))
    return report, proto, complexity


def _finish_graph(
    proto: onnx.ModelProto, spec: ModelSpec, config: ExportConfig, ladder: _Ladder
) -> tuple[Simplified, onnx.ModelProto, ModelSpec]:
    """Fold the input's arithmetic in and simplify; a simplified graph that differs is rolled back."""
    if config.input == "uint8":
        proto, spec = fold_input(proto, spec)
    simplified = simplify(proto)
    if simplified.declined is None:
        rung = ladder.try_to_climb(onnx_stage("simplified", simplified.model, spec))
        if rung.passed:
            return simplified, simplified.model, spec
        simplified = Simplified(
            proto,
            simplified.nodes_before,
            simplified.nodes_before,
            f"onnxsim changed the results: {rung.score_error:g}",
        )
    ladder.climb(onnx_stage("input-folded", proto, spec))
    return simplified, proto, spec


def _engines(
    loaded: Source, proto: onnx.ModelProto, spec: ModelSpec, config: ExportConfig
) -> tuple[tuple[EngineName, ...], tuple[str, ...]]:
    """Return the engines that shall run the files, and notes; what came as a file of ONNX is tried in a child first."""
    engines: tuple[EngineName, ...] = (*_RUN_ONNX, *(("openvino",) if "openvino" in config.formats else ()))
    if not _is_foreign(loaded):
        return engines, ()
    return engines_that_survive(proto, spec, engines, optional=("opencv",))


def _is_foreign(loaded: Source) -> bool:
    """Return whether a network came as a graph that somebody else made, and not as weights of a network built here."""
    return loaded.path is not None and not isinstance(loaded.model, DetectorModule)


def _write_fp32(
    folder: Path, proto: onnx.ModelProto, judged: Judged, config: ExportConfig, engines: Sequence[EngineName]
) -> list[Written]:
    """Write model.onnx and openvino/model.xml; return them with the engines that shall run them."""
    write_onnx(folder / "model.onnx", proto, judged.spec, config)
    written = [Written("model.onnx", "fp32", engine, judged) for engine in engines if engine in _RUN_ONNX]
    if "openvino" in engines:
        write_ir(folder / "openvino/model.xml", proto, judged.spec, config)
        written.append(Written("openvino/model.xml", "fp32", "openvino", judged))
    return written


def write_onnx(path: Path, proto: onnx.ModelProto, spec: ModelSpec, config: ExportConfig) -> None:
    """Write a model with the output contract that was asked for and its spec inside."""
    proto, spec = with_outputs(proto, spec, config.outputs)
    set_metadata(proto, "edgedet", spec.to_json())
    onnx.save(proto, str(path))


def write_ir(path: Path, proto: onnx.ModelProto, spec: ModelSpec, config: ExportConfig) -> None:
    """Write an IR with the output contract that was asked for and its spec inside."""
    path.parent.mkdir(exist_ok=True)
    proto, spec = with_outputs(proto, spec, config.outputs)
    to_openvino(proto, spec, path)
