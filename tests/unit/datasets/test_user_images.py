"""A user's own pictures: every format read, upright, as RGB; what cannot be read says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from perturbnet.datasets.user_images import MAX_PICTURE_BYTES, PictureError, decode_any_image
from perturbnet.wire.images import MAX_SIDE, Pixels, encode_png
from tests.golden import png_blocks


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "gif", "webp", "jpg"])
def test_a_picture_of_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    pixels = np.full((20, 30, 3), (200, 100, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(path, lossless=True)
    difference = decode_any_image(path).astype(int) - pixels
    assert np.abs(difference).max() <= (2 if suffix == "jpg" else 0)


def test_a_picture_stands_upright(tmp_path: Path) -> None:
    path, pixels = tmp_path / "sideways.png", noise(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(pixels).save(path, exif=exif)
    assert np.array_equal(decode_any_image(path), np.rot90(pixels, -1))


def test_transparency_shows_white(tmp_path: Path) -> None:
    path = tmp_path / "glass.png"
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.putpixel((0, 0), (10, 20, 30, 255))
    picture.save(path)
    decoded = decode_any_image(path)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[1, 1].tolist() == [255, 255, 255]


def test_palettes_and_16_bit_grey_become_rgb(tmp_path: Path) -> None:
    palette, grey = tmp_path / "palette.png", tmp_path / "grey.png"
    Image.new("RGB", (4, 4), (9, 8, 7)).quantize(4).save(palette)
    Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16)).save(grey)
    assert decode_any_image(palette)[0, 0].tolist() == [9, 8, 7]
    assert decode_any_image(grey)[0, :, 0].tolist() == [0, 128, 255]


def test_the_first_frame_counts(tmp_path: Path) -> None:
    path = tmp_path / "frames.gif"
    first, second = Image.new("RGB", (4, 4), "white"), Image.new("RGB", (4, 4), "black")
    ImageDraw.Draw(second).point((1, 1), "white")
    first.save(path, save_all=True, append_images=[second])
    assert decode_any_image(path).min() == 255


def write_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_pictures_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    png = encode_png(noise(90, 120))
    wide, float32 = tmp_path / "wide.bmp", tmp_path / "float.tiff"
    Image.new("RGB", (MAX_SIDE + 1, 1)).save(wide)
    Image.new("F", (4, 4)).save(float32)
    for path, message in (
        (tmp_path / "missing.png", "No such file"),
        (tmp_path, "Is a directory"),
        (write_bytes(tmp_path / "text.png", b"not a picture"), "not a picture; expected PNG, JPEG"),
        (write_bytes(tmp_path / "cut.png", png[: len(png) // 2]), "truncated"),
        (wide, "8193x1 pixels; sides of 1 to 8192 and"),
        (float32, "32-bit samples"),
    ):
        with pytest.raises(PictureError) as failure:
            decode_any_image(path)
        assert message in failure.value.message
        assert str(path) in failure.value.message
        assert failure.value.exit_code == 2


def test_a_picture_file_above_the_cap_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(MAX_PICTURE_BYTES + 1)
    with pytest.raises(PictureError, match="at most 67108864 are allowed"):
        decode_any_image(path)


def test_a_picture_that_pillow_calls_a_bomb_is_refused(tmp_path: Path) -> None:
    vast = png_blocks.png(
        png_blocks.ihdr(1 << 15, 1 << 15), png_blocks.chunk(b"IDAT", b"\x78\x01"), png_blocks.IEND
    )
    with pytest.raises(PictureError, match="cannot be read: Image size"):
        decode_any_image(write_bytes(tmp_path / "vast.png", vast))
    large = png_blocks.png(
        png_blocks.ihdr(10_000, 10_000), png_blocks.chunk(b"IDAT", b"\x78\x01"), png_blocks.IEND
    )
    with pytest.raises(PictureError, match="cannot be read: Image size"):
        decode_any_image(write_bytes(tmp_path / "large.png", large))
