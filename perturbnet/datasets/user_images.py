"""Pictures of the user's own, in the formats that people have: read as RGB, upright, within the caps.

The network sends none of these: what arrives from it is a PNG, walked by `images`.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from perturbnet.errors import PerturbError
from perturbnet.wire.images import SIZE_RULE, Pixels, size_is_allowed

MAX_PICTURE_BYTES = 64 << 20
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_PILLOW_FAULTS = (ValueError, SyntaxError, EOFError, struct.error, *_BOMBS)


class PictureError(PerturbError):
    """A picture file of the user's own that cannot be read."""

    exit_code = 2


def decode_any_image(path: Path) -> Pixels:
    """Read a picture of the user's own, upright as its EXIF orientation says, as RGB.

    The first frame counts; what is transparent shows white; 16-bit grey is scaled to 8 bits.

    Raises:
        PictureError: no such file, another format than `PICTURE_FORMATS`, damaged, or above the caps.

    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_PICTURE_BYTES:
            raise PictureError(f"{path}: {size_bytes} bytes; at most {MAX_PICTURE_BYTES} are allowed")
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _read_picture(path)
    except UnidentifiedImageError:
        raise PictureError(f"{path}: not a picture; expected {', '.join(PICTURE_FORMATS)}") from None
    except OSError as error:
        raise PictureError(f"{path}: {error.strerror or error}") from error
    except _PILLOW_FAULTS as error:
        raise PictureError(f"{path}: cannot be read: {error}") from error


def _read_picture(path: Path) -> Pixels:
    with Image.open(path, formats=PICTURE_FORMATS) as picture:
        width, height = picture.size
        if not size_is_allowed(height, width):
            raise PictureError(f"{path}: {width}x{height} pixels; {SIZE_RULE}")
        return _to_rgb(ImageOps.exif_transpose(picture))


def _to_rgb(picture: Image.Image) -> Pixels:
    if picture.mode.startswith("I;16"):
        levels = np.asarray(picture).astype(np.uint32)
        grey = ((levels * 255 + 32767) // 65535).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    if picture.mode in ("I", "F"):
        raise ValueError(f"32-bit samples (mode {picture.mode}) have no agreed white")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(picture.convert("RGB"), dtype=np.uint8)
