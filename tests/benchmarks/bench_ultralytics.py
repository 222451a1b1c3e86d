"""Side by side with Ultralytics ``predict``: the same INT8 network, in OpenVINO, at 640 px, in one interleaved run.

    python tests/benchmarks/bench_ultralytics.py --data ../shared/data/coco128/data.yaml --image ../shared/data/bus.jpg

Ultralytics is installed for this only, in a virtual environment of its own (several GB). It builds and quantises the
network with its own exporter; edgedet runs the same file, cut at the raw heads. Both processes stay alive and take
turns in short blocks, the first run of each block uncounted; fresh processes, also in turns, give the start to the
first result and the resident memory. Prints a table, and JSON with ``--json``. ``--image`` is also what the network's
scores are set up on: remove the folder ``--work`` to use another picture.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = (("torch==2.14.1", "torchvision==0.29.1"), ("ultralytics", "openvino", "nncf"))
STEPS = ("pre", "infer", "post", "end to end")
BLOCK = 5


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="YOLO data.yaml with pictures to calibrate with")
    parser.add_argument("--image", type=Path, required=True, help="picture to detect in")
    parser.add_argument("--venv", type=Path, default=ROOT.parent / "venv-ultralytics")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-ultralytics")
    parser.add_argument("--rounds", type=int, default=20, help=f"blocks of {BLOCK} runs for each side")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes for each side")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    theirs_python = prepare(options.venv)
    picture = options.work.resolve() / "image.npy"
    _save_picture(options.image, picture)
    model, cut = build(theirs_python, options.data.resolve(), picture, options.work.resolve())
    commands = {
        "edgedet": [sys.executable, str(HERE / "edgedet_worker.py"), str(cut), str(picture)],
        "ultralytics": [str(theirs_python), str(HERE / "ultralytics_worker.py"), "serve", str(model), str(picture)],
    }
    result = {"starts": cold_starts(commands, options.starts), **interleaved(commands, options.rounds)}
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if options.json else report(result))


def prepare(venv: Path) -> Path:
    """Return the Python of the environment that holds Ultralytics, which is made if it does not exist."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        for packages in PACKAGES:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def build(python: Path, data: Path, picture: Path, work: Path) -> tuple[Path, Path]:
    """Return Ultralytics' INT8 OpenVINO folder and the same file cut at its heads; made if they do not exist."""
    from tests.benchmarks.ultralytics_heads import cut_at_heads

    model, cut = work / "yolov5nu_int8_openvino_model", work / "cut" / "model.int8.xml"
    if not model.is_dir():
        command = [str(python), str(HERE / "ultralytics_worker.py"), "build", str(data), str(picture), str(model)]
        subprocess.run(command, check=True, cwd=work, stdout=sys.stderr, env=quiet())
    if not cut.is_file():
        cut_at_heads(next(model.glob("*.xml")), cut, tuple(f"class{i}" for i in range(80)))
    return model, cut


def quiet() -> dict[str, str]:
    """Return an environment in which Ultralytics sends and installs nothing."""
    return {**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


def _save_picture(image: Path, target: Path) -> None:
    from edgedet_runtime.pictures import read_image

    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target, read_image(image))


class Worker:
    """One side, loaded and waiting."""

    def __init__(self, command: list[str]) -> None:
        """Start the process and wait for its first result."""
        path = os.pathsep.join(str(ROOT / part) for part in (".", "export", "models", "runtime"))
        start = time.monotonic()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**quiet(), "PYTHONPATH": path},
        )
        answer = self._answer()
        self.first_s = float(answer["first"]) - start
        self.objects = int(answer["objects"])
        self.resident_mb = float(answer["resident_mb"])

    def run(self, times: int) -> list[list[float]]:
        """Return [pre, infer, post, total] ms of each run."""
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.resident_mb = float(answer["resident_mb"])
        return [[float(v) for v in row] for row in answer["rows"]]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None, "opened as a pipe"
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def _answer(self) -> Any:
        assert self._process.stdout is not None, "opened as a pipe"
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                return json.loads(line.removeprefix("ANSWER "))
        raise SystemExit(f"a worker ended early: {self._process.args!r}")


def cold_starts(commands: dict[str, list[str]], repeats: int) -> dict[str, dict[str, float]]:
    """Start fresh processes in turns; return medians of the start to the first result and of memory then."""
    rows: dict[str, list[tuple[float, float]]] = {side: [] for side in commands}
    for _ in range(repeats):
        for side, command in commands.items():
            worker = Worker(command)
            rows[side].append((worker.first_s, worker.resident_mb))
            worker.close()
    return {
        side: {
            "first_result_s": statistics.median(s for s, _ in of),
            "resident_mb": statistics.median(mb for _, mb in of),
        }
        for side, of in rows.items()
    }


def interleaved(commands: dict[str, list[str]], rounds: int) -> dict[str, Any]:
    """Let both sides take turns; return medians of each step, and the ratios' medians over the rounds."""
    workers = {side: Worker(command) for side, command in commands.items()}
    rows: dict[str, list[list[float]]] = {side: [] for side in workers}
    ratios: list[float] = []
    for number in range(rounds):
        order = list(workers) if number % 2 else list(reversed(workers))
        medians = {}
        for side in order:
            block = workers[side].run(BLOCK + 1)[1:]
            rows[side] += block
            medians[side] = statistics.median(row[-1] for row in block)
        ratios.append(medians["ultralytics"] / medians["edgedet"])
    steps = {
        side: {name: statistics.median(row[i] for row in of) for i, name in enumerate(STEPS)}
        for side, of in rows.items()
    }
    objects = {side: worker.objects for side, worker in workers.items()}
    settled = {side: worker.resident_mb for side, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return {
        "ms": steps,
        "objects": objects,
        "settled_mb": settled,
        "speed_up": {
            "median": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "rounds": rounds,
        },
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as lines of text."""
    ours, theirs = result["ms"]["edgedet"], result["ms"]["ultralytics"]
    lines = [f"{'':24}{'edgedet':>12}{'ultralytics':>14}{'ratio':>8}"]

    def add(name: str, a: float, b: float, unit: str) -> None:
        lines.append(f"{name:24}{a:10.2f} {unit}{b:12.2f} {unit}{b / a:8.2f}")

    for name in STEPS:
        add(name, ours[name], theirs[name], "ms")
    add("pre + post", ours["pre"] + ours["post"], theirs["pre"] + theirs["post"], "ms")
    starts = result["starts"]
    for name, label, unit in (("first_result_s", "start to first result", "s "), ("resident_mb", "resident", "MB")):
        add(label, starts["edgedet"][name], starts["ultralytics"][name], unit)
    add("resident after all runs", result["settled_mb"]["edgedet"], result["settled_mb"]["ultralytics"], "MB")
    speed = result["speed_up"]
    lines.append(
        f"end to end {speed['median']:.2f} times as fast (median of {speed['rounds']} rounds,"
        f" {speed['lowest']:.2f} to {speed['highest']:.2f}); objects {result['objects']}"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / part) for part in (".", "runtime")]
    main()
