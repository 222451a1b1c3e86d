"""Reading training checkpoints without executing anything in them."""

from __future__ import annotations

from edgedet_models.checkpoint.content import Checkpoint, ModuleNode, PickledObject
from edgedet_models.checkpoint.reader import read_checkpoint

__all__ = ["Checkpoint", "ModuleNode", "PickledObject", "read_checkpoint"]
