"""Release: from a run's averaged weights to the checkpoint that ships, with its threshold and its figures.

``python -m edgedet_models.training.release WEIGHTS SCENES OUT [--size 416] [--figures FILE]``

The threshold is chosen on rendered validation scenes alone; real photos have no say in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.families import load
from edgedet_models.scenes import KINDS, SceneCache
from edgedet_models.training.state import save_weights
from edgedet_models.training.validate import Scored, choose_threshold, score_source
from edgedet_runtime.spec import Thresholds

__all__ = ["FALSE_PER_EMPTY", "describe", "release"]

FALSE_PER_EMPTY = 0.05
"""False boxes per rendered scene without codes that the shipped threshold may give."""

_SUPPRESS_IOU = 0.5


def release(weights: Path, scenes: Path, out: Path, *, size: int = 416, half: bool = True) -> tuple[Scored, float]:
    """Choose the threshold, and write the checkpoint with it.

    Args:
        weights: Averaged weights of a run (``weights.safetensors``).
        scenes: Cache of validation scenes, of seeds that training did not use.
        out: The checkpoint to write.
        size: Input size for validation and as the default of exports.
        half: Store float16.

    Returns:
        The scored validation scenes and the threshold.
    """
    model = load(read_checkpoint(weights))
    source = SceneCache(scenes)
    scored = score_source(model, source, range(len(source)), size)
    conf = choose_threshold(scored, false_per_empty=FALSE_PER_EMPTY)
    spec = dataclasses.replace(
        model.spec,
        thresholds=Thresholds(conf=conf, iou=_SUPPRESS_IOU),
        input=dataclasses.replace(model.spec.input, height=size, width=size),
    )
    save_weights(out, model, spec, half=half)
    return scored, conf


def describe(scored: Scored, conf: float) -> dict[str, float]:
    """Return the figures of a release by name: recall per kind and per size, precision, false boxes."""
    figures = {"conf": conf, "precision": scored.precision(conf), "recall": scored.recall(conf)}
    figures["false_per_empty_scene"] = scored.false_per_empty(conf)
    for i, kind in enumerate(KINDS):
        figures[f"recall {kind}"] = scored.recall(conf, i)
    for low, high in ((8, 16), (16, 32), (32, 64), (64, 128), (128, 10_000)):
        figures[f"recall {low}-{high} px"] = scored.recall(conf, px=(low, high))
    return {name: round(value, 4) for name, value in figures.items() if not math.isnan(value)}


def main() -> None:
    """Parse the command line and release."""
    parser = argparse.ArgumentParser(prog="python -m edgedet_models.training.release", description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("scenes", type=Path, help="cache of validation scenes, of seeds that training did not use")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--figures", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    scored, conf = release(options.weights, options.scenes, options.out, size=options.size)
    figures = {"size": options.size, "scenes": scored.pictures, **describe(scored, conf)}
    if options.figures is not None:
        options.figures.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
