"""What a file is and how large its picture: headers written byte by byte, as their specifications say."""

from __future__ import annotations

import struct
import zlib

import pytest

from edgedet_runtime.picture_header import HEAD_BYTES, check_png, picture_format, picture_size

FRAME = struct.pack(">HBHH", 11, 8, 300, 517)  # length, precision, height, width
JPEG = b"\xff\xd8"
MALFORMED = "its header is malformed"
CUT = "its header is cut short"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*more: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">II", 517, 300) + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + b"".join((header, *more))


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


def extended(width: int, height: int) -> bytes:
    return webp(
        b"VP8X", b"\x10\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + b"\xff"
    )


def lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28))


def lossy(width: int, height: int) -> bytes:
    scaled = 0x4000, 0x8000  # the two bits above each side say how to scale, not how large
    return webp(
        b"VP8 ", b"\x30\x01\0\x9d\x01\x2a" + struct.pack("<HH", width | scaled[0], height | scaled[1]) + b"\xff"
    )


def bmp(header: bytes) -> bytes:
    return b"BM" + struct.pack("<I", 5000) + b"\0\0\0\0" + struct.pack("<I", 54) + header + b"\1\0\x18\0"


def tiff(order: str, entries: list[tuple[int, int, int]], start: int = 8) -> bytes:
    """Write tags, types (3: 16 bits, 4: 32) and values."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    data = head.ljust(start, b"\x07") + struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        data += struct.pack(f"{order}HHI", tag, kind, 1) + struct.pack(
            f"{order}{'HH' if kind == 3 else 'I'}", *([value, 9] if kind == 3 else [value])
        )
    return data


SIZES = {
    "png": png(),
    "gif": b"GIF89a" + struct.pack("<HH", 517, 300) + b"\xf7\0\0",
    "old gif": b"GIF87a" + struct.pack("<HH", 517, 300) + b"\xf7\0\0",
    "bmp": bmp(struct.pack("<Iii", 40, 517, 300)),
    "bmp from the top": bmp(struct.pack("<Iii", 124, 517, -300)),
    "bmp of OS/2": bmp(struct.pack("<IHH", 12, 517, 300)),
    "extended webp": extended(517, 300),
    "lossless webp": lossless(517, 300),
    "lossy webp": lossy(517, 300),
    "tiff": tiff("<", [(254, 4, 0), (256, 4, 517), (257, 4, 300), (258, 3, 8)]),
    "tiff in short numbers": tiff(">", [(256, 3, 517), (257, 3, 300)], start=20),
    "tiff the other way round": tiff(">", [(257, 4, 300), (255, 4, 3), (256, 3, 517)]),
    "pgm": b"P5 517 300 255\n",
    "pbm": b"P1\n517\t300\n",
    "ppm with remarks": b"P6\n# 1 2\n#3 4\n517 # width\n300\n255\n",
}


@pytest.mark.parametrize("case", SIZES)
def test_width_and_height(case: str) -> None:
    data = SIZES[case]
    names = {"bmp": "BMP", "gif": "GIF", "png": "PNG", "web": "WebP", "tif": "TIFF"}
    name = next((n for key, n in names.items() if key in case), "PNM")
    assert picture_format(data[:HEAD_BYTES]) == name
    assert picture_size(data) == (517, 300)


@pytest.mark.parametrize("side", [1, 2, 128, 255, 256, 257, 16383, 16384])
def test_each_webp_up_to_its_largest_side(side: int) -> None:
    for write in (extended, lossless, lossy):
        if write is lossy and side == 16384:
            continue
        assert picture_size(write(side, 16)) == (side, 16)
        assert picture_size(write(16, side)) == (16, side)
    assert picture_size(extended(1 << 24, side)) == (1 << 24, side)


FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


def test_jpeg_markers() -> None:
    """T.81, table B.1: frame headers hold the size, some markers stand alone, the rest say how long they are."""
    tail = b"\xff\xc0" + FRAME
    standing_alone = {1, *range(0xD0, 0xD9)}
    too_late = {0xD9, 0xDA}  # the end, or pixels, before any size
    for marker in range(255):
        code = bytes([0xFF, marker])
        alone, measured = JPEG + code + tail, JPEG + code + b"\0\x05abc" + tail
        if marker in FRAMES:
            assert picture_size(JPEG + code + FRAME) == (517, 300), hex(marker)
        elif marker in standing_alone:
            assert picture_size(alone) == (517, 300), hex(marker)
        elif marker in too_late:
            for data in (alone, measured):
                with pytest.raises(ValueError, match=MALFORMED):
                    picture_size(data)
        else:
            assert picture_size(measured) == (517, 300), hex(marker)
            assert picture_size(JPEG + code + b"\0\x02" + tail) == (517, 300), hex(marker)
    for fill in range(1, 6):
        assert picture_size(JPEG + b"\xff" * fill + tail) == (517, 300)


@pytest.mark.parametrize("length", [0, 1])
def test_a_jpeg_segment_is_no_shorter_than_its_own_length(length: int) -> None:
    with pytest.raises(ValueError, match=MALFORMED):
        picture_size(JPEG + b"\xff\xe0" + struct.pack(">H", length) + b"\xff\xc0" + FRAME)


@pytest.mark.parametrize(
    "data",
    [
        JPEG + b"\xff\xe0\0\x02\0\xc0" + FRAME,
        webp(b"VP9 ", bytes(40)),
        b"P6 517 x",
        b"P6 12345678901 5 255\n",
        b"P6 5 5",
    ],
    ids=["no marker", "webp of an unknown kind", "no number", "a number of eleven digits", "nothing after the numbers"],
)
def test_a_malformed_header_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=MALFORMED):
        picture_size(data)


def test_remarks_of_a_portable_map_fill_four_kilobytes_at_most() -> None:
    rest = b"\n517 300 "
    whole = b"P6\n" + b"#" * (4096 - 3 - len(rest)) + rest
    assert picture_size(whole + b"255\n") == (517, 300)
    with pytest.raises(ValueError, match=MALFORMED):
        picture_size(whole[:3] + b"#" + whole[3:] + b"255\n")


@pytest.mark.parametrize("case", [c for c, data in SIZES.items() if picture_format(data) not in ("PNM", None)])
def test_a_header_that_is_cut_short(case: str) -> None:
    """Before the last byte of the size; a TIFF's tags may stand in any order, so it is cut before its last one."""
    data = SIZES[case]
    ends = {"png": 24, "gif": 10, "old gif": 10, "bmp": 26, "bmp from the top": 26, "bmp of OS/2": 22}
    ends |= {"extended webp": 30, "lossless webp": 25, "lossy webp": 30}
    with pytest.raises(ValueError, match=CUT):
        picture_size(data[: ends.get(case, len(data) - 12) - 1])


