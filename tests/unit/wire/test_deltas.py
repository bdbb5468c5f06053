"""A delta gives the adversarial pixels back, or is refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from perturbnet.errors import BundleError
from perturbnet.wire.deltas import MAGIC, apply_delta, encode_delta
from perturbnet.wire.images import Pixels

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))


@given(SHAPES.flatmap(lambda shape: st.tuples(*[arrays.arrays(np.uint8, shape)] * 2)))
def test_any_pair_of_images_round_trips(pair: tuple[Pixels, Pixels]) -> None:
    clean, adversarial = pair
    assert np.array_equal(apply_delta(clean, encode_delta(clean, adversarial)), adversarial)


def test_few_changes_make_a_small_blob() -> None:
    clean = np.random.default_rng(1).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    adversarial = clean.copy()
    adversarial[50, 60] ^= 1
    assert len(encode_delta(clean, adversarial)) < 150


CLEAN = np.zeros((2, 3, 3), dtype=np.uint8)
WHOLE = encode_delta(CLEAN, CLEAN + np.uint8(7))
HEAD = MAGIC + struct.pack(">II", 2, 3)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a delta"),
        (b"PNG", "not a delta"),
        (MAGIC, "not a delta"),
        (MAGIC + struct.pack(">II", 3, 2) + zlib.compress(bytes(18)), "for an image of"),
        (HEAD + b"\xff" * 20, "does not inflate"),
        (WHOLE[:-5], "another length"),
        (HEAD + zlib.compress(bytes(17)), "another length"),
        (HEAD + zlib.compress(bytes(19)), "another length"),
        (HEAD + zlib.compress(bytes(50_000_000)), "another length"),
        (WHOLE + b"\0", "another length"),
    ],
)
def test_hostile_blobs_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        apply_delta(CLEAN, data)


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        apply_delta(CLEAN, HEAD + data if len(data) % 2 else data)


def test_two_sizes_have_no_delta() -> None:
    with pytest.raises(ValueError, match="one size"):
        encode_delta(CLEAN, CLEAN[:1])
