"""Render the reference data set and write its pins; run when the rendering changes, then train again.

The pins (`perturbnet/data/reference.json`) are rows, SHA-256 over the rows' pixel digests, and SHA-256 over
the labels. The network's pin in the same file is left as it is; `train.py` writes that one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from perturbnet.datasets.reference import fold_digests, render_rows
from perturbnet.datasets.rendering import ROWS
from perturbnet.runtime.artifacts import write_durably
from perturbnet.wire.images import pixel_digest

PINS = Path(__file__).parents[2] / "perturbnet" / "data" / "reference.json"


def write_pins(**sections: Any) -> None:
    """Replace sections of the pins file."""
    pins = json.loads(PINS.read_text()) if PINS.exists() else {}
    write_durably(PINS, (json.dumps(pins | sections, indent=2, sort_keys=True) + "\n").encode())


def main() -> None:
    """Render both splits and pin them."""
    splits = {}
    for split, rows in ROWS.items():
        digests, labels = [], bytearray()
        for pixels, label in render_rows(split, rows):
            digests.append(pixel_digest(pixels))
            labels.append(label)
        splits[split] = {
            "rows": rows,
            "pixels": fold_digests(digests),
            "labels": hashlib.sha256(labels).hexdigest(),
        }
    write_pins(splits=splits)


if __name__ == "__main__":
    main()
