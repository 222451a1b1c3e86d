"""Checkpoints of tiny networks: pickled modules and state dicts, in every container."""

from __future__ import annotations

import collections
import datetime
import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedet_models.families.edgecode import EdgeCode
from edgedet_models.training.state import save_weights
from tests.fuzz.case import Files
from tests.models import distance_networks
from tests.models.family_template import randomise
from tests.models.test_darknet import FLOATS, HEAD, TRUNK, YOLO, write
from tests.models.test_edgecode import CODES, SMALL
from tests.models.test_ultralytics import MIDDLES, network
from tests.models.test_yolov7 import idetect, three_levels
from tests.models.yaml_networks import Model

__all__ = ["darknet", "legacy", "plain_pickles", "safetensors", "zipped"]


def _contents() -> list[Any]:
    """Return what the checkpoints hold: networks as objects, state dicts, an optimizer, odd but harmless things."""
    torch.manual_seed(0)
    modules = [network(MIDDLES[name]()) for name in ("c2f", "c2psa", "elan", "links")]
    modules += [network((), distance_networks.v10Detect), Model(three_levels(idetect(), []), ["a", "b"])]
    small = EdgeCode("custom", SMALL, CODES)
    for module in (*modules, small):
        randomise(module)
        module.eval()
    weights = small.state_dict()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
    settings = {"imgsz": [64, 96], "names": {0: "cat", 1: "dog"}, "lr0": 0.01, "model": "tiny.yaml", "batch": None}
    whole = [{"epoch": -1, "model": module, "ema": None, "date": "2020", "train_args": settings} for module in modules]
    others: list[Any] = [
        weights,
        {"model": weights, "optimizer": optimizer.state_dict(), "epoch": 3},
        {"state_dict": {k: v.half() for k, v in weights.items()}, "best": torch.tensor(0.5)},
        collections.OrderedDict((f"module.{k}", torch.nn.Parameter(v)) for k, v in weights.items() if v.ndim),
        {"a": torch.zeros(3, 4).t(), "b": [torch.arange(5), (1, 2.5, "x")], "c": {1, 2}, "d": b"bytes", "e": 1 << 80},
    ]
    return whole + others


def zipped(folder: Path) -> list[Files]:
    """Return what ``torch.save`` writes."""
    return [{"seed.pt": _saved(content)} for content in _contents()]


def legacy(folder: Path) -> list[Files]:
    """Return what ``torch.save`` wrote before version 1.6."""
    return [{"seed.pth": _legacy(content)} for content in _contents()]


def _saved(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


class _LegacyPickler(pickle.Pickler):
    """Numbers storages as they come: torch names them by address and sorts by that, so that no two files are alike."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 2)
        self.storages: dict[int, Any] = {}

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, torch.storage.TypedStorage):
            return None
        address = obj._untyped_storage.data_ptr()
        self.storages.setdefault(address, obj)
        key = str(list(self.storages).index(address))
        kind = getattr(torch, obj._pickle_storage_type())
        return ("storage", kind, key, "cpu", obj._size(), None)


def _legacy(content: Any) -> bytes:
    """Write torch's container before 1.6."""
    stream = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    for header in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(header, stream, 2)
    pickler = _LegacyPickler(stream)
    pickler.dump(content)
    pickle.dump([str(i) for i in range(len(pickler.storages))], stream, 2)
    for storage in pickler.storages.values():
        data = bytes(storage._untyped_storage)
        stream.write(struct.pack("<q", storage._size()) + data)
    return stream.getvalue()


def plain_pickles(folder: Path) -> list[Files]:
    """Return pickles that torch did not write, in every protocol."""
    contents: list[Any] = [
        {"weights": np.arange(12, dtype=np.float32).reshape(3, 4), "names": ["a", "b"], "n": np.float64(1.5)},
        {"a": [1, -1, 1 << 40, 1 << 90, 1.5, None, True, "é", b"x", (1,), {2}, frozenset({3})], "b": {"c": {"d": []}}},
        collections.OrderedDict(a=collections.Counter("abc"), b=datetime.datetime(2020, 1, 1), c=range(3)),
        [Path("x"), slice(1), complex(1, 2), bytearray(b"y"), np.dtype("<f4"), np.zeros(2, ">i2")],
    ]
    return [{"seed.pkl": pickle.dumps(content, protocol)} for content in contents for protocol in (0, 2, 4, 5)]


def safetensors(folder: Path) -> list[Files]:
    """Return weights that edgedet's training writes, whole and half, and files of plain tensors."""
    from safetensors.torch import save

    torch.manual_seed(0)
    model = EdgeCode("custom", SMALL, CODES)
    randomise(model)
    for half in (False, True):
        save_weights(folder / f"{half}.safetensors", model, model.spec, half=half)
    kinds = (torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
    tensors = {str(kind): torch.ones(2, 3, dtype=kind) for kind in kinds}
    tensors |= {"empty": torch.zeros(0, 4), "one": torch.ones(())}
    written = [(folder / f"{half}.safetensors").read_bytes() for half in (False, True)]
    files = (*written, save(tensors), save(model.state_dict(), {"a": "b"}))
    return [{"seed.safetensors": _in_order(data)} for data in files]


def _in_order(data: bytes) -> bytes:
    """Sort the header, whose order differs each time."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def darknet(folder: Path) -> list[Files]:
    """Return cfg, weights and names of small networks."""
    route = (
        "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"
        "[convolutional]\nfilters=4\nsize=1\ngroups=2\nactivation=mish\n"
        "[shortcut]\nfrom=-3\nactivation=linear\n"
        "[avgpool]\n"
        "[convolutional]\nfilters=4\nsize=1\nactivation=logistic\n"
        "[scale_channels]\nfrom=-3\n"
        "[upsample]\nstride=2\n"
        "[route]\nlayers=-1, 2\n"
    )
    pools = "[maxpool]\nsize=2\nstride=1\n[maxpool]\nsize=5\nstride=1\n[reorg]\nstride=1\n"
    region = "[region]\nanchors=1,2, 3,4\nclasses=2\nnum=2\nsoftmax=1\n"
    made = (
        (TRUNK + HEAD + YOLO, FLOATS),
        (TRUNK + route + HEAD + YOLO, FLOATS - 70 + 4 * 1 + 4 + 4 * 4 + 4 + 14 * 9),
        (TRUNK + pools + HEAD + region, FLOATS),
    )
    seeds: list[Files] = []
    for cfg, floats in made:
        weights = write(folder, cfg, floats).read_bytes()
        seeds.append({"net.cfg": cfg.encode(), "net.weights": weights, "net.names": b"cat\ndog\n"})
    return seeds
