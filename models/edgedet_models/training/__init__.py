"""Training: one plain recipe for every family of the zoo, on rendered scenes or any YOLO or COCO folder.

``train(config)`` runs it; ``edgedet train`` is the command.
"""

from __future__ import annotations

from edgedet_models.training.config import TrainConfig
from edgedet_models.training.loop import train

__all__ = ["TrainConfig", "train"]
