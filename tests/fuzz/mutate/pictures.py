"""Changes to picture files: chunks and segments, sizes, and checksums that are made right again."""

from __future__ import annotations

import struct
import zlib
from random import Random

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.numbers import odd_integer

__all__ = ["PICTURE"]

_PNG = b"\x89PNG\r\n\x1a\n"
_KINDS = (b"zTXt", b"iCCP", b"eXIf", b"\xff\xe1", b"\xff\xc4", b"ANMF")
_Chunk = tuple[bytes, bytes]


def _png_chunks(data: bytes) -> list[_Chunk]:
    chunks, at = [], len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def _png(chunks: list[_Chunk]) -> bytes:
    parts = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return _PNG + b"".join(parts)


def _jpeg_segments(data: bytes) -> list[_Chunk]:
    """Return markers with their bodies; the scan and all behind it belong to the last one."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        segments.append((data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + max(2, length)
    return [*segments, (b"", data[at:])]


def _jpeg(segments: list[_Chunk]) -> bytes:
    parts = (kind + struct.pack(">H", (len(body) + 2) % 65536) + body if kind else body for kind, body in segments)
    return b"\xff\xd8" + b"".join(parts)


def _riff_chunks(data: bytes) -> list[_Chunk]:
    chunks, at = [], 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks


def _riff(chunks: list[_Chunk]) -> bytes:
    body = b"".join(kind + struct.pack("<I", len(b)) + b + b"\0" * (len(b) % 2) for kind, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _changed(rng: Random, chunks: list[_Chunk]) -> list[_Chunk]:
    if not chunks:
        return chunks
    at = rng.randrange(len(chunks)) if rng.random() < 0.7 else 0
    kind, body = chunks[at]
    chance = rng.random()
    if chance < 0.1:
        return chunks[:at] + chunks[at + 1 :]
    if chance < 0.25:
        return chunks[:at] + [chunks[at]] * rng.choice((2, 3, 500)) + chunks[at + 1 :]
    if chance < 0.35:
        other = rng.randrange(len(chunks))
        return [*chunks[:at], chunks[other], *chunks[at + 1 :]]
    if chance < 0.4:
        return [*chunks[:at], (rng.choice(_KINDS), body), *chunks[at:]]
    if chance < 0.5 and kind == b"IDAT":
        plain = zlib.decompressobj().decompress(body, 1 << 20)
        body = zlib.compress(rng.choice((plain[:-9], plain * 2, b"\x07" + plain[1:], b"\0" * (1 << 22))))
    elif chance < 0.8:
        width = rng.choice((1, 2, 2, 4, 4))
        place = rng.randrange(len(body) + 1) if rng.random() < 0.4 else rng.randrange(min(12, len(body) + 1))
        value = odd_integer(rng) % (1 << 8 * width)
        body = body[:place] + value.to_bytes(width, "big") + body[place + width :]
    else:
        body = rng.choice([m for _, m in BLOCKS])(rng, body)
    return [*chunks[:at], (kind, body), *chunks[at + 1 :]]


def chunks(rng: Random, data: bytes) -> bytes:
    """Change one chunk or segment of a PNG, JPEG or WebP; fields near the front of others."""
    try:
        if data.startswith(_PNG):
            return _png(_changed(rng, _png_chunks(data)))
        if data.startswith(b"\xff\xd8"):
            return _jpeg(_changed(rng, _jpeg_segments(data)))
        if data.startswith(b"RIFF"):
            return _riff(_changed(rng, _riff_chunks(data)))
    except (zlib.error, struct.error):
        pass  # damaged by an earlier change: a field of it is changed instead
    width = rng.choice((1, 2, 2, 4, 4))
    at = rng.randrange(min(64, len(data) + 1)) & ~(rng.choice((1, 2, 4)) - 1)
    value = odd_integer(rng) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def claimed_size(rng: Random, data: bytes) -> bytes:
    """Write an odd width or height where the format has them."""
    places = {_PNG[:4]: (16, 20, 4, "big"), b"RIFF": (24, 27, 3, "little"), b"BM": (18, 22, 4, "little")}
    places |= {b"GIF": (6, 8, 2, "little")}
    for start, (first, second, width, order) in places.items():
        if data.startswith(start):
            value = rng.choice((odd_integer(rng), rng.randrange(1 << 15), 8192, 20000)) % (1 << 8 * width)
            at = rng.choice((first, second))
            new = value.to_bytes(width, "little" if order == "little" else "big")
            changed = data[:at] + new + data[at + width :]
            return _png(_png_chunks(changed)) if start == _PNG[:4] else changed
    for at in range(2, min(len(data) - 9, 1 << 12)):
        if data[at] == 0xFF and data[at + 1] in (0xC0, 0xC1, 0xC2):
            side = struct.pack(">H", odd_integer(rng) % 65536)
            return (
                data[: at + 5]
                + rng.choice((side + data[at + 7 : at + 9], data[at + 5 : at + 7] + side))
                + data[at + 9 :]
            )
    return chunks(rng, data)


PICTURE: Weighted = ((5.0, chunks), (2.0, claimed_size), *((weight * 0.3, mutator) for weight, mutator in BLOCKS))
