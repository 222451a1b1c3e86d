"""The edgedet side of `bench_ultralytics`: ``serve MODEL IMAGE ENGINE`` and ``detect MODEL ENGINE OUT PICTURES...``.

Both answer as the commands of the same names of `ultralytics_worker` do.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from edgedet_runtime.engines import EngineName

CONF, IOU = 0.25, 0.45


def main() -> None:
    """Run one of the two commands."""
    command, *rest = sys.argv[1:]
    if command == "serve":
        serve(rest[0], rest[1], cast("EngineName", rest[2]))
    else:
        detect_all(rest[0], cast("EngineName", rest[1]), Path(rest[2]), rest[3:])


def serve(model: str, image: str, engine: EngineName) -> None:
    """Load, detect once, then run as often as each line of standard input says."""
    import numpy as np

    from edgedet_runtime import Detector
    from edgedet_runtime.profiling.memory import resident_mb

    picture = np.load(image)
    detector = Detector(model, engine=engine, conf=CONF, iou=IOU)
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


def detect_all(model: str, engine: EngineName, out: Path, pictures: list[str]) -> None:
    """Write the boxes found in each picture."""
    import numpy as np

    from edgedet_runtime import Detector
    from edgedet_runtime.pictures import read_image

    detector = Detector(model, engine=engine, conf=CONF, iou=IOU)
    found = {}
    for picture in pictures:
        objects = detector(read_image(Path(picture)))
        rows = np.column_stack([objects.boxes_xyxy, objects.scores, objects.class_ids])
        found[picture] = rows.tolist()
    out.write_text(json.dumps(found))


def _answer(document: object) -> None:
    sys.stdout.write("ANSWER " + json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
