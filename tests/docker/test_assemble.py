"""docker/assemble, the locks and the bake file: what can be checked without building an image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from application import check_bundle  # type: ignore[import-not-found]
from platforms import ENGINES, PLATFORMS, SITE, RefusedError, find_platform, lock_names  # type: ignore[import-not-found]
from sbom import make_sbom  # type: ignore[import-not-found]
from wheels import pip_target_options  # type: ignore[import-not-found]

from tests.cli.colors import seal

DOCKER = Path(__file__).resolve().parents[2] / "docker"
LOCK_LINE = re.compile(r"[a-z0-9-]+==\S+ --hash=sha256:[0-9a-f]{64}")

CASES = [(p, e) for p in PLATFORMS.values() for e in ENGINES if p.key != "armv7" or e == "opencv"]


@pytest.mark.parametrize(("platform", "engine"), CASES, ids=lambda v: getattr(v, "key", v))
def test_every_image_has_its_locks_and_every_line_a_hash(platform: object, engine: str) -> None:
    for name in lock_names(platform, engine, sign=True):
        lines = (DOCKER / "locks" / name).read_text().splitlines()
        assert lines
        for line in lines:
            assert LOCK_LINE.fullmatch(line), f"{name}: {line}"
        names = [line.split("==")[0] for line in lines]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("key", ["amd64", "arm64"])
def test_device_locks_hold_the_engine_and_no_torch(key: str) -> None:
    for engine, package in (("onnxruntime", "onnxruntime"), ("openvino", "openvino")):
        text = (DOCKER / "locks" / f"{engine}-{key}.txt").read_text()
        for name in ("numpy", "opencv-python-headless", package, "typer", "rich"):
            assert re.search(rf"^{name}==", text, re.MULTILINE), name
        assert not re.search(r"^(torch|onnx|nncf)==", text, re.MULTILINE)


def test_platforms_by_dockers_names() -> None:
    assert find_platform("arm", "v7").machine == "armv7l"
    assert find_platform("arm64", "v8") is find_platform("arm64")
    with pytest.raises(RefusedError, match="linux/riscv64"):
        find_platform("riscv64")
    assert "manylinux_2_35_aarch64" in pip_target_options(find_platform("arm64"))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "export"])
def test_armv7_is_refused_with_a_sentence(engine: str) -> None:
    command = [sys.executable, str(DOCKER / "assemble"), "wheels", "--arch", "arm", "--variant", "v7"]
    done = subprocess.run(
        [*command, "--engine", engine, "--out", "/nonexistent"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "32-bit ARM" in done.stderr
    assert "ENGINE=opencv" in done.stderr


def test_bundle_is_checked_before_it_goes_in(bundle: Path, tmp_path: Path) -> None:
    assert "2 files" in check_bundle(bundle)
    assert "mount" in check_bundle(DOCKER / "no-bundle")
    (bundle / "golden.npz").write_bytes(b"x")
    with pytest.raises(RefusedError, match=r"golden\.npz"):
        check_bundle(bundle)
    seal(bundle)
    (bundle / "model.onnx").unlink()
    with pytest.raises(RefusedError, match=r"model\.onnx"):
        check_bundle(bundle)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.png").touch()
    with pytest.raises(RefusedError, match=r"photo\.png"):
        check_bundle(tmp_path / "other")


def made_root(folder: Path) -> Path:
    """Return a root with one Debian and one Python package."""
    status = folder / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    (status / "libc6").write_text(
        f"Package: libc6\nVersion: 2.36-9+deb12u14\nArchitecture: arm64\nX-Archive-SHA256: {'a' * 64}\n"
    )
    metadata = folder / SITE / "numpy-2.4.6.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.4\nName: numpy\nVersion: 2.4.6\nLicense: BSD-3-Clause\n")
    return folder


def test_sbom_names_what_is_there_and_is_reproducible(bundle: Path, tmp_path: Path) -> None:
    root, lock = made_root(tmp_path / "root"), DOCKER / "locks/onnxruntime-arm64.txt"
    text = make_sbom(find_platform("arm64"), "onnxruntime", [root], bundle, [lock])
    assert text == make_sbom(find_platform("arm64"), "onnxruntime", [root], bundle, [lock])
    found = {c["name"]: c for c in json.loads(text)["components"]}
    assert found["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=arm64&distro=debian-12"
    assert found["numpy"]["licenses"] == [{"license": {"name": "BSD-3-Clause"}}]
    assert found["numpy"]["hashes"][0]["content"] in lock.read_text()
    assert found["bundle"]["type"] == "machine-learning-model"


@pytest.mark.parametrize("key", ["license", "licence"])
def test_sbom_names_the_license_of_the_weights(key: str, tmp_path: Path) -> None:
    """The manifest's key since version 2, and the one before."""
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "codes", "source": {key: "AGPL-3.0"}, "files": []}))
    root, lock = made_root(tmp_path / "root"), DOCKER / "locks/onnxruntime-arm64.txt"
    text = make_sbom(find_platform("arm64"), "onnxruntime", [root], tmp_path, [lock])
    found = {c["name"]: c for c in json.loads(text)["components"]}
    assert found["codes"]["licenses"] == [{"license": {"name": "AGPL-3.0"}}]


def test_sbom_is_valid_cyclonedx(bundle: Path, tmp_path: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion

    text = make_sbom(find_platform("arm64"), "onnxruntime", [made_root(tmp_path / "root")], bundle, [])
    problem = validation.JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
    assert problem is None, problem


def test_bake_file_builds_every_variant_for_its_platforms() -> None:
    bake = json.loads((DOCKER / "docker-bake.json").read_text())
    targets = bake["target"]
    dockerfile = (DOCKER / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM .* AS (\S+)$", dockerfile, re.MULTILINE))
    arguments = set(re.findall(r"^ARG (\w+)", dockerfile, re.MULTILINE))
    for group in bake["group"].values():
        assert set(group["targets"]) <= set(targets)
    known = {platform.name for platform in PLATFORMS.values()}
    for name, target in targets.items():
        merged = dict(target)
        for parent in target.get("inherits", []):
            merged = {**targets[parent], **merged, "args": {**targets[parent]["args"], **target["args"]}}
        assert merged["target"] in stages
        assert (DOCKER.parent / merged["dockerfile"]).is_file()
        assert set(merged["args"]) <= arguments
        assert set(merged["platforms"]) <= known
        assert name.startswith("_") or merged["tags"]
        if not name.startswith("_"):
            for platform in PLATFORMS.values():
                if platform.name in merged["platforms"]:
                    lock_names(platform, merged["args"]["ENGINE"], sign=False)
    built = {p for t in targets.values() for p in t.get("platforms", [])}
    assert built == known


def test_dockerfile_keeps_nothing_that_builds() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    device = text[text.index("FROM scratch AS device") :]
    assert "RUN" not in re.findall(r"^(\w+)", device, re.MULTILINE)
    assert "USER 65532:65532" in device
    assert 'CMD ["edgedet", "doctor", "/bundle"]' in device
    assert not re.search(r"(index-url|extra-index|https?://)", text)
