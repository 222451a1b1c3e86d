"""What torch.save and safetensors write is read as it was; what is no checkpoint is named in one line."""

from __future__ import annotations

import argparse
import collections
import datetime
import hashlib
import json
import pathlib
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgedet_models.checkpoint import ModuleNode, PickledObject, read_checkpoint
from edgedet_runtime.errors import CheckpointError

both_containers = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(value: Any, path: Path, *, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def network() -> nn.Module:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4, eps=1e-3), nn.SiLU())
    return nn.Sequential(collections.OrderedDict(stem=block, head=nn.Conv2d(4, 2, 1)))


@both_containers
@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool],
)
def test_dtypes(zipped: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    path = save({"t": tensor, "empty": tensor[:0], "scalar": tensor[1, 2]}, tmp_path / "x.pt", zipped=zipped)
    content = read_checkpoint(path).content
    assert content["t"].dtype == dtype
    assert torch.equal(content["t"], tensor)
    assert content["empty"].shape == (0, 4)
    assert torch.equal(content["scalar"], tensor[1, 2])


@both_containers
def test_views_share_their_storage(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    saved = {"base": base, "t": base.t(), "part": base[1:3, ::2], "wide": base[0, :1].expand(5, 1)}
    content = read_checkpoint(save(saved, tmp_path / "x.pt", zipped=zipped)).content
    for name, tensor in saved.items():
        assert torch.equal(content[name], tensor)
        assert content[name].stride() == tensor.stride()
    content["base"][1, 2] = -1.0
    assert content["t"][2, 1] == -1.0


@both_containers
def test_pickled_module_becomes_a_tree(zipped: bool, tmp_path: Path) -> None:
    model = network()
    checkpoint = read_checkpoint(save({"model": model, "ema": None}, tmp_path / "x.pt", zipped=zipped))
    node = checkpoint.module()
    assert node is not None
    assert list(node.children) == ["stem", "head"]
    conv, norm, act = node.children["stem"].children.values()
    assert (conv.type_name, norm.type_name, act.class_path) == (
        "Conv2d",
        "BatchNorm2d",
        "torch.nn.modules.activation.SiLU",
    )
    assert conv.attributes["stride"] == (2, 2)
    assert conv.parameters["bias"] is None
    assert norm.attributes["eps"] == 1e-3
    expected = model.state_dict()
    assert set(checkpoint.tensors()) == set(expected)
    for name, tensor in checkpoint.tensors().items():
        assert torch.equal(tensor, expected[name]), name


@both_containers
def test_ema_comes_before_model(zipped: bool, tmp_path: Path) -> None:
    model, ema = network(), network().half()
    for saved in (
        {"model": model, "ema": ema},
        {"model": model, "ema": (ema, 7)},
        {"model": nn.DataParallel(ema)},
    ):
        tensors = read_checkpoint(save(saved, tmp_path / "x.pt", zipped=zipped)).tensors()
        assert tensors["head.weight"].dtype == torch.float16


def test_state_dicts_wherever_they_are(tmp_path: Path) -> None:
    state = network().state_dict()
    parallel = {f"module.{k}": v for k, v in state.items()}
    for saved in (
        state,
        {"state_dict": state},
        {"model": parallel, "epoch": 3},
        {"model_ema": state, "model": {}},
    ):
        assert set(read_checkpoint(save(saved, tmp_path / "x.pt", zipped=True)).tensors()) == set(state)


@both_containers
def test_what_training_leaves_beside_the_weights(zipped: bool, tmp_path: Path) -> None:
    saved = {
        "best_fitness": np.array([0.1, 0.2]),
        "fortran": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "scalar": np.float64(0.123),
        "objects": np.array([{"a": 1}, None], dtype=object),
        "opt": argparse.Namespace(epochs=3),
        "date": datetime.datetime(2024, 5, 6),
        "path": pathlib.PurePosixPath("runs/exp"),
        "names": {0: "cat", 1: "dog"},
        "save": {4, 6},
        "frozen": frozenset({1}),
        "default": collections.defaultdict(int, a=1),
        "size": torch.Size([1, 2]),
        "parameter": nn.Parameter(torch.ones(2)),
        "bytes": b"\x00\xff",
        "big": 1 << 70,
        "none": None,
        "complex": 1j,
        "device": torch.device("cuda:0"),
        "dtype": torch.float16,
        "rng": torch.get_rng_state(),
        "generator": np.random.default_rng(0),
    }
    content = read_checkpoint(save(saved, tmp_path / "x.pt", zipped=zipped)).content
    np.testing.assert_array_equal(content["best_fitness"], [0.1, 0.2])
    np.testing.assert_array_equal(content["fortran"], saved["fortran"])
    assert content["scalar"] == 0.123
    assert content["opt"].type_name == "Namespace"
    assert content["opt"].state == {"epochs": 3}
    assert content["path"].args == ("runs", "exp") or content["path"].args == ("runs/exp",)
    assert isinstance(content["date"], PickledObject)
    for name in ("names", "save", "frozen", "bytes", "big", "none"):
        assert content[name] == saved[name]
    assert content["default"] == {"a": 1}
    assert content["size"] == (1, 2)
    assert torch.equal(content["parameter"], torch.ones(2))


def test_numpy_1_spelling(tmp_path: Path) -> None:
    """numpy 1 writes numpy.core, numpy 2 numpy._core; bytes come as latin-1 text in protocol 2."""
    path = save({"f": np.array([0.5])}, tmp_path / "x.pt", zipped=True)
    renamed = tmp_path / "y.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"numpy._core.", b"numpy.core."))
    assert read_checkpoint(renamed).content["f"].tolist() == [0.5]


def test_safetensors(tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in network().state_dict().items()} | {"half": torch.ones(3).bfloat16()}
    path = tmp_path / "x.safetensors"
    save_file(state, path, metadata={"names": "['a']"})
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == "safetensors"
    assert checkpoint.metadata == {"names": "['a']"}
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for name, tensor in state.items():
        assert torch.equal(checkpoint.tensors()[name], tensor)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 12]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
        {"dtype": "X9", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": "4", "data_offsets": [0, 16]},
        [1],
    ],
)
def test_safetensors_that_contradict_themselves(entry: Any, tmp_path: Path) -> None:
    header = json.dumps({"w": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(CheckpointError, match="tensor 'w'"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["zip", "legacy", "safetensors"])
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    if name == "safetensors":
        save_file({k: v.clone() for k, v in network().state_dict().items()}, whole)
    else:
        save({"model": network()}, whole, zipped=name == "zip")
    data = whole.read_bytes()
    for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999):
        part = tmp_path / "part.pt"
        part.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(CheckpointError) as caught:
            read_checkpoint(part)
        assert "\n" not in str(caught.value)


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path: Path) -> None:
    path = save({"w": torch.ones(1000)}, tmp_path / "x.pt", zipped=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"just some text\n", "text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0", "ONNX"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "unknown binary"),
        (b"PK\x05\x06" + bytes(18), "without torch's data.pkl"),
        (b"\x80\x02}q\x00.", "plain pickle"),
    ],
)
def test_files_that_are_no_checkpoint(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=why):
        read_checkpoint(path)


