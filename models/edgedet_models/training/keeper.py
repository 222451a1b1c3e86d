"""What a run leaves behind: the moving average of its weights, the log, the states."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from edgedet_models.detector import DetectorModule
from edgedet_models.training.config import TrainConfig
from edgedet_models.training.log import LOG, append_row
from edgedet_models.training.progress_bar import Report
from edgedet_models.training.state import Ema, TrainingProgress, save_state, save_weights

__all__ = ["WEIGHTS", "Keeper", "Training"]

WEIGHTS = "weights.safetensors"
_LOG_EVERY = 20


@dataclass(frozen=True, slots=True)
class Training:
    """What a process trains."""

    config: TrainConfig
    model: DetectorModule
    ema: Ema
    optimizer: torch.optim.Optimizer
    progress: TrainingProgress

    @property
    def meets(self) -> bool:
        """Whether the processes meet after the step that was done last."""
        return self.progress.step % self.config.meet_every == 0

    @property
    def finished(self) -> bool:
        """Whether the schedule has come to its end; the last step is one where the processes meet."""
        return self.meets and self.progress.share >= 1.0 - 1e-6


class Keeper:
    """Keeps what a run leaves: the moving average, the log, the states and the weights."""

    def __init__(self, training: Training, report: Report) -> None:
        """Take what is trained, and what shows it."""
        self._training = training
        self._report = report
        self._sums: dict[str, float] = {}
        self._summed = 0  # steps; a run that goes on may start between two rows of the log
        self._mark = (training.progress.images, training.progress.seconds)
        self._saved_at = time.monotonic()
        self._saved_step = training.progress.step

    def after_step(self, means: dict[str, float]) -> None:
        """Take in a step."""
        training, progress = self._training, self._training.progress
        if training.meets:
            training.ema.update(training.model, progress.step)
        for name, value in means.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._summed += 1
        if progress.step % _LOG_EVERY == 0:
            self._log()
        if training.meets and time.monotonic() - self._saved_at > training.config.save_s:
            self.save()

    def save(self) -> None:
        """Write state and weights, if anything has come since."""
        training = self._training
        if training.progress.step == self._saved_step:
            return
        run = training.config.run
        save_state(run, training.model, training.ema, training.optimizer, training.progress)
        save_weights(run / WEIGHTS, training.ema.model, training.model.spec)
        self._saved_at, self._saved_step = time.monotonic(), training.progress.step

    def _log(self) -> None:
        progress, config = self._training.progress, self._training.config
        speed = (progress.images - self._mark[0]) / max(1e-9, progress.seconds - self._mark[1])
        self._mark = (progress.images, progress.seconds)
        means = {name: value / self._summed for name, value in self._sums.items()}
        rate = float(self._training.optimizer.param_groups[0]["lr"])
        append_row(config.run / LOG, progress, means, rate, speed)
        self._report.update(progress, means, speed)
        self._sums, self._summed = {}, 0
