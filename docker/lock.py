"""Write ``docker/locks``: the exact wheels and Debian packages of every image, by SHA-256.

::

    python docker/lock.py                      every wheel lock
    python docker/lock.py onnxruntime-arm64    only this one
    python docker/lock.py --debian             what apt resolves today (on Debian bookworm), per platform

What is asked for stands in ``pyproject.toml``; pip resolves it for each platform and tells the hashes. torch's CPU
wheels lie outside the main index: give pip the place (``PIP_FIND_LINKS`` or ``PIP_EXTRA_INDEX_URL``) before locking
``export-amd64``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "assemble"))

from debian import download  # noqa: E402
from platforms import ENGINES, FROM_DEBIAN, PLATFORMS, Platform, RefusedError, debian_packages, lock_names  # noqa: E402
from wheels import pip_target_options  # noqa: E402

LOCKS = HERE / "locks"

_PIP_FOR = """
import platform, sys
platform.machine = lambda: "{machine}"  # else pip would judge conditional requirements by this machine
from pip._internal.cli.main import main
sys.exit(main())
"""


def requirements(platform: Platform, what: str, pyproject: Path) -> list[str]:
    """Return what an image asks of pip, as ``pyproject.toml`` has it.

    Args:
        platform: Of the image.
        what: An engine, ``export`` or ``sign``.
        pyproject: Path of the project file.
    """
    import tomllib

    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    if what == "sign":
        return list(extras["sign"])
    base = list(project["dependencies"])
    if what in ("openvino", "export"):
        base += extras[what]
    leave_out = {"openvino": {"onnxruntime"}, "opencv": {"onnxruntime"}}.get(what, set())
    if (platform.key, what) in FROM_DEBIAN:
        leave_out = leave_out | {"numpy", "opencv-python-headless"}
    return [text for text in base if re.split(r"[<>=!~\[; ]", text)[0] not in leave_out]


def resolve(platform: Platform, wishes: list[str]) -> str:
    """Return a lock: one line per wheel with its version and hash."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = _PIP_FOR.format(machine=platform.machine)
        command = [sys.executable, "-c", pip, "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--report", str(report), "--target", folder, *pip_target_options(platform), *wishes]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = []
    for item in found:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        digest = item["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{re.sub(r'[-_.]+', '-', name).lower()}=={version} --hash=sha256:{digest}")
    return "\n".join(sorted(lines)) + "\n"


def lock_debian(platform: Platform) -> str:
    """Return names and hashes of all Debian packages that any image of a platform takes."""
    lines: set[str] = set()
    for engine in ENGINES:
        try:
            lock_names(platform, engine, sign=False)
        except RefusedError:
            continue
        with tempfile.TemporaryDirectory() as folder:
            for path in download(platform, debian_packages(platform, engine, sign=True), Path(folder)):
                lines.add(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}")
    return "\n".join(sorted(lines)) + "\n"


def main() -> None:
    """Write the locks that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="such as onnxruntime-arm64; default: all")
    parser.add_argument("--debian", action="store_true", help="lock Debian's packages instead")
    arguments = parser.parse_args()
    pyproject = HERE.parent / "pyproject.toml"
    for platform in PLATFORMS.values():
        if arguments.debian:
            if not arguments.names or platform.key in arguments.names:
                _write(LOCKS / f"debian-{platform.key}.txt", lock_debian(platform))
            continue
        for what in (*ENGINES, "sign"):
            name = f"{what}-{platform.key}"
            if arguments.names and name not in arguments.names:
                continue
            if not _exists(platform, what):
                continue
            _write(LOCKS / f"{name}.txt", resolve(platform, requirements(platform, what, pyproject)))


def _exists(platform: Platform, what: str) -> bool:
    """Tell whether an image of this platform takes this lock."""
    sign = what == "sign"
    try:
        names = lock_names(platform, "opencv" if sign else what, sign=sign)
    except RefusedError:
        return False
    return f"{what}-{platform.key}.txt" in names


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    sys.stderr.write(f"{path.name}: {len(text.splitlines())}\n")


if __name__ == "__main__":
    main()
