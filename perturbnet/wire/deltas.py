"""What an answer changed: the difference between a clean and an adversarial image, as one small blob.

Rules
- A published log holds no image, neither the data set's nor a miner's: whoever has the data set adds the
  delta to the clean image and has the miner's pixels, which its signature and the receipt name by digest.
- `MAGIC`, height and width (32-bit, big-endian), then the zlib stream of the H * W * 3 differences modulo
  256, in the order of the pixels. Values that did not change are zeros, and zlib makes little of runs of
  them. Any pair of images of one size has a delta; the differences of a valid answer are a few levels.
- A delta is hostile: it is inflated to the size that the clean image says (without one: that it says itself,
  within what an image may have) and not a byte further.
- The blob's bytes depend on zlib's version. It is named by its own digest; nobody has to make it again.

Source: docs/ledger.md; ADR 10.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from perturbnet.errors import BundleError
from perturbnet.wire.images import MAX_PIXELS, MAX_SIDE, Pixels

MAGIC = b"perturb/delta/1\n"
_HEADER = struct.Struct(">II")
_LEVEL = 6


def encode_delta(clean: Pixels, adversarial: Pixels) -> bytes:
    """The blob that turns `clean` into `adversarial`, both uint8 (H, W, 3).

    Raises:
        ValueError: two shapes, or not RGB images.

    """
    if clean.shape != adversarial.shape or clean.ndim != 3 or clean.shape[2] != 3:
        raise ValueError(
            f"a delta is between two RGB images of one size, not {clean.shape}, {adversarial.shape}"
        )
    difference = np.subtract(adversarial, clean, dtype=np.uint8)
    height, width, _ = clean.shape
    return MAGIC + _HEADER.pack(height, width) + zlib.compress(difference.tobytes(), _LEVEL)


def delta_shape(data: bytes) -> tuple[int, int]:
    """Height and width that a hostile blob says it is for.

    Raises:
        BundleError: not a delta, or no size that an image may have.

    """
    start = len(MAGIC) + _HEADER.size
    if not data.startswith(MAGIC) or len(data) < start:
        raise BundleError(f"not a delta: it begins with {data[: len(MAGIC)]!r}, expected {MAGIC!r}")
    height, width = _HEADER.unpack_from(data, len(MAGIC))
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise BundleError(f"a delta for an image of {width}x{height} pixels, which none can have")
    return height, width


def read_differences(data: bytes) -> NDArray[np.int8]:
    """What a hostile blob adds modulo 256, as signed levels: int8 (H, W, 3), H and W by its own word.

    Below 128 levels that is the perturbation itself.

    Raises:
        BundleError: as `delta_shape`, or damaged.

    """
    height, width = delta_shape(data)
    differences = _inflate(data[len(MAGIC) + _HEADER.size :], height * width * 3)
    return np.frombuffer(differences, dtype=np.int8).reshape(height, width, 3)


def apply_delta(clean: Pixels, data: bytes) -> Pixels:
    """The adversarial pixels, uint8 (H, W, 3), from the clean ones and a hostile blob.

    Raises:
        BundleError: not a delta, one for an image of another size, or damaged.

    """
    size = delta_shape(data)
    if size != clean.shape[:2]:
        raise BundleError(f"a delta for an image of {size} pixels, the clean one has {clean.shape[:2]}")
    return np.add(clean, read_differences(data).view(np.uint8), dtype=np.uint8)


def _inflate(stream: bytes, size: int) -> bytes:
    """Inflate to exactly `size` bytes, with nothing after the stream."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(stream, size + 1)
    except zlib.error as error:
        raise BundleError(f"a delta that does not inflate: {error}") from None
    if len(data) != size or not inflater.eof or inflater.unused_data:
        raise BundleError(f"a delta of another length: expected {size} differences")
    return data
