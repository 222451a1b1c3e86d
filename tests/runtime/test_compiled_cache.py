"""Compiled models: taken up where nobody else could have written them, compiled otherwise."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import Detector
from edgedet_runtime.cpu import Processor, this_processor
from edgedet_runtime.engines import compiled_cache, openvino_engine
from edgedet_runtime.engines.compiled_cache import cache_folder, cache_key, read_entry, write_entry
from tests.runtime.tiny_models import TINY_SPEC, random_image, tiny_onnx

KEY = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEDET_CACHE", str(tmp_path / "cache"))
    found = cache_folder()
    assert found == tmp_path / "cache" / "openvino"
    return found


def tiny_ir(path: Path, seed: int = 1) -> Path:
    import openvino as ov

    model = ov.Core().read_model(tiny_onnx(path.with_suffix(".onnx"), seed=seed))
    model.set_rt_info(TINY_SPEC.to_json(), "edgedet")
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def entry(folder: Path) -> Path:
    return folder / f"{KEY}.blob"


def test_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDET_CACHE", " none ")
    assert cache_folder() is None
    monkeypatch.delenv("EDGEDET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x/cache")
    assert cache_folder() == Path("/x/cache/edgedet/openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/edgedet/openvino")
    monkeypatch.setenv("EDGEDET_CACHE", "/data/c")
    assert cache_folder() == Path("/data/c/openvino")
    monkeypatch.delattr(os, "geteuid")
    assert cache_folder() is None


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_entry(folder, KEY) is None
    for blob in (b"", b"first", b"second" * 999):
        write_entry(folder, KEY, blob)
        assert read_entry(folder, KEY) == blob
        assert read_entry(folder, "cd" * 32) is None
    assert entry(folder).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o077 == 0
    assert [path.name for path in folder.iterdir()] == [entry(folder).name]


@pytest.mark.parametrize("damage", ["short", "empty", "bit", "digest", "longer"])
def test_damage_is_found(folder: Path, damage: str) -> None:
    write_entry(folder, KEY, b"compiled model")
    content = entry(folder).read_bytes()
    assert content == hashlib.sha256(b"compiled model").digest() + b"compiled model"
    changed = {
        "short": content[:-1],
        "empty": b"",
        "bit": content[:-1] + b"m",
        "digest": b"\0" + content[1:],
        "longer": content + b"l",
    }[damage]
    entry(folder).write_bytes(changed)
    assert read_entry(folder, KEY) is None


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_not_taken(folder: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    write_entry(folder, KEY, b"blob")
    entry(folder).chmod(0o644)
    assert read_entry(folder, KEY) == b"blob"
    entry(folder).chmod(mode)
    assert read_entry(folder, KEY) is None
    assert "others may write to it" in caplog.text


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_is_not_used(folder: Path, mode: int) -> None:
    write_entry(folder, KEY, b"blob")
    folder.chmod(mode)
    assert read_entry(folder, KEY) is None
    write_entry(folder, "cd" * 32, b"other")
    assert len(list(folder.iterdir())) == 1
    folder.chmod(0o755)
    assert read_entry(folder, KEY) == b"blob"


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    write_entry(folder, KEY, b"blob")
    entry(folder).rename(tmp_path / "elsewhere")
    entry(folder).symlink_to(tmp_path / "elsewhere")
    assert read_entry(folder, KEY) is None
    entry(folder).unlink()
    (tmp_path / "elsewhere").rename(entry(folder))
    assert read_entry(folder, KEY) == b"blob"
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert read_entry(folder, KEY) is None
    write_entry(folder, "cd" * 32, b"other")
    assert len(list((tmp_path / "moved").iterdir())) == 1


def test_a_pipe_in_its_place_does_not_hang(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
    os.mkfifo(entry(folder), 0o600)
    assert read_entry(folder, KEY) is None


def test_files_of_another_user_are_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(folder, KEY, b"blob")
    mine = os.geteuid()
    if mine == 0:
        os.chown(entry(folder), 1234, -1)
        assert read_entry(folder, KEY) is None
        os.chown(entry(folder), 0, -1)
        monkeypatch.setattr(os, "geteuid", lambda: 1234)
        assert read_entry(folder, KEY) == b"blob", "root's may be taken by all"
    else:
        monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
        assert read_entry(folder, KEY) is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "file").touch()
    write_entry(tmp_path / "file" / "openvino", KEY, b"blob")
    assert "the compiled model is not kept: Not a directory" in caplog.text
    assert read_entry(tmp_path / "file" / "openvino", KEY) is None


def test_the_oldest_make_room(folder: Path) -> None:
    for number in range(18):
        write_entry(folder, f"{number:064d}", b"blob")
        os.utime(folder / f"{number:064d}.blob", (number, number))
    kept = sorted(int(path.stem) for path in folder.iterdir())
    assert kept == list(range(2, 18))


def test_a_key_depends_on_all_that_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"A": 1, "B": "x"}
    keys = [
        cache_key(b"model", b"weights", "1", settings),
        cache_key(b"model!", b"weights", "1", settings),
        cache_key(b"model", b"weights!", "1", settings),
        cache_key(b"modelweights", None, "1", settings),
        cache_key(b"model", None, "1", settings),
        cache_key(b"model", b"", "1", settings),
        cache_key(b"model", b"weights", "2", settings),
        cache_key(b"model", b"weights", "1", {"A": 2, "B": "x"}),
        cache_key(b"model", b"weights", "1", {"A": 1}),
    ]
    assert cache_key(b"model", b"weights", "1", {"B": "x", "A": 1}) == keys[0]
    here = this_processor()
    others = [
        Processor("other", here.architecture, here.features),
        Processor(here.cpu, "other", here.features),
        Processor(here.cpu, here.architecture, ("other",)),
    ]
    for other in others:
        monkeypatch.setattr(compiled_cache, "this_processor", lambda other=other: other)
        keys.append(cache_key(b"model", b"weights", "1", settings))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 and int(key, 16) for key in keys)


class Counted:
    """Counts what OpenVINO's Core is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import openvino

        self.calls: list[str] = []
        counted = self

        class Core(openvino.Core):  # type: ignore[misc]
            def compile_model(self, *rest: Any, **named: Any) -> Any:
                counted.calls.append("compile")
                return super().compile_model(*rest, **named)

            def import_model(self, *rest: Any, **named: Any) -> Any:
                counted.calls.append("import")
                return super().import_model(*rest, **named)

        monkeypatch.setattr(openvino, "Core", Core)

    def since(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


def test_a_second_detector_takes_up_what_the_first_compiled(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    model = tiny_ir(tmp_path / "tiny.xml")
    image = random_image(90, 150)

    def detect(path: Path, threads: int = 1) -> Any:
        with Detector(path, engine="openvino", threads=threads, conf=0.1) as detector:
            return detector(image)

    expected = detect(model)
    assert len(expected) > 0
    assert counted.since() == ["compile"]
    assert detect(model) == expected
    assert counted.since() == ["import"]
    moved = tmp_path / "other" / "name.xml"
    moved.parent.mkdir()
    for suffix in (".xml", ".bin"):
        model.with_suffix(suffix).rename(moved.with_suffix(suffix))
    assert detect(moved) == expected
    assert counted.since() == ["import"], "wherever the file lies"
    detect(moved, threads=2)
    assert counted.since() == ["compile"], "other settings"
    tiny_ir(tmp_path / "other.xml", seed=2).with_suffix(".bin").replace(moved.with_suffix(".bin"))
    assert detect(moved) != expected
    assert counted.since() == ["compile"], "other weights"
    for blob in folder.iterdir():
        blob.write_bytes(hashlib.sha256(b"nonsense").digest() + b"nonsense")
    detect(moved)
    assert counted.since() == ["import", "compile"], "what OpenVINO refuses is compiled again"
    detect(moved)
    assert counted.since() == ["import"]
    monkeypatch.setenv("EDGEDET_CACHE", "none")
    detect(moved)
    assert counted.since() == ["compile"]


def test_other_users_of_the_engine_keep_nothing(folder: Path, tmp_path: Path) -> None:
    from edgedet_runtime.engines import load_engine

    model = tiny_ir(tmp_path / "tiny.xml")
    load_engine("openvino", model, TINY_SPEC, threads=1).close()
    openvino_engine.compile_on_cpu(model, 1, profiled=True, cached=True)
    openvino_engine.compile_on_cpu(model, 1, also=["boxes"], cached=True)
    assert not folder.exists()
