"""The training loop: data-parallel processes of one thread each, AdamW, cosine schedule, average of weights.

The processes train side by side and average their weights over gloo every few steps (local SGD, Stich, 2019): on a
machine that others use too, waiting for each other at every step would cost more than it gives. Process 0 keeps the
moving average of the weights, writes the state and the log (``log.jsonl``), and shows progress.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import torch
from torch import Tensor, distributed, nn

from edgedet_models.detector import DetectorModule
from edgedet_models.families import build
from edgedet_models.training.batches import Batches
from edgedet_models.training.config import TrainConfig
from edgedet_models.training.dataset import BoxFolder, open_data
from edgedet_models.training.initial_weights import load_initial_weights
from edgedet_models.training.keeper import WEIGHTS, Keeper, Training
from edgedet_models.training.log import LOG, cut_log
from edgedet_models.training.losses import Targets, detection_loss
from edgedet_models.training.progress_bar import showing
from edgedet_models.training.state import (
    STATE,
    Ema,
    TrainingProgress,
    load_state,
    settle_state,
)
from edgedet_models.training.stop import StopSignals
from edgedet_models.training.workers import run_workers
from edgedet_runtime.errors import InputError, StoppedError
from edgedet_runtime.one_writer import locked_folder
from edgedet_runtime.whole_file import remove_leftovers
from edgedet_runtime.writable import require_writable

__all__ = ["build_to_train", "learning_rate_at", "train"]

_LOGGER = logging.getLogger(__name__)

_CLIP_NORM = 10.0
_FINAL_SHARE = 0.02


def learning_rate_at(share: float, peak: float, warmup: float) -> float:
    """Return the learning rate after a share of the schedule: a linear rise, then half a cosine to 2 % of the peak."""
    if share < warmup:
        return peak * max(0.02, share / warmup)
    rest = (share - warmup) / max(1e-9, 1 - warmup)
    return peak * (_FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, rest))))


def train(config: TrainConfig, *, show: bool = True) -> Path:
    """Train, or go on training, until the schedule ends.

    A first SIGINT, SIGTERM or SIGHUP ends the run after the step at hand (with several processes: where they meet
    next) and saves it; a second one ends it at once.

    Args:
        config: The run.
        show: Draw a progress bar with rates and time to go.

    Returns:
        The averaged weights, a ``.safetensors`` that `edgedet export` takes.

    Raises:
        InputError: The data cannot be used, or another process trains in the same folder.
        CheckpointError: There is no such variant, or the run's states are damaged or of another model.
        StoppedError: A signal stopped the run; called again with the same configuration, it goes on.
        OSError: The folder of the run cannot be written.
    """
    require_writable(config.run / STATE, argument="run")
    source, _ = open_data(config.data)
    for note in source.notes if isinstance(source, BoxFolder) else ():
        _LOGGER.warning(note)
    build(config.variant, ("probe",))
    config.run.mkdir(parents=True, exist_ok=True)
    with locked_folder(config.run), StopSignals() as stop:
        remove_leftovers(config.run)
        settled = settle_state(config.run)
        if settled is not None:
            _LOGGER.warning(settled)
        try:
            end = _run(config, stop, show)
        except KeyboardInterrupt:
            if stop.signal is None:
                raise
            raise _stopped(config, stop.signal, f"at once; {STATE} is of the last time it was saved") from None
    if end.stopped:
        if not end.progress.step:
            raise _stopped(config, stop.signal or signal.SIGTERM, "before its first step")
        at = f"at {end.progress.share:.1%} of its schedule ({end.progress.images} images), saved in {STATE}"
        raise _stopped(config, stop.signal or signal.SIGTERM, at)
    return config.run / WEIGHTS


def _stopped(config: TrainConfig, number: int, where: str) -> StoppedError:
    return StoppedError(number, f"{config.run}: stopped by {signal.Signals(number).name} {where}")


@dataclass(frozen=True, slots=True)
class _End:
    """How a process of a run ended.

    Attributes:
        stopped: Whether it was stopped before the end of its schedule.
        progress: How far it came.
    """

    stopped: bool
    progress: TrainingProgress


def _run(config: TrainConfig, stop: StopSignals, show: bool) -> _End:
    """Run all processes of a run; return how the first of them ended."""
    if config.processes == 1:
        return _work(0, stop, config=config, meeting=None, show=show)
    meeting = config.run / f".meeting.edgedet-{os.getpid()}"
    try:
        return run_workers(partial(_work, config=config, meeting=meeting, show=show), config.processes, stop)[0]
    finally:
        meeting.unlink(missing_ok=True)


def _share(config: TrainConfig, progress: TrainingProgress) -> float:
    """Return the share of the schedule done, 0..1; a resumed run may have another length."""
    done = progress.seconds / (config.hours * 3600) if config.hours else progress.images / config.images
    return min(1.0, done)


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def _average(model: nn.Module, share: float, stop: bool) -> tuple[float, bool]:
    """Average weights and buffers over all processes, in place.

    Returns:
        The average of the share of the schedule, and whether any of the processes is asked to stop.
    """
    if not distributed.is_initialized():
        return share, stop
    tensors = [t.data for t in model.state_dict().values() if t.is_floating_point()]
    flat = torch.cat([t.flatten() for t in tensors] + [torch.tensor([share, float(stop)])])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    at = 0
    for t in tensors:
        t.copy_(flat[at : at + t.numel()].view_as(t))
        at += t.numel()
    return float(flat[-2]), float(flat[-1]) > 0


def build_to_train(variant: str, names: tuple[str, ...]) -> DetectorModule:
    """Build a network in training mode; of two heads the one-to-many one, as the assigner gives objects many cells.

    Raises:
        InputError: The network ends in a set of queries or in priors with a softmax, or its like, which needs other
            targets and losses.
    """
    model = build(variant, names)
    decode = model.spec.decode
    if decode.kind == "priors" or decode.score not in ("obj*cls", "cls", "obj"):
        raise InputError(
            f"train: expected a network that the assigner knows, got {variant}, whose boxes are {decode.kind} with"
            f" score {decode.score}; train it with its own code, and export the checkpoint"
        )
    if decode.kind == "queries":
        raise InputError(
            f"train: expected a network that predicts per cell, got {variant}, which predicts a set of queries; train"
            " it with its own code, and export the checkpoint"
        )
    if len(model.head_choices) > 1:
        model.choose_head("one-to-many")
    return model.train()


def _work(rank: int, stop: StopSignals, *, config: TrainConfig, meeting: Path | None, show: bool) -> _End:
    """One process of a run."""
    if meeting is not None:
        torch.set_num_threads(1)
        # else gloo looks up the name of the machine, and listens where others can reach it
        loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback[0] if loopback else "lo")
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting.resolve()}", rank=rank, world_size=config.processes
        )
    try:
        cv2.setNumThreads(1)
        torch.manual_seed(config.seed)
        source, names = open_data(config.data)
        model = build_to_train(config.variant, names)
        if config.init is not None:
            load_initial_weights(model, config.init)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = _optimizer(model, config)
        ema = Ema(model, config.ema**config.meet_every)
        progress = load_state(config.run, model, ema, optimizer)
        progress.share = _share(config, progress)
        if rank == 0:
            cut_log(config.run / LOG, progress.step)
        training = Training(config, model, ema, optimizer, progress)
        data = Batches(source, config, model.spec.input, rank=rank, first_step=progress.step)
        with showing(show and rank == 0, progress) as report, data:
            stopped = _loop(training, data, stop, Keeper(training, report) if rank == 0 else None)
        return _End(stopped, progress)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _loop(training: Training, data: Batches, stop: StopSignals, keeper: Keeper | None) -> bool:
    """Train until the schedule ends, or until a stop is asked for; return whether it was stopped.

    Args:
        training: What to train.
        data: Where batches come from.
        stop: Notes requests to stop.
        keeper: Keeps the average, the log and the states; None in all processes except the first.
    """
    config, progress = training.config, training.progress
    started, before = time.monotonic(), progress.seconds
    alone = not distributed.is_initialized()
    stopped = alone and stop.signal is not None
    while not (training.finished or stopped):
        try:
            x, targets = data.take()
        except InputError:  # a picture of the set is damaged: what was learned is kept
            if alone and keeper is not None:
                keeper.save()
            raise
        means = _step(training, x, targets)
        progress.step += 1
        progress.images += len(x) * config.processes
        progress.seconds = before + time.monotonic() - started
        if training.meets or alone:
            progress.share, stopped = _average(training.model, _share(config, progress), stop.signal is not None)
        if keeper is not None:
            keeper.after_step(means)
    if keeper is not None:
        keeper.save()
    return stopped and not training.finished


def _step(training: Training, x: Tensor, targets: Targets) -> dict[str, float]:
    """Train on one batch; return its losses by name."""
    model, optimizer, config = training.model, training.optimizer, training.config
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        raw = model(x)
    loss, parts = detection_loss(model.spec, tuple(t.float() for t in raw), targets)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], _CLIP_NORM)
    rate = learning_rate_at(training.progress.share, config.learning_rate, config.warmup)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return {"loss": float(loss.detach()), **parts}
