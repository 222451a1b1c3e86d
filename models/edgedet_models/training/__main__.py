"""``python -m edgedet_models.training RUN DATA``: train, or go on with, a detector."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgedet_models.training import TrainConfig, train


def _sizes(text: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    pairs = [part.split(":") for part in text.split(",")]
    return tuple(int(size) for size, _ in pairs), tuple(float(weight) for _, weight in pairs)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m edgedet_models.training", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run; an existing run goes on")
    parser.add_argument("data", type=Path, help="folder of rendered scenes, YOLO data.yaml or COCO .json")
    parser.add_argument("--variant", default="edgecode-n")
    parser.add_argument("--images", type=int, default=200_000, help="length of the schedule in images")
    parser.add_argument("--hours", type=float, help="length of the schedule in hours instead")
    parser.add_argument("--batch", type=int, default=8, help="per process, at 320x320")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the average of weights, per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sizes", type=_sizes, help="input sizes and weights, such as 256:0.5,320:0.5")
    parser.add_argument("--init", type=Path, help="weights to start from")
    options = parser.parse_args()
    values = vars(options)
    sizes = values.pop("sizes")
    if sizes is not None:
        values["sizes"], values["size_weights"] = sizes
    train(TrainConfig(**values))


if __name__ == "__main__":
    main()
