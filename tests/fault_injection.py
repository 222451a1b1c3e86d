"""Faults in what a writer asks of the system: its n-th call fails, or ends the process as a kill or a power cut would.

Counted are the calls of `os` that a test names, and the exchange of two folders. Numbers begin at 0.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Literal

import pytest

from edgedet_runtime import whole_folder
from edgedet_runtime.errors import EdgedetError

__all__ = ["How", "fail", "in_child", "stop_at"]

How = Literal["fail", "kill before", "kill after"]

_close = os.close


def fail() -> None:
    """Fail as on a full disk."""
    raise OSError(28, "No space left on device")


def stop_at(
    patched: pytest.MonkeyPatch, n: int, act: Callable[[], None], steps: Sequence[str], *, after: bool = False
) -> Callable[[], bool]:
    """Let `act` come before the n-th of the calls, or behind it; return a function that says whether it has come.

    A descriptor is closed before `act` in any case: Linux frees it even where closing fails.
    """
    numbers, came = count(), list[int]()

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(numbers) != n:
                return real(*arguments, **options)
            came.append(n)
            if not after and real is not _close:
                act()
                return real(*arguments, **options)
            with suppress(OSError):
                real(*arguments, **options)
            return act()

        return call

    for name in steps:
        patched.setattr(os, name, counted(getattr(os, name)))
    exchange = whole_folder._exchange()
    if exchange is not None:
        exchanging = counted(exchange)
        patched.setattr(whole_folder, "_exchange", lambda: exchanging)
    return lambda: bool(came)


def in_child(run: Callable[[], object], n: int, how: How, steps: Sequence[str]) -> int:
    """Run something in a child whose n-th call fails or ends it.

    Returns:
        The exit code: 0 if there were fewer calls, 3 where the failure came out as an error, 4 where as anything else,
        5 where it was made good, 9 for a kill.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    act = fail if how == "fail" else lambda: os._exit(9)
    came = stop_at(pytest.MonkeyPatch(), n, act, steps, after=how == "kill after")
    try:
        run()
    except (EdgedetError, OSError):
        os._exit(3)
    except BaseException:
        os._exit(4)
    os._exit(5 if came() else 0)
