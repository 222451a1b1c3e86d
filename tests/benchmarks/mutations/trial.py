"""One fault, tried: a copy of the tree, and a forked pytest that reads it.

Imports of torch, OpenCV and the engines take longer than most tests. They are paid once: the parent imports them and
nothing of the project, and each trial is a fork that imports the copied tree afresh. The parent must start no thread,
so it opens no engine. The tests' own subprocesses read the copy too, by ``PYTHONPATH``.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.mutations.rooms import PACKAGES

__all__ = ["Outcome", "copy_tree", "preload", "put_in", "run_tests"]

_HEAVY = ("numpy", "cv2", "torch", "onnx", "onnx_ir", "onnxruntime", "openvino", "hypothesis", "pytest", "jsonschema")
_MEMORY_BYTES = 12 << 30  # beyond what is mapped already


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tests said.

    Attributes:
        failed: Whether they noticed: a test failed, nothing could be imported, or the time was over.
        by: The first test that failed, or what else happened.
        seconds: Wall time.
    """

    failed: bool
    by: str
    seconds: float


def preload() -> None:
    """Import what all trials need, without a thread and without the project."""
    for name in _HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def copy_tree(root: Path, target: Path) -> None:
    """Copy what git knows or would not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name)


@contextlib.contextmanager
def put_in(path: Path, text: str) -> Iterator[None]:
    """Give a file another text for a while; its date comes back with the old text, so compiled files stay valid."""
    before, status = path.read_bytes(), path.stat()
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def run_tests(
    tree: Path,
    files: Sequence[str],
    markers: str,
    *,
    timeout_s: float,
    plugin: object = None,
    keep_compiled: bool = False,
) -> Outcome:
    """Run tests of a copied tree in a fork, up to the first failure.

    Args:
        tree: The copy.
        files: Test files and folders.
        markers: For ``pytest -m``.
        timeout_s: When to end it; that counts as noticed.
        plugin: Another pytest plugin, to choose among the tests or to listen.
        keep_compiled: Write compiled files for later trials; only where there is no fault in the tree.
    """
    start = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(tree, files, markers, writer, plugin, keep_compiled)
    os.close(writer)
    said = b""
    deadline = start + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            part = os.read(reader, 65536)
            if not part:
                break
            said += part
            if said.endswith(b"\n"):
                break
    os.close(reader)
    late = time.monotonic() >= deadline
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what a test left behind goes too
    os.waitpid(child, 0)
    seconds = time.monotonic() - start
    if said.endswith(b"\n"):
        code, by = json.loads(said)
        return Outcome(code != 0, by, seconds)
    return Outcome(True, f"no end within {timeout_s:.0f} s" if late else "the process died", seconds)


class _FirstFailure:
    """A pytest plugin that remembers the first failure."""

    def __init__(self) -> None:
        self.by = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.by = self.by or report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.by = self.by or f"import of {report.nodeid}"


def _child(tree: Path, files: Sequence[str], markers: str, writer: int, plugin: object, keep_compiled: bool) -> None:
    """Run pytest and leave the process; never returns."""
    code, by = 70, "the fork failed"
    try:
        os.setsid()
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + _MEMORY_BYTES, mapped + _MEMORY_BYTES))
        os.chdir(tree)
        paths = [str(tree / package) for package in PACKAGES]
        for name in [n for n in sys.modules if n.partition(".")[0] in ("tests", "edgedet") or n.startswith("edgedet_")]:
            del sys.modules[name]
        sys.path[:0] = paths
        importlib.invalidate_caches()
        sys.dont_write_bytecode = not keep_compiled
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        if not keep_compiled:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        import pytest

        first = _FirstFailure()
        how = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "--rootdir", str(tree), "-m", markers]
        code = int(pytest.main([*files, *how], plugins=[first, *([] if plugin is None else [plugin])]))
        by = first.by or ("" if code == 0 else f"pytest ended with {code}")
    except BaseException as e:
        code, by = 70, f"{type(e).__name__}: {e}"
    finally:
        os.write(writer, (json.dumps([code, by]) + "\n").encode())
        os._exit(0)
