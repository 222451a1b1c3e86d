"""Side by side with Ultralytics: each tool exports the same checkpoint its own way, and detects, in interleaved runs.

    python tests/benchmarks/bench_ultralytics.py --data ../shared/data/coco128/data.yaml --image ../shared/data/bus.jpg

Ultralytics is installed for this only, in a virtual environment of its own (several GB). It builds the networks,
saves their checkpoints and exports them with its exporter; edgedet exports the same checkpoints, calibrated on the same
photos. Both processes stay alive and take turns in short blocks, the first run of each block uncounted; fresh
processes, also in turns, give the start to the first result and the resident memory. The INT8 files of both are then
held against the network in PyTorch (``best.pt`` in Ultralytics): how many of its boxes are found (same class,
IoU of 0.5), and how many of the boxes found are its own. The networks are untrained: a trained one loses far less.
Prints tables, and JSON with ``--json``. Remove the folder ``--work`` to begin anew.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / part) for part in (".", "export", "models", "runtime")]

from tests.benchmarks.waiting_process import WaitingProcess  # noqa: E402

PACKAGES = (
    ("torch==2.14.1", "torchvision==0.29.1"),
    ("ultralytics", "openvino", "nncf", "onnx", "onnxruntime", "onnxslim"),
)
NETWORKS = ("yolo11n", "yolo26n")
ENGINES = ("openvino", "onnxruntime")
STEPS = ("pre", "infer", "post", "end to end")
BLOCK = 5
CALIBRATION = 64


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=[], help=f"of Ultralytics' zoo (default: {' '.join(NETWORKS)})")
    parser.add_argument("--data", type=Path, required=True, help="YOLO data.yaml; images/calib beside it calibrates")
    parser.add_argument("--image", type=Path, required=True, help="picture to detect in")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--precisions", nargs="+", default=["int8"], choices=("fp32", "int8"))
    parser.add_argument("--venv", type=Path, default=ROOT.parent / "venv-ultralytics")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench-ultralytics")
    parser.add_argument("--rounds", type=int, default=20, help=f"blocks of {BLOCK} runs for each side")
    parser.add_argument("--starts", type=int, default=5, help="fresh processes for each side")
    parser.add_argument("--held-out", type=int, default=64, help="photos for agreement with PyTorch; 0: none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    python = prepare(options.venv)
    results = []
    for network in options.networks or NETWORKS:
        work = options.work.resolve() / network
        picture = work / "image.npy"
        _save_picture(options.image, picture)
        build(python, network, options.data.resolve(), picture, work)
        for precision in options.precisions:
            for engine in options.engines:
                commands = serving(python, work, engine, precision, picture)
                result = {"network": network, "engine": engine, "precision": precision}
                result |= {"starts": cold_starts(commands, options.starts), **interleaved(commands, options.rounds)}
                if options.held_out:
                    photos = sorted((options.data.resolve().parent / "images" / "val").glob("*.jpg"))
                    result["agreement"] = agreement(python, work, engine, precision, photos[: options.held_out])
                results.append(result)
                if not options.json:
                    sys.stdout.write(report(result))
                    sys.stdout.flush()
    if options.json:
        sys.stdout.write(json.dumps(results, indent=2) + "\n")


def prepare(venv: Path) -> Path:
    """Return the Python of the environment that holds Ultralytics, which is made if it does not exist."""
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        for packages in PACKAGES:
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def build(python: Path, network: str, data: Path, picture: Path, work: Path) -> None:
    """Make the checkpoint, Ultralytics' four files and edgedet's bundle, unless they exist."""
    from edgedet import export
    from edgedet_export.config import ExportConfig

    if not (work / "int8_openvino_model").is_dir():
        command = [str(python), str(HERE / "ultralytics_worker.py"), "build", network, str(data), str(picture)]
        subprocess.run([*command, str(work)], check=True, cwd=work, stdout=sys.stderr, env=quiet())
    if not (work / "bundle" / "manifest.json").is_file():
        photos = work / "calibration" / "images"
        # An untrained network's detections mean nothing to the search for INT8: the engine's plain placement.
        export(work / "best.pt", ExportConfig(out=work / "bundle", int8=True, search=False, calib=photos))


def theirs(work: Path, engine: str, precision: str) -> Path:
    """Return Ultralytics' file."""
    return work / (f"{precision}_openvino_model" if engine == "openvino" else f"{precision}.onnx")


def ours(work: Path, engine: str, precision: str) -> Path:
    """Return edgedet's file."""
    form = "xml" if engine == "openvino" else "onnx"
    name = f"model.int8.{form}" if precision == "int8" else f"model.{form}"
    found = sorted((work / "bundle").rglob(name))
    if len(found) != 1:
        raise SystemExit(f"{work / 'bundle'}: expected one {name}, got {len(found)}")
    return found[0]


