"""The machine's description, other load and memory, on the machine that runs the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgedet_runtime.profiling import machine
from edgedet_runtime.profiling.machine import LoadMeter, describe_machine, package_version
from edgedet_runtime.profiling.memory import peak_resident_mb, resident_mb


def test_machine_is_json_and_plausible() -> None:
    found = describe_machine()
    assert json.loads(json.dumps(asdict(found)))["cpus_online"] == os.cpu_count()
    assert 1 <= found.threads_available <= found.cpus_online
    assert found.cpu
    assert found.packages["numpy"] == np.__version__


def test_version_of_what_is_not_installed() -> None:
    assert package_version("edgedet-no-such-package") is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/stat is Linux")
def test_load_of_others_is_seen_and_own_is_not() -> None:
    with LoadMeter() as meter:
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        time.sleep(1.0)
        other.kill()
        other.wait()
    assert meter.busy_cpus is not None
    assert meter.busy_cpus > 0.3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/self/status is Linux")
def test_memory_grows_with_what_is_held() -> None:
    before = resident_mb()
    held = np.ones(64 << 20, np.uint8)
    after, peak = resident_mb(), peak_resident_mb()
    assert before is not None
    assert after is not None
    assert peak is not None
    assert after - before > 48
    assert peak >= after - 1
    assert held.size == 64 << 20


def test_own_time_is_that_of_the_program_and_of_the_system_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of children are left out: they are others."""
    monkeypatch.setattr(os, "times", lambda: os.times_result((2.0, 0.5, 64.0, 128.0, 1000.0)))
    assert machine._own_s() == 2.5


def test_load_is_unknown_before_it_is_measured_and_where_no_system_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LoadMeter().busy_cpus is None
    monkeypatch.setattr(machine, "_text", lambda _: "cpu  10 20 30 400 50 6 7 8 99 99")
    assert machine._busy_and_total_s() is not None
    monkeypatch.setattr(sys, "platform", "win32")
    assert machine._busy_and_total_s() is None


def test_a_system_that_tells_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_text", lambda _: None)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.25, 0.5, 0.75))
    found = describe_machine()
    assert (found.cpus_online, found.load_average, found.memory_mb, found.governor) == (1, 0.25, None, None)
    assert (found.frequency_mhz, found.frequency_max_mhz, found.throttle_count) == (None, None, None)
    monkeypatch.delattr(os, "getloadavg")
    assert describe_machine().load_average is None
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert describe_machine().cpus_online == 6


def test_only_installed_packages_have_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "package_version", {"numpy": "9.9", "openvino": None}.get)
    assert describe_machine().packages == {"numpy": "9.9"}


def test_what_a_file_of_the_system_says(tmp_path: Path) -> None:
    (tmp_path / "n").write_text(" 2400123\n")
    (tmp_path / "t").write_text("-5\n")
    assert machine._text(tmp_path / "n") == "2400123"
    assert (machine._number(tmp_path / "n"), machine._mhz(tmp_path / "n")) == (2400123, 2400)
    assert (machine._number(tmp_path / "t"), machine._mhz(tmp_path / "t")) == (None, None)
    assert (machine._text(tmp_path / "gone"), machine._number(tmp_path / "gone")) == (None, None)


def test_memory_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def text(path: Path, **_: str) -> str:
        read.append(str(path))
        return "Name: x\nVmHWM:\t  4096 kB\nVmRSS:\t  2560 kB\n"

    monkeypatch.setattr(Path, "read_text", text)
    assert (resident_mb(), peak_resident_mb(7)) == (2.5, 4.0)
    assert read == ["/proc/self/status", "/proc/7/status"]
    monkeypatch.undo()
    assert resident_mb(2**22 + 1) is None
