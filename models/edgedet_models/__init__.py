"""PyTorch definitions of detectors, and the reading of their checkpoints. Needs torch."""

from __future__ import annotations

from edgedet_models.checkpoint import Checkpoint, read_checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_models.families import Recognition, build, load, recognise, variants

__all__ = ["Checkpoint", "DetectorModule", "Recognition", "build", "load", "read_checkpoint", "recognise", "variants"]
