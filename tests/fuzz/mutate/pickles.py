"""Changes to pickles, opcode by opcode."""

from __future__ import annotations

import io
import pickletools
import struct
from random import Random

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.numbers import odd_integer, odd_text

__all__ = ["PICKLE", "pickle_opcodes"]

_GLOBALS = (
    *(("os", "system"), ("builtins", "eval"), ("builtins", "list"), ("builtins", "dict"), ("builtins", "getattr")),
    *(("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("torch", "FloatStorage")),
    *(("torch", "HalfStorage"), ("torch", "Size"), ("torch", "device"), ("torch.nn.modules.conv", "Conv2d")),
    *(
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("collections", "Counter"),
        ("_codecs", "encode"),
    ),
    *(
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("copyreg", "_reconstructor"),
    ),
    *(
        ("numpy.core.multiarray", "scalar"),
        ("pathlib", "PosixPath"),
        ("datetime", "datetime"),
        ("argparse", "Namespace"),
    ),
)
_BARE = b"(.012NaRbcdefglortu}]()N\x88\x89\x85\x86\x87\x81\x92\x8f\x90\x91\x93\x94Q"


def _split(data: bytes) -> list[bytes]:
    """Return the opcodes with their arguments; what follows STOP is one last piece."""
    starts = []
    stream = io.BytesIO(data)
    try:
        for _, _, position in pickletools.genops(stream):
            starts.append(position or 0)
    except (ValueError, IndexError, KeyError, struct.error, OverflowError, UnicodeDecodeError):
        pass  # what could be split so far is enough
    ends = [*starts[1:], min(stream.tell(), len(data))] if starts else []
    pieces = [data[a:b] for a, b in zip(starts, ends, strict=True)]
    return [*pieces, data[ends[-1] if ends else 0 :]]


def _new_opcode(rng: Random) -> bytes:
    """Return an opcode with an argument at the end of its range."""
    number = odd_integer(rng)
    text = odd_text(rng).encode("utf-8", "surrogatepass")
    size8, size4 = (odd_integer(rng) % (1 << bits) for bits in (64, 32))
    module, name = rng.choice(_GLOBALS)
    long = (number % (1 << 64)).to_bytes(8, "little")
    return rng.choice(
        (
            bytes([rng.choice(_BARE)]),
            bytes([rng.choice(_BARE)]),
            b"K" + bytes([number % 256]),
            b"M" + struct.pack("<H", number % 65536),
            b"J" + struct.pack("<I", number % (1 << 32)),
            b"\x8a\x08" + long,
            b"\x8b" + struct.pack("<I", size4) + long,
            b"G" + rng.choice((struct.pack(">d", float("nan")), struct.pack(">d", 1e300), rng.randbytes(8))),
            b"X" + struct.pack("<I", len(text)) + text,
            b"X" + struct.pack("<I", size4) + text,
            b"\x8d" + struct.pack("<Q", size8) + text,
            b"\x8e" + struct.pack("<Q", size8) + text,
            b"U" + bytes([min(255, len(text))]) + text[:255],
            b"h" + bytes([rng.randrange(256)]),
            b"j" + struct.pack("<I", size4),
            b"r" + struct.pack("<I", size4),
            b"q" + bytes([rng.randrange(256)]),
            b"I" + str(number % (1 << 200)).encode() + b"\n",
            b"L" + b"9" * rng.choice((1, 20, 5000)) + b"L\n",
            b"F1e999\n",
            b"S'" + text.replace(b"\n", b"") + b"'\n",
            b"V" + text.replace(b"\n", b"") + b"\n",
            b"P" + text.replace(b"\n", b"") + b"\n",
            b"c" + f"{module}\n{name}\n".encode(),
            b"c" + f"{module}\n{name}\n".encode() + b")R",
            b"c" + f"{module}\n{name}\n".encode() + b")\x81",
            b"i" + f"{module}\n{name}\n".encode(),
            b"\x95" + struct.pack("<Q", size8),
            b"\x82" + bytes([number % 256]),
            b"\x80" + bytes([rng.randrange(8)]),
            b"(]" + b"N" * 50 + b"e",
            b"}" + b"K\x01K\x01s" * 20,
        )
    )


def _odd_argument(rng: Random, piece: bytes) -> bytes:
    """Change what stands behind the opcode; a length that comes first is kept right, most of the time."""
    if len(piece) < 2:
        return _new_opcode(rng)
    if piece[:1] in b"XU" and rng.random() < 0.7:
        text = odd_text(rng).encode("utf-8", "surrogatepass")[: 255 if piece[:1] == b"U" else None]
        size = bytes([len(text)]) if piece[:1] == b"U" else struct.pack("<I", len(text))
        return piece[:1] + size + text
    if piece[:1] == b"c" and rng.random() < 0.8:
        return b"c" + "{}\n{}\n".format(*rng.choice(_GLOBALS)).encode()
    if piece[:1] in b"KMJ" and rng.random() < 0.8:
        return b"\x8a\x08" + (odd_integer(rng) % (1 << 64)).to_bytes(8, "little")
    at = rng.randrange(1, len(piece))
    return piece[:at] + bytes([rng.randrange(256)]) + piece[at + 1 :]


def pickle_opcodes(rng: Random, data: bytes) -> bytes:
    """Drop, repeat, move, replace or insert opcodes; the rest of the pickle stays whole."""
    pieces = _split(data)
    rest = pieces.pop()
    if not pieces:
        return _new_opcode(rng) + rest
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(pieces))
        chance = rng.random()
        if chance < 0.15 and len(pieces) > 1:
            del pieces[at]
        elif chance < 0.3:
            run = pieces[at : at + rng.choice((1, 1, 3, 12))]
            pieces[at:at] = run * rng.choice((1, 2, 3, min(2000, 100_000 // (1 + sum(map(len, run))))))
        elif chance < 0.4:
            other = rng.randrange(len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        elif chance < 0.7:
            pieces[at] = _odd_argument(rng, pieces[at])
        else:
            pieces.insert(at, _new_opcode(rng))
    return b"".join(pieces) + rest


PICKLE: Weighted = ((8.0, pickle_opcodes), *((weight * 0.15, mutator) for weight, mutator in BLOCKS))
