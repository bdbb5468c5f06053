"""A user's folder: hostile files are refused by name, what is recorded is what is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perturbnet.errors import DatasetError, DigestMismatch, LedgerError
from perturbnet.evaluation.images import FolderSource, ImageOptions, Images, open_images, record_images
from perturbnet.evaluation.networks import class_finder, no_class
from perturbnet.evaluation.scanning import Candidate, choose, fit
from tests.support.evaluation.pictures import write_folder, write_hostile, write_picture
from tests.support.fakes import texture

CLASSES = ("heron", "otter", "lynx")


def record(
    out: Path,
    folder: Path,
    wish: ImageOptions | None = None,
    *,
    classes: tuple[str, ...] = CLASSES,
    labelled: bool = True,
) -> Images:
    out.mkdir(exist_ok=True)
    return record_images(
        out,
        folder,
        wish or ImageOptions(),
        classes=classes,
        label_of=class_finder(classes) if labelled else no_class,
        progress=lambda _done, _of: None,
    )


def test_each_hostile_file_is_refused_by_name(tmp_path: Path) -> None:
    reasons = write_hostile(tmp_path / "in")
    images = record(tmp_path / "out", tmp_path / "in")
    assert [picture.path for picture in images.pictures] == ["heron/good.png"]
    found = {refusal.path: refusal.reason for refusal in images.refusals}
    assert found.keys() == reasons.keys()
    for path, word in reasons.items():
        assert word in found[path], path


def test_what_was_recorded_is_read_again_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in")
    record(tmp_path / "out", folder)
    source = open_images(tmp_path / "out", folder)
    image = source.read(4)
    assert (image.label, image.label_index, image.row) == ("otter", 1, 4)
    assert np.array_equal(image.pixels, texture("otter 1"))
    write_picture(folder / "otter" / "1.png", "another")
    with pytest.raises(DigestMismatch, match=r"otter/1\.png changed since"):
        source.read(4)
    (folder / "otter" / "1.png").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        source.read(4)
    with pytest.raises(DatasetError, match="row 6 does not exist"):
        source.read(6)


def test_the_name_of_the_data_set_follows_from_what_is_in_it(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in")
    one = FolderSource(record(tmp_path / "a", folder), folder).identity
    assert FolderSource(record(tmp_path / "b", folder), folder).identity == one
    assert one.rows == 6
    assert one.repository == "folder:in"
    assert FolderSource(record(tmp_path / "c", folder, labelled=False), folder).identity != one


def test_flat_and_unlabelled_pictures_have_no_class(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "a.png", "a")
    write_picture(tmp_path / "in" / "heron" / "b.png", "b")
    assert [picture.label for picture in record(tmp_path / "out", tmp_path / "in").pictures] == ["", "heron"]
    unlabelled = record(tmp_path / "other", tmp_path / "in", labelled=False)
    assert unlabelled.labelled == 0


def test_a_folder_that_is_no_class_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", classes=("heron", "stork"))
    with pytest.raises(DatasetError, match="'stork' is no class") as caught:
        record(tmp_path / "out", folder)
    assert "--unlabelled" in caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("wish", "named"),
    [
        (ImageOptions(limit=2), "--limit"),
        (ImageOptions(seed="b"), "--seed"),
        (ImageOptions(longest_side=40), "--longest-side"),
    ],
)
def test_another_wish_in_the_same_folder_is_refused_by_name(
    tmp_path: Path, wish: ImageOptions, named: str
) -> None:
    folder = write_folder(tmp_path / "in")
    record(tmp_path / "out", folder)
    with pytest.raises(LedgerError, match=named):
        record(tmp_path / "out", folder, wish)


def test_another_listing_and_other_classes_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in")
    record(tmp_path / "out", folder)
    with pytest.raises(LedgerError, match="classes"):
        record(tmp_path / "out", folder, classes=("heron", "otter"))
    write_picture(folder / "otter" / "9.png", "nine")
    with pytest.raises(LedgerError, match="the files in the folder"):
        record(tmp_path / "out", folder)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in")
    record(tmp_path / "out", folder)
    path = tmp_path / "out" / "images.json"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LedgerError, match="not a record of images"):
        record(tmp_path / "out", folder)


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_pictures_is_refused(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "notes.txt").write_text("none")
    with pytest.raises(DatasetError, match="holds no picture" if make else "is no folder"):
        record(tmp_path / "out", tmp_path / "in")


def test_only_hostile_files_are_said_so(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"junk")
    with pytest.raises(DatasetError, match=r"none of the 1 pictures.*a\.png: not a picture"):
        record(tmp_path / "out", tmp_path / "in")


@given(height=st.integers(32, 120), width=st.integers(32, 120), longest=st.integers(32, 130))
def test_fit_keeps_the_shape_and_never_enlarges(height: int, width: int, longest: int) -> None:
    pixels = texture("fit", height, width)
    found = fit(pixels, longest)
    assert max(found.shape[:2]) == min(longest, max(height, width))
    assert (found is pixels) == (longest >= max(height, width))


@given(rows=st.integers(32, 60), columns=st.integers(32, 60))
def test_half_the_size_is_the_rounded_mean_of_four(rows: int, columns: int) -> None:
    pixels = texture("half", 2 * rows, 2 * columns)
    fours = pixels.astype(np.int64).reshape(rows, 2, columns, 2, 3).sum(axis=(1, 3))
    assert np.array_equal(fit(pixels, max(rows, columns)), (fours + 2) // 4)


def test_large_pictures_are_made_smaller_before_they_are_judged(tmp_path: Path) -> None:
    write_picture(tmp_path / "in" / "wide.png", "wide", height=60, width=200)
    images = record(tmp_path / "out", tmp_path / "in", ImageOptions(longest_side=120))
    assert FolderSource(images, tmp_path / "in").read(0).pixels.shape == (36, 120, 3)


def test_the_seed_alone_chooses() -> None:
    candidates = [Candidate(f"{number}.png", 1) for number in range(50)]
    chosen = choose(candidates, 10, "a")
    assert chosen == choose(list(reversed(candidates)), 10, "a")
    assert chosen == sorted(chosen, key=lambda each: each.path)
    assert chosen != choose(candidates, 10, "b")
    assert choose(candidates, 99, "a") == candidates
