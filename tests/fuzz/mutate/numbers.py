"""Numbers and texts where readers go wrong: ends of ranges, overflows, odd spellings."""

from __future__ import annotations

from random import Random

__all__ = ["odd_integer", "odd_number_text", "odd_text"]

_NEAR = [0, 7, 8, 15, 16, 31, 32, 53, 61, 62, 63, 64, 127, 128]
_TEXTS = [
    *(
        "",
        " ",
        "0",
        "-1",
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "-Infinity",
        "0x10",
        "1_000",
        "٣",
        "1e-400",
        "+1",
        "1.",
        ".5",
    ),
    *("null", "true", "no", "~", "None", "\x00", "\x1b[2J", "\r\n", "a\nb", "\ufeff", "\u202e", "\ud800", "é" * 300),
    *("/etc/passwd", "../../../etc/passwd", "/dev/zero", "/proc/self/mem", "a" * 5000, "%s%n", "{0}", "CON", "."),
    *("__class__", "__reduce__", "os.system", "_ORT_MEM_ADDR_", "http://127.0.0.1:9/", "file:///etc/passwd"),
]


def odd_integer(rng: Random) -> int:
    """Return an integer at or near the end of a machine's range, small, or huge."""
    chance = rng.random()
    if chance < 0.35:
        return rng.randrange(-3, 20)
    if chance < 0.9:
        return rng.choice((-1, 1)) * (1 << rng.choice(_NEAR)) + rng.randrange(-2, 3)
    if chance < 0.97:
        return rng.randrange(1 << rng.randrange(1, 70))
    return rng.choice((-1, 1)) * (1 << rng.choice((1024, 14_000)))


def odd_number_text(rng: Random) -> str:
    """Return the text of a number, or what stands where one should."""
    chance = rng.random()
    if chance < 0.5:
        value = odd_integer(rng)
        return str(value) if abs(value) < 1 << 1000 else "9" * 6000
    if chance < 0.7:
        return repr(rng.choice((-1, 1)) * 10.0 ** rng.randrange(-320, 308) * rng.random())
    return rng.choice(_TEXTS)


def odd_text(rng: Random) -> str:
    """Return a text that is no usual name or number."""
    return rng.choice(_TEXTS) if rng.random() < 0.8 else "".join(chr(rng.randrange(1, 0x2FF)) for _ in range(8))
