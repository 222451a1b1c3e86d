"""The Ultralytics side of `bench_ultralytics`; runs in a virtual environment of its own, without edgedet.

``build NETWORK DATA IMAGE FOLDER`` makes a network of Ultralytics' zoo, saves its checkpoint (``best.pt``), and exports
it with Ultralytics' own exporter: ``fp32.onnx``, ``fp32_openvino_model``, ``int8.onnx`` and ``int8_openvino_model``.
The network is untrained, since no weights are at hand: batch-norm statistics are taken from real photos, and the class
head is scaled and shifted until about fifty places of the picture score above 0.25, so that postprocessing has
something to do.

``serve MODEL IMAGE`` loads a model, detects once, and then runs as often as each line of standard input says. It
answers with one JSON document per line.

``detect MODEL OUT PICTURES...`` writes what it finds in the pictures to a JSON file: per picture a list of
[x0, y0, x1, y1, score, class].
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
    """Run one of the three commands."""
    command, *rest = sys.argv[1:]
    if command == "build":
        build(rest[0], *(Path(path) for path in rest[1:]))
    elif command == "serve":
        serve(*rest)
    else:
        detect_all(rest[0], Path(rest[1]), rest[2:])


def build(network: str, data: Path, image: Path, folder: Path) -> None:
    """Make the network, give it statistics, save it, export it in every form."""
    import cv2
    import numpy as np

    torch: Any = importlib.import_module("torch")
    ultralytics: Any = importlib.import_module("ultralytics")
    torch.manual_seed(0)
    yolo = ultralytics.YOLO(f"{network}.yaml")
    photos = sorted((data.parent / "images" / "calib").glob("*.jpg"))[:64]
    read = [np.asarray(cv2.imread(str(p)), np.uint8) for p in photos[:BATCH]]
    batch = _batch([cv2.resize(picture, (SIZE, SIZE)) for picture in read])
    measured = _batch([ultralytics.data.augment.LetterBox((SIZE, SIZE), auto=False)(image=np.load(image))])
    model = yolo.model
    with torch.no_grad():
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        for _ in range(3):
            model(batch)
        model.eval()
        _give_scores(model, measured)
    model.args = {"task": "detect", "imgsz": SIZE, "model": network}
    checkpoint = folder / "best.pt"
    torch.save({"epoch": -1, "model": model, "ema": None, "train_args": dict(model.args)}, checkpoint)
    described = _calibration_set(photos, folder / "calibration")
    for form, suffix in (("onnx", ".onnx"), ("openvino", "_openvino_model")):
        for int8 in (False, True):
            options = {"int8": True, "data": str(described)} if int8 else {}
            written = ultralytics.YOLO(str(checkpoint)).export(format=form, imgsz=SIZE, verbose=False, **options)
            target = folder / f"{'int8' if int8 else 'fp32'}{suffix}"
            if target.is_dir():
                shutil.rmtree(target)
            shutil.move(str(written), target)


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
    head = network.model[-1]
    for name in ("cv3", "one2one_cv3"):
        chains = getattr(head, name, None)
        if chains is not None:
            _shift_logits(network, batch, [chain[-1] for chain in chains])


def _shift_logits(network: Any, batch: Any, lasts: list[Any]) -> None:
    torch: Any = importlib.import_module("torch")
    seen: list[Any] = []
    hooks = [last.register_forward_hook(lambda _m, _i, o: seen.append(o)) for last in lasts]
    network.train()  # both heads run in training mode alone; the statistics must not move
    frozen = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for module in frozen:
        module.eval()
    network(batch)
    network.eval()
    for hook in hooks:
        hook.remove()
    for last, logits in zip(lasts, seen, strict=True):
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


def detect_all(model: str, out: Path, pictures: list[str]) -> None:
    """Write the boxes found in each picture."""
    ultralytics: Any = importlib.import_module("ultralytics")
    yolo = ultralytics.YOLO(model, task="detect")
    found = {}
    for picture in pictures:
        result = yolo.predict(picture, imgsz=SIZE, rect=False, conf=CONF, iou=IOU, verbose=False)[0]
        found[picture] = result.boxes.data.tolist()
    out.write_text(json.dumps(found))


def _resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _answer(document: object) -> None:
    sys.stdout.write("ANSWER " + json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
