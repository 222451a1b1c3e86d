"""A first load in a child: what kills, hangs or fills an engine there is one sentence here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedet_runtime.choices import EngineName
from edgedet_runtime.engines.model_source import ModelContent
from edgedet_runtime.engines.trial_load import TrialInput, TrialLimits, try_in_child
from edgedet_runtime.errors import EngineDeathError, EngineError, ModelFileError
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx

T = TypeVar("T")

IMAGE = TrialInput("image", "uint8", (1, 64, 96, 3))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "opencv"])
def test_a_good_file(engine: EngineName, tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    try_in_child(engine, path, TINY_SPEC)
    try_in_child(engine, ModelContent(path, path.read_bytes()), TINY_SPEC)
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="limits on address space are Linux's")
def test_a_lower_limit_in_force_stays(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx", None)
    code = (
        "import resource, sys; from pathlib import Path;"
        "from edgedet_runtime.engines.trial_load import TrialInput, TrialLimits, try_in_child;"
        "_, hard = resource.getrlimit(resource.RLIMIT_AS);"
        "low = 1 << 36 if hard == resource.RLIM_INFINITY else min(hard, 1 << 36);"
        "resource.setrlimit(resource.RLIMIT_AS, (low, low));"
        "limits = TrialLimits(mebibytes=1 << 20);"
        "image = TrialInput('image', 'uint8', (1, 64, 96, 3));"
        "try_in_child('onnxruntime', Path(sys.argv[1]), image, limits=limits)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_good_model_without_a_spec(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx", None)
    try_in_child("onnxruntime", path, IMAGE)
    try_in_child("onnxruntime", path.read_bytes(), IMAGE)


def reaching_far(path: Path, megabytes: int) -> Path:
    """Write the tiny detector with a tensor of a size that only running it shows."""
    model = onnx.load(str(tiny_onnx(path)))
    model.graph.initializer.append(numpy_helper.from_array(np.array([megabytes << 18], np.int64), "size"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["size"], ["far"]))
    model.graph.output.append(helper.make_tensor_value_info("far", TensorProto.FLOAT, None))
    path.write_bytes(model.SerializeToString())
    return path


def test_too_much_memory(tmp_path: Path) -> None:
    path = reaching_far(tmp_path / "model.onnx", 7000)
    with pytest.raises(EngineDeathError, match=r"model\.onnx: expected a file .* took more than the \d+ MiB of memory"):
        try_in_child("onnxruntime", path, IMAGE, limits=TrialLimits(mebibytes=500))


def slow(path: Path) -> Path:
    """Write a model whose one product takes hours."""
    weights = [numpy_helper.from_array(np.array([12000, 12000], np.int64), "size")]
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["a"])]
    for i in range(40):
        nodes.append(helper.make_node("Add", ["a", "image"], [f"b{i}"]))
        nodes.append(helper.make_node("MatMul", [f"b{i}", "a"], [f"c{i}"]))
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1])]
    outputs = [helper.make_tensor_value_info("c39", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "slow", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_too_long(tmp_path: Path) -> None:
    path = slow(tmp_path / "model.onnx")
    with pytest.raises(EngineDeathError, match="in a trial process onnxruntime was not done after"):
        try_in_child("onnxruntime", path, TrialInput("image", "float32", (1, 1)), limits=TrialLimits(6, mebibytes=6000))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGFPE, signal.SIGKILL])
def test_a_signal(number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the child, since no file is known that ends every version of an engine."""
    monkeypatch.setattr(sys, "executable", str(dying(tmp_path, f"kill -{int(number)} $$")))
    with pytest.raises(EngineDeathError, match=f"openvino died of a signal \\({signal.strsignal(number)}\\)") as caught:
        try_in_child("openvino", tiny_onnx(tmp_path / "model.onnx"), TINY_SPEC)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("says", ["exit 3", "echo '[]'; exit 3", "echo '{}'; exit 3", "printf '\\377'; exit 3"])
def test_no_word(says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(dying(tmp_path, says)))
    with pytest.raises(EngineDeathError, match="ended with code 3 and no word"):
        try_in_child("openvino", tiny_onnx(tmp_path / "model.onnx"), TINY_SPEC)


def dying(folder: Path, how: str) -> Path:
    """Write a program that ends in a way of its own."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\ncat > /dev/null\n{how}\n")
    script.chmod(0o755)
    return script


def test_what_the_engine_and_the_check_say_comes_back(tmp_path: Path) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(EngineError, match=r"onnxruntime .* cannot load model in memory: .*NoSuchOperator") as caught:
        try_in_child("onnxruntime", model.SerializeToString(), IMAGE, what="model in memory")
    assert not isinstance(caught.value, EngineDeathError)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError, match="expected an ONNX file"):
        try_in_child("onnxruntime", path, TINY_SPEC)


PARENT = """
import sys
from pathlib import Path
from edgedet_runtime.engines.trial_load import TrialInput, TrialLimits, try_in_child
limits = TrialLimits(600, mebibytes=6000)
try:
    try_in_child("onnxruntime", Path(sys.argv[1]), TrialInput("image", "float32", (1, 1)), limits=limits)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the child, and Linux to end it with its parent")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_child_ends_with_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    path = slow(tmp_path / "model.onnx")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(path)], stdout=subprocess.PIPE, text=True)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    try:
        child = wait_for(lambda: children.read_text().split(), "a child")[0]
        wait_for(lambda: "onnxruntime" in Path(f"/proc/{child}/maps").read_text(), "the engine in it")
        os.kill(parent.pid, number)
        out, _ = parent.communicate(timeout=60)
        assert out == ("interrupted\n" if number == signal.SIGINT else "")
        wait_for(lambda: not Path(f"/proc/{child}/cmdline").exists() or is_dead(child), "its end")
    finally:
        parent.kill()
        parent.wait()


def is_dead(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(ask: Callable[[], T], what: str) -> T:
    for _ in range(1200):
        found = ask()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited for {what} in vain")
