"""PNGs with one fault each, and streams with random ones: what two decoders must say the same of.

Every image is 13×9 pixels unless its name says otherwise.
"""

from __future__ import annotations

import base64
import random
import struct
import zlib
from collections.abc import Iterator

from perturbnet.wire.images import SIGNATURE

HEIGHT, WIDTH = 13, 9
RGB8 = bytes((8, 2, 0, 0, 0))
_DRAW_SEED = 17


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    stream: bytes, *, height: int = HEIGHT, width: int = WIDTH, form: bytes = RGB8, split: int = 0
) -> bytes:
    size = split or len(stream) or 1
    parts = [stream[at : at + size] for at in range(0, len(stream), size)] or [b""]
    data = b"".join(chunk(b"IDAT", part) for part in parts)
    return SIGNATURE + chunk(b"IHDR", struct.pack(">II", width, height) + form) + data + chunk(b"IEND", b"")


def compress(data: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY, wbits: int = 15) -> bytes:
    machine = zlib.compressobj(level, zlib.DEFLATED, wbits, 8, strategy)
    return machine.compress(data) + machine.flush()


def noisy_lines() -> bytes:
    """Filtered scanlines that do not compress; all filters."""
    draw = random.Random(_DRAW_SEED)
    return b"".join(bytes([draw.randrange(5)]) + draw.randbytes(3 * WIDTH) for _ in range(HEIGHT))


def smooth_lines() -> bytes:
    """Filtered scanlines that compress by matches."""
    rows = (bytes((x * 7 + y) // 9 for x in range(3 * WIDTH)) for y in range(HEIGHT))
    return b"".join(bytes([y % 5]) + row for y, row in enumerate(rows))


def crafted_pngs() -> dict[str, bytes]:
    """All of them by name; some are valid."""
    return {**_streams(), **_walks(), **dict(_cuts()), **dict(_random_faults())}


def _streams() -> dict[str, bytes]:
    """Faults of the zlib stream."""
    lines, smooth = noisy_lines(), smooth_lines()
    good = compress(lines)
    streams = {
        "stored": compress(lines, 0),
        "fixed codes": compress(smooth, 9, zlib.Z_FIXED),
        "dynamic codes": compress(smooth, 9),
        "literals only": compress(smooth, 9, zlib.Z_HUFFMAN_ONLY),
        "a small window": compress(smooth, 9, wbits=9),
        "one byte less": compress(lines[:-1]),
        "one byte more": compress(lines + b"x"),
        "far more": compress(bytes(10**7)),
        "a wrong Adler-32": good[:-1] + bytes([good[-1] ^ 1]),
        "one byte more, a wrong Adler-32": compress(lines + b"x")[:-1] + b"\0",
        "one byte more, cut": compress(lines + b"x", 0)[:-5],
        "bytes after the stream": good + b"\0",
        "a filter of 5": compress(b"\5" + lines[1:]),
        "no stream": b"",
        "a preset dictionary": b"\x78\xbb" + good[2:],
        "a method of 7": b"\x77\x85" + good[2:],
        "a window of 64 KiB": b"\x88\x1c" + good[2:],
        "a block of kind 3": b"\x78\x9c\x07\0\0\0\0\0",
        "a distance before the start": b"\x78\x9c\x63\x00\x02\x00\x00\x00",
    }
    # 512 bytes of window are declared, and a match reaches back 700: that is not enforced.
    draw = random.Random(_DRAW_SEED)
    row, others = draw.randbytes(99), draw.randbytes(6 * 99)
    reaching = compress(b"".join(b"\0" + line for line in (row, *_rows(others), row)), 9)
    return {
        **{name: png(stream) for name, stream in streams.items()},
        "a window too small for its matches": png(b"\x18\x19" + reaching[2:], height=8, width=33),
        "9000 chunks": png(compress(bytes(9100), 0)[:9000], height=100, width=30, split=1),
    }


def _rows(levels: bytes) -> list[bytes]:
    return [levels[at : at + 99] for at in range(0, len(levels), 99)]


def _walks() -> dict[str, bytes]:
    """Faults of chunks and header."""
    good = compress(noisy_lines())
    whole = png(good)
    return {
        "as it is": whole,
        "a chunk a byte": png(good, split=1),
        "an empty IDAT": whole[:33] + chunk(b"IDAT", b"") + whole[33:],
        "no IDAT": whole[:33] + whole[-12:],
        "two headers": whole[:33] + whole[8:],
        "a text chunk": whole[:33] + chunk(b"tEXt", b"a\0b") + whole[33:],
        "IEND with a body": whole[:-12] + chunk(b"IEND", b"x"),
        "a byte after IEND": whole + b"\0",
        "a header of 12 bytes": SIGNATURE + chunk(b"IHDR", whole[16:28]) + whole[33:],
        "grey": png(good, form=bytes((8, 0, 0, 0, 0))),
        "16 bits": png(good, form=bytes((16, 2, 0, 0, 0))),
        "interlaced": png(good, form=bytes((8, 2, 0, 0, 1))),
        "no height": png(good, height=0),
        "2^31 wide": png(good, height=1, width=1 << 31),
        "8192 x 8192": png(good, height=8192, width=8192),
        "8193 high": png(good, height=8193, width=1),
        "not a PNG": b"GIF89a" + whole,
        "text": base64.b64encode(whole),
    }


def _cuts() -> Iterator[tuple[str, bytes]]:
    whole = png(compress(noisy_lines()))
    for end in range(0, len(whole), 7):
        yield f"cut at {end}", whole[:end]


def _random_faults() -> Iterator[tuple[str, bytes]]:
    """Streams with one or two bits flipped, and streams cut short, behind right CRCs."""
    draw = random.Random(_DRAW_SEED)
    lines, smooth = noisy_lines(), smooth_lines()
    kinds = {
        "random": compress(lines),
        "smooth": compress(smooth, 9),
        "stored": compress(lines, 0),
        "longer": compress(smooth + b"abc", 9),
        "fixed": compress(smooth, 9, zlib.Z_FIXED),
    }
    for name, stream in kinds.items():
        for number in range(60):
            broken = bytearray(stream)
            for _ in range(draw.choice((1, 1, 2))):
                broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
            yield f"{name} {number}", png(bytes(broken))
        for end in range(1, len(stream), 5):
            yield f"{name} to {end}", png(stream[:end])
