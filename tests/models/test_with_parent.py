"""Workers end with their parent, also where it is killed; see tests/models/training/test_stop.py for training's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgedet_models.scenes import SceneCache, write_cache
from tests.models.process_family import alive, dead_soon

RENDER = """
import sys
from pathlib import Path
from edgedet_models.scenes import write_cache
for _ in write_cache(Path(sys.argv[1]), 100_000, shard=2, processes=2):
    pass
"""


@pytest.mark.slow
def test_renderers_end_with_a_killed_parent_and_leave_whole_shards(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen([sys.executable, "-c", RENDER, cache], env=environment, start_new_session=True)
    deadline = time.monotonic() + 300
    while not list(cache.glob("scenes-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(alive(process.pid)) >= 3
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert dead_soon(process.pid)
    scenes = len(SceneCache(cache))
    assert scenes >= 2
    assert len(list(write_cache(cache, scenes, shard=2, processes=1))) == scenes // 2
