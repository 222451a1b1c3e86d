"""Release: from a run's averaged weights to the checkpoint that ships, with its threshold and its figures.

The threshold is chosen on rendered validation scenes alone; real photos have no say in it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import load
from edgedet_models.scenes import KINDS, SceneCache
from edgedet_models.training.state import save_weights
from edgedet_models.training.validate import Scored, choose_threshold, score_source
from edgedet_runtime.spec import Thresholds

__all__ = ["FALSE_PER_EMPTY", "SIZES_PX", "describe", "release"]

FALSE_PER_EMPTY = 0.1
"""False boxes per rendered scene without codes that the shipped threshold may give."""

SIZES_PX = (12, 16, 24, 32, 64)
"""Long sides of codes, at the network's input, that recall is reported for."""

_SUPPRESS_IOU = 0.5


def release(weights: Path, scenes: Path, out: Path, *, size: int = 640, half: bool = True) -> tuple[Scored, float]:
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


def describe(scored: Scored, conf: float, model: DetectorModule | None = None) -> dict[str, float]:
    """Return the figures of a release by name: recall per kind and per size, precision, false boxes."""
    figures = {"conf": conf, "precision": scored.precision(conf), "recall": scored.recall(conf)}
    figures["false_per_empty_scene"] = scored.false_per_empty(conf)
    for i, kind in enumerate(KINDS):
        figures[f"recall {kind}"] = scored.recall(conf, i)
    for px in SIZES_PX:
        figures[f"recall {px} px"] = scored.recall(conf, px=(px / 1.15, px * 1.15))
    if model is not None:
        figures["parameters"] = float(model.num_parameters)
    return figures
