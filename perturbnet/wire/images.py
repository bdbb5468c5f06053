"""Images on the wire: from hostile bytes to pixels and back; checks 2 (base64) and 3 (PNG) of a verdict.

`pixels` means a C-contiguous uint8 array of shape (H, W, 3), RGB.

A PNG from the network is walked strictly, byte by byte. The first fault names the code:

3.1 the eight bytes of the signature                                                    PNG_SIGNATURE
3.2 every chunk, when it is met: its length, kind, body and CRC lie within the data     PNG_CHUNK
    and its CRC is right                                                                PNG_CRC
3.3 the first chunk is IHDR: 13 bytes, 8-bit RGB, deflate, adaptive, not interlaced     PNG_HEADER
3.4 no side is 0 or above `MAX_SIDE`, the area is at most `MAX_PIXELS`, and height
    and width are the expected ones                                                     PNG_SIZE
3.5 then only IDAT chunks, at least one, at most `MAX_DATA_CHUNKS`, none empty          PNG_CHUNK
    (a second IHDR: PNG_HEADER)
3.6 then IEND, empty                                                                    PNG_CHUNK
    and not a byte after it                                                             PNG_TRAILING
3.7 the IDAT bodies joined are one zlib stream (RFC 1950, no preset dictionary) that
    ends, with the right Adler-32, no byte after it, and h * (1 + 3w) bytes inflated    PNG_DATA
    or not more than those: inflating stops one byte after them                         PNG_BOMB
3.8 the filter byte of each row is 0 to 4                                               PNG_DATA

An empty IDAT is legal in general; here it is refused, for no encoder needs one and it is free padding.
Distances in the stream may reach back 32768 bytes whatever window its header declares, as in zlib. A stream
that is one byte too long and broken in the next symbol is PNG_DATA, because zlib looks ahead.

Pillow, which carries an inflater of its own, never sees the peer's stream: it gets a fresh PNG made of the
inflated scanlines and only undoes their filters.

Sources: PNG third edition (W3C, 2025), RFC 1950, RFC 1951, RFC 4648 section 4.
"""

from __future__ import annotations

import base64
import hashlib
import io
import struct
import zlib
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from perturbnet.errors import ImageError, Reject

Pixels = NDArray[np.uint8]

MAX_SIDE = 8192
MAX_PIXELS = 1 << 24  # 48 MiB of RGB
SIZE_RULE = f"sides of 1 to {MAX_SIDE} and at most {MAX_PIXELS} pixels are allowed"
MAX_DATA_CHUNKS = 8192  # libpng writes chunks of 8 KiB, so this is 64 MiB of compressed data

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_IHDR, _IDAT, _IEND = b"IHDR", b"IDAT", b"IEND"
_HEADER_LENGTH = 13
_HEADER_FORM = bytes((8, 2, 0, 0, 0))  # bit depth, RGB, deflate, adaptive filters, no interlace
_CHUNK_OVERHEAD = 12  # length, kind, CRC
_LAST_FILTER = 4  # Paeth
_DIGEST_DOMAIN = b"perturb/pixels/1\n"


def decode_png(data: bytes, *, height: int | None = None, width: int | None = None) -> Pixels:
    """Decode an 8-bit RGB PNG after the strict walk of the module's docstring.

    Args:
        data: the whole file; the caller has capped its length.
        height: the only height allowed; any up to the caps when None.
        width: the only width allowed, likewise.

    Raises:
        ImageError: with the code of the first fault.

    """
    found_height, found_width, stream = _walk(data, height, width)
    scanlines = _inflate(stream, found_height * (1 + 3 * found_width))
    _check_filters(scanlines, found_width)
    return _unfilter(scanlines, found_height, found_width)


