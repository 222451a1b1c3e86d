"""Weights that a training run starts from."""

from __future__ import annotations

from pathlib import Path

from edgedet_models.backbones import load_imagenet
from edgedet_models.backbones.backbone import Backbone
from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_models.detector import DetectorModule

__all__ = ["load_initial_weights"]


def load_initial_weights(model: DetectorModule, path: Path) -> None:
    """Copy weights into a model: those of a whole network like it, or published ImageNet weights of its backbone.

    Args:
        model: The network to train.
        path: What an earlier run left (``weights.safetensors``), or a state dict of torchvision or timm.

    Raises:
        CheckpointError: The file is neither; nothing has been copied.
    """
    checkpoint = read_checkpoint(path)
    tensors = checkpoint.tensors()
    backbone = next((m for m in model.modules() if isinstance(m, Backbone)), None)
    if backbone is not None and not tensors.keys() >= model.state_dict().keys():
        load_imagenet(backbone, checkpoint)
        return
    load_strict(model, tensors, path=path, what=model.spec.variant)
