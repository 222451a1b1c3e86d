"""Two slots: a switch only to what is fit, back where it is not confirmed, bootable after every fault."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedet_runtime import CheckFailedError, Detector, InputError, ModelFileError
from edgedet_runtime.bundle import slots as slots_module
from edgedet_runtime.bundle.manifest import verify_bundle
from edgedet_runtime.bundle.slot_state import STATE_FILE, SlotState, current_bundle, read_state
from edgedet_runtime.bundle.slots import confirm, install, rollback, start
from tests.cli.colors import refused, run, run_json, seal, solid
from tests.fault_injection import How, in_child


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process that has started nothing."""
    monkeypatch.setattr(slots_module, "_STARTED", set())


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let doctor find everything fit, where the doctor is not what is tested."""
    from edgedet_runtime.doctor.findings import Report

    monkeypatch.setattr("edgedet_runtime.doctor.examine", lambda bundle, **options: Report(str(bundle), ()))


@pytest.fixture
def device_dir(tmp_path: Path) -> Path:
    return tmp_path / "device"


def mark(bundle: Path, name: str) -> Path:
    """Make a bundle that is told apart by its manifest's note."""
    seal(bundle)
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"notes": [name]}))
    return bundle


def running(folder: Path) -> str:
    """Start a program anew; return the mark of the bundle that it gets, which must be whole."""
    slots_module._STARTED.clear()
    started = start(folder)
    assert started is not None
    assert verify_bundle(started.bundle) == []
    assert started.installed.is_in(folder)
    return str(json.loads((started.bundle / "manifest.json").read_text())["notes"][0])


def test_an_update_that_is_confirmed_stays(bundle: Path, device_dir: Path) -> None:
    install(device_dir, mark(bundle, "one"))
    with Detector(device_dir, threads=1) as detector:
        assert len(detector(solid((20, 128, 255)))) > 0
        detector.confirm()
        detector.confirm()
    install(device_dir, mark(bundle, "two"))
    with Detector(device_dir, threads=1) as detector:
        detector.confirm()
    assert [running(device_dir) for _ in range(5)] == ["two"] * 5
    state = read_state(device_dir)
    assert state.current is not None
    assert state.previous is not None
    assert (state.current.slot, state.previous.slot, state.taken_back) == ("b", "a", None)


def test_an_update_that_is_not_confirmed_goes_back(
    bundle: Path, device_dir: Path, fit: None, caplog: pytest.LogCaptureFixture
) -> None:
    install(device_dir, mark(bundle, "one"))
    confirm(device_dir)
    install(device_dir, mark(bundle, "two"))
    assert [running(device_dir) for _ in range(3)] == ["two"] * 3
    with caplog.at_level(logging.WARNING):
        assert running(device_dir) == "one"
    assert "not confirmed in 3 starts" in caplog.text
    assert running(device_dir) == "one"
    taken_back = read_state(device_dir).taken_back
    assert taken_back is not None
    assert taken_back.why == "not confirmed in 3 starts"
    install(device_dir, mark(bundle, "three"), tries=1)
    assert [running(device_dir) for _ in range(2)] == ["three", "one"]


def test_an_update_goes_into_the_slot_that_is_not_in_force(bundle: Path, device_dir: Path, fit: None) -> None:
    for name, slot, before in (("one", "a", None), ("two", "b", "a"), ("three", "a", "b"), ("four", "b", "a")):
        assert install(device_dir, mark(bundle, name)).slot == slot
        assert running(device_dir) == name
        confirm(device_dir)
        previous = read_state(device_dir).previous
        assert (None if previous is None else previous.slot) == before
        assert previous is None or previous.is_in(device_dir)


