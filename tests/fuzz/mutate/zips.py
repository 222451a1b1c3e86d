"""Changes to zip archives: entries, what the headers claim of them, and what is in them."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from random import Random

from tests.fuzz.case import Mutator, Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.numbers import odd_integer, odd_text

__all__ = ["archive"]

_Entries = list[tuple[str, bytes, int]]
_LOCAL, _CENTRAL, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def _read(data: bytes) -> _Entries:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            return [(i.filename, file.read(i), i.compress_type) for i in file.infolist() if i.file_size < 1 << 24]
    except Exception:  # it is damaged already, in one of the many ways that zipfile has
        return []


def _write(entries: _Entries) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", strict_timestamps=False) as file:
        for name, content, method in entries:
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            file.writestr(info, content, method if method in (0, 8, 12, 14) else 0)
    return stream.getvalue()


def _entries(rng: Random, data: bytes) -> bytes:
    """Drop, repeat, rename, grow, pack or add entries."""
    entries = _read(data)
    if not entries:
        return data[: rng.randrange(len(data) + 1)]
    at = rng.randrange(len(entries))
    name, content, method = entries[at]
    folder = name.partition("/")[0]
    chance = rng.random()
    if chance < 0.15:
        del entries[at]
    elif chance < 0.3:
        entries += [(name, rng.choice(entries)[1], method)] * rng.choice((1, 2, 300))
    elif chance < 0.5:
        new = rng.choice(
            (odd_text(rng), f"{folder}/code/x", "data.pkl", f"{folder}/data/9" * 300, f"/{name}", "../" + name)
        )
        entries[at] = (new.encode("utf-8", "replace").decode()[:60000], content, method)
    elif chance < 0.7:
        entries[at] = (name, content, rng.choice((8, 12, 14)))
    elif chance < 0.85:
        entries[at] = (name, rng.choice((b"", content[:-1], content * 2, b"\0" * rng.choice((1 << 20, 1 << 23)))), 8)
    else:
        extra = rng.choice(("byteorder", "version", "constants.pkl", "data/0", ".format_version", "data.pkl"))
        entries.append(
            (f"{folder}/{extra}", rng.choice((b"big", b"little", b"\xff", odd_text(rng).encode("utf-8", "replace"))), 0)
        )
    return _write(entries)


def _claims(rng: Random, data: bytes) -> bytes:
    """Change one field of a header: version, flags, method, sizes, lengths, offsets, counts."""
    kind, fields = rng.choice(
        (
            (_LOCAL, ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))),
            (
                _CENTRAL,
                ((6, 2), (8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (38, 4), (42, 4)),
            ),
            (_END, ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2))),
        )
    )
    places: list[int] = []
    at = data.find(kind)
    while at >= 0 and len(places) < 5000:
        places.append(at)
        at = data.find(kind, at + 4)
    if not places:
        return data[: rng.randrange(len(data) + 1)]
    start = rng.choice(places)
    offset, width = rng.choice(fields)
    value = rng.choice((odd_integer(rng), rng.randrange(1 << 8 * width), 1, 8, 12, 14, 99, 0xFFFFFFFF)) % (
        1 << 8 * width
    )
    return data[: start + offset] + value.to_bytes(width, "little") + data[start + offset + width :]


def _zip64(rng: Random, data: bytes) -> bytes:
    """Put the large form of the last record in front of it, with odd values."""
    at = data.rfind(_END)
    if at < 0:
        return data
    values = [odd_integer(rng) % (1 << 64) for _ in range(4)]
    record = struct.pack("<4sQHHII4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, *values)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, rng.choice((at, values[0])), 1)
    end = bytearray(data[at:])
    end[8:20] = rng.choice((b"\xff" * 12, bytes(end[8:20])))
    return data[:at] + record + locator + bytes(end)


def archive(inside: Mapping[str, Mutator], *, share: float = 1.0) -> Weighted:
    """Return mutators of zip archives.

    Args:
        inside: By the ending of an entry's name: what can be done to its content.
        share: How often the content is changed, against the archive itself.
    """

    def content(rng: Random, data: bytes) -> bytes:
        entries = _read(data)
        places = [i for i, (name, _, _) in enumerate(entries) if any(name.endswith(e) for e in inside)]
        if not places:
            return _claims(rng, data)
        at = rng.choice(places)
        name, old, method = entries[at]
        mutator = next(m for ending, m in inside.items() if name.endswith(ending))
        entries[at] = (name, mutator(rng, old), method)
        return _write(entries)

    blocks = ((weight * 0.1, mutator) for weight, mutator in BLOCKS)
    return ((8.0 * share, content), (2.0, _entries), (2.5, _claims), (0.5, _zip64), *blocks)
