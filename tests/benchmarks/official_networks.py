"""Every network of Ultralytics' code beside edgedet's reading of its file: the same numbers, the same name?

    python tests/benchmarks/official_networks.py [--venv VENV] [NAME ...]

The official code builds each network (random weights, BatchNorms with statistics), saves it in half precision as its
trainer does, and computes the raw heads in a process of its own; edgedet reads the file and must give the same. Beside
it stand the parameters, and GFLOPs at 640 px by each side's count: the official one adds softmax, twice as much for a
BatchNorm, and both heads of YOLOv10 and YOLO26 where edgedet counts the one that runs.

A change may follow a ``+``: ``relu``, ``leaky`` (activations of the whole network), ``gray`` (one channel), ``fused``
(saved after the official fusing). Exits 1 where a head differs by more than 1e-4, relative to max(1, value).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / p) for p in ("export", "models", "runtime"))]

LIMIT = 1e-4
NAMES = (
    *("yolov3", "yolov3-spp", "yolov3-tiny", "yolov5n", "yolov5s", "yolov5n-p6", "yolov6n"),
    *("yolov8n", "yolov8s", "yolov8m", "yolov8n-p2", "yolov8n-p6", "yolov8n-ghost"),
    *("yolov9t", "yolov9s", "yolov9m", "yolov9c", "yolov9e"),
    *("yolov10n", "yolov10s", "yolov10m", "yolov10b", "yolov10l", "yolov10x"),
    *("yolo11n", "yolo11m", "yolo12n", "yolo12l", "yolo26n", "yolo26m", "yolo26n-p2", "yolo26n-p6"),
    *("yolov8n+leaky", "yolo11n+relu", "yolov8n+gray", "yolov8n+fused", "yolov9t+fused", "yolo26n+fused"),
)


def main() -> int:
    """Print the table as Markdown."""
    from tests.benchmarks.bench_ultralytics import prepare, quiet

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--venv", type=Path, default=ROOT.parent / "venv-ultralytics")
    options = parser.parse_args()
    python = prepare(options.venv)
    sys.stdout.write("| network | read as | official parameters | edgedet's | official GFLOPs | edgedet's |")
    sys.stdout.write(" head | largest difference |\n|---|---|--:|--:|--:|--:|---|--:|\n")
    failed = False
    for name in options.names or NAMES:
        with tempfile.TemporaryDirectory(prefix="edgedet-official-") as folder:
            worker = Path(__file__).with_name("official_networks_worker.py")
            command = [str(python), str(worker), name, folder]
            subprocess.run(command, check=True, env=quiet(), stdout=sys.stderr)
            failed |= _compare(name, Path(folder))
    return int(failed)


def _compare(name: str, folder: Path) -> bool:
    """Print the rows of one network and return whether a head differs."""
    import numpy as np
    import torch

    from edgedet_models import families
    from edgedet_models.checkpoint import read_checkpoint
    from edgedet_models.complexity import count
    from edgedet_models.families import ultralytics

    checkpoint = read_checkpoint(folder / "best.pt")
    both = ultralytics.load(checkpoint)
    with np.load(folder / "outputs.npz") as file:
        arrays = {key: file[key] for key in file.files}
    pictures = torch.from_numpy(arrays["input"])
    if pictures.shape[1] == 1:
        pictures = pictures.expand(-1, 3, -1, -1)
    failed = False
    gflops = count(both, (640, 640)).gflops
    for head in both.head_choices:
        detector = families.load(checkpoint, head=head)
        with torch.no_grad():
            raw = [output.numpy() for output in detector(pictures)]
        expected = [arrays[f"{head} {i}"] for i in range(len(raw))]
        worst = max(float((np.abs(a - b) / np.maximum(1, np.abs(b))).max()) for a, b in zip(raw, expected, strict=True))
        sys.stdout.write(
            f"| {name} | {both.spec.variant} | {int(arrays['params']):,} | {both.num_parameters:,} |"
            f" {float(arrays['gflops']):.2f} | {gflops:.2f} | {head} | {worst:.0e} |\n"
        )
        sys.stdout.flush()
        failed |= not worst <= LIMIT
    return failed


if __name__ == "__main__":
    sys.exit(main())
