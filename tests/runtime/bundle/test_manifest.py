"""The manifest is a value: strict reading, exact round trip, a published schema, and old ones still open."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgedet_runtime.bundle.facts import (
    ComplexityFacts,
    DeclinedFacts,
    FuseFacts,
    PassFacts,
    RewriteFacts,
    SimplifyFacts,
    SourceFacts,
)
from edgedet_runtime.bundle.manifest import MANIFEST, BundleFile, Manifest, read_manifest
from edgedet_runtime.bundle.manifest_schema import SCHEMA_FILE, manifest_schema
from edgedet_runtime.bundle.quantization import (
    AgreementFacts,
    CalibrationFacts,
    CandidateFacts,
    ExecutedFacts,
    FloatLayerFacts,
    LayerFacts,
    QuantizationFacts,
)
from edgedet_runtime.bundle.rungs import Noise, OutputDifference, Rung
from edgedet_runtime.errors import CheckFailedError, ModelFileError
from tests.runtime.tiny_models import TINY_SPEC

RUNG = Rung("fused", "torch", (OutputDifference("boxes_0", 1e-6, 2e-6),), 1e-7, 1e-5, 1e-4, 0.02, 4, 1e-3)
WHOLE = Manifest(
    files=(
        BundleFile("model.onnx", "ab", 12, "fp32", ("onnxruntime", "opencv")),
        BundleFile("openvino/model.int8.xml", "cd", 34, "int8", ("openvino",), 0.98, "x86-vnni"),
        BundleFile("golden.npz", "ef", 56),
    ),
    recommended={"openvino": "int8"},
    edgedet="1.2.3",
    name="tiny",
    trained=True,
    spec=TINY_SPEC,
    source=SourceFacts("best.pt", "01", "AGPL-3.0"),
    complexity=ComplexityFacts(10, 20, 0.5, 30),
    fuse=FuseFacts((PassFacts("fold", (RewriteFacts("a", "b", 1e-9),), (DeclinedFacts("c", "d"),)),), 4, 3, 2, 1),
    simplify=SimplifyFacts(9, 8, None),
    parity=(RUNG,),
    float32_noise=Noise(1e-6, 1e-4, 1e-5),
    quantization={
        "openvino": QuantizationFacts(
            recommended="int8",
            engine="openvino",
            measure="agreement",
            pareto=(CandidateFacts("all", 0.1, None, 0.96, 0.98, 1.5, 100, within_budget=True, chosen=True),),
            kept_float=(FloatLayerFacts("stem", "sensitive", 5),),
            int8_share=0.98,
            executed=ExecutedFacts(0.98, 0.9, (("Convolution int8", 3, 0.2),)),
            agreement=AgreementFacts(0.96, 0.25, 10, 9, 1, 0.0, 0.01, 0.24),
            calibration=CalibrationFacts(64, 32, ((1, 0.5), (2, 0.01)), ("a.jpg",), (), "aa"),
            sensitivity=(LayerFacts("stem", 0.1, 5, -1.0, 1.0, 30.0, 20.0, 0.0, 1.5),),
        )
    },
    tools={"numpy": "2"},
    notes=("a note",),
)


def written(folder: Path, data: Any) -> Path:
    text = data if isinstance(data, str) else json.dumps(data)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(WHOLE.to_json(), encoding="utf-8")
    assert read_manifest(tmp_path) == WHOLE
    assert [file.path for file in WHOLE.models] == ["model.onnx", "openvino/model.int8.xml"]


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    published = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert published == manifest_schema(), "write it anew: python -m edgedet_runtime.bundle.manifest_schema"
    jsonschema.Draft202012Validator.check_schema(published)
    validator = jsonschema.Draft202012Validator(published)
    validator.validate(WHOLE.to_dict())
    validator.validate(Manifest(()).to_dict())
    assert not validator.is_valid({**WHOLE.to_dict(), "recommended": {"openvino": "fp16"}})
    assert not validator.is_valid({**WHOLE.to_dict(), "files": [{"path": "x"}]})


def test_every_rung_says_whether_it_passed() -> None:
    assert WHOLE.to_dict()["parity"][0]["passed"] is True
    for failed in (
        replace(RUNG, score_error=1.01e-4),
        replace(RUNG, box_error_px=0.0201),
        replace(RUNG, score_error=float("nan")),
        replace(RUNG, outputs=(OutputDifference("boxes_0", 1.0, 1.01e-3),)),
        replace(RUNG, lost=1),
        replace(RUNG, gained=1),
    ):
        assert not failed.passed
        with pytest.raises(CheckFailedError, match="parity torch → fused"):
            failed.require()
    loose = replace(RUNG, raw_tolerance=None, outputs=(OutputDifference("boxes_0", 1.0, 1.0),))
    assert loose.require() is loose


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"files": {}}, "expected an object with a list `files`"),
        ({"files": [{"path": "a", "sha256": "b"}]}, r"manifest\.files\[0\]: bytes is missing"),
        ({"files": [{"path": "../a", "sha256": "b", "bytes": 1}]}, "expected a path within the bundle"),
        ({"files": [{"path": "/a", "sha256": "b", "bytes": 1}]}, "expected a path within the bundle"),
        ({"files": [{"path": "a", "sha256": "b", "bytes": -1}]}, "expected a size"),
        ({"files": [{"path": "a", "sha256": "b", "bytes": 1.5}]}, r"files\[0\]\.bytes: expected int"),
        ({"files": [{"path": "a", "sha256": "b", "bytes": 1}] * 2}, "expected each path once"),
        ({"files": [{"path": ["a"], "sha256": "b", "bytes": 1}]}, r"files\[0\]\.path: expected str, got a list"),
        ({"recommended": {"openvino": "fp16"}}, r"manifest\.recommended\.openvino: expected one of"),
        ({"manifest_version": 3}, "a newer edgedet wrote it"),
        ({"manifest_version": "2"}, "expected 1 to 2"),
        ({"spec": {"family": 3}}, "spec"),
        ({"parity": [{}]}, r"manifest\.parity\[0\]: stage is missing"),
        ({"complexity": {"params": "many"}}, r"manifest\.complexity"),
    ],
)
def test_what_is_no_manifest_is_one_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=words) as caught:
        read_manifest(written(tmp_path, {**WHOLE.to_dict(), **change}))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / MANIFEST) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        '{"files": NaN}',
        '{"files": 1e999}',
        "\ud800".encode("utf-8", "surrogatepass").decode("latin1"),
        "7" * 5000,
    ],
)
def test_what_is_no_json_is_one_line(text: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        read_manifest(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


def test_version_1_still_opens(tmp_path: Path) -> None:
    """What edgedet wrote before the manifest was a value: keys of other names, more and less in the reports."""
    old = {
        "manifest_version": 1,
        "edgedet": "0.1",
        "name": "tiny",
        "trained": True,
        "files": [
            {"path": "model.onnx", "sha256": "ab", "bytes": 1, "precision": "fp32", "engines": ["onnxruntime"]},
            {"path": "golden.npz", "sha256": "cd", "bytes": 2},
        ],
        "recommended": {"onnxruntime": "fp32"},
        "source": {"file": "best.pt", "sha256": "ef", "licence": "MIT"},
        "complexity": {},
        "fuse": None,
        "parity": [{"stage": "onnx"}],
        "quantisation": {"onnxruntime": {"recommended": "fp32"}},
        "notes": ["a note"],
    }
    found = read_manifest(written(tmp_path, old))
    assert found.files[0].engines == ("onnxruntime",)
    assert found.files[1].precision is None
    assert found.source == SourceFacts("best.pt", "ef", "MIT")
    assert found.recommended == {"onnxruntime": "fp32"}
    assert (found.manifest_version, found.quantization, found.complexity) == (1, {}, None)


def test_what_no_rung_measured_is_no_noise() -> None:
    assert Noise() == Noise(0, 0, 0)


def test_the_published_schema_is_what_its_module_writes(tmp_path: Path) -> None:
    """Run in a copy of the package that lacks the file."""
    package = SCHEMA_FILE.parents[1]
    copy = tmp_path / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", SCHEMA_FILE.name))
    command = [sys.executable, "-m", f"{package.name}.bundle.manifest_schema"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True, timeout=60)
    assert (copy / "bundle" / SCHEMA_FILE.name).read_text() == SCHEMA_FILE.read_text()
