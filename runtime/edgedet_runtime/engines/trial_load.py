"""The first load of a file that somebody else made, in a child process with limits.

Engines are native code: a file that passes the check of `model_check` may still end the process, hang it or take
all memory. A `try_in_child` before the first load in this process turns that into one sentence. The child starts fresh,
loads the file in its engine, runs it once on zeros, and reports what the engine said. It has a limit on address space,
on CPU time and on time; it ends with its parent's interrupt, and on Linux with its parent.

The child gets a request as JSON on standard input and prints the outcome as JSON, the last line on standard output.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgedet_runtime.choices import TRIAL_VARIABLE, EngineName
from edgedet_runtime.engines.model_source import ModelSource, content_of, label
from edgedet_runtime.errors import EdgedetError, EngineDeathError, EngineError, MissingDependencyError, ModelFileError
from edgedet_runtime.spec import ModelSpec

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["TrialInput", "TrialLimits", "try_in_child"]

_MIB = 1 << 20
_CONFIRMED = "edgedet-trial"
_OUT_OF_MEMORY = ("alloc", "memoryerror", "insufficient memory")


@dataclass(frozen=True, slots=True)
class TrialInput:
    """The input on which a model without a spec is run once.

    Attributes:
        name: Of the input.
        dtype: numpy's name of its type.
        shape: Its shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What a trial may take.

    Attributes:
        seconds: Time, and CPU time, beside 2 s for each MiB of the file.
        mebibytes: Address space beyond what the process takes when it starts, beside 32 bytes for each byte of the file
            and 128 MiB for each CPU, since every thread reserves some.
    """

    seconds: float = 120.0
    mebibytes: int = 4096


@dataclass(frozen=True, slots=True)
class _Request:
    """What the child shall do."""

    engine: EngineName
    path: str
    spec: str | None
    feed: tuple[str, str, tuple[int, ...]] | None
    seconds: int
    bytes: int


def try_in_child(
    engine: EngineName,
    source: ModelSource,
    model: ModelSpec | TrialInput,
    *,
    what: str | None = None,
    limits: TrialLimits | None = None,
) -> None:
    """Load a model in a child process and run it once on zeros.

    Args:
        engine: The engine; for a model without a spec, onnxruntime.
        source: A model file, its content, or a serialized ONNX model.
        model: Its contract, or the input of a model that has none.
        what: What messages call the model; by default its path.
        limits: What the child may take.

    Raises:
        MissingDependencyError: The engine is not installed.
        ModelFileError: The file may not reach an engine, or does not fit its spec.
        EngineError: The engine refuses the model.
        EngineDeathError: The engine died of it, hung, or took more memory than it may; or no child can be started.
    """
    limit = limits or TrialLimits()
    name = what or label(source)
    with _as_file(source) as path:
        size = sum(p.stat().st_size for p in {path, path.with_suffix(".bin")} if p.is_file())
        seconds = limit.seconds + 2.0 * size / _MIB
        space = limit.mebibytes * _MIB + 32 * size + 128 * _MIB * (os.cpu_count() or 1)
        spec = model.to_json() if isinstance(model, ModelSpec) else None
        feed = (model.name, model.dtype, model.shape) if isinstance(model, TrialInput) else None
        request = _Request(engine, str(path), spec, feed, int(seconds) + 1, space)
        kind, text = _run(request, seconds, name)
        text = text.replace(str(path), name)
    if kind == "refused":
        raise EngineError(text)
    if kind == "file":
        raise ModelFileError(text)
    if kind == "missing":
        raise MissingDependencyError(engine, engine, f"the engine {engine}")
    if kind == "memory":
        raise EngineDeathError(_died(engine, name, f"took more than the {space // _MIB} MiB of memory that it may"))


def _died(engine: str, name: str, how: str) -> str:
    return (
        f"{name}: expected a file that {engine} can load and run, but in a trial process {engine} {how}: the file is"
        " damaged or hostile, or this engine cannot take it; export it again, or take another engine"
    )


def _untried(name: str, why: str) -> str:
    return (
        f"{name}: expected to load it in a trial process first, since no key vouches for it; none can be started"
        f" ({why}); sign the bundle, or set {TRIAL_VARIABLE}=never for files of your own"
    )


def _run(request: _Request, seconds: float, name: str) -> tuple[str, str]:
    """Run the child and return the kind of its outcome and a text."""
    start = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
    if getattr(sys, "frozen", False) or not sys.executable:  # else the program itself would be started once more
        raise EngineDeathError(_untried(name, "this program has no Python of its own"))
    try:
        child = subprocess.Popen(
            [sys.executable, "-I", "-c", start],  # isolated: else the folder that this runs in could hold a numpy.py
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as e:
        raise EngineDeathError(_untried(name, e.strerror or str(e))) from None
    try:
        out, _ = child.communicate(json.dumps(asdict(request)).encode(), timeout=seconds)
    except subprocess.TimeoutExpired:
        raise EngineDeathError(_died(request.engine, name, f"was not done after {seconds:.0f} s")) from None
    finally:  # also where this process is interrupted
        child.kill()
        child.wait()
    if child.returncode < 0:
        number = -child.returncode
        if number == signal.SIGXCPU:
            raise EngineDeathError(_died(request.engine, name, f"was not done after {request.seconds} s of CPU time"))
        how = signal.strsignal(number) or f"signal {number}"
        raise EngineDeathError(_died(request.engine, name, f"died of a signal ({how})"))
    try:
        outcome = json.loads(out.splitlines()[-1])
        kind, text = str(outcome[_CONFIRMED]), str(outcome["text"])
    except (ValueError, LookupError, TypeError):
        raise EngineDeathError(_died(request.engine, name, f"ended with code {child.returncode} and no word")) from None
    return kind, text


@contextmanager
def _as_file(source: ModelSource) -> Iterator[Path]:
    """Give the path of a model, written to a folder of its own where it is in memory."""
    content = content_of(source)
    if isinstance(source, Path) or content is None:
        assert isinstance(source, Path), "what is not in memory is a path"
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="edgedet-") as folder:
        given = None if isinstance(source, bytes) else source
        path = Path(folder) / ("model.onnx" if given is None else given.path.name)
        path.write_bytes(content)
        if given is not None and given.weights is not None:
            path.with_suffix(".bin").write_bytes(given.weights)
        yield path


def _limit(request: _Request) -> None:
    """Limit this process; where a system has no such limits, that of time remains, which the parent keeps.

    A lower limit that is in force (``ulimit``) stays.
    """
    try:
        import resource
    except ImportError:  # Windows
        return

    def lower(kind: int, soft: int, hard: int) -> None:
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))

    lower(resource.RLIMIT_CORE, 0, 0)
    lower(resource.RLIMIT_CPU, request.seconds, request.seconds + 1)
    statm = Path("/proc/self/statm")
    if statm.is_file():
        taken = int(statm.read_text().split()[0]) * resource.getpagesize()
        lower(resource.RLIMIT_AS, taken + request.bytes, taken + request.bytes)


def _end_with_parent() -> None:
    """Ask Linux to end this process when its parent ends."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _load_and_run(request: _Request) -> None:
    from edgedet_runtime.engines import load_engine
    from edgedet_runtime.engines.onnxruntime_engine import open_session, session_options

    source = Path(request.path)
    if request.spec is not None:
        spec = ModelSpec.from_json(request.spec)
        engine = load_engine(request.engine, source, spec, threads=1)
        engine.infer(_zeros(spec))
    elif request.feed is not None:
        name, dtype, shape = request.feed
        options = session_options(1)
        options.log_severity_level = 4
        session = open_session(source, options)
        try:
            session.run(None, {name: np.zeros(shape, dtype)})
        except Exception as e:  # onnxruntime raises its own classes without a common root
            line = " ".join(str(e).split())[:240]
            raise EngineError(f"{request.path}: onnxruntime failed while running it: {line}") from None


def _zeros(spec: ModelSpec) -> npt.NDArray[Any]:
    height, width = spec.input.size_hw
    shape = (1, 3, height, width) if spec.input.layout == "NCHW" else (1, height, width, 3)
    return np.zeros(shape, spec.input.dtype)


def _outcome(request: _Request) -> tuple[Literal["fine", "missing", "file", "refused", "memory"], str]:
    try:
        _load_and_run(request)
    except MissingDependencyError as e:
        return "missing", str(e)
    except ModelFileError as e:
        return "file", str(e)
    except (EdgedetError, MemoryError) as e:
        said = f"{type(e).__name__}: {e}".lower()
        return ("memory" if any(words in said for words in _OUT_OF_MEMORY) else "refused"), str(e)
    return "fine", ""


def main() -> None:
    """Read a request, try, and print the outcome: what the child does."""
    request = _Request(**json.load(sys.stdin))
    _end_with_parent()
    _limit(request)
    kind, text = _outcome(request)
    sys.stdout.write("\n" + json.dumps({_CONFIRMED: kind, "text": text}) + "\n")
    sys.stdout.flush()
    os._exit(0)  # engines' threads have nothing to say any more
