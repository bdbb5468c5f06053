"""Write the PNG suite: hostile files, at least one per way to be refused, and valid ones, with an index.

    python -m tests.golden.make_png [FOLDER]

`index.json` names the code that each file must get. The caps are those of perturbnet/wire/images.py, in
figures.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.golden.png_blocks import (
    HEIGHT,
    IEND,
    SIGNATURE,
    WIDTH,
    Bits,
    adam7_scanlines,
    adler,
    chunk,
    filtered,
    fixed_block,
    ihdr,
    pixels,
    png,
    run_of_zeros,
    scanlines,
    stored,
    stored_block,
    with_deflate,
    with_stream,
    zlib_stored,
)

MAX_SIDE, MAX_DATA_CHUNKS = 8192, 8192


@dataclass(frozen=True)
class Case:
    """One file: the code it must get, why, and the size that is asked for (None: any)."""

    name: str
    code: str
    why: str
    data: bytes
    expected: tuple[int, int] | None = (HEIGHT, WIDTH)
    rgb: bytes | None = None  # what a valid file decodes to


GOOD_STREAM = zlib_stored(scanlines())
GOOD = with_stream(GOOD_STREAM)
IDAT = chunk(b"IDAT", GOOD_STREAM)


def signature_cases() -> Iterator[Case]:
    """Check 3.1."""
    yield Case("signature_empty", "png_signature", "no byte at all", b"")
    yield Case("signature_short", "png_signature", "seven of eight bytes", SIGNATURE[:7])
    yield Case("signature_jpeg", "png_signature", "a JPEG's first bytes", b"\xff\xd8\xff\xe0" + GOOD[4:])
    yield Case("signature_text_mode", "png_signature", "CR LF became LF", GOOD.replace(b"\r\n", b"\n", 1))
    yield Case("signature_late", "png_signature", "a byte before the signature", b"\0" + GOOD)


def framing_cases() -> Iterator[Case]:
    """Check 3.2, lengths."""
    at_idat = 8 + 25
    yield Case("frame_signature_only", "png_chunk", "nothing after the signature", SIGNATURE)
    yield Case("frame_ihdr_cut", "png_chunk", "IHDR breaks off", GOOD[: 8 + 20])
    yield Case("frame_idat_cut", "png_chunk", "IDAT breaks off in its body", GOOD[: at_idat + 100])
    yield Case("frame_no_iend", "png_chunk", "IEND is missing", png(ihdr(), IDAT))
    yield Case("frame_iend_cut", "png_chunk", "IEND lacks the last byte of its CRC", GOOD[:-1])
    for name, length in (
        ("ffffffff", 0xFFFFFFFF),
        ("7fffffff", 0x7FFFFFFF),
        ("one_more", len(GOOD_STREAM) + 13),
    ):
        lying = chunk(b"IDAT", GOOD_STREAM, length=length)
        yield Case(f"frame_idat_{name}", "png_chunk", f"IDAT claims {length} bytes", png(ihdr(), lying, IEND))
    header = ihdr()[8:21]
    lying = chunk(b"IHDR", header, length=0xFFFFFFFF)
    yield Case("frame_ihdr_ffffffff", "png_chunk", "IHDR claims 2^32 - 1 bytes", png(lying, IDAT, IEND))
    lying = chunk(b"IEND", length=0xFFFFFFFF)
    yield Case("frame_iend_ffffffff", "png_chunk", "IEND claims 2^32 - 1 bytes", png(ihdr(), IDAT, lying))


def crc_cases() -> Iterator[Case]:
    """Check 3.2, checksums."""
    header = chunk(b"IHDR", ihdr()[8:21], crc_flip=1)
    yield Case("crc_ihdr", "png_crc", "one bit of IHDR's CRC", png(header, IDAT, IEND))
    data = chunk(b"IDAT", GOOD_STREAM, crc_flip=1 << 31)
    yield Case("crc_idat", "png_crc", "one bit of IDAT's CRC", png(ihdr(), data, IEND))
    first, second = GOOD_STREAM[:50], chunk(b"IDAT", GOOD_STREAM[50:], crc_flip=0xFFFFFFFF)
    data = chunk(b"IDAT", first) + second
    yield Case("crc_second_idat", "png_crc", "the second IDAT's CRC inverted", png(ihdr(), data, IEND))
    end = chunk(b"IEND", crc_flip=1 << 8)
    yield Case("crc_iend", "png_crc", "one bit of IEND's CRC", png(ihdr(), IDAT, end))
    flipped = bytearray(GOOD)
    flipped[8 + 25 + 100] ^= 4
    yield Case("crc_bit_in_data", "png_crc", "one bit of the pixels", bytes(flipped))
    yield Case(
        "crc_short_length",
        "png_crc",
        "IDAT claims a byte less",
        png(ihdr(), chunk(b"IDAT", GOOD_STREAM, length=len(GOOD_STREAM) - 1), IEND),
    )


def header_cases() -> Iterator[Case]:
    """Check 3.3."""
    code = "png_header"
    yield Case("header_idat_first", code, "IDAT before IHDR", png(IDAT, ihdr(), IEND))
    yield Case("header_missing", code, "no IHDR", png(IDAT, IEND))
    yield Case(
        "header_cgbi",
        code,
        "Apple's CgBI chunk first",
        png(chunk(b"CgBI", b"\x50\0\x20\6"), ihdr(), IDAT, IEND),
    )
    yield Case("header_lower_case", code, "iHDR", png(chunk(b"iHDR", ihdr()[8:21]), IDAT, IEND))
    yield Case("header_repeated", code, "IHDR twice", png(ihdr(), ihdr(), IDAT, IEND))
    yield Case("header_after_data", code, "a second IHDR after IDAT", png(ihdr(), IDAT, ihdr(), IEND))
    body = ihdr()[8:21]
    yield Case("header_12_bytes", code, "IHDR of 12 bytes", png(chunk(b"IHDR", body[:12]), IDAT, IEND))
    yield Case("header_14_bytes", code, "IHDR of 14 bytes", png(chunk(b"IHDR", body + b"\0"), IDAT, IEND))
    yield Case("header_empty", code, "IHDR of 0 bytes", png(chunk(b"IHDR"), IDAT, IEND))
    yield from form_cases()


def form_cases() -> Iterator[Case]:
    """Check 3.3, whole images of the kinds that are not allowed."""
    palette = chunk(b"PLTE", bytes(range(256)) * 3)
    forms: tuple[tuple[str, tuple[int, ...], int, bytes], ...] = (
        ("grey", (8, 0, 0, 0, 0), 1, b""),
        ("palette", (8, 3, 0, 0, 0), 1, palette),
        ("grey_alpha", (8, 4, 0, 0, 0), 2, b""),
        ("rgb_alpha", (8, 6, 0, 0, 0), 4, b""),
        ("colour_1", (8, 1, 0, 0, 0), 3, b""),
        ("16_bit", (16, 2, 0, 0, 0), 6, b""),
        ("depth_0", (0, 2, 0, 0, 0), 3, b""),
        ("compression_1", (8, 2, 1, 0, 0), 3, b""),
        ("filter_1", (8, 2, 0, 1, 0), 3, b""),
        ("filter_64", (8, 2, 0, 64, 0), 3, b""),
        ("interlace_2", (8, 2, 0, 0, 2), 3, b""),
    )
    for name, form, channels, extra in forms:
        data = chunk(b"IDAT", zlib_stored(scanlines(channels=channels)))
        yield Case(f"form_{name}", "png_header", f"IHDR says {form}", png(ihdr(form=form), extra, data, IEND))
    data = chunk(b"IDAT", zlib_stored(adam7_scanlines()))
    interlaced = png(ihdr(form=(8, 2, 0, 0, 1)), data, IEND)
    yield Case("form_adam7", "png_header", "a correct interlaced image", interlaced)


def size_cases() -> Iterator[Case]:
    """Check 3.4."""
    code = "png_size"
    for name, height, width in (
        ("zero_height", 0, WIDTH),
        ("zero_width", HEIGHT, 0),
        ("zero_both", 0, 0),
        ("wide", 1, MAX_SIDE + 1),
        ("tall", MAX_SIDE + 1, 1),
        ("area", 4096, 4097),
        ("area_square", MAX_SIDE, MAX_SIDE),
        ("2_31", 1 << 31, 1 << 31),
        ("2_32", 0xFFFFFFFF, 0xFFFFFFFF),
    ):
        data = zlib_stored(scanlines(height, width) if height * width < 1 << 16 else b"")
        case = png(ihdr(height, width), chunk(b"IDAT", data), IEND)
        yield Case(f"size_{name}", code, f"{width}x{height}, any size asked for", case, expected=None)
    for name, height, width in (
        ("one_row_more", HEIGHT + 1, WIDTH),
        ("one_row_fewer", HEIGHT - 1, WIDTH),
        ("one_column_more", HEIGHT, WIDTH + 1),
        ("transposed", WIDTH, HEIGHT),
    ):
        case = png(ihdr(height, width), chunk(b"IDAT", zlib_stored(scanlines(height, width))), IEND)
        yield Case(f"size_{name}", code, f"{width}x{height}, correct but for its size", case)


def chunk_cases() -> Iterator[Case]:
    """Checks 3.5 and 3.6."""
    code, half = "png_chunk", len(GOOD_STREAM) // 2
    first, second = chunk(b"IDAT", GOOD_STREAM[:half]), chunk(b"IDAT", GOOD_STREAM[half:])
    text, empty = chunk(b"tEXt", b"Comment\0hidden"), chunk(b"IDAT")
    control = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0))
    frame = chunk(b"fdAT", struct.pack(">I", 1) + GOOD_STREAM)
    for name, why, chunks in (
        ("text_before", "tEXt before IDAT", (text, IDAT, IEND)),
        ("text_between", "tEXt between IDATs", (first, text, second, IEND)),
        ("text_after", "tEXt after IDAT", (IDAT, text, IEND)),
        (
            "ztxt",
            "zTXt, a stream of its own",
            (chunk(b"zTXt", b"k\0\0" + zlib_stored(bytes(99))), IDAT, IEND),
        ),
        (
            "iccp",
            "iCCP, a stream of its own",
            (chunk(b"iCCP", b"p\0\0" + zlib_stored(bytes(99))), IDAT, IEND),
        ),
        ("exif", "eXIf with an orientation", (chunk(b"eXIf", b"MM\0*\0\0\0\x08" + bytes(6)), IDAT, IEND)),
        ("gamma", "gAMA", (chunk(b"gAMA", struct.pack(">I", 45455)), IDAT, IEND)),
        ("palette", "a suggested PLTE", (chunk(b"PLTE", b"\0\1\2"), IDAT, IEND)),
        ("transparency", "tRNS makes a colour transparent", (chunk(b"tRNS", bytes(6)), IDAT, IEND)),
        (
            "apng",
            "an animation",
            (chunk(b"acTL", struct.pack(">II", 2, 0)), control, IDAT, control, frame, IEND),
        ),
        ("apng_frame", "fdAT alone", (IDAT, frame, IEND)),
        ("private", "a private ancillary chunk", (chunk(b"prVt", b"x"), IDAT, IEND)),
        ("unknown_critical", "a critical chunk nobody knows", (chunk(b"ABCD"), IDAT, IEND)),
        ("lower_idat", "iDAT", (chunk(b"iDAT", GOOD_STREAM), IDAT, IEND)),
        ("nul_kind", "a kind of four NULs", (chunk(b"\0\0\0\0"), IDAT, IEND)),
        ("no_data", "no IDAT", (IEND,)),
        ("empty_only", "one empty IDAT", (empty, IEND)),
        ("empty_first", "an empty IDAT first", (empty, IDAT, IEND)),
        ("empty_between", "an empty IDAT between", (first, empty, second, IEND)),
        ("empty_last", "an empty IDAT last", (IDAT, empty, IEND)),
        ("iend_body", "IEND with one byte", (IDAT, chunk(b"IEND", b"\0"))),
    ):
        yield Case(f"chunk_{name}", code, why, png(ihdr(), *chunks))
    yield Case("chunk_too_many", code, f"{MAX_DATA_CHUNKS + 1} IDATs", many_chunks(MAX_DATA_CHUNKS + 1))


def many_chunks(count: int) -> bytes:
    """Return a correct file of `count` IDATs, all of one byte but the last; empty blocks fill it up."""
    lines = scanlines()
    stream = b"\x78\x01" + stored_block(b"", last=False) * 1700 + stored(lines) + adler(lines)
    parts = [stream[i : i + 1] for i in range(count - 1)] + [stream[count - 1 :]]
    return png(ihdr(), b"".join(chunk(b"IDAT", part) for part in parts), IEND)


def trailing_cases() -> Iterator[Case]:
    """Check 3.6, after IEND."""
    for name, tail in (
        ("byte", b"\0"),
        ("idat", IDAT),
        ("iend", IEND),
        ("png", GOOD),
        ("text", chunk(b"tEXt", b"Comment\0hidden")),
        ("zeros", bytes(512)),
    ):
        yield Case(f"trailing_{name}", "png_trailing", f"{name} after IEND", GOOD + tail)


def stream_cases() -> Iterator[Case]:
    """Check 3.7, the zlib stream's frame."""
    code, lines = "png_data", scanlines()
    blocks, good_sum = stored(lines), adler(lines)
    for name, why, stream in (
        ("one_byte", "the first byte of a stream", b"\x78"),
        ("header_only", "a header and nothing", b"\x78\x01"),
        ("cut", "the stream breaks off in its data", GOOD_STREAM[:200]),
        ("no_checksum", "all data, no Adler-32", GOOD_STREAM[:-4]),
        ("half_checksum", "three bytes of the Adler-32", GOOD_STREAM[:-1]),
        ("bad_checksum", "one bit of the Adler-32", GOOD_STREAM[:-1] + bytes([GOOD_STREAM[-1] ^ 1])),
        ("header_check", "FCHECK is wrong", b"\x78\x02" + blocks + good_sum),
        ("method_7", "compression method 7", b"\x77\x09" + blocks + good_sum),
        ("window_64k", "a window of 64 KiB", b"\x88\x1c" + blocks + good_sum),
        ("dictionary", "a preset dictionary", b"\x78\x20" + adler(b"dictionary") + blocks + good_sum),
        ("raw_deflate", "deflate without zlib's frame", blocks),
        ("gzip", "gzip's frame", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + blocks + bytes(8)),
        ("not_last", "no block is the last", b"\x78\x01" + stored(lines, last=False) + good_sum),
        ("byte_after", "a byte after the stream", GOOD_STREAM + b"\0"),
        ("two_streams", "two streams in a row", GOOD_STREAM + zlib_stored(b"more")),
    ):
        yield Case(f"stream_{name}", code, why, with_stream(stream))
    two = png(ihdr(), IDAT, chunk(b"IDAT", b"hidden"), IEND)
    yield Case("stream_idat_after", code, "an IDAT after the stream's end", two)


