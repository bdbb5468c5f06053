"""What PNG files are made of, with every byte chosen by hand: chunks, deflate blocks, filtered scanlines.

No encoder takes part. Streams consist of stored blocks or of the fixed Huffman code, so the bytes are the
same whatever zlib is installed. Sources: PNG (third edition), RFC 1950, RFC 1951.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

HEIGHT, WIDTH = 11, 12
SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGB = (8, 2, 0, 0, 0)


def chunk(kind: bytes, body: bytes = b"", *, length: int | None = None, crc_flip: int = 0) -> bytes:
    """One chunk; `length` lies about its length, `crc_flip` is a mask over its CRC."""
    stated = len(body) if length is None else length
    return struct.pack(">I", stated) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ crc_flip)


def ihdr(height: int = HEIGHT, width: int = WIDTH, form: tuple[int, ...] = RGB) -> bytes:
    """An IHDR chunk with depth, colour, compression, filter and interlace as in `form`."""
    return chunk(b"IHDR", struct.pack(">II", width, height) + bytes(form))


IEND = chunk(b"IEND")


def png(*chunks: bytes) -> bytes:
    """The signature and the chunks."""
    return SIGNATURE + b"".join(chunks)


def with_stream(stream: bytes) -> bytes:
    """A file of the usual size with this zlib stream."""
    return png(ihdr(), chunk(b"IDAT", stream), IEND)


def with_deflate(deflate: bytes, inflated: bytes = b"") -> bytes:
    """A file of the usual size with these deflate blocks between zlib's header and checksum."""
    return with_stream(b"\x78\x01" + deflate + adler(inflated))


def adler(inflated: bytes) -> bytes:
    """Return the checksum at the end of a zlib stream."""
    return struct.pack(">I", zlib.adler32(inflated))


def stored(data: bytes, *, last: bool = True, block: int = 65535) -> bytes:
    """Deflate blocks that hold `data` as it is."""
    starts = range(0, max(1, len(data)), block)
    return b"".join(stored_block(data[i : i + block], last=last and i + block >= len(data)) for i in starts)


def stored_block(data: bytes, *, last: bool) -> bytes:
    """One deflate block that holds at most 65535 bytes as they are."""
    return struct.pack("<BHH", last, len(data), len(data) ^ 0xFFFF) + data


def zlib_stored(data: bytes) -> bytes:
    """Return a zlib stream of stored blocks."""
    return b"\x78\x01" + stored(data) + adler(data)


class Bits:
    """Deflate's bit order: fields from the lowest bit, Huffman codes from the highest (RFC 1951, 3.1.1)."""

    def __init__(self) -> None:
        self._bits: list[int] = []

    def field(self, value: int, count: int) -> Bits:
        """Append a field of `count` bits."""
        self._bits += [value >> i & 1 for i in range(count)]
        return self

    def code(self, value: int, count: int) -> Bits:
        """Append a Huffman code of `count` bits."""
        self._bits += [value >> i & 1 for i in reversed(range(count))]
        return self

    def symbol(self, value: int) -> Bits:
        """Append a literal or length in the fixed code (RFC 1951, 3.2.6)."""
        if value < 144:
            return self.code(0x30 + value, 8)
        if value < 256:
            return self.code(0x190 + value - 144, 9)
        if value < 280:
            return self.code(value - 256, 7)
        return self.code(0xC0 + value - 280, 8)

    def literals(self, data: bytes) -> Bits:
        """Append bytes."""
        for value in data:
            self.symbol(value)
        return self

    def match(self, distance_code: int, extra: int = 0, extra_bits: int = 0) -> Bits:
        """Append a match of 258 bytes."""
        return self.symbol(285).code(distance_code, 5).field(extra, extra_bits)

    def to_bytes(self) -> bytes:
        """Pad with zeros to whole bytes."""
        padded = self._bits + [0] * (-len(self._bits) % 8)
        return bytes(
            sum(bit << i for i, bit in enumerate(padded[at : at + 8])) for at in range(0, len(padded), 8)
        )


def fixed_block() -> Bits:
    """The header of a last block in the fixed code."""
    return Bits().field(1, 1).field(1, 2)


def run_of_zeros(matches: int) -> tuple[bytes, int]:
    """Deflate blocks that inflate to 1 + 258 * matches zeros, at 13 bits for 258 bytes, and that length."""
    bits = fixed_block().literals(b"\0")
    for _ in range(matches):
        bits.match(0)
    return bits.symbol(256).to_bytes(), 1 + 258 * matches


def pixels(height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """Raw RGB with a pattern in which no two neighbours are equal."""
    return bytes(
        (7 * x + 13 * y + 29 * c) % 256 for y in range(height) for x in range(width) for c in range(3)
    )


def scanlines(height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> bytes:
    """Rows of `pixels` behind filter byte 0; other channel counts get a pattern of their own."""
    if channels != 3:
        row = bytes((31 * x + 5) % 256 for x in range(width * channels))
        return (b"\0" + row) * height
    raw, stride = pixels(height, width), 3 * width
    return b"".join(b"\0" + raw[y * stride : (y + 1) * stride] for y in range(height))


def filtered(filters: list[int]) -> bytes:
    """Scanlines of `pixels()` under a filter for each row (PNG, section 9)."""
    raw, stride = pixels(), 3 * WIDTH
    rows = [bytes(stride)] + [raw[y * stride : (y + 1) * stride] for y in range(HEIGHT)]
    return b"".join(bytes([kind]) + _filter_row(kind, rows[y + 1], rows[y]) for y, kind in enumerate(filters))


def _filter_row(kind: int, row: bytes, above: bytes) -> bytes:
    left, corner = bytes(3) + row[:-3], bytes(3) + above[:-3]
    guesses: tuple[Callable[[int, int, int], int], ...] = (
        lambda _a, _b, _c: 0,
        lambda a, _b, _c: a,
        lambda _a, b, _c: b,
        lambda a, b, _c: (a + b) // 2,
        paeth,
    )
    return bytes(
        (x - guesses[kind](*around)) % 256 for x, *around in zip(row, left, above, corner, strict=True)
    )


def paeth(a: int, b: int, c: int) -> int:
    """Return the neighbour nearest to a + b - c; ties go to a, then b."""
    return min((a, b, c), key=lambda value: abs(a + b - c - value))


def adam7_scanlines() -> bytes:
    """Scanlines of the seven passes (PNG, section 8)."""
    raw = pixels()
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = bytearray()
    for x0, y0, dx, dy in passes:
        for y in range(y0, HEIGHT, dy):
            row = b"".join(raw[3 * (y * WIDTH + x) : 3 * (y * WIDTH + x) + 3] for x in range(x0, WIDTH, dx))
            rows += b"\0" + row if row else b""
    return bytes(rows)
