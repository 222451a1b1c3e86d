"""What a device refuses although it is rightly signed: what is older, expired, or for another device."""

from __future__ import annotations

import json
import logging
import os
import platform
import stat
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import CheckFailedError, Detector, InputError, ModelFileError
from edgedet_runtime.bundle import seen_versions as seen_module
from edgedet_runtime.bundle import statement as statement_module
from edgedet_runtime.bundle.seen_versions import highest_seen, remember_version
from edgedet_runtime.bundle.signature import sign_bundle
from edgedet_runtime.bundle.trust import MODEL_VARIABLE
from edgedet_runtime.state_folder import STATE_VARIABLE, state_folder
from edgedet_runtime.whole_file import write_whole_file
from tests.cli.colors import refused, run
from tests.runtime.bundle.test_signature import write_old_signature

pytest.importorskip("cryptography")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Return a function that sets the clock against which expiry is judged."""

    def set_to(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return moment

        monkeypatch.setattr(statement_module, "datetime", Clock)

    return set_to


def opens(model: Path) -> None:
    Detector(model, threads=1).close()


def test_an_older_version_does_not_open_again(bundle: Path, key: Path, device: Path) -> None:
    for version in (5, 6, 6):
        sign_bundle(bundle, key, version=version)
        opens(bundle)
    for model in (bundle, bundle / "model.onnx"):
        sign_bundle(bundle, key, version=5)
        with pytest.raises(CheckFailedError, match=r"expected version 6 or .* got version 5; .* --version 7"):
            Detector(model)
    sign_bundle(bundle, key)
    with pytest.raises(CheckFailedError, match="got one without a version"):
        Detector(bundle)
    write_old_signature(bundle, key)
    with pytest.raises(CheckFailedError, match="got one without a version"):
        Detector(bundle)
    assert json.loads((device / "versions.json").read_text()) == {"versions": {"": 6}}


def test_a_bundle_that_does_not_load_is_not_remembered(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(bundle, key, version=6)

    def fails(*arguments: object, **options: object) -> None:
        raise InputError("no")

    with monkeypatch.context() as patched:
        patched.setattr("edgedet_runtime.detector.load_engine", fails)
        with pytest.raises(InputError):
            Detector(bundle)
    sign_bundle(bundle, key, version=5)
    opens(bundle)


def test_each_model_has_its_own_versions(bundle: Path, key: Path, device: Path) -> None:
    for model, version in (("gate", 9), ("yard", 2), (None, 1)):
        sign_bundle(bundle, key, version=version, model=model)
        opens(bundle)
    assert [highest_seen(model) for model in ("gate", "yard", None, "other")] == [9, 2, 1, 0]


def test_a_device_of_one_model_takes_no_other(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, "gate")
    sign_bundle(bundle, key, model="gate")
    opens(bundle)
    for model, said in (("yard", "one for yard"), (None, "names no model")):
        sign_bundle(bundle, key, model=model)
        with pytest.raises(CheckFailedError, match=f"the model gate .*{said}"):
            Detector(bundle)


def test_architectures(bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    for given in (["arm64"], ["x86_64", "aarch64"], []):
        sign_bundle(bundle, key, architectures=given)
        opens(bundle)
    sign_bundle(bundle, key, architectures=["x86_64", "armv7l"])
    with pytest.raises(CheckFailedError, match=r"expected a bundle for aarch64, got .* for x86_64, armv7l"):
        Detector(bundle)


def test_expiry(bundle: Path, key: Path, device: Path, clock: Callable[[datetime], None]) -> None:
    now = datetime.now(timezone.utc)
    day = now + timedelta(days=10)
    sign_bundle(bundle, key, expires=f"{day:%Y-%m-%d}")
    opens(bundle)
    clock(datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=timezone.utc))
    opens(bundle)
    clock(datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(days=1))
    with pytest.raises(CheckFailedError, match=r"expired at .* install a newer one"):
        Detector(bundle)
    refused(run("bundle", "verify", bundle, "--key", key.with_suffix(".pub")), "expired", code=1)


def test_a_clock_that_is_not_set(
    bundle: Path, key: Path, device: Path, clock: Callable[[datetime], None], caplog: pytest.LogCaptureFixture
) -> None:
    sign_bundle(bundle, key, expires=f"{datetime.now(timezone.utc) + timedelta(days=10):%Y-%m-%d}")
    clock(datetime(1970, 1, 1, 0, 3, tzinfo=timezone.utc))
    with caplog.at_level(logging.WARNING):
        opens(bundle)
    assert "set the clock" in caplog.text
    refused(run("bundle", "verify", bundle, "--key", key.with_suffix(".pub")), "set the clock", code=1)
    caplog.clear()
    sign_bundle(bundle, key)
    with caplog.at_level(logging.WARNING):
        opens(bundle)
    assert not caplog.text


@pytest.mark.parametrize("day", ["2020-01-01", "2020-01-01T00:00:00Z", "soon", "2027-13-01", "", "9999-12-31"])
def test_an_expiry_that_cannot_be_meant_is_not_signed(bundle: Path, key: Path, day: str) -> None:
    refused(run("bundle", "sign", bundle, "--key", key, "--expires", day), "--expires")
    assert not (bundle / "manifest.sig").exists()


@pytest.mark.parametrize("options", [("--version", "-1"), ("--arch", "a b"), ("--model", "../x"), ("--arch", ",")])
def test_conditions_that_cannot_be_meant_are_not_signed(bundle: Path, key: Path, options: tuple[str, str]) -> None:
    refused(run("bundle", "sign", bundle, "--key", key, *options), options[0])


def test_what_is_signed_is_printed(bundle: Path, key: Path) -> None:
    conditions = ("--version", "6", "--model", "gate", "--arch", "aarch64,x86_64", "--expires", "2999-01-01T00:00:00Z")
    assert run("bundle", "sign", bundle, "--key", key, *conditions).exit_code == 0
    said = run("bundle", "verify", bundle, "--key", key.with_suffix(".pub")).stdout
    assert "version 6 of gate for aarch64, x86_64, until 2999-01-01T00:00:00Z" in said
    document = json.loads(run("bundle", "verify", bundle, "--key", key.with_suffix(".pub"), "--json").stdout)
    assert (document["version"], document["model"], document["verified"]) == (6, "gate", True)


@pytest.mark.parametrize("content", ["", "{}", '{"versions": 5}', '{"versions": {"": "6"}}', "\0"])
def test_damaged_memory_is_no_reason_to_open(bundle: Path, key: Path, device: Path, content: str) -> None:
    sign_bundle(bundle, key, version=1)
    device.mkdir()
    (device / "versions.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"versions\.json"):
        Detector(bundle)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("place", ["read-only", "file"])
def test_a_version_that_cannot_be_kept_does_not_open(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch, place: str, named: bool
) -> None:
    """A memory that is lost at each start guards against nothing; only a device that was told so goes on."""
    if place == "file":
        device.write_text("a file")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        device.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv(STATE_VARIABLE if named else "XDG_STATE_HOME", str(device / "below"))
    if not named:
        monkeypatch.delenv(STATE_VARIABLE)
    sign_bundle(bundle, key, version=3)
    said = f"version 3 cannot be remembered .*{STATE_VARIABLE} name a folder .*{STATE_VARIABLE}=none"
    with pytest.raises(InputError, match=said):
        Detector(bundle)
    refused(run("detect", bundle, bundle / "model.onnx"), "version 3 cannot be remembered")
    monkeypatch.setenv(STATE_VARIABLE, "none")
    opens(bundle)
    sign_bundle(bundle, key, version=2)
    opens(bundle)
    assert not Path("none").exists()


def test_a_bundle_without_a_version_needs_no_memory(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.write_text("a file")
    monkeypatch.setenv(STATE_VARIABLE, str(device / "below"))
    sign_bundle(bundle, key)
    opens(bundle)


def test_a_read_only_memory_that_holds_the_version_is_enough(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(bundle, key, version=3)
    opens(bundle)

    def written(*arguments: object, **options: object) -> None:
        raise AssertionError("the memory was written")

    monkeypatch.setattr("edgedet_runtime.bundle.seen_versions.write_whole_file", written)
    opens(bundle)


def test_a_device_without_a_key_remembers_nothing(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_bundle(bundle, key, version=3)
    monkeypatch.delenv("EDGEDET_PUBLIC_KEY")
    opens(bundle)
    assert not device.exists()


@pytest.mark.parametrize(("before_signing_s", "set_right"), [(0, True), (86_400, True), (86_401, False)])
def test_a_clock_may_be_a_day_behind_the_one_that_signed(
    bundle: Path,
    clock: Callable[[datetime], None],
    caplog: pytest.LogCaptureFixture,
    before_signing_s: int,
    set_right: bool,
) -> None:
    signed_at = datetime(2026, 5, 2, 12, tzinfo=timezone.utc)
    statement = statement_module.Statement("", 1, "2026-05-02T12:00:00Z", "2027-01-01T00:00:00Z")
    clock(signed_at - timedelta(seconds=before_signing_s))
    with caplog.at_level(logging.WARNING):
        statement.require_in_force(bundle, new=False)
    assert bool(caplog.text) is not set_right
    if set_right:
        statement.require_in_force(bundle, new=True)
    else:
        with pytest.raises(CheckFailedError, match="set the clock"):
            statement.require_in_force(bundle, new=True)


def test_versions_end_where_json_readers_lose_exactness() -> None:
    assert statement_module.Statement("", 2**53 - 1).version == 9007199254740991
    with pytest.raises(InputError, match="expected 0 to 9007199254740991"):
        statement_module.Statement("", 2**53)


def test_where_a_device_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (STATE_VARIABLE, "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/pi")
    assert state_folder() == Path("/home/pi/.local/state/edgedet")
    monkeypatch.setenv("XDG_STATE_HOME", "/data")
    assert state_folder() == Path("/data/edgedet")
    monkeypatch.setenv(STATE_VARIABLE, "/data/seen")
    assert state_folder() == Path("/data/seen")
    monkeypatch.setenv(STATE_VARIABLE, "none")
    assert state_folder() is None


def test_processes_that_remember_at_once_lose_nothing(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads, and a while later writes; without a lock the last one to write would undo the others."""
    real = write_whole_file

    def late(*arguments: Any) -> None:
        time.sleep(0.05)
        real(*arguments)

    monkeypatch.setattr(seen_module, "write_whole_file", late)
    children = []
    for i in range(6):
        pid = os.fork()
        if pid == 0:
            remember_version(f"model{i}", i + 1)
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
    assert [highest_seen(f"model{i}") for i in range(6)] == [1, 2, 3, 4, 5, 6]
