"""The Ultralytics side of `bench_ultralytics`; runs in a virtual environment of its own, without edgedet.

``build DATA IMAGE OUT`` writes an INT8 OpenVINO model with Ultralytics' own exporter. The network is its YOLOv5n,
untrained, since no weights are at hand: batch-norm statistics are taken from real photos, and the class head is scaled
and shifted until about fifty places of the picture score above 0.25, so that postprocessing has something to do.

``serve MODEL IMAGE`` loads the model, detects once, and then runs as often as each line of standard input says. It
answers with one JSON document per line.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

SIZE = 640
CANDIDATES = 50
BATCH = 8
CONF, IOU = 0.25, 0.45


def main() -> None:
    """Run one of the two commands."""
    command, *rest = sys.argv[1:]
    if command == "build":
        build(*(Path(path) for path in rest))
    else:
        serve(*rest)


def build(data: Path, image: Path, out: Path) -> None:
    """Make the network, give it statistics, export it to INT8 OpenVINO."""
    import cv2
    import numpy as np

    torch: Any = importlib.import_module("torch")
    ultralytics: Any = importlib.import_module("ultralytics")
    torch.manual_seed(0)
    yolo = ultralytics.YOLO("yolov5n.yaml")
    photos = sorted((data.parent / "images" / "calib").glob("*.jpg"))[:32]
    read = [np.asarray(cv2.imread(str(p)), np.uint8) for p in photos[:BATCH]]
    batch = _batch([cv2.resize(picture, (SIZE, SIZE)) for picture in read])
    measured = _batch([ultralytics.data.augment.LetterBox((SIZE, SIZE), auto=False)(image=np.load(image))])
    network = yolo.model
    with torch.no_grad():
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        for _ in range(3):
            network(batch)
        network.eval()
        _give_scores(network, measured)
    yolo.ckpt = {}
    described = _calibration_set(photos, out.parent / "calibration")
    written = Path(yolo.export(format="openvino", int8=True, imgsz=SIZE, data=str(described), verbose=False))
    if out.exists():
        shutil.rmtree(out)
    shutil.move(str(written), out)


def _batch(pictures: list[Any]) -> Any:
    import numpy as np

    torch: Any = importlib.import_module("torch")
    stacked = np.stack([picture[..., ::-1].transpose(2, 0, 1) for picture in pictures])
    return torch.from_numpy(stacked).float() / 255


def _calibration_set(photos: list[Path], folder: Path) -> Path:
    """Return a data.yaml for the exporter, in a folder where it may write its caches; photos are linked."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        link = images / photo.name
        if not link.exists():
            link.symlink_to(photo)
    classes = "".join(f"  {i}: class{i}\n" for i in range(80))
    described = folder / "data.yaml"
    described.write_text(f"path: {folder}\ntrain: images\nval: images\nnames:\n{classes}")
    return described


def _give_scores(network: Any, batch: Any) -> None:
    """Scale and shift the class logits of each level to a spread of 2 with `CANDIDATES` above the threshold."""
    torch: Any = importlib.import_module("torch")
    head = network.model[-1]
    seen: list[Any] = []
    hooks = [branch[-1].register_forward_hook(lambda _m, _i, o: seen.append(o)) for branch in head.cv3]
    network(batch)
    for hook in hooks:
        hook.remove()
    for branch, logits in zip(head.cv3, seen, strict=True):
        last = branch[-1]
        scale = 2.0 / float(logits.std())
        best = (logits * scale).amax(1).flatten(1)
        wanted = max(1, round(CANDIDATES * best.shape[1] / 8400))
        at = best.sort(1, descending=True).values[:, wanted].mean()
        threshold = torch.logit(torch.tensor(CONF))
        last.weight.mul_(scale)
        last.bias.mul_(scale).add_(threshold - at)


def serve(model: str, image: str) -> None:
    """Answer with times until standard input ends."""
    import numpy as np

    ultralytics: Any = importlib.import_module("ultralytics")
    picture = np.load(image)
    yolo = ultralytics.YOLO(model, task="detect")

    def detect() -> Any:
        return yolo.predict(picture, imgsz=SIZE, conf=CONF, iou=IOU, verbose=False)[0]

    found = detect()
    _answer({"first": time.monotonic(), "objects": len(found.boxes), "resident_mb": _resident_mb()})
    for line in sys.stdin:
        rows = []
        for _ in range(int(line)):
            start = time.perf_counter()
            speed = detect().speed
            total = (time.perf_counter() - start) * 1e3
            rows.append([speed["preprocess"], speed["inference"], speed["postprocess"], total])
        _answer({"rows": rows, "resident_mb": _resident_mb()})


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _answer(document: object) -> None:
    sys.stdout.write("ANSWER " + json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