def test_folder_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="nothing there"):
        read_checkpoint(tmp_path / "none.pt")


def test_tensor_beyond_its_storage(tmp_path: Path) -> None:
    path = save({"w": torch.ones(100)}, tmp_path / "x.pt", zipped=True)
    crafted = tmp_path / "y.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(crafted, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, data.replace(b"Kd\x85", b"Kz\x85") if name.endswith(".pkl") else data)
    with pytest.raises(CheckpointError, match="storage of 100"):
        read_checkpoint(crafted)


def test_parallel_wrapper_is_looked_through(tmp_path: Path) -> None:
    node = read_checkpoint(save({"model": nn.DataParallel(network())}, tmp_path / "x.pt", zipped=True)).module()
    assert isinstance(node, ModuleNode)
    assert list(node.children) == ["stem", "head"]


@pytest.mark.interop
@pytest.mark.parametrize("name", ["yolox-nano", "damoyolo-T-quarter"])
def test_real_state_dicts_equal_torch_load(name: str, shared: Path) -> None:
    path = shared / "fixtures" / name / "checkpoint.pth"
    expected = torch.load(path, map_location="cpu", weights_only=True)["model"]
    found = read_checkpoint(path).tensors()
    assert list(found) == list(expected)
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key


def test_a_zip_of_several_disks_is_refused_in_one_line(tmp_path: Path) -> None:
    """The large form of the last record says so; zipfile's own check for a zip raises then."""
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(2)}, path)
    data = path.read_bytes()
    at = data.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQHHII4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 1, 1)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 2)
    path.write_bytes(data[:at] + record + locator + data[at:])
    with pytest.raises(CheckpointError, match="damaged or truncated zip archive") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
