"""The root over a data set's pixels: leaves, parts, merging, and rows that are no pictures."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from perturbnet.bootstrap import fingerprint as tree
from perturbnet.bootstrap.fingerprint import FileFingerprint, fingerprint_file, merge
from perturbnet.datasets.source import decode_stored, picture_stored
from perturbnet.errors import ArtifactError, DatasetError, DigestMismatch
from perturbnet.ledger import merkle
from perturbnet.wire.images import picture_digest, pixel_digest
from tests.support.bootstrap.shards import JUNK, encode, write


@pytest.mark.parametrize(
    ("form", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA")]
)
def test_a_picture_s_digest_is_that_of_its_array(form: str, mode: str) -> None:
    data = encode(3, form, mode)
    assert picture_digest(picture_stored(0, data)) == pixel_digest(decode_stored(0, data))


def test_a_picture_of_another_mode_has_no_digest() -> None:
    with pytest.raises(ValueError, match="mode RGB, got L"):
        picture_digest(Image.new("L", (2, 2)))


def test_the_root_is_rfc_6962_s_over_the_pixel_digests(tmp_path: Path) -> None:
    rows = [encode(row) for row in range(11)]
    part = fingerprint_file(write(tmp_path / "a.parquet", rows), "a")
    digests = [bytes.fromhex(pixel_digest(decode_stored(0, data))) for data in rows]
    assert part.root == merkle.root(map(merkle.leaf_hash, digests)).hex()
    assert (part.rows, dict(part.classes), part.undecodable) == (11, {0: 6, 1: 5}, ())
    labels = b"".join((number % 2).to_bytes(4, "big") for number in range(11))
    assert part.labels == hashlib.sha256(labels).hexdigest()


def test_a_row_that_does_not_decode_is_listed_and_has_a_leaf_of_its_own_kind(tmp_path: Path) -> None:
    rows = [encode(0), JUNK, encode(2), b""]
    part = fingerprint_file(write(tmp_path / "a.parquet", rows), "a")
    assert [item.row for item in part.undecodable] == [1, 3]
    digest = hashlib.sha256(JUNK).hexdigest()
    assert part.undecodable[0].stored_sha256 == digest
    assert part.undecodable[0].reason
    expected = hashlib.sha256(b"\x00perturb/undecodable/1\n" + bytes.fromhex(digest)).digest()
    assert part.leaves[32:64] == expected
    assert part.leaves[32:64] != tree.row_leaf(digest), "no picture has the leaf of an undecodable row"
    assert part.rows == 4


def test_one_bit_of_one_pixel_is_another_root(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    roots = set()
    for value in (0, 1):
        pixels[2, 1, 0] = value
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, "PNG")
        roots.add(fingerprint_file(write(tmp_path / "a.parquet", [encode(0), target.getvalue()]), "a").root)
    assert len(roots) == 2


def test_progress_ends_at_all_rows(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fingerprint_file(
        write(tmp_path / "a.parquet", [encode(row) for row in range(3)]), "a", lambda *p: told.append(p)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = write(tmp_path / "a.parquet", [encode(row) for row in range(3)])
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(DatasetError, match=r"a\.parquet"):
        fingerprint_file(path, "a")


def part_of(name: str, leaves: bytes) -> FileFingerprint:
    rows = len(leaves) // 32
    return FileFingerprint(
        name, rows, tree.root_of(leaves), "0" * 64, {0: rows}, (), tree.decoder_versions(), leaves
    )


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_parts_of_any_sizes_in_any_order_give_the_root_over_all_rows(
    sizes: list[int], dice: random.Random
) -> None:
    leaves = [dice.randbytes(32 * size) for size in sizes]
    parts = [part_of(f"{number:03d}", data) for number, data in enumerate(leaves)]
    dice.shuffle(parts)
    found = merge(parts)
    assert found.root == tree.root_of(b"".join(leaves))
    assert found.rows == sum(sizes)


def test_undecodable_rows_are_numbered_within_the_data_set() -> None:
    fault = tree.Undecodable(1, "0" * 64, "cut short")
    second = replace(part_of("b", bytes(96)), undecodable=(fault,))
    assert [item.row for item in merge([second, part_of("a", bytes(64))]).undecodable] == [3]


def test_a_part_twice_or_none_is_refused() -> None:
    with pytest.raises(ArtifactError, match="2 parts"):
        merge([part_of("a", b""), part_of("a", b"")])
    with pytest.raises(ArtifactError, match="0 parts"):
        merge([])


def test_a_part_of_another_decoder_is_refused_by_both_names() -> None:
    other = replace(part_of("a", bytes(32)), decoder={"jpeg": "libjpeg 9", "pillow": "1.0"})
    with pytest.raises(DigestMismatch, match=r"jpeg libjpeg 9, pillow 1\.0, got jpeg ") as caught:
        merge([other])
    assert "perturb bootstrap" in caught.value.diagnostics()
