"""Profile on the board itself, over plain ssh: the CPU that counts is the one that is measured.

The system's ``ssh`` does the talking, so its configuration, keys, agent and jump hosts apply; ``EDGEDET_SSH``
replaces the command, as ``ssh -F file -p 2222``. Nothing is installed on the board: the runtime (pure Python) and the
bundle go to ``~/.cache/edgedet`` there, each under the hash of its content unless it is there already, and run with
the board's own Python, which must have numpy, OpenCV and an engine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgedet_runtime.bundle.manifest import MANIFEST, read_manifest, verify_bundle
from edgedet_runtime.doctor import Report
from edgedet_runtime.errors import CheckFailedError, EdgedetError, EngineError, InputError
from edgedet_runtime.from_json import from_json, parse_json
from edgedet_runtime.profiling.report import ProfileReport

__all__ = ["Board", "profile_on_board"]

SSH_VARIABLE = "EDGEDET_SSH"
T = TypeVar("T")

_SSH = ("ssh", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
_SSH_FAILED = 255
_NEEDED = {"numpy": "numpy", "cv2": "opencv-python-headless"}

_PROBE = """
import importlib.util as u, json, os, platform, sys
root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "edgedet")
have = [name for name in sys.argv[1:] if os.path.isdir(os.path.join(root, name))]
modules = [m for m in ("numpy", "cv2", "onnxruntime", "openvino") if u.find_spec(m)]
print(json.dumps({"root": root, "have": have, "modules": modules, "machine": platform.machine(),
                  "python": list(sys.version_info[:2]), "executable": sys.executable}))
"""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What `_PROBE` tells of a board.

    Attributes:
        root: Folder that is kept for edgedet.
        have: What is there already.
        modules: Packages that are installed.
        machine: Architecture.
        python: Version, two numbers.
        executable: Path of Python.
    """

    root: str
    have: tuple[str, ...]
    modules: tuple[str, ...]
    machine: str
    python: tuple[int, ...]
    executable: str


_RECEIVE = """
import os, shutil, sys, tarfile, tempfile
root, name = sys.argv[1:]
os.makedirs(root, mode=0o700, exist_ok=True)
part = tempfile.mkdtemp(dir=root)
tarfile.open(fileobj=sys.stdin.buffer, mode="r|gz").extractall(part)
target = os.path.join(root, name)
if os.path.isdir(target):
    shutil.rmtree(part)
else:
    os.rename(part, target)
"""


@dataclass(frozen=True, slots=True)
class Board:
    """A machine that is reached by ssh.

    Attributes:
        host: As ssh takes it, such as ``pi@camera-3``.
        python: The board's Python, with numpy, OpenCV and an engine.
    """

    host: str
    python: str = "python3"

    def __post_init__(self) -> None:
        """Refuse what ssh would take for an option."""
        if not self.host or self.host.startswith("-") or any(c.isspace() for c in self.host):
            raise InputError(f"--host: expected user@board as ssh takes it, got {self.host!r}")

    def run(self, *command: str, stdin: bytes = b"") -> bytes:
        """Run a command on the board and return its standard output.

        Raises:
            InputError: The board cannot be reached.
            EngineError: The command failed; the message holds its last words.
        """
        given = os.environ.get(SSH_VARIABLE, "")
        try:
            ssh = shlex.split(given) or list(_SSH)
        except ValueError as e:
            raise InputError(f"{SSH_VARIABLE}: expected a command as a shell takes it, got {given!r} ({e})") from None
        try:
            done = subprocess.run(
                [*ssh, "--", self.host, " ".join(map(_quoted, command))], input=stdin, capture_output=True
            )
        except OSError as e:
            raise InputError(f"--host: expected an ssh client, {ssh[0]} cannot be started: {e.strerror}") from None
        if done.returncode:
            words = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"])[-1]
            if done.returncode == _SSH_FAILED:
                raise InputError(f"--host {self.host}: ssh cannot reach it: {words}")
            raise EngineError(f"{self.host}: {command[0]} ended with code {done.returncode}: {words}")
        return done.stdout


def _quoted(word: str) -> str:
    """Quote a word for the board's shell; a home folder at its start stays one."""
    return f"~/{shlex.quote(word[2:])}" if word.startswith("~/") else shlex.quote(word)