def deflate_cases() -> Iterator[Case]:
    """Check 3.7, the blocks inside."""
    code, lines = "png_data", scanlines()
    oversubscribed = Bits().field(1, 1).field(2, 2).field(0, 5).field(0, 5).field(15, 4)
    for _ in range(19):
        oversubscribed.field(1, 3)  # nineteen codes of one bit
    for name, why, deflate in (
        ("block_3", "block type 3", b"\x07" + bytes(8)),
        ("stored_length", "a stored length without its complement", b"\x01\x05\0\xfb\xff" + bytes(5)),
        ("too_far_back", "a match before the start", fixed_block().match(0).symbol(256).to_bytes()),
        ("symbol_286", "literal symbol 286", fixed_block().symbol(286).to_bytes() + bytes(8)),
        ("distance_30", "distance code 30", fixed_block().literals(b"\0").match(30).to_bytes() + bytes(8)),
        ("oversubscribed", "a code that cannot exist", oversubscribed.to_bytes() + bytes(8)),
    ):
        yield Case(f"deflate_{name}", code, why, with_deflate(deflate))
    for name, why, inflated in (
        ("empty", "a stream of nothing", b""),
        ("byte_short", "one byte too few", lines[:-1]),
        ("row_short", "one row too few", lines[: -1 - 3 * WIDTH]),
        ("no_filters", "rows without filter bytes", pixels()),
    ):
        yield Case(f"length_{name}", code, why, with_stream(zlib_stored(inflated)))
    bad = with_deflate(stored(lines + b"\0"), b"another")
    yield Case("length_byte_long_bad_checksum", code, "one byte too many, and a wrong Adler-32", bad)
    largest = png(ihdr(4096, 4096), chunk(b"IDAT", GOOD_STREAM), IEND)
    yield Case("length_of_largest", code, "the largest area allowed, next to no data", largest, expected=None)