def serving(python: Path, work: Path, engine: str, precision: str, picture: Path) -> dict[str, list[str]]:
    """Return the commands that serve the network on an engine, one for each side."""
    here = [sys.executable, str(HERE / "edgedet_worker.py"), "serve", str(ours(work, engine, precision))]
    there = [str(python), str(HERE / "ultralytics_worker.py"), "serve", str(theirs(work, engine, precision))]
    return {"edgedet": [*here, str(picture), engine], "ultralytics": [*there, str(picture)]}


def agreement(python: Path, work: Path, engine: str, precision: str, photos: list[Path]) -> dict[str, dict[str, float]]:
    """Return recall and precision of each side's boxes against those of the checkpoint in PyTorch."""
    worker = [str(python), str(HERE / "ultralytics_worker.py"), "detect"]
    reference, out = work / "torch.json", work / "found.json"
    names = [str(photo) for photo in photos]
    if not reference.is_file():
        _run([*worker, str(work / "best.pt"), str(reference), *names])
    truth = json.loads(reference.read_text())
    here = [sys.executable, str(HERE / "edgedet_worker.py"), "detect", str(ours(work, engine, precision)), engine]
    sides = {"edgedet": here, "ultralytics": [*worker, str(theirs(work, engine, precision))]}
    figures = {}
    for side, command in sides.items():
        _run([*command, str(out), *names])
        found = json.loads(out.read_text())
        pairs = [_pairs(np.array(truth[name]), np.array(found[name])) for name in names]
        total, boxes, same = (sum(column) for column in zip(*pairs, strict=True))
        figures[side] = {"recall": same / max(1, total), "precision": same / max(1, boxes), "reference_boxes": total}
    return figures


def _run(command: list[str]) -> None:
    path = os.pathsep.join(str(ROOT / part) for part in (".", "export", "models", "runtime"))
    subprocess.run(command, check=True, stdout=sys.stderr, env={**quiet(), "PYTHONPATH": path})


def _pairs(truth: Any, found: Any) -> tuple[int, int, int]:
    """Return how many boxes each side has, and how many are the same: of one class, with an IoU of at least 0.5."""
    from edgedet_runtime.overlap import box_iou
    from edgedet_runtime.pairing import pair_greedily

    if not len(truth) or not len(found):
        return len(truth), len(found), 0
    overlaps = box_iou(truth[:, :4], found[:, :4])
    overlaps[truth[:, None, 5] != found[None, :, 5]] = 0
    return len(truth), len(found), len(pair_greedily(np.where(overlaps >= 0.5, overlaps, 0)))


def quiet() -> dict[str, str]:
    """Return an environment in which Ultralytics sends and installs nothing."""
    return {**os.environ, "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


def _save_picture(image: Path, target: Path) -> None:
    from edgedet_runtime.pictures import read_image

    target.parent.mkdir(parents=True, exist_ok=True)
    np.save(target, read_image(image))


class Worker(WaitingProcess):
    """One side, loaded and waiting."""

    def __init__(self, command: list[str]) -> None:
        """Start the process and wait for its first result."""
        path = os.pathsep.join(str(ROOT / part) for part in (".", "export", "models", "runtime"))
        super().__init__(command, {**quiet(), "PYTHONPATH": path})
        self.objects = int(self.first["objects"])
        self.resident_mb = float(self.first["resident_mb"])

    def run(self, times: int) -> list[list[float]]:
        """Return [pre, infer, post, total] ms of each run."""
        answer = self.ask(str(times))
        self.resident_mb = float(answer["resident_mb"])
        return [[float(v) for v in row] for row in answer["rows"]]


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
    title = f"{result['network']} {result['engine']} {result['precision']}"
    lines = [f"{title:28}{'edgedet':>12}{'ultralytics':>14}{'ratio':>8}"]

    def add(name: str, a: float, b: float, unit: str) -> None:
        lines.append(f"  {name:26}{a:10.2f} {unit}{b:12.2f} {unit}{b / a:8.2f}")

    for name in STEPS:
        add(name, ours[name], theirs[name], "ms")
    add("pre + post", ours["pre"] + ours["post"], theirs["pre"] + theirs["post"], "ms")
    starts = result["starts"]
    for name, label, unit in (("first_result_s", "start to first result", "s "), ("resident_mb", "resident", "MB")):
        add(label, starts["edgedet"][name], starts["ultralytics"][name], unit)
    add("resident after all runs", result["settled_mb"]["edgedet"], result["settled_mb"]["ultralytics"], "MB")
    speed = result["speed_up"]
    lines.append(
        f"  end to end {speed['median']:.2f} times as fast (median of {speed['rounds']} rounds,"
        f" {speed['lowest']:.2f} to {speed['highest']:.2f}); objects {result['objects']}"
    )
    for side, figures in result.get("agreement", {}).items():
        lines.append(
            f"  {side}: finds {figures['recall']:.1%} of PyTorch's {figures['reference_boxes']} boxes;"
            f" {figures['precision']:.1%} of its own are among them"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
