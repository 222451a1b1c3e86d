"""``edgedet docker``: the context is complete, the command is right, and what cannot be built is refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgedet.device.docker_context import Image, build_command, choose_engine, write_context
from edgedet_runtime import CheckFailedError, InputError
from tests.cli.colors import refused, run, run_json

REPOSITORY = Path(__file__).resolve().parents[2]


def image(bundle: Path, **changes: object) -> Image:
    """Return an arm64 image, with changes."""
    settings: dict[str, object] = {"platforms": ("linux/arm64",), "engine": "onnxruntime", "tag": "app:1"}
    return Image(bundle=bundle, **{**settings, **changes})  # type: ignore[arg-type]


def copied_by(dockerfile: str, *, unless_stage: str) -> list[str]:
    """Return what a Dockerfile copies from its context, without a stage that devices do not need."""
    sources: list[str] = []
    stage = ""
    for line in dockerfile.splitlines():
        words = line.split()
        if words[:1] == ["FROM"]:
            stage = words[-1]
        if words[:1] == ["COPY"] and not words[1].startswith("--from") and stage != unless_stage:
            sources += words[1:-1]
    return sources


def test_context_holds_all_that_the_dockerfile_copies(bundle: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write_context(image(bundle), context)
    sources = copied_by((context / "docker/Dockerfile").read_text(), unless_stage="export-application")
    assert "edgedet" in sources
    for source in sources:
        assert (context / source.replace("${BUNDLE}", "bundle")).exists(), source
    assert (context / "bundle/model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()
    assert not list(context.rglob("*.pyc"))
    assert not [p for p in context.rglob("*") if not p.stat().st_mode & stat.S_IROTH]


def test_repository_is_a_context_too() -> None:
    sources = copied_by((REPOSITORY / "docker/Dockerfile").read_text(), unless_stage="")
    for source in sources:
        assert (REPOSITORY / source.replace("${BUNDLE}/", "docker/no-bundle")).exists(), source


def test_packages_of_the_context_run_without_this_installation(bundle: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write_context(image(bundle), context)
    from application import install_application  # type: ignore[import-not-found]
    from platforms import SITE  # type: ignore[import-not-found]

    install_application(context, tmp_path / "root", with_export=False)
    code = "import edgedet.cli, edgedet_runtime as r, importlib.metadata as m; print(r.__file__, m.version('edgedet'))"
    path = f"import sys; sys.path.insert(0, {str(tmp_path / 'root' / SITE)!r}); {code}"
    said = subprocess.run([sys.executable, "-c", path], capture_output=True, text=True, check=True).stdout
    assert said.startswith(str(tmp_path / "root"))
    assert said.split()[1][0].isdigit()


def test_older_context_is_replaced_and_anything_else_is_not(bundle: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    write_context(image(bundle), context)
    (context / "left over").touch()
    write_context(image(bundle), context)
    assert not (context / "left over").exists()
    with pytest.raises(InputError, match="free place"):
        write_context(image(bundle), bundle.parent)
    with pytest.raises(InputError):
        write_context(image(bundle), bundle)
    assert (bundle / "manifest.json").exists()


def test_damaged_bundle_and_missing_engine_are_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected files for openvino"):
        write_context(image(bundle, engine="openvino"), tmp_path / "context")
    (bundle / "model.onnx").write_bytes(b"x")
    with pytest.raises(CheckFailedError, match=r"model\.onnx"):
        write_context(image(bundle), tmp_path / "context")
    assert not (tmp_path / "context").exists()


@pytest.mark.parametrize("name", ["plan.json", "manifest.sig"])
def test_what_no_manifest_lists_is_copied_up_to_a_bound(bundle: Path, tmp_path: Path, name: str) -> None:
    with (bundle / name).open("wb") as file:
        file.truncate(1 << 40)
    said = f"{bundle / name}: cannot be read (expected at most 64 MiB, got more)"
    refused(run("docker", bundle, "--no-run", "--out", tmp_path / "image"), said)
    assert not (tmp_path / "image").exists()


def test_armv7_takes_opencv_and_nothing_else(bundle: Path) -> None:
    assert choose_engine(bundle, ("linux/arm/v7",)) == "opencv"
    assert choose_engine(bundle, ("linux/arm64",)) == "onnxruntime"
    refused(run("docker", bundle, "--platform", "linux/arm/v7", "--engine", "onnxruntime"), "32-bit ARM", "opencv")


@pytest.mark.parametrize(
    "options",
    [["--platform", "linux/mips"], ["--engine", "tflite"], ["--tag", "-x"], ["--tag", "two words"]],
)
def test_nonsense_is_refused_in_one_line(bundle: Path, options: list[str]) -> None:
    refused(run("docker", bundle, "--no-run", *options), options[0])


def test_commands(bundle: Path) -> None:
    one = build_command(image(bundle, build_args=("BUILD_IMAGE=b",), secrets=("id=ca,src=ca.pem",)), Path("ctx"))
    assert one[:3] == ["docker", "buildx", "build"]
    assert one[-1] == "ctx"
    assert "--load" in one
    for pair in (
        ("--platform", "linux/arm64"), ("--tag", "app:1"), ("--build-arg", "ENGINE=onnxruntime"),
        ("--build-arg", "BUNDLE=bundle"), ("--build-arg", "BUILD_IMAGE=b"), ("--secret", "id=ca,src=ca.pem"),
    ):  # fmt: skip
        assert any(one[i : i + 2] == list(pair) for i in range(len(one))), pair
    several = image(bundle, platforms=("linux/amd64", "linux/arm64"))
    assert "--load" not in build_command(several, Path("ctx"))
    with pytest.raises(InputError, match="buildx"):
        build_command(several, Path("ctx"), buildx=False)


def test_image_with_a_key_takes_only_a_bundle_signed_with_it(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgedet_runtime.bundle.keys import make_keys
    from edgedet_runtime.bundle.signature import sign_bundle

    public = make_keys(tmp_path / "owner.pem")
    with pytest.raises(CheckFailedError, match="unsigned"):
        write_context(image(bundle, public_key=public), tmp_path / "context")
    sign_bundle(bundle, tmp_path / "owner.pem")
    write_context(image(bundle, public_key=public), tmp_path / "context")
    assert (tmp_path / "context/docker/keys/device.pub").read_bytes() == public.read_bytes()
    assert (tmp_path / "context/bundle/manifest.sig").is_file()
    assert not list((tmp_path / "context").rglob("*.pem"))
    command = build_command(image(bundle, public_key=public), tmp_path / "context")
    assert "SIGN=1" in command
    assert "PUBLIC_KEY=/etc/edgedet/keys/device.pub" in command


def test_a_key_that_is_set_here_is_not_passed_over(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    from edgedet_runtime.bundle.keys import KEY_VARIABLE, make_keys
    from edgedet_runtime.bundle.signature import sign_bundle

    monkeypatch.setenv(KEY_VARIABLE, str(make_keys(tmp_path / "owner.pem")))
    out = ("--out", tmp_path / "context", "--no-run")
    refused(run("docker", bundle, *out), KEY_VARIABLE, "unsigned", "bundle sign", code=1)
    assert not (tmp_path / "context").exists()
    sign_bundle(bundle, tmp_path / "owner.pem")
    assert "give --public-key" in run("docker", bundle, *out).stderr
    assert "--public-key" not in run("docker", bundle, *out, "--public-key", tmp_path / "owner.pub").stderr
    monkeypatch.setenv(KEY_VARIABLE, "")
    refused(run("docker", bundle, *out), KEY_VARIABLE, "empty")


def test_a_folder_of_keys_goes_into_the_image(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from edgedet_runtime.bundle.keys import make_keys, read_public_keys
    from edgedet_runtime.bundle.signature import sign_bundle

    (tmp_path / "keys").mkdir()
    for name in ("old", "new"):
        make_keys(tmp_path / f"keys/{name}.pem")
    sign_bundle(bundle, tmp_path / "keys/new.pem")
    write_context(image(bundle, public_key=tmp_path / "keys"), tmp_path / "context")
    given, packed = (read_public_keys([p]) for p in (tmp_path / "keys", tmp_path / "context/docker/keys/device.pub"))
    assert {k.fingerprint for k in packed} == {k.fingerprint for k in given}
    assert not list((tmp_path / "context").rglob("*.pem"))


def test_the_variable_is_set_in_images_with_a_key_only() -> None:
    stages = (REPOSITORY / "docker/Dockerfile").read_text().split("\nFROM ")
    named = [stage.splitlines()[0] for stage in stages if "EDGEDET_PUBLIC_KEY=" in stage]
    assert named == ["device-open AS device-open-signed"]
    assert stages[-1].strip() == "device-open${PUBLIC_KEY:+-signed} AS device"


def test_command_line_writes_and_prints(bundle: Path, tmp_path: Path) -> None:
    document = run_json("docker", bundle, "--tag", "app:1", "--out", tmp_path / "context", "--no-run")
    assert document["built"] is False
    assert document["command"][:3] == ["docker", "buildx", "build"]
    assert (tmp_path / "context/bundle/manifest.json").is_file()


def fake_docker(folder: Path, *, buildx: bool, fails: bool = False) -> Path:
    """Write a docker that notes how it is called; return the file of its notes."""
    notes, client = folder / "calls", folder / "bin/docker"
    client.parent.mkdir()
    client.write_text(
        f"""#!/bin/sh