def bomb_cases() -> Iterator[Case]:
    """Check 3.7, too much."""
    code, lines = "png_bomb", scanlines()
    yield Case("bomb_byte", code, "one byte too many", with_stream(zlib_stored(lines + b"\0")))
    yield Case("bomb_row", code, "one row too many", with_stream(zlib_stored(lines + lines[: 1 + 3 * WIDTH])))
    blocks, length = run_of_zeros(4065)
    bomb = with_deflate(blocks, bytes(length))
    yield Case("bomb_mebibyte", code, f"{len(bomb)} bytes that inflate to {length}", bomb)
    endless = with_stream(b"\x78\x01" + stored(lines, last=False) + stored(bytes(4096), last=False) * 4)
    yield Case("bomb_endless", code, "too much, and the stream never ends", endless)
    tiny = png(ihdr(1, 1), chunk(b"IDAT", b"\x78\x01" + blocks + adler(bytes(length))), IEND)
    yield Case("bomb_behind_1x1", code, "a mebibyte behind one pixel", tiny, expected=(1, 1))


def filter_cases() -> Iterator[Case]:
    """Check 3.8."""
    stride = 1 + 3 * WIDTH
    for name, row, value in (("5", 0, 5), ("255", 4, 255), ("last_row", HEIGHT - 1, 5)):
        lines = bytearray(scanlines())
        lines[row * stride] = value
        case = with_stream(zlib_stored(bytes(lines)))
        yield Case(f"filter_{name}", "png_data", f"filter {value} in row {row}", case)


