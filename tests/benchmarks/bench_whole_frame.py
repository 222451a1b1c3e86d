"""A whole frame beside the engine alone: `Detector`, from a camera's frame to objects, against a plain loop.

    python tests/benchmarks/bench_whole_frame.py BUNDLE … --image PHOTO [--sizes 640x480 1920x1080 3840x2160]
        [--fps 0 10 30 60] [--engines onnxruntime openvino] [--precisions fp32 int8] [--json]

Each side is a process of its own that stays alive; they take turns in short blocks, the first frame of each uncounted.
The bare engine runs over one tensor, in each of its own ways to let threads wait (``whole_frame_worker.py``); the
fastest in the round is what `Detector` is held against. Frames come back to back (0) or at a camera's pace, when
latency counts as well as the CPU time that a frame costs: all of the process's, so also that of threads that spin.
``--stream`` adds `Detector.stream`, whose figure is the time from one result to the next.
``--starts`` adds fresh processes, also in turns: the time to the first result, and the resident memory then.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / part) for part in (".", "export", "models", "runtime")]

from tests.benchmarks.waiting_process import WaitingProcess  # noqa: E402
from tests.benchmarks.whole_frame_worker import BARE_WAYS  # noqa: E402

FRAMES = 3  # different ones in turn: a camera's frame is never in the cache


def main() -> None:
    """Run the benchmark."""
    options = _options()
    rows: list[dict[str, Any]] = []
    if not options.json:
        sys.stdout.write(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        frames = [_frames(options.image, size, Path(folder)) for size in options.sizes]
        for bundle in options.bundles:
            for engine in options.engines:
                for precision in options.precisions:
                    model = _file(bundle, engine, precision)
                    for path in frames if model is not None else ():
                        what = {"model": bundle.name, "engine": engine, "precision": precision, "frame": path.stem}
                        for row in measure(str(model), engine, path, options):
                            rows.append({**what, **row})
                            if not options.json:
                                sys.stdout.write(_line(rows[-1]))
                                sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--image", type=Path, required=True, help="photo that the frames show")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1920x1080", "3840x2160"])
    parser.add_argument("--fps", nargs="+", type=float, default=[0, 10, 30, 60], help="0: back to back")
    parser.add_argument("--engines", nargs="+", default=list(BARE_WAYS), choices=list(BARE_WAYS))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8"], choices=("fp32", "int8"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=int, default=10, help="frames of a block")
    parser.add_argument("--stream", action="store_true", help="also Detector.stream, from result to result")
    parser.add_argument("--starts", type=int, default=0, help="fresh processes of each side")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _file(bundle: Path, engine: str, precision: str) -> Path | None:
    """Return a bundle's file for an engine and precision; None where it has none."""
    suffix = "xml" if engine == "openvino" else "onnx"
    name = f"model.int8.{suffix}" if precision == "int8" else f"model.{suffix}"
    return next(iter(sorted(bundle.rglob(name))), None)


def _frames(image: Path, size: str, folder: Path) -> Path:
    """Save frames of ``WIDTHxHEIGHT``: the photo, each shifted by some pixels."""
    import cv2

    from edgedet_runtime.pictures import read_image

    width, height = (int(part) for part in size.split("x"))
    photo = cv2.resize(read_image(image), (width, height), interpolation=cv2.INTER_AREA)
    path = folder / f"{size}.npy"
    np.save(path, np.stack([np.roll(photo, 7 * i, axis=(0, 1)) for i in range(FRAMES)]))
    return path


class Worker(WaitingProcess):
    """One side, loaded and waiting."""

    def __init__(self, side: str, model: str, engine: str, threads: int, frames: Path) -> None:
        """Start the process and wait for its first result."""
        command = [sys.executable, str(HERE / "whole_frame_worker.py"), side, model, engine, str(threads), str(frames)]
        super().__init__(command, {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:4])})
        self.resident_mb = float(self.first["resident_mb"])

    def run(self, frames: int, fps: float) -> Any:
        """Return latencies and CPU time of a block."""
        return self.ask(json.dumps({"frames": frames, "fps": fps}))


