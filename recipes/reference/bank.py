"""Make the bank of photographs from scikit-image's bundled ones (run once; its output is committed).

Every picture is public domain or CC0 (`perturbnet/data/photographs/LICENSES`). The shorter side becomes 300
pixels and the longer is cropped to at most 400. The PNG files are what counts: they are pinned by pixel
digest, so this script need not reproduce them bit for bit under another Pillow.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

BANK = Path(__file__).parents[2] / "perturbnet" / "data" / "photographs"
NAMES = (
    "astronaut",
    "brick",
    "camera",
    "chelsea",
    "clock",
    "coffee",
    "grass",
    "gravel",
    "hubble_deep_field",
    "rocket",
)
SHORT, LONG = 300, 400


def shrink(picture: Image.Image) -> Image.Image:
    """Scale the shorter side to SHORT and cut the middle of the longer to LONG pixels."""
    scale = SHORT / min(picture.size)
    width, height = (round(side * scale) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    left, top = max(0, (width - LONG) // 2), max(0, (height - LONG) // 2)
    return small.crop((left, top, min(width, left + LONG), min(height, top + LONG)))


def main() -> None:
    """Write one PNG per photograph, grey ones with one channel."""
    BANK.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shrink(Image.fromarray(getattr(data, name)())).save(BANK / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
