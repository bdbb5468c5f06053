"""The contact sheet: what stands where, and that nothing a label holds can break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perturbnet.datasets.user_images import decode_any_image
from perturbnet.display import contact_sheet
from perturbnet.display.contact_sheet import SheetEntry, enlarge_difference, render_contact_sheet
from perturbnet.wire.images import Pixels

TITLE = "Three attacks"


def make_entry(height: int = 100, width: int = 75) -> SheetEntry:
    rng = np.random.default_rng(height)
    clean = rng.integers(10, 245, (height, width, 3)).astype(np.uint8)
    adversarial = (clean.astype(int) + rng.integers(-2, 3, clean.shape)).astype(np.uint8)
    changed = int((clean != adversarial).sum())
    return SheetEntry(clean, adversarial, "cat", "dog", 2, changed, 0.875, "uid 3")


def find(sheet: Pixels, tile: Pixels) -> list[tuple[int, int]]:
    """Where the tile stands on the sheet: (top, left)."""
    height, width, _ = tile.shape
    starts = np.argwhere((sheet[: 1 - height or None, : 1 - width or None] == tile[0, 0]).all(axis=2))
    places = ((int(top), int(left)) for top, left in starts)
    return [(y, x) for y, x in places if np.array_equal(sheet[y : y + height, x : x + width], tile)]


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def test_a_row_holds_clean_adversarial_and_difference_as_whole_squares() -> None:
    entry = make_entry()
    sheet = render_contact_sheet([entry], TITLE)
    factor = contact_sheet.TILE // 100
    tiles = (entry.clean, entry.adversarial, enlarge_difference(entry.clean, entry.adversarial))
    ((top, first),), ((top_2, second),), ((top_3, third),) = (find(sheet, enlarge(t, factor)) for t in tiles)
    assert top == top_2 == top_3
    assert third - second == second - first > 75 * factor


def test_rows_of_several_sizes_share_their_columns() -> None:
    entries = [make_entry(100, 75), make_entry(60, 150), make_entry(150, 150)]
    sheet = render_contact_sheet(entries, TITLE)
    places = [find(sheet, enlarge(e.clean, contact_sheet.TILE // max(e.clean.shape)))[0] for e in entries]
    assert len({left for _, left in places}) == 1
    assert [top for top, _ in places] == sorted(top for top, _ in places)
    assert sheet.shape[0] > places[-1][0] + contact_sheet.TILE


def test_a_larger_image_is_shrunk_to_a_tile() -> None:
    small, large = (render_contact_sheet([make_entry(side, side)], TITLE) for side in (300, 900))
    assert small.shape == large.shape


def test_the_difference_is_grey_where_nothing_changed() -> None:
    clean = np.full((2, 2, 3), 100, np.uint8)
    adversarial = clean.copy()
    adversarial[0, 0], adversarial[0, 1], adversarial[1, 0] = (101, 99, 100), (103, 104, 97), (0, 255, 100)
    assert enlarge_difference(clean, adversarial).tolist() == [
        [[160, 96, 128], [224, 255, 32]],
        [[0, 255, 128], [128, 128, 128]],
    ]


def test_two_shapes_are_refused() -> None:
    entry = replace(make_entry(), adversarial=np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="two images of one shape"):
        render_contact_sheet([entry], TITLE)


@pytest.mark.parametrize(
    "change",
    [
        {"label_before": "horse"},
        {"label_after": "horse"},
        {"linf_u8": 3},
        {"changed": 7},
        {"score": 0.5},
        {"score": None},
        {"miner": "uid 4"},
    ],
    ids=str,
)
def test_every_figure_shows_in_the_caption_and_nowhere_else(change: dict[str, object]) -> None:
    entry = make_entry()
    before = render_contact_sheet([entry], TITLE)
    after = render_contact_sheet([replace(entry, **change)], TITLE)  # type: ignore[arg-type]
    assert before.shape == after.shape
    _, columns = np.nonzero((before != after).any(axis=2))
    assert columns.size > 0
    assert columns.min() > before.shape[1] - contact_sheet._MARGIN - contact_sheet._CAPTION_WIDTH


def test_the_title_shows() -> None:
    one, other = (render_contact_sheet([make_entry()], title) for title in ("One", "Other"))
    rows, _ = np.nonzero((one != other).any(axis=2))
    assert rows.size > 0
    assert rows.max() < contact_sheet._MARGIN + contact_sheet._HEADER_HEIGHT


@pytest.mark.parametrize("text", ["", "x" * 500, "crêpe\n\t\0", "猫 \U0001f408 \ud800", "a\u0301" * 99])
def test_no_text_leaves_its_place(text: str) -> None:
    entry = make_entry()
    sheet = render_contact_sheet([replace(entry, label_before=text, label_after=text, miner=text)], text)
    assert sheet.shape == render_contact_sheet([entry], TITLE).shape
    edge = sheet[:, -contact_sheet._MARGIN + 2 :]
    assert (edge == edge[0, 0]).all()


def test_labels_lose_their_accents_not_their_letters() -> None:
    assert contact_sheet._to_printable("crêpe\n à  la · carte…") == "crepe a la · carte..."
    assert contact_sheet._to_printable("猫") == "?"


def test_a_sheet_without_entries_says_so() -> None:
    empty = render_contact_sheet([], TITLE)
    below = empty[contact_sheet._MARGIN + contact_sheet._HEADER_HEIGHT :]
    assert (below != below[0, 0]).any()
    assert empty.shape[0] < render_contact_sheet([make_entry()], TITLE).shape[0]


def test_the_file_holds_the_sheet(tmp_path: Path) -> None:
    path, entries = tmp_path / "sheet.png", [make_entry()]
    contact_sheet.write_contact_sheet(path, entries, TITLE)
    assert np.array_equal(decode_any_image(path), render_contact_sheet(entries, TITLE))