def profile_on_board(board: Board, bundle: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Run doctor and profile on a board.

    Args:
        board: Where.
        bundle: Folder of the bundle, here.
        settings: Fields of `ProfileConfig` by name.

    Returns:
        ``host``, ``doctor`` and ``profile``, the latter two as these commands give them with ``--json``; ``profile`` is
        None where the doctor finds the bundle unfit.

    Raises:
        CheckFailedError: The bundle is damaged here already.
        InputError: No bundle, or the board cannot be reached, or lacks packages.
        EdgedetError: What went wrong on the board.
    """
    if not bundle.is_dir():
        raise InputError(f"{bundle}: expected the folder of a bundle to send to {board.host}, got none")
    problems = verify_bundle(bundle)
    if problems:
        raise CheckFailedError(f"{bundle}: not what was exported: {'; '.join(problems[:3])}: export it again")
    runtime_tar, bundle_tar = _runtime_archive(), _bundle_archive(bundle)
    names = {f"runtime-{_digest(runtime_tar)}": runtime_tar, f"bundle-{_digest(bundle_tar)}": bundle_tar}
    answered = _answer(board, board.run(board.python, "-c", _PROBE, *names))
    facts = _said(board, lambda: from_json(_Facts, answered, at="facts"))
    _check_board(board, facts)
    for name, content in names.items():
        if name not in facts.have:
            board.run(board.python, "-c", _RECEIVE, facts.root, name, stdin=_zipped(content))
    runtime_at, bundle_at = (f"{facts.root}/{name}" for name in names)
    request = json.dumps({"bundle": bundle_at, **{k: v for k, v in settings.items() if v is not None}})
    said = board.run(
        "env", f"PYTHONPATH={runtime_at}", board.python, "-m", "edgedet_runtime.board_worker", request
    )  # fmt: skip
    document = _answer(board, said)
    if "error" in document:
        raise EdgedetError(f"{board.host}: {document['error']}")
    if "doctor" not in document or "profile" not in document:
        raise EngineError(f"{board.host}: expected a JSON document with doctor and profile, got {sorted(document)[:8]}")
    doctor = _said(board, lambda: from_json(Report, document["doctor"], at="doctor"))
    if document["profile"] is not None:
        _said(board, lambda: ProfileReport.from_dict(document["profile"]))
    return {"host": board.host, **document, "doctor": doctor.to_dict()}


def _said(board: Board, read: Callable[[], T]) -> T:
    """Read a part of what a board said.

    Raises:
        EngineError: It is something else.
    """
    try:
        return read()
    except (ValueError, TypeError, EdgedetError) as e:
        raise EngineError(f"{board.host}: expected what edgedet says there, got something else ({e})") from None


def _answer(board: Board, said: bytes) -> dict[str, Any]:
    """Return the JSON object that stands in the last line of what a board said.

    Raises:
        EngineError: There is none.
    """
    lines = said.decode(errors="replace").strip().splitlines() or ["nothing"]
    try:
        document = parse_json(lines[-1])
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise EngineError(f"{board.host}: expected a JSON document, got {lines[-1][:200]!r}")
    return document


def _check_board(board: Board, facts: _Facts) -> None:
    modules = set(facts.modules)
    if facts.python < (3, 10):
        got = ".".join(map(str, facts.python))
        raise InputError(f"{board.host}: expected Python 3.10 or newer, {board.python} is {got}: name another one")
    missing = [package for module, package in _NEEDED.items() if module not in modules]
    if not modules & {"onnxruntime", "openvino"} and "cv2" not in modules:
        missing.append("onnxruntime")
    if missing:
        raise InputError(
            f"{board.host}: expected numpy, OpenCV and an engine in {facts.executable} ({facts.machine}),"
            f" missing: {', '.join(missing)}; there: python3 -m venv ~/edgedet && ~/edgedet/bin/pip install"
            " numpy opencv-python-headless onnxruntime; then: --host-python '~/edgedet/bin/python'"
        )


def _runtime_archive() -> bytes:
    """Return the runtime package as a tar that is the same every time."""
    import edgedet_runtime

    package = Path(str(edgedet_runtime.__file__)).resolve().parent
    files = {
        f"edgedet_runtime/{path.relative_to(package).as_posix()}": path
        for suffix in ("py", "json")
        for path in package.rglob(f"*.{suffix}")
    }
    return _archive(files)


def _bundle_archive(bundle: Path) -> bytes:
    names = [file.path for file in read_manifest(bundle).files] + [MANIFEST, "manifest.sig"]
    return _archive({name: bundle / name for name in names if (bundle / name).is_file()})


def _archive(files: dict[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in sorted(files):
            data = files[name].read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _zipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, compresslevel=6, mtime=0)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]
