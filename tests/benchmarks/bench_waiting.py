"""How onnxruntime's threads should wait: latency and CPU time per frame, at full speed and as a camera would.

    python tests/benchmarks/bench_waiting.py MODEL.onnx … [--threads 2] [--rounds 20] [--gap-ms 20]

Two ways take turns in blocks: threads that sleep between operators, and threads that spin within a frame and sleep
between frames, which is what `Detector` asks for. (Threads that spin all the time, onnxruntime's default, would disturb
whatever runs beside them.) It wants a quiet machine: a spinning thread that another process displaces makes the others
wait.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

WAYS = {
    "sleep between operators": {"session.intra_op.allow_spinning": "0"},
    "spin within a frame": {"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"},
}
BLOCK = 6


def main() -> int:
    """Print a table as Markdown."""
    options = _options()
    sys.stdout.write(
        "| model | waiting | ms | beside sleeping | CPU ms per frame | with pauses: ms | CPU ms per frame |\n"
    )
    sys.stdout.write("|---|---|--:|--:|--:|--:|--:|\n")
    for path in options.models:
        runs = {way: _session(path, options.threads, entries) for way, entries in WAYS.items()}
        dense, sparse = (_measure(runs, options.rounds, gap) for gap in (0.0, options.gap_ms / 1e3))
        sleeping = dense["sleep between operators"][0]
        for way in WAYS:
            (ms, cpu), (paused_ms, paused_cpu) = dense[way], sparse[way]
            row = [path.name, way, f"{ms:.2f}", f"{sleeping / ms:.2f}x", f"{cpu:.1f}", f"{paused_ms:.2f}"]
            sys.stdout.write("| " + " | ".join([*row, f"{paused_cpu:.1f}"]) + " |\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20, help=f"of {BLOCK} frames each")
    parser.add_argument("--gap-ms", type=float, default=20.0, help="pause between two frames, for the last two columns")
    return parser.parse_args()


def _session(path: Path, threads: int, entries: dict[str, str]) -> Callable[[], object]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = np.uint8 if given.type == "tensor(uint8)" else np.float32
    tensor = np.random.default_rng(0).integers(0, 256, given.shape).astype(kind)
    return lambda: session.run(None, {given.name: tensor})


def _measure(runs: dict[str, Callable[[], object]], rounds: int, gap_s: float) -> dict[str, tuple[float, float]]:
    """Return per way the median latency and the CPU time of the process per frame, in milliseconds."""
    latency: dict[str, list[float]] = {way: [] for way in runs}
    cpu: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(rounds):
        for way, run in runs.items():
            run()
            times, used = _block(run, gap_s)
            latency[way] += times
            cpu[way].append(used)
    return {way: (median(latency[way]), median(cpu[way])) for way in runs}


def _block(run: Callable[[], object], gap_s: float) -> tuple[Sequence[float], float]:
    times = []
    before = time.process_time()
    for _ in range(BLOCK):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
        time.sleep(gap_s)
    return times, (time.process_time() - before) * 1e3 / BLOCK


if __name__ == "__main__":
    sys.exit(main())
