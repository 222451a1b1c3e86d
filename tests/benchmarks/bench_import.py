"""What importing the runtime costs, against importing numpy and OpenCV, which it needs anyway.

    python tests/benchmarks/bench_import.py [--rounds 15]

Each import runs in a fresh interpreter with its bytecode cached, as in an installed package; rounds are interleaved;
printed are medians and the median ratio. Exit 1 if the runtime takes more than 1.3 times as long.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

LIMIT = 1.3
BASE = "import numpy, cv2"
RUNTIME = "import edgedet_runtime"


def seconds(statement: str, environment: dict[str, str]) -> float:
    """Return how long a fresh interpreter takes to start and run a statement."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return time.perf_counter() - start


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as cache:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        for statement in (BASE, RUNTIME):
            seconds(statement, environment)
        pairs = [(seconds(BASE, environment), seconds(RUNTIME, environment)) for _ in range(rounds)]
    base, runtime = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    sys.stdout.write(f"{BASE}: {base * 1e3:.0f} ms; {RUNTIME}: {runtime * 1e3:.0f} ms; ratio {ratio:.2f}\n")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
