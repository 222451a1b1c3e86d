"""Read checkpoints, each in a child with a limit on memory and time, and print what came of it as JSON lines.

::

    python tests/models/checkpoint/read_within_bounds.py FILE...

The limits are what SECURITY.md promises: 256 MiB and 32 bytes for each byte of the file beyond what the process takes
anyway, and 30 s of CPU time. The parent imports torch once and forks, so that a file costs milliseconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from pathlib import Path

import torch

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import load
from edgedet_runtime.errors import EdgedetError

BASE_BYTES = 256 << 20
PER_FILE_BYTE = 32
CPU_S = 30


def read(path: Path) -> str:
    """Return ``read``, or the error's line, or the last line of a traceback behind ``fault:``."""
    try:
        checkpoint = read_checkpoint(path)
        checkpoint.tensors()
        load(checkpoint)
    except EdgedetError as e:
        return str(e)
    except BaseException:
        return "fault: " + traceback.format_exc(limit=-3)
    return "read"


def read_in_child(path: Path) -> dict[str, object]:
    """Fork, limit the child, read there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        allowed = pages * resource.getpagesize() + BASE_BYTES + PER_FILE_BYTE * path.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        os.write(writing, read(path).encode("utf-8", "backslashreplace")[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pipe.read().decode("utf-8")
    _, status, usage = os.wait4(pid, 0)
    return {
        "path": str(path),
        "outcome": outcome or f"fault: ended by signal {os.WTERMSIG(status)}",
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        sys.stdout.write(json.dumps(read_in_child(Path(name))) + "\n")
        sys.stdout.flush()
