"""Train networks of Ultralytics' zoo, with its own trainer, on edgedet's rendered scenes: real checkpoints to export.

    python tests/benchmarks/train_official.py build/trained yolo11n yolo26n --scenes 2400 --epochs 12

Writes ``data/`` (pictures, YOLO labels, ``data.yaml``) and ``<network>.pt`` as the trainer saves its best. A run that
was stopped goes on from its last epoch. For `bench_ultralytics`, whose INT8 figures mean more on a network that has
learned something. Ultralytics is installed in a virtual environment of its own, see there.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PARTS = {"train": 0, "calib": 20_000_000, "val": 10_000_000}


def main() -> None:
    """Render, write, train."""
    from tests.benchmarks.bench_ultralytics import prepare, quiet

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--scenes", type=int, default=2400, help="training scenes; 64 more calibrate, 200 validate")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--venv", type=Path, default=ROOT.parent / "venv-ultralytics")
    options = parser.parse_args()
    out = options.out.resolve()
    data = write_data(out / "data", {"train": options.scenes, "calib": 64, "val": 200})
    python = prepare(options.venv)
    for network in options.networks:
        target = out / f"{network}.pt"
        if target.exists():
            continue
        run = out / "runs" / network
        numbers = [str(value) for value in (options.epochs, options.size, options.batch)]
        command = [str(python), str(HERE / "ultralytics_worker.py"), "train", network, str(data), str(run), *numbers]
        subprocess.run(command, check=True, cwd=out, env=quiet())
        shutil.copy(run / "weights" / "best.pt", target)


def write_data(folder: Path, counts: dict[str, int]) -> Path:
    """Write rendered scenes as YOLO pictures and labels, unless they are there; return the data.yaml."""
    import cv2

    from edgedet_models.scenes.cache import SceneCache, write_cache
    from edgedet_models.scenes.symbols import KINDS

    described = folder / "data.yaml"
    if described.exists():
        return described
    for part, count in counts.items():
        images, labels, cache = folder / "images" / part, folder / "labels" / part, folder / "cache" / part
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for _ in write_cache(cache, count, first_seed=PARTS[part] + 1):
            sys.stderr.write(f"{part}: {len(list(cache.glob('scenes-*.npz')))} shards of scenes rendered\n")
        scenes = SceneCache(cache)
        for index in range(len(scenes)):
            picture, kinds, outlines = scenes[index]
            lows, highs = outlines.min(axis=1), outlines.max(axis=1)
            size = np.array([picture.shape[1], picture.shape[0]], np.float32)
            lows, highs = np.clip(lows / size, 0, 1), np.clip(highs / size, 0, 1)
            rows = np.concatenate([(lows + highs) / 2, highs - lows], axis=1)
            lines = [f"{kind} " + " ".join(f"{v:.6f}" for v in row) for kind, row in zip(kinds, rows, strict=True)]
            (labels / f"{index:06}.txt").write_text("".join(line + "\n" for line in lines))
            cv2.imwrite(str(images / f"{index:06}.jpg"), picture)
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(KINDS))
    described.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return described


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / part) for part in (".", "export", "models", "runtime")]
    main()