def test_the_first_bundle_has_nothing_to_go_back_to(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"), tries=2)
    assert [running(device_dir) for _ in range(5)] == ["one"] * 5


def test_a_process_counts_one_start_whatever_it_makes(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"))
    confirm(device_dir)
    install(device_dir, mark(bundle, "two"))
    detectors = [Detector(device_dir, threads=1) for _ in range(3)]
    again = pickle.loads(pickle.dumps(detectors[0]))
    assert again.model_file.path == (device_dir / "b/model.onnx").resolve()
    run("doctor", device_dir, "--engine", "onnxruntime")
    run("inspect", device_dir)
    current = read_state(device_dir).current
    assert current is not None
    assert current.starts == 1
    code = f"from edgedet_runtime import Detector; Detector({str(device_dir)!r}, threads=1)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)})
    current = read_state(device_dir).current
    assert current is not None
    assert current.starts == 2


def test_threads_that_start_at_once_are_one_start(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"))
    gate = threading.Barrier(8)

    def begin() -> None:
        gate.wait(10)
        start(device_dir)

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    current = read_state(device_dir).current
    assert current is not None
    assert current.starts == 1


def test_confirming_what_is_not_current_any_more_is_refused(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"))
    with Detector(device_dir, threads=1) as detector:
        install(device_dir, mark(bundle, "two"))
        with pytest.raises(CheckFailedError, match="start the program again"):
            detector.confirm()
    current = read_state(device_dir).current
    assert current is not None
    assert not current.confirmed


def test_confirming_where_there_are_no_slots_does_nothing(bundle: Path) -> None:
    with Detector(bundle, threads=1) as detector:
        detector.confirm()
    assert not (bundle.parent / STATE_FILE).exists()


def test_what_is_unfit_is_not_installed(bundle: Path, device_dir: Path) -> None:
    install(device_dir, mark(bundle, "one"))
    confirm(device_dir)
    before = read_state(device_dir)
    (bundle / "golden.npz").write_bytes(b"nothing")
    mark(bundle, "bad")
    with pytest.raises((CheckFailedError, ModelFileError)):
        install(device_dir, bundle)
    (bundle / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(CheckFailedError, match=r"not what was exported: model\.onnx"):
        install(device_dir, bundle)
    assert read_state(device_dir) == before
    assert sorted(p.name for p in device_dir.iterdir()) == ["a", STATE_FILE]
    assert running(device_dir) == "one"


def test_what_detects_something_else_here_is_not_installed(bundle: Path, device_dir: Path) -> None:
    """Golden vectors of another picture stand for an engine or CPU that computes something else."""
    import numpy as np

    with np.load(bundle / "golden.npz") as arrays:
        changed = {name: arrays[name] for name in arrays.files}
    changed["model.onnx|boxes_xyxy"] = changed["model.onnx|boxes_xyxy"] + np.float32(9)
    np.savez_compressed(bundle / "golden.npz", **changed)
    with pytest.raises(CheckFailedError, match="not installed, unfit: golden"):
        install(device_dir, mark(bundle, "off"))
    with pytest.raises(InputError, match="empty slots"):
        Detector(device_dir)
    for command in ("doctor", "inspect", "profile"):
        refused(run(command, device_dir), "empty slots", f"bundle install {device_dir}")


def test_rollback_goes_there_and_back(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"))
    with pytest.raises(CheckFailedError, match="to go back to, got none"):
        rollback(device_dir)
    confirm(device_dir)
    install(device_dir, mark(bundle, "two"))
    confirm(device_dir)
    for expected in ("one", "two", "one"):
        rollback(device_dir)
        assert running(device_dir) == expected
    install(device_dir, mark(bundle, "three"))
    rollback(device_dir)
    assert [running(device_dir) for _ in range(4)] == ["one"] * 4
    with pytest.raises(CheckFailedError, match="to go back to, got none"):
        rollback(device_dir)


def test_an_update_over_one_that_waits_keeps_the_confirmed_one(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"))
    confirm(device_dir)
    for name in ("two", "three", "four"):
        install(device_dir, mark(bundle, name))
    assert [running(device_dir) for _ in range(4)] == ["four"] * 3 + ["one"]


def test_a_slot_that_holds_something_else_is_nothing_to_go_back_to(bundle: Path, device_dir: Path, fit: None) -> None:
    install(device_dir, mark(bundle, "one"))
    confirm(device_dir)
    install(device_dir, mark(bundle, "two"))
    (device_dir / "a/manifest.json").write_text("{}")
    with pytest.raises(CheckFailedError, match="got none"):
        rollback(device_dir)
    assert [running(device_dir) for _ in range(5)] == ["two"] * 5


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where the system has one, since thousands of fsyncs take minutes on a disk."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if os.access(shm, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


STEPS = ("open", "mkdir", "ftruncate", "fsync", "replace", "rename", "unlink", "rmdir", "chmod", "fchmod")
"""Calls at which a power cut or a full disk can come; the exchange of two folders is counted too."""


@pytest.mark.parametrize("how", ["kill before", "kill after", "fail"])
@pytest.mark.parametrize("what", ["install", "install over one that waits", "confirm", "rollback", "start"])
def test_whatever_stops_it_the_device_boots(bundle: Path, memory: Path, fit: None, what: str, how: How) -> None:
    """After every fault a whole bundle starts, of those that may be in force, and the next update works."""
    stops = 0
    allowed = {
        "install": {"one", "two"},
        "install over one that waits": {"zero", "one", "two"},
        "confirm": {"one"},
        "rollback": {"zero", "one"},
        "start": {"one"},
    }[what]
    for n in range(400):
        device_dir = memory / str(n)
        install(device_dir, mark(bundle, "zero"))
        confirm(device_dir)
        install(device_dir, mark(bundle, "one"))
        if what in ("install", "rollback"):
            confirm(device_dir)
        mark(bundle, "two")
        act = {
            "confirm": lambda d=device_dir: confirm(d),
            "rollback": lambda d=device_dir: rollback(d),
            "start": lambda d=device_dir: start(d),
        }.get(what, lambda d=device_dir: install(d, bundle))
        code = in_child(act, n, how, STEPS)
        stops += code != 0
        assert code in (0, 3, 5, 9), code
        assert running(device_dir) in allowed
        install(device_dir, mark(bundle, "three"))
        assert running(device_dir) == "three"
        confirm(device_dir)
        assert [running(device_dir) for _ in range(4)] == ["three"] * 4
        assert {p.name for p in device_dir.iterdir()} <= {"a", "b", STATE_FILE}
        if code == 0:
            break
    assert stops >= {"install": 20, "install over one that waits": 24}.get(what, 6 if what != "start" else 5)


def test_starts_that_cannot_be_counted(
    bundle: Path, device_dir: Path, fit: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a full disk what was confirmed runs, and the first bundle runs even so."""

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    install(device_dir, mark(bundle, "one"))
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(slots_module, "write_state", full)
        assert running(device_dir) == "one"
    assert "since there is none before it" in caplog.text
    confirm(device_dir)
    install(device_dir, mark(bundle, "two"))
    with monkeypatch.context() as patched:
        patched.setattr(slots_module, "write_state", full)
        assert running(device_dir) == "one"
        with pytest.raises(InputError, match="No space left"):
            confirm(device_dir)
        with pytest.raises(InputError, match="No space left"):
            rollback(device_dir)
    assert running(device_dir) == "two"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"edgedet_slots": 2}', '{"edgedet_slots": 1, "current": {"slot": "c"}}', "[" * 10**5],
    ids=range(6),
)
def test_a_damaged_state_is_said(device_dir: Path, content: str) -> None:
    device_dir.mkdir()
    (device_dir / STATE_FILE).write_text(content)
    for act in (lambda: Detector(device_dir), lambda: confirm(device_dir), lambda: rollback(device_dir)):
        with pytest.raises(ModelFileError, match=STATE_FILE):
            act()


def test_other_folders_are_left_alone(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").touch()
    for place in (tmp_path / "photos", tmp_path / "photos/me.jpg", bundle):
        refused(run("bundle", "install", place, bundle), "free place")
    for command in ("confirm", "rollback", "status"):
        refused(run("bundle", command, tmp_path / "photos"), "bundle install")
    refused(run("bundle", "install", tmp_path / "new", tmp_path / "photos"), "manifest.json")
    refused(run("bundle", "install", tmp_path / "new", bundle, "--tries", "0"), "--tries")
    assert current_bundle(tmp_path / "photos") == tmp_path / "photos"


def test_command_line(bundle: Path, device_dir: Path, fit: None) -> None:
    mark(bundle, "one")
    assert "has to be confirmed" in run("bundle", "install", device_dir, bundle, "--tries", "2").stdout
    start(device_dir)
    assert "not confirmed in 1 of 2 starts" in run("bundle", "status", device_dir).stdout
    assert run("bundle", "confirm", device_dir).exit_code == 0
    mark(bundle, "two")
    assert run("bundle", "install", device_dir, bundle).exit_code == 0
    assert run("bundle", "rollback", device_dir).exit_code == 0
    said = run("bundle", "status", device_dir).stdout
    assert "current: slot a" in said
    assert "rolled back" in said
    document = run_json("bundle", "status", device_dir)
    assert document["current"]["confirmed"] is True
    assert run_json("inspect", device_dir)["kind"] == "bundle"


def test_states_follow_each_other() -> None:
    with pytest.raises(InputError, match="empty slots"):
        SlotState().with_confirmation()
