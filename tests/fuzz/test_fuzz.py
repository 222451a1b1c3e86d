"""A short run of the fuzzer: a fixed seed, and one of the day; ``python tests/fuzz/fuzz.py`` is the long one."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.case import FAULTS

FUZZER = Path(__file__).with_name("fuzz.py")
TODAY = int(datetime.date.today().strftime("%Y%m%d"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the fuzzer's limits are those of Linux")
@pytest.mark.parametrize("seed", [0, TODAY], ids=["fixed", "of the day"])
def test_no_input_is_a_fault(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, str(FUZZER), "--count", "40", "--seed", str(seed), "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    tallies = json.loads(done.stdout or "[]")
    assert tallies, done.stderr[-2000:]
    faults = [
        f"{tally['name']} --seed {seed} --only {fault['index']}: {fault['verdict']}: {fault['words'][-300:]}"
        for tally in tallies
        for fault in tally["faults"]
    ]
    assert not faults, "\n".join(faults)
    assert all(sum(tally["counts"].values()) == 40 for tally in tallies)
    assert all(set(tally["counts"]) <= {"accepted", "refused", *FAULTS} for tally in tallies)
    assert done.returncode == 0
