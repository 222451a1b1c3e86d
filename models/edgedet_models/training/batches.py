"""Training batches, made by a thread while the network works on the one before."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Semaphore, Thread

import numpy as np
from torch import Tensor

from edgedet_models.scenes import SceneCache
from edgedet_models.training.augment import Sample, augment, mosaic
from edgedet_models.training.config import TrainConfig
from edgedet_models.training.dataset import DataSource, collate
from edgedet_models.training.losses import Targets
from edgedet_runtime.spec import InputSpec

__all__ = ["Batches"]

_AHEAD = 2
_HALF_UP_TO_PX, _HALF_SHARE, _HALF_MOST_SCALE = 320, 0.6, 1.2
"""Small inputs rarely need more than half of a scene's resolution, and decoding takes a good part of the time."""


class Batches:
    """Batches without end; a thread makes up to two ahead, from entering the block to leaving it.

    What a batch holds depends on the seed, the step and the rank alone, so a run that goes on sees the batches that it
    would have seen. All processes draw the same size at the same step; pictures differ by rank.
    """

    def __init__(self, source: DataSource, config: TrainConfig, spec: InputSpec, *, rank: int, first_step: int) -> None:
        """Take a data set and where to begin."""
        self._source, self._config, self._spec, self._rank, self._step = source, config, spec, rank, first_step
        self._made: SimpleQueue[tuple[Tensor, Targets] | BaseException] = SimpleQueue()
        self._free = Semaphore(_AHEAD)
        self._ended = False
        self._thread = Thread(target=self._produce, name=f"batches of process {rank}")

    def __enter__(self) -> Batches:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread; it finishes the batch that it is making."""
        self._ended = True
        self._free.release()
        self._thread.join()

    def take(self) -> tuple[Tensor, Targets]:
        """Return the next batch.

        Raises:
            InputError: A picture is damaged.
        """
        item = self._made.get()
        self._free.release()
        if isinstance(item, BaseException):
            raise item
        return item

    def _produce(self) -> None:
        try:
            while True:
                self._free.acquire()
                if self._ended:
                    return
                self._made.put(_make_batch(self._source, self._config, self._spec, rank=self._rank, step=self._step))
                self._step += 1
        except BaseException as e:  # handed to the consumer, which raises it
            self._made.put(e)


def _make_batch(
    source: DataSource, config: TrainConfig, spec: InputSpec, *, rank: int, step: int
) -> tuple[Tensor, Targets]:
    shared = np.random.default_rng([config.seed, step])
    weights = np.array(config.size_weights)
    size = int(shared.choice(config.sizes, p=weights / weights.sum()))
    rng = np.random.default_rng([config.seed, step, rank + 1])
    if isinstance(source, SceneCache) and step % 200 == 0:
        source.refresh()
    samples = []
    for _ in range(config.batch_at(size)):
        if rng.random() < config.mosaic:
            samples.append(mosaic([_draw_sample(source, size // 2, rng) for _ in range(4)]))
        else:
            samples.append(_draw_sample(source, size, rng))
    return collate(samples, spec)


def _draw_sample(source: DataSource, size: int, rng: np.random.Generator) -> Sample:
    """Return a random view of a random picture."""
    index = int(rng.integers(0, len(source)))
    if isinstance(source, SceneCache) and size <= _HALF_UP_TO_PX and rng.random() < _HALF_SHARE:
        return augment(*source.half(index), size, rng, most_scale=_HALF_MOST_SCALE)
    return augment(*source[index], size, rng)
