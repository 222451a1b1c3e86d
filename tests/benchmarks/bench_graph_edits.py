"""How long edits of ONNX graphs take, and that the time grows with the graph and not with its square.

::

    python tests/benchmarks/bench_graph_edits.py [--rounds 5]

Adds constants to a graph of 600 nodes, and folds what is affine into a chain of convolutions; prints medians.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / name) for name in ("export", "models", "runtime"))]

from edgedet_export.foreign.fold_into_convolutions import FoldIntoConvolutions  # noqa: E402
from tests.export.graph.test_edits import add_constants, long_chain  # noqa: E402


def seconds(run: Callable[[], object]) -> float:
    """Return how long a function takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Measure sizes in turn, round by round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for count in (2_000, 20_000):
            model = long_chain(200)
            constants = seconds(lambda model=model, count=count: add_constants(model, count))  # type: ignore[misc]
            times.setdefault(f"{count} constants", []).append(constants)
        for count in (100, 1_000):
            model = long_chain(count)
            folding = seconds(lambda model=model: FoldIntoConvolutions()(model))  # type: ignore[misc]
            times.setdefault(f"{2 * count} operators folded", []).append(folding)
    for name, measured in times.items():
        sys.stdout.write(f"{name:>24}: {1e3 * median(measured):8.1f} ms\n")


if __name__ == "__main__":
    main()
