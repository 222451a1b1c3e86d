"""Gathering the manifest of a finished bundle."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgedet_export.fuse import FuseReport
from edgedet_export.simplify import Simplified
from edgedet_export.sources import Source
from edgedet_models.complexity import Complexity
from edgedet_runtime.bundle.facts import ComplexityFacts, FuseFacts, SimplifyFacts, SourceFacts
from edgedet_runtime.bundle.golden import GOLDEN
from edgedet_runtime.bundle.manifest import BundleFile, Manifest, describe_file
from edgedet_runtime.bundle.model_files import Precision
from edgedet_runtime.bundle.quantization import QuantizationFacts
from edgedet_runtime.bundle.rungs import Noise, Rung
from edgedet_runtime.engines import EngineName
from edgedet_runtime.from_json import from_json
from edgedet_runtime.spec import ModelSpec
from edgedet_runtime.version import __version__

__all__ = ["build_manifest"]

_TOOLS = ("torch", "onnx", "onnx-ir", "onnxsim", "onnxruntime", "openvino", "numpy", "opencv-python-headless")


def build_manifest(
    folder: Path,
    source: Source,
    spec: ModelSpec,
    models: Sequence[tuple[str, Precision]],
    engines: Mapping[str, tuple[EngineName, ...]],
    *,
    complexity: Complexity | None,
    fused: FuseReport | None,
    simplified: Simplified,
    rungs: Sequence[Rung],
    noise: Noise,
    quantization: Mapping[str, QuantizationFacts],
    notes: Sequence[str] = (),
) -> Manifest:
    """Gather the manifest of a finished folder.

    Args:
        folder: The bundle, with all files except the manifest.
        source: What was exported.
        spec: The contract of the model files.
        models: Path and precision of each model file.
        engines: Path of a model file → engines that may run it.
        complexity: Of the unfused network, or of the file where it came as ONNX; None where that does not tell.
        fused: What fusing did; None where the network came as ONNX.
        simplified: What simplifying did.
        rungs: The parity ladder.
        noise: Rounding noise of the network in float32.
        quantization: Per engine, its INT8.
        notes: What the user should know beyond the source's own notes.
    """
    files: list[BundleFile] = []
    for path, precision in dict.fromkeys(models):
        of_engine = quantization.get(engines[path][0]) if precision == "int8" else None
        share, cpu = (of_engine.int8_share, of_engine.cpu) if of_engine is not None else (None, None)
        facts = {"precision": precision, "engines": engines[path], "int8_share": share, "cpu": cpu}
        files.append(describe_file(folder, path, **facts))
        weights = Path(path).with_suffix(".bin").as_posix()
        if (folder / weights).exists():
            files.append(describe_file(folder, weights))
    files.append(describe_file(folder, GOLDEN))
    return Manifest(
        files=tuple(files),
        recommended={engine: facts.recommended for engine, facts in quantization.items()},
        edgedet=__version__,
        name=source.name,
        trained=source.trained,
        spec=spec,
        source=SourceFacts(
            file=None if source.path is None else source.path.name,
            sha256=source.sha256,
            license=source.spec.licence,
        ),
        complexity=None if complexity is None else ComplexityFacts(**dataclasses.asdict(complexity)),
        fuse=None if fused is None else _fuse_facts(fused),
        simplify=SimplifyFacts(simplified.nodes_before, simplified.nodes_after, simplified.declined),
        parity=tuple(rungs),
        float32_noise=noise,
        quantization=dict(quantization),
        tools=_tool_versions(),
        notes=(*source.notes, *notes),
    )


def _fuse_facts(report: FuseReport) -> FuseFacts:
    return from_json(FuseFacts, json.loads(json.dumps(dataclasses.asdict(report))), at="fuse")


def _tool_versions() -> dict[str, str]:
    versions = {}
    for name in _TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
