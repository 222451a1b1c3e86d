"""Signals that ask a run to stop: noted, so that it can save first; the second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["STOP_SIGNALS", "StopSignals"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; ``kill``, docker and systemd; a terminal that was closed."""


class StopSignals:
    """Notes a request to stop while its block runs; then the handlers are as they were.

    A signal that the process ignores (``nohup``) stays ignored. Outside the main thread, where Python can handle no
    signals, nothing is noted.

    Attributes:
        signal: The number of the first signal; None: none has come.
        forward: Called when it comes.
    """

    def __init__(self, *, repeats_end: bool = True) -> None:
        """Note nothing yet.

        Args:
            repeats_end: Whether the second signal ends the run at once.
        """
        self.signal: int | None = None
        self._repeats_end = repeats_end
        self.forward: Callable[[], object] = lambda: None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        """Take over the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._come)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _come(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal and hand it on; end at the second.

        Raises:
            KeyboardInterrupt: It is the second, and repeats end the run.
        """
        if self.signal is not None:
            if self._repeats_end:
                raise KeyboardInterrupt
            return
        self.signal = number
        self.forward()
