"""Published ImageNet weights into a backbone."""

from __future__ import annotations

from edgedet_models.backbones.backbone import Backbone
from edgedet_models.checkpoint.content import Checkpoint
from edgedet_models.checkpoint.strict import load_strict
from edgedet_runtime.errors import CheckpointError

__all__ = ["load_imagenet"]


def load_imagenet(backbone: Backbone, checkpoint: Checkpoint) -> None:
    """Copy published weights into a backbone, without the classifier and else strictly.

    Args:
        backbone: Built at the width of the weights; layers that published weights lack keep theirs.
        checkpoint: What `read_checkpoint` returned for a state dict of torchvision, timm or Megvii.

    Raises:
        CheckpointError: The file holds no state dict, or one of another network or width; nothing has been copied.
    """
    what = type(backbone).__name__
    tensors = checkpoint.tensors()
    if not tensors:
        raise CheckpointError(f"{checkpoint.path}: expected a state dict of {what}, got a file without tensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(backbone.classifier)}
    if backbone.added:
        own = backbone.state_dict()
        kept |= {name: tensor for name, tensor in own.items() if name.startswith(backbone.added)}
    load_strict(backbone, kept, path=checkpoint.path, what=what)
