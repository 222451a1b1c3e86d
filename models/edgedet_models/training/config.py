"""What a training run is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from edgedet_runtime.errors import ArgumentError, InputError

__all__ = ["TrainConfig"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A training run.

    Attributes:
        run: Folder for the state, the weights and the log; a run that has a state there goes on from it.
        data: A cache of rendered scenes, a YOLO ``data.yaml`` or a COCO ``.json``.
        variant: What to build, a name that ``edgedet models`` lists.
        images: Length of the schedule in training images.
        hours: If given, the schedule's length in hours of training time instead; a run that is resumed counts on.
        batch: Images per step and process at 320x320; larger sizes get smaller batches at equal cost.
        sizes: Input sizes, one drawn per step.
        size_weights: Their probabilities.
        processes: Data-parallel processes of one thread each. On busy machines this is far faster than threads.
        meet_every: Steps after which the processes average their weights.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Of weights with more than one dimension.
        warmup: Share of the schedule in which the learning rate rises.
        mosaic: Share of the samples that are four views in one, each of half the size.
        ema: Decay of the average of the weights, per step.
        save_s: Seconds between two saved states.
        seed: Of the initial weights, the order and the augmentation.
        bfloat16: Whether forward passes run in bfloat16 where that is safe (autocast).
        init: Weights to start from, if there is no state yet: a run's ``weights.safetensors`` of the same variant, or
            published ImageNet weights of its backbone.
    """

    run: Path
    data: Path
    variant: str = "edgecode-n"
    images: int = 200_000
    hours: float | None = None
    batch: int = 8
    sizes: tuple[int, ...] = (256, 320, 384, 448, 640)
    size_weights: tuple[float, ...] = (0.2, 0.4, 0.2, 0.1, 0.1)
    processes: int = 2
    meet_every: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.03
    mosaic: float = 0.3
    ema: float = 0.998
    save_s: float = 120.0
    seed: int = 0
    bfloat16: bool = True
    init: Path | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before any work."""
        if len(self.sizes) != len(self.size_weights) or not self.sizes:
            raise InputError(
                f"sizes: expected as many weights as sizes, got {len(self.size_weights)} for {len(self.sizes)}"
            )
        if any(s % 32 or s <= 0 for s in self.sizes):
            raise InputError(f"sizes: expected multiples of 32, got {self.sizes}")
        if min(self.batch, self.images, self.processes, self.meet_every) < 1:
            raise InputError("batch, images, processes and meet_every: expected 1 or more")
        if not self.save_s >= 0:
            raise ArgumentError("save_s", f"expected 0 or more seconds, got {self.save_s}")
        if not 0 <= self.mosaic <= 1:
            raise InputError(f"mosaic: expected 0..1, got {self.mosaic}")
        if self.hours is not None and not 0 < self.hours < math.inf:
            raise InputError(f"hours: expected more than 0, got {self.hours}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: expected more than 0, got {self.learning_rate}")
        if not 0 <= self.ema <= 1:
            raise InputError(f"ema: expected 0..1, got {self.ema}")

    def batch_at(self, size: int) -> int:
        """Return the images per step and process at an input size."""
        return max(2, round(self.batch * (320 / size) ** 2))
