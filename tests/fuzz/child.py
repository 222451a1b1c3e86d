"""Read inputs in a child process with limits on memory and time, and say what came of each.

The parent imports what all readers need and forks, so that an input costs milliseconds. A child works through many
inputs and writes a line to a pipe before and after each; where it dies, the parent knows of what and goes on with
another child. Linux only: the limits are ``RLIMIT_AS`` and ``RLIMIT_CPU``, the memory is what ``/proc`` says.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from edgedet_runtime.errors import EdgedetError
from tests.fuzz.case import Bounds, Files, Format, Verdict
from tests.fuzz.mutate import mutated
from tests.fuzz.watch import Watch

__all__ = ["Outcome", "make_input", "outcomes", "write_input"]

_MOST_WORDS = 500
_ROOM = 4
"""Address space is limited to this many times the memory allowed: what is too much shall be seen, not refused."""
_INPUTS_PER_CHILD = 500
_WALL_S = 300
"""For an input that waits without working; the machine may be busy with others."""

Source = Callable[[int], Files]
"""Makes the input of a number."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an input.

    Attributes:
        index: Number of the input.
        verdict: See `Verdict`.
        words: The error's message, or the end of the traceback.
        place: Where in the program an unexpected exception was raised: to tell faults apart.
        memory: Bytes of memory that reading took.
        cpu_s: Seconds of processor time.
    """

    index: int
    verdict: Verdict
    words: str = ""
    place: str = ""
    memory: int = 0
    cpu_s: float = 0.0


def make_input(form: Format, seeds: list[Files], seed: int, index: int) -> Files:
    """Return the input of a number: a seed as it is for the first ones, then changed ones."""
    if index < len(seeds):
        return seeds[index]
    return mutated(Random(f"{form.name}/{seed}/{index}"), seeds, form.mutators)


def write_input(folder: Path, files: Files) -> None:
    """Write an input's files into an empty folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def outcomes(form: Format, source: Source, indices: Sequence[int]) -> Iterator[Outcome]:
    """Yield what came of each input, in order; a child that dies is replaced."""
    at = 0
    while at < len(indices):
        for outcome in _batch(form, source, indices[at : at + _INPUTS_PER_CHILD]):
            yield outcome
            at += 1


def _batch(form: Format, source: Source, indices: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcomes of one child, up to the one it died of."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="edgedet-fuzz-") as folder, tempfile.TemporaryFile() as said:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.setpgid(0, 0)
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            try:
                _work(form, source, indices, Path(folder), writing)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(3)
        os.close(writing)
        under_way: int | None = None
        try:
            for line in _lines(reading, _WALL_S):
                row = json.loads(line)
                if "verdict" in row:
                    under_way = None
                    yield Outcome(**row)
                else:
                    under_way = row["index"]
        finally:
            os.close(reading)
            status = _end(pid)
        said.seek(0)
        words = said.read()[-3000:].decode("utf-8", "replace")
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 3:
            raise RuntimeError(f"a fault of the fuzzer itself: {words}")
        if under_way is not None:
            yield _of_the_dead(under_way, status, words)


def _end(pid: int) -> int:
    """Wait for a child, for some seconds; kill it if it goes on, and what is left of its group; return its status."""
    done, status, patience = 0, 0, time.monotonic() + 5
    while not done and time.monotonic() < patience:
        done, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0 if done else 0.01)
    for kill in (os.killpg,) if done else (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    return status if done else os.waitpid(pid, 0)[1]


def _lines(pipe: int, patience_s: float) -> Iterator[bytes]:
    """Yield lines until the pipe is closed, or nothing comes for too long."""
    rest = b""
    while select.select([pipe], [], [], patience_s)[0]:
        data = os.read(pipe, 1 << 16)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines


def _of_the_dead(index: int, status: int, said: str) -> Outcome:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return Outcome(index, "time", f"ended by signal {number}", place=f"signal {number}")
    frames = re.findall(r'File "([^"]+)", line (\d+) in (\w+)', said)
    place = ", ".join(f"{Path(file).name}:{line}" for file, line, _ in frames[:2])
    return Outcome(index, "crash", f"signal {number}; {said[-1500:]}", place=f"signal {number} at {place or 'unknown'}")


def _work(form: Format, source: Source, indices: Sequence[int], folder: Path, pipe: int) -> None:
    """Read inputs one after another; runs in the child."""
    faulthandler.enable(2)
    gc.freeze()  # what the parent has loaded stays: collecting would touch, and so copy, all of it
    watch = Watch(folder, may_start=form.may_start)
    for index in indices:
        files = source(index)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            write_input(Path(place), files)
            os.write(pipe, json.dumps({"index": index}).encode() + b"\n")
            outcome = _judge(form, Path(place), index, sum(map(len, files.values())), watch)
        os.write(pipe, json.dumps(asdict(outcome)).encode() + b"\n")


def _judge(form: Format, folder: Path, index: int, n_bytes: int, watch: Watch) -> Outcome:
    before, began = _resident(reset=True), time.process_time()
    allowed = form.bounds.allowed(n_bytes)
    verdict: Verdict
    words = place = ""
    _limit(form.bounds, allowed)
    watch.begin()
    try:
        form.read(folder)
        verdict = "accepted"
    except EdgedetError as e:
        words = str(e)
        plain = words.replace(str(folder), "…")
        verdict = "wordy" if "\n" in words or len(plain) > _MOST_WORDS else "refused"
        place = _place(e) if verdict == "wordy" else ""
    except MemoryError as e:
        verdict, words, place = "memory", traceback.format_exc(limit=-6), _place(e)
    except BaseException as e:  # whatever it is, it is a fault
        verdict, words, place = "traceback", traceback.format_exc(limit=-6), f"{type(e).__name__} at {_place(e)}"
    did = watch.end()
    _limit(None, 0)
    memory, cpu_s = max(0, _resident() - before), time.process_time() - began
    if did:
        verdict, words, place = "ran", did, did.split(":")[0]
    elif memory > allowed and verdict in ("accepted", "refused"):
        verdict, words, place = "memory", f"{memory >> 20} MiB taken, {allowed >> 20} allowed; {words}", "measured"
    return Outcome(index, verdict, _printable(words), _printable(place), memory, round(cpu_s, 3))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()[:3000]


def _limit(bounds: Bounds | None, allowed: int) -> None:
    """Limit address space and processor time, beyond what is taken already; None: no limit."""
    address_space = cpu_s = resource.RLIM_INFINITY
    if bounds is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        address_space = pages * resource.getpagesize() + _ROOM * allowed
        cpu_s = int(time.process_time()) + bounds.cpu_s + 1
    resource.setrlimit(resource.RLIMIT_AS, (address_space, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, resource.RLIM_INFINITY))


def _resident(*, reset: bool = False) -> int:
    """Return the most bytes that were resident at once since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "Linux says how much memory a process has taken"
    return int(found[1]) << 10


def _place(error: BaseException) -> str:
    """Return the last line of the project's own that an exception went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "edgedet" in Path(f.filename).parts[-3:-1] or "/edgedet_" in f.filename]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
