"""A small folder of pictures, good and hostile, and networks of timm's with seeded weights."""

from __future__ import annotations

import json
import os
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from perturbnet.wire.images import SIGNATURE
from tests.support.fakes import texture


def write_picture(path: Path, seed: str, *, height: int = 48, width: int = 64) -> Path:
    """A texture as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(texture(seed, height, width)).save(path, "PNG")
    return path


def write_folder(folder: Path, *, count: int = 3, classes: tuple[str, ...] = ("heron", "otter")) -> Path:
    """`count` pictures for each class."""
    for label in classes:
        for number in range(count):
            write_picture(folder / label / f"{number}.png", f"{label} {number}")
    return folder


def write_hostile(folder: Path) -> dict[str, str]:
    """One file for each fault; the path of each, and a word of the reason it must be refused for."""
    good = write_picture(folder / "heron" / "good.png", "good").read_bytes()
    (folder / "heron" / "same.png").write_bytes(good)
    (folder / "heron" / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "heron" / "text.jpg").write_text("not a picture")
    (folder / "heron" / "empty.png").write_bytes(b"")
    (folder / "heron" / "bomb.png").write_bytes(_bomb(30_000))
    (folder / "heron" / "large.png").write_bytes(_bomb(9_000))
    (folder / "heron" / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    write_picture(folder / "heron" / "tiny.png", "tiny", height=20)
    with (folder / "heron" / "huge.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    (folder / "heron" / "link.png").symlink_to(folder / "heron" / "good.png")
    (folder / "heron" / "broken\nname.png").write_bytes(good)
    os.mkfifo(folder / "heron" / "pipe.png")
    return {
        "heron/same.png": "the same pixels as heron/good.png",
        "heron/cut.png": "OSError",
        "heron/text.jpg": "not a picture",
        "heron/empty.png": "not a picture",
        "heron/bomb.png": "DecompressionBombError",
        "heron/large.png": "more than 67108864 pixels",
        "heron/script.png": "not a picture",
        "heron/tiny.png": "too small",
        "heron/huge.png": "more than",
        "heron/link.png": "cannot be read",
        ascii("heron/broken\nname.png"): "a name that cannot be recorded",
    }


def _bomb(side: int) -> bytes:
    """A PNG whose header claims a square of this side."""
    header = struct.pack(">II", side, side) + bytes((8, 2, 0, 0, 0))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return SIGNATURE + b"".join(parts)


@cache
def _seeded(name: str, classes: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    network = timm.create_model(name, pretrained=False, num_classes=classes).eval()
    return {key: value.contiguous() for key, value in network.state_dict().items()}


def write_weights(path: Path, name: str, *, classes: int = 4, config: dict[str, Any] | None = None) -> Path:
    """Seeded weights of one of timm's networks; `config` goes into config.json beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(_seeded(name, classes), path, metadata={"architecture": name})
    if config is not None:
        path.with_name("config.json").write_text(json.dumps(config))
    return path


def smooth(height: int = 70, width: int = 90) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture whose resize differs little between implementations."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [127 + 90 * np.sin(x / 11), 127 + 90 * np.cos(y / 13), 127 + 60 * np.sin((x + y) / 17)]
    return np.stack(planes, axis=2).round().astype(np.uint8)
