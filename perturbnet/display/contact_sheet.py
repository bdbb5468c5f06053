"""Contact sheet: one picture on which a person sees what attacks did.

Each row shows the clean image, the adversarial one, their difference, and in words what changed. The
difference is mid-grey where nothing changed, lighter where a value was raised, darker where it was lowered,
32 times enlarged. Images smaller than a tile are enlarged by a whole factor and by nearest neighbour, so
that every pixel stays a square.

The text is drawn in the font that Pillow carries, which knows Latin letters without accents.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from perturbnet.wire.images import Pixels, encode_png

DIFFERENCE_GAIN = 32
TILE = 300  # greatest side of an image on the sheet, pixels

_MARGIN, _GAP, _ROW_GAP = 44, 18, 32
_CAPTION_WIDTH, _KEY_WIDTH = 330, 96
_HEADER_HEIGHT, _COLUMN_HEAD = 122, 30
_CAPTION_HEIGHT, _EMPTY_HEIGHT = 212, 40
_LABEL_SIZES, _TEXT_SIZE = (22, 19, 16), 16
_LONGEST_TEXT = 300  # letters; wider than any sheet
_PAPER, _INK, _GREY, _RULE, _FRAME = "#fbfaf7", "#1d1d1f", "#77757a", "#e2dfd8", "#d3d0c8"
_BEFORE, _AFTER = "#1f6f4a", "#b3312c"
_NO_ROWS = "No adversarial image was found in this run."
_LEGEND = (
    "Difference: grey where nothing changed, lighter where a value was raised, darker where it was lowered."
)
_HEADS = ("clean", "adversarial", f"difference x{DIFFERENCE_GAIN}", "what changed")

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """One row: two images of one shape, the labels before and after, and the figures of the verdict.

    `linf_u8` is in levels of 0 to 255, `changed` counts values (3 per pixel), `score` is between 0 and 1,
    or None where nothing was scored, `miner` says whose work it is.
    """

    clean: Pixels
    adversarial: Pixels
    label_before: str
    label_after: str
    linf_u8: int
    changed: int
    score: float | None
    miner: str


def write_contact_sheet(path: Path, entries: Sequence[SheetEntry], title: str) -> None:
    """Render the sheet and write it as PNG.

    Raises:
        OSError: the file cannot be written.
        ValueError: an entry whose images differ in shape.

    """
    path.write_bytes(encode_png(render_contact_sheet(entries, title)))


def render_contact_sheet(entries: Sequence[SheetEntry], title: str) -> Pixels:
    """Draw one row per entry under a title; a sheet without entries says so.

    Raises:
        ValueError: an entry whose images differ in shape.

    """
    rows = [_tiles(entry) for entry in entries]
    column = max((tiles[0].width for tiles in rows), default=TILE)
    heights = [max(tiles[0].height, _CAPTION_HEIGHT) for tiles in rows] or [_EMPTY_HEIGHT]
    width = 2 * _MARGIN + 3 * (column + _GAP) + _CAPTION_WIDTH
    height = _MARGIN + _HEADER_HEIGHT + sum(heights) + _ROW_GAP * (len(heights) - 1) + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_header(draw, title, width, column)
    top = _MARGIN + _HEADER_HEIGHT
    if not entries:
        draw.text((_MARGIN, top + 8), _NO_ROWS, font=_font(_TEXT_SIZE), fill=_INK)
    for entry, tiles, row_height in zip(entries, rows, heights, strict=False):
        _draw_row(sheet, draw, entry, tiles, (top, row_height, column))
        top += row_height + _ROW_GAP
    return np.array(sheet, dtype=np.uint8)


def enlarge_difference(clean: Pixels, adversarial: Pixels, gain: int = DIFFERENCE_GAIN) -> Pixels:
    """Return 128 + gain * (adversarial - clean), clipped to 0 to 255.

    Raises:
        ValueError: images that differ in shape.

    """
    if clean.shape != adversarial.shape:
        raise ValueError(f"expected two images of one shape, got {clean.shape} and {adversarial.shape}")
    difference = adversarial.astype(np.int16) - clean
    enlarged: Pixels = np.clip(128 + gain * difference, 0, 255).astype(np.uint8)
    return enlarged


def _tiles(entry: SheetEntry) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Clean, adversarial and difference at the size they have on the sheet."""
    difference = enlarge_difference(entry.clean, entry.adversarial)
    smooth = Image.Resampling.LANCZOS
    return (
        _fit(entry.clean, smooth),
        _fit(entry.adversarial, smooth),
        _fit(difference, Image.Resampling.NEAREST),  # averages would hide a noise of one level
    )


