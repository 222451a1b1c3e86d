"""One table: every official checkpoint x (torch, fused, ONNX, IR, Detector, INT8 agreement).

    python tests/benchmarks/bench_fixtures.py [--int8] [NAME ...]

Figures are the largest differences from the official code's raw outputs, relative to max(1, |value|); the Detector
column compares boxes after NMS (0.05 px, 1e-3 in score). Exits 1 if a figure is out of tolerance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / p) for p in ("export", "models", "runtime"))]


def main() -> int:
    """Print the table as Markdown."""
    from tests.interop.ladder import run_fixture
    from tests.runtime.official_fixtures import ALL_FIXTURES, RTMDET_FIXTURES
    from tests.shared_folder import shared_folder

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[])
    parser.add_argument("--shared", type=Path, default=shared_folder())
    parser.add_argument("--int8", action="store_true", help="quantise too: share of FP32 boxes that INT8 keeps")
    options = parser.parse_args()
    write = sys.stdout.write
    write("| checkpoint | params | modules fused | torch | fused | ONNX | IR | boxes | Detector | INT8 ORT, OV |\n")
    write("|---|--:|--:|--:|--:|--:|--:|--:|---|---|\n")
    failed = False
    for name in options.names or (*ALL_FIXTURES, *RTMDET_FIXTURES):
        with tempfile.TemporaryDirectory() as work:
            calib = options.shared / "data/coco128/images/calib" if options.int8 else None
            row = run_fixture(options.shared / "fixtures" / name, Path(work), int8=options.int8, calib=calib)
        detector = "; ".join(f"{engine}: {what}" for engine, what in row.detector.items() if what) or "all equal"
        agreement = ", ".join(f"{share:.3f}" for share in row.int8.values()) or "-"
        write(
            f"| {row.name} | {row.params:,} | {row.modules[0]} → {row.modules[1]} | {row.torch_unfused:.0e} |"
            f" {row.torch_fused:.0e} | {row.onnx:.0e} | {row.openvino:.0e} | {row.detections} | {detector} |"
            f" {agreement} |\n"
        )
        sys.stdout.flush()
        failed |= not row.passed
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
