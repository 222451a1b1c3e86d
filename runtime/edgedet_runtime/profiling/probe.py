"""The fresh process that `cold_start` watches: import, load, first result, then run on and report memory.

Run as ``python -m edgedet_runtime.profiling.probe MODEL IMAGE.npy ENGINE PRECISION THREADS RUNS``; writes one
JSON document to standard output. Stamps are of the system-wide monotonic clock, so that the parent can
subtract the moment at which it started the process.
"""

from __future__ import annotations

import json
import sys
import time

from edgedet_runtime.choices import EngineName, Precision, parse_engine, parse_precision
from edgedet_runtime.errors import EdgedetError

_MEMORY_SAMPLES = 40


def main(arguments: list[str]) -> int:
    """Run the probe; the exit code is that of the error, if there is one."""
    model, image, engine, precision, threads, runs = arguments
    try:
        _write(_probe(model, image, parse_engine(engine), parse_precision(precision), int(threads), int(runs)))
    except EdgedetError as e:
        _write({"error": str(e)})
        return e.exit_code
    return 0


def _probe(
    model: str, image: str, engine: EngineName, precision: Precision, threads: int, runs: int
) -> dict[str, float | list[float] | None]:
    import numpy as np

    from edgedet_runtime import Detector
    from edgedet_runtime.profiling.memory import peak_resident_mb, resident_mb
    from edgedet_runtime.profiling.statistics import slope

    imported = time.monotonic()
    image_bgr = np.load(image)
    detector = Detector(model, engine=engine, precision=precision, threads=threads)
    loaded = time.monotonic()
    detector(image_bgr)
    first = time.monotonic()
    first_mb, first_peak_mb = resident_mb(), peak_resident_mb()
    at: list[float] = []
    held_mb: list[float] = []
    for run in range(1, runs + 1):
        detector(image_bgr)
        if run % max(1, runs // _MEMORY_SAMPLES) == 0 and (now_mb := resident_mb()) is not None:
            at.append(run)
            held_mb.append(now_mb)
    settled = len(at) // 2
    return {
        "imported": imported,
        "loaded": loaded,
        "first": first,
        "first_mb": first_mb,
        "first_peak_mb": first_peak_mb,
        "last_mb": resident_mb(),
        "growth_kb_per_1000_runs": slope(at[settled:], held_mb[settled:]) * 1024 * 1000 if at else None,
    }


def _write(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
