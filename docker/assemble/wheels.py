"""The image's Python packages: wheels of the target, by hash, unpacked by a native pip, never compiled."""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

from platforms import PYTHON, SITE, Platform, RefusedError

__all__ = ["compile_tree", "install_wheels", "pip_target_options"]

_PRUNE = (
    "bin", "share", "include",
    "numpy/distutils", "numpy/f2py", "numpy/_pyinstaller", "numpy/_core/include", "numpy/_core/lib",
    "numpy/random/lib", "numpy/typing/tests",
    "onnxruntime/transformers", "onnxruntime/tools", "onnxruntime/quantization", "onnxruntime/datasets",
    "openvino/include", "openvino/cmake", "openvino/torch",
)  # fmt: skip
"""What a device never imports; a build host keeps everything."""

_PRUNE_FILES = ("*.pyi", "*.pxd", "*.a", "*.c", "*.cpp", "*.h", "*.lib")
_CALLS_HOME = ("openvino_telemetry", "openvino_telemetry-*.dist-info")
"""OpenVINO reports every import to its maker if it finds this package, and does without it if not."""
_NOT_COMPILED = re.compile(r"/pygments/(lexers|styles|formatters)/")
_NOT_LINKED = ("onnxruntime/capi/libonnxruntime.so*",)
"""onnxruntime's wheel holds the engine twice: in its Python module, which is used, and as a C library."""


def pip_target_options(platform: Platform) -> list[str]:
    """Return pip's options that choose wheels for the target rather than for this machine."""
    version = "".join(str(number) for number in PYTHON)
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    for abi in (f"cp{version}", "abi3", "none"):
        options += ["--abi", abi]
    for tag in platform.wheel_tags:
        options += ["--platform", tag]
    return options


def install_wheels(platform: Platform, locks: list[Path], out: Path, *, prune: bool) -> None:
    """Unpack the wheels that lock files name.

    Args:
        platform: The target.
        locks: Requirements with versions and hashes; complete, since pip resolves nothing.
        out: Folder to fill, the image's root.
        prune: Remove tests, headers and developer tools.

    Raises:
        RefusedError: A lock is missing.
        subprocess.CalledProcessError: pip failed; a hash that does not fit is one such case.
    """
    for lock in locks:
        if not lock.is_file():
            raise RefusedError(f"{lock.name}: expected this lock file, there is none: make it with docker/lock.py")
    site = out / SITE
    site.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--no-cache-dir"]
    command += ["--no-compile", "--disable-pip-version-check", "--root-user-action=ignore", "--quiet"]
    command += [*pip_target_options(platform), "--target", str(site)]
    for lock in locks:
        command += ["--requirement", str(lock)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    if prune:
        _prune(site)


def _prune(site: Path) -> None:
    for pattern in (*_PRUNE, *_CALLS_HOME):
        for path in site.glob(pattern):
            shutil.rmtree(path)
    for tests in [path for path in site.rglob("tests") if path.is_dir()]:
        shutil.rmtree(tests, ignore_errors=True)
    for pattern in (*_NOT_LINKED, *(f"**/{p}" for p in _PRUNE_FILES)):
        for path in site.glob(pattern):
            path.unlink()


def compile_tree(out: Path) -> None:
    """Write byte code beside every module, so that a read-only image starts as fast as a writable one.

    Byte code is the same for all architectures. It is never checked against its source (the image does not change),
    which also keeps it the same from build to build.

    Raises:
        RefusedError: This Python is another than the image's.
    """
    if sys.version_info[:2] != PYTHON:
        raise RefusedError(f"BUILD_IMAGE: expected Python {PYTHON[0]}.{PYTHON[1]}, got {sys.version.split()[0]}")
    compileall.compile_dir(
        str(out),
        quiet=2,
        maxlevels=30,
        rx=_NOT_COMPILED,
        stripdir=str(out),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
