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
        ({"files": [{"path": ["a"], "sha256": "b", "bytes": 1}]}, r"files\[0\]\.path: expected str, got \['a'\]"),
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


@pytest.mark.parametrize("path", ["/a", "../a", "a/../b", "..", "a\\b", "a\0b", "", "."])
def test_a_file_lies_within_the_bundle(path: str) -> None:
    with pytest.raises(ValueError, match="expected a path within the bundle"):
        BundleFile(path, "ab", 1)


@pytest.mark.parametrize("path", ["a" * 256, "ü" * 128, f"a/{'b' * 256}/c", "a\nb", "a\x1bb", "a\udc80"])
def test_a_file_has_a_name_that_a_file_can_have(path: str) -> None:
    with pytest.raises(ValueError, match="expected printable names of at most 255 bytes, got '") as refused:
        BundleFile(path, "ab", 1)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("path", ["a", "a/b.onnx", "..a", "a..b/c", "a" * 255, "ü" * 127 + "/" + "b" * 255])
def test_names_that_only_look_odd(path: str) -> None:
    assert BundleFile(path, "ab", 0).path == path


def test_a_file_has_a_size_and_stands_once() -> None:
    with pytest.raises(ValueError, match="a: expected a size, got -1 bytes"):
        BundleFile("a", "ab", -1)
    a, b = BundleFile("a", "ab", 1), BundleFile("b", "ab", 1)
    for files in ((a, b, a), (b, a, a)):
        with pytest.raises(ValueError, match="expected each path once, got 'a' twice"):
            Manifest(files)
    assert Manifest((a, b)).models == ()


def test_a_manifest_is_written_to_be_read_by_people() -> None:
    lines = Manifest((BundleFile("é", "ab", 1),)).to_json().splitlines()
    assert lines[:4] == ["{", ' "files": [', "  {", '   "path": "é",']


def test_a_manifest_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / MANIFEST).write_text("{}")

    def refuse(_: Path, mode: str) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelFileError, match=r"manifest\.json: cannot be read \(Permission denied\)$"):
        read_manifest(tmp_path)


def test_each_output_of_a_rung_counts() -> None:
    good, bad = OutputDifference("good", 1e-6, 1e-3), OutputDifference("bad", 5e-6, 2e-3)
    assert replace(RUNG, outputs=(good, good)).passed
    for outputs in ((good, bad), (bad, good)):
        with pytest.raises(
            CheckFailedError, match=r"worst output bad \(absolute 5e-06, relative 0\.002, allowed 0\.001\)"
        ):
            replace(RUNG, outputs=outputs).require()
        assert replace(RUNG, outputs=outputs, raw_tolerance=None).passed
    unknown = OutputDifference("unknown", float("nan"), float("nan"))
    with pytest.raises(CheckFailedError, match="worst output unknown"):
        replace(RUNG, outputs=(bad, unknown, good)).require()
    with pytest.raises(CheckFailedError, match=r"px; nothing was written$"):
        replace(RUNG, outputs=(), score_error=1.0).require()


@pytest.mark.parametrize(
    ("lost", "gained", "words"),
    [
        (2, 0, "; 2 detections lost, 0 gained;"),
        (0, 3, "; 0 detections lost, 3 gained;"),
        (1, 1, "; 1 detections lost, 1"),
    ],
)
def test_detections_that_changed_are_told(lost: int, gained: int, words: str) -> None:
    with pytest.raises(CheckFailedError, match=words):
        replace(RUNG, lost=lost, gained=gained).require()


def test_tolerances_of_a_rung_are_included() -> None:
    score, box = RUNG.score_tolerance, RUNG.box_tolerance_px
    assert replace(RUNG, score_error=score, box_error_px=box).passed
    nan = float("nan")
    for bad in (
        replace(RUNG, score_error=score * 1.01),
        replace(RUNG, box_error_px=box * 1.01),
        replace(RUNG, score_error=nan),
        replace(RUNG, box_error_px=nan),
    ):
        assert not bad.passed
        with pytest.raises(
            CheckFailedError, match=r"torch → fused: expected scores within 0\.0001 and boxes within 0\.02"
        ):
            bad.require()
