"""A real browser for tests: headless Chromium, driven over its DevTools pipe with nothing but the standard library.

The protocol's messages are JSON ended by a zero byte, on file descriptors 3 and 4 (``--remote-debugging-pipe``).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
TIMEOUT_S = 60.0


def find_chromium() -> str:
    """Return the browser's path, or skip the test."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    return path


@dataclass
class Visit:
    """What happened while a page was shown.

    Attributes:
        requests: Addresses that were asked for, ``data:`` ones left out.
        complaints: Console messages, exceptions and log entries.
        width_px: Of the viewport.
        content_px: Width of the content; more than `width_px` means that the page scrolls sideways.
        facts: Result of the script that was given.
        screenshot: PNG of the whole page.
    """

    width_px: int
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    content_px: int = 0
    facts: Any = None
    screenshot: bytes = b""


class Chromium:
    """One browser process with an empty profile."""

    def __init__(self, profile: Path) -> None:
        """Start it."""
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        there = sorted((read_there, write_there))
        command = [find_chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        # the browser wants descriptors 3 and 4; a shell moves ours there, whatever numbers they have
        moved = f'exec "$0" "$@" 3<&{read_there} 4>&{write_there}'
        self._process = subprocess.Popen(
            ["bash", "-c", moved, *command], pass_fds=there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(read_there)
        os.close(write_there)
        self._in, self._out = read_here, write_here
        self._buffer = b""
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        """Return the browser itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        os.close(self._out)
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def visit(self, page: Path, *, width_px: int, dark: bool, script: str = "null") -> Visit:
        """Open a page of its own for a file and look at it.

        Args:
            page: HTML file.
            width_px: Of the viewport; below 600 a phone's, with a phone's scaling.
            dark: Whether the reader prefers dark.
            script: JavaScript whose value becomes `Visit.facts`.
        """
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        phone = width_px < 600
        size = {"width": width_px, "height": 844, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable", {}, session)
        self._call("Emulation.setDeviceMetricsOverride", size, session)
        self._call("Emulation.setEmulatedMedia", scheme, session)
        self._events.clear()
        self._call("Page.navigate", {"url": page.resolve().as_uri()}, session)
        self._wait("Page.loadEventFired")
        content = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
        result = Visit(width_px, content_px=self._value(content, session), facts=self._value(script, session))
        shot = {"format": "png", "captureBeyondViewport": True}
        result.screenshot = base64.b64decode(self._call("Page.captureScreenshot", shot, session)["data"])
        for event in self._events:
            self._sort(event["method"], event["params"], result)
        self._call("Target.closeTarget", {"targetId": target})
        return result

    @staticmethod
    def _sort(method: str, params: Mapping[str, Any], into: Visit) -> None:
        if method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            into.requests.append(params["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            into.complaints.append(json.dumps(params)[:500])

    def _value(self, script: str, session: str) -> Any:
        asked = {"expression": script, "returnByValue": True}
        return self._call("Runtime.evaluate", asked, session)["result"].get("value")

    def _call(self, method: str, params: Mapping[str, Any], session: str | None = None) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self._events.append(answer)

    def _wait(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            self._events.append(self._read())

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + TIMEOUT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            block = os.read(self._in, 1 << 20) if ready else b""
            assert block, f"Chromium said nothing for {TIMEOUT_S:.0f} s, or ended"
            self._buffer += block
        text, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(text)
        return found
