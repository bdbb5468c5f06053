"""The embedded data set: rendered once, checked always."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from perturbnet.datasets import open_source, reference
from perturbnet.datasets.reference import SplitPin, fold_digests, open_reference, render_rows
from perturbnet.datasets.rendering import CLASSES
from perturbnet.errors import ConfigError, DatasetError, DigestMismatch, RowUnreadable
from perturbnet.runtime.artifacts import sha256_file
from perturbnet.wire import canonical_json
from perturbnet.wire.images import pixel_digest

ROWS = 24


def pin_of(rows: int) -> SplitPin:
    pictures = list(render_rows("test", rows))
    digests = [pixel_digest(pixels) for pixels, _ in pictures]
    labels = bytes(label for _, label in pictures)
    return SplitPin(rows, fold_digests(digests), hashlib.sha256(labels).hexdigest())


@pytest.fixture(scope="module")
def small_pin() -> SplitPin:
    return pin_of(ROWS)


@pytest.fixture
def cache(tmp_path: Path, small_pin: SplitPin, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache whose test split has only a few rows, already rendered."""
    monkeypatch.setattr(reference, "pinned_splits", lambda: {"test": small_pin})
    open_reference(tmp_path, "test")
    return tmp_path


def only(cache: Path, pattern: str) -> Path:
    (found,) = cache.glob(f"reference/*/{pattern}")
    return found


def test_rows_come_back_as_they_were_drawn(cache: Path) -> None:
    source = open_source("reference", cache_dir=cache, split="test")
    for row, (pixels, label) in enumerate(render_rows("test", ROWS)):
        image = source.read(row)
        np.testing.assert_array_equal(image.pixels, pixels)
        assert (image.row, image.label_index, image.label) == (row, label, CLASSES[label])
        assert image.pixels.flags.c_contiguous


def test_a_second_opening_renders_nothing(cache: Path) -> None:
    told: list[tuple[int, int]] = []
    source = open_reference(cache, "test", lambda done, rows: told.append((done, rows)))
    assert told == []
    assert source.identity.rows == ROWS


def test_progress_is_told(tmp_path: Path, small_pin: SplitPin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "pinned_splits", lambda: {"test": small_pin})
    told: list[tuple[int, int]] = []
    open_source(
        "reference", cache_dir=tmp_path, split="test", progress=lambda done, rows: told.append((done, rows))
    )
    assert told == [(row + 1, ROWS) for row in range(ROWS)]


def test_identity_is_the_same_on_every_machine(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = open_reference(tmp_path_factory.mktemp("other"), "test")
    assert other.identity.fingerprint == open_reference(cache, "test").identity.fingerprint


def test_a_truncated_cache_is_refused(cache: Path) -> None:
    parquet = only(cache, "test.parquet")
    parquet.write_bytes(parquet.read_bytes()[:-100])
    with pytest.raises(DigestMismatch, match=r"test\.parquet") as caught:
        open_reference(cache, "test")
    assert "Remove" in caught.value.diagnostics()


def test_a_flipped_bit_is_refused(cache: Path) -> None:
    parquet = only(cache, "test.parquet")
    data = bytearray(parquet.read_bytes())
    data[len(data) // 2] ^= 1
    parquet.write_bytes(data)
    with pytest.raises(DigestMismatch):
        open_reference(cache, "test")


def test_a_missing_parquet_is_refused(cache: Path) -> None:
    only(cache, "test.parquet").unlink()
    with pytest.raises(DatasetError, match="is missing"):
        open_reference(cache, "test")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"pixels":["00"]}', '{"pixels":[1]}', '{"pixels":"zz"}', "not json"]
)
def test_a_damaged_rows_file_is_refused(cache: Path, text: str) -> None:
    only(cache, "test.rows.json").write_text(text)
    with pytest.raises(DigestMismatch):
        open_reference(cache, "test")


def test_rows_that_were_never_finished_are_drawn_again(cache: Path) -> None:
    only(cache, "test.rows.json").unlink()
    only(cache, "test.parquet").write_bytes(b"half")
    assert open_reference(cache, "test").read(0).label_index == 0


def test_a_forged_cache_is_refused_even_when_its_file_digest_fits(cache: Path) -> None:
    parquet, rows_file = only(cache, "test.parquet"), only(cache, "test.rows.json")
    parquet.write_bytes(b"forged")
    stated = canonical_json.decode(rows_file.read_bytes())
    assert isinstance(stated, dict)
    forged = {"parquet_sha256": sha256_file(parquet), "pixels": stated["pixels"]}
    rows_file.write_bytes(canonical_json.encode(forged))
    with pytest.raises(DatasetError):
        open_reference(cache, "test")


def test_another_picture_in_a_row_is_unreadable(cache: Path) -> None:
    source = open_reference(cache, "test")
    digests = source._row_digests
    source._row_digests = (digests[1], *digests[1:])
    with pytest.raises(RowUnreadable, match="row 0") as caught:
        source.read(0)
    assert caught.value.row == 0
    assert source.read(1).row == 1


def test_a_machine_that_draws_other_pixels_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "pinned_splits", lambda: {"test": SplitPin(3, "0" * 64, "0" * 64)})
    with pytest.raises(DigestMismatch, match="rendered"):
        open_reference(tmp_path, "test")
    assert not list(tmp_path.glob("reference/*/test.*"))


@pytest.mark.parametrize("row", [-1, ROWS, 10**9])
def test_a_row_that_does_not_exist(cache: Path, row: int) -> None:
    with pytest.raises(DatasetError, match=f"row {row} does not exist; expected 0 to {ROWS - 1}"):
        open_reference(cache, "test").read(row)


def test_an_unknown_split_and_an_unknown_profile(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected one of"):
        open_source("reference", cache_dir=tmp_path, split="validation")
    with pytest.raises(ConfigError, match="imagenet100, reference"):
        open_source("cifar", cache_dir=tmp_path)


@pytest.mark.slow
def test_every_row_of_both_splits_has_the_pinned_pixels(tmp_path: Path) -> None:
    for split in ("train", "test"):
        assert (
            open_source("reference", cache_dir=tmp_path, split=split).identity.rows
            == reference.pinned_splits()[split].rows
        )
