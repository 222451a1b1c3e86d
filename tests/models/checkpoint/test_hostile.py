"""Nothing that a checkpoint names is run: crafted pickles in every container and protocol."""

from __future__ import annotations

import io
import operator
import os
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgedet_models.checkpoint import ModuleNode, PickledObject, read_checkpoint
from edgedet_models.checkpoint.budget import ReadBudget
from edgedet_runtime.errors import CheckpointError


class Calls:
    """Pickles as a call of any function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def as_zip(data: bytes, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return path


def as_plain(data: bytes, path: Path) -> Path:
    path.write_bytes(data)
    return path


def as_legacy(data: bytes, path: Path) -> Path:
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    header = b"".join(pickle.dumps(v, protocol=2) for v in (0x1950A86A20F9469CFC6C, 1001, system))
    path.write_bytes(header + data + pickle.dumps([], protocol=2))
    return path


CONTAINERS = [as_zip, as_plain, as_legacy]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def refuse(path: Path, name: str, marker: Path) -> None:
    """Assert that reading names `name` in one line, and that nothing was run."""
    with pytest.raises(CheckpointError, match=name) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert "nothing was run" in message
    assert "\n" not in message
    assert not marker.exists()


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("protocol", range(6))
def test_os_system_is_refused_in_every_container_and_protocol(
    container: Callable[[bytes, Path], Path], protocol: int, tmp_path: Path, marker: Path
) -> None:
    evil = pickle.dumps({"model": Calls(os.system, f"touch {marker}")}, protocol=protocol)
    refuse(container(evil, tmp_path / "evil.pt"), r"(posix|nt|os)\.system", marker)


def test_the_craft_would_have_run(tmp_path: Path, marker: Path) -> None:
    """The crafted files are not harmless by mistake: Python's own unpickler runs them."""
    pickle.loads(pickle.dumps(Calls(os.mkdir, str(marker))))
    assert marker.exists()


@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.mkdir, ("{marker}",), "mkdir"),
        (subprocess.Popen, (["touch", "{marker}"],), "Popen"),
        (subprocess.check_output, (["touch", "{marker}"],), "check_output"),
        (shutil.copy, ("/etc/hostname", "{marker}"), "shutil.copy"),
        (eval, ("open('{marker}', 'w')",), "eval"),
        (exec, ("open('{marker}', 'w')",), "exec"),
        (open, ("{marker}", "w"), "open"),
        (__import__, ("antigravity",), "__import__"),
        (operator.methodcaller, ("touch",), "methodcaller"),
        (Path.touch, (Path("{marker}"),), "Path.touch"),
        (map, (os.mkdir, ["{marker}"]), "map"),
        (torch.load, ("{marker}",), "torch.*load"),
        (torch.save, ({}, "{marker}"), "torch.*save"),
    ],
)
def test_other_ways_to_run_something(
    function: Any, args: tuple[Any, ...], name: str, tmp_path: Path, marker: Path
) -> None:
    filled = tuple(a.format(marker=marker) if isinstance(a, str) else a for a in args)
    refuse(as_zip(pickle.dumps([Calls(function, *filled)]), tmp_path / "evil.pt"), name, marker)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"cos\nsystem\n(S'touch {marker}'\ntR.", r"os\.system"),
        (b"(S'touch {marker}'\nios\nsystem\n.", r"os\.system"),  # INST
        (b"(cos\nsystem\nS'touch {marker}'\no.", r"os\.system"),  # OBJ
        (b"\x80\x02csubprocess\nPopen\n(S'touch {marker}'\nt\x81.", r"subprocess\.Popen"),  # NEWOBJ
        (b"\x80\x04csubprocess\nPopen\n)}\x92.", r"subprocess\.Popen"),  # NEWOBJ_EX
        (b"\x80\x04\x8c\x0dmodels.common\x8c\x09os.system\x93(S'touch {marker}'\ntR.", r"os\.system"),
        (b"c__builtin__\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch {marker}'\ntR.", "call what"),
        (b"cfunctools\npartial\n(cos\nsystem\nS'touch {marker}'\ntR)R.", "call what"),
        (b"ccopy_reg\n__newobj__\n(csubprocess\nPopen\nS'touch {marker}'\ntR.", r"subprocess\.Popen"),
        (b"ccopyreg\n_reconstructor\n(csubprocess\nPopen\ncos\nsystem\nNtR.", r"subprocess\.Popen"),
        (b"cposix\nsystem\n(S'touch {marker}'\ntR0]."[:-1] + b".", r"posix\.system"),  # result thrown away
        (b"cmodels.yolo\nModel\n}S'forward'\ncos\nsystem\nsb.", "change attributes of models.yolo.Model"),
        (b"\x80\x02\x82\x01.", "extension registry"),  # EXT1
        (b"cutils.general\ndownload\n(S'x'\ntR.", r"utils\.general\.download"),
        (b"cpip\nmain\n(S'x'\ntR.", r"pip\.main"),
        (b"cpsutil\nPopen\n(S'x'\ntR.", r"psutil\.Popen"),
        (b"ctorch.hub\nload\n(S'x'\ntR.", r"torch\.hub\.load"),
    ],
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_raw_opcodes(
    container: Callable[[bytes, Path], Path], data: bytes, name: str, tmp_path: Path, marker: Path
) -> None:
    crafted = data.replace(b"{marker}", str(marker).encode())
    refuse(container(crafted, tmp_path / "evil.pt"), name, marker)


