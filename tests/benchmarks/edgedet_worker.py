"""The edgedet side of `bench_ultralytics`: ``MODEL IMAGE``; serves runs as `ultralytics_worker.serve` does."""

from __future__ import annotations

import json
import sys
import time

CONF, IOU = 0.25, 0.45


def main() -> None:
    """Load, detect once, then run as often as each line of standard input says."""
    import numpy as np

    from edgedet_runtime import Detector
    from edgedet_runtime.profiling.memory import resident_mb

    model, image = sys.argv[1:]
    picture = np.load(image)
    detector = Detector(model, engine="openvino", conf=CONF, iou=IOU)
    found = detector(picture)
    _answer({"first": time.monotonic(), "objects": len(found), "resident_mb": resident_mb()})
    for line in sys.stdin:
        rows = []
        for _ in range(int(line)):
            start = time.perf_counter()
            detector(picture)
            total = (time.perf_counter() - start) * 1e3
            times = detector.last_times
            assert times is not None, "the detector has just been called"
            rows.append([times.pre_ms, times.infer_ms, times.post_ms, total])
        _answer({"rows": rows, "resident_mb": resident_mb()})


def _answer(document: object) -> None:
    sys.stdout.write("ANSWER " + json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
