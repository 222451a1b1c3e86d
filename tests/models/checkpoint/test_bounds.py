"""Memory and time of reading a checkpoint are bounded by the size of the file, whatever it says."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from edgedet_models.checkpoint.budget import MalformedPickle, ReadBudget, brief

READER = Path(__file__).with_name("read_within_bounds.py")

PROTO = b"\x80\x02"
GET = b"h"  # BINGET, one byte of memo key
PUT = b"q"  # BINPUT


def text(value: str) -> bytes:
    """Return BINUNICODE."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def laughs(levels: int = 12, width: int = 10) -> bytes:
    """Return opcodes that leave one list on the stack whose text would have width**levels parts."""
    code = b"]" + PUT + bytes([0])
    for level in range(1, levels + 1):
        code += b"(" + (GET + bytes([level - 1])) * width + b"l" + PUT + bytes([level])
    return code


def call(module: str, name: str, *args: bytes) -> bytes:
    """Return opcodes that call a global with opcodes for its arguments."""
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(args) + b"tR"


STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"


def tensor(size: bytes, stride: bytes) -> bytes:
    """Return opcodes of a tensor over a storage of one float."""
    return call("torch._utils", "_rebuild_tensor_v2", STORAGE, b"K\x00", size, stride, b"\x89", b"N")


def wide_key(levels: int = 4, width: int = 200) -> bytes:
    """Return a dict whose key is a tuple of tuples: width**levels items for whoever hashes it."""
    code = b"}" + b"N" + PUT + b"\x00" + b"0"
    for level in range(1, levels + 1):
        code += b"(" + (GET + bytes([level - 1])) * width + b"t" + PUT + bytes([level])
        code += b"0" if level < levels else b""
    return code + b"K\x01s"


def colliding_tuples(n: int = 20000) -> bytes:
    """Return a dict of tuples that all hash alike: -1 and -2 do."""
    code = b"}("
    for i in range(n):
        bits = format(i, "015b")
        code += b"(" + b"".join(b"J" + struct.pack("<i", -1 - int(b)) for b in bits) + b"tN"
    return code + b"u"


def colliding_integers(n: int = 20000) -> bytes:
    """Return a dict of multiples of 2^61 - 1, whose hashes are all zero."""
    code = b"}("
    for i in range(1, n + 1):
        number = (i * ((1 << 61) - 1)).to_bytes(12, "little")
        code += b"\x8a" + bytes([len(number)]) + number + b"N"
    return code + b"u"


def grown_object(items: int = 20000, builds: int = 20000) -> bytes:
    """Return an object whose large state is copied again by each BUILD."""
    state = b"}" + PUT + b"\x00(" + b"".join(text(str(i)) + b"N" for i in range(items)) + b"u"
    return state + b"0" + b"cmodels.common\nConv\n)\x81" + (GET + b"\x00b") * builds


def copied_list(times: int = 3000) -> bytes:
    """Return many copies of one long list."""
    code = b"]" + PUT + b"\x00(" + b"N" * 100000 + b"e0]("
    return code + call("builtins", "list", GET + b"\x00") * times + b"e"


def shared_modules() -> bytes:
    """Return a module tree that names one module under many others, with long names."""

    def module(children: bytes) -> bytes:
        return b"cmodels.common\nConv\n)\x81}" + text("_modules") + b"}(" + children + b"usb"

    code = module(b"") + PUT + b"\x00" + b"0"
    for level in range(1, 40):
        children = b"".join(text(f"{i}" + "x" * 20000) + GET + bytes([level - 1]) for i in range(3))
        code += module(children) + PUT + bytes([level]) + (b"0" if level < 39 else b"")
    return code


