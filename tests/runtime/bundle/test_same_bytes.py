"""What is verified is what is loaded: files that are exchanged after they were checked are never used."""

from __future__ import annotations

import gc
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedet_runtime import CheckFailedError, Detector, EdgedetError
from edgedet_runtime import detector as detector_module
from edgedet_runtime.bundle import signature as signature_module
from edgedet_runtime.bundle.plain_files import read_plain_file
from edgedet_runtime.bundle.signature import SIGNATURE, sign_bundle
from edgedet_runtime.choices import EngineName
from edgedet_runtime.doctor import examine
from edgedet_runtime.engines import load_engine
from edgedet_runtime.engines.model_source import ModelContent
from tests.cli.colors import solid, spec, write_color_model

RED = solid((0, 0, 255))
ENGINES: list[EngineName] = ["onnxruntime", "openvino", "opencv"]


@pytest.fixture
def signed(tmp_path: Path, key: Path, device: Path) -> Path:
    """Return a signed bundle with an ONNX file and an IR of the color detector."""
    ov = pytest.importorskip("openvino")
    folder = tmp_path / "signed"
    folder.mkdir()
    write_color_model(folder / "model.onnx")
    network = ov.Core().read_model(folder / "model.onnx")
    network.set_rt_info(spec().to_json(), ["edgedet"])
    (folder / "ir").mkdir()
    ov.save_model(network, folder / "ir/model.xml", compress_to_fp16=False)
    entries: list[dict[str, Any]] = []
    for name in ("model.onnx", "ir/model.xml", "ir/model.bin"):
        content = (folder / name).read_bytes()
        entry = {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        entries.append(entry | ({} if name.endswith(".bin") else {"precision": "fp32"}))
    (folder / "manifest.json").write_text(json.dumps({"files": entries}))
    sign_bundle(folder, key)
    return folder


def spoil(folder: Path) -> None:
    """Exchange every file of a bundle."""
    for path in folder.rglob("*.*"):
        path.unlink()
        path.write_bytes(b"<net>something else")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("whole", [True, False])
def test_files_exchanged_after_the_check_are_not_used(
    signed: Path, engine: EngineName, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = "ir/model.xml" if engine == "openvino" else "model.onnx"
    with Detector(signed if whole else signed / file, engine=engine, threads=1) as detector:
        expected = detector(RED)
    assert len(expected) == 1
    real = load_engine
    sources = []

    def load(name: EngineName, source: Any, *rest: Any, **options: Any) -> Any:
        sources.append(source)
        spoil(signed)
        return real(name, source, *rest, **options)

    monkeypatch.setattr(detector_module, "load_engine", load)
    with Detector(signed if whole else signed / file, engine=engine, threads=1) as detector:
        assert detector(RED) == expected
        assert detector.model_file.path == signed / file
    assert isinstance(sources[0], ModelContent)
    assert (sources[0].weights is not None) == (engine == "openvino")


@pytest.mark.parametrize("name", ["read_plain_file", "sha256_of_plain_file", "parse_manifest"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_exchanged_at_any_step_is_refused_or_never_used(
    signed: Path, engine: EngineName, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the n-th read everything is exchanged: either what was read is what was signed, or nothing opens."""
    originals = {path: path.read_bytes() for path in signed.rglob("*.*")}
    outcomes = []
    for n in range(8):
        for path, content in originals.items():
            path.write_bytes(content)
        with monkeypatch.context() as patched:
            patched.setattr(signature_module, name, _then(getattr(signature_module, name), n, lambda: spoil(signed)))
            try:
                with Detector(signed, engine=engine, threads=1) as detector:
                    outcomes.append([box.name for box in detector(RED)])
            except EdgedetError:
                outcomes.append([])
    assert outcomes[-1] == ["red"]
    assert all(outcome in (["red"], []) for outcome in outcomes)


def _then(real: Callable[..., Any], n: int, act: Callable[[], None]) -> Callable[..., Any]:
    calls = iter(range(10**6))

    def call(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        if next(calls) == n:
            act()
        return result

    return call


@pytest.mark.parametrize("engine", ENGINES)
def test_the_content_is_not_kept_beside_the_engine(
    signed: Path, engine: EngineName, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: list[bytes] = []
    real = read_plain_file

    def read(folder: Path, path: str, *, limit: int) -> bytes:
        content = real(folder, path, limit=limit)
        if path in ("model.onnx", "ir/model.xml", "ir/model.bin"):
            contents.append(content)
        return content

    monkeypatch.setattr(signature_module, "read_plain_file", read)
    with Detector(signed, engine=engine, threads=1) as detector:
        assert len(detector(RED)) == 1
        gc.collect()
        assert len(contents) == (2 if engine == "openvino" else 1)
        alone = references([bytes(1000)])
        assert [references([contents.pop()]) for _ in range(len(contents))] == [alone] * (1 + (engine == "openvino"))


def references(only: list[bytes]) -> int:
    """Return how many hold an object besides the given list."""
    return sys.getrefcount(only.pop())


def test_doctor_and_layer_profiles_load_what_was_verified(
    bundle: Path, key: Path, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    from edgedet_runtime.profiling.session import ProfileConfig, profile_model

    real = onnxruntime.InferenceSession
    given: list[Any] = []

    def session(model: Any, *rest: Any, **options: Any) -> Any:
        given.append(model)
        return real(model, *rest, **options)

    sign_bundle(bundle, key, version=1)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    content = (bundle / "model.onnx").read_bytes()
    assert examine(bundle, engine="onnxruntime", threads=1).exit_code == 0
    assert len(given) >= 3
    assert set(given) == {content}
    given.clear()
    profile_model(bundle, ProfileConfig(engines=("onnxruntime",), threads=(1,), runs=2, cold_starts=0))
    assert given.count(content) >= 2
    assert not [model for model in given if str(bundle) in str(model)]  # the machine's peaks have models of their own


def test_weights_that_no_manifest_lists_are_refused(signed: Path, key: Path) -> None:
    manifest = json.loads((signed / "manifest.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if not file["path"].endswith(".bin")]
    (signed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckFailedError, match=r"not signed: ir/model\.bin: is not in the manifest"):
        sign_bundle(signed, key)
    assert (signed / SIGNATURE).exists()


def test_a_device_without_a_key_loads_the_file_itself(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEDET_PUBLIC_KEY")
    sources = []
    real = load_engine

    def load(name: EngineName, source: Any, *rest: Any, **options: Any) -> Any:
        sources.append(source)
        return real(name, source, *rest, **options)

    monkeypatch.setattr(detector_module, "load_engine", load)
    Detector(signed, threads=1).close()
    assert sources == [signed / "model.onnx"]
