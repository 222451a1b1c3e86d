"""What the doctor finds: machine, engines, contract, and the precision that an engine really computes in."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgedet_runtime import Detections
from edgedet_runtime.bundle.golden import GOLDEN, Golden
from edgedet_runtime.bundle.manifest import BundleFile
from edgedet_runtime.choices import EngineName
from edgedet_runtime.doctor import examination
from edgedet_runtime.doctor.examination import examine
from edgedet_runtime.doctor.findings import Finding
from edgedet_runtime.errors import EngineError, InputError, ModelFileError
from edgedet_runtime.profiling.layers import Layer
from edgedet_runtime.profiling.machine import describe_machine
from tests.runtime.tiny_models import CLASSES, TINY_SPEC, random_image, tiny_onnx

IMAGE = random_image(64, 96)
NONE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), CLASSES)
FP32 = BundleFile("model.onnx", "ab", 1, "fp32", ("onnxruntime", "opencv"))
INT8 = BundleFile("model.int8.onnx", "ab", 1, "int8", ("onnxruntime",))


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        (None, "ok", "4 of 6 CPUs available"),
        (4, "ok", "4 of 6 CPUs available"),
        (5, "warning", "5 asked for, 4 of 6 CPUs available: they will wait for each other"),
    ],
)
def test_the_machine(asked: int | None, status: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = replace(describe_machine(), cpu="Z80", architecture="z80", features=("a", "b"), cpus_online=6)
    monkeypatch.setattr(examination, "describe_machine", lambda: here)
    monkeypatch.setattr("edgedet_runtime.cpu.available_threads", lambda: 4)
    assert examination._machine(asked) == [Finding("cpu", "ok", "Z80 (z80): a, b"), Finding("threads", status, words)]
    monkeypatch.setattr(examination, "describe_machine", lambda: replace(here, features=()))
    assert examination._machine(asked)[0].detail == "Z80 (z80): no vector extensions that edgedet knows"


def test_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_version", {"onnxruntime": "1.2", "opencv": None, "openvino": "3.4"}.get)
    assert examination._installed([FP32, INT8]) == ["onnxruntime"]
    found = examination._engines([INT8, FP32], ["onnxruntime", "opencv", "openvino"])
    assert found == [
        Finding("engine", "ok", "onnxruntime 1.2"),
        Finding("engine", "failure", "opencv is not installed: pip install opencv-python-headless"),
        Finding("engine", "failure", "the bundle has no file for openvino: export it again"),
    ]
    openvino = replace(FP32, engines=("openvino",))
    assert examination._engines([openvino, FP32], ["onnxruntime"]) == [Finding("engine", "ok", "onnxruntime 1.2")]
    assert examination._engines([FP32], []) == [
        Finding("engine", "failure", "expected one of onnxruntime, opencv installed, got none")
    ]


def test_files_of_one_bundle_are_one_network() -> None:
    good = examination._contract({"a": TINY_SPEC, "b": TINY_SPEC.replace(input=TINY_SPEC.input)})
    assert good == Finding("spec", "ok", "version 1: custom tiny, 3 classes, 96x64 px, written by edgedet test")
    untold = examination._contract({"a": TINY_SPEC.replace(tool_version="")})
    assert untold.detail.endswith("96x64 px")
    for other in (TINY_SPEC.replace(variant="small"), TINY_SPEC.replace(classes=("a", "b", "c"))):
        odd = examination._contract({"a": TINY_SPEC, "b": other, "c": TINY_SPEC, "d": other})
        assert odd == Finding("spec", "failure", "b, d: another network than the bundle's other files")


class Opened:
    """Stands for a detector."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def preprocess(self, image: Any) -> tuple[Any, None]:
        return np.zeros(3), None


def conv(precision: str, macs: int) -> Layer:
    return Layer("c", "Conv", precision, 1.0, macs, 1)


@pytest.mark.parametrize(
    ("file", "layers", "status", "words"),
    [
        (INT8, [conv("int8", 50), conv("fp32", 50)], "ok", "50% of multiply-accumulates in INT8, the rest in fp32"),
        (INT8, [conv("int8", 49), conv("fp32", 51)], "warning", "49% of .*: this engine or CPU has no integer kernels"),
        (INT8, [conv("int8", 5), conv("bf16", 0)], "ok", "100% of multiply-accumulates in INT8$"),
        (INT8, [], "warning", "0% of .* no integer kernels"),
        (FP32, [conv("fp32", 5), conv("int8", 0)], "ok", "0% of multiply-accumulates in INT8, the rest in fp32$"),
        (FP32, [conv("bf16", 5), conv("fp32", 5)], "warning", "the rest in bf16, fp32: expected fp32$"),
        (FP32, [conv("int8", 5)], "warning", "100% of multiply-accumulates in INT8: expected fp32$"),
    ],
)
def test_what_an_engine_really_computes_in(
    file: BundleFile, layers: list[Layer], status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, int]] = []

    def profile(*_: Any, **how: int) -> list[Layer]:
        seen.append(how)
        return layers

    monkeypatch.setattr(examination, "Detector", Opened)
    monkeypatch.setattr(examination, "open_model", lambda path, **_: SimpleNamespace(source=path))
    monkeypatch.setattr(examination, "profile_layers", profile)
    found = examination._executed(Path("b"), file, "onnxruntime", Golden(IMAGE, {}), None)
    assert (found.check, found.status) == (f"precision of {file.path} on onnxruntime", status)
    assert re.search(words, found.detail), found.detail
    examination._executed(Path("b"), file, "onnxruntime", Golden(IMAGE, {}), 3)
    assert seen == [{"threads": 1, "runs": 2}, {"threads": 3, "runs": 2}]