def _fit(pixels: Pixels, shrinking: Image.Resampling) -> Image.Image:
    """Enlarge by the greatest whole factor that fits a tile, or shrink to fit one."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    if longest <= TILE:
        factor = TILE // longest
        size = (image.width * factor, image.height * factor)
        return image.resize(size, Image.Resampling.NEAREST)
    width, height = (max(1, round(side * TILE / longest)) for side in image.size)
    return image.resize((width, height), shrinking)


def _draw_header(draw: ImageDraw.ImageDraw, title: str, width: int, column: int) -> None:
    title_font = _font(30)
    draw.text(
        (_MARGIN, _MARGIN - 8), _shorten(title, title_font, width - 2 * _MARGIN), font=title_font, fill=_INK
    )
    legend = _shorten(_LEGEND, _font(_TEXT_SIZE), width - 2 * _MARGIN)
    draw.text((_MARGIN, _MARGIN + 36), legend, font=_font(_TEXT_SIZE), fill=_GREY)
    base = _MARGIN + _HEADER_HEIGHT - _COLUMN_HEAD
    for place, head in enumerate(_HEADS):
        draw.text((_column_left(place, column), base - 6), head, font=_font(_TEXT_SIZE), fill=_INK)
    draw.line((_MARGIN, base + 17, width - _MARGIN, base + 17), fill=_RULE, width=1)


def _column_left(place: int, column: int) -> int:
    caption_indent = 10 if place == len(_HEADS) - 1 else 0
    return _MARGIN + place * (column + _GAP) + caption_indent


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    entry: SheetEntry,
    tiles: Sequence[Image.Image],
    place: tuple[int, int, int],
) -> None:
    """Draw one entry; `place` is the row's top, its height and the width of a column of images."""
    top, row_height, column = place
    for number, tile in enumerate(tiles):
        left = _column_left(number, column)
        draw.rectangle((left - 1, top - 1, left + tile.width, top + tile.height), outline=_FRAME)
        sheet.paste(tile, (left, top))
    _draw_caption(draw, entry, (_column_left(len(tiles), column), top))
    if top + row_height + _ROW_GAP < sheet.height - _MARGIN:
        rule = top + row_height + _ROW_GAP // 2
        draw.line((_MARGIN, rule, sheet.width - _MARGIN, rule), fill=_RULE, width=1)


def _draw_caption(draw: ImageDraw.ImageDraw, entry: SheetEntry, corner: tuple[int, int]) -> None:
    left, top = corner
    small, room = _font(_TEXT_SIZE), _CAPTION_WIDTH - 10
    _draw_label(draw, (left, top + 10), entry.label_before, _BEFORE)
    _draw_arrow(draw, left + 5, top + 31)
    _draw_label(draw, (left, top + 70), entry.label_after, _AFTER)
    for line, (key, value) in enumerate(_figures(entry)):
        y = top + 106 + 28 * line
        draw.text((left, y), key, font=small, fill=_GREY)
        draw.text((left + _KEY_WIDTH, y), _shorten(value, small, room - _KEY_WIDTH), font=small, fill=_INK)


def _draw_label(draw: ImageDraw.ImageDraw, middle: tuple[int, int], label: str, fill: str) -> None:
    """Write a label from the middle of its left edge, in the largest size in which it fits."""
    room = _CAPTION_WIDTH - 10
    fonts = [_font(size) for size in _LABEL_SIZES]
    font = next((font for font in fonts if font.getlength(_to_printable(label)) <= room), fonts[-1])
    draw.text(middle, _shorten(label, font, room), font=font, fill=fill, anchor="lm")


def _figures(entry: SheetEntry) -> tuple[tuple[str, str], ...]:
    share = 100 * entry.changed / entry.clean.size
    return (
        ("L-inf", f"{entry.linf_u8}/255"),
        ("changed", f"{entry.changed:,} values ({share:.0f} %)"),
        ("score", "-" if entry.score is None else f"{entry.score:.4f}"),
        ("miner", entry.miner),
    )


def _draw_arrow(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    """Draw an arrow of 18 pixels that points down; the font has none."""
    draw.line((x, y, x, y + 16), fill=_GREY, width=2)
    draw.polygon(((x - 5, y + 11), (x + 6, y + 11), (x, y + 18)), fill=_GREY)


def _shorten(text: str, font: Font, room: int) -> str:
    """Return the text in the letters the font has, cut with an ellipsis if wider than `room` pixels."""
    plain = _to_printable(text)[:_LONGEST_TEXT]
    if font.getlength(plain) <= room:
        return plain
    while plain and font.getlength(plain + "...") > room:
        plain = plain[:-1]
    return plain.rstrip() + "..."


def _to_printable(text: str) -> str:
    """Return the text in one line and without accents; a letter the font lacks becomes a question mark."""
    letters = unicodedata.normalize("NFKD", " ".join(text.split()))
    bare = (letter for letter in letters if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" or letter in "·±" else "?" for letter in bare)


@lru_cache(maxsize=8)
def _font(size: int) -> Font:
    return ImageFont.load_default(size)
