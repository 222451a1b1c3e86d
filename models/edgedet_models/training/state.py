"""The state of a training run: written aside, brought to the disk and renamed; read without executing anything.

The state before the last one is kept: should the last be damaged, a run goes on from that.
"""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from edgedet_models.checkpoint import read_checkpoint
from edgedet_models.detector import DetectorModule
from edgedet_runtime.errors import CheckpointError, MissingDependencyError
from edgedet_runtime.spec import ModelSpec
from edgedet_runtime.whole_file import whole_file

__all__ = ["STATE", "Ema", "TrainingProgress", "load_state", "save_state", "save_weights", "settle_state"]

STATE, PREVIOUS, DAMAGED = "state.pt", "state.previous.pt", "state.damaged.pt"


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
    run: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, progress: TrainingProgress
) -> None:
    """Write all that is needed to go on; the state before it stays as `PREVIOUS`.

    Raises:
        OSError: It cannot be written; the states are as they were.
    """
    content = {
        "model": dict(model.state_dict()),
        "ema": dict(ema.model.state_dict()),
        "optimizer": optimizer.state_dict()["state"],
        "progress": dataclasses.asdict(progress),
    }
    with whole_file(run / STATE, previous=run / PREVIOUS) as file:
        sink = _Sink(file)
        try:
            torch.save(content, sink)  # type: ignore[arg-type]
        except RuntimeError:  # what torch makes of an error of the file below it
            if sink.error is None:
                raise
            sink.error.filename = str(run / STATE)
            raise sink.error from None


class _Sink:
    """A file for torch to write to that remembers why it could not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as e:
            self.error = e
            raise

    def flush(self) -> None:
        self._file.flush()


def settle_state(run: Path) -> str | None:
    """Make the last whole state of a run the one that is loaded.

    A state that is damaged is set aside as `DAMAGED`, and the one before it takes its place.

    Returns:
        What was done, a sentence; None where nothing was.

    Raises:
        CheckpointError: The state is damaged, and there is no whole one before it.
    """
    state, previous = run / STATE, run / PREVIOUS
    if not state.exists():
        if not previous.exists():
            return None
        _read(previous)
        os.replace(previous, state)
        return f"{state}: is not there; the run goes on from the state before it, {previous.name}"
    try:
        _read(state)
    except CheckpointError as damage:
        try:
            if not previous.exists():
                raise CheckpointError(f"{previous}: is not there")
            _read(previous)
        except CheckpointError as e:
            raise CheckpointError(f"{damage}; nor is there a state before it ({e}); choose another `run`") from None
        os.replace(state, run / DAMAGED)
        os.replace(previous, state)
        return f"{damage}; the run goes on from the state before it, and {DAMAGED} is the damaged one"
    return None


def load_state(run: Path, model: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer) -> TrainingProgress:
    """Go on from a run's state, if it has one; everything is loaded in place.

    Raises:
        CheckpointError: The state is damaged, or of another model.
    """
    path = run / STATE
    if not path.exists():
        return TrainingProgress()
    state = _read(path)
    try:
        model.load_state_dict(state.model)
        ema.model.load_state_dict(state.ema)
        _load_moments(optimizer, state.moments)
    except (RuntimeError, ValueError) as e:
        why = " ".join(str(e).split())[:200]
        raise CheckpointError(f"{path}: the state is of another model; choose another `run` ({why})") from None
    return state.progress


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """A state as the file has it."""

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    moments: dict[int, dict[str, Tensor]]
    progress: TrainingProgress


def _read(path: Path) -> _State:
    """Read a state without running anything of the file.

    Raises:
        CheckpointError: It cannot be read, is damaged, or is something else.
    """
    content = read_checkpoint(path).content
    fields = content if isinstance(content, dict) else {}
    optimizer = fields.get("optimizer")
    if isinstance(optimizer, dict) and "param_groups" in optimizer:  # as earlier versions wrote it
        optimizer = optimizer.get("state")
    progress = fields.get("progress")
    if not (
        _tensors(fields.get("model"))
        and _tensors(fields.get("ema"))
        and isinstance(optimizer, dict)
        and all(isinstance(k, int) and _tensors(v) for k, v in optimizer.items())
        and isinstance(progress, dict)
        and progress.keys() == {f.name for f in dataclasses.fields(TrainingProgress)}
        and all(isinstance(v, (int, float)) and 0 <= v < 1e15 for v in progress.values())
    ):
        raise CheckpointError(f"{path}: expected the state of a training run, got something else")
    numbers = TrainingProgress(
        int(progress["step"]), int(progress["images"]), float(progress["seconds"]), float(progress["share"])
    )
    return _State(fields["model"], fields["ema"], optimizer, numbers)


def _tensors(value: object) -> bool:
    """Return whether a value is a dict of tensors by name."""
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _load_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]) -> None:
    """Load AdamW's averages; the groups with their rates stay as they are.

    Raises:
        ValueError: They are not those of the parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entry in moments.items():
        if not 0 <= index < len(parameters) or entry.keys() != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"averages of parameter {index}, of {len(parameters)}")
        shapes = {entry["exp_avg"].shape, entry["exp_avg_sq"].shape, parameters[index].shape}
        if len(shapes) > 1 or entry["step"].numel() != 1:
            raise ValueError(f"averages of parameter {index} of other shapes")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


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
        from safetensors.torch import save
    except ImportError:
        raise MissingDependencyError("safetensors", "train", "saving weights") from None
    tensors: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value = value.to(torch.int64)
        elif half:
            value = value.half()
        tensors[name] = value.contiguous().clone()
    with whole_file(path) as file:
        file.write(save(tensors, metadata={"edgedet": spec.to_json(), "format": "pt"}))
