"""Prove the arm64 image on this x86-64 Debian, without a registry: build it, run it emulated, compare with x86.

::

    apt-get install --no-install-recommends qemu-user-static mmdebstrap docker.io
    python docker/prove_arm64.py BUNDLE PHOTO [--work DIR] [--key PRIVATE.pem]

Needs root and some 3 GB. It makes a base to build on, starts a docker engine of its own, builds linux/amd64 and
linux/arm64 from the one Dockerfile through ``edgedet docker``, then

1. runs ``edgedet doctor`` in both, read-only, without network, as the image's own user;
2. detects in the photo in both and compares: the same classes, boxes within 0.5 px, scores within 0.01;
3. compares decoded, letterboxed and resized pixels, byte by byte, so that a differing resize is told apart from a
   differing engine.

The result is one JSON document on standard output; exit 0 if all holds. Times under emulation mean nothing, and none is
reported. Only under emulation an ARM ``/proc/cpuinfo`` is bound over the host's, which would mislead ONNX Runtime.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BOX_PX, SCORE = 0.5, 0.01
BUILD_BASE = "edgedet-build:bookworm"
_RUN_LIMIT_S = 900
_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
_PIXELS = """
import base64, json, zlib
import cv2, numpy
from edgedet_runtime.letterbox import Letterbox
from edgedet_runtime.bundle.model_files import find_model_file
spec = find_model_file("/bundle").spec
pack = lambda array: base64.b64encode(zlib.compress(numpy.ascontiguousarray(array).tobytes())).decode()
image = cv2.imread("/photo")
fit = Letterbox.fit(image.shape[:2], spec.input.size_hw, spec.resize)
made_up = numpy.random.default_rng(0).integers(0, 256, (97, 131, 3), numpy.uint8)
seen = {"decoded": pack(image), "letterboxed": pack(fit.apply(image))}
for size in SIZES:
    for name in ("LINEAR", "LINEAR_EXACT", "AREA"):
        resized = cv2.resize(made_up, size, interpolation=getattr(cv2, "INTER_" + name))
        seen["noise 131x97 to %dx%d, %s" % (*size, name)] = pack(resized)
