"""The state of a training run: written aside and renamed, read without executing anything."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from edgedet_models.detector import DetectorModule
from edgedet_runtime.errors import CheckpointError, MissingDependencyError
from edgedet_runtime.spec import ModelSpec

__all__ = ["Ema", "TrainingProgress", "load_state", "save_state", "save_weights"]


@dataclasses.dataclass(slots=True)
class TrainingProgress:
    """How far a run has come.

    Attributes:
        step: Optimiser steps done.
        images: Pictures seen, over all processes.
        seconds: Time spent in training.
        share: Share of the schedule done, 0..1.
    """

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    share: float = 0.0


class Ema:
    """Exponential moving average of weights and buffers; the decay rises from 0.1 towards `decay`."""

    def __init__(self, model: DetectorModule, decay: float) -> None:
        """Start from the model's weights."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after `step` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        own = self.model.state_dict()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                own[name].lerp_(value, 1 - decay)
            else:
                own[name].copy_(value)


def save_state(
    path: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, progress: TrainingProgress
) -> None:
    """Write all that is needed to go on."""
    part = path.with_suffix(f".part{os.getpid()}")
    torch.save(
        {
            "model": model.state_dict(),
            "ema": ema.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": dataclasses.asdict(progress),
        },
        part,
    )
    part.replace(path)


def load_state(path: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> TrainingProgress:
    """Go on from a saved state; everything is loaded in place.

    Raises:
        CheckpointError: The state is of another model.
    """
    state = torch.load(path, weights_only=True)
    try:
        model.load_state_dict(state["model"])
        ema.model.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as e:
        raise CheckpointError(f"{path}: the state is of another model; choose another `run` ({e})") from None
    return TrainingProgress(**state["progress"])


def save_weights(path: Path, model: DetectorModule, spec: ModelSpec, *, half: bool = False) -> None:
    """Write weights as safetensors, with the spec as JSON in the metadata under ``edgedet``.

    Args:
        path: The file.
        model: The module, in training form.
        spec: Its contract; thresholds and input size may differ from the module's own.
        half: Store float16, half the size.

    Raises:
        MissingDependencyError: safetensors is not installed.
    """
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise MissingDependencyError("safetensors", "train", "saving weights") from None
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value = value.to(torch.int64)
        elif half:
            value = value.half()
        tensors[name] = value.contiguous().clone()
    part = path.with_suffix(f".part{os.getpid()}")
    save_file(tensors, part, metadata={"edgedet": spec.to_json(), "format": "pt"})
    part.chmod(0o644)  # safetensors makes it readable for the owner only
    part.replace(path)
