"""Signed bundles: what a device with a key opens, and what it refuses before any engine sees it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import CheckFailedError, Detector, InputError, ModelFileError
from edgedet_runtime.bundle.keys import PublicKey, make_keys, read_private_key, read_public_keys
from edgedet_runtime.bundle.signature import SIGNATURE, sign_bundle, verify_signature
from edgedet_runtime.bundle.statement import PAYLOAD_TYPE, Statement, signed_bytes
from tests.cli.colors import refused, run, seal, solid

pytest.importorskip("cryptography")


def public(key: Path) -> tuple[PublicKey, ...]:
    """Return the public key beside a private one."""
    return read_public_keys([key.with_suffix(".pub")])


def test_signed_bundle_verifies_and_opens(bundle: Path, key: Path, device: Path) -> None:
    sign_bundle(bundle, key)
    signed = verify_signature(bundle, public(key))
    assert signed.key.fingerprint == public(key)[0].fingerprint
    assert signed.check_files({"model.onnx"}) == {"model.onnx": (bundle / "model.onnx").read_bytes()}
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


def _claim_another_kind(bundle: Path) -> None:
    path = bundle / SIGNATURE
    path.write_text(json.dumps({**json.loads(path.read_text()), "payloadType": "application/x"}))


def _raise_the_version(bundle: Path) -> None:
    path = bundle / SIGNATURE
    document = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(document["payload"])) | {"version": 9}
    path.write_text(json.dumps({**document, "payload": base64.b64encode(json.dumps(statement).encode()).decode()}))


def _take_the_statement_of_another_bundle(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"notes": ["another"]}))


def _link_a_folder(bundle: Path) -> None:
    (bundle.parent / "elsewhere").mkdir()
    (bundle.parent / "elsewhere/lib.so").touch()
    (bundle / "extra").symlink_to(bundle.parent / "elsewhere", target_is_directory=True)


def _link_a_listed_file(bundle: Path) -> None:
    (bundle / "model.onnx").rename(bundle.parent / "model.onnx")
    (bundle / "model.onnx").symlink_to(bundle.parent / "model.onnx")


def _link_the_plan(bundle: Path) -> None:
    (bundle.parent / "plan.json").write_text('{"engine": "onnxruntime", "precision": "fp32", "threads": 1}')
    (bundle / "plan.json").symlink_to(bundle.parent / "plan.json")


def _add_a_pipe(bundle: Path) -> None:
    os.mkfifo(bundle / "pipe")


def _make_a_listed_file_a_pipe(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")


@pytest.mark.parametrize(
    ("alter", "word"),
    [
        (_flip_model_byte, "sha256"),
        (_exchange_and_reseal, "altered"),
        (_add_a_file, "not in the manifest"),
        (_unsign, "unsigned"),
        (_claim_another_kind, "algorithm"),
        (_raise_the_version, "altered"),
        (_take_the_statement_of_another_bundle, "altered"),
        (_link_a_folder, "extra: is a symbolic link"),
        (_link_the_plan, r"plan\.json: is a symbolic link"),
        (_add_a_pipe, "no plain file"),
        (_make_a_listed_file_a_pipe, "no plain file"),
    ],
)
def test_device_refuses_altered_bundle_before_any_engine(
    bundle: Path,
    key: Path,
    device: Path,
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


def test_device_refuses_a_link_to_a_listed_file(bundle: Path, key: Path, device: Path) -> None:
    sign_bundle(bundle, key)
    _link_a_listed_file(bundle)
    with pytest.raises(CheckFailedError, match=r"model\.onnx: is a symbolic link"):
        Detector(bundle)
    with pytest.raises(CheckFailedError, match="lone file"):
        Detector(bundle / "model.onnx")


def test_a_bundle_that_is_reached_through_a_link_opens(bundle: Path, key: Path, device: Path) -> None:
    sign_bundle(bundle, key)
    (bundle.parent / "link").symlink_to(bundle)
    for model in (bundle.parent / "link", bundle.parent / "link/model.onnx"):
        Detector(model, threads=1).close()


def test_device_refuses_a_lone_file(bundle: Path, key: Path, device: Path, tmp_path: Path) -> None:
    sign_bundle(bundle, key)
    lone = (bundle / "model.onnx").rename(tmp_path / "model.onnx")
    with pytest.raises(CheckFailedError, match="lone file"):
        Detector(lone)


def test_another_key_is_named_and_refused(bundle: Path, key: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "other.pem")
    sign_bundle(bundle, tmp_path / "other.pem")
    with pytest.raises(CheckFailedError, match="signed with"):
        verify_signature(bundle, public(key))


def test_broken_signature_file_is_a_model_file_error(bundle: Path, key: Path) -> None:
    (bundle / SIGNATURE).write_text("not json")
    with pytest.raises(ModelFileError, match="bundle sign"):
        verify_signature(bundle, public(key))


def _envelope(key: Path, payload: bytes) -> dict[str, Any]:
    """Return an envelope with a right signature over a payload."""
    signature = read_private_key(key).sign(signed_bytes(payload))
    entry = {"keyid": public(key)[0].fingerprint, "sig": base64.b64encode(signature).decode()}
    return {"payloadType": PAYLOAD_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": [entry]}


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": 5},
        {"payload": "!"},
        {"payloadType": ...},
        {"signatures": ...},
        {"signatures": []},
        {"signatures": 3},
        {"signatures": [{"keyid": 5, "sig": ""}]},
        {"signatures": [{"keyid": "a", "sig": "!"}]},
        {"signatures": [{"sig": ""}]},
        {"signatures": [[]]},
    ],
    ids=str,
)
def test_damaged_signature_document(bundle: Path, key: Path, changes: dict[str, Any]) -> None:
    sign_bundle(bundle, key)
    path = bundle / SIGNATURE
    document = {k: v for k, v in {**json.loads(path.read_text()), **changes}.items() if v is not ...}
    path.write_text(json.dumps(document))
    with pytest.raises(ModelFileError, match="bundle sign"):
        verify_signature(bundle, public(key))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "null", "5", "\udcff", '{"payload": NaN}'], ids=range(6))
def test_a_signature_that_is_something_else(bundle: Path, key: Path, text: str) -> None:
    (bundle / SIGNATURE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelFileError, match="bundle sign"):
        verify_signature(bundle, public(key))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": -1}, "version"),
        ({"version": 2**60}, "version"),
        ({"version": True}, "version"),
        ({"version": "7"}, "version"),
        ({"expires": "soon"}, "expires"),
        ({"expires": ""}, "expires"),
        ({"architectures": "aarch64"}, "architectures"),
        ({"architectures": ["\x1b[31m"]}, "architectures"),
        ({"model": ""}, "model"),
        ({"model": "a/b"}, "model"),
        ({"manifest_sha256": 5}, "manifest_sha256"),
        ({"only_on_sundays": True}, "newer edgedet"),
    ],
)
def test_a_signed_statement_that_cannot_be_meant(bundle: Path, key: Path, changes: dict[str, Any], word: str) -> None:
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    statement = {"manifest_sha256": digest, "version": 1, **changes}
    (bundle / SIGNATURE).write_text(json.dumps(_envelope(key, json.dumps(statement).encode())))
    with pytest.raises(ModelFileError, match=word):
        verify_signature(bundle, public(key))


def test_a_statement_as_it_shall_be(bundle: Path, key: Path) -> None:
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    statement = {"manifest_sha256": digest, "version": 3, "expires": "2999-01-01", "architectures": ["x86_64"]}
    (bundle / SIGNATURE).write_text(json.dumps(_envelope(key, json.dumps(statement).encode())))
    found = verify_signature(bundle, public(key)).statement
    assert found == Statement(digest, 3, "", "2999-01-01", ("x86_64",), None)


def write_old_signature(bundle: Path, key: Path) -> None:
    """Sign a bundle as edgedet did before there were statements."""
    signature = read_private_key(key).sign((bundle / "manifest.json").read_bytes())
    document = {"algorithm": "ed25519", "key": public(key)[0].fingerprint}
    document["signature"] = base64.b64encode(signature).decode()
    (bundle / SIGNATURE).write_text(json.dumps(document))


def test_an_old_signature_verifies_as_one_without_a_version(bundle: Path, key: Path, device: Path) -> None:
    write_old_signature(bundle, key)
    assert verify_signature(bundle, public(key)).statement.version == 0
    Detector(bundle, threads=1).close()
    _flip_model_byte(bundle)
    with pytest.raises(CheckFailedError, match="sha256"):
        Detector(bundle, threads=1)
    seal(bundle)
    with pytest.raises(CheckFailedError, match="altered"):
        Detector(bundle, threads=1)


def test_damaged_bundle_is_not_signed(bundle: Path, key: Path) -> None:
    _flip_model_byte(bundle)
    with pytest.raises(CheckFailedError, match="not signed"):
        sign_bundle(bundle, key)
    assert not (bundle / SIGNATURE).exists()


def test_wrong_kind_of_key_is_refused(bundle: Path, key: Path) -> None:
    with pytest.raises(InputError, match="private key"):
        sign_bundle(bundle, key.with_suffix(".pub"))


def test_command_line(bundle: Path, tmp_path: Path) -> None:
    key, public = tmp_path / "k.pem", tmp_path / "k.pub"
    assert run("bundle", "keygen", key).exit_code == 0
    refused(run("bundle", "verify", bundle, "--key", public), "unsigned", code=1)
    assert run("bundle", "sign", bundle, "--key", key).exit_code == 0
    assert run("bundle", "verify", bundle, "--key", public).exit_code == 0


def test_doctor_tells_about_the_signature(bundle: Path, key: Path, device: Path) -> None:
    result = run("doctor", bundle, "--json")
    assert result.exit_code == 1
    assert "unsigned" in json.loads(result.stdout)["verdict"]
    sign_bundle(bundle, key)
    found = {f["check"]: f["status"] for f in json.loads(run("doctor", bundle, "--json").stdout)["findings"]}
    assert found["signature"] == "ok"


@pytest.mark.parametrize("count", [1, 3, 4])
def test_an_unsigned_bundle_names_up_to_three_keys(bundle: Path, tmp_path: Path, count: int) -> None:
    keys = [make_keys(tmp_path / f"key{i}.pem") for i in range(count)]
    named = ", ".join(str(key) for key in read_public_keys(keys)[:3]) + (", …" if count > 3 else "")
    with pytest.raises(CheckFailedError) as caught:
        verify_signature(bundle, read_public_keys(keys))
    assert str(caught.value) == f"{bundle}: expected a bundle signed with {named}, got an unsigned one"


def test_whose_signature_it_was_is_told_apart_from_what_was_altered(bundle: Path, key: Path, tmp_path: Path) -> None:
    """Altered where one of the device's keys is named, whichever; another owner's where none is."""
    sign_bundle(bundle, key)
    strangers = read_public_keys([make_keys(tmp_path / f"stranger{i}.pem") for i in range(2)])
    own = public(key)
    with pytest.raises(CheckFailedError, match=f"but it is signed with {own[0].fingerprint[:16]}…$"):
        verify_signature(bundle, strangers)
    data = json.loads((bundle / SIGNATURE).read_text())
    data["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    (bundle / SIGNATURE).write_text(json.dumps(data))
    for keys in ((*own, *strangers), (*strangers, *own)):
        with pytest.raises(CheckFailedError, match=r"but it was altered$"):
            verify_signature(bundle, keys)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path, key: Path) -> None:
    with pytest.raises(ModelFileError, match=r"expected a bundle with manifest\.json, there is none$"):
        verify_signature(tmp_path, public(key))


def test_doctor_tells_about_what_was_added(bundle: Path, key: Path, device: Path) -> None:
    """The manifest alone says nothing about it: every listed file is as it was."""
    sign_bundle(bundle, key)
    _add_a_file(bundle)
    found = {f["check"]: f["status"] for f in json.loads(run("doctor", bundle, "--json").stdout)["findings"]}
    assert (found["files"], found["signature"]) == ("ok", "failure")


def test_a_file_deep_in_a_signed_bundle_opens(bundle: Path, key: Path, device: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "for/small/boards").mkdir(parents=True)
    (bundle / "model.onnx").rename(bundle / "for/small/boards/model.onnx")
    manifest["files"][0]["path"] = "for/small/boards/model.onnx"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    sign_bundle(bundle, key)
    for model in (bundle, bundle / "for/small/boards/model.onnx"):
        Detector(model, threads=1).close()
