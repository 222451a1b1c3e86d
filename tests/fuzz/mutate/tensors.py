"""Changes to files that are a header and then numbers: safetensors, numpy arrays, darknet's weights."""

from __future__ import annotations

import json
import re
import struct
from random import Random

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.documents import JSON, change_tree
from tests.fuzz.mutate.numbers import odd_integer, odd_text

__all__ = ["SAFETENSORS", "WEIGHTS", "numpy_header"]


def safetensors_header(rng: Random, data: bytes) -> bytes:
    """Change the header's tree, text or length; the length is kept right, most of the time."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if len(header) != length or rng.random() < 0.1:
        return (odd_integer(rng) % (1 << 64)).to_bytes(8, "little") + data[8:]
    try:
        tree = json.loads(header)
        if isinstance(tree, dict) and tree and rng.random() < 0.4:
            name = rng.choice(sorted(tree))
            new = {
                "dtype": rng.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8", "")),
                "shape": [odd_integer(rng)],
            }
            tree[name] = {
                **(tree[name] if isinstance(tree[name], dict) else {}),
                **{k: new[k] for k in rng.sample(sorted(new), 1)},
            }
        else:
            tree = change_tree(rng, tree)
        header = json.dumps(tree).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        header = rng.choice([m for _, m in JSON])(rng, header)
    return struct.pack("<Q", len(header)) + header + rest


def numpy_header(rng: Random, data: bytes) -> bytes:
    """Change the dtype, order or shape that a numpy array claims, or its bytes."""
    size = int.from_bytes(data[8:10], "little")
    header = data[10 : 10 + size].decode("latin-1")
    if data[:6] != b"\x93NUMPY" or rng.random() < 0.2:
        return rng.choice([m for _, m in BLOCKS])(rng, data)
    kinds = ("|O", "<f8", ">i4", "|V9", "<U9", "|S0", "<c16", "<M8[s]", "[('a', '<f4')]", "f4'*9, '", "<f1", "|b1")
    count = rng.choice((0, 1, 3, 40, 10_000))
    shape = "(" + "".join(f"{odd_integer(rng) % (1 << 70)}, " for _ in range(rng.choice((0, 1, 2, 3, 40)))) + ")"
    changed = rng.choice(
        (
            re.sub(r"'descr': '[^']*'", lambda _: f"'descr': '{rng.choice(kinds)}'", header),
            re.sub(r"\(.*\)", lambda _: shape, header),
            header.replace("False", rng.choice(("True", "None", "2"))),
            re.sub(r"\(.*\)", lambda _: "(" * count, header),
            re.sub(r"\(.*\)", lambda _: "-" * count + "1", header),
            header.replace("shape", odd_text(rng)[:40]),
        )
    ).encode("utf-8", "replace")[:65000]
    return (
        data[:6]
        + bytes([rng.choice((1, 1, 1, 2, 3, 9)), 0])
        + struct.pack("<H", len(changed))
        + changed
        + data[10 + size :]
    )


def weights_header(rng: Random, data: bytes) -> bytes:
    """Change the version or the count of pictures, or the number of floats."""
    if rng.random() < 0.5:
        at = 4 * rng.randrange(5)
        return data[:at] + struct.pack("<I", odd_integer(rng) % (1 << 32)) + data[at + 4 :]
    return data + b"\0" * rng.choice((4, 8, 400)) if rng.random() < 0.5 else data[: -rng.choice((1, 4, 8, 400))]


_BLOCKS = tuple((weight * 0.15, mutator) for weight, mutator in BLOCKS)
SAFETENSORS: Weighted = ((8.0, safetensors_header), *_BLOCKS)
WEIGHTS: Weighted = ((3.0, weights_header), *_BLOCKS)
