"""A model file for which no key vouches is loaded in a child once for each content and engine."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import Detector
from edgedet_runtime.choices import TRIAL_VARIABLE, EngineName
from edgedet_runtime.engines import ENGINES, Backend, first_load, load_engine, trial_load
from edgedet_runtime.engines.first_load import require_survived
from edgedet_runtime.errors import ArgumentError, EngineDeathError, ModelFileError
from edgedet_runtime.state_folder import STATE_VARIABLE
from tests.runtime.model_check.test_as_listed import flip_a_byte, tiny_ir
from tests.runtime.test_trial_load import reaching_far
from tests.runtime.tiny_models import TINY_SPEC, tiny_onnx


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Turn trials on, as they are outside of tests; return the folder of what is remembered."""
    monkeypatch.delenv(TRIAL_VARIABLE)
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr(first_load, "_survived_here", set())
    return tmp_path / "state"


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the engines of the trials that have run; the children are real."""
    seen: list[str] = []
    real = trial_load.try_in_child

    def counted(engine: EngineName, *arguments: Any) -> None:
        seen.append(engine)
        real(engine, *arguments)

    monkeypatch.setattr(trial_load, "try_in_child", counted)
    return seen


@pytest.fixture
def restart(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that forgets what this process has tried, as a new process has."""
    return lambda: monkeypatch.setattr(first_load, "_survived_here", set())


def opens(path: Path, engine: EngineName = "onnxruntime", **options: Any) -> None:
    Detector(path, engine=engine, threads=1, **options).close()


def test_a_second_start_needs_no_trial(
    tmp_path: Path, state: Path, trials: list[str], restart: Callable[[], None]
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    for _ in range(3):
        opens(path)
        restart()
    assert trials == ["onnxruntime"]
    (kept,) = (state / "survived").iterdir()
    assert kept.read_text() == f"onnxruntime {ENGINES['onnxruntime'].version()}\n"
    copy = tmp_path / "elsewhere.onnx"
    copy.write_bytes(path.read_bytes())
    opens(copy)  # it is the content that counts
    assert trials == ["onnxruntime"]


def test_what_decides_is_tried_again(
    tmp_path: Path, state: Path, trials: list[str], restart: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    opens(path)
    opens(path, "opencv")
    assert trials == ["onnxruntime", "opencv"]
    tiny_onnx(path, seed=1)
    opens(path)
    assert len(trials) == 3
    backend = ENGINES["onnxruntime"]
    monkeypatch.setitem(ENGINES, "onnxruntime", Backend(lambda: "99.0", backend.load))
    opens(path)
    assert len(trials) == 4
    opens(path)
    assert len(trials) == 4


def test_the_weights_of_an_ir_decide_too(tmp_path: Path, state: Path, trials: list[str]) -> None:
    xml = tiny_ir(tmp_path)
    opens(xml, "openvino")
    opens(xml, "openvino")
    assert trials == ["openvino"]
    flip_a_byte(tmp_path / "model.bin")
    opens(xml, "openvino")
    assert trials == ["openvino"] * 2


def test_the_wish(tmp_path: Path, state: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    opens(path, trial="never")
    monkeypatch.setenv(TRIAL_VARIABLE, "never")
    opens(path)
    assert trials == []
    opens(path, trial="auto")
    opens(path, trial="always")
    monkeypatch.setenv(TRIAL_VARIABLE, "always")
    opens(path)
    assert len(trials) == 3
    with pytest.raises(ArgumentError, match=r"`trial`|trial: expected one of auto, always, never, got 'no'"):
        opens(path, trial="no")
    monkeypatch.setenv(TRIAL_VARIABLE, "no")
    with pytest.raises(ArgumentError, match=f"{TRIAL_VARIABLE}.*expected one of auto, always, never, got 'no'"):
        opens(path)


def test_content_in_memory_is_not_tried(tmp_path: Path, state: Path, trials: list[str]) -> None:
    content = tiny_onnx(tmp_path / "model.onnx").read_bytes()
    load_engine("onnxruntime", content, TINY_SPEC, threads=1, trial="auto").close()
    assert trials == []


def test_a_file_that_kills_is_an_error_each_time(tmp_path: Path, state: Path, trials: list[str]) -> None:
    path = reaching_far(tmp_path / "model.onnx", 1 << 20)
    for _ in range(2):
        with pytest.raises(EngineDeathError, match=r"in a trial process onnxruntime took more than the \d+ MiB"):
            opens(path)
    assert len(trials) == 2
    assert not state.exists()


def test_what_the_engine_refuses_is_said_here(
    tmp_path: Path, state: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    spec = TINY_SPEC.replace(classes=("one",))
    with pytest.raises(ModelFileError, match="expected shape"):
        load_engine("onnxruntime", path, spec, threads=1, trial="auto")
    assert trials == ["onnxruntime"]
    assert not state.exists()


def test_a_device_that_keeps_nothing_tries_once_a_process(
    tmp_path: Path,
    state: Path,
    trials: list[str],
    restart: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    state.write_text("a file")
    with caplog.at_level(logging.WARNING):
        opens(path)
        opens(path)
    assert trials == ["onnxruntime"]
    assert [r.getMessage().count("cannot be remembered") for r in caplog.records] == [1]
    assert all(word in caplog.text for word in (STATE_VARIABLE, f"{TRIAL_VARIABLE}=never"))
    caplog.clear()
    restart()
    monkeypatch.setenv(STATE_VARIABLE, "none")
    with caplog.at_level(logging.WARNING):
        opens(path)
        opens(path)
    assert len(trials) == 2
    assert not caplog.records
    assert not Path("none").exists()


def test_the_memory_stays_small(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_load, "_MOST_KEPT", 8)
    monkeypatch.setattr(trial_load, "try_in_child", lambda *a: None)
    path = tiny_onnx(tmp_path / "model.onnx")
    from edgedet_runtime.model_check import check_model

    for number in range(20):
        require_survived("onnxruntime", str(number), path, TINY_SPEC, check_model(path))
        assert len(list((state / "survived").iterdir())) <= 8


def test_where_no_child_can_be_started(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    with monkeypatch.context() as frozen:
        frozen.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(EngineDeathError, match=f"no Python of its own.*{TRIAL_VARIABLE}=never"):
            opens(path)

    def fails(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", fails)
    with pytest.raises(EngineDeathError, match="none can be started \\(Resource temporarily unavailable\\)"):
        opens(path)
    opens(path, trial="never")


def test_a_signed_bundle_needs_no_trial(
    bundle: Path, state: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    from edgedet_runtime.bundle.keys import KEY_VARIABLE, make_keys
    from edgedet_runtime.bundle.signature import sign_bundle

    opens(bundle)
    assert trials == ["onnxruntime"]
    key = bundle.parent / "owner.pem"
    make_keys(key)
    sign_bundle(bundle, key)
    monkeypatch.setenv(KEY_VARIABLE, str(key.with_suffix(".pub")))
    opens(bundle, trial="always")
    assert trials == ["onnxruntime"]
