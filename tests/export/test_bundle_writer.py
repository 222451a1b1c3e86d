"""A bundle is complete or absent."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edgedet_export.bundle_writer import bundle_folder, write_manifest
from edgedet_runtime.bundle.manifest import Manifest, describe_file, read_manifest
from edgedet_runtime.bundle.rungs import Noise
from edgedet_runtime.errors import InputError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_folder_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    with bundle_folder(tmp_path / "a/b", overwrite=False) as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "a/b").exists()
    assert names(tmp_path / "a") == ["b"]
    assert names(tmp_path / "a/b") == ["x"]


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_nothing_is_left_when_the_block_fails(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with bundle_folder(tmp_path / "b", overwrite=False) as folder:
            (folder / "x").write_text("1")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == []


def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"b: cannot write the bundle: No space left.*nothing was left behind"),
        bundle_folder(tmp_path / "b", overwrite=False),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_old_bundle_is_replaced_only_on_demand(tmp_path: Path) -> None:
    for text in ("1", "2"):
        with bundle_folder(tmp_path / "b", overwrite=True) as folder:
            write_manifest(folder, Manifest((), name=text))
    assert read_manifest(tmp_path / "b").name == "2"
    with pytest.raises(InputError, match="overwriting is off"), bundle_folder(tmp_path / "b", overwrite=False):
        pass


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/me.jpg").write_text("x")
    with pytest.raises(InputError, match="no edgedet bundle"), bundle_folder(tmp_path / "photos", overwrite=True):
        pass
    assert names(tmp_path / "photos") == ["me.jpg"]


def test_manifest_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(tmp_path, Manifest((), float32_noise=Noise(score=float("nan"))))


def test_entry_has_hash_and_size(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    entry = describe_file(tmp_path, "f", precision="fp32")
    assert entry.bytes == 3
    assert entry.precision == "fp32"
    assert entry.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
