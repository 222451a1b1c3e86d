"""Settings are read whole with a bound, whatever their name leads to."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from edgedet_runtime.errors import EdgedetError, ModelFileError
from edgedet_runtime.from_json import read_json
from edgedet_runtime.short_file import DATASET_MB, read_short_bytes, read_short_text
from tests.cli.colors import refused, run


def test_a_text_is_read_as_pathlib_does(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in (b"", b"a\r\nb\rc\n", "\ufeffä\n".encode(), b"x" * (1 << 20)):
        path.write_bytes(content)
        assert read_short_bytes(path) == content
        for encoding in ("utf-8", "utf-8-sig"):
            assert read_short_text(path, encoding=encoding) == path.read_text(encoding=encoding)


def test_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b" " * (1 << 20))
    assert len(read_short_bytes(path, at_most_mb=1)) == 1 << 20
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(OSError, match="expected at most 1 MiB, got more"):
        read_short_bytes(path, at_most_mb=1)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # looked at, not read
    with pytest.raises(OSError, match="expected at most 4096 MiB, got more"):
        read_short_bytes(path, at_most_mb=DATASET_MB)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/zero")
def test_a_device_is_no_data_set() -> None:
    with pytest.raises(OSError, match="expected at most 64 MiB, got more"):
        read_short_bytes(Path("/dev/zero"), at_most_mb=DATASET_MB)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/zero")
@pytest.mark.parametrize("place", ["/dev/zero", "holes"])
def test_commands_do_not_read_without_end(bundle: Path, place: str) -> None:
    given = bundle.parent / "given.json"
    if place == "holes":
        with given.open("wb") as file:
            file.truncate(1 << 40)
    else:
        given.symlink_to(place)
    with pytest.raises(ModelFileError, match="expected at most 64 MiB, got more"):
        read_json(given)
    commands: list[tuple[object, ...]] = [
        ("export", "edgecode-n", "--spec", given, "--out", bundle.parent / "o"),
        ("profile", bundle, "--runs", "2", "--engine", "onnxruntime", "--compare", given),
    ]
    if importlib.util.find_spec("cryptography") is not None:
        commands += [("bundle", "sign", bundle, "--key", given), ("bundle", "verify", bundle, "--key", given)]
        commands += [("docker", bundle, "--no-run", "--public-key", given, "--out", bundle.parent / "image")]
    for command in commands:
        refused(run(*command), "given.json")
    data = given.rename(given.with_suffix(".yaml"))
    refused(run("eval", bundle, "--data", data), "given.yaml")


def test_a_manifest_of_holes(bundle: Path) -> None:
    with (bundle / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    for command in (("detect", bundle, bundle), ("doctor", bundle), ("inspect", bundle), ("bundle", "verify", bundle)):
        refused(run(*command))
    with pytest.raises(EdgedetError):
        read_json(bundle / "manifest.json")