def measure(model: str, engine: str, frames: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each pace, and one for the start where it is asked for."""
    sides = ("detector", *BARE_WAYS[engine])
    workers = {side: Worker(side, model, engine, options.threads, frames) for side in sides}
    rows = [pace(workers, fps, options.rounds, options.block) for fps in options.fps]
    if options.stream:
        workers["detector"].close()
        workers["detector"] = Worker("stream", model, engine, options.threads, frames)
        rows.append({**pace(workers, 0.0, options.rounds, options.block), "fps": "stream"})
    for worker in workers.values():
        worker.close()
    if options.starts:
        rows.append(start(sides[:2], model, engine, frames, options))
    return rows


def pace(workers: dict[str, Worker], fps: float, rounds: int, count: int) -> dict[str, Any]:
    """Let the sides take turns at one pace."""
    latency: dict[str, list[float]] = {side: [] for side in workers}
    cpu: dict[str, list[float]] = {side: [] for side in workers}
    ratios = []
    order = list(workers)
    for number in range(rounds):
        shift = number % len(order)
        medians = {}
        for side in order[shift:] + order[:shift]:
            block = workers[side].run(count, fps)
            latency[side] += block["ms"]
            cpu[side].append(block["cpu_ms"])
            medians[side] = statistics.median(block["ms"])
        ratios.append(medians["detector"] / min(ms for side, ms in medians.items() if side != "detector"))
    found = {
        side: {"p50": _rank(ms, 0.5), "p99": _rank(ms, 0.99), "cpu_ms": statistics.median(cpu[side])}
        for side, ms in latency.items()
    }
    best = min(order[1:], key=lambda side: found[side]["p50"])
    ratio = {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}
    return {"fps": fps, "sides": found, "best": best, "ratio": ratio}


def start(sides: Sequence[str], model: str, engine: str, frames: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Start fresh processes of both sides in turns."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    resident: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(options.starts):
        for side in sides if number % 2 else reversed(sides):
            worker = Worker(side, model, engine, options.threads, frames)
            worker.close()
            times[side].append(worker.first_s)
            resident[side].append(worker.resident_mb)
    return {
        "sides": {
            s: {"start_s": statistics.median(times[s]), "resident_mb": statistics.median(resident[s])} for s in sides
        }
    }


def _rank(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


HEAD = (
    "| model | engine | file | frame | fps | Detector p50 (p99) ms | bare p50 (p99) ms | ratio | range | CPU ms"
    " per frame: Detector, bare |\n|---|---|---|---|--:|--:|--:|--:|--:|--:|\n"
)


def _line(row: dict[str, Any]) -> str:
    """Return a row as Markdown."""
    what = [row[name] for name in ("model", "engine", "precision", "frame")]
    ours = row["sides"]["detector"]
    if "fps" not in row:
        bare = next(found for side, found in row["sides"].items() if side != "detector")
        seconds, memory = (ours[k] / bare[k] for k in ("start_s", "resident_mb"))
        cells = ["start", f"{ours['start_s']:.3f} s, {ours['resident_mb']:.0f} MB"]
        cells += [
            f"{bare['start_s']:.3f} s, {bare['resident_mb']:.0f} MB",
            f"{seconds:.2f}",
            "",
            f"{memory:.2f} memory",
        ]
    else:
        bare, ratio = row["sides"][row["best"]], row["ratio"]
        fps = row["fps"]
        cells = [fps if isinstance(fps, str) else f"{fps:g}" if fps else "back to back"]
        cells += [f"{ours['p50']:.2f} ({ours['p99']:.2f})"]
        cells += [f"{bare['p50']:.2f} ({bare['p99']:.2f}) {row['best']}", f"{ratio['median']:.2f}"]
        cells += [f"{ratio['lowest']:.2f}-{ratio['highest']:.2f}", f"{ours['cpu_ms']:.1f}, {bare['cpu_ms']:.1f}"]
    return "| " + " | ".join([*what, *cells]) + " |\n"


if __name__ == "__main__":
    main()