BOMBS: dict[str, bytes] = {
    "nested storage kind": b"(" + laughs() + b"NNNNtQ",
    "nested storage type": b"(" + text("storage") + laughs() + b"NNNtQ",
    "nested size": tensor(b"(" + laughs() + b"t", b"(K\x01t"),
    "nested numpy shape": call("numpy.core.multiarray", "_reconstruct", b"N", b"N", b"N")
    + b"(K\x01("
    + laughs()
    + b"t"
    + call("numpy", "dtype", text("f4"), b"K\x00", b"K\x01")
    + b"\x89U\x04abcdtb",
    "nested encoding": call("_codecs", "encode", text("a"), laughs()),
    "nested keys of tensors": b"}" + laughs(levels=3) + b"0" + text("model") + b"}" + laughs() + b"0N" + b"Nss",
    "wide key": wide_key(),
    "colliding tuples": colliding_tuples(),
    "colliding integers": colliding_integers(),
    "state copied by BUILD": grown_object(),
    "copies of a list": copied_list(),
    "module under many names": shared_modules(),
    "stride 0": b"](" + tensor(b"(J\x00\x00\x00\x03t", b"(K\x00t") * 50 + b"e",
    "empty with endless sides": tensor(
        b"(K\x00" + b"\x8a\x07\x00\x00\x00\x00\x00\x00\x20" * 3 + b"t", b"(K\x00K\x00K\x00K\x00t"
    ),
    "sets": b"](" + b"\x8f" * 3000000 + b"e",
    "long name": b"c" + b"a." * 2000000 + b"\nb\n)R",
    "bytes again and again": text("x" * 1000000)
    + PUT
    + b"\x000]("
    + call("_codecs", "encode", GET + b"\x00", text("latin1")) * 3000
    + b"e",
}


def as_zip(path: Path, code: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", PROTO + code + b".")
        archive.writestr("archive/data/0", b"\0" * 4)
    return path


def outcomes(paths: Iterable[Path]) -> dict[str, str]:
    """Read files in children with limits; return what each ended in, by file name."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, str(READER), *map(str, paths)], capture_output=True, text=True, check=True, env=environment
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(row["path"]).name: row["outcome"] for row in rows}


def test_bombs_end_in_one_line_within_the_bounds(tmp_path: Path) -> None:
    files = {as_zip(tmp_path / f"{i}.pt", code): name for i, (name, code) in enumerate(BOMBS.items())}
    found = outcomes(files)
    wrong = {name: found[path.name] for path, name in files.items() if not is_refusal(found[path.name], path)}
    assert wrong == {}


def is_refusal(outcome: str, path: Path) -> bool:
    return outcome.startswith(str(path)) and "\n" not in outcome and len(outcome) < len(str(path)) + 400


@pytest.mark.interop
def test_the_inputs_that_went_wrong(shared: Path) -> None:
    folder = shared / "hostile"
    files = [*folder.glob("bombs/*.pt*"), *folder.glob("trace/*")]
    assert len(files) >= 15
    found = outcomes(files)
    assert {path.name: found[path.name] for path in files if not is_refusal(found[path.name], path)} == {}


def test_a_large_honest_checkpoint_is_far_below_the_budget(tmp_path: Path) -> None:
    """Ten thousand tensors and an optimizer with three tensors for each."""
    state = {f"model.{i}.conv.weight": torch.zeros(1) for i in range(10000)}
    steps = {i: {"step": torch.zeros(1), "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)} for i in range(10000)}
    path = tmp_path / "large.pt"
    torch.save({"model": state, "optimizer": {"state": steps}}, path)
    assert "no architecture" in outcomes([path])[path.name] or "unknown" in outcomes([path])[path.name]


def test_budget_counts_down_to_its_last_byte() -> None:
    budget = ReadBudget(10)
    budget.charge((192 << 20) + 160)
    with pytest.raises(MalformedPickle, match="far more than its size allows"):
        budget.charge(1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a" * 100, repr("a" * 40) + "…"),
        ("a", "'a'"),
        (1 << 127, "a huge number"),
        (12, "12"),
        (True, "True"),
        (None, "None"),
        (1.5, "1.5"),
        ([[1]], "a list"),
        (pickle.loads, "a builtin_function_or_method"),
    ],
)
def test_brief_never_prints_what_is_inside(value: object, expected: str) -> None:
    assert brief(value) == expected
