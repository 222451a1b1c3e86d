"""Changes to bytes of any kind: bits, lengths, pieces that are cut out, repeated, moved or exchanged."""

from __future__ import annotations

import re
from random import Random
from typing import Literal

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.numbers import odd_integer, odd_number_text

__all__ = ["BLOCKS", "splice"]


def splice(rng: Random, data: bytes, other: bytes) -> bytes:
    """Join a beginning of one with an end of the other."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _where(rng: Random, data: bytes) -> int:
    """Return a position, most often near one of the ends, where headers and tables are."""
    n = max(1, len(data))
    chance = rng.random()
    if chance < 0.4:
        return min(n - 1, rng.randrange(256))
    return max(0, n - 1 - rng.randrange(256)) if chance < 0.6 else rng.randrange(n)


def flip_bits(rng: Random, data: bytes) -> bytes:
    """Flip a few bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if changed:
            changed[_where(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def odd_bytes(rng: Random, data: bytes) -> bytes:
    """Overwrite some bytes by 0, 255 or at random."""
    at, count = _where(rng, data), rng.choice((1, 1, 2, 4, 8, 32))
    new = rng.choice((b"\0" * count, b"\xff" * count, rng.randbytes(count)))
    return data[:at] + new + data[at + count :]


def odd_field(rng: Random, data: bytes) -> bytes:
    """Overwrite 1, 2, 4 or 8 bytes by an integer at the end of a range, in either order of bytes."""
    width = rng.choice((1, 2, 2, 4, 4, 4, 8, 8))
    value = (odd_integer(rng) if rng.random() < 0.8 else len(data) + rng.randrange(-9, 9)) % (1 << 8 * width)
    at = _where(rng, data) & (~(width - 1) if rng.random() < 0.5 else -1)
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def near_field(rng: Random, data: bytes) -> bytes:
    """Add a little to an integer of 4 or 8 bytes."""
    width = rng.choice((4, 8))
    order: Literal["little", "big"] = rng.choice(("little", "big"))
    at = _where(rng, data)
    old = int.from_bytes(data[at : at + width], order)
    return data[:at] + ((old + rng.randrange(-16, 17)) % (1 << 8 * width)).to_bytes(width, order) + data[at + width :]


def cut_off(rng: Random, data: bytes) -> bytes:
    """Drop the end, or the beginning."""
    at = _where(rng, data)
    return data[:at] if rng.random() < 0.85 else data[at:]


def drop_piece(rng: Random, data: bytes) -> bytes:
    """Cut a piece out."""
    at = _where(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 64, 1024)) :]


def repeat_piece(rng: Random, data: bytes) -> bytes:
    """Repeat a piece, some pieces many times."""
    at, count = _where(rng, data), rng.choice((1, 4, 16, 256, 4096))
    piece = data[at : at + count]
    times = rng.choice((1, 1, 2, 8, min(1000, 200_000 // max(1, len(piece)))))
    return data[:at] + piece * times + data[at:]


def move_piece(rng: Random, data: bytes) -> bytes:
    """Copy a piece over another place."""
    source, target, count = _where(rng, data), _where(rng, data), rng.choice((1, 4, 8, 64, 512))
    piece = data[source : source + count]
    return data[:target] + piece + data[target + len(piece) :]


def put_in(rng: Random, data: bytes) -> bytes:
    """Insert bytes, or add them at the end."""
    at = _where(rng, data) if rng.random() < 0.8 else len(data)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 300))) + data[at:]


def odd_digits(rng: Random, data: bytes) -> bytes:
    """Replace a number that stands as text."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[: 1 << 16]))
    if not found:
        return flip_bits(rng, data)
    hit = rng.choice(found)
    return data[: hit.start()] + odd_number_text(rng).encode("utf-8", "surrogatepass") + data[hit.end() :]


BLOCKS: Weighted = (
    *((2.0, flip_bits), (1.5, odd_bytes), (3.0, odd_field), (1.5, near_field), (1.0, cut_off), (0.7, drop_piece)),
    *((0.7, repeat_piece), (0.7, move_piece), (0.5, put_in), (0.7, odd_digits)),
)
"""For any file."""