def encode_png(pixels: Pixels) -> bytes:
    """Encode as 8-bit RGB: IHDR, IDAT, IEND and nothing else.

    The bytes may differ between versions of Pillow; the pixels they decode to do not. Only run lengths
    are matched (Z_RLE): on photographs that is as small as the default search and five times as fast.

    Raises:
        ValueError: not pixels.

    """
    _require_pixels(pixels)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def decode_base64(text: str) -> bytes:
    """Decode standard base64 of which there is one text per value: padded, no white space, unused bits 0.

    Raises:
        ImageError: BAD_BASE64.

    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:  # another character or length; binascii.Error is one
        raise ImageError(Reject.BAD_BASE64, str(error)) from None
    if encode_base64(data) != text:
        raise ImageError(Reject.BAD_BASE64, "re-encoding gives another text")
    return data


def encode_base64(data: bytes) -> str:
    """Encode as standard base64, padded, on one line."""
    return base64.b64encode(data).decode("ascii")


def pixel_digest(pixels: Pixels) -> str:
    r"""Hex SHA-256 over b"perturb/pixels/1\n", height and width (32-bit, big-endian) and the raw RGB bytes.

    Raises:
        ValueError: not pixels.

    """
    _require_pixels(pixels)
    height, width, _ = pixels.shape
    return _digest(height, width, np.ascontiguousarray(pixels).data)


def picture_digest(picture: Image.Image) -> str:
    """Return `pixel_digest` of a Pillow picture of mode RGB, without an array in between.

    Raises:
        ValueError: another mode.

    """
    if picture.mode != "RGB":
        raise ValueError(f"expected a picture of mode RGB, got {picture.mode}")
    return _digest(picture.height, picture.width, picture.tobytes())


def _digest(height: int, width: int, samples: bytes | memoryview) -> str:
    digest = hashlib.sha256(_DIGEST_DOMAIN + struct.pack(">II", height, width))
    digest.update(samples)
    return digest.hexdigest()


def size_is_allowed(height: int, width: int) -> bool:
    """Whether an image of this size keeps `SIZE_RULE`."""
    return 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS


def _require_pixels(pixels: Pixels) -> None:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(f"expected uint8 of shape (H, W, 3), got {pixels.dtype} of shape {pixels.shape}")


def _walk(data: bytes, height: int | None, width: int | None) -> tuple[int, int, bytes]:
    """Checks 3.1 to 3.6. Return (height, width, the joined IDAT bodies)."""
    if not data.startswith(SIGNATURE):
        raise ImageError(Reject.PNG_SIGNATURE, f"the first bytes are {data[:8]!r}")
    kind, body, offset = _read_chunk(data, len(SIGNATURE))
    if kind != _IHDR:
        raise ImageError(Reject.PNG_HEADER, f"the first chunk is {kind!r}, expected IHDR")
    found_height, found_width = _read_header(body)
    if not size_is_allowed(found_height, found_width):
        raise ImageError(Reject.PNG_SIZE, f"{found_width}x{found_height}; {SIZE_RULE}")
    if height not in (None, found_height) or width not in (None, found_width):
        raise ImageError(Reject.PNG_SIZE, f"{found_width}x{found_height}, expected {width}x{height}")
    return found_height, found_width, _read_stream(data, offset)


def _read_chunk(data: bytes, offset: int) -> tuple[bytes, bytes, int]:
    """Check 3.2. Return (kind, body, offset of the next chunk)."""
    left = len(data) - offset - _CHUNK_OVERHEAD
    if left < 0:
        raise ImageError(Reject.PNG_CHUNK, f"the data end at {len(data)} before the chunk at {offset} does")
    length, kind = struct.unpack_from(">I4s", data, offset)
    if length > left:
        raise ImageError(Reject.PNG_CHUNK, f"{kind!r} at {offset} claims {length} bytes, {left} are left")
    end = offset + 8 + length
    (expected,) = struct.unpack_from(">I", data, end)
    if zlib.crc32(data[offset + 4 : end]) != expected:
        raise ImageError(Reject.PNG_CRC, f"{kind!r} at {offset} does not have CRC {expected:08x}")
    return kind, data[offset + 8 : end], end + 4


def _read_header(body: bytes) -> tuple[int, int]:
    """Check 3.3. Return (height, width)."""
    if len(body) != _HEADER_LENGTH:
        raise ImageError(Reject.PNG_HEADER, f"IHDR has {len(body)} bytes, expected {_HEADER_LENGTH}")
    width, height, form = struct.unpack(">II5s", body)
    if form != _HEADER_FORM:
        raise ImageError(Reject.PNG_HEADER, f"depth, colour, deflate, filter, interlace: {tuple(form)}")
    return height, width


def _read_stream(data: bytes, offset: int) -> bytes:
    """Checks 3.5 and 3.6. Return the joined IDAT bodies."""
    bodies: list[bytes] = []
    while True:
        kind, body, offset = _read_chunk(data, offset)
        if kind == _IEND:
            break
        if kind != _IDAT:
            _refuse_kind(kind, offset)
        if not body:
            raise ImageError(Reject.PNG_CHUNK, f"the IDAT that ends at {offset} is empty")
        if len(bodies) == MAX_DATA_CHUNKS:
            raise ImageError(Reject.PNG_CHUNK, f"more than {MAX_DATA_CHUNKS} IDAT chunks")
        bodies.append(body)
    if not bodies:
        raise ImageError(Reject.PNG_CHUNK, "no IDAT before IEND")
    if body:
        raise ImageError(Reject.PNG_CHUNK, f"IEND has {len(body)} bytes, expected none")
    if offset != len(data):
        raise ImageError(Reject.PNG_TRAILING, f"{len(data) - offset} bytes after IEND")
    return b"".join(bodies)


def _refuse_kind(kind: bytes, offset: int) -> NoReturn:
    code = Reject.PNG_HEADER if kind == _IHDR else Reject.PNG_CHUNK
    raise ImageError(code, f"a chunk of kind {kind!r} ends at {offset}; only IDAT and IEND may follow IHDR")


def _inflate(stream: bytes, length: int) -> bytes:
    """Check 3.7. Return exactly `length` bytes of filtered scanlines."""
    inflater = zlib.decompressobj(wbits=15)
    try:
        scanlines = inflater.decompress(stream, length + 1)
    except zlib.error as error:
        raise ImageError(Reject.PNG_DATA, str(error)) from None
    if len(scanlines) > length:
        raise ImageError(Reject.PNG_BOMB, f"the stream inflates to more than {length} bytes")
    if not inflater.eof:
        raise ImageError(Reject.PNG_DATA, f"the stream breaks off after {len(scanlines)} inflated bytes")
    if len(scanlines) < length:
        raise ImageError(Reject.PNG_DATA, f"the stream inflates to {len(scanlines)} bytes, expected {length}")
    if inflater.unused_data:
        raise ImageError(Reject.PNG_DATA, f"{len(inflater.unused_data)} bytes follow the zlib stream")
    return scanlines


def _check_filters(scanlines: bytes, width: int) -> None:
    """Check 3.8."""
    filters = np.frombuffer(scanlines, dtype=np.uint8)[:: 1 + 3 * width]
    highest = int(filters.max())
    if highest > _LAST_FILTER:
        raise ImageError(Reject.PNG_DATA, f"a row has filter {highest}, expected 0 to {_LAST_FILTER}")


def _unfilter(scanlines: bytes, height: int, width: int) -> Pixels:
    """Undo the filters: Pillow reads a PNG that holds the scanlines in stored blocks."""
    header = struct.pack(">II", width, height) + _HEADER_FORM
    chunks = ((_IHDR, header), (_IDAT, zlib.compress(scanlines, 0)), (_IEND, b""))
    rewrapped = SIGNATURE + b"".join(_write_chunk(kind, body) for kind, body in chunks)
    with Image.open(io.BytesIO(rewrapped), formats=("PNG",)) as image:
        return np.array(image, dtype=np.uint8)


def _write_chunk(kind: bytes, body: bytes) -> bytes:
    tagged = kind + body
    return struct.pack(">I", len(body)) + tagged + struct.pack(">I", zlib.crc32(tagged))
