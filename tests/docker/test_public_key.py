"""A build argument chooses whether an image has a key; with one, it opens what is signed and not old."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from prove_arm64 import Docker, build, make_base  # type: ignore[import-not-found]

from tests.cli.colors import run
from tests.docker.test_prove_arm64 import _bundle

DOCKERFILE = (Path(__file__).resolve().parents[2] / "docker/Dockerfile").read_text(encoding="utf-8")
SAMPLES = Path(__file__).resolve().parents[2] / "models/edgedet_models/builtin/samples"


def stages() -> dict[str, str]:
    """Return name → text of each stage; what stands before the first is under an empty name."""
    parts = re.split(r"^FROM (?:--platform=\S+ )?\S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def base_of_device(public_key: str) -> str:
    """Return the stage that `device` starts from, as docker expands ``${NAME:+text}`` from arguments before FROM."""
    (base,) = re.findall(r"^FROM (\S+) AS device$", DOCKERFILE, flags=re.MULTILINE)
    return re.sub(r"\$\{PUBLIC_KEY:\+([^}]*)\}", lambda m: m.group(1) if public_key else "", base)


def test_the_argument_chooses_the_stage() -> None:
    found = stages()
    assert re.search(r"^ARG PUBLIC_KEY=$", found[""], flags=re.MULTILINE), "only there does FROM see it"
    assert list(found)[-1] == "device", "what docker builds by default"
    assert base_of_device("") == "device-open"
    signed = base_of_device("/etc/edgedet/keys/device.pub")
    assert signed in found
    assert "EDGEDET_PUBLIC_KEY=${PUBLIC_KEY}" in found[signed]
    assert "EDGEDET_PUBLIC_KEY" not in found["device-open"] + found["device"], "set and empty opens nothing"


def needed() -> None:
    """Skip where no image can be built."""
    if os.environ.get("EDGEDET_DOCKER") != "1":
        pytest.skip("docker: builds images for minutes; EDGEDET_DOCKER=1 runs it")
    missing = [name for name in ("dockerd", "mmdebstrap") if shutil.which(name) is None]
    if missing or os.geteuid():
        pytest.skip(f"docker: needs root and {', '.join(missing) or 'nothing else'} (see docker/prove_arm64.py)")
    pytest.importorskip("torch", reason="docker: exporting needs torch")
    pytest.importorskip("cryptography", reason="docker: signing needs cryptography")


@pytest.mark.docker
@pytest.mark.slow
def test_images_with_and_without_a_key(tmp_path: Path) -> None:
    needed()
    with tempfile.TemporaryDirectory(prefix="edgedet-") as short:  # sockets lie in it, whose paths have 107 characters
        _check_images(Path(os.environ.get("EDGEDET_DOCKER_WORK", short)), tmp_path)


def _check_images(work: Path, tmp_path: Path) -> None:
    docker: Any = Docker(work)
    unsigned, key = _bundle(tmp_path), tmp_path / "owner.pem"
    signed = tmp_path / "signed"
    shutil.copytree(unsigned, signed)
    assert run("bundle", "keygen", key).exit_code == 0
    assert run("bundle", "sign", signed, "--key", key, "--version", "3").exit_code == 0
    builds = {"open": (unsigned, []), "signed": (signed, ["--public-key", str(key.with_suffix(".pub"))])}
    with docker.running():
        make_base(docker, work)
        for name, (bundle, extra) in builds.items():
            tag = build(docker, bundle, "linux/amd64", work, extra)
            settings = json.loads(docker("image", "inspect", tag).stdout)[0]["Config"]["Env"]
            keys = [s for s in settings if s.startswith("EDGEDET_PUBLIC_KEY")]
            assert keys == (["EDGEDET_PUBLIC_KEY=/etc/edgedet/keys/device.pub"] if name == "signed" else [])
            _check_runs(docker, tag, unsigned, is_signed=name == "signed")


def _check_runs(docker: Any, tag: str, unsigned: Path, *, is_signed: bool) -> None:
    mounts = ["-v", f"{SAMPLES}:/in:ro", "-v", f"{unsigned}:/other:ro"]

    def detect(*options: str, bundle: str = "/bundle") -> subprocess.CompletedProcess[str]:
        base = ["run", "--rm", "--init", "--read-only", "--network", "none", *mounts, *options, tag]
        done: subprocess.CompletedProcess[str] = docker(*base, "detect", bundle, "/in", "--json", check=False)
        return done

    remembered = ["-v", f"state-{tag.partition(':')[2]}-{is_signed}:/state"]
    forgetful = detect()
    if is_signed:
        assert (forgetful.returncode, forgetful.stdout) == (2, "")
        assert "/state: version 3 cannot be remembered (Read-only file system)" in forgetful.stderr
        other = detect(*remembered, bundle="/other")
        assert other.returncode == 1
        assert "got an unsigned one" in other.stderr
    else:
        assert forgetful.returncode == 0
        assert "cannot be remembered (Read-only file system)" in forgetful.stderr
    for options in (["-e", "EDGEDET_STATE=none"], remembered, remembered):
        done = detect(*options)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["images"]