print(json.dumps(seen))
""".replace("SIZES", "[(96, 71), (64, 96), (65, 48), (262, 194), (200, 111)]")


class Docker:
    """A docker engine of this script's own, on a socket in its work folder."""

    def __init__(self, folder: Path) -> None:
        """Remember where it lives."""
        self.folder = folder
        # Debian's client, whatever else may be called docker here
        self.env = {
            **os.environ,
            "PATH": f"/usr/bin:/usr/sbin:{os.environ['PATH']}",
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "DOCKER_BUILDKIT": "1",
            "BUILDKIT_PROGRESS": "plain",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Start the engine; end it, and everything in it, in any case."""
        command: list[str | Path] = [
            "dockerd",
            "--data-root",
            self.folder / "root",
            "--exec-root",
            self.folder / "exec",
        ]
        command += ["-H", self.env["DOCKER_HOST"], "-p", self.folder / "pid", "--storage-driver", "overlay2"]
        command += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--bridge=none"]
        with (self.folder / "log").open("wb") as log:
            engine = subprocess.Popen(command, stdout=log, stderr=log, env=self.env, start_new_session=True)
        try:
            for _ in range(60):
                if engine.poll() is not None or self("version", check=False).returncode == 0:
                    break
                time.sleep(0.5)
            self("version")
            yield
        finally:
            names = self("ps", "-aq", check=False).stdout.split()
            if names:
                self("rm", "-f", *names, check=False)
            engine.terminate()
            try:
                engine.wait(30)
            except subprocess.TimeoutExpired:
                engine.kill()
                engine.wait()

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the client."""
        return subprocess.run(
            ["docker", *arguments], env=self.env, capture_output=True, text=True, check=check, timeout=_RUN_LIMIT_S
        )

    def run(self, image: str, platform: str, mounts: list[str], *command: str, entrypoint: str = "edgedet") -> str:
        """Run a command in a fresh container, read-only and without network, and return its standard output."""
        name = f"prove-{os.getpid()}-{time.monotonic_ns()}"
        options = ["--init", "--read-only", "--network", "none", "--platform", platform, "--name", name, "--rm"]
        options += [
            "--env",
            "EDGEDET_STATE=none",
            "--env",
            "EDGEDET_TRIAL=never",
        ]  # these containers last for a command
        for mount in mounts:
            options += ["--volume", f"{mount}:ro"]
        try:
            done = self("run", *options, "--entrypoint", entrypoint, image, *command, check=False)
        except subprocess.TimeoutExpired:
            self("rm", "-f", name, check=False)
            raise
        if done.returncode:
            sys.stderr.write(done.stdout[-3000:] + done.stderr[-3000:])
            raise SystemExit(f"{image}: {' '.join(command)[:60]} ended with code {done.returncode}")
        return done.stdout


def say(text: str) -> None:
    """Tell what comes next, on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def register_emulator() -> None:
    """Let the kernel start arm64 programs with qemu."""
    place = Path("/proc/sys/fs/binfmt_misc")
    if not (place / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(place)], check=True)
    if not (place / "qemu-aarch64").exists():
        rule = Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_bytes()
        (place / "register").write_bytes(rule.strip())


def make_base(docker: Docker, work: Path) -> None:
    """Make what the Dockerfile builds on: a native Debian with apt, Python and pip."""
    archive = work / "base.tar"
    if not archive.exists():
        say("making a base with mmdebstrap")
        packages = "python3-minimal,python3-pip,python3-distutils,ca-certificates"
        command = ["mmdebstrap", "--mode=root", "--format=tar", "--variant=apt", f"--include={packages}"]
        command += ['--aptopt=APT::Install-Recommends "false"', "--quiet", "bookworm", f"{archive}.part"]
        subprocess.run(command, check=True, stdout=2, timeout=_RUN_LIMIT_S)
        Path(f"{archive}.part").rename(archive)
    docker("import", str(archive), BUILD_BASE)


def build(docker: Docker, bundle: Path, platform: str, work: Path, extra: list[str]) -> str:
    """Build an image through ``edgedet docker`` and return its name."""
    tag = f"proof:{platform.split('/')[1]}"
    say(f"building {platform}")
    pip_conf = work / "pip.conf"
    pip_conf.write_text("[global]\ncert = /run/secrets/ca\ntimeout = 180\n", encoding="utf-8")
    ca = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    command = [sys.executable, "-m", "edgedet", "docker", str(bundle), "--platform", platform, "--tag", tag, "--run"]
    command += ["--out", str(work / "context"), "--build-arg", f"BUILD_IMAGE={BUILD_BASE}", "--engine", "onnxruntime"]
    command += ["--secret", f"id=pipconf,src={pip_conf}", "--secret", f"id=ca,src={ca}", "--network", "host", *extra]
    with (work / f"build-{platform.split('/')[1]}.log").open("wb") as log:
        subprocess.run(command, env=docker.env, check=True, stdout=log, stderr=log, timeout=_RUN_LIMIT_S)
    return tag


def difference(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare two lists of detections of the command line, best first; pairs are formed by rank within a class."""

    def key(box: dict[str, Any]) -> tuple[int, float]:
        return box["class_id"], -box["score"]

    classes = [sorted(box["class_id"] for box in boxes) for boxes in (one, other)]
    pairs = list(zip(sorted(one, key=key), sorted(other, key=key), strict=False))
    box_px = max((abs(a - b) for x, y in pairs for a, b in zip(x["box_xyxy"], y["box_xyxy"], strict=True)), default=0.0)
    score = max((abs(x["score"] - y["score"]) for x, y in pairs), default=0.0)
    holds = classes[0] == classes[1] and len(one) > 0 and box_px <= BOX_PX and score <= SCORE
    return {"objects": [len(one), len(other)], "same_classes": classes[0] == classes[1], "box_px": box_px,
            "score": score, "holds": holds}  # fmt: skip


def byte_difference(one: str, other: str) -> dict[str, float]:
    """Compare two packed arrays of bytes: the largest difference, and the share of bytes that differ."""
    a, b = (zlib.decompress(base64.b64decode(text)) for text in (one, other))
    if len(a) != len(b):
        return {"lsb": 255, "share": 1.0}
    steps = [abs(x - y) for x, y in zip(a, b, strict=True)]
    return {"lsb": max(steps), "share": sum(step > 0 for step in steps) / len(steps)}


def prove(bundle: Path, photo: Path, work: Path, conf: float, extra: list[str]) -> dict[str, Any]:
    """Build, run and compare."""
    docker = Docker(work)
    register_emulator()
    cpuinfo = work / "cpuinfo"
    cpuinfo.write_text(_CPUINFO, encoding="utf-8")
    seen: dict[str, dict[str, Any]] = {}
    with docker.running():
        make_base(docker, work)
        for platform in ("linux/amd64", "linux/arm64"):
            tag = build(docker, bundle, platform, work, extra)
            facts = json.loads(docker("image", "inspect", tag).stdout)[0]
            mounts = [f"{photo.resolve()}:/photo"]
            if platform == "linux/arm64":
                mounts.append(f"{cpuinfo}:/proc/cpuinfo")
            say(f"running {tag}")
            code = "import os; print(os.uname().machine, os.getuid())"
            machine, user = docker.run(tag, platform, mounts, "-c", code, entrypoint="python3").split()
            doctor = json.loads(docker.run(tag, platform, mounts, "doctor", "/bundle", "--json", "--threads", "1"))
            options = ["--json", "--threads", "1", "--conf", str(conf)]
            found = json.loads(docker.run(tag, platform, mounts, "detect", "/bundle", "/photo", *options))
            pixels = json.loads(docker.run(tag, platform, mounts, "-c", _PIXELS, entrypoint="python3"))
            seen[platform] = {
                "architecture": facts["Architecture"],
                "machine": machine,
                "user": int(user),
                "bytes_all_layers": facts["Size"],
                "doctor": doctor,
                "detections": found["images"][0]["detections"],
                "pixels": pixels,
            }
    native, foreign = seen["linux/amd64"], seen["linux/arm64"]
    compared = difference(native["detections"], foreign["detections"])
    pixels = [images.pop("pixels") for images in (native, foreign)]
    differ = {name: byte_difference(pixels[0][name], pixels[1][name]) for name in pixels[0]}
    checks = {
        "arm64_really": foreign["machine"] == "aarch64" and foreign["architecture"] == "arm64",
        "amd64_really": native["machine"] == "x86_64" and native["architecture"] == "amd64",
        "not_root": native["user"] > 0 and foreign["user"] > 0,
        "doctor_fit": native["doctor"]["exit_code"] == 0 and foreign["doctor"]["exit_code"] == 0,
        "decoding_same_bits": differ["decoded"]["lsb"] == 0,
        "exact_and_area_same_bits": all(r["lsb"] == 0 for n, r in differ.items() if n.endswith(("EXACT", "AREA"))),
        "letterbox_within_1_lsb": differ["letterboxed"]["lsb"] <= 1,
        "detections_alike": compared["holds"],
    }
    return {
        "holds": all(checks.values()),
        "checks": checks,
        "difference": compared,
        "pixels": differ,
        "images": seen,
    }


def main() -> int:
    """Prove; 0 if all holds, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="with a small input, such as 96x64: the emulator is slow")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--work", type=Path, help="keeps the base for the next time; default: a temporary folder")
    parser.add_argument("--conf", type=float, default=0.25)
    parser.add_argument("extra", nargs="*", help="after --: more options for edgedet docker")
    arguments = parser.parse_args()
    missing = [name for name in ("dockerd", "mmdebstrap", "qemu-aarch64-static") if not shutil.which(name)]
    if missing or os.geteuid():
        raise SystemExit(f"needs root and {', '.join(missing) or 'nothing else'}: see --help")
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedet-proof-")))
        work.mkdir(parents=True, exist_ok=True)
        result = prove(arguments.bundle, arguments.photo, work.resolve(), arguments.conf, arguments.extra)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0 if result["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
