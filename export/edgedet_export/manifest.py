"""The manifest of a bundle: what it holds, where it came from, and what was measured on the way."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgedet_export.bundle_writer import file_entry
from edgedet_export.fuse import FuseReport
from edgedet_export.simplify import Simplified
from edgedet_export.sources import Source
from edgedet_runtime.bundle.golden import GOLDEN
from edgedet_runtime.bundle.model_files import read_spec
from edgedet_runtime.bundle.rungs import Noise, Rung
from edgedet_runtime.version import __version__

__all__ = ["MANIFEST_VERSION", "build_manifest"]

MANIFEST_VERSION = 1

_TOOLS = ("torch", "onnx", "onnxsim", "onnxruntime", "openvino", "numpy", "opencv-python-headless")


def build_manifest(
    folder: Path,
    source: Source,
    files: Sequence[Mapping[str, Any]],
    *,
    complexity: Mapping[str, Any],
    fused: FuseReport | None,
    simplified: Simplified,
    rungs: Sequence[Rung],
    noise: Noise,
    quantisation: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Gather the manifest of a finished folder.

    Args:
        folder: The bundle, with all files but the manifest.
        source: What was exported.
        files: Model files: path, precision, engines, further facts; hashes and sizes are added here.
        complexity: Parameters and MACs of the unfused network, or of the file where it came as ONNX; empty where that
            does not tell.
        fused: What fusing did; None where the network came as ONNX.
        simplified: What simplifying did.
        rungs: The parity ladder.
        noise: Rounding noise of the network in float32.
        quantisation: Per engine, the report of the INT8 file, with the precision that is recommended.
        notes: What the user should know beyond the source's own notes.
    """
    entries = []
    for file in files:
        entries.append(file_entry(folder, relative=file["path"], **{k: v for k, v in file.items() if k != "path"}))
        weights = Path(file["path"]).with_suffix(".bin")
        if (folder / weights).exists():
            entries.append(file_entry(folder, weights.as_posix()))
    entries.append(file_entry(folder, GOLDEN))
    spec = read_spec(folder / "model.onnx")
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "edgedet": __version__,
        "name": source.name,
        "trained": source.trained,
        "spec": json.loads(spec.to_json()),
        "files": entries,
        "recommended": {engine: facts["recommended"] for engine, facts in quantisation.items()},
        "source": {
            "file": None if source.path is None else source.path.name,
            "sha256": source.sha256,
            "licence": source.spec.licence,
        },
        "complexity": dict(complexity),
        "fuse": None if fused is None else dataclasses.asdict(fused),
        "simplify": {
            "nodes_before": simplified.nodes_before,
            "nodes_after": simplified.nodes_after,
            "declined": simplified.declined,
        },
        "parity": [{**dataclasses.asdict(rung), "passed": rung.passed} for rung in rungs],
        "float32_noise": dataclasses.asdict(noise),
        "quantisation": dict(quantisation),
        "tools": _tool_versions(),
        "notes": [*source.notes, *notes],
    }
    plain: dict[str, Any] = json.loads(json.dumps(manifest, allow_nan=False))  # as the file will say it, no tuples
    return plain


def _tool_versions() -> dict[str, str]:
    versions = {}
    for name in _TOOLS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
