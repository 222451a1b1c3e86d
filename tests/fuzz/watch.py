"""Notice what reading a file must never do: start a process, open a socket, write or remove a file, compile code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["Watch"]

_STARTS = frozenset({"os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"})
_FORBIDDEN = frozenset(
    {
        *("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"),
        *("os.remove", "os.rename", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate"),
        *("shutil.rmtree", "shutil.move", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "webbrowser.open"),
    }
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_IMPORTING = "importlib"


class Watch:
    """Listens to Python's audit events while it is on; there can be one in a process."""

    def __init__(self, folder: Path, *, may_start: bool) -> None:
        """Watch from now on.

        Args:
            folder: Where files may be written.
            may_start: Whether processes may be started, and temporary files written for them.
        """
        self._folder, self._may_start = str(folder), may_start
        self._on = False
        self._seen = ""
        sys.addaudithook(self._hear)

    def begin(self) -> None:
        """Listen."""
        self._seen, self._on = "", True

    def end(self) -> str:
        """Stop listening; return the first thing that must not be, or nothing."""
        self._on = False
        return self._seen

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on or self._seen:
            return
        if event == "open":
            path, _, flags = arguments
            wrong = isinstance(flags, int) and bool(flags & _WRITES) and not self._allowed(path)
        elif event in _STARTS:
            wrong = not self._may_start
        else:
            wrong = event in _FORBIDDEN and not self._may_start and not self._by_import()
        if wrong:
            self._seen = f"{event}: {str(arguments)[:200]}"

    def _allowed(self, path: object) -> bool:
        text = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        return self._may_start or text.startswith((self._folder, os.devnull)) or self._by_import()

    @staticmethod
    def _by_import() -> bool:
        """Return whether it is Python that loads a module of its own, whose compiled form it may store."""
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if _IMPORTING in frame.f_code.co_filename:
                return True
        return False
