"""Signed bundles: what a device with a key opens, and what it refuses before any engine sees it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import CheckFailedError, Detector, InputError, ModelFileError
from edgedet_runtime.bundle.signature import KEY_VARIABLE, SIGNATURE, make_keys, sign_bundle, verify_signature
from tests.cli.colors import refused, run, seal, solid

pytest.importorskip("cryptography")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return a private key, with its public one beside it."""
    make_keys(tmp_path / "owner.pem")
    return tmp_path / "owner.pem"


@pytest.fixture
def device(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process a device that trusts the key."""
    monkeypatch.setenv(KEY_VARIABLE, str(key.with_suffix(".pub")))


def test_private_key_is_for_its_owner_only_and_never_overwritten(key: Path) -> None:
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(InputError, match="free place"):
        make_keys(key)


def test_signed_bundle_verifies_and_opens(bundle: Path, key: Path, device: None) -> None:
    sign_bundle(bundle, key)
    assert len(verify_signature(bundle, key.with_suffix(".pub"))) == 64
    with Detector(bundle, threads=1) as detector:
        assert len(detector(solid((20, 128, 255)))) > 0
    with Detector(bundle / "model.onnx", threads=1) as detector:
        assert detector.spec.classes


def _flip_model_byte(bundle: Path) -> None:
    path = bundle / "model.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _exchange_and_reseal(bundle: Path) -> None:
    _flip_model_byte(bundle)
    seal(bundle)


def _add_a_file(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(b"external data")


def _unsign(bundle: Path) -> None:
    (bundle / SIGNATURE).unlink()


def _claim_another_algorithm(bundle: Path) -> None:
    path = bundle / SIGNATURE
    path.write_text(json.dumps({**json.loads(path.read_text()), "algorithm": "none"}))


@pytest.mark.parametrize(
    ("alter", "word"),
    [
        (_flip_model_byte, "sha256"),
        (_exchange_and_reseal, "altered"),
        (_add_a_file, "not in the manifest"),
        (_unsign, "unsigned"),
        (_claim_another_algorithm, "algorithm"),
    ],
)
def test_device_refuses_altered_bundle_before_any_engine(
    bundle: Path,
    key: Path,
    device: None,
    alter: Callable[[Path], None],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sign_bundle(bundle, key)
    alter(bundle)

    def opened(*arguments: object, **options: object) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("edgedet_runtime.detector.load_engine", opened)
    monkeypatch.setattr("edgedet_runtime.bundle.model_files.read_spec", opened)
    for model in (bundle, bundle / "model.onnx"):
        with pytest.raises(CheckFailedError, match=word):
            Detector(model)


def test_device_refuses_a_lone_file(bundle: Path, key: Path, device: None, tmp_path: Path) -> None:
    sign_bundle(bundle, key)
    lone = (bundle / "model.onnx").rename(tmp_path / "model.onnx")
    with pytest.raises(CheckFailedError, match="lone file"):
        Detector(lone)


def test_another_key_is_named_and_refused(bundle: Path, key: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other.pem")
    sign_bundle(bundle, tmp_path / "other.pem")
    with pytest.raises(CheckFailedError, match="signed with"):
        verify_signature(bundle, key.with_suffix(".pub"))


def test_broken_signature_file_is_a_model_file_error(bundle: Path, key: Path) -> None:
    (bundle / SIGNATURE).write_text("not json")
    with pytest.raises(ModelFileError, match="bundle sign"):
        verify_signature(bundle, key.with_suffix(".pub"))


@pytest.mark.parametrize(
    "changes",
    [{"signature": "!"}, {"signature": 5}, {"key": ...}, {"algorithm": ...}, {"signature": ...}],
    ids=["junk in base64", "number", "no key", "no algorithm", "no signature"],
)
def test_damaged_signature_document(bundle: Path, key: Path, changes: dict[str, Any]) -> None:
    sign_bundle(bundle, key)
    path = bundle / SIGNATURE
    document = json.loads(path.read_text())
    if changes.get("signature") == "!":
        changes = {"signature": document["signature"][:9] + "!" + document["signature"][9:]}
    document = {k: v for k, v in {**document, **changes}.items() if v is not ...}
    path.write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match="bundle sign"):
        verify_signature(bundle, key.with_suffix(".pub"))


def test_damaged_bundle_is_not_signed(bundle: Path, key: Path) -> None:
    _flip_model_byte(bundle)
    with pytest.raises(CheckFailedError, match="not signed"):
        sign_bundle(bundle, key)
    assert not (bundle / SIGNATURE).exists()


def test_keys_are_for_their_readers_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public = make_keys(tmp_path / "k.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    for taken in ("k.pem", "other.pem"):
        (tmp_path / "other.pub").touch()
        with pytest.raises(InputError, match="expected a free place for a key"):
            make_keys(tmp_path / taken)


def test_wrong_kind_of_key_is_refused(bundle: Path, key: Path) -> None:
    with pytest.raises(InputError, match="private key"):
        sign_bundle(bundle, key.with_suffix(".pub"))
    with pytest.raises(InputError, match="public key"):
        verify_signature(bundle, key)


def test_command_line(bundle: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "k.pem", tmp_path / "k.pub"
    assert run("bundle", "keygen", key).exit_code == 0
    refused(run("bundle", "verify", bundle, "--key", public), "unsigned", code=1)
    assert run("bundle", "sign", bundle, "--key", key).exit_code == 0
    assert run("bundle", "verify", bundle, "--key", public).exit_code == 0


def test_doctor_tells_about_the_signature(bundle: Path, key: Path, device: None) -> None:
    result = run("doctor", bundle, "--json")
    assert result.exit_code == 1
    assert "unsigned" in json.loads(result.stdout)["verdict"]
    sign_bundle(bundle, key)
    found = {f["check"]: f["status"] for f in json.loads(run("doctor", bundle, "--json").stdout)["findings"]}
    assert found["signature"] == "ok"