echo "$DOCKER_BUILDKIT $*" >> {notes}
case "$1 $2" in
    "buildx version") exit {0 if buildx else 1};;
    "buildx build" | build*) exit {7 if fails else 0};;
esac
"""
    )
    client.chmod(0o755)
    return notes


@pytest.mark.parametrize("buildx", [True, False])
def test_engine_that_answers_builds(
    bundle: Path, tmp_path: Path, buildx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = fake_docker(tmp_path, buildx=buildx)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    document = run_json("docker", bundle, "--tag", "app:1", "--out", tmp_path / "context")
    assert document["built"] is True
    last = notes.read_text().splitlines()[-1]
    assert last.startswith("1 buildx build " if buildx else "1 build ")
    assert "--platform linux/arm64" in last
    assert last.endswith(str(tmp_path / "context"))


def test_failed_build_and_missing_engine_are_one_line(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(tmp_path, buildx=True, fails=True)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    refused(run("docker", bundle, "--out", tmp_path / "context", "--json"), "edgedet-app:1", "code 7")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    refused(run("docker", bundle, "--out", tmp_path / "context", "--run", "--json"), "--run", "docker engine")


@pytest.mark.slow
def test_wheel_carries_the_image_files(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    wheel = next(iter(WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in ("LICENSE", "docker/Dockerfile", "docker/assemble/__main__.py", "docker/locks/onnxruntime-arm64.txt"):
        assert f"edgedet/image/{name}" in names
    assert not [name for name in names if name.endswith(".pyc")]
