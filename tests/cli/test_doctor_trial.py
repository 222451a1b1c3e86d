"""``edgedet doctor`` meets each file of an unsigned bundle in a child process first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_runtime.doctor import examination, examine
from edgedet_runtime.engines import trial_load
from edgedet_runtime.errors import EngineDeathError
from tests.cli.colors import refused, run, seal

ROOT = Path(__file__).resolve().parents[2]


def change_model(bundle: Path, change: Any) -> None:
    path = bundle / "model.onnx"
    model = onnx.load(str(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    seal(bundle)


def reach_far(model: onnx.ModelProto) -> None:
    """Add an output of a terabyte, which only running the model shows."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 38], np.int64), "size"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["far"]))
    model.graph.output.append(helper.make_tensor_value_info("far", TensorProto.FLOAT, None))


def test_a_file_that_takes_all_memory_is_one_line(bundle: Path) -> None:
    change_model(bundle, reach_far)
    refused(run("doctor", bundle), "in a trial process onnxruntime took more than the", "MiB of memory that it may")


@pytest.mark.parametrize("command", ["detect", "eval", "profile", "compare"])
def test_every_command_meets_an_unsigned_file_in_a_child(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.delenv("EDGEDET_TRIAL")
    data = bundle.parent / "scenes.json"
    if command in ("eval", "compare"):
        assert run("scenes", data, "--count", "2", "--processes", "1").exit_code == 0
    arguments: dict[str, tuple[object, ...]] = {
        "detect": (bundle / "model.onnx", ROOT / "models/edgedet_models/builtin/samples"),
        "eval": (bundle, "--data", data),
        "profile": (bundle, "--runs", "2", "--engine", "onnxruntime"),
        "compare": (bundle, "--data", data, "--runs", "2"),
    }
    change_model(bundle, reach_far)
    refused(run(command, *arguments[command]), "in a trial process onnxruntime took more than the")


def test_a_loop_is_one_line(bundle: Path) -> None:
    body = helper.make_graph([], "body", [], [])
    change_model(bundle, lambda m: m.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body)))
    refused(run("doctor", bundle), "expected none that repeats a graph, got Loop")


def die(*_: object, **__: object) -> None:
    raise EngineDeathError("model.onnx: in a trial process opencv died of a signal (Floating point exception)")


def test_an_engine_that_is_only_a_fallback_may_die(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_load, "try_in_child", lambda engine, *a: die() if engine == "opencv" else None)
    monkeypatch.setattr(examination, "_installed", lambda models: ["onnxruntime", "opencv"])
    text = (bundle / "manifest.json").read_text(encoding="utf-8")
    if '"opencv"' not in text:
        (bundle / "manifest.json").write_text(text.replace('"onnxruntime"', '"onnxruntime", "opencv"', 1))
    found = {f.check: f for f in examine(bundle).findings}
    assert found["golden model.onnx on onnxruntime"].status == "ok"
    assert found["golden model.onnx on opencv"].status == "warning"
    assert "Floating point exception" in found["golden model.onnx on opencv"].detail
    with pytest.raises(EngineDeathError, match="died of a signal"):
        examine(bundle, engine="opencv")


def test_a_bundle_that_is_signed_for_this_device_needs_no_trial(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    keys = bundle.parent / "keys"
    keys.mkdir()
    assert run("bundle", "keygen", keys / "device.pem").exit_code == 0
    assert run("bundle", "sign", bundle, "--key", keys / "device.pem").exit_code == 0
    monkeypatch.setenv("EDGEDET_PUBLIC_KEY", str(next(keys.glob("*.pub"))))
    monkeypatch.setenv("XDG_STATE_HOME", str(bundle.parent / "state"))
    monkeypatch.setattr(trial_load, "try_in_child", die)
    assert run("doctor", bundle).exit_code == 0