def valid_cases() -> Iterator[Case]:
    """Files that must be taken, with what they decode to."""
    lines, rgb = scanlines(), pixels()

    def valid(name: str, why: str, data: bytes) -> Case:
        return Case(f"valid_{name}", "ok", why, data, rgb=rgb)

    yield valid("stored", "one IDAT, stored blocks", GOOD)
    yield valid("blocks", "stored blocks of seven bytes", with_deflate(stored(lines, block=7), lines))
    yield valid(
        "byte_chunks",
        "every byte in its own IDAT",
        png(ihdr(), b"".join(chunk(b"IDAT", GOOD_STREAM[i : i + 1]) for i in range(len(GOOD_STREAM))), IEND),
    )
    yield valid("most_chunks", f"{MAX_DATA_CHUNKS} IDATs", many_chunks(MAX_DATA_CHUNKS))
    fixed = fixed_block().literals(lines).symbol(256).to_bytes()
    yield valid("fixed", "the fixed Huffman code", with_deflate(fixed, lines))
    for kind, name in enumerate(("none", "sub", "up", "average", "paeth")):
        case = with_stream(zlib_stored(filtered([kind] * HEIGHT)))
        yield valid(f"filter_{name}", f"filter {kind} in every row", case)
    mixed = with_stream(zlib_stored(filtered([(3 * y + 4) % 5 for y in range(HEIGHT)])))
    yield valid("filters_mixed", "all filters in turn", mixed)
    padded = b"\x78\x01" + stored_block(b"", last=False) * 9 + stored(lines) + adler(lines)
    yield valid("empty_blocks", "empty stored blocks in the stream", with_stream(padded))
    yield valid("level_3", "another compression level noted", with_stream(b"\x78\xda" + GOOD_STREAM[2:]))
    for name, height, width in (("1x1", 1, 1), ("widest", 1, MAX_SIDE), ("tallest", MAX_SIDE, 1)):
        data = png(ihdr(height, width), chunk(b"IDAT", zlib_stored(scanlines(height, width))), IEND)
        yield Case(f"valid_{name}", "ok", f"{width}x{height}", data, (height, width), pixels(height, width))
    yield small_window_case()


