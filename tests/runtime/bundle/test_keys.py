"""Keys: where a private key may lie, and which public keys a device trusts."""

from __future__ import annotations

import base64
import os
import shutil
import stat
from pathlib import Path

import pytest

from edgedet_runtime import CheckFailedError, Detector, InputError
from edgedet_runtime.bundle.keys import (
    KEY_VARIABLE,
    device_keys,
    make_keys,
    public_keys_pem,
    read_private_key,
    read_public_keys,
)
from edgedet_runtime.bundle.signature import sign_bundle
from tests.cli.colors import refused, run

pytest.importorskip("cryptography")


def test_keys_are_for_their_readers_only_and_never_overwritten(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public = make_keys(tmp_path / "k.pem")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "k.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(public.stat().st_mode) == 0o644
    assert b"PRIVATE" in (tmp_path / "k.pem").read_bytes()
    assert b"PRIVATE" not in public.read_bytes()
    (tmp_path / "other.pub").touch()
    for taken in ("k.pem", "other.pem"):
        content = (tmp_path / "k.pem").read_bytes()
        with pytest.raises(InputError, match="expected a free place for a key"):
            make_keys(tmp_path / taken)
        assert (tmp_path / "k.pem").read_bytes() == content
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k.pem", "k.pub", "other.pub"]


@pytest.mark.parametrize("name", ["foo.pub", "foo.PUB"])
def test_a_private_key_is_never_called_like_a_public_one(tmp_path: Path, name: str) -> None:
    refused(run("bundle", "keygen", tmp_path / name), "foo.pem")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["", " ", ":", " : "])
def test_an_empty_variable_does_not_switch_checking_off(
    bundle: Path, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, value)
    for model in (bundle, bundle / "model.onnx"):
        with pytest.raises(InputError, match=f"{KEY_VARIABLE}: .* got an empty value"):
            Detector(model)
    refused(run("profile", bundle), KEY_VARIABLE)
    assert KEY_VARIABLE in run("doctor", bundle).stdout
    assert run("doctor", bundle).exit_code == 1


def test_a_variable_that_is_not_set_trusts_everything(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert device_keys() is None
    Detector(bundle, threads=1).close()


@pytest.mark.parametrize("form", ["list", "one file", "folder"])
def test_a_device_with_two_keys_takes_either_and_says_which(
    bundle: Path, device: Path, key: Path, tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = key.with_suffix(".pub"), make_keys(tmp_path / "next.pem")
    folder = tmp_path / "keys"
    folder.mkdir()
    if form == "one file":
        (tmp_path / "both.pub").write_bytes(old.read_bytes() + b"the next one:\n" + new.read_bytes())
    if form == "folder":
        for public in (old, new):
            shutil.copy(public, folder)
        (folder / "README.txt").write_text("not a key")
    places = {"list": f"{old}:{new}", "one file": str(tmp_path / "both.pub"), "folder": str(folder)}
    monkeypatch.setenv(KEY_VARIABLE, places[form])
    for private in (key, tmp_path / "next.pem"):
        sign_bundle(bundle, private)
        Detector(bundle, threads=1).close()
        found = run("doctor", bundle, "--engine", "onnxruntime").stdout
        expected = read_public_keys([private.with_suffix(".pub")])[0].fingerprint[:16]
        assert expected in found
    make_keys(tmp_path / "strange.pem")
    sign_bundle(bundle, tmp_path / "strange.pem")
    with pytest.raises(CheckFailedError, match="signed with"):
        Detector(bundle)


def test_a_bundle_signed_with_two_keys_opens_where_either_is_trusted(
    bundle: Path, device: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = make_keys(tmp_path / "next.pem")
    assert run("bundle", "sign", bundle, "--key", key, "--key", tmp_path / "next.pem").exit_code == 0
    for public in (key.with_suffix(".pub"), new):
        monkeypatch.setenv(KEY_VARIABLE, str(public))
        Detector(bundle, threads=1).close()


@pytest.mark.parametrize("what", ["missing", "empty folder", "private", "rsa", "junk", "junk after a key"])
def test_what_is_no_public_key_is_said(tmp_path: Path, key: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    if what == "empty folder":
        place.mkdir()
    elif what == "private":
        place = key
    elif what == "junk":
        place.write_text("-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n")
    elif what == "junk after a key":
        junk = "-----BEGIN PUBLIC KEY-----\nxx\n-----END PUBLIC KEY-----\n"
        place.write_text(key.with_suffix(".pub").read_text() + junk)
    elif what == "rsa":
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        place.write_bytes(public.public_bytes(*form))
    monkeypatch.setenv(KEY_VARIABLE, str(place))
    with pytest.raises(InputError, match=f"{KEY_VARIABLE}: .*{place.name}: expected"):
        device_keys()


def test_keys_written_as_one_file_are_read_again(tmp_path: Path, key: Path) -> None:
    make_keys(tmp_path / "b.pem")
    keys = read_public_keys([key.with_suffix(".pub"), tmp_path / "b.pub", key.with_suffix(".pub")])
    (tmp_path / "all.pub").write_bytes(public_keys_pem(keys))
    again = read_public_keys([tmp_path / "all.pub"])
    assert [k.fingerprint for k in again] == [k.fingerprint for k in keys]
    assert len(keys) == 2


def test_keys_of_an_algorithm_that_nobody_knows(tmp_path: Path) -> None:
    """The package's error for them is neither a ValueError nor any other that Python has."""
    public = make_keys(tmp_path / "k.pem")
    private = tmp_path / "k.pem"
    for file in (public, private):
        body = "".join(file.read_text().splitlines()[1:-1])
        der = base64.b64decode(body).replace(b"\x2b\x65\x70", b"\x2b\x65\x01")  # RFC 8410: 1.3.101.112 is Ed25519
        assert base64.b64encode(der).decode() != body
        file.write_text(file.read_text().replace(body, base64.b64encode(der).decode()))
    with pytest.raises(InputError, match="expected Ed25519 public keys in PEM, got something else"):
        read_public_keys([public])
    with pytest.raises(InputError, match="expected an unencrypted Ed25519 private key in PEM, got something else"):
        read_private_key(private)
