"""The training loop: data-parallel processes of one thread each, AdamW, cosine schedule, average of weights.

The processes train side by side and average their weights over gloo every few steps (local SGD, Stich, 2019): on a
machine that others use too, waiting for each other at every step would cost more than it gives. Process 0 keeps the
moving average of the weights, writes the state and the log (``log.jsonl``), and shows progress.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from edgedet_models.detector import DetectorModule
from edgedet_models.families import build
from edgedet_models.training.config import TrainConfig
from edgedet_models.training.dataset import BoxFolder, batches, open_data
from edgedet_models.training.initial_weights import load_initial_weights
from edgedet_models.training.losses import detection_loss
from edgedet_models.training.state import Ema, TrainingProgress, load_state, save_state, save_weights

__all__ = ["build_to_train", "learning_rate_at", "train"]

_LOGGER = logging.getLogger(__name__)

_LOG_EVERY = 20
_CLIP_NORM = 10.0
_FINAL_SHARE = 0.02
STATE, WEIGHTS, LOG = "state.pt", "weights.safetensors", "log.jsonl"


def learning_rate_at(share: float, peak: float, warmup: float) -> float:
    """Return the learning rate after a share of the schedule: a linear rise, then half a cosine to 2 % of the peak."""
    if share < warmup:
        return peak * max(0.02, share / warmup)
    rest = (share - warmup) / max(1e-9, 1 - warmup)
    return peak * (_FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(1.0, rest))))


def train(config: TrainConfig, *, show: bool = True) -> Path:
    """Train, or go on training, until the schedule ends.

    Args:
        config: The run.
        show: Draw a progress bar with rates and time to go.

    Returns:
        The averaged weights, a ``.safetensors`` that `edgedet export` takes.

    Raises:
        InputError: The data cannot be used.
        CheckpointError: There is no such variant, or the run's state is of another model.
    """
    source, _ = open_data(config.data)
    for note in source.notes if isinstance(source, BoxFolder) else ():
        _LOGGER.warning(note)
    build(config.variant, ("probe",))
    config.run.mkdir(parents=True, exist_ok=True)
    if config.processes == 1:
        _work(0, config, None, show)
    else:
        meeting = config.run / f"meeting-{os.getpid()}"
        spawn(_work, (config, meeting, show), nprocs=config.processes)
        meeting.unlink(missing_ok=True)
    return config.run / WEIGHTS


def _share(config: TrainConfig, progress: TrainingProgress) -> float:
    """Return the share of the schedule done, 0..1; a resumed run may have another length."""
    done = progress.seconds / (config.hours * 3600) if config.hours else progress.images / config.images
    return min(1.0, done)


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def _average(model: nn.Module, share: float) -> float:
    """Average weights and buffers, and the share of the schedule, over all processes, in place."""
    if not distributed.is_initialized():
        return share
    tensors = [t.data for t in model.state_dict().values() if t.is_floating_point()]
    flat = torch.cat([t.flatten() for t in tensors] + [torch.tensor([share])])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    at = 0
    for t in tensors:
        t.copy_(flat[at : at + t.numel()].view_as(t))
        at += t.numel()
    return float(flat[-1])


def build_to_train(variant: str, names: tuple[str, ...]) -> DetectorModule:
    """Build a network in training mode; of two heads the one-to-many one, as the assigner gives objects many cells."""
    model = build(variant, names)
    if len(model.head_choices) > 1:
        model.choose_head("one-to-many")
    return model.train()


def _work(rank: int, config: TrainConfig, meeting: Path | None, show: bool) -> None:
    """One process of a run."""
    if meeting is not None:
        torch.set_num_threads(1)
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting.resolve()}", rank=rank, world_size=config.processes
        )
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    source, names = open_data(config.data)
    model = build_to_train(config.variant, names)
    if config.init is not None:
        load_initial_weights(model, config.init)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(model, config)
    ema = Ema(model, config.ema**config.meet_every)
    progress = TrainingProgress()
    if (config.run / STATE).exists():
        progress = load_state(config.run / STATE, model, ema, optimizer)
    with _display(show and rank == 0, progress) as report:
        _loop(
            rank,
            config,
            model,
            ema,
            optimizer,
            progress,
            report,
            batches(source, config, model.spec.input, rank=rank, first_step=progress.step),
        )
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _loop(
    rank: int,
    config: TrainConfig,
    model: DetectorModule,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    progress: TrainingProgress,
    report: _Report,
    data: Iterator[tuple[Tensor, object]],
) -> None:
    parameters = [p for p in model.parameters() if p.requires_grad]
    saved = started = time.monotonic()
    before = progress.seconds
    sums: dict[str, float] = {}
    summed = 0  # steps; a run that goes on may start between two rows of the log
    mark = (progress.images, progress.seconds)
    progress.share = _share(config, progress)
    while progress.share < 1.0 - 1e-6:
        x, targets = next(data)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            raw = model(x)
        loss, parts = detection_loss(model.spec, tuple(t.float() for t in raw), targets)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
        rate = learning_rate_at(progress.share, config.learning_rate, config.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        progress.step += 1
        progress.images += len(x) * config.processes
        progress.seconds = before + time.monotonic() - started
        meets = progress.step % config.meet_every == 0
        if meets:
            progress.share = _average(model, _share(config, progress))
        if rank != 0:
            continue
        if meets:
            ema.update(model, progress.step)
        for name, value in {"loss": float(loss.detach()), **parts}.items():
            sums[name] = sums.get(name, 0.0) + value
        summed += 1
        if progress.step % _LOG_EVERY == 0:
            speed = (progress.images - mark[0]) / max(1e-9, progress.seconds - mark[1])
            mark = (progress.images, progress.seconds)
            means = {name: value / summed for name, value in sums.items()}
            _log(config.run / LOG, progress, means, rate, speed)
            report.update(progress, means, speed)
            sums, summed = {}, 0
        if meets and (time.monotonic() - saved > config.save_s or progress.share >= 1.0 - 1e-6):
            saved = time.monotonic()
            save_state(config.run / STATE, model, ema, optimizer, progress)
            save_weights(config.run / WEIGHTS, ema.model, model.spec)


def _log(path: Path, progress: TrainingProgress, means: dict[str, float], rate: float, speed: float) -> None:
    row = {**dataclasses.asdict(progress), **means, "learning_rate": rate, "images_per_s": speed}
    with path.open("a") as file:
        file.write(json.dumps({k: round(v, 6) for k, v in row.items()}) + "\n")


class _Report:
    """A line that tells nobody anything; `_Bar` draws one."""

    def update(self, progress: TrainingProgress, means: dict[str, float], speed: float) -> None:
        """Show the state of the run."""


class _Bar(_Report):
    """Rich progress with rate, loss and time to go."""

    def __init__(self, first: TrainingProgress) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("train"),
            BarColumn(),
            TextColumn("{task.percentage:5.1f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._first = dataclasses.replace(first)
        self._task = self._bar.add_task("train", total=1.0, note="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, progress: TrainingProgress, means: dict[str, float], speed: float) -> None:
        """Show the state of the run."""
        done = progress.share - self._first.share
        left_s = (progress.seconds - self._first.seconds) * (1 - progress.share) / max(done, 1e-9)
        note = f"{speed:.1f} img/s, loss {means['loss']:.3f}, {left_s / 60:.0f} min to go"
        self._bar.update(self._task, completed=progress.share, note=note)


@contextmanager
def _display(show: bool, progress: TrainingProgress) -> Iterator[_Report]:
    if not show:
        yield _Report()
        return
    with _Bar(progress) as bar:
        yield bar