def small_window_case() -> Case:
    """Return a stream that declares a window of 256 bytes and reaches back 333, as zlib allows."""
    stride, period = 1 + 3 * WIDTH, 9
    lines = b"".join(bytes([0] + [(y % period) * 20 + 1] * (stride - 1)) for y in range(HEIGHT * 2))
    distance = period * stride  # 333: code 16 is 257 + 7 bits
    head = lines[:distance]
    bits = fixed_block().literals(head).match(16, distance - 257, 7)
    rest = lines[distance + 258 :]
    deflate = bits.literals(rest).symbol(256).to_bytes()
    data = png(ihdr(HEIGHT * 2), chunk(b"IDAT", b"\x08\x1d" + deflate + adler(lines)), IEND)
    rgb = b"".join(lines[y * stride + 1 : (y + 1) * stride] for y in range(HEIGHT * 2))
    return Case(
        "valid_small_window", "ok", "reaches back beyond its declared window", data, (HEIGHT * 2, WIDTH), rgb
    )


def cases() -> list[Case]:
    """Every case, in the order of the checks."""
    families = (
        signature_cases,
        framing_cases,
        crc_cases,
        header_cases,
        size_cases,
        chunk_cases,
        trailing_cases,
        stream_cases,
        deflate_cases,
        bomb_cases,
        filter_cases,
        valid_cases,
    )
    return [case for family in families for case in family()]


def index(chosen: list[Case]) -> str:
    """The text of `index.json`."""
    rows = [
        {
            "name": case.name,
            "code": case.code,
            "why": case.why,
            "expected": list(case.expected) if case.expected else None,
            "bytes": len(case.data),
            "sha256": hashlib.sha256(case.data).hexdigest(),
            "rgb_sha256": hashlib.sha256(case.rgb).hexdigest() if case.rgb is not None else None,
        }
        for case in chosen
    ]
    return json.dumps(rows, indent=1) + "\n"


def write(folder: Path) -> int:
    """Write all files and the index; return how many."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = cases()
    for case in chosen:
        (folder / f"{case.name}.png").write_bytes(case.data)
    (folder / "index.json").write_text(index(chosen), encoding="utf-8")
    return len(chosen)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "png"
    sys.stdout.write(f"{write(target)} files in {target}\n")
