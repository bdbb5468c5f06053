"""Before an engine attests: three golden images must give the logits that are pinned, to the last bit.

The images are drawn by integer arithmetic and SHAKE-256, so no file can be damaged: a smooth one, stripes one
pixel wide, and noise; wider, higher and smaller than the network's input, so that all of the resize is used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from perturbnet.errors import ModelError
from perturbnet.rules.classification import Engine
from perturbnet.wire.images import Pixels


def golden_images() -> tuple[Pixels, Pixels, Pixels]:
    """Return the three images, uint8: 120×150, 211×131 and 61×47 (height × width)."""
    return _slopes(120, 150), _stripes(211, 131), _noise(61, 47)


def digest_golden(engine: Engine) -> list[str]:
    """Return the hex SHA-256 of the logits of each golden image."""
    return [answer.logits_digest for answer in engine.classify(golden_images())]


def require_golden(engine: Engine, expected: Sequence[str]) -> None:
    """Pass if the engine gives the pinned logits on this machine.

    Raises:
        ModelError: it does not, so it must not attest.

    """
    found = digest_golden(engine)
    wrong = [number for number, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]]
    if wrong:
        at = wrong[0]
        raise ModelError(
            f"the {engine.name} engine refuses to attest: golden image {at} of {engine.model_name} "
            f"gives logits {found[at][:16]}; expected {expected[at][:16]}",
            hint="This machine or its libraries compute wrongly; try PERTURB_DEVICE=cpu.",
        )


def _slopes(height: int, width: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    channels = [255 * y // (height - 1), 255 * x // (width - 1), 255 * (y + x) // (height + width - 2)]
    return np.stack(channels, axis=2).astype(np.uint8)


def _stripes(height: int, width: int) -> Pixels:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * (x & 1), 255 * (y & 1), 255 * (x + y & 1)], axis=2).astype(np.uint8)


def _noise(height: int, width: int) -> Pixels:
    data = hashlib.shake_256(b"perturb/golden/1").digest(height * width * 3)
    return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3).copy()
