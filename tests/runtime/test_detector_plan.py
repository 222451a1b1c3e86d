"""`Detector(plan=…)`: who decides on engine, precision and threads, and what happens where the plan cannot be met."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import Detector
from edgedet_runtime.bundle.plan import PLAN_FILE, Plan, save_plan
from edgedet_runtime.cpu import this_processor
from edgedet_runtime.errors import InputError, MissingDependencyError, ModelFileError
from tests.runtime.tiny_models import tiny_onnx

pytest.importorskip("openvino")

STORED = Plan("openvino", "fp32", 1)
INT8 = Plan("onnxruntime", "int8", 1)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a bundle with FP32 for both engines, INT8 for onnxruntime alone, and a plan; two threads may be used."""
    monkeypatch.setenv("EDGEDET_THREADS", "2")
    monkeypatch.delenv("EDGEDET_ENGINE", raising=False)
    folder = tmp_path / "bundle"
    folder.mkdir()
    files = []
    for name, precision, engines in (
        ("model.onnx", "fp32", ["onnxruntime", "openvino"]),
        ("model.int8.onnx", "int8", ["onnxruntime"]),
    ):
        content = tiny_onnx(folder / name, quantised=precision == "int8").read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        files.append(
            {"path": name, "sha256": digest, "bytes": len(content), "precision": precision, "engines": engines}
        )
    (folder / "manifest.json").write_text(json.dumps({"files": files, "recommended": {"onnxruntime": "fp32"}}))
    save_plan(STORED, folder)
    return folder


DEFAULT = Plan("onnxruntime", "fp32", 2)


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ({}, DEFAULT),
        ({"plan": None}, DEFAULT),
        ({"plan": "auto"}, STORED),
        ({"plan": "auto", "threads": 2}, Plan("openvino", "fp32", 2)),
        ({"plan": "auto", "engine": "onnxruntime"}, Plan("onnxruntime", "fp32", 1)),
        ({"plan": "auto", "engine": "onnxruntime", "precision": "int8"}, INT8),
        ({"plan": INT8}, INT8),
        ({"plan": INT8, "precision": "fp32"}, Plan("onnxruntime", "fp32", 1)),
        ({"plan": INT8, "engine": "openvino"}, STORED),
        ({"plan": Plan("onnxruntime", "int8", 3)}, Plan("onnxruntime", "int8", 3)),
    ],
    ids=lambda value: " ".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else None,
)
def test_what_is_given_wins_over_the_plan(bundle: Path, arguments: dict[str, Any], runs: Plan) -> None:
    with Detector(bundle, **arguments) as detector:
        assert detector.plan == runs


def test_stored_plan_takes_no_more_threads_than_allowed(bundle: Path) -> None:
    save_plan(Plan("onnxruntime", "int8", 16), bundle)
    with Detector(bundle, plan="auto") as detector:
        assert detector.plan == Plan("onnxruntime", "int8", 2)


def test_plan_of_another_processor_is_not_followed(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = this_processor()
    save_plan(STORED, bundle, measured_on=replace(here, cpu="its other name"))
    with Detector(bundle, plan="auto") as detector:
        assert detector.plan == STORED
    assert not caplog.records
    save_plan(STORED, bundle, measured_on=replace(here, cpu="Z80", features=("neon",)))
    with Detector(bundle, plan="auto", threads=1) as detector:
        assert detector.plan == Plan("onnxruntime", "fp32", 1)
    (record,) = caplog.records
    for words in (str(bundle / PLAN_FILE), f"{STORED} was measured on Z80", here.cpu, "profile --save-plan"):
        assert words in record.getMessage()


def test_without_a_stored_plan_the_defaults_hold(bundle: Path) -> None:
    with Detector(bundle / "model.int8.onnx", plan="auto") as detector:
        assert detector.plan == Plan("onnxruntime", "int8", 2)
    (bundle / PLAN_FILE).unlink()
    with Detector(bundle, plan="auto") as detector:
        assert detector.plan == DEFAULT


def test_engine_of_the_plan_is_not_installed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"plan\.json: the engine openvino needs openvino.*pip install"):
        Detector(bundle, plan="auto")
    with Detector(bundle, plan="auto", engine="onnxruntime") as detector:
        assert detector.engine_name == "onnxruntime"


@pytest.mark.parametrize("plan", [Plan("openvino", "int8", 1), Plan("opencv", "int8", 1)])
def test_plan_that_the_bundle_cannot_meet(bundle: Path, plan: Plan) -> None:
    path = save_plan(plan, bundle)
    with pytest.raises(InputError, match=r"its plan cannot be met.*--save-plan") as raised:
        Detector(bundle, plan="auto")
    assert str(path) in str(raised.value)
    with pytest.raises(InputError) as raised:
        Detector(bundle, plan=plan)
    assert "plan.json" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"engine": "openvino"}',
        '{"engine": "a", "precision": "b", "threads": 0}',
        '{"engine": "a", "precision": "b", "threads": 1, "measured_on": "Z80"}',
        '{"engine": "a", "precision": "b", "threads": 1, "measured_on": {"cpu": "Z80"}}',
    ],
)
def test_damaged_plan(bundle: Path, text: str) -> None:
    (bundle / PLAN_FILE).write_text(text)
    with pytest.raises(ModelFileError, match=r"plan\.json: "):
        Detector(bundle, plan="auto")
    Detector(bundle).close()


def test_plan_is_auto_or_a_plan(bundle: Path) -> None:
    with pytest.raises(InputError, match="plan: expected auto, a Plan or None, got 'fastest'"):
        Detector(bundle, plan="fastest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threads: expected a number from 1 to 1024, got 0"):
        Detector(bundle, plan="auto", threads=0)
