"""Run as a process of its own: digests of logits under every setting that can be changed inside a process.

    python tests/integration/bit_digests.py reference|large FOLDER

Prints one JSON line: for each configuration the digests of all float32 logits, of all canonical logits, and
of the canonical logits from compiled loops. `large` is EfficientNetV2-L at 480 from FOLDER (`large.model`,
`large.pt`), where every canonical logit comes from compiled loops, with fewer configurations.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from perturbnet.classifier import open_engine
from perturbnet.classifier.canonical.artefact import read_artefact
from perturbnet.classifier.canonical.engine import CanonicalEngine
from perturbnet.classifier.canonical.profiles import find_artefact
from perturbnet.classifier.engine import prepare
from perturbnet.classifier.preprocessing import PRODUCTION, REFERENCE, Preprocessing
from perturbnet.wire.images import Pixels

IMAGES = 4
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def draw_images(height: int, width: int) -> list[Pixels]:
    """Smooth pictures with noise, always the same."""
    generator = np.random.default_rng(5)
    coarse = generator.integers(0, 256, (IMAGES, height // 10 + 1, width // 10 + 1, 3))
    smooth = coarse.repeat(10, axis=1).repeat(10, axis=2)[:, :height, :width]
    noisy = np.clip(smooth + generator.integers(-20, 21, smooth.shape), 0, 255)
    return list(noisy.astype(np.uint8))


def float_logits(
    network: torch.nn.Module,
    images: list[Pixels],
    numbers: Preprocessing,
    batch: int,
    layout: torch.memory_format,
) -> bytes:
    """All logits of the float32 network, as bytes."""
    network = network.to(memory_format=layout)
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            levels = torch.tensor(np.stack(images[start : start + batch])).float()
            found.append(network(prepare(levels, numbers).contiguous(memory_format=layout)).numpy().tobytes())
    return b"".join(found)


def canonical_logits(engine: CanonicalEngine, images: list[Pixels], batch: int) -> bytes:
    """All digests of a canonical engine, asked in batches."""
    parts = [images[start : start + batch] for start in range(0, len(images), batch)]
    return "".join(found.logits_digest for part in parts for found in engine.classify(part)).encode()


def open_all(
    kind: str, folder: Path
) -> tuple[torch.nn.Module, list[CanonicalEngine], Preprocessing, list[Pixels]]:
    """The float32 network, canonical engines, the preprocessing and the images."""
    if kind == "reference":
        plain = open_engine("reference", cache_dir=folder, device="cpu", kind="float32")
        artefact, pin = find_artefact("reference", folder)
        engines = [CanonicalEngine(artefact, pin.sha256, compiled=compiled) for compiled in (False, True)]
        return plain.network, engines, REFERENCE, draw_images(120, 150)
    import timm

    network = timm.create_model("tf_efficientnetv2_l", pretrained=False)
    network.load_state_dict(torch.load(folder / "large.pt"))
    artefact, digest = read_artefact(folder / "large.model")
    return network.eval(), [CanonicalEngine(artefact, digest)], PRODUCTION, draw_images(375, 500)[:2]


def configurations(kind: str) -> Iterator[tuple[int, int, bool, str]]:
    """Threads, batch, oneDNN, layout."""
    if kind == "reference":
        yield from itertools.product((1, 2), (1, 4), (True, False), LAYOUTS)
    else:
        yield from ((1, 1, True, "channels_last"), (2, 2, True, "contiguous"))


def main() -> None:
    """Print the digests."""
    network, engines, numbers, images = open_all(sys.argv[1], Path(sys.argv[2]))
    rows = {}
    for threads, batch, onednn, layout in configurations(sys.argv[1]):
        torch.set_num_threads(threads)
        with torch.backends.mkldnn.flags(enabled=onednn):
            plain = float_logits(network, images, numbers, batch, LAYOUTS[layout])
            exact = [canonical_logits(engine, images, batch) for engine in engines]
        name = f"threads {threads}, batch {batch}, oneDNN {'on' if onednn else 'off'}, {layout}"
        rows[name] = [hashlib.sha256(found).hexdigest() for found in (plain, *exact)]
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
