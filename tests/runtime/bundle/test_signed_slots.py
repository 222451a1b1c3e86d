"""Slots on a device with a public key: no way back behind what was confirmed, and one model only."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgedet_runtime import CheckFailedError, Detector, InputError
from edgedet_runtime.bundle import slots as slots_module
from edgedet_runtime.bundle.keys import KEY_VARIABLE
from edgedet_runtime.bundle.plain_files import copy_plain_file
from edgedet_runtime.bundle.signature import sign_bundle
from edgedet_runtime.bundle.slot_state import raise_highest, read_state
from edgedet_runtime.bundle.slots import confirm, install, rollback
from edgedet_runtime.one_writer import locked_folder
from tests.cli.colors import refused, run

pytest.importorskip("cryptography")


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a process that has started nothing."""
    monkeypatch.setattr(slots_module, "_STARTED", set())


@pytest.fixture
def device_dir(device: Path, tmp_path: Path) -> Path:
    return tmp_path / "device"


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let doctor find everything fit, where the doctor is not what is tested."""
    from edgedet_runtime.doctor.findings import Report

    monkeypatch.setattr("edgedet_runtime.doctor.examine", lambda bundle, **options: Report(str(bundle), ()))


def versions(folder: Path) -> tuple[int | None, int | None, int]:
    """Return the version that is current, the one before it, and the highest confirmed one."""
    state = read_state(folder)
    current, previous = (None if s is None else s.version for s in (state.current, state.previous))
    return current, previous, state.highest


def start(folder: Path) -> None:
    """Open the model as a program does that was just started."""
    slots_module._STARTED.clear()
    Detector(folder, threads=1).close()


def test_a_whole_life(bundle: Path, key: Path, device_dir: Path, device: Path) -> None:
    """With doctor and all: install, confirm, an update that never confirms, one that does."""
    sign_bundle(bundle, key, version=5, model="gate")
    install(device_dir, bundle)
    assert versions(device_dir) == (5, None, 0)
    with Detector(device_dir, threads=1) as detector:
        detector.confirm()
    assert versions(device_dir) == (5, None, 5)
    sign_bundle(bundle, key, version=6, model="gate")
    install(device_dir, bundle)
    for _ in range(3):
        start(device_dir)
        assert versions(device_dir) == (6, 5, 5)
    start(device_dir)
    assert versions(device_dir) == (5, None, 5)
    sign_bundle(bundle, key, version=7, model="gate")
    install(device_dir, bundle)
    start(device_dir)
    assert "confirmed" in run("bundle", "confirm", device_dir).stdout
    assert versions(device_dir) == (7, 5, 7)
    refused(run("bundle", "rollback", device_dir), "version 7 or a newer one", "--version 8", code=1)
    with pytest.raises(CheckFailedError, match="expected version 7"):
        Detector(device_dir / "a")
    start(device_dir)
    assert not device.exists()  # slots remember for themselves


def test_what_may_not_be_installed(bundle: Path, key: Path, device_dir: Path, fit: None) -> None:
    with pytest.raises(CheckFailedError, match="unsigned"):
        install(device_dir, bundle)
    sign_bundle(bundle, key, version=5, model="gate")
    install(device_dir, bundle)
    confirm(device_dir)
    before = read_state(device_dir)
    sign_bundle(bundle, key, version=4, model="gate")
    with pytest.raises(CheckFailedError, match=r"expected version 5 or a newer one.*got version 4"):
        install(device_dir, bundle)
    for model, said in (("yard", "one for yard"), (None, "names no model")):
        sign_bundle(bundle, key, version=9, model=model)
        with pytest.raises(CheckFailedError, match=f"expected a bundle for gate.*{said}"):
            install(device_dir, bundle)
    sign_bundle(bundle, key, version=9, model="gate", architectures=["riscv64"])
    with pytest.raises(CheckFailedError, match="riscv64"):
        install(device_dir, bundle)
    (bundle / "extra").symlink_to("/etc")
    with pytest.raises(CheckFailedError, match="symbolic link"):
        sign_bundle(bundle, key, version=9, model="gate")
    (bundle / "extra").unlink()
    sign_bundle(bundle, key, version=9, model="gate")
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CheckFailedError, match=r"not what was exported.*model\.onnx: expected at most"):
        install(device_dir, bundle)
    assert read_state(device_dir) == before
    assert sorted(p.name for p in device_dir.iterdir()) == ["a", "current.json"]


def test_a_bundle_that_is_changed_while_it_is_copied(
    bundle: Path, key: Path, device_dir: Path, fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was checked before the copy may not be what was copied."""
    old = bundle.parent / "old"
    shutil.copytree(bundle, old)
    sign_bundle(old, key, version=1)
    sign_bundle(bundle, key, version=5)
    install(device_dir, bundle)
    confirm(device_dir)

    def copy_other(folder: Path, name: str, target: Path, *, limit: int) -> None:
        copy_plain_file(old, name, target, limit=limit)

    monkeypatch.setattr(slots_module, "copy_plain_file", copy_other)
    with pytest.raises(CheckFailedError, match=r"expected version 5 or a newer one.*got version 1"):
        install(device_dir, bundle)
    assert versions(device_dir) == (5, None, 5)