def test_a_jpeg_that_is_cut_short() -> None:
    for data in (JPEG + b"\xff", JPEG + b"\xff\xe0\0", JPEG + b"\xff\xe0\0\x09abc", JPEG + b"\xff\xc0" + FRAME[:-1]):
        with pytest.raises(ValueError, match=CUT):
            picture_size(data)


def test_a_tiff_without_a_height_is_cut_short() -> None:
    with pytest.raises(ValueError, match=CUT):
        picture_size(tiff("<", [(256, 4, 517), (258, 3, 8)]))


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BMW is a maker of cars",
        b"AB\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"FORM\0\0\0\0WEBPVP8 ",
        b"GIF88a\0\0",
        b"P7\n",
        b"P0\n",
        b"P6x",
        b"\xff\xd8\0",
        b"\x89PNG\r\n\x1a\r",
        b"II\0*",
        b"MM*\0",
    ],
)
def test_what_is_no_picture(head: bytes) -> None:
    assert picture_format(head[:HEAD_BYTES]) is None


@pytest.mark.parametrize("kind", range(1, 7))
def test_each_portable_map_is_one(kind: int) -> None:
    assert picture_format(b"P%d\n5 5\n" % kind) == "PNM"


END = chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "more", [(END,), (chunk(b"IDAT", b"pixels"), END), (chunk(b"IDAT", b""), END, b"whatever follows")]
)
def test_a_whole_png(more: tuple[bytes, ...]) -> None:
    check_png(png(*more))


def test_a_png_is_damaged_wherever_it_is_cut_or_changed() -> None:
    data = png(chunk(b"IDAT", b"pixels"), END)
    for size in range(8, len(data)):
        with pytest.raises(ValueError, match="its end is missing"):
            check_png(data[:size])
    for at in [*range(12, 33), *range(37, 51), *range(55, 63)]:  # all but the lengths
        changed = bytearray(data)
        changed[at] ^= 0x20
        with pytest.raises(ValueError, match="a checksum does not match"):
            check_png(bytes(changed))
