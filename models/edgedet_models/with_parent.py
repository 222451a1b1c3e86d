"""Worker processes that end with their parent, however that ends: also where it is killed and can tell them nothing."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

__all__ = ["end_with_parent", "ending_with_parent"]


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """End this process at once if its parent dies while the block runs."""
    done, tell = os.pipe()
    thread = threading.Thread(target=_watch, args=(done,), name="watch of the parent")
    thread.start()
    try:
        yield
    finally:
        os.close(tell)
        thread.join()
        os.close(done)


def end_with_parent() -> None:
    """End this process at once if its parent dies, from now on; the initializer of a pool's workers."""
    threading.Thread(target=_watch, args=(None,), name="watch of the parent", daemon=True).start()


def _watch(done: int | None) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers come here"
    if parent.sentinel in wait([parent.sentinel] if done is None else [parent.sentinel, done]):
        os._exit(1)