def test_the_highest_version_is_remembered_after_another_process_is_done(
    bundle: Path, key: Path, device_dir: Path, fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(bundle, key, version=6)
    with monkeypatch.context() as without_a_key:
        without_a_key.delenv(KEY_VARIABLE)
        install(device_dir, bundle)
        confirm(device_dir)
    begun = threading.Event()

    def hold() -> None:
        with locked_folder(device_dir):
            begun.set()
            time.sleep(0.2)

    holder = threading.Thread(target=hold)
    holder.start()
    begun.wait()
    raise_highest(device_dir, "a", 6)
    holder.join()
    assert read_state(device_dir).highest == 6


def test_what_is_beside_the_listed_files_is_not_copied(bundle: Path, key: Path, device_dir: Path, fit: None) -> None:
    sign_bundle(bundle, key, version=1)
    (bundle / "extra").symlink_to("/etc")
    install(device_dir, bundle)
    names = sorted(p.name for p in (device_dir / "a").iterdir())
    assert names == ["golden.npz", "manifest.json", "manifest.sig", "model.onnx"]


def test_a_link_in_place_of_a_file_is_not_copied(bundle: Path, key: Path, device_dir: Path, fit: None) -> None:
    sign_bundle(bundle, key, version=1)
    (bundle / "model.onnx").rename(bundle.parent / "model.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "model.onnx")
    refused(run("bundle", "install", device_dir, bundle), "symbolic link", code=1)


def test_going_back_before_it_is_confirmed_is_free(bundle: Path, key: Path, device_dir: Path, fit: None) -> None:
    for version in (1, 2):
        sign_bundle(bundle, key, version=version)
        install(device_dir, bundle)
        if version == 1:
            confirm(device_dir)
    assert rollback(device_dir).version == 1
    start(device_dir)
    assert versions(device_dir) == (1, None, 1)


def test_a_key_that_comes_later(
    bundle: Path, key: Path, device_dir: Path, fit: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was installed without a key is checked when there is one, and its version counts from then on."""
    sign_bundle(bundle, key, version=6)
    trusted = str(key.with_suffix(".pub"))
    monkeypatch.delenv(KEY_VARIABLE)
    install(device_dir, bundle)
    confirm(device_dir)
    assert versions(device_dir) == (None, None, 0)
    monkeypatch.setenv(KEY_VARIABLE, trusted)
    start(device_dir)
    assert versions(device_dir) == (None, None, 6)
    sign_bundle(bundle, key, version=5)
    with pytest.raises(CheckFailedError, match="version 6"):
        install(device_dir, bundle)


def test_an_empty_key_installs_nothing(bundle: Path, device_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "")
    with pytest.raises(InputError, match="empty value"):
        install(device_dir, bundle)


def test_the_runtime_alone_updates_a_device(bundle: Path, key: Path, device_dir: Path) -> None:
    """Neither typer nor torch nor the exporters are needed on the device."""
    sign_bundle(bundle, key, version=3)
    script = f"""
import sys
for name in ("typer", "rich", "torch", "onnx", "onnx_ir", "nncf", "edgedet", "edgedet_export", "edgedet_models"):
    sys.modules[name] = None
from pathlib import Path
from edgedet_runtime import Detector
from edgedet_runtime.bundle.slots import install
install(Path({str(device_dir)!r}), Path({str(bundle)!r}))
Detector({str(device_dir)!r}, threads=1).confirm()
"""
    runtime = Path(slots_module.__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=runtime)
    assert versions(device_dir) == (3, None, 3)
    assert json.loads(run("bundle", "status", device_dir, "--json").stdout)["highest"] == 3
