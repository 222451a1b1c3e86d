"""Changes to Protocol Buffers messages, such as ONNX: fields, numbers and nested messages, with lengths kept right."""

from __future__ import annotations

from random import Random

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.documents import json_tree
from tests.fuzz.mutate.numbers import odd_integer, odd_text

__all__ = ["PROTOBUF"]

_Field = tuple[int, int, bytes]
"""Number, wire type, and the payload (of a varint: its bytes)."""

_NAMES = (b"Loop", b"If", b"Scan", b"Sequence", b"Conv", b"Constant", b"com.example", b"location", b"offset", b"length")


def _varint(value: int) -> bytes:
    value %= 1 << 64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _end_of_varint(data: bytes, at: int) -> int:
    while data[at] & 128:
        at += 1
    return at + 1


def _number(data: bytes) -> int:
    return sum((byte & 127) << 7 * i for i, byte in enumerate(data))


def _parse(data: bytes) -> list[_Field] | None:
    """Return a message's fields; None if the bytes are no message."""
    fields, at = [], 0
    try:
        while at < len(data):
            end = _end_of_varint(data, at)
            key, at = _number(data[at:end]), end
            number, wire = key >> 3, key & 7
            if number == 0 or number > 1000 or wire not in (0, 1, 2, 5):
                return None
            if wire == 0:
                end = _end_of_varint(data, at)
            elif wire == 2:
                end = _end_of_varint(data, at)
                size, at = _number(data[at:end]), end
                end = at + size
            else:
                end = at + (8 if wire == 1 else 4)
            if end > len(data):
                return None
            fields.append((number, wire, data[at:end]))
            at = end
    except IndexError:
        return None
    return fields


def _unparse(fields: list[_Field]) -> bytes:
    return b"".join(
        _varint(number << 3 | wire) + (_varint(len(payload)) if wire == 2 else b"") + payload
        for number, wire, payload in fields
    )


def message(rng: Random, data: bytes, depth: int = 0) -> bytes:
    """Change one field of a message, or of one of the messages in it."""
    fields = _parse(data)
    if not fields:
        return _payload(rng, data)
    at = rng.randrange(len(fields))
    number, wire, payload = fields[at]
    if wire == 2 and depth < 8 and rng.random() < 0.8:
        nested = len(payload) > 1 and _parse(payload) is not None
        fields[at] = (number, wire, message(rng, payload, depth + 1) if nested else _payload(rng, payload))
        return _unparse(fields)
    chance = rng.random()
    if chance < 0.15:
        del fields[at]
    elif chance < 0.3:
        fields[at:at] = [fields[at]] * rng.choice((1, 2, 30, 2000 if len(payload) < 100 else 2))
    elif chance < 0.4:
        other = rng.randrange(len(fields))
        fields[at], fields[other] = fields[other], fields[at]
    elif chance < 0.5:
        fields[at] = (rng.randrange(1, 24), wire, payload)
    elif chance < 0.6:
        fields.insert(at, (rng.randrange(1, 24), 0, _varint(odd_integer(rng))))
    elif chance < 0.7:
        fields.insert(at, (rng.randrange(1, 24), 2, rng.choice((*_NAMES, payload, b"\0" * 1000))))
    elif chance < 0.75 and len(payload) < 10000:
        for _ in range(rng.choice((3, 50, 200))):
            payload = _unparse([(number, 2, payload)])
        fields[at] = (number, 2, payload)
    elif wire == 0:
        fields[at] = (number, 0, rng.choice((_varint(odd_integer(rng)), b"\xff" * 9 + b"\x01", b"\x80" * 12 + b"\x00")))
    else:
        fields[at] = (number, wire, _payload(rng, payload))
    return _unparse(fields)


def _payload(rng: Random, data: bytes) -> bytes:
    """Change a text, or numbers that stand side by side."""
    if data[:1] == b"{" and rng.random() < 0.8:
        return json_tree(rng, data)
    if rng.random() < 0.3:
        return rng.choice(
            (odd_text(rng).encode("utf-8", "surrogatepass"), rng.choice(_NAMES), b"", data * 2, data[:-1])
        )
    mutator = rng.choice([m for _, m in BLOCKS])
    return mutator(rng, data)


PROTOBUF: Weighted = ((9.0, message), *((weight * 0.15, mutator) for weight, mutator in BLOCKS))