def test_a_call_deep_within_a_state_dict(tmp_path: Path, marker: Path) -> None:
    state: Any = Calls(os.mkdir, str(marker))
    for i in range(50):
        state = {f"level{i}": [state]}
    path = tmp_path / "nested.pt"
    torch.save({"model": {"weight": torch.ones(2)}, "opt": state}, path)
    refuse(path, "mkdir", marker)
    torch.save({"model": {"weight": torch.ones(2)}, "opt": state}, path, _use_new_zipfile_serialization=False)
    refuse(path, "mkdir", marker)


def test_what_is_named_but_not_called_stays_text(tmp_path: Path) -> None:
    read = read_checkpoint(as_zip(pickle.dumps({"weight": torch.float16, "f": len}), tmp_path / "x.pt"))
    assert not callable(read.content["f"])


def test_bound_method_of_a_module_is_inert(tmp_path: Path) -> None:
    """YOLOv6's deploy form pickles ``forward`` as ``getattr(module, 'forward_fuse')``."""
    data = b"\x80\x02}X\x01\x00\x00\x00f"
    data += b"c__builtin__\ngetattr\ncmodels.common\nConv\n)\x81X\x01\x00\x00\x00g\x86Rs."
    value = read_checkpoint(as_zip(data, tmp_path / "x.pt")).content["f"]
    assert isinstance(value, PickledObject)
    assert value.class_path == "__builtin__.getattr"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x8b\xff\xff\xff\x7fabc.",  # LONG4 of 2 GB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",  # BINBYTES8 of 8 EB
        b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00abc.",  # BYTEARRAY8 of 4 GB
        b"\x80\x02X\xff\xff\xff\xffabc.",  # BINUNICODE of 4 GB
        b"\x80\x02h\x05.",  # a memo entry that does not exist
        b"\x80\x020.",  # POP from an empty stack
        b"\x80\x02]",  # no STOP
        b"\x80\x09N.",  # a protocol that does not exist
        b"\x80\x02}(" + b"\x85" * 5 + b"u.",
        b"\x80\x02}" + b")" + b"\x85" * 50_000 + b"Ns.",  # a dict key nested 50,000 deep: overflows C's hash
        b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R.",  # bytearray(4 GB)
    ],
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_damaged_pickles_and_claims_of_huge_sizes(
    container: Callable[[bytes, Path], Path], data: bytes, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(container(data, tmp_path / "bad.pt"))
    assert "\n" not in str(caught.value)


def test_copies_of_one_list_again_and_again(tmp_path: Path) -> None:
    data = b"\x80\x02]q\x00(" + b"N" * 100_000 + b"e0" + b"c__builtin__\nlist\nh\x00\x85R0" * 2000 + b"N."
    with pytest.raises(CheckpointError, match="copies"):
        read_checkpoint(as_zip(data, tmp_path / "copies.pt"))


def test_modules_named_by_each_other_without_end() -> None:
    node = PickledObject("models.common.Loop", state={"_modules": {}})
    node.state["_modules"]["child"] = node
    with pytest.raises(CheckpointError, match="nested at most"):
        ModuleNode.wrap(node, ReadBudget(0))


def test_one_module_named_two_to_the_forty_times() -> None:
    node = PickledObject("models.common.Leaf", state={"_modules": {}})
    for _ in range(40):
        node = PickledObject("models.common.Pair", state={"_modules": {"a": node, "b": node}})
    with pytest.raises(CheckpointError, match="submodules"):
        ModuleNode.wrap(node, ReadBudget(0))


def test_zip_bomb(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(100 << 20))
    with pytest.raises(CheckpointError, match="claims"):
        read_checkpoint(path)


def test_torchscript_is_refused_clearly(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    traced = torch.jit.trace(torch.nn.ReLU(), torch.ones(1))
    torch.jit.save(traced, buffer)
    path = tmp_path / "scripted.pt"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_checkpoint(path)


def test_a_long_name_is_shown_in_part(tmp_path: Path) -> None:
    path = tmp_path / "long.pkl"
    path.write_bytes(b"c" + b"os" * 100 + b"\n" + b"run" * 100 + b"\n(tR.")
    with pytest.raises(CheckpointError, match="wants to call the function ososos") as refused:
        read_checkpoint(path)
    assert len(str(refused.value)) < len(str(path)) + 300
