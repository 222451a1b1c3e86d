"""Overlap: while one frame is in the engine, the next is read and prepared and the one before is finished.

The engine runs in a thread of its own; all else, also reading the frames, stays in the caller's. Two lanes of buffers
take turns: at most one frame is in the engine, one prepared and one being finished, so memory is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["LANES", "overlapped"]

LANES = 2

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
Out = TypeVar("Out")


def overlapped(
    frames: Iterable[T],
    prepare: Callable[[T, int], P],
    run: Callable[[P, int], R],
    finish: Callable[[T, P, R], Out],
) -> Iterator[Out]:
    """Yield what `finish` makes of each frame, in order.

    A frame's result comes when the next frame has been read. An error, of whatever step, comes where the frame's result
    would: what was read before it is finished first, and nothing after it is read.

    Args:
        frames: Read one at a time, never further than one ahead.
        prepare: Given a frame and its lane.
        run: Given what was prepared and the lane; called in another thread. What it returns may lie in the lane's
            buffers.
        finish: Given the frame, what was prepared, and what `run` returned.
    """
    pending: tuple[T, P, Future[R]] | None = None
    source = iter(frames)
    lane = 0
    with ThreadPoolExecutor(1, "edgedet-engine") as engine:
        while True:
            coming: tuple[T, P] | None = None
            error: Exception | None = None
            try:
                for frame in source:
                    coming = frame, prepare(frame, lane)
                    break
            except Exception as e:  # raised below, when the frame before is out
                error = e
            done = None if pending is None else (pending[0], pending[1], pending[2].result())
            pending = None if coming is None else (*coming, engine.submit(run, coming[1], lane))
            lane = (lane + 1) % LANES
            if done is not None:
                yield finish(*done)
            if error is not None:
                raise error
            if pending is None:
                return