def test_a_precision_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise EngineError("out of order")

    monkeypatch.setattr(examination, "Detector", Opened)
    monkeypatch.setattr(examination, "open_model", lambda path, **_: SimpleNamespace(source=path))
    monkeypatch.setattr(examination, "profile_layers", refuse)
    found = examination._executed(Path("b"), FP32, "onnxruntime", Golden(IMAGE, {}), None)
    assert (found.status, found.detail) == ("warning", "cannot be told: out of order")


@pytest.mark.parametrize(
    ("engine", "status", "fallback", "statuses"),
    [
        ("onnxruntime", "ok", False, ["ok", "looked into"]),
        ("onnxruntime", "warning", False, ["warning", "looked into"]),
        ("onnxruntime", "failure", False, ["failure"]),
        ("opencv", "ok", True, ["ok"]),
        ("opencv", "failure", True, ["warning"]),
        ("opencv", "failure", False, ["failure"]),
    ],
)
def test_golden_vectors_then_a_look_inside(
    engine: EngineName, status: Any, fallback: bool, statuses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "check_golden", lambda *_, **__: Finding("golden", status, "seen"))
    monkeypatch.setattr(examination, "_executed", lambda *_: Finding("inside", cast(Any, "looked into"), ""))
    golden = Golden(IMAGE, {"model.onnx": (0.2, NONE)})
    found = list(examination._run(Path("b"), FP32, engine, golden, None, fallback=fallback))
    assert [f.status for f in found] == statuses
    assert found[0].detail == ("seen; another engine is installed" if statuses == ["warning"] else "seen")
    missing = list(examination._run(Path("b"), INT8, engine, golden, None, fallback=fallback))
    assert missing == [
        Finding("golden model.int8.onnx", "failure", "the bundle holds no golden vectors for it: export it again")
    ]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tiny_onnx(tmp_path / "model.onnx")
    arrays: dict[str, Any] = {
        "boxes_xyxy": np.zeros((0, 4)),
        "scores": np.zeros(0),
        "class_ids": np.zeros(0),
        "conf": 1.0,
    }
    np.savez(tmp_path / GOLDEN, image_bgr=IMAGE, **{f"model.onnx|{name}": array for name, array in arrays.items()})
    files: list[dict[str, Any]] = [
        {"path": "model.onnx", "precision": "fp32", "engines": ["onnxruntime", "opencv"]},
        {"path": GOLDEN},
    ]
    for entry in files:
        data = (tmp_path / entry["path"]).read_bytes()
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    return tmp_path


def statuses(bundle: Path, **how: Any) -> dict[str, str]:
    return {finding.check: finding.status for finding in examine(bundle, threads=1, **how).findings}


def test_opencv_may_fail_where_another_engine_does_not(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: Path, file: str, engine: str, *__: Any, **___: Any) -> Finding:
        return Finding(f"golden {file} on {engine}", "failure", "wrong")

    monkeypatch.setattr(examination, "check_golden", check)
    usual = statuses(bundle)
    assert usual["golden model.onnx on opencv"] == "warning"
    assert usual["golden model.onnx on onnxruntime"] == "failure"
    named = statuses(bundle, engine="opencv")
    assert named["golden model.onnx on opencv"] == "failure"
    assert "golden model.onnx on onnxruntime" not in named


def test_an_unknown_engine_is_refused_before_anything_is_read(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    assert statuses(bundle)["files"] == "failure"
    with pytest.raises(InputError, match=r"engine: expected one of .*, got 'tensorrt'"):
        examine(bundle, engine=cast(EngineName, "tensorrt"))


def test_what_is_no_bundle(bundle: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a bundle, got a file"):
        examine(bundle / "model.onnx")
    with pytest.raises(InputError, match="expected the folder of a bundle, got nothing"):
        examine(bundle / "gone")
    (bundle / "manifest.json").write_text('{"files": []}')
    with pytest.raises(ModelFileError, match="expected model files in its manifest, got none"):
        examine(bundle)
