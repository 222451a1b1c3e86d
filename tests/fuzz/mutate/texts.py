"""Changes to texts of lines (darknet's cfg, labels, lists) and to XML."""

from __future__ import annotations

import re
from random import Random

from tests.fuzz.case import Weighted
from tests.fuzz.mutate.blocks import BLOCKS
from tests.fuzz.mutate.numbers import odd_number_text, odd_text

__all__ = ["LINES", "XML"]

_WORD = re.compile(r"[^\s=,\[\]]+")


def lines(rng: Random, data: bytes) -> bytes:
    """Drop, repeat, exchange or cross lines, or replace one of their words or numbers."""
    text = data.decode("utf-8", "replace")
    rows = text.split("\n")
    at, other = rng.randrange(len(rows)), rng.randrange(len(rows))
    chance = rng.random()
    if chance < 0.1:
        del rows[at]
    elif chance < 0.2:
        rows[at:at] = [rows[at]] * rng.choice((1, 2, 100, 5000))
    elif chance < 0.3:
        rows[at], rows[other] = rows[other], rows[at]
    elif chance < 0.4:
        rows.insert(at, rng.choice((odd_text(rng), rows[other][:5], "# x", "[", "=", "a=b=c", "\t")))
    elif chance < 0.45:
        return rng.choice((text.encode("utf-16"), b"\xef\xbb\xbf" + data, data.replace(b"\n", b"\r"), data + b"\0"))
    elif chance < 0.5:
        rows[at] = rows[at].replace(" ", rng.choice((",", "\t", "", "  ", "\u00a0", ";")))
    else:
        words = list(_WORD.finditer(rows[at]))
        if words:
            word = rng.choice(words)
            numeric = word[0].lstrip("-").replace(".", "").isdigit()
            new = odd_number_text(rng) if numeric or rng.random() < 0.3 else odd_text(rng)
            rows[at] = rows[at][: word.start()] + new + rows[at][word.end() :]
    return "\n".join(rows).encode("utf-8", "surrogatepass")


def attributes(rng: Random, data: bytes) -> bytes:
    """Replace an attribute's value, or a text between tags."""
    text = data.decode("utf-8", "replace")
    found = list(re.finditer(r'(?<==")[^"]*(?=")', text)) + list(re.finditer(r"(?<=>)[^<>\s]+(?=<)", text))
    if not found:
        return lines(rng, data)
    hit = rng.choice(found)
    old = hit[0]
    numeric = old.replace(",", "").strip().lstrip("-").isdigit()
    new = rng.choice(
        (
            odd_number_text(rng),
            odd_text(rng).replace("<", ""),
            rng.choice(found)[0],
            old + "," + odd_number_text(rng),
            "",
            "&amp;&#x0;" if rng.random() < 0.1 else old + "0",
            *([odd_number_text(rng)] * (6 if numeric else 0)),
        )
    )
    return (text[: hit.start()] + new.replace('"', "") + text[hit.end() :]).encode("utf-8", "surrogatepass")


def elements(rng: Random, data: bytes) -> bytes:
    """Drop, repeat or move an element; rename one; nest one in itself."""
    text = data.decode("utf-8", "replace")
    found = list(
        re.finditer(r"<(\w+)(?:\s[^<>]*)?/>|<(\w+)(?:\s[^<>]*)?>(?:[^<>]*)</\2>|<layer .*?</layer>", text, re.S)
    )
    if not found:
        return lines(rng, data)
    hit, place = rng.choice(found), rng.choice(found)
    chance = rng.random()
    if chance < 0.25:
        return (text[: hit.start()] + text[hit.end() :]).encode("utf-8", "surrogatepass")
    if chance < 0.5:
        times = rng.choice((1, 2, 100, max(1, min(3000, 300_000 // len(hit[0])))))
        return (text[: hit.start()] + hit[0] * times + text[hit.start() :]).encode("utf-8", "surrogatepass")
    if chance < 0.75:
        return (text[: place.start()] + hit[0] + text[place.end() :]).encode("utf-8", "surrogatepass")
    if chance < 0.85:
        depth = rng.choice((5, 200, 20_000))
        return (text[: hit.start()] + "<a>" * depth + hit[0] + "</a>" * depth + text[hit.end() :]).encode()
    return re.sub(rb"<(\w+)", lambda m: b"<" + m[1] + b"x", data, count=rng.randrange(1, 4))


def entities(rng: Random, data: bytes) -> bytes:
    """Put declarations in front: entities of entities, files, other encodings."""
    body = re.sub(rb"^<\?xml[^>]*\?>", b"", data)
    levels = rng.choice((3, 8, 12))
    nested = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, levels))
    declared = rng.choice(
        (
            f'<!DOCTYPE net [<!ENTITY e0 "haha">{nested}]>',
            '<!DOCTYPE net [<!ENTITY e0 SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE net SYSTEM "http://127.0.0.1:9/x.dtd">',
            '<!DOCTYPE net [<!ENTITY e0 "' + "x" * 50_000 + '">]>',
            '<?xml version="1.0" encoding="utf-7"?>',
            '<?xml version="1.0" encoding="no-such"?>',
            '<?xml version="1.0" encoding="utf-16"?>',
            "<?xml",
        )
    )
    found = list(re.finditer(rb'(?<==")[^"]*(?=")', body))
    if found:
        hit = rng.choice(found)
        name = f"&e{rng.choice((0, levels - 1))};" * rng.choice((1, 50, 2000))
        body = body[: hit.start()] + name.encode() + body[hit.end() :]
    return declared.encode() + body


_BLOCKS = tuple((weight * 0.15, mutator) for weight, mutator in BLOCKS)
LINES: Weighted = ((8.0, lines), *_BLOCKS)
XML: Weighted = ((5.0, attributes), (3.0, elements), (0.7, entities), *_BLOCKS)
