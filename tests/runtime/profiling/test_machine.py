"""The machine's description, other load and memory, on the machine that runs the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest

from edgedet_runtime.profiling.machine import LoadMeter, describe_machine, package_version
from edgedet_runtime.profiling.memory import peak_resident_mb, resident_mb


def test_machine_is_json_and_plausible() -> None:
    machine = describe_machine()
    assert json.loads(json.dumps(asdict(machine)))["cpus_online"] == os.cpu_count()
    assert 1 <= machine.threads_available <= machine.cpus_online
    assert machine.cpu
    assert machine.packages["numpy"] == np.__version__


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
