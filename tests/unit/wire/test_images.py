"""Images: encoding, base64, digests; thousands of valid files against Pillow."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perturbnet.errors import ImageError, Reject
from perturbnet.wire import images
from perturbnet.wire.images import Pixels
from tests.golden import png_blocks

STRUCTURED_FILES = 3000


# --- Structured random images, filtered and packed by the PNG specification ---


def draw_pixels(rng: np.random.Generator) -> Pixels:
    height, width = (int(rng.integers(1, 48)) for _ in range(2))
    y, x = np.mgrid[:height, :width]
    kind = rng.integers(5)
    if kind == 0:
        plane = np.full((height, width), rng.integers(256))
    elif kind == 1:
        plane = rng.integers(256) + rng.integers(-9, 10) * y + rng.integers(-9, 10) * x
    elif kind == 2:
        plane = (x // rng.integers(1, 9) + y // rng.integers(1, 9)) % 2 * 255
    elif kind == 3:
        plane = rng.integers(0, 256, (height, width))
    else:
        plane = 128 + rng.integers(-3, 4, (height, width)) + x
    channels = np.stack([plane * int(rng.integers(1, 4)) + int(rng.integers(256)) for _ in range(3)], axis=2)
    return np.ascontiguousarray((channels % 256).astype(np.uint8))


def filter_rows(pixels: Pixels, filters: Pixels) -> bytes:
    """Scanlines by PNG's section 9, for one filter per row."""
    height = pixels.shape[0]
    raw = pixels.reshape(height, -1).astype(np.int32)
    left, above, corner = np.zeros_like(raw), np.zeros_like(raw), np.zeros_like(raw)
    left[:, 3:], above[1:], corner[1:, 3:] = raw[:, :-3], raw[:-1], raw[:-1, :-3]
    guess = left + above - corner
    distances = [np.abs(guess - neighbour) for neighbour in (left, above, corner)]
    paeth = np.choose(np.argmin(distances, axis=0), [left, above, corner])  # argmin keeps the order a, b, c
    guesses = np.stack([np.zeros_like(raw), left, above, (left + above) // 2, paeth])
    rows = (raw - guesses[filters, np.arange(height)]) % 256
    return np.hstack([filters[:, None], rows.astype(np.uint8)]).tobytes()


def pack(pixels: Pixels, rng: np.random.Generator) -> bytes:
    """A valid file with random filters, compression and chunk lengths."""
    height, width, _ = pixels.shape
    filters: Pixels = rng.integers(0, 5, size=(height,), dtype=np.uint8)
    if rng.integers(3) == 0:
        filters[:] = filters[0]
    level, window, strategy = int(rng.integers(10)), int(rng.integers(9, 16)), int(rng.integers(5))
    packer = zlib.compressobj(level, zlib.DEFLATED, window, 8, strategy)
    stream = packer.compress(filter_rows(pixels, filters)) + packer.flush()
    cuts = np.sort(rng.integers(1, len(stream), int(rng.integers(6)))).tolist()
    bounds = [0, *sorted(set(cuts)), len(stream)]
    chunks = [png_blocks.chunk(b"IDAT", stream[a:b]) for a, b in itertools.pairwise(bounds)]
    return png_blocks.png(png_blocks.ihdr(height, width), *chunks, png_blocks.IEND)


def test_thousands_of_structured_files_decode_as_in_pillow() -> None:
    rng = np.random.default_rng(2)
    for _ in range(STRUCTURED_FILES):
        pixels = draw_pixels(rng)
        data = pack(pixels, rng)
        decoded = images.decode_png(data, height=pixels.shape[0], width=pixels.shape[1])
        assert np.array_equal(decoded, pixels)
        with Image.open(io.BytesIO(data)) as picture:
            assert np.array_equal(decoded, np.asarray(picture))


# --- Encoding ---


def photograph(height: int = 90, width: int = 120) -> Pixels:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:height, :width]
    plane = 120 + 60 * np.sin(x / 17) + 50 * np.cos(y / 11)
    noisy = plane[:, :, None] + rng.normal(0, 4, (height, width, 3))
    levels: Pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return levels


def chunk_kinds(data: bytes) -> list[bytes]:
    kinds, offset = [], 8
    while offset < len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        kinds.append(kind)
        offset += 12 + length
    return kinds


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.binary(min_size=1, max_size=64))
def test_what_is_encoded_decodes_to_the_same_pixels(height: int, width: int, seed: bytes) -> None:
    size = height * width * 3
    raw = (seed * (size // len(seed) + 1))[:size]
    pixels = np.frombuffer(raw, dtype=np.uint8).reshape(height, width, 3)
    assert np.array_equal(images.decode_png(images.encode_png(pixels), height=height, width=width), pixels)


def test_an_encoded_file_holds_ihdr_idat_iend_only() -> None:
    kinds = chunk_kinds(images.encode_png(photograph(600, 700)))
    assert kinds[0] == b"IHDR"
    assert kinds[-1] == b"IEND"
    assert set(kinds[1:-1]) == {b"IDAT"}


def test_an_encoded_photograph_is_no_larger_than_by_pillows_default() -> None:
    pixels, usual = photograph(), io.BytesIO()
    Image.fromarray(pixels).save(usual, "PNG")
    assert len(images.encode_png(pixels)) <= 1.02 * len(usual.getvalue())


def test_a_view_with_strides_encodes_and_digests_like_its_copy() -> None:
    view = photograph()[::-2, ::3]
    copy = np.ascontiguousarray(view)
    assert np.array_equal(images.decode_png(images.encode_png(view)), copy)
    assert images.pixel_digest(view) == images.pixel_digest(copy)


def test_decoded_pixels_are_contiguous_and_own_their_memory() -> None:
    pixels = images.decode_png(images.encode_png(photograph()))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_what_is_not_pixels_is_neither_encoded_nor_digested(array: Pixels) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 of shape \(H, W, 3\), got"):
        images.encode_png(array)
    with pytest.raises(ValueError, match=r"expected uint8 of shape \(H, W, 3\), got"):
        images.pixel_digest(array)


# --- Base64 ---


@given(st.binary(max_size=200))
def test_base64_comes_back(data: bytes) -> None:
    assert images.decode_base64(images.encode_base64(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "YWJjZB==",
        "YWJjZA",
        "YWJjZA=",
        "YWJj\n",
        " YWJj",
        "YWJj====",
        "YW=Jj",
        "YWJ-",
        "YWJ_",
        "YWJé",
        "A",
        "=",
        "\0",
    ],
)
def test_base64_with_a_second_spelling_is_refused(text: str) -> None:
    with pytest.raises(ImageError) as refusal:
        images.decode_base64(text)
    assert refusal.value.reject is Reject.BAD_BASE64


@given(st.text(alphabet="ABCDwxyz0189+/=", max_size=12))
def test_a_value_has_one_base64_text(text: str) -> None:
    try:
        data = images.decode_base64(text)
    except ImageError:
        return
    assert base64.b64encode(data).decode() == text


# --- Digests ---


def test_the_digest_is_over_domain_height_width_and_raw_bytes() -> None:
    pixels = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    written_out = b"perturb/pixels/1\n\0\0\0\x02\0\0\0\x05" + bytes(range(30))
    assert images.pixel_digest(pixels) == hashlib.sha256(written_out).hexdigest()


def test_the_digest_tells_shapes_apart() -> None:
    raw = np.arange(30, dtype=np.uint8)
    assert images.pixel_digest(raw.reshape(2, 5, 3)) != images.pixel_digest(raw.reshape(5, 2, 3))
